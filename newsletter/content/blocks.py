"""A plain text as blocks: headings, paragraphs, list items, rules, by-lines, calls to action.

It says what each line looks like with its neighbours; which headings start an article is decided
in `boundaries`.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import Literal

from newsletter.content import cues
from newsletter.content.body import HEADING, LIST_ITEM
from newsletter.content.bylines import parse_meta

BlockKind = Literal["heading", "paragraph", "item", "rule", "meta", "call"]

_RULE = re.compile(r"([-*_=~#+•—–])(?:\s?\1){2,}")
_BOLD = re.compile(r"(\*\*|__)([^*_].*[^*_])\1:?")
_SENTENCE_INSIDE = re.compile(r"[a-zà-ÿ)\"”][.!?] +[A-ZÀ-Þ]")
_ATTRIBUTION = re.compile(r"[—–-]{1,2}\s?\w")
_LONGEST_HEADING = 120
_MOST_WORDS = 16


@dataclass(frozen=True, slots=True)
class Block:
    """Lines `first` to `last` (physical, from 1); `level` is Markdown's (0: none was marked).

    `gap` counts the blank lines before it; `marker` is a list item's.
    """

    kind: BlockKind
    text: str
    first: int
    last: int
    gap: int = 0
    level: int = 0
    marker: str = ""


def split_lines(text: str) -> list[str]:
    """Physical lines, whatever ends them: `\\n`, `\\r\\n` or `\\r`; the last may be empty."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_blocks(lines: list[str], offset: int = 0, *, marked: bool = False) -> list[Block]:
    """The blocks of the lines; `offset` is the number of lines before them in the file.

    Where headings are marked (`marked`, or Markdown that has several) nothing else is one.
    """
    blocks = _raw_blocks(lines, offset)
    blocks = _mark_calls(blocks)
    if marked or sum(block.level > 0 for block in blocks) > 1:
        return [_with_meta(blocks, index) for index in range(len(blocks))]
    return _mark_headings(blocks)


def _raw_blocks(lines: list[str], offset: int) -> list[Block]:
    width = _wrap_width(lines)
    blocks: list[Block] = []
    gap = 0
    above = ""
    for number, line in enumerate(lines, start=offset + 1):
        text = " ".join(line.replace("\ufeff", "").split())
        if not text:
            gap += 1
            continue
        last = blocks[-1] if blocks else None
        if last is not None and gap == 0 and _is_underline(text, last):
            blocks[-1] = replace(
                last, kind="heading", level=1 if text[0] == "=" else 2, last=number
            )
        elif last is not None and gap == 0 and _continues(text, line, above, last, width):
            blocks[-1] = replace(last, text=f"{last.text} {text}", last=number)
        else:
            blocks.append(_block(line, text, number, gap))
        gap = 0
        above = text
    return blocks


def _block(line: str, text: str, number: int, gap: int) -> Block:
    if _RULE.fullmatch(text):
        return Block("rule", text, number, number, gap)
    if title := HEADING.fullmatch(text):
        plain = re.sub(r"\s+#+$", "", title[2]).strip("* ")
        return Block("heading", plain, number, number, gap, level=len(title[1]))
    item = LIST_ITEM.match(line)
    if item and not (item[0].strip()[0].isdigit() and parse_meta(text)):  # "3. April 2024"
        words = " ".join(line[item.end() :].split())
        return Block("item", words, number, number, gap, marker=item[0].strip())
    return Block("paragraph", text, number, number, gap)


def _is_underline(text: str, last: Block) -> bool:
    """Markdown's other heading: a short line with === or --- under it."""
    return (
        last.kind == "paragraph"
        and last.first == last.last
        and len(text) >= 3
        and (set(text) == {"="} or set(text) == {"-"})
        and has_heading_shape(last.text)
    )


