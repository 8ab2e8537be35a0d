"""A year of weekly editions under a simulated clock: both changes of clocks, restarts, two
schedulers at once and hours that were missed. Each date once, no item twice, the local hour right.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from newsletter.scheduling import approve
from newsletter.service import tick
from newsletter.store import Store, open_store
from newsletter.store.schema import editions, send_sources, sends
from newsletter.workspace import Workspace
from support.editions import Newsroom, add_articles

LONDON = ZoneInfo("Europe/London")
REPEAT_AFTER = timedelta(days=120)

# Sunday at half past one: an hour that does not exist on 29 March and comes twice on 25 October.
EDITION = """
[[editions]]
name = "weekly"
cron = "30 1 * * sun"
draft_before = "1d"
excerpts = 2
tips = 0
repeat_after = "120d"
"""


class Year:
    """Drives the clock from one interesting moment to the next, in processes that come and go."""

    def __init__(self, room: Newsroom, seed: int) -> None:
        self.room = room
        self.rng = random.Random(seed)
        self.away: set[datetime] = set()
        url, root = room.workspace.settings.database.url, room.workspace.root
        self.other = open_store(url, root)

    def hours(self) -> list[datetime]:
        """The hour of every week in UTC, by the stated rule, reckoned here in another way."""
        found = []
        day = datetime(2026, 1, 4, 1, 30, tzinfo=LONDON)
        while day.year == 2026:
            # fold=0: the first of two; in the gap the wall clock jumps to what comes after it
            moment = day.astimezone(UTC)
            if moment.astimezone(LONDON).replace(tzinfo=None) != day.replace(tzinfo=None):
                moment = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
            found.append(moment)
            day += timedelta(days=7)
        return found

    def round(self) -> None:
        """A restart in every round; now and then two services at once, each with its connection."""
        room = self.room
        if self.rng.random() < 0.2:
            second = room.runtime(gone=lambda _holder: False)
            second.store = self.other

            async def both() -> None:
                await asyncio.gather(tick(room.runtime()), tick(second))

            asyncio.run(both())
        else:
            room.tick()

    def live(self) -> None:
        for hour in self.hours():
            draft = hour - timedelta(days=1)
            missed = self.rng.random()
            early = self.rng.choice([timedelta(minutes=-1), timedelta(0)])
            for moment in (draft + early, draft + timedelta(hours=self.rng.randrange(1, 20))):
                self.room.clock.moment = moment
                self.round()
            row = next(row for row in self.room.rows() if row.send_at == hour)
            approve(self.room.workspace, self.room.store, self.room.clock, row.issue, "Ed")
            if missed < 0.1:
                self.away.add(hour)
                late = timedelta(hours=self.rng.randrange(7, 40))  # beyond the grace
            else:
                late = timedelta(seconds=self.rng.choice([0, 1, 30, 3600, 5 * 3600]))
            self.room.clock.moment = hour + late
            self.round()


@pytest.mark.slow
def test_a_year_of_weekly_editions(
    make_workspace: Callable[..., Workspace],
    sqlite_store: Store,
    clock: Any,
) -> None:
    workspace = make_workspace(EDITION)
    add_articles(workspace, 40)
    clock.moment = datetime(2026, 1, 1, tzinfo=UTC)
    year = Year(Newsroom(workspace, sqlite_store, clock), seed=2)
    year.live()
    year.other.close()
    room, hours = year.room, year.hours()

    went_out = [hour for hour in hours if hour not in year.away]
    assert len(hours) == 52
    assert year.away, "the year had missed hours"
    assert [at for _, at in room.sent] == went_out, "each date once, and none of those missed"
    with room.store.read() as connection:
        states = {row.send_at: row.state for row in connection.execute(select(editions))}
    assert {at for at, state in states.items() if state == "skipped"} == year.away

    copies = len(went_out)
    people = {who: count for who, count in room.provider.received.items() if "reader" in who}
    assert people == {"reader1@example.com": copies, "reader2@example.com": copies}
    notices = Counter(room.notices)
    assert set(notices.values()) == {1}, "every cause is told once"
    assert len(notices) == 52 + len(year.away)

    used: dict[str, list[datetime]] = defaultdict(list)
    query = select(send_sources.c.content, sends.c.at).join(
        sends, sends.c.id == send_sources.c.send_id
    )
    with room.store.read() as connection:
        for content, at in connection.execute(query.order_by(sends.c.at)):
            used[content].append(at)
    repeated = [times for times in used.values() if len(times) > 1]
    assert repeated, "content comes again in a year"
    for times in repeated:
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert min(gaps) >= REPEAT_AFTER

    local = {at.astimezone(LONDON).strftime("%H:%M") for _, at in room.sent}
    assert local <= {"01:30", "02:00"}
