"""What content hands to the other stages: articles, tips, excerpts. It knows no file or table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

Kind = Literal["article", "tip"]

FOLDERS: dict[Kind, str] = {"article": "articles", "tip": "tips"}


@dataclass(frozen=True, slots=True)
class ContentItem:
    """One article or tip as its file under `content/` has it.

    `id` is "articles/<slug>" or "tips/<slug>"; `body` is Markdown; `words` counts the body as it is
    now; `sha256` is of the part of the source it was made from; `recalled` is the reason, `""` if
    it was not recalled. For a tip found in an article, `source` is that article's id.
    """

    id: str
    kind: Kind
    title: str
    body: str
    path: Path
    file: str  # the path relative to the workspace, for messages and output
    source: str = ""
    author: str = ""
    published: date | None = None
    topics: tuple[str, ...] = ()
    words: int = 0
    sha256: str = ""
    review_by: date | None = None
    recalled: str = ""
    language: str = "en"  # recognised from the body: en, de or fr

    @property
    def source_file(self) -> str:
        """The source without the lines: what several articles of one file have in common."""
        return self.source.partition("#L")[0]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is to become an item unless one with its `sha256` is there; `values`: front matter."""

    kind: Kind
    title: str
    body: str
    source: str
    sha256: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Whole sentences of an article in their order; `text` is Markdown, verbatim."""

    text: str
    sentences: tuple[str, ...]

    @property
    def words(self) -> int:
        return sum(len(sentence.split()) for sentence in self.sentences)


@dataclass(frozen=True, slots=True)
class Tip:
    """An instruction to the reader, found in `source` (an article's id)."""

    title: str
    text: str
    source: str


def is_blocked(item: ContentItem, today: date) -> str | None:
    """Why the item must not be used on `today`: recalled, or past its `review_by`; else None."""
    if item.recalled:
        return f"{item.id} was recalled: {item.recalled}"
    if item.review_by is not None and item.review_by < today:
        return f"{item.id} was to be reviewed by {item.review_by.isoformat()}"
    return None
