"""An issue as its rules read it: prose, links, images and raw HTML, each with its line.

Unlike rendering, which turns what it must not show into plain text, this reads everything, so that
a rule can name it. It judges nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

from newsletter.drafting import BLOCKS, Block, Issue, MergeField, parse_merge, walk
from newsletter.errors import Where

#: Stand in for merge fields while Markdown is read: one of our own links, and a subscriber's value.
OWN_LINK = "\ue000"
VALUE = "\ue001"

_PRIVATE = re.compile("[\ue000-\uf8ff]")


@dataclass(frozen=True, slots=True)
class Passage:
    """Text as it is read, without marks; a line break in it is one of the file."""

    text: str
    line: int

    def line_at(self, position: int) -> int:
        return self.line + self.text.count("\n", 0, position)


@dataclass(frozen=True, slots=True)
class Link:
    url: str
    line: int


@dataclass(frozen=True, slots=True)
class ImageUse:
    """`alt` is None where there is none at all; `linked` if the image is a link."""

    src: str
    alt: str | None
    line: int
    linked: bool = False


@dataclass(frozen=True, slots=True)
class BlockText:
    """What a block says, for a comparison with the text part; `segments` are those who see it."""

    block: Block
    passages: tuple[Passage, ...]
    segments: frozenset[str]


@dataclass(frozen=True, slots=True)
class MergeUse:
    """A merge field where it stands, and the `only` segments around it."""

    merge: MergeField
    segments: frozenset[str]


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that rules ask about an issue's content, in the order of the file."""

    passages: tuple[Passage, ...]
    links: tuple[Link, ...]
    images: tuple[ImageUse, ...]
    html: tuple[Passage, ...]
    blocks: tuple[BlockText, ...]
    merges: tuple[MergeUse, ...]


def read(issue: Issue) -> Reading:
    """Read an issue that was parsed without error."""
    reader = _Reader(issue)
    for key in ("subject", "preheader"):
        value, line = getattr(issue, key), issue.lines.get(key, 1)
        reader.merges(value, line, frozenset())
        reader.passages.append(Passage(_marked(value, issue.file), line))
    reader.blocks(issue.blocks, frozenset())
    return Reading(
        passages=tuple(reader.passages),
        links=tuple(reader.links),
        images=tuple(reader.images),
        html=tuple(reader.html),
        blocks=tuple(reader.texts),
        merges=tuple(reader.uses),
    )


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True, "maxNesting": 40}).enable(
        ["table", "strikethrough"]
    )
    parser.validateLink = lambda url: True  # type: ignore[method-assign]  # its own extension point
    parser.normalizeLink = lambda url: url  # type: ignore[method-assign]
    return parser


_PARSER = _parser()


class _Reader:
    def __init__(self, issue: Issue) -> None:
        self.file = issue.file
        self.passages: list[Passage] = []
        self.links: list[Link] = []
        self.images: list[ImageUse] = []
        self.html: list[Passage] = []
        self.texts: list[BlockText] = []
        self.uses: list[MergeUse] = []

    def blocks(self, blocks: Sequence[Block], segments: frozenset[str]) -> None:
        for block in blocks:
            self._block(block, segments)
            inner = block.attributes.get("segment") if block.type == "only" else None
            self.blocks(block.children, segments | {inner} if inner else segments)

    def _block(self, block: Block, segments: frozenset[str]) -> None:
        own: list[Passage] = []
        for key, value in block.attributes.items():
            if not BLOCKS[block.type].attributes[key].merge:
                continue
            self.merges(value, block.line, segments)
            marked = _marked(value, self.file)
            if key == "href":
                self.links.append(Link(marked, block.line))
            else:
                own.append(Passage(marked, block.line))
        if "src" in block.attributes:
            self.images.append(
                ImageUse(
                    block.attributes["src"],
                    block.attributes.get("alt"),
                    block.line,
                    linked="href" in block.attributes and block.type == "image",
                )
            )
        if block.body:
            self.merges(block.body, block.body_line, segments)
            own += self._markdown(_marked(block.body, self.file), block.body_line)
        self.passages += own
        self.texts.append(BlockText(block, tuple(own), segments))

    def merges(self, source: str, line: int, segments: frozenset[str]) -> None:
        self.uses += [
            MergeUse(part, segments)
            for part in parse_merge(source, where=Where(self.file, line))
            if isinstance(part, MergeField)
        ]

    def _markdown(self, source: str, first_line: int) -> list[Passage]:
        found: list[Passage] = []
        for token in _PARSER.parse(source):
            line = first_line + (token.map[0] if token.map else 0)
            if token.type == "html_block":
                self.html.append(Passage(token.content.strip(), line))
            elif token.type in ("fence", "code_block"):
                found.append(Passage(token.content, line + (token.type == "fence")))
            elif token.type == "inline":
                found.append(Passage("".join(self._inline(token.children or (), line)), line))
        return found

    def _inline(self, children: Sequence[Token], line: int) -> Iterator[str]:
        """The text of one run; softbreaks stay line breaks, so that lines can be counted."""
        depth = 0
        for child in children:
            match child.type:
                case "softbreak" | "hardbreak":
                    line += 1
                    yield "\n"
                case "link_open":
                    depth += 1
                    self.links.append(Link(str(child.attrs["href"]), line))
                case "link_close":
                    depth -= 1
                case "image":
                    alt = "".join(part.content for part in child.children or ())
                    src = str(child.attrs["src"])
                    self.images.append(ImageUse(src, alt or None, line, linked=depth > 0))
                    yield alt
                case "html_inline":
                    self.html.append(Passage(child.content, line))
                    line += child.content.count("\n")
                    yield "\n" * child.content.count("\n")
                case "text" | "text_special" | "code_inline":
                    yield child.content


def _marked(source: str, file: str) -> str:
    """The source with each merge field as one private character."""
    return "".join(
        _PRIVATE.sub("�", part)
        if isinstance(part, str)
        else (OWN_LINK if part.field.startswith("links.") else VALUE)
        for part in parse_merge(source, where=Where(file))
    )


def segments_named(issue: Issue) -> Iterator[tuple[str, int]]:
    """Every segment that an `only` block names, with its line."""
    for block in walk(issue.blocks):
        if block.type == "only":
            yield block.attributes["segment"], block.line
