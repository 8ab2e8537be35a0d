"""The block rule: `::: name {attributes}` to a line of as many colons, outer fences having more.

It walks the lines once, without recursion. Every fence it does not understand is an error with its
line; none silently becomes text. What stands between ``` is text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from newsletter.drafting.attributes import parse_attributes
from newsletter.drafting.blocks import BLOCKS, DEEPEST, MOST_COLUMNS, BlockType
from newsletter.drafting.issue import Block
from newsletter.errors import BadInput, Where
from newsletter.suggest import shorten, suggest

_FENCE = re.compile(r" {0,3}(:{3,})(.*)")
_OPENING = re.compile(r"([A-Za-z][\w-]*)\s*(\{.*\})?")
# A code fence may stand in a quotation or a list, and ends with it at the latest.
_CODE = re.compile(r"((?:[ \t]|>|[-+*][ \t]|\d{1,9}[.)][ \t])*)(`{3,}|~{3,})(.*)")


@dataclass
class _Open:
    """A block whose closing fence is still to come; the file itself is the outermost."""

    type: str
    line: int
    colons: int
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Block] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    text_line: int = 0

    @property
    def rule(self) -> BlockType:
        return BLOCKS[self.type]


@dataclass
class _Code:
    """An open code fence, and whether a line in it looks like a block's."""

    marker: str
    line: int
    prefix: str
    swallowed: bool = False

    def reaches(self, line: str) -> bool:
        """Whether a later line is still within the quotation or list that the code stands in."""
        if ">" in self.prefix:
            return line.lstrip().startswith(">")
        if self.prefix.strip() and line.strip():
            return len(line) - len(line.lstrip()) >= len(self.prefix)
        return True


def parse_blocks(lines: list[str], first_line: int, file: str) -> tuple[Block, ...]:
    """The blocks of `lines`, the first of which is line `first_line` of `file`.

    Raises `BadInput` with the line of an unknown block or attribute, of one that is missing, of a
    fence that is never closed or closes nothing, and of a block where it may not stand.
    """
    return _Parser(file).parse(lines, first_line)


