"""The topics that a reader can choose from: those of the editions and of the content."""

from __future__ import annotations

import logging
from collections import Counter

from newsletter.content import load_items
from newsletter.errors import NewsletterError
from newsletter.workspace import Workspace

_log = logging.getLogger(__name__)
_MOST = 12


class Topics:
    """Reads the content again once files came to its folders or left them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._read_at: tuple[int, ...] | None = None
        self._offered: tuple[str, ...] = ()

    def offered(self) -> tuple[str, ...]:
        """The editions' topics, then the content's, the most used first; 12 at most."""
        folders = (self._workspace.content / "articles", self._workspace.content / "tips")
        changed = tuple(folder.stat().st_mtime_ns if folder.is_dir() else 0 for folder in folders)
        if changed != self._read_at:
            self._offered, self._read_at = self._collect(), changed
        return self._offered

    def _collect(self) -> tuple[str, ...]:
        editions = self._workspace.settings.editions
        wanted = [topic.lower() for edition in editions for topic in edition.topics]
        try:
            items = load_items(self._workspace)
        except NewsletterError as error:  # an editor's slip must not close the sign-up page
            _log.warning("the topics of the content cannot be read: %s", error)
            items = []
        counts = Counter(topic.lower() for item in items for topic in item.topics)
        used = sorted(counts, key=lambda topic: (-counts[topic], topic))
        return tuple(dict.fromkeys((*wanted, *used)))[:_MOST]
