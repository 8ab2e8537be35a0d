"""Checks MJML before mrml sees it: a stack of tags, the table of components, every place named.

It also makes the skeleton that mrml gets: components alone, with their content and every unusual
attribute put aside.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches

from newsletter.errors import BadInput, Where
from newsletter.rendering.components import (
    GLOBAL,
    Component,
    attributes_of_all,
    components,
    describe,
    fits,
)
from newsletter.rendering.inlining import is_style
from newsletter.rendering.slots import check_tag
from newsletter.rendering.templates import AT

MAX_DEPTH = 100

_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param"}
    | {"source", "track", "wbr"}
)  # HTML elements that have no closing tag
_TAG = re.compile(
    r"""<!--.*?-->|<(/?)([A-Za-z][\w:-]*)((?:[^"'<>]|"[^"]*"|'[^']*')*?)(/?)>|<(?=[A-Za-z/!?])""",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"""\s+([A-Za-z_:][\w:.-]*)\s*=\s*("[^"<]*"|'[^'<]*')""")
_AT = re.compile(rf'\s*{AT}="([^"]*)"')
_STYLE = re.compile(r"""\sstyle\s*=\s*("[^"]*"|'[^']*')""", re.IGNORECASE)
_UNUSUAL = re.compile(r"[^\x20-\x7e]|\\")
_CONTENT = re.compile("[\U00100000-\U0010ffff]")


@dataclass(slots=True)
class _Open:
    """An element whose closing tag is still to come."""

    name: str
    where: Where
    component: Component | None  # None: an HTML element
    content_from: int


@dataclass
class Checker:
    """Walks the MJML once, with a stack; collects the skeleton that mrml gets."""

    source: str
    place: Callable[[str], Where]
    where: Where  # of the last tag with a mark
    token: str
    stack: list[_Open] = field(default_factory=list)
    skeleton: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    inline_css: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def run(self) -> None:
        at = 0
        while tag := _TAG.search(self.source, at):
            self._text(at, tag.start())
            at = tag.end()
            if tag[0].startswith("<!--"):
                continue
            if tag[2] is None:
                raise self._malformed(tag.start())
            self._move(tag[3])
            self._check_places(tag[0])
            if tag[1]:
                self._close(tag[2], tag)
            else:
                at = self._open(tag[2], tag)
        self._text(at, len(self.source))
        if self.stack:
            last = self.stack[-1]
            raise BadInput(f"<{last.name}> is never closed", where=last.where)
        if "mj-body" not in self.seen:
            raise BadInput("the template writes no <mj-body>", where=self.where)

    def _move(self, attributes: str) -> None:
        if mark := _AT.search(attributes):
            self.where = self.place(mark[1])

    def _check_places(self, tag: str) -> None:
        """Neither a block's HTML nor a merge field may stand just anywhere in a tag."""
        if _CONTENT.search(tag):
            raise BadInput(
                "a block's HTML stands within a tag",
                where=self.where,
                hint="Use it in <mj-text> or <mj-table>, not in an attribute.",
            )
        check_tag(tag, self.where)

    def _holder(self) -> _Open | None:
        """The component whose HTML we are in."""
        return next(
            (
                item
                for item in self.stack
                if item.component and item.component.content != "components"
            ),
            None,
        )

    def _text(self, start: int, end: int) -> None:
        text = self.source[start:end].strip()
        if not text or self._holder():
            return
        parent = f"<{self.stack[-1].name}>" if self.stack else "the template"
        shown = "a block's HTML" if _CONTENT.match(text) else f"text {_shorten(text)}"
        raise BadInput(
            f"{shown} stands directly in {parent}, after this tag",
            where=self.where,
            hint="Put it into <mj-text>, <mj-button> or another component for text.",
        )

    def _open(self, name: str, tag: re.Match[str]) -> int:
        """Returns where to go on: after the element, where its content is plain text."""
        if len(self.stack) >= MAX_DEPTH:
            raise BadInput(f"elements nested more than {MAX_DEPTH} deep", where=self.where)
        if not name.startswith("mj"):
            self._open_html(name, tag)
            return tag.end()
        component = self._component(name)
        attributes = self._attributes(component, tag[3])
        self.seen.add(name)
        if (component.content == "text" or name == "mj-raw") and not tag[4]:
            return self._plain(component, attributes, tag.end())
        self.skeleton.append(_write(name, attributes, closed=bool(tag[4])))
        if not tag[4]:
            self.stack.append(_Open(name, self.where, component, tag.end()))
        return tag.end()

    def _open_html(self, name: str, tag: re.Match[str]) -> None:
        if not self._holder():
            parent = f"<{self.stack[-1].name}>" if self.stack else "the template"
            raise BadInput(
                f"<{name}> directly in {parent}",
                where=self.where,
                hint="HTML stands in <mj-text>, <mj-table> or <mj-raw>.",
            )
        style = _STYLE.search(tag[3])
        if style and not is_style(style[1][1:-1].replace('"', "&quot;")):
            raise BadInput(
                f"the style of <{name}> cannot be read: {_shorten(style[1][1:-1])}",
                where=self.where,
                hint="Write property: value; for each.",
            )
        if not tag[4] and name.lower() not in _VOID:
            self.stack.append(_Open(name, self.where, None, tag.end()))

    def _component(self, name: str) -> Component:
        table = components()
        if name == "mj-include":
            raise BadInput(
                "mj-include is not used here",
                where=self.where,
                hint='Write {% include "name.j2" %} instead.',
            )
        if name not in table:
            near = get_close_matches(name, table, n=1)
            hint = f"Did you mean <{near[0]}>?" if near else "docs/templates.md lists them all."
            raise BadInput(f"unknown component <{name}>", where=self.where, hint=hint)
        component = table[name]
        if holder := self._holder():
            raise BadInput(f"<{name}> cannot stand in <{holder.name}>", where=self.where)
        parent = self.stack[-1].name if self.stack else ""
        if parent == "mj-attributes":
            return component
        if not parent and name != "mjml":
            raise BadInput(f"<{name}> stands outside <mjml>", where=self.where)
        if parent and parent not in component.parents:
            allowed = ", ".join(f"<{item}>" for item in component.parents) or "nothing"
            raise BadInput(
                f"<{name}> cannot stand in <{parent}>",
                where=self.where,
                hint=f"It stands in: {allowed}.",
            )
        return component

    def _attributes(self, component: Component, text: str) -> dict[str, str]:
        found: dict[str, str] = {}
        end = 0
        while match := _ATTRIBUTE.match(text, end):
            end = match.end()
            if match[1] in found:
                raise BadInput(f"{match[1]} is given twice", where=self.where)
            if match[1] != AT:
                self._check_attribute(component, match[1], html.unescape(match[2][1:-1]))
                found[match[1]] = self._put_aside_unusual(match[2])
        if text[end:].strip():
            raise BadInput(
                f"attributes of <{component.name}> that cannot be read: {_shorten(text[end:])}",
                where=self.where,
                hint='Write name="value", with quotes.',
            )
        return found

    def _check_attribute(self, component: Component, name: str, value: str) -> None:
        known = component.attributes
        if component.name in ("mj-all", "mj-class"):
            known = {**attributes_of_all(), "name": "string"}
        if name in GLOBAL:
            return
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = (
                f"Did you mean {near[0]}?" if near else f"It takes: {', '.join(known) or 'none'}."
            )
            raise BadInput(
                f"<{component.name}> has no attribute {name!r}", where=self.where, hint=hint
            )
        if not fits(value, known[name]):
            raise BadInput(
                f"<{component.name}> {name}={value!r} is no such value",
                where=self.where,
                hint=f"Write {describe(known[name])}.",
            )

    def _put_aside_unusual(self, quoted: str) -> str:
        """The attribute's value in quotes, or a stand-in for one that mrml would change."""
        if not _UNUSUAL.search(quoted):
            return quoted
        return f'"{self._put_aside(quoted[1:-1].replace(chr(34), "&quot;"))}"'

    def _put_aside(self, text: str) -> str:
        self.aside.append(text)
        return f"{self.token}{len(self.aside) - 1}q"

    def _plain(self, component: Component, attributes: dict[str, str], start: int) -> int:
        """Take a title, preview, style or raw HTML whole; the last may leave tags open."""
        closing = re.compile(rf"</{component.name}\b[^>]*>").search(self.source, start)
        if not closing:
            raise BadInput(f"<{component.name}> is never closed", where=self.where)
        text = _AT.sub("", self.source[start : closing.start()]).strip()
        if component.name == "mj-style" and "inline" in attributes:
            self.inline_css.append(html.unescape(text))
            return closing.end()
        if component.name in ("mj-title", "mj-preview"):
            text = " ".join(text.split()).replace('"', "&quot;").replace("<", "&lt;")
        if text:
            self.skeleton += [
                _write(component.name, attributes),
                self._put_aside(text),
                f"</{component.name}>",
            ]
        return closing.end()

    def _close(self, name: str, tag: re.Match[str]) -> None:
        if not self.stack or self.stack[-1].name != name:
            raise self._wrong_close(name)
        element = self.stack[-1]
        if element.component is None:
            self.stack.pop()
            return
        if element.component.content == "html":
            content = self.source[element.content_from : tag.start()].strip()
            if content:
                self.skeleton.append(self._put_aside(content))
        self.skeleton.append(f"</{name}>")
        self.stack.pop()

    def _wrong_close(self, name: str) -> BadInput:
        if not self.stack:
            return BadInput(f"</{name}> closes nothing", where=self.where)
        last = self.stack[-1]
        return BadInput(
            f"</{name}> where </{last.name}> is due",
            where=self.where,
            hint=f"<{last.name}> was opened at {last.where}.",
        )

    def _malformed(self, start: int) -> BadInput:
        self._move(self.source[start : start + 500])
        text = _AT.sub("", self.source[start : start + 500])
        return BadInput(
            f"a tag that cannot be read: {_shorten(text)}",
            where=self.where,
            hint="Close its quotes and its angle bracket; write &lt; for the character itself.",
        )


def _write(name: str, attributes: dict[str, str], *, closed: bool = False) -> str:
    listed = "".join(f" {key}={value}" for key, value in attributes.items())
    return f"<{name}{listed}{' />' if closed else '>'}"


def _shorten(text: str) -> str:
    text = " ".join(_AT.sub("", text).split())
    return repr(text if len(text) <= 40 else text[:39] + "…")