def _wrap_width(lines: list[str]) -> int:
    """The width at which the text's lines were broken by hand or machine; 0 if they were not."""
    pairs = broken = 0
    lengths = []
    for line, after in itertools.pairwise(lines):
        here, following = line.strip(), after.strip()
        if not here or not following or LIST_ITEM.match(after) or following[0] in "#-*=":
            continue
        pairs += 1
        if here[-1] not in '.!?:;"”»)' and following[0].islower():
            broken += 1
            lengths.append(len(here))
    if broken < 2 or broken < pairs * 0.2:
        return 0
    lengths.sort()
    return lengths[len(lengths) * 9 // 10]


def _continues(text: str, line: str, above: str, last: Block, width: int) -> bool:
    """Whether a line goes on with the block above it, in a text whose lines are wrapped."""
    if not width or last.kind not in {"paragraph", "item"}:
        return False
    if LIST_ITEM.match(line) or HEADING.fullmatch(text) or _RULE.fullmatch(text):
        return False
    if text[0].islower():
        return True
    # A line that had room for the next word was ended on purpose.
    return len(above) + 1 + len(text.split()[0]) > width


def has_heading_shape(text: str) -> bool:
    """Whether a line by itself could be a heading: short, begins high, ends without a stop."""
    words = text.split()
    if not text or len(text) > _LONGEST_HEADING or len(words) > _MOST_WORDS:
        return False
    if text[-1] in ".;,…" and not (text[-1] == "." and cues.is_generic(text[:-1])):
        return False
    if text[-1] == ":" and len(words) > 5:
        return False
    if text[-1] == "!" and len(words) > 9:
        return False
    first = text.lstrip("\"'“„«¿¡‚‘*_ ([")[:1]
    if not first or first.islower() or not first.isalnum():
        return False
    if "://" in text or "@" in text or _ATTRIBUTION.match(text):
        return False
    return _SENTENCE_INSIDE.search(text) is None or len(words) <= 8


def _mark_calls(blocks: list[Block]) -> list[Block]:
    """Calls to action: before a heading, a rule or the end, never as a file's first block."""
    marked = list(blocks)
    for index in range(len(blocks) - 1, 0, -1):
        block = blocks[index]
        after = marked[index + 1] if index + 1 < len(blocks) else None
        ends = after is None or after.kind in {"call", "rule", "heading"}
        ends = ends or (after is not None and has_heading_shape(after.text))
        if block.kind in {"paragraph", "heading"} and ends and cues.is_call(block.text):
            marked[index] = replace(block, kind="call")
    return _mark_last_call(marked)


def _mark_last_call(blocks: list[Block]) -> list[Block]:
    """A heading that calls, with at most two short paragraphs under it at the very end."""
    for back in (2, 3):
        if len(blocks) <= back:
            break
        heading, rest = blocks[-back], blocks[-back + 1 :]
        short = all(
            block.kind in {"paragraph", "call"} and len(block.text.split()) <= 45 for block in rest
        )
        calls = cues.is_call(heading.text) and has_heading_shape(heading.text)
        if short and calls and any(cues.is_about_subscribing(b.text) for b in (heading, *rest)):
            return blocks[:-back] + [replace(block, kind="call") for block in (heading, *rest)]
    return blocks


def _mark_headings(blocks: list[Block]) -> list[Block]:
    marked = [_with_meta(blocks, index) for index in range(len(blocks))]
    for run in _short_runs(marked):
        for index in _headings_of(marked, run):
            block = marked[index]
            bold = _BOLD.fullmatch(block.text)
            text = bold[2] if bold else block.text
            if block.kind == "item":
                text = f"{block.marker} {text}"
            marked[index] = replace(block, kind="heading", text=text, marker="")
    return marked


def _with_meta(blocks: list[Block], index: int) -> Block:
    """A by-line or date counts as such at the top of a text or beside what may be a heading."""
    block = blocks[index]
    if block.kind != "paragraph" or parse_meta(block.text) is None:
        return block
    before = blocks[index - 1] if index else None
    if (
        before is None
        or before.kind in {"rule", "heading", "meta", "call"}
        or has_heading_shape(before.text)
    ):
        return replace(block, kind="meta")
    after = blocks[index + 1] if index + 1 < len(blocks) else None
    if after is not None and after.gap < block.gap and has_heading_shape(after.text):
        return replace(block, kind="meta")
    return block


def _short_runs(blocks: list[Block]) -> list[list[int]]:
    """Runs of neighbours that look like headings and are not marked as such; meta is skipped."""
    runs: list[list[int]] = []
    run: list[int] = []
    for index, block in enumerate(blocks):
        if (block.kind == "paragraph" and has_heading_shape(block.text)) or (
            block.kind == "item" and _is_numbered_heading(blocks, index)
        ):
            run.append(index)
        elif block.kind != "meta" or not run:
            runs.append(run)
            run = []
    return [each for each in (*runs, run) if each]


def _is_numbered_heading(blocks: list[Block], index: int) -> bool:
    """ "1. Choose a pot" over a paragraph, with no other item beside it."""
    block = blocks[index]
    if not block.marker[0].isdigit() or not has_heading_shape(block.text):
        return False
    before = blocks[index - 1] if index else None
    after = blocks[index + 1] if index + 1 < len(blocks) else None
    return (
        (before is None or before.kind != "item")
        and after is not None
        and after.kind == "paragraph"
        and not has_heading_shape(after.text)
    )


def _headings_of(blocks: list[Block], run: list[int]) -> list[int]:
    """Which of a run of short lines are headings: they need text under them.

    Three and more in a row, or after a line that ends in a colon, are a list without marks; its
    last one is a heading if it is set apart.
    """
    following = run[-1] + 1
    while following < len(blocks) and blocks[following].kind == "meta":
        following += 1
    if following == len(blocks) or blocks[following].kind in {"rule", "call"}:
        return []
    before = blocks[run[0] - 1] if run[0] else None
    introduced = before is not None and before.text.endswith(":") and before.kind != "heading"
    few = len(run) < 3 or (
        len(run) == 3 and (run[0] == 0 or all(len(blocks[i].text.split()) > 2 for i in run))
    )
    if few and not introduced:
        return run
    last = blocks[run[-1]]
    apart = last.gap > blocks[run[-1] - 1].gap or len(last.text.split()) >= 3
    return [run[-1]] if len(run) > 1 and apart else []
