"""Divides a text into the articles it holds: each with its title, by-line, date and Markdown body.

No sentence is lost or doubled: every block goes to one article or to the calls to action. It knows
no file and no database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256

from newsletter.content.blocks import Block, read_blocks, split_lines
from newsletter.content.boundaries import Doubt, find_starts, sections_of
from newsletter.content.bylines import parse_meta
from newsletter.content.evidence import Section
from newsletter.content.sentences import count_words
from newsletter.content.tips import short_title
from newsletter.errors import BadInput

_BULLETS = "•‣–*+"
_SHORT_ARTICLE = 25  # words: what stands before the first title may be no article at all


@dataclass(frozen=True, slots=True)
class Part:
    """One article of a text: lines `first` to `last` (physical, from 1); `text` is those lines."""

    title: str
    body: str
    first: int
    last: int
    text: str
    author: str = ""
    published: date | None = None
    titled: bool = True  # False: the title was made from the text

    @property
    def sha256(self) -> str:
        return sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Noted:
    """A line of the text with what is to be said about it."""

    line: int
    text: str


@dataclass
class Division:
    """The articles of a text in order, the calls to action taken out, and what is uncertain."""

    parts: list[Part] = field(default_factory=list)
    calls: list[Noted] = field(default_factory=list)
    uncertain: list[Noted] = field(default_factory=list)


def divide(
    text: str, *, split_at: Sequence[int] = (), whole: bool = False, marked: bool = False
) -> Division:
    """Divide a text into articles.

    `split_at` gives the first line of every article but the first, in place of the guess; `whole`
    says that it is one article, `marked` that every heading is marked as Markdown does. Raises
    `BadInput` for a line that the text does not have.
    """
    lines = split_lines(text)
    division = Division()
    if whole or split_at:
        for first, last in _ranges(lines, split_at):
            blocks = read_blocks(lines[first - 1 : last], first - 1, marked=marked)
            _take_calls(blocks, division)
            if sections := sections_of(blocks):
                division.parts.append(_part(sections, lines))
        return division
    blocks = read_blocks(lines, marked=marked)
    _take_calls(blocks, division)
    sections = sections_of(blocks)
    if not sections:
        return division
    starts, doubts = find_starts(sections)
    for start, end in zip(starts, [*starts[1:], len(sections)], strict=True):
        division.parts.append(_part(sections[start:end], lines))
    division.uncertain += [_describe(doubt, sections[doubt.section]) for doubt in doubts]
    division.uncertain += _odd_parts(division.parts)
    division.uncertain.sort(key=lambda noted: noted.line)
    return division


def _ranges(lines: list[str], split_at: Sequence[int]) -> list[tuple[int, int]]:
    firsts = sorted(set(split_at))
    for line in firsts:
        if not 2 <= line <= len(lines) or not any(text.strip() for text in lines[line - 1 :]):
            raise BadInput(
                f"--split-at: there is no text at line {line} (the file has {len(lines)} lines)",
                hint="Give the first line of every article but the first, counted from 1.",
            )
    return list(zip([1, *firsts], [*(line - 1 for line in firsts), len(lines)], strict=True))


def _take_calls(blocks: list[Block], division: Division) -> None:
    division.calls += [Noted(b.first, b.text) for b in blocks if b.kind == "call"]


def _describe(doubt: Doubt, section: Section) -> Noted:
    name = f"“{section.title}”" if section.heading else "what follows a separator"
    if doubt.starts:
        reason = f"{name} was read as the start of an article; it may be a section of the one above"
    else:
        reason = f"{name} was read as a section; it may be the title of an article"
    return Noted(section.line, f"{reason} (--split-at gives the first lines)")


def _odd_parts(parts: list[Part]) -> list[Noted]:
    found = []
    for number, part in enumerate(parts):
        if len(parts) > 1 and number == 0 and not part.titled:
            if count_words(part.body) < _SHORT_ARTICLE:
                found.append(Noted(part.first, "the text before the first title is very short"))
        elif number and not part.titled:
            found.append(Noted(part.first, "this article has no title; one was made from its text"))
    return found


def _part(sections: list[Section], lines: list[str]) -> Part:
    head = sections[0]
    meta = _leading_meta(head.blocks)
    author, day = "", None
    for block in meta:
        name, found = _meta_of(block)
        author, day = author or name, day or found
    level = head.heading.level if head.heading else 0
    body = _markdown(sections, level, skip={id(block) for block in meta})
    blocks = [b for s in sections for b in ([s.heading] if s.heading else []) + s.blocks]
    first = min(block.first for block in blocks)
    last = max(block.last for block in blocks)
    return Part(
        title=head.title or short_title(_first_text(sections)),
        body=body,
        first=first,
        last=last,
        text="\n".join(lines[first - 1 : last]),
        author=author,
        published=day,
        titled=head.heading is not None,
    )


def _leading_meta(blocks: list[Block]) -> list[Block]:
    meta = []
    for block in blocks:
        if block.kind != "meta":
            break
        meta.append(block)
    return meta


def _meta_of(block: Block) -> tuple[str, date | None]:
    return parse_meta(block.text) or ("", None)


def _first_text(sections: list[Section]) -> str:
    for section in sections:
        for block in section.blocks:
            if block.kind in {"paragraph", "item"}:
                return block.text
    return ""


def _markdown(sections: list[Section], title_level: int, skip: set[int]) -> str:
    text = ""
    before: Block | None = None
    for number, section in enumerate(sections):
        blocks = [block for block in section.blocks if id(block) not in skip]
        if section.heading is not None and number:
            blocks.insert(0, section.heading)
        for block in blocks:
            lists = before is not None and before.kind == block.kind == "item"
            text += ("\n" if lists else "\n\n") + _line(block, title_level)
            before = block
    return text.strip("\n")


def _line(block: Block, title_level: int) -> str:
    if block.kind == "heading":
        depth = block.level - title_level + 1 if title_level else block.level
        return f"{'#' * min(max(depth, 2), 6)} {block.text}"
    if block.kind == "item":
        marker = "-" if block.marker in _BULLETS else block.marker
        return f"{marker} {block.text}"
    return block.text
