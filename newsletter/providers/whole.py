"""What a form says in an API's JSON, encoded once: constant bytes, and places for the values.

It knows no provider: who calls it brings the document that one recipient is in its API.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import orjson

from newsletter.providers.base import Form, Message, Personal
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
        self._parts = parts
        self._format: bytes | None = None
        if sum(map(len, parts)) < _SMALL:
            self._format = b"%s".join(part.replace(b"%", b"%%") for part in parts[::2])
        layout = orjson.dumps([self._places, [len(part) for part in parts[::2]]])
        self._digest = hashlib.sha256(layout + b"".join(parts[::2])).digest()

    def array(
        self, everybody: Sequence[Sequence[str]], *, before: bytes = b"", after: bytes = b""
    ) -> tuple[Pieces, str]:
        """A JSON array of the document with each one's strings in its places, and its digest.

        The bytes are those of `orjson.dumps` of the whole; the digest is of the constant parts and
        the strings, so that it is another one whenever they are.
        """
        count = self._count
        encoded = _encoded([value for values in everybody for value in values])
        if len(encoded) != count * len(everybody):
            raise ValueError("recipients of one form have equally many values and metadata")
        pieces = [before, b"["]
        for start in range(0, len(encoded), count):
            filled = [encoded[start + place] for place in self._places]
            if self._format is not None:
                pieces += (self._format % tuple(filled), b",")
            else:
                parts = self._parts.copy()
                parts[1::2] = filled
                pieces += parts
                pieces.append(b",")
        pieces[-1] = b"]"
        pieces.append(after)
        # A line break is in none of them: it is escaped.
        told = [self._digest, b"%d" % count, before, after, *encoded]
        return Pieces(pieces), hashlib.sha256(b"\n".join(told)).hexdigest()


def _encoded(values: list[str]) -> list[bytes]:
    """Each string as JSON writes it, without its quotes."""
    text = orjson.dumps(values)
    if b'\\"' in text:
        return [orjson.dumps(value)[1:-1] for value in values]
    return text[2:-2].split(b'","')  # all quotes are those around the strings


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


def strings_of(person: Personal) -> tuple[str, ...]:
    """A recipient's strings, in the order of their places."""
    return (*person.values, *person.to, *person.metadata.values())


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
