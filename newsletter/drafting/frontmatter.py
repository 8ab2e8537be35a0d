"""Front matter: the lines between the two `---` at the head of an issue, as text values with lines.

ruamel.yaml reads its events only, so nothing is constructed from a file: a value is the text that
was written, and aliases, tags and nesting are refused before they cost anything.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from newsletter.drafting.suggest import shorten, suggest
from newsletter.errors import BadInput, Where

LONGEST = 64 * 1024  # characters


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """Values and lines by key, and where the rest starts: `rest_line` is its first line, from 1."""

    values: dict[str, str]
    lines: dict[str, int]
    rest_line: int


def read_front_matter(lines: list[str], file: str, known: Collection[str]) -> FrontMatter:
    """Read the front matter of a file, given as its lines.

    Raises `BadInput` with line and column for what YAML cannot read, and with the line for a key
    that is unknown or given twice and for a value that is no single line of text.
    """
    end = _closing_line(lines, file)
    text = "\n".join(lines[1:end])
    if len(text) > LONGEST:
        raise BadInput(
            f"the front matter is longer than {LONGEST // 1024} KB",
            where=Where(file, 1),
            hint="It ends at the next line with --- alone: is that one missing?",
        )
    values: dict[str, str] = {}
    places: dict[str, int] = {}
    for key, value in _pairs(text, file):
        place = Where(file, key.start_mark.line + 2)
        if key.value not in known:
            raise BadInput(
                f"unknown key {shorten(key.value, 40)!r}",
                where=place,
                hint=suggest(key.value, known),
            )
        if key.value in values:
            raise BadInput(
                f"{key.value} is given twice, first in line {places[key.value]}", where=place
            )
        values[key.value] = _one_line(key.value, value.value, place)
        places[key.value] = key.start_mark.line + 2
    return FrontMatter(values, places, end + 2)


def _closing_line(lines: list[str], file: str) -> int:
    if not lines or lines[0].rstrip() != "---":
        raise BadInput(
            "an issue starts with front matter",
            where=Where(file, 1),
            hint='Begin the file with a line ---, then subject: "…", then another line ---.',
        )
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == "---":
            return number
    raise BadInput(
        "the front matter is not closed",
        where=Where(file, 1),
        hint="End it with a line that holds --- and nothing else.",
    )


def _pairs(text: str, file: str) -> list[tuple[ScalarEvent, ScalarEvent]]:
    """Keys and values of the one mapping in `text`, as ruamel's events."""
    scalars: list[ScalarEvent] = []
    documents = mappings = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            documents += isinstance(event, DocumentStartEvent)
            mappings += isinstance(event, MappingStartEvent)
            _refuse(event, file, nested=mappings > 1 or documents > 1)
            if isinstance(event, ScalarEvent):
                if not mappings:
                    raise _no_mapping(event, file)
                scalars.append(event)
    except MarkedYAMLError as error:
        raise _not_yaml(error, file) from error
    except (YAMLError, ValueError, OverflowError) as error:
        raise BadInput(
            f"the front matter is not YAML: {shorten(str(error), 120)}", where=Where(file, 1)
        ) from error
    return list(zip(scalars[::2], scalars[1::2], strict=True))


def _refuse(event: Event, file: str, *, nested: bool) -> None:
    line = event.start_mark.line + 2 if event.start_mark else 1
    anchored = isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None
    if anchored or getattr(event, "tag", None) is not None:
        raise BadInput(
            "the front matter may hold no YAML tag, anchor or alias",
            where=Where(file, line),
            hint="Put a value that starts with !, & or * in quotes.",
        )
    if nested or isinstance(event, SequenceStartEvent):
        raise BadInput(
            "a value of the front matter is one line of text, not a list or a table",
            where=Where(file, line),
            hint="Put a value that starts with [, { or - in quotes.",
        )


def _no_mapping(event: ScalarEvent, file: str) -> BadInput:
    return BadInput(
        f"the front matter holds no key: {shorten(event.value, 40)!r}",
        where=Where(file, event.start_mark.line + 2),
        hint='Each of its lines is a key, a colon, a space and a value: subject: "…".',
    )


def _not_yaml(error: MarkedYAMLError, file: str) -> BadInput:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 2, f", column {mark.column + 1}") if mark else (1, "")
    problem = shorten(error.problem or error.context or "it cannot be read", 120)
    return BadInput(
        f"the front matter is not YAML: {problem}{column}",
        where=Where(file, line),
        hint="Put a value with a colon, a # or quotes in it in quotes of its own.",
    )


def _one_line(key: str, value: str, where: Where) -> str:
    """The value without the line break that a block scalar ends in."""
    value = value.strip()
    if any(character in value for character in "\n\r\x0b\x0c\x85\u2028\u2029"):
        raise BadInput(
            f"{key} has a line break in it", where=where, hint="Write it on one line, in quotes."
        )
    if any(not character.isprintable() and character.isascii() for character in value) or any(
        "\ud800" <= character <= "\udfff" or "\x7f" <= character <= "\x9f" for character in value
    ):
        raise BadInput(f"{key} has a control character in it", where=where, hint="Remove it.")
    return value
