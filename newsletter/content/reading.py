"""Turns a source (file, folder, page, feed) into documents of text; it writes nothing.

What cannot be read comes back as `Rejected` with the reason, so that one bad file among many
stops none of the others.
"""

from __future__ import annotations

import codecs
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from newsletter.content import pages
from newsletter.content.library import KEYS, Fields
from newsletter.errors import BadInput, Where
from newsletter.fetching import Fetched
from newsletter.frontmatter import FrontMatter, read_typed, unknown_key
from newsletter.workspace import Workspace

HTML_SUFFIXES = frozenset({".html", ".htm", ".xhtml"})
TEXT_SUFFIXES = frozenset({".txt", ".text", ".md", ".markdown"}) | HTML_SUFFIXES
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN_KEYS = {"date": "published", "tags": "topics", "categories": "topics"}


@dataclass(frozen=True, slots=True)
class Document:
    """One text with what its source says about it. `whole`: it is one article, not several.

    `marked`: every heading is marked as Markdown does. `notes` are (line, remark) for the user.
    """

    source: str
    text: str
    whole: bool = False
    marked: bool = False
    author: str = ""
    published: date | None = None
    topics: tuple[str, ...] = ()
    review_by: date | None = None
    recalled: str = ""
    feed: str = ""  # the feed that the entry `source` came from
    path: Path | None = None
    notes: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A source that could not be read, and why."""

    source: str
    reason: str


def is_address(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def read_path(workspace: Workspace, source: str) -> Iterator[Document | Rejected]:
    """The documents of a file, or of a folder and those within it, in order of their names."""
    if not source.strip():  # not the folder one stands in
        yield Rejected(source, "it names nothing")
        return
    path = Path(source).expanduser()
    label = workspace.relative(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = "there is no such file" if not isinstance(error, PermissionError) else str(error)
        yield Rejected(label, reason)
        return
    if not stat.S_ISDIR(mode):
        yield from _read_file(workspace, path)
        return
    try:
        files = list(_files_under(path))
    except OSError as error:
        yield Rejected(label, f"{error.filename} cannot be read: {error.strerror}")
        return
    for file in files:
        if file.suffix.lower() in TEXT_SUFFIXES:
            yield from _read_file(workspace, file)
        else:
            yield Rejected(
                workspace.relative(file), "not a text, Markdown or HTML file (by its name)"
            )
    if not files:
        yield Rejected(label, "the folder is empty")


def _files_under(folder: Path) -> Iterator[Path]:
    """The files of a folder and of those within it; hidden ones and links to folders are left."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():
                yield from _files_under(path)
        else:
            yield path


def _read_file(workspace: Workspace, path: Path) -> Iterator[Document | Rejected]:
    label = workspace.relative(path)
    limit = workspace.settings.fetch.max_bytes
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            yield Rejected(label, "it is not a regular file")
            return
        if status.st_size > limit:
            yield Rejected(label, f"it is larger than {limit:,} bytes (fetch.max_bytes)")
            return
        content = path.read_bytes()
    except OSError as error:
        yield Rejected(label, f"it cannot be read: {error.strerror}")
        return
    yield from from_bytes(label, content, path=path)


def from_bytes(
    source: str, content: bytes, *, path: Path | None = None, content_type: str = ""
) -> Iterator[Document | Rejected]:
    """The documents in a file's or an answer's bytes: a feed's entries, a page, or text."""
    try:
        if pages.looks_like_feed(content):
            yield from (
                Document(
                    entry.source,
                    entry.text,
                    True,
                    True,
                    entry.author,
                    entry.published,
                    entry.topics,
                    feed=source,
                )
                for entry in pages.read_feed(content, source, content_type)
            )
        elif pages.looks_like_html(content) or "html" in content_type.lower() or _is_page(path):
            page = pages.read_page(pages.to_utf8(content, content_type), source)
            yield Document(source, page.text, True, True, page.author, page.published, path=path)
        else:
            yield _from_text(source, decode(pages.to_utf8(content, content_type)), path)
    except pages.Unusable as error:
        yield Rejected(source, str(error))
    except BadInput as error:
        yield Rejected(source, str(error))


def _is_page(path: Path | None) -> bool:
    """Whether a file is HTML by its name: a part of a page does not look like a whole one."""
    return path is not None and path.suffix.lower() in HTML_SUFFIXES


def decode(content: bytes) -> str:
    """Text from bytes: UTF-8, or what a byte-order mark says. Raises `Unusable`."""
    if not content.strip():
        raise pages.Unusable("it is empty")
    encoding = next((name for bom, name in _BOMS if content.startswith(bom)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\x00" in content[:4096]:
            raise pages.Unusable("it is a binary file, not a text") from error
        line = content.count(b"\n", 0, error.start) + 1
        raise pages.Unusable(
            f"it is not UTF-8 (line {line}): save it as UTF-8 and add it again"
        ) from error
    if "\x00" in text:
        raise pages.Unusable("it is a binary file, not a text")
    if not any(character.isalnum() for character in text):
        raise pages.Unusable("it is empty: it has no words")
    return text


def _from_text(source: str, text: str, path: Path | None) -> Document:
    """A text or Markdown document; a front matter is taken off, and its lines left blank."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    parsed = read_typed(text, source)
    if parsed is None or not parsed.values:
        return Document(source, text, path=path)
    values, notes = _known_values(parsed, source)
    fields = Fields(values, parsed.lines, source)
    title = fields.text("title")
    body = "\n" * (parsed.body_line - 1) + parsed.body
    if title:
        body = _with_title(body, title)
    return Document(
        source,
        body,
        whole=bool(title),
        author=fields.text("author"),
        published=fields.day("published"),
        topics=fields.texts("topics"),
        review_by=fields.day("review_by"),
        recalled=fields.reason("recalled"),
        path=path,
        notes=notes,
    )


def _with_title(body: str, title: str) -> str:
    """The title on the last of the blank lines, unless the text opens with it as a heading."""
    first = next((line for line in body.split("\n") if line.strip()), "")
    if first.lstrip("# ").strip().casefold() == title.casefold():
        return body
    lines = body.split("\n")
    lines[0] = f"# {title}"
    return "\n".join(lines)


def _known_values(
    parsed: FrontMatter[Any], source: str
) -> tuple[dict[str, object], tuple[tuple[int, str], ...]]:
    """The keys we keep, foreign names for them included; a misspelt one is an error."""
    values: dict[str, object] = {}
    notes = []
    for key, value in parsed.values.items():
        name = _FOREIGN_KEYS.get(key, key)
        if name in KEYS:
            values.setdefault(name, value)
            parsed.lines.setdefault(name, parsed.lines[key])
        elif get_close_matches(key.lower(), KEYS, n=1, cutoff=0.75):
            raise unknown_key(key, KEYS, Where(source, parsed.lines[key]))
        else:
            notes.append((parsed.lines[key], f"the front matter's {key!r} is not kept"))
    return values, tuple(notes)


def from_answer(url: str, answer: Fetched) -> Iterator[Document | Rejected]:
    """The documents in an answer; `source` is the address that was asked for."""
    return from_bytes(url, answer.body, content_type=answer.content_type)
