"""An issue's blocks as templates see them: HTML, addresses and images ready, nothing left to do.

Made once an issue; the variants choose among them. It knows no template and no MJML.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from markdown_it.token import Token
from markupsafe import Markup

from newsletter.content import load_item
from newsletter.drafting import Block, Issue
from newsletter.errors import BadInput, Where
from newsletter.rendering import markdown
from newsletter.rendering.images import Images, Picture
from newsletter.rendering.links import Links, require_allowed
from newsletter.rendering.slots import MergeTable, has_field, neutralise
from newsletter.rendering.templates import safe
from newsletter.rendering.text import Footnotes, to_text
from newsletter.workspace import Workspace

#: CSS pixels that an image may take: the sheet of 600 without its margins, and the bare sheet.
TEXT_WIDTH = 520
FULL_WIDTH = 600

_FIRST_CONTENT = 0x100000
_MOST_CONTENTS = 0xFFFF


@dataclass(frozen=True, slots=True)
class Source:
    """The content item that a block was taken from; `url` is empty where it has no page."""

    id: str
    title: str
    author: str
    url: str


@dataclass(frozen=True, slots=True)
class View:
    """A block. `html` stands for its HTML (or a button's label); texts may hold merge fields."""

    type: str
    html: Markup = field(default_factory=Markup)
    title: str = ""
    href: str = ""
    by: str = ""
    alt: str = ""
    image: Picture | None = None
    source: Source | None = None
    segment: str = ""
    children: tuple[View, ...] = ()
    tokens: tuple[Token, ...] = ()  # its Markdown, for the text part
    label: str = ""  # a button's label as plain text


@dataclass
class Viewer:
    """Makes the views of one issue and collects their HTML in `contents`."""

    workspace: Workspace
    issue: Issue
    table: MergeTable
    links: Links
    images: Images
    contents: list[str] = field(default_factory=list)

    def views(self) -> tuple[View, ...]:
        return tuple(self._view(block, TEXT_WIDTH) for block in self.issue.blocks)

    def _view(self, block: Block, width: int) -> View:
        match block.type:
            case "columns":
                share = max(120, TEXT_WIDTH // max(1, len(block.children)) - 10)
                return View("columns", children=self._children(block, share))
            case "column":
                return View("column", children=self._children(block, width))
            case "only":
                segment = block.attributes["segment"]
                return View("only", segment=segment, children=self._children(block, width))
            case "button":
                return self._button(block)
            case "divider":
                return View("divider")
        return self._leaf(block, width)

    def _children(self, block: Block, width: int) -> tuple[View, ...]:
        return tuple(self._view(child, width) for child in block.children)

    def _button(self, block: Block) -> View:
        where = self.issue.where(block.body_line or block.line)
        marked = self.table.mark(block.body, where)
        return View(
            "button",
            html=self._content(markdown.label(marked)),
            href=self._href(block),
            label=" ".join(to_text(markdown.parse(marked, where), Footnotes()).split()),
        )

    def _leaf(self, block: Block, width: int) -> View:
        where = self.issue.where(block.body_line or block.line)
        source = self._source(block)
        is_hero = block.type == "feature" and width == TEXT_WIDTH
        tokens = markdown.parse(self.table.mark(block.body, where), where)
        href = self._href(block) or (
            self.links.address(source.url) if source and source.url else ""
        )
        markdown.resolve(tokens, where, self._address(where), self._image_attributes(width))
        return View(
            block.type,
            html=self._content(markdown.to_html(tokens)),
            title=self._attribute(block, "title") or self._source_title(block, source),
            href=href,
            by=self._attribute(block, "by"),
            alt=self._attribute(block, "alt"),
            image=self._image(block, FULL_WIDTH if is_hero else width),
            source=source,
            tokens=tuple(tokens),
        )

    def _source_title(self, block: Block, source: Source | None) -> str:
        return source.title if source and block.type in ("excerpt", "feature") else ""

    def _attribute(self, block: Block, name: str) -> str:
        return self.table.mark(block.attributes.get(name, ""), self.issue.where(block.line))

    def _href(self, block: Block) -> str:
        where = self.issue.where(block.line)
        marked = self._attribute(block, "href")
        if not marked:
            return ""
        return self._address(where)(require_allowed(marked, where))

    def _address(self, where: Where) -> Callable[[str], str]:
        def address(url: str) -> str:
            if has_field(url[:1]) and not self._is_own_link(url):
                raise BadInput(
                    "an address begins with a merge field",
                    where=where,
                    hint="Write https:// and the site first; a field is percent-encoded.",
                )
            return self.links.address(url)

        return address

    def _is_own_link(self, url: str) -> bool:
        return self.table.look_up(url[0])[0].startswith("links.")

    def _image(self, block: Block, width: int) -> Picture | None:
        source = neutralise(block.attributes.get("src", "").strip())
        if not source:
            return None
        where = self.issue.where(block.line)
        if asked := block.attributes.get("width"):
            width = min(width, _pixels(asked, where))
        return self.images.picture(source, width, where)

    def _image_attributes(self, width: int) -> markdown.ImageAttributes:
        def attributes(source: str, where: Where) -> dict[str, str]:
            picture = self.images.picture(source, width, where)
            found = {"src": picture.src}
            if picture.width:
                found["width"] = str(picture.width)
            if picture.srcset:
                found["srcset"] = picture.srcset
            return found

        return attributes

    def _source(self, block: Block) -> Source | None:
        item_id = block.attributes.get("from")
        if not item_id:
            return None
        where = self.issue.where(block.line)
        item = load_item(self.workspace, item_id, where=where)
        if item.source.startswith("articles/"):  # a tip found in an article: that is its source
            with suppress(BadInput):  # it may be gone by now; the tip is not
                item = load_item(self.workspace, item.source, where=where)
        address = item.source.split("#")[0]
        url = address if address.startswith(("https://", "http://")) else ""
        return Source(item_id, neutralise(item.title), neutralise(item.author), neutralise(url))

    def _content(self, html: str) -> Markup:
        """A character that stands for the HTML until MJML is done."""
        if not html:
            return Markup()
        self.contents.append(html)
        if len(self.contents) > _MOST_CONTENTS:
            raise BadInput("more blocks than an issue can have", where=self.issue.where(1))
        return safe(chr(_FIRST_CONTENT + len(self.contents) - 1))


def _pixels(text: str, where: Where) -> int:
    match = re.fullmatch(r"(\d{1,4})(?:px)?", text.strip())
    if not match or not 1 <= int(match[1]) <= FULL_WIDTH:
        raise BadInput(
            f"not a width: {text!r}", where=where, hint=f"Write pixels, from 1 to {FULL_WIDTH}."
        )
    return int(match[1])


def shown(views: Sequence[View], segments: frozenset[str]) -> tuple[View, ...]:
    """The views that somebody of `segments` sees: `only` blocks give way to what is in them."""
    return tuple(_shown(views, segments))


def _shown(views: Sequence[View], segments: frozenset[str]) -> Iterator[View]:
    for view in views:
        if view.type == "only":
            if view.segment in segments:
                yield from _shown(view.children, segments)
        elif view.type in ("columns", "column"):
            children = shown(view.children, segments)
            if children:
                yield View(view.type, children=children)
        else:
            yield view


def segments_of(blocks: Sequence[Block]) -> dict[str, Block]:
    """Every segment that an `only` block names, with the first block that does."""
    found: dict[str, Block] = {}
    for block in blocks:
        if block.type == "only":
            found.setdefault(block.attributes["segment"], block)
        for name, inner in segments_of(block.children).items():
            found.setdefault(name, inner)
    return found
