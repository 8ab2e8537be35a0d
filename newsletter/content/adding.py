"""Takes sources in: reads, divides, names and writes articles and tips, and reports on each.

Everything is read before anything is written; each file is written whole; the same thing again
adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from newsletter.clock import Clock
from newsletter.content import duplicates, feeds
from newsletter.content.duplicates import Duplicate
from newsletter.content.library import item_path, load_item, read_item, uses, write_item
from newsletter.content.model import Candidate, ContentItem, Kind
from newsletter.content.reading import Document, Rejected, is_address, read_path
from newsletter.content.sentences import count_words
from newsletter.content.splitting import divide
from newsletter.content.tiplists import found_in, tips_of
from newsletter.errors import BadInput, Conflict, NewsletterError, NotFound
from newsletter.fetching import Fetcher
from newsletter.store import Store
from newsletter.workspace import Workspace


@dataclass
class Added:
    """What `content add` reports; `as_json` has the contract's shape."""

    added: list[ContentItem] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)
    calls_to_action: list[dict[str, Any]] = field(default_factory=list)
    uncertain: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def nothing_read(self) -> bool:
        """Whether not one source could be read."""
        return bool(self.rejected) and not (self.added or self.unchanged or self.calls_to_action)

    def as_json(self) -> dict[str, Any]:
        return {
            "added": [summary(item) for item in self.added],
            "unchanged": self.unchanged,
            "duplicates": [
                {
                    "id": each.id,
                    "of": each.of,
                    "similarity": each.similarity,
                    "passages": list(each.passages),
                }
                for each in self.duplicates
            ],
            "calls_to_action": self.calls_to_action,
            "uncertain": self.uncertain,
            "rejected": [{"source": each.source, "reason": each.reason} for each in self.rejected],
        }


def summary(item: ContentItem) -> dict[str, Any]:
    """An item as the command line's JSON shows it."""
    return {
        "id": item.id,
        "kind": item.kind,
        "title": item.title,
        "words": item.words,
        "source": item.source,
        "path": item.file,
    }


def add_content(
    workspace: Workspace,
    store: Store,
    clock: Clock,
    sources: Sequence[str],
    *,
    kind: Kind | None = None,
    split_at: Sequence[int] = (),
    fetcher: Fetcher,
) -> Added:
    """Add files, folders, pages and feeds.

    Articles, unless `kind` is "tip": then a list of tips gives one tip an item, line or paragraph,
    and prose (an article of `content/` too) gives the instructions found in it. `split_at` divides
    one text file at these lines; of a file added before it replaces the articles that no issue
    uses. Raises `BadInput` for a wrong `split_at` or a file under `content/` that cannot be read.
    """
    if split_at and (len(sources) != 1 or kind == "tip"):
        raise BadInput("--split-at is for one file of articles")
    result = Added()
    for source in sources:
        if is_address(source):
            _add_address(workspace, store, clock, fetcher, source, kind, split_at, result)
        else:
            documents = list(read_path(workspace, source))
            add_documents(workspace, store, documents, kind, split_at, result)
    return result


def _add_address(
    workspace: Workspace,
    store: Store,
    clock: Clock,
    fetcher: Fetcher,
    url: str,
    kind: Kind | None,
    split_at: Sequence[int],
    result: Added,
) -> None:
    try:
        fetched = feeds.fetch(workspace, store, fetcher, url)
    except NewsletterError as error:
        result.rejected.append(Rejected(url, str(error)))
        return
    result.unchanged += fetched.unchanged
    add_documents(workspace, store, fetched.documents, kind, split_at, result)
    fetched.remember(store, clock.now())


def add_documents(
    workspace: Workspace,
    store: Store,
    documents: Sequence[Document | Rejected],
    kind: Kind | None,
    split_at: Sequence[int],
    result: Added,
) -> None:
    """Add what the documents hold and write the outcome of each into `result`."""
    for document in documents:
        if isinstance(document, Rejected):
            result.rejected.append(document)
        else:
            _add_document(workspace, store, document, kind, split_at, result)


def _add_document(
    workspace: Workspace,
    store: Store,
    document: Document,
    kind: Kind | None,
    split_at: Sequence[int],
    result: Added,
) -> None:
    """Add what one document holds, in one transaction of the index."""
    inside = _item_of(workspace, document)
    if inside is not None and kind != "tip":
        result.unchanged.append(inside.id)
        return
    if kind == "tip":
        candidates = found_in(inside) if inside is not None else tips_of(document)
        if not candidates:
            result.rejected.append(Rejected(document.source, "no tip was found in it"))
            return
    with store.begin() as connection:
        known = duplicates.refresh(connection, workspace)
        replaced: list[str] = []
        if kind != "tip":
            made = duplicates.made_from(connection, workspace, [document.source])
            before = sorted(
                (item for item in made if item.kind == "article"),
                key=lambda item: _lines(item.source),
            )
            candidates = _articles(document, split_at, before, result)
            if split_at:
                replaced = _replaceable(workspace, before, candidates, document, result)
        for candidate in candidates:
            _add_one(workspace, connection, candidate, known, replaced, result)
        for id in replaced:
            _remove(workspace, connection, id)


