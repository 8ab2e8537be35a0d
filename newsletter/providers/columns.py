"""Recipients of one form as columns: a request then costs a few passes, not a call a recipient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import overload

import orjson

from newsletter.providers.base import Personal


class Columns(Sequence[Personal]):
    """Recipients as columns of one length; each is a `Personal` where it is asked for."""

    __slots__ = ("addresses", "metadata", "names", "values")

    def __init__(
        self,
        names: Sequence[str],
        addresses: Sequence[str],
        values: Sequence[Sequence[str]],
        metadata: Mapping[str, Sequence[str]],
    ) -> None:
        self.names = names
        self.addresses = addresses
        self.values = values  # a column a slot
        self.metadata = metadata  # a column a name

    def __len__(self) -> int:
        return len(self.addresses)

    @overload
    def __getitem__(self, place: int) -> Personal: ...

    @overload
    def __getitem__(self, place: slice) -> Columns: ...

    def __getitem__(self, place: int | slice) -> Personal | Columns:
        if isinstance(place, slice):
            return Columns(
                self.names[place],
                self.addresses[place],
                [column[place] for column in self.values],
                {name: column[place] for name, column in self.metadata.items()},
            )
        return Personal(
            (self.names[place], self.addresses[place]),
            tuple(column[place] for column in self.values),
            {name: column[place] for name, column in self.metadata.items()},
        )


def columns_of(recipients: Sequence[Personal]) -> Columns:
    """The recipients as columns. Raises `ValueError` where they are not all of one form."""
    if isinstance(recipients, Columns):
        return recipients
    to, values, metadata = zip(*recipients, strict=True)
    shapes = {(len(mine), *told) for mine, told in zip(values, metadata, strict=True)}
    if len(shapes) != 1:
        raise ValueError("recipients of one form have equally many values and metadata")
    names, addresses = zip(*to, strict=True)
    told = {name: [each[name] for each in metadata] for name in metadata[0]}
    return Columns(names, addresses, list(zip(*values, strict=True)), told)


def quoted(text: str) -> str:
    """The text as it stands between the quotes of a JSON text."""
    return orjson.dumps(text)[1:-1].decode()


def escaped(columns: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """The columns with each text as it stands between quotes; as most need no escaping, they are
    looked at together."""
    joined = "".join(chain.from_iterable(columns))
    if _is_plain(joined):
        return columns
    return [c if _is_plain("".join(c)) else list(map(quoted, c)) for c in columns]


def _is_plain(text: str) -> bool:
    """Whether nothing in it is escaped."""
    return len(orjson.dumps(text)) == len(text.encode()) + 2
