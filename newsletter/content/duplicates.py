"""Near-duplicates: an index of shingles in SQL, and the passages that two texts share.

It owns the tables `content_items` and `content_shingles`, which mirror the files under `content/`
and can be rebuilt from them. Every fourth shingle of a long text is indexed, all of a short one:
enough to find a forerunner, which is then compared whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz import fuzz, process
from sqlalchemy import Connection, delete, func, insert, select

from newsletter.content.body import passages
from newsletter.content.library import item_paths, read_item
from newsletter.content.model import ContentItem
from newsletter.content.sentences import word_spans, words_of
from newsletter.content.shingles import containment, shingles
from newsletter.store.schema import content_items, content_shingles
from newsletter.workspace import Workspace

_SAMPLE = 4
_SHORT = 80  # shingles: a text with fewer is indexed whole
_CANDIDATES = 12
_SHARED_HASHES = 3
_SIMILAR = 0.08  # of the smaller text's shingles; unrelated articles share up to 0.03
_SIMILAR_SHORT = 0.3
_PASSAGE_SCORE = 75.0
_PASSAGE_WORDS = 6
_RUN_WORDS = 5
_MOST_SENTENCES = 400
_MOST_PASSAGES = 20


@dataclass(frozen=True, slots=True)
class Duplicate:
    """`id` is like the earlier item `of`: by `similarity` (0 to 1), in its sentences `passages`."""

    id: str
    of: str
    similarity: float
    passages: tuple[str, ...]


def refresh(connection: Connection, workspace: Workspace) -> dict[str, list[str]]:
    """Bring the index up to date with the files; returns the ids by SHA-256.

    Only files that changed since they were indexed are read. Raises `BadInput` for one that
    cannot be read.
    """
    rows = connection.execute(select(content_items.c.id, content_items.c.stamp))
    known = {row.id: row.stamp for row in rows}
    for path in item_paths(workspace):
        id = f"{path.parent.name}/{path.stem}"
        if known.pop(id, None) != _stamp(path):
            add(connection, read_item(workspace, path))
    for gone in known:
        forget(connection, gone)
    by_hash: dict[str, list[str]] = {}
    for row in connection.execute(select(content_items.c.id, content_items.c.sha256)):
        by_hash.setdefault(row.sha256, []).append(row.id)
    return by_hash


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_mtime_ns}:{status.st_size}"


def add(connection: Connection, item: ContentItem) -> None:
    """Index an item, in place of what was indexed under its id."""
    forget(connection, item.id)
    hashes = shingles(item.body)
    number = connection.execute(
        insert(content_items)
        .values(
            id=item.id,
            sha256=item.sha256,
            shingles=len(hashes),
            source=item.source_file,
            stamp=_stamp(item.path),
        )
        .returning(content_items.c.number)
    ).scalar_one()
    rows = [{"hash": each, "item": number} for each in _sample(hashes)]
    if rows:
        connection.execute(insert(content_shingles), rows)


def forget(connection: Connection, id: str) -> None:
    """Take an item out of the index."""
    number = select(content_items.c.number).where(content_items.c.id == id).scalar_subquery()
    connection.execute(delete(content_shingles).where(content_shingles.c.item == number))
    connection.execute(delete(content_items).where(content_items.c.id == id))


def made_from(
    connection: Connection, workspace: Workspace, sources: Collection[str]
) -> list[ContentItem]:
    """The indexed items that were made from these files, pages or entries."""
    found = []
    every = sorted(sources)
    for start in range(0, len(every), 500):
        rows = connection.scalars(
            select(content_items.c.id)
            .where(content_items.c.source.in_(every[start : start + 500]))
            .order_by(content_items.c.number)
        )
        found += [read_item(workspace, workspace.content / f"{id}.md") for id in rows]
    return found


def find(connection: Connection, workspace: Workspace, item: ContentItem) -> list[Duplicate]:
    """The indexed items that `item` is a near-duplicate of, the most similar first."""
    hashes = shingles(item.body)
    found = []
    for id in _candidates(connection, item.id, _sample(hashes)):
        path = workspace.content / f"{id}.md"
        if not path.is_file():
            continue
        other = read_item(workspace, path)
        others = shingles(other.body)
        alike = containment(hashes, others)
        short = min(len(hashes), len(others)) < _SHORT
        if other.kind == item.kind and alike >= (_SIMILAR_SHORT if short else _SIMILAR):
            found.append(Duplicate(item.id, id, round(alike, 3), shared_passages(item, other)))
    return sorted(found, key=lambda duplicate: (-duplicate.similarity, duplicate.of))


def _candidates(connection: Connection, id: str, hashes: Sequence[int]) -> list[str]:
    """The ids that share the most indexed shingles, at least three."""
    counts: dict[str, int] = {}
    for start in range(0, len(hashes), 500):
        shared = func.count().label("shared")
        rows = connection.execute(
            select(content_items.c.id, shared)
            .join(content_shingles, content_shingles.c.item == content_items.c.number)
            .where(content_shingles.c.hash.in_(hashes[start : start + 500]))
            .where(content_items.c.id != id)
            .group_by(content_items.c.id)
            .order_by(shared.desc())
            .limit(100)
        )
        for row in rows:
            counts[row.id] = counts.get(row.id, 0) + row.shared
    enough = [(count, id) for id, count in counts.items() if count >= _SHARED_HASHES]
    return [id for _, id in sorted(enough, reverse=True)[:_CANDIDATES]]


def _sample(hashes: Iterable[int]) -> list[int]:
    every = sorted(hashes)
    return every if len(every) < _SHORT else [each for each in every if each % _SAMPLE == 0]


def shared_passages(item: ContentItem, other: ContentItem) -> tuple[str, ...]:
    """The sentences of `item` that `other` has in the same or nearly the same words.

    Beside them, runs of five words and more that stand in both, from sentences that differ.
    """
    theirs = _sentences(other)
    found: list[str] = []
    rest: list[str] = []
    for text in _sentences(item):
        alike = theirs and process.extractOne(
            text, theirs, scorer=fuzz.token_set_ratio, score_cutoff=_PASSAGE_SCORE
        )
        (found if alike else rest).append(text)
    known = {run for text in theirs for run in _runs(words_of(text))}
    for text in rest:
        found += _common_runs(text, known)
    return tuple(found[:_MOST_PASSAGES])


def _runs(words: list[str]) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + _RUN_WORDS]) for at in range(len(words) - _RUN_WORDS + 1)]


def _common_runs(text: str, known: set[tuple[str, ...]]) -> list[str]:
    """The longest stretches of `text` made of known runs, as they are written in it."""
    spans = word_spans(text)
    found: list[str] = []
    start = end = 0
    for at, run in enumerate(_runs([text[a:b].casefold() for a, b in spans])):
        if run not in known:
            continue
        if at > end or end == 0:
            if end:
                found.append(text[spans[start][0] : spans[end][1]])
            start = at
        end = at + _RUN_WORDS - 1
    if end:
        found.append(text[spans[start][0] : spans[end][1]])
    return found


def _sentences(item: ContentItem) -> list[str]:
    found = [
        sentence.text
        for passage in passages(item.body)
        for sentence in passage.sentences(item.language)
        if len(sentence.text.split()) >= _PASSAGE_WORDS
    ]
    return found[:_MOST_SENTENCES]
