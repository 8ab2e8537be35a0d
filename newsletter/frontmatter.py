"""Front matter: YAML between two `---` lines, read strictly, each fault with its place.

Content files want typed values, issues the text that was written; both are read here, and nothing
is built before it is known to hold no alias, anchor, tag or deep nesting. It does not know which
keys a file may have: its callers say so.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from newsletter.errors import BadInput, Where
from newsletter.suggest import shorten, suggest

MAX_BYTES = 64 * 1024
MAX_DEPTH = 8  # of the mapping itself and the lists and tables in it

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class FrontMatter(Generic[Value]):
    """`values` by key, the line of each key in the file, and the text that follows.

    `body_line` is the physical line (from 1) where `body` starts.
    """

    values: dict[str, Value]
    lines: dict[str, int]
    body: str
    body_line: int


def read_typed(
    text: str, file: str, known: Collection[str] | None = None
) -> FrontMatter[Any] | None:
    """Read front matter with YAML's types; None where `text` has none, or none that is closed.

    The lines of `text` end in `\\n`. `known` are the keys it may have; None: any. Raises
    `BadInput` naming file and line: YAML that does not parse, no mapping, a key unknown or given
    twice, more than 64 KB, nesting deeper than 8, an alias, anchor, tag or merge.
    """
    lines = text.split("\n")
    end = _closing_line(lines)
    if end is None:
        return None
    source = _source(lines, end, file)
    found = _plain(source)
    if found is None:
        entries = _entries(source, file, MAX_DEPTH)
        values = dict(zip((entry.key for entry in entries), _load(source, file), strict=True))
        found = values, {entry.key: entry.line for entry in entries}
    _refuse_unknown(found[1], file, known)
    return FrontMatter(*found, body="\n".join(lines[end + 1 :]), body_line=end + 2)


def read_texts(text: str, file: str, known: Collection[str]) -> FrontMatter[str]:
    """Read front matter whose values are single lines of text, as they were written.

    Raises `BadInput` as `read_typed`, and for front matter that is missing or not closed, for a
    list or a table, and for a value with a line break or a control character.
    """
    lines = text.split("\n")
    end = _closing_line(lines)
    if end is None:
        raise _missing(lines, file)
    entries = _entries(_source(lines, end, file), file, 1)
    places = {entry.key: entry.line for entry in entries}
    _refuse_unknown(places, file, known)
    values = {entry.key: _one_line(entry, file) for entry in entries}
    return FrontMatter(values, places, "\n".join(lines[end + 1 :]), end + 2)


def unknown_key(key: str, known: Collection[str], where: Where) -> BadInput:
    """The error for a key that a file may not have."""
    return BadInput(f"unknown key {shorten(key, 40)!r}", where=where, hint=suggest(key, known))


def compose(values: Mapping[str, Any]) -> str:
    """Front matter with its fences, keys in the order given, empty values left out."""
    document = CommentedMap({key: value for key, value in values.items() if value or value == 0})
    yaml = YAML(typ="rt")
    yaml.width = 10_000  # a title stays on its line
    yaml.allow_unicode = True
    stream = io.StringIO()
    yaml.dump(document, stream)
    return f"---\n{stream.getvalue()}---\n"


def _closing_line(lines: list[str]) -> int | None:
    """The index of the line that ends the front matter which the first line begins."""
    if lines[0].rstrip() != "---":
        return None
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() in {"---", "..."}:
            return number
    return None


def _missing(lines: list[str], file: str) -> BadInput:
    if lines[0].rstrip() != "---":
        return BadInput(
            "the file does not start with front matter",
            where=Where(file, 1),
            hint='Begin it with a line ---, then subject: "…", then another line ---.',
        )
    return BadInput(
        "the front matter is not closed",
        where=Where(file, 1),
        hint="End it with a line that holds --- and nothing else.",
    )


def _source(lines: list[str], end: int, file: str) -> str:
    source = "\n".join(lines[1:end])
    if len(source.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise BadInput(
            f"the front matter is longer than {MAX_BYTES // 1024} KB",
            where=Where(file, 1),
            hint="It ends at the next line with --- alone: is that one missing?",
        )
    return source


def _refuse_unknown(lines: Mapping[str, int], file: str, known: Collection[str] | None) -> None:
    for key, line in lines.items():
        if known is not None and key not in known:
            raise unknown_key(key, known, Where(file, line))


# --- the short way ----------------------------------------------------------------------------

_LINE = re.compile(r"([a-z][a-z0-9_]*): (.+)")
_PLAIN = re.compile(r"[^\W\d_][\w ,./()+’-]*(?<! )")  # a text to YAML, whatever stands in it
_WHOLE = re.compile(r"0|[1-9]\d{0,8}")
_ADDRESS = re.compile(r"[A-Za-z/][\w./-]*(?:#L\d+-L\d+)?(?<=\w)")
_HASH = re.compile(r"[0-9a-f]{64}")
_NO_TEXT = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def _plain(source: str) -> tuple[dict[str, Any], dict[str, int]] | None:
    """The simplest front matter, `key: word` lines as we write them, without the YAML library.

    That takes three milliseconds a file, which counts with 50,000 of them. None for anything in
    which YAML could see more than a text, a number or a hash.
    """
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(source.split("\n"), start=2):
        match = _LINE.fullmatch(line)
        if match is None or match[1] in values:
            return None
        key, value = match[1], match[2]
        if _WHOLE.fullmatch(value):
            values[key] = int(value)
        elif (
            (key == "sha256" and _HASH.fullmatch(value))
            or (_PLAIN.fullmatch(value) and value.lower() not in _NO_TEXT)
            or (key == "source" and _ADDRESS.fullmatch(value))
        ):
            values[key] = value
        else:
            return None
        lines[key] = number
    return values, lines


# --- by YAML's events -------------------------------------------------------------------------


class _Entry(NamedTuple):
    """A key, its line in the file, and its value where that is a scalar."""

    key: str
    line: int
    text: str | None


def _entries(source: str, file: str, deepest: int) -> list[_Entry]:
    """The keys of the one mapping in `source`; what must not be in it is refused on the way."""
    nodes: list[NodeEvent] = []  # key, value, key, value …
    depth = documents = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(source):
            documents += isinstance(event, DocumentStartEvent)
            _refuse(event, file, depth, deepest, documents)
            if depth == 1 and isinstance(event, NodeEvent):
                nodes.append(event)
            depth += isinstance(event, CollectionStartEvent)
            depth -= isinstance(event, CollectionEndEvent)
    except MarkedYAMLError as error:
        raise _not_yaml(error, file) from error
    except (YAMLError, ValueError, OverflowError) as error:
        raise BadInput(
            f"the front matter is not YAML: {shorten(str(error), 120)}", where=Where(file, 1)
        ) from error
    entries: dict[str, _Entry] = {}
    for key, value in zip(nodes[::2], nodes[1::2], strict=True):
        entry = _entry(key, value, file)
        if first := entries.get(entry.key):
            raise BadInput(
                f"{shorten(entry.key, 40)} is given twice, first in line {first.line}",
                where=Where(file, entry.line),
            )
        entries[entry.key] = entry
    return list(entries.values())


def _entry(key: NodeEvent, value: NodeEvent, file: str) -> _Entry:
    line = _line(key)
    if not isinstance(key, ScalarEvent) or key.value == "<<":
        raise BadInput(
            "a key of the front matter is not a word", where=Where(file, line), hint=_SHAPE
        )
    return _Entry(key.value, line, value.value if isinstance(value, ScalarEvent) else None)


def _load(source: str, file: str) -> list[Any]:
    """The values of a mapping that `_entries` has looked through, in its order."""
    try:
        loaded = YAML(typ="safe", pure=True).load(source)
    except MarkedYAMLError as error:  # a key twice within a table
        raise _not_yaml(error, file) from error
    except (YAMLError, ValueError, OverflowError) as error:  # a date such as 2026-02-30
        raise BadInput(
            f"the front matter is not YAML: {shorten(str(error), 120)}", where=Where(file, 1)
        ) from error
    return list(loaded.values()) if loaded else []


_SHAPE = 'Each of its lines is a key, a colon, a space and a value: title: "…".'


def _line(event: Event) -> int:
    return event.start_mark.line + 2 if event.start_mark else 1


def _refuse(event: Event, file: str, depth: int, deepest: int, documents: int) -> None:
    """Raise for what front matter must not hold; `depth` is that of the place of `event`."""
    where = Where(file, _line(event))
    if isinstance(event, AliasEvent) or (
        isinstance(event, NodeEvent) and (event.anchor or getattr(event, "tag", None))
    ):
        raise BadInput(
            "the front matter may hold no YAML tag, anchor or alias",
            where=where,
            hint="Put a value that starts with !, & or * in quotes.",
        )
    if documents > 1:
        raise BadInput("the front matter is more than one YAML document", where=where, hint=_SHAPE)
    if depth == 0 and isinstance(event, NodeEvent) and not isinstance(event, MappingStartEvent):
        if isinstance(event, ScalarEvent):
            words = f"the front matter holds no key: {shorten(event.value, 40)!r}"
        else:
            words = "the front matter is keys with values, not a list"
        raise BadInput(words, where=where, hint=_SHAPE)
    if isinstance(event, CollectionStartEvent) and depth >= deepest:
        raise BadInput(
            "a value of the front matter is one line of text, not a list or a table"
            if deepest == 1
            else "the front matter is nested too deep",
            where=where,
            hint="Put a value that starts with [, { or - in quotes.",
        )


def _not_yaml(error: MarkedYAMLError, file: str) -> BadInput:
    mark = error.problem_mark or error.context_mark
    if error.context_mark and "end" in (error.problem or "") and "stream" in error.problem:
        mark = error.context_mark  # what is never closed is found where it opens
    line, column = (mark.line + 2, f", column {mark.column + 1}") if mark else (1, "")
    problem = shorten(error.problem or error.context or "it cannot be read", 120)
    return BadInput(
        f"the front matter is not YAML: {problem}{column}",
        where=Where(file, line),
        hint="Put a value with a colon, a # or quotes in it in quotes of its own.",
    )


def _one_line(entry: _Entry, file: str) -> str:
    """The value without the line break that a block scalar ends in."""
    where = Where(file, entry.line)
    value = (entry.text or "").strip()
    if any(character in value for character in "\n\r\x0b\x0c\x85\u2028\u2029"):
        raise BadInput(
            f"{entry.key} has a line break in it",
            where=where,
            hint="Write it on one line, in quotes.",
        )
    if any(not character.isprintable() and character.isascii() for character in value) or any(
        "\ud800" <= character <= "\udfff" or "\x7f" <= character <= "\x9f" for character in value
    ):
        raise BadInput(f"{entry.key} has a control character in it", where=where, hint="Remove it.")
    return value
