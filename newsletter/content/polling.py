"""Polls the feeds of the settings when they are due. One feed's fault stops no other."""

from __future__ import annotations

from dataclasses import dataclass, field

from newsletter.clock import Clock
from newsletter.content import feeds
from newsletter.content.adding import Added, add_documents
from newsletter.content.reading import Rejected
from newsletter.errors import NewsletterError
from newsletter.fetching import Fetcher
from newsletter.store import Store
from newsletter.workspace import Workspace


@dataclass
class Polled:
    """What a round of polling brought: the feeds that were due, and what was added or refused."""

    urls: list[str] = field(default_factory=list)
    added: Added = field(default_factory=Added)


def poll_feeds(workspace: Workspace, store: Store, clock: Clock, fetcher: Fetcher) -> Polled:
    """Fetch each `[[feeds]]` whose time has come and add its new entries, each once.

    A feed that fails is in `added.rejected` and due again after its usual time.
    """
    polled = Polled()
    for feed in workspace.settings.feeds:
        now = clock.now()
        last = feeds.last_polled(store, feed.url)
        if last is not None and now - last < feed.every:
            continue
        polled.urls.append(feed.url)
        try:
            fetched = feeds.fetch(workspace, store, fetcher, feed.url, only_new=True)
            add_documents(workspace, store, fetched.documents, None, (), polled.added)
        except NewsletterError as error:
            feeds.remember_failure(store, feed.url, now, str(error))
            polled.added.rejected.append(Rejected(feed.url, str(error)))
            continue
        fetched.remember(store, now)
    return polled
