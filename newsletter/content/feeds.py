"""Addresses that are fetched again: conditional requests, and a feed's entries once each.

It owns the tables `feeds` and `feed_entries`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from newsletter.content import duplicates
from newsletter.content.reading import Document, Rejected, from_answer
from newsletter.fetching import Fetched, Fetcher
from newsletter.store import Store
from newsletter.store.schema import feed_entries, feeds
from newsletter.workspace import Workspace


@dataclass
class FetchedSource:
    """The documents at an address, and the ids of what it gave before and did not change.

    Once the documents are kept, `remember` is due: not before, or a crash would lose them.
    """

    url: str
    documents: list[Document | Rejected]
    unchanged: list[str] = field(default_factory=list)
    answer: Fetched | None = None

    def remember(self, store: Store, now: datetime) -> None:
        """Write down that the address was fetched, its validators, and its entries as taken."""
        entries = [each.source for each in self.documents if isinstance(each, Document)]
        broken = any(isinstance(each, Rejected) for each in self.documents)
        values: dict[str, object] = {"polled_at": now, "error": ""}
        if self.answer is not None and not broken:
            values |= {"etag": self.answer.etag, "last_modified": self.answer.last_modified}
        with store.begin() as connection:
            _write(connection, self.url, values)
            for entry in set(entries) - _seen(connection, self.url):
                connection.execute(
                    insert(feed_entries).values(url=self.url, entry=entry, seen_at=now)
                )


def fetch(
    workspace: Workspace, store: Store, fetcher: Fetcher, url: str, *, only_new: bool = False
) -> FetchedSource:
    """Fetch a page or feed, conditionally if all that it gave before is still there.

    `only_new` leaves out a feed's entries that were seen before, whatever became of them. Raises
    `BadInput` or `Unreachable`.
    """
    with store.begin() as connection:
        known = connection.execute(select(feeds).where(feeds.c.url == url)).first()
        seen = _seen(connection, url)
        if seen:
            duplicates.refresh(connection, workspace)
        there = duplicates.made_from(connection, workspace, seen)
    complete = seen <= {item.source_file for item in there}
    conditional = known is not None and bool(seen) and (only_new or complete)
    answer = fetcher.fetch(
        url,
        etag=known.etag if known is not None and conditional else "",
        last_modified=known.last_modified if known is not None and conditional else "",
    )
    if answer.status == 304:
        return FetchedSource(url, [], [item.id for item in there])
    documents = list(from_answer(url, answer))
    if only_new:
        documents = [
            each for each in documents if isinstance(each, Rejected) or each.source not in seen
        ]
    return FetchedSource(url, documents, answer=answer)


def _seen(connection: Connection, url: str) -> set[str]:
    return set(connection.scalars(select(feed_entries.c.entry).where(feed_entries.c.url == url)))


def remember_failure(store: Store, url: str, now: datetime, reason: str) -> None:
    """Write down that an address did not answer; it is due again after its usual time."""
    with store.begin() as connection:
        _write(connection, url, {"polled_at": now, "error": reason[:1000]})


def _write(connection: Connection, url: str, values: dict[str, object]) -> None:
    changed = connection.execute(update(feeds).where(feeds.c.url == url).values(**values))
    if not changed.rowcount:
        connection.execute(insert(feeds).values(url=url, **values))


def last_polled(store: Store, url: str) -> datetime | None:
    with store.read() as connection:
        moment: datetime | None = connection.scalar(
            select(feeds.c.polled_at).where(feeds.c.url == url)
        )
        return moment
