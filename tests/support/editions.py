"""A workspace with content, people and an edition, whose clock and provider a test moves."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from newsletter.providers.base import Capabilities
from newsletter.scheduling import edition_states, editions_tick
from newsletter.service import Runtime, tick
from newsletter.settings import ProviderSettings
from newsletter.store import Store
from newsletter.store.schema import edition_items, editions, outbox, sends
from newsletter.workspace import Workspace
from support.ledger import RecordingProvider, add_people

WEEKLY = """
[[editions]]
name = "weekly"
cron = "0 9 * * thu"
excerpts = 2
tips = 0
"""

_WORDS = """
almond balm cedar dew ember fern ginger hazel iris jasmine kelp lotus mint neem oat peony quince
rose sage thyme umber violet willow yarrow zinc aloe birch clay dune elder
""".split()  # noqa: SIM905


def add_articles(workspace: Workspace, count: int, *, first: int = 1, topic: str = "") -> None:
    """Articles that share hardly a phrase, the later ones published later."""
    for number in range(first, first + count):
        one, two = _WORDS[number % 30], _WORDS[number // 30 % 30]
        text = " ".join(
            f"The {one} of {two} number {number} softens skin {_WORDS[(number * 7 + step) % 30]}."
            for step in range(4)
        )
        topics = f"topics: [{topic}]\n" if topic else ""
        published = datetime(2025, 1, 1) + timedelta(days=number)  # noqa: DTZ001
        (workspace.content / "articles" / f"a{number:03}.md").write_text(
            f'---\ntitle: "About {one} and {two}, part {number}"\nsource: notes.txt\n'
            f"published: {published:%Y-%m-%d}\n{topics}---\n{text}\n",
            encoding="utf-8",
        )


@dataclass
class Newsroom:
    workspace: Workspace
    store: Store
    clock: Any
    provider: RecordingProvider = field(init=False)

    def __post_init__(self) -> None:
        self.provider = RecordingProvider(
            settings=ProviderSettings(name="main", kind="mailbox"),
            capabilities=Capabilities(
                batch_size=500,
                max_bytes=50_000_000,
                idempotency=timedelta(days=1),
                lookup=True,
                lookup_lag=timedelta(seconds=2),
            ),
            clock=self.clock,
        )
        add_people(self.store, 2)

    def at(self, moment: str) -> None:
        self.clock.moment = datetime.fromisoformat(moment)

    def keep_editions(self) -> None:
        """What the clock does for the editions alone."""
        editions_tick(self.workspace, self.store, self.clock)

    def runtime(self, **changes: Any) -> Runtime:
        """A service of its own, as after a restart: whoever led before is gone."""
        changes.setdefault("gone", lambda _holder: True)
        opener = changes.pop("open_provider", lambda _workspace, _clock, _name: self.provider)
        return Runtime(self.workspace, self.store, self.clock, open_provider=opener, **changes)

    def tick(self) -> None:
        """One whole round of a service that was just started."""
        asyncio.run(tick(self.runtime()))

    @property
    def state(self) -> tuple[str, str]:
        shown = edition_states(self.workspace, self.store, self.clock)[0]
        return shown["state"], shown["reason"]

    @property
    def notices(self) -> list[str]:
        """Subjects of what the editors were told, in order."""
        query = select(outbox.c.subject).where(outbox.c.kind == "notice").order_by(outbox.c.id)
        with self.store.read() as connection:
            return list(connection.scalars(query))

    def rows(self, table: Any = editions) -> list[Any]:
        with self.store.read() as connection:
            return list(connection.execute(select(table)))

    @property
    def sent(self) -> list[tuple[str, datetime]]:
        """Issues that went out with the hour they were for, in order."""
        query = select(sends.c.issue, sends.c.at).where(sends.c.state == "sent")
        with self.store.read() as connection:
            return [tuple(row) for row in connection.execute(query.order_by(sends.c.at))]

    def used(self) -> Counter[str]:
        return Counter(row.content for row in self.rows(edition_items))
