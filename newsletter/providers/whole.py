"""What a form says in an API's JSON, encoded once: constant bytes, and places for the values.

It knows no provider: who calls it brings the document that one recipient is in its API.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any, Generic, TypeVar

import orjson

from newsletter.providers.base import Form, Message, Personal
from newsletter.providers.columns import Columns, escaped
from newsletter.providers.pieces import Pieces

_T = TypeVar("_T")
_KEPT_FORMS = 16
_SMALL = 8_192  # bytes of a document that is copied as a whole


class Stencil:
    """A JSON document with places for strings, whose constant parts are encoded once.

    `document` makes it from the strings. It may put one anywhere and any number of times, alone or
    within other text, but always whole.
    """

    def __init__(self, document: Callable[[Sequence[str]], Any], places: int) -> None:
        bare = orjson.dumps(document([""] * places)).decode()
        # A character that nobody writes: JSON carries it as it is, and it overlaps with nothing.
        mark = next(mark for mark in map(chr, range(0x10FFFF, 0xF0000, -1)) if mark not in bare)
        marked = orjson.dumps(document([f"{mark}{place}{mark}" for place in range(places)]))
        parts: list[bytes] = re.split(f"{mark}([0-9]+){mark}".encode(), marked)
        self._count = places
        self._places = [int(place) for place in parts[1::2]]
        self._constant = parts[::2]
        self._is_small = sum(map(len, parts)) < _SMALL
        layout = orjson.dumps([self._places, [len(part) for part in self._constant]])
        self._digest = hashlib.sha256(layout + b"".join(self._constant)).digest()

    def array(
        self, columns: Sequence[Sequence[str]], *, before: bytes = b"", after: bytes = b""
    ) -> tuple[Pieces, str]:
        """A JSON array of the document for each row of the columns, and its digest.

        A column has everybody's strings of one place. The bytes are those of `orjson.dumps` of the
        whole; the digest is of the constant parts and the strings, so that it is another one
        whenever they are.
        """
        filled = escaped(columns)
        rows = "\n".join(map("\n".join, zip(*filled, strict=True))).encode()
        # A line break is in none of them: it is escaped.
        told = b"\n".join((self._digest, b"%d" % self._count, before, after, rows))
        pieces = self._text(filled) if self._is_small else self._pieces(filled)
        body = Pieces([before, b"[", *pieces, b"]", after])
        return body, hashlib.sha256(told).hexdigest()

    def _text(self, filled: Sequence[Sequence[str]]) -> list[bytes]:
        """The documents, with commas between them, as one."""
        people = len(filled[0])
        first, *others = [repeat(part.decode(), people) for part in self._constant]
        columns: list[Iterable[str]] = [first]
        for place, text in zip(self._places, others, strict=True):
            columns += (filled[place], text)
        return [",".join(map("".join, zip(*columns, strict=True))).encode()]

    def _pieces(self, filled: Sequence[Sequence[str]]) -> list[bytes]:
        """The documents, with commas between them, in pieces."""
        people = len(filled[0])
        encoded = ["\n".join(column).encode().split(b"\n") for column in filled]
        first, *others = [repeat(part, people) for part in self._constant]
        columns: list[Iterable[bytes]] = [first]
        for place, part in zip(self._places, others, strict=True):
            columns += (encoded[place], part)
        documents = zip(*columns, repeat(b",", people), strict=True)
        return list(chain.from_iterable(documents))[:-1]


def message_stencil(
    form: Form, metadata: Sequence[str], document: Callable[[Message, Sequence[str]], Any]
) -> Stencil:
    """The stencil of a form's messages: its places are those that `strings_of` fills.

    `metadata` are the names of what every recipient's has, in their order; `document` gets the
    whole message, and the form's values that are in it.
    """
    slots = len(form.contexts)

    def made(strings: Sequence[str]) -> Any:
        values, (name, address, *told) = tuple(strings[:slots]), strings[slots:]
        person = Personal((name, address), values, dict(zip(metadata, told, strict=True)))
        return document(form.message(person), values)

    return Stencil(made, slots + 2 + len(metadata))


def strings_of(people: Columns) -> list[Sequence[str]]:
    """The recipients' strings, a column for each of their places."""
    return [*people.values, people.names, people.addresses, *people.metadata.values()]


class PerForm(Generic[_T]):
    """What was made of a form and a key beside it, for the last few of them."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, Any], tuple[Form, _T]] = {}

    def get(self, form: Form, key: Any, make: Callable[[], _T]) -> _T:
        """What `make` made; a form is known again by being the same object."""
        known = self._made.get((id(form), key))
        if known is None:
            known = form, make()
            if len(self._made) >= _KEPT_FORMS:
                del self._made[next(iter(self._made))]
            self._made[id(form), key] = known
        return known[1]
