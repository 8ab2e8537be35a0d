"""An issue as its file has it: front matter, then Markdown with fenced blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from newsletter.errors import Where


@dataclass(frozen=True, slots=True)
class Block:
    """One block. `type` is `text` for plain Markdown, else the fence's name.

    `body` is Markdown as written, its first line being line `body_line` of the file; `columns`,
    `column` and `only` have `children` instead. `line` is where the block starts, from 1.
    """

    type: str
    line: int
    attributes: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    body_line: int = 0
    children: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Issue:
    """A parsed issue. `source` is the file's text, and writing it back changes not one byte."""

    slug: str
    path: Path  # of issue.md
    file: str  # the same, relative to the workspace: for messages
    source: str
    subject: str
    preheader: str
    template: str
    audience: str
    language: str
    blocks: tuple[Block, ...]
    lines: Mapping[str, int]  # front-matter key → line

    @property
    def folder(self) -> Path:
        return self.path.parent

    def where(self, key_or_line: str | int) -> Where:
        """The place of a front-matter key or of a line, for a message."""
        line = self.lines.get(key_or_line) if isinstance(key_or_line, str) else key_or_line
        return Where(self.file, line)

    @property
    def sources(self) -> tuple[str, ...]:
        """The ids of the content it uses, each once, in order."""
        return tuple(dict.fromkeys(_sources(self.blocks)))


def _sources(blocks: tuple[Block, ...]) -> list[str]:
    found: list[str] = []
    for block in blocks:
        if "from" in block.attributes:
            found.append(block.attributes["from"])
        found += _sources(block.children)
    return found
