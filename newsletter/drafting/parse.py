"""From the text of an issue's file to an `Issue`; it knows neither the disk nor the database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from newsletter.drafting.blocks import BLOCKS
from newsletter.drafting.fences import parse_blocks
from newsletter.drafting.issue import Block, Issue
from newsletter.drafting.merge import parse_merge
from newsletter.errors import BadInput, Where
from newsletter.frontmatter import read_texts
from newsletter.suggest import shorten, suggest

#: Front matter keys, each with the value that stands for a missing one; `None`: required.
KEYS: dict[str, str | None] = {
    "subject": None,
    "preheader": "",
    "template": "default",
    "audience": "all",
    "language": "",
}
LONGEST = 300_000  # characters of a file: the HTML made from it may not exceed 102 KB
#: What the Markdown of one issue may have: parsing takes time by lines and by signs, some of it
#: by the square of their number, and the longest file made of nothing else would take a minute.
#: A table's short rows are filled up to its width, so that few signs can make very many cells.
MOST = {"lines": 5_000, "signs": 10_000, "cells": 10_000}

_SIGNS = re.compile(r"[\[\]!*_`~|<&{\\]")
_TABLE_RULE = re.compile(r"[ \t>|:-]*\|[ \t>|:-]*")
_LINE_END = re.compile(r"\r\n|\r|\n")
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_TEMPLATE = re.compile(r"[A-Za-z0-9][\w-]*")


def parse_issue(text: str, slug: str, path: Path, file: str) -> Issue:
    """Parse an issue's file. `path` is the file, `file` the same as messages name it.

    Raises `BadInput` with the line of the first thing that is wrong: front matter, blocks,
    attributes, merge fields. Whether sources and segments exist is not looked into here.
    """
    _check_text(text, file)
    front = read_texts(_LINE_END.sub("\n", text.removeprefix("\ufeff")), file, KEYS)
    values = {key: front.values.get(key, default) for key, default in KEYS.items()}
    if (subject := values["subject"]) is None:
        raise BadInput(
            "the key 'subject' is missing",
            where=Where(file, 1),
            hint='Add a line to the front matter: subject: "…".',
        )
    issue = Issue(
        slug=slug,
        path=path,
        file=file,
        source=text,
        subject=subject,
        preheader=values["preheader"] or "",
        template=values["template"] or "default",
        audience=values["audience"] or "all",
        language=values["language"] or "",
        blocks=parse_blocks(front.body.split("\n"), front.body_line, file),
        lines=front.lines,
    )
    _check_values(issue)
    _check_amount(issue)
    for source, where in merge_sources(issue):
        parse_merge(source, where=where)
    return issue


def write_issue(issue: Issue) -> bytes:
    """The bytes of the issue's file: those that were parsed, whatever line ends they have."""
    return issue.source.encode()


def merge_sources(issue: Issue) -> Iterator[tuple[str, Where]]:
    """Every text of the issue in which merge fields are filled in, with its place."""
    yield issue.subject, issue.where("subject")
    yield issue.preheader, issue.where("preheader")
    for block in walk(issue.blocks):
        yield block.body, Where(issue.file, block.body_line or block.line)
        for key, value in block.attributes.items():
            if BLOCKS[block.type].attributes[key].merge:
                yield value, Where(issue.file, block.line)


def walk(blocks: tuple[Block, ...]) -> Iterator[Block]:
    """Every block, those within others too, in the order of the file."""
    for block in blocks:
        yield block
        yield from walk(block.children)


def _check_text(text: str, file: str) -> None:
    if len(text) > LONGEST:
        raise BadInput(
            f"the issue is longer than {LONGEST:,} characters",
            where=Where(file),
            hint="Mail programs cut a message off after 102 KB; link to long texts instead.",
        )
    if unwritable := _UNWRITABLE.search(text):
        raise BadInput(
            f"the file holds a character that no message can: U+{ord(unwritable[0]):04X}",
            where=Where(file, len(_LINE_END.findall(text, 0, unwritable.start())) + 1),
            hint="Remove it, and save the file as UTF-8.",
        )


def _check_amount(issue: Issue) -> None:
    """Refuse more Markdown than can be shown in a message, at the line where it is too much."""
    found = {"lines": 0, "signs": 0, "cells": 0}
    for block in walk(issue.blocks):
        columns = 0
        for number, line in enumerate(block.body.split("\n"), start=block.body_line or block.line):
            if _TABLE_RULE.fullmatch(line):
                columns = max(columns, line.count("|") + 1)
            columns = columns if line.strip() else 0
            found["lines"] += bool(line.strip())
            found["signs"] += sum(1 for _ in _SIGNS.finditer(line))
            found["cells"] += columns
            for what, count in found.items():
                if count > MOST[what]:
                    raise BadInput(
                        f"the texts of the issue have more than {MOST[what]:,} {what} of Markdown",
                        where=Where(issue.file, number),
                        hint="No mail program shows that much; link to long texts instead.",
                    )


def _check_values(issue: Issue) -> None:
    if issue.language and not _LANGUAGE.fullmatch(issue.language):
        raise BadInput(
            f"not a language: {shorten(issue.language, 40)!r}",
            where=issue.where("language"),
            hint="Write its code: en, de, fr, ar or pt-BR, say.",
        )
    if not _TEMPLATE.fullmatch(issue.template):
        raise BadInput(
            f"not a template's name: {shorten(issue.template, 40)!r}",
            where=issue.where("template"),
            hint="Write the name without folder and ending: default.",
        )
    for block in walk(issue.blocks):
        for key, value in block.attributes.items():
            rule = BLOCKS[block.type].attributes[key]
            if not rule.merge and "{{" in value:
                raise BadInput(
                    f"{block.type}: no merge field is filled in {key!r}",
                    where=Where(issue.file, block.line),
                    hint=suggest(
                        key, [k for k, a in BLOCKS[block.type].attributes.items() if a.merge]
                    ),
                )
