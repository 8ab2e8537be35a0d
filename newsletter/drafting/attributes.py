"""The `{key=value key="a value"}` after a block's name."""

from __future__ import annotations

import re

from newsletter.errors import BadInput, Where
from newsletter.suggest import shorten

_KEY = re.compile(r"\s*([A-Za-z][\w-]*)\s*=\s*")
_BARE = re.compile(r"""[^\s"'{}]+""")
_ESCAPES = re.compile(r"""\\(["'\\])""")
_LONGEST = 8_000
_HOW = 'Write {key=value}, and a value with spaces in quotes: {alt="A towel"}.'


def parse_attributes(text: str, where: Where) -> dict[str, str]:
    """Read the attributes of one block; `text` has its braces.

    In quotes, a backslash stands before a quote or a backslash, and a merge field may have quotes
    of its own. Raises `BadInput` for what cannot be read and for an attribute given twice.
    """
    if len(text) > _LONGEST:
        raise BadInput(f"attributes of more than {_LONGEST:,} characters", where=where, hint=_HOW)
    found: dict[str, str] = {}
    at, end = 1, len(text) - 1
    while text[at:end].strip():
        key = _KEY.match(text, at, end)
        if not key:
            raise BadInput(
                f"attributes that cannot be read: {shorten(text[at:], 40)}", where=where, hint=_HOW
            )
        if key[1] in found:
            raise BadInput(f"the attribute {key[1]!r} is given twice", where=where)
        found[key[1]], at = _value(text, key.end(), end, key[1], where)
        if at < end and not text[at].isspace():
            raise BadInput(
                f"no space after the value of {key[1]!r}: {shorten(text[at:], 40)}",
                where=where,
                hint=_HOW,
            )
    return found


def _value(text: str, at: int, end: int, key: str, where: Where) -> tuple[str, int]:
    """The value that starts at `at`, and where it ends."""
    if at < end and text[at] in "\"'":
        closing = _closing_quote(text, at, end)
        if closing is None:
            raise BadInput(
                f"the quotes of {key!r} are not closed", where=where, hint="Close them, before }."
            )
        return _ESCAPES.sub(r"\1", text[at + 1 : closing]), closing + 1
    bare = _BARE.match(text, at, end)
    if not bare:
        raise BadInput(f"the attribute {key!r} has no value", where=where, hint=_HOW)
    return bare[0], bare.end()


def _closing_quote(text: str, at: int, end: int) -> int | None:
    """Where the quote at `at` is closed; what stands between `{{` and `}}` does not close it."""
    quote = text[at]
    position = at + 1
    while position < end:
        if text[position] == "\\":
            position += 2
        elif text.startswith("{{", position) and (close := text.find("}}", position, end)) > 0:
            position = close + 2
        elif text[position] == quote:
            return position
        else:
            position += 1
    return None