def _item_of(workspace: Workspace, document: Document) -> ContentItem | None:
    """The item whose own file the document is: it is content already."""
    if document.path is None:
        return None
    path = document.path.resolve()
    place = item_path(workspace, f"{path.parent.name}/{path.stem}")
    if place is None or place.resolve() != path:
        return None
    return read_item(workspace, place)


def _lines(source: str) -> tuple[int, int]:
    first, _, last = source.partition("#L")[2].partition("-L")
    return (int(first) if first.isdigit() else 1, int(last) if last.isdigit() else 0)


def _articles(
    document: Document, split_at: Sequence[int], before: list[ContentItem], result: Added
) -> list[Candidate]:
    """The document's articles; what was divided by hand before is divided the same way again."""
    source = document.source
    firsts = [_lines(item.source)[0] for item in before]
    if not split_at and len(set(firsts)) > 1 and not document.whole:
        again = divide(document.text, split_at=_within(firsts[1:], document.text))
        if {part.sha256 for part in again.parts} == {item.sha256 for item in before}:
            split_at = firsts[1:]
    division = divide(
        document.text, split_at=split_at, whole=document.whole, marked=document.marked
    )
    result.calls_to_action += [
        {"source": source, "line": call.line, "text": call.text} for call in division.calls
    ]
    result.uncertain += [
        {"source": source, "line": line, "reason": reason} for line, reason in document.notes
    ]
    result.uncertain += [
        {"source": source, "line": noted.line, "reason": noted.text} for noted in division.uncertain
    ]
    several = len(division.parts) > 1
    return [
        Candidate(
            "article",
            part.title,
            part.body,
            f"{source}#L{part.first}-L{part.last}" if several else source,
            part.sha256,
            {
                "author": part.author or document.author,
                "published": part.published or document.published,
                "topics": list(document.topics),
                "review_by": document.review_by,
                "recalled": document.recalled,
            },
        )
        for part in division.parts
    ]


def _within(firsts: list[int], text: str) -> list[int]:
    count = len(text.rstrip().split("\n"))
    return [line for line in firsts if 2 <= line <= count]


def _replaceable(
    workspace: Workspace,
    before: list[ContentItem],
    candidates: list[Candidate],
    document: Document,
    result: Added,
) -> list[str]:
    """The ids of earlier articles that the new division replaces: those that no issue uses."""
    used = uses(workspace)
    kept = {candidate.sha256 for candidate in candidates}
    replaced = []
    for item in before:
        if item.sha256 in kept:
            continue
        if item.id in used:
            reason = f"{item.id} stays as it is: {', '.join(used[item.id])} uses it"
            result.uncertain.append(
                {"source": document.source, "line": _lines(item.source)[0], "reason": reason}
            )
        else:
            replaced.append(item.id)
    return replaced


def _add_one(
    workspace: Workspace,
    connection: Connection,
    candidate: Candidate,
    known: dict[str, list[str]],
    replaced: list[str],
    result: Added,
) -> None:
    there = [id for id in known.get(candidate.sha256, []) if id not in replaced]
    if there:
        if there[0] not in result.unchanged:
            result.unchanged.append(there[0])
        return
    values = {
        "title": candidate.title,
        "source": candidate.source,
        **candidate.values,
        "words": count_words(candidate.body),
        "sha256": candidate.sha256,
    }
    item = write_item(
        workspace, candidate.kind, candidate.title, values, candidate.body, over=replaced
    )
    if item.id in replaced:
        replaced.remove(item.id)
    duplicates.add(connection, item)
    known.setdefault(candidate.sha256, []).append(item.id)
    result.added.append(item)
    found = duplicates.find(connection, workspace, item)
    result.duplicates += [each for each in found if each.of not in replaced]


def remove_content(workspace: Workspace, store: Store, id: str) -> dict[str, Any]:
    """Remove an item that no issue uses; returns what it was.

    Raises `NotFound` for an unknown id, `BadInput` for what is no id, `Conflict` for one in use.
    """
    path = item_path(workspace, id)
    if path is None:
        raise BadInput(f"{id!r} is not the id of an article or tip", hint="Write articles/NAME.")
    if not path.is_file():
        load_item(workspace, id)
        raise NotFound(f"there is no content {id!r}")
    used = uses(workspace).get(id, [])
    if used:
        raise Conflict(f"{id} is used in {', '.join(used)}", hint="Take it out there first.")
    with store.begin() as connection:
        _remove(workspace, connection, id)
    return {"removed": id, "path": workspace.relative(path)}


def _remove(workspace: Workspace, connection: Connection, id: str) -> None:
    path: Path | None = item_path(workspace, id)
    if path is not None:
        path.unlink(missing_ok=True)
    duplicates.forget(connection, id)
