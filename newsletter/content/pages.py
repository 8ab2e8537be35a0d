"""Web pages and feeds as text: the article of an HTML page, the entries of an RSS or Atom feed.

Works on bytes that were fetched or read elsewhere; it opens no address and trusts no markup.
"""

from __future__ import annotations

import contextlib
import html
import io
import re
from calendar import timegm
from dataclasses import dataclass
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from typing import Any

import nh3

MOST_ENTRIES = 500


class Unusable(Exception):
    """Bytes in which there is nothing to read; the message says why."""


@dataclass(frozen=True, slots=True)
class Page:
    """An article as Markdown whose first line is its title as a heading."""

    source: str
    text: str
    author: str = ""
    published: date | None = None
    topics: tuple[str, ...] = ()


_COMMENTS = re.compile(rb"(?:\s*<!--.*?-->)+\s*", re.DOTALL)


def looks_like_html(content: bytes) -> bool:
    head = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    head = _COMMENTS.sub(b"", head, count=1) if head.startswith(b"<!--") else head
    return head.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<article")) or (
        head.startswith(b"<?xml") and b"<html" in head
    )


def looks_like_feed(content: bytes) -> bool:
    head = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<?xml", b"<rss", b"<feed", b"<rdf:rdf", b"<!doctype rss")) and any(
        mark in head for mark in (b"<rss", b"<feed", b"<rdf:rdf", b"<!doctype rss")
    )


_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_META = re.compile(rb"<meta\b[^>]*charset[^>]*>", re.IGNORECASE)


def to_utf8(content: bytes, content_type: str) -> bytes:
    """The content in UTF-8, if it is in another encoding that its header or its HTML names.

    What is UTF-8 already stays so, whatever is said of it; what names nothing stays as it is.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 says so itself
        return content
    try:
        content.decode()
    except UnicodeDecodeError:
        meta = _META.search(content[:4096])
        told = _CHARSET.search(content_type) or (
            _CHARSET.search(meta[0].decode("latin-1")) if meta else None
        )
        if told:
            # Browsers read Latin-1 as Windows' extension of it, and so do authors.
            name = "cp1252" if told[1].lower() in _LATIN_1 else told[1]
            with contextlib.suppress(LookupError, ValueError):  # no encoding of texts
                return content.decode(name, "replace").encode()
    return content


_LATIN_1 = frozenset({"iso-8859-1", "iso8859-1", "latin-1", "latin1", "us-ascii", "ascii"})


def read_page(content: bytes, source: str) -> Page:
    """The article of an HTML page. Raises `Unusable` where there is none."""
    import trafilatura

    text, title, author, day = "", "", "", None
    try:
        text = (
            trafilatura.extract(
                content,
                output_format="markdown",
                include_comments=False,
                include_images=False,
                include_links=False,
                with_metadata=False,
            )
            or ""
        )
        about = trafilatura.extract_metadata(content)
        if about is not None:
            title, author, day = about.title or "", about.author or "", _day(about.date)
    except (ValueError, RecursionError, LookupError) as error:
        raise Unusable(f"its HTML cannot be read: {error}") from error
    if not text.strip():
        raise Unusable("no article was found in the page")
    return Page(source, _titled(text, " ".join(title.split())), " ".join(author.split()), day)


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text[:10]) if text else None
    except ValueError:
        return None


def _titled(text: str, title: str) -> str:
    """The text under its title; a first heading that says the same is that title."""
    first, _, rest = text.lstrip().partition("\n")
    heading = first.lstrip("#").strip(" *") if first.startswith("#") else ""
    if heading and (not title or title.casefold().startswith(heading.casefold())):
        return f"# {heading}\n\n{rest.strip()}\n"
    if first.strip().casefold() == title.casefold():
        return f"# {title}\n\n{rest.strip()}\n"
    return f"# {title}\n\n{text.strip()}\n" if title else text


def read_feed(content: bytes, url: str, content_type: str = "") -> list[Page]:
    """A feed's entries that have a text, oldest first. Raises `Unusable`.

    A document type is refused: the parser would expand entities without limit.
    """
    import feedparser

    if b"<!doctype" in content.lower() or b"<!entity" in content.lower():
        raise Unusable("the feed declares a document type, which is refused")
    headers = {"content-location": url}
    if content_type:
        headers["content-type"] = content_type
    parsed = feedparser.parse(io.BytesIO(content), response_headers=headers)
    entries = [_entry(entry, url) for entry in parsed.entries[:MOST_ENTRIES]]
    if not entries and parsed.get("bozo"):
        raise Unusable(f"the feed cannot be read: {parsed.bozo_exception}")
    if not entries:
        raise Unusable("the feed has no entries")
    return [entry for entry in reversed(entries) if entry is not None]


def _entry(entry: Any, url: str) -> Page | None:
    contents = entry.get("content") or [{"value": entry.get("summary", "")}]
    markup = max((part.get("value") or "" for part in contents), key=len)
    text = _fragment(markup)
    title = " ".join(nh3.clean(entry.get("title") or "", tags=set()).split())
    if not text.strip():
        return None
    moment = entry.get("published_parsed") or entry.get("updated_parsed")
    day = datetime.fromtimestamp(timegm(moment), UTC).date() if moment else None
    topics = tuple(tag.get("term") or "" for tag in entry.get("tags") or [])
    source = entry.get("link") or entry.get("id") or url
    return Page(
        source,
        f"# {html.unescape(title)}\n\n{text}\n" if title else text,
        " ".join((entry.get("author") or "").split()),
        day,
        tuple(topic for topic in topics if topic),
    )


def _fragment(markup: str) -> str:
    """An entry's HTML as Markdown: a page's extraction would drop texts that are short."""
    reader = _Markdown()
    reader.feed(nh3.clean(markup, tags=_BLOCKS | _SPACES, attributes={}))
    kept = [" ".join(line.split()) for line in reader.lines]
    kept = [line for line in kept if line.strip("#- ")]
    return "\n\n".join(kept).replace("\n\n- ", "\n- ")


class _Markdown(HTMLParser):
    """Collects the blocks of clean HTML as lines of Markdown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines = [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BLOCKS:
            self.lines.append(_MARKS.get(tag, ""))
        else:
            self.lines[-1] += " "

    def handle_endtag(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.lines.append("")

    def handle_data(self, data: str) -> None:
        self.lines[-1] += data.replace("\n", " ")


_SPACES = {"br", "td", "th"}
_MARKS = {
    "h1": "## ",
    "h2": "## ",
    "h3": "### ",
    "h4": "#### ",
    "h5": "#### ",
    "h6": "#### ",
    "li": "- ",
}
# What no browser would show on the line of its neighbours: without these, words would be joined.
_BLOCKS = {
    *("p", "div", "ul", "ol", "dl", "dt", "dd", "blockquote", "pre", "hr", "address"),
    *("section", "article", "main", "header", "footer", "aside", "nav", "figure", "figcaption"),
    *("details", "summary", "table", "caption", "tr"),
    *_MARKS,
}
