"""The text part, written from the same Markdown as the HTML: for people who read mail as text.

Links are footnotes, images their alt text; lines are wrapped, addresses never broken. It knows
nothing of the HTML.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from markdown_it.token import Token

from newsletter.rendering.slots import in_url

WIDTH = 76

_BULLET = "- "


@dataclass
class Footnotes:
    """The links of a message, numbered as they are met."""

    urls: list[str] = field(default_factory=list)

    def number(self, url: str) -> int:
        self.urls.append(in_url(url))
        return len(self.urls)

    def lines(self) -> list[str]:
        return [f"[{number}] {url}" for number, url in enumerate(self.urls, start=1)]


def wrap(text: str, first: str = "", rest: str | None = None) -> str:
    """`text` on lines of at most `WIDTH`, `first` before the first and `rest` before the others."""
    return "\n".join(
        textwrap.fill(
            line,
            WIDTH,
            initial_indent=first if number == 0 else (first if rest is None else rest),
            subsequent_indent=first if rest is None else rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for number, line in enumerate(text.split("\n"))
    )


def indent(text: str, first: str, rest: str) -> str:
    """`text` with `first` before its first line and `rest` before the others."""
    lines = text.split("\n")
    return "\n".join(
        ((first if number == 0 else rest) + line).rstrip() for number, line in enumerate(lines)
    )


def to_text(tokens: Sequence[Token], notes: Footnotes) -> str:
    """The text of a block's tokens: paragraphs with an empty line between them."""
    return _Writer(tokens, notes).blocks(0, len(tokens))


class _Writer:
    """Writes a range of tokens; a container's range is found by its level."""

    def __init__(self, tokens: Sequence[Token], notes: Footnotes) -> None:
        self.tokens = tokens
        self.notes = notes

    def blocks(self, start: int, end: int, *, tight: bool = False) -> str:
        pieces: list[str] = []
        at = start
        while at < end:
            close = self._close(at)
            if piece := self._block(at, close):
                pieces.append(piece)
            at = close + 1
        return ("\n" if tight else "\n\n").join(pieces)

    def _close(self, at: int) -> int:
        token = self.tokens[at]
        if token.nesting != 1:
            return at
        return next(
            index
            for index in range(at + 1, len(self.tokens))
            if self.tokens[index].nesting == -1 and self.tokens[index].level == token.level
        )

    def _block(self, at: int, close: int) -> str:
        token = self.tokens[at]
        match token.type:
            case "inline":
                return wrap(self._inline(token))
            case "heading_open":
                return self._heading(token, at)
            case "blockquote_open":
                return indent(self.blocks(at + 1, close), "> ", "> ")
            case "bullet_list_open" | "ordered_list_open":
                return self._list(at, close)
            case "fence" | "code_block":
                return indent(token.content.rstrip("\n"), "    ", "    ")
            case "hr":
                return "* * *"
            case "table_open":
                return self._table(at, close)
        return self.blocks(at + 1, close)

    def _heading(self, token: Token, at: int) -> str:
        title = wrap(self._inline(self.tokens[at + 1]))
        rule = {"h1": "=", "h2": "-"}.get(token.tag)
        if not rule:
            return title
        return (
            f"{title}\n{rule * min(WIDTH, max(len(line) for line in title.splitlines() or ['']))}"
        )

    def _list(self, at: int, close: int) -> str:
        token = self.tokens[at]
        number = int(token.attrs.get("start", 1)) if token.tag == "ol" else None
        items: list[str] = []
        loose = False
        item = at + 1
        while item < close:
            end = self._close(item)
            loose = loose or any(
                child.type == "paragraph_open"
                and not child.hidden
                and child.level == token.level + 2
                for child in self.tokens[item + 1 : end]
            )
            mark = _BULLET if number is None else f"{number + len(items)}. "
            body = self.blocks(item + 1, end, tight=not loose)
            items.append(indent(body, mark, " " * len(mark)))
            item = end + 1
        return ("\n\n" if loose else "\n").join(items)

    def _table(self, at: int, close: int) -> str:
        rows: list[list[str]] = []
        for token in self.tokens[at:close]:
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(self._inline(token))
        return "\n".join(" | ".join(row) for row in rows)

    def _inline(self, token: Token) -> str:
        return inline_text(token.children or (), self.notes)


def inline_text(children: Sequence[Token], notes: Footnotes) -> str:
    """A line of text; a link is its words and the number of its footnote."""
    pieces: list[str] = []
    links: list[str] = []
    starts: list[int] = []
    for child in children:
        match child.type:
            case "text" | "text_special":
                pieces.append(child.content)
            case "code_inline":
                pieces.append(child.content)
            case "softbreak":
                pieces.append(" ")
            case "hardbreak":
                pieces.append("\n")
            case "image":
                pieces.append(_image_text(child))
            case "link_open":
                links.append(str(child.attrs["href"]))
                starts.append(len(pieces))
            case "link_close":
                url = links.pop()
                words = "".join(pieces[starts.pop() :])
                if words != url and f"mailto:{words}" != url:
                    pieces.append(f" [{notes.number(url)}]")
            case "em_open" | "em_close":
                pieces.append("_")
            case "strong_open" | "strong_close":
                pieces.append("*")
    return "".join(pieces)


def _image_text(token: Token) -> str:
    alt = "".join(child.content for child in token.children or ())
    return f"[{alt}]" if alt else ""