class _Parser:
    def __init__(self, file: str) -> None:
        self.file = file
        self.stack = [_Open("", 0, 0)]
        self.code: _Code | None = None

    def parse(self, lines: list[str], first_line: int) -> tuple[Block, ...]:
        for number, line in enumerate(lines, start=first_line):
            fence = _FENCE.fullmatch(line)
            if self._in_code(line, number, is_fence=fence is not None) or fence is None:
                self._text(line, number)
            elif fence[2].strip():
                self._open(len(fence[1]), fence[2].strip(), number)
            else:
                self._close(len(fence[1]), number)
        self._finish()
        return tuple(self.stack[0].children)

    def _where(self, line: int) -> Where:
        return Where(self.file, line)

    def _in_code(self, line: str, number: int, *, is_fence: bool) -> bool:
        """Whether the line is code or a fence of code; keeps track of which is open."""
        if self.code and not self.code.reaches(line):
            self.code = None
        if self.code is None:
            opening = _CODE.fullmatch(line)
            if opening and not (opening[2][0] == "`" and "`" in opening[3]):
                self.code = _Code(opening[2], number, opening[1])
            return self.code is not None
        self.code.swallowed |= is_fence
        bare = line.strip("> \t")
        if len(bare) >= len(self.code.marker) and not bare.strip(self.code.marker[0]):
            self.code = None
        return True

    def _text(self, line: str, number: int) -> None:
        block = self.stack[-1]
        if not block.text:
            block.text_line = number
        block.text.append(line)

    def _end_text(self) -> None:
        """Text between blocks becomes a block of its own; a leaf keeps its text as its body."""
        block = self.stack[-1]
        body, line = _trim(block.text, block.text_line)
        block.text = []
        if not body:
            return
        if block.type == "columns":
            raise BadInput(
                f"text between columns: {shorten(body, 40)}",
                where=self._where(line),
                hint="Put it into a column: :::: column … ::::",
            )
        block.children.append(Block("text", line, body=body, body_line=line))

    def _open(self, colons: int, rest: str, number: int) -> None:
        where = self._where(number)
        match = _OPENING.fullmatch(rest)
        if not match:
            raise BadInput(
                f"a block's first line that cannot be read: {shorten(rest, 40)}",
                where=where,
                hint='Write ::: name or ::: name {key="value"}, and nothing after it.',
            )
        name = match[1]
        if name not in BLOCKS:
            raise BadInput(f"unknown block {name!r}", where=where, hint=suggest(name, BLOCKS))
        self._check_place(name, colons, where)
        if not self.stack[-1].type or self.stack[-1].rule.holds == "blocks":
            self._end_text()
        attributes = parse_attributes(match[2], where) if match[2] else {}
        _check_attributes(name, attributes, where)
        self.stack.append(_Open(name, number, colons, attributes))

    def _check_place(self, name: str, colons: int, where: Where) -> None:
        outer = self.stack[-1]
        if outer.type and outer.rule.holds != "blocks":
            raise BadInput(
                f"{name!r} starts inside {outer.type!r} of line {outer.line}, which is not closed",
                where=where,
                hint=f"Close that one first, with a line {':' * outer.colons}.",
            )
        if outer.type and colons >= outer.colons:
            raise BadInput(
                f"{name!r} in {outer.type!r} of line {outer.line} has as many colons as that",
                where=where,
                hint=f"Outer fences have more colons: give line {outer.line}, and the line that"
                f" closes it, at least {colons + 1}.",
            )
        if len(self.stack) > DEEPEST:
            raise BadInput(f"more than {DEEPEST} blocks within each other", where=where)
        within = BLOCKS[name].within
        if within and outer.type != within:
            raise BadInput(f"a {name!r} stands in {within!r} only", where=where)
        if outer.type == "columns" and name != "column":
            raise BadInput(
                f"{name!r} stands between columns", where=where, hint="Put it into a column."
            )
        if name == "columns" and any(block.type == "column" for block in self.stack):
            raise BadInput("columns cannot stand in a column", where=where)

    def _close(self, colons: int, number: int) -> None:
        block = self.stack[-1]
        if colons != block.colons:
            raise self._wrong_closing(colons, number)
        self._check_code()
        if block.rule.holds == "blocks":
            self._end_text()
        self.stack.pop()
        self.stack[-1].children.append(self._closed(block))

    def _closed(self, block: _Open) -> Block:
        where = self._where(block.line)
        body, line = _trim(block.text, block.text_line)
        if block.rule.holds == "nothing" and body:
            raise BadInput(f"a {block.type!r} holds no text", where=self._where(line))
        if block.rule.label and not body:
            raise BadInput(
                f"a {block.type!r} without a label", where=where, hint="Write it on the next line."
            )
        if block.type == "columns" and not 1 <= len(block.children) <= MOST_COLUMNS:
            raise BadInput(
                f"columns with {len(block.children)} of them: 1 to {MOST_COLUMNS} fit",
                where=where,
                hint="Each is a block :::: column … :::: inside.",
            )
        return Block(
            block.type, block.line, block.attributes, body, line if body else 0,
            tuple(block.children),
        )  # fmt: skip

    def _wrong_closing(self, colons: int, number: int) -> BadInput:
        block = self.stack[-1]
        if not block.type:
            return BadInput(
                "a closing fence that closes nothing",
                where=self._where(number),
                hint="Remove it, or name the block that should start here: ::: tip",
            )
        return BadInput(
            f"{block.type!r} of line {block.line} opened with {block.colons} colons, and this"
            f" fence has {colons}",
            where=self._where(number),
            hint=f"Close the block with a line {':' * block.colons}.",
        )

    def _check_code(self) -> None:
        if self.code:
            raise BadInput(
                f"the code that {self.code.marker} starts is never closed",
                where=self._where(self.code.line),
                hint=f"Close it with a line {self.code.marker}.",
            )

    def _finish(self) -> None:
        if self.code and (self.code.swallowed or len(self.stack) > 1):
            self._check_code()
        block = self.stack[-1]
        if block.type:
            raise BadInput(
                f"the block {block.type!r} is never closed",
                where=self._where(block.line),
                hint=f"Close it with a line {':' * block.colons}.",
            )
        self._end_text()


def _check_attributes(name: str, attributes: dict[str, str], where: Where) -> None:
    known = BLOCKS[name].attributes
    for key in attributes:
        if key not in known:
            hint = suggest(key, known) if known else f"{name} takes no attribute."
            raise BadInput(f"{name}: unknown attribute {key!r}", where=where, hint=hint)
    for key, rule in known.items():
        if rule.required and not attributes.get(key, "").strip():
            raise BadInput(
                f"{name}: the attribute {key!r} is missing",
                where=where,
                hint=f'Write ::: {name} {{{key}="…"}}.',
            )


def _trim(lines: list[str], first_line: int) -> tuple[str, int]:
    """The lines without blank ones before and after, and the number of the first that is left."""
    start, end = 0, len(lines)
    while start < end and not lines[start].strip():
        start += 1
    while end > start and not lines[end - 1].strip():
        end -= 1
    return "\n".join(lines[start:end]), first_line + start
