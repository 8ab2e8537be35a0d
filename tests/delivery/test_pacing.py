"""Rates, domains' rates, daily quotas, warm-up and sending hours, over days of virtual time."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert, select

from newsletter.delivery import Policy, pacing, run_due, status
from newsletter.delivery.pacing.rate import free_times
from newsletter.providers.base import Deferred, Prepared
from newsletter.settings import ProviderSettings
from newsletter.store import Store
from newsletter.store.schema import quotas, subscribers
from newsletter.workspace import Workspace
from support.ledger import NOON, World, lost_before, make_world, schedule_send
from support.site import SETTINGS
from support.virtual import VirtualClock

LONDON = ZoneInfo("Europe/London")


@dataclass
class Log:
    """When each request came, and for whom."""

    clock: VirtualClock
    requests: list[tuple[datetime, tuple[str, ...]]] = field(default_factory=list)

    def __call__(self, prepared: Prepared) -> None:
        self.requests.append((self.clock.now(), prepared.recipients))

    def by_day(self) -> dict[str, int]:
        """Recipients by day in London."""
        found: Counter[str] = Counter()
        for at, people in self.requests:
            found[f"{at.astimezone(LONDON):%m-%d}"] += len(people)
        return dict(found)


@dataclass
class Paced:
    """A world whose settings pace it, driven by a virtual clock."""

    world: World
    clock: VirtualClock
    log: Log

    def run(self, workers: int = 1, **changes: Any) -> None:
        values: dict[str, Any] = {"policy": Policy(poll=timedelta(hours=8)), **changes}

        async def go() -> None:
            runs = [
                run_due(self.world.runtime(rng=random.Random(seed), **values))
                for seed in range(workers)
            ]
            await asyncio.gather(*runs)

        self.clock.run(go())

    def status(self) -> dict[str, Any]:
        with self.world.store.read() as connection:
            return status(connection, self.world.workspace, "milia.1", self.clock.now())


Maker = Callable[..., Paced]


def maker(make_workspace: Callable[..., Workspace], store: Store) -> Maker:
    def make(
        provider: str = "", delivery: str = "", people: int = 20, at: datetime = NOON, **more: Any
    ) -> Paced:
        extra = f"{provider}\n[delivery]\n{delivery}\n"
        workspace = make_workspace(extra, settings=SETTINGS)
        clock = VirtualClock(at)
        world = make_world(workspace, store, clock, people, schedule=False, **more)
        clock.moment = at
        schedule_send(store, at=at)
        world.provider.settings = workspace.settings.providers[0]
        log = Log(clock)
        world.provider.during = log
        return Paced(world, clock, log)

    return make


@pytest.fixture
def paced(make_workspace: Callable[..., Workspace], store: Store) -> Maker:
    """Makes a paced world, on either database."""
    return maker(make_workspace, store)


@pytest.fixture
def paced_here(make_workspace: Callable[..., Workspace], sqlite_store: Store) -> Maker:
    """Makes one on SQLite, for what does not depend on the database."""
    return maker(make_workspace, sqlite_store)


def seconds(here: Paced) -> list[float]:
    return [(at - NOON).total_seconds() for at, _ in here.log.requests]


# --- one rate for the account -----------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_all_workers_together_keep_the_providers_rate(paced, workers):
    here = paced('rate = "10/s"', people=60)
    here.run(workers)
    sent = 0
    for at, people in here.log.requests:
        passed = (at - NOON).total_seconds()
        assert sent <= 10 * passed + 1e-3, f"{sent + len(people)} recipients after {passed} s"
        sent += len(people)
    assert sent == 60
    # 14 batches of 4 wait for the one before them: nothing of the rate is wasted either.
    assert seconds(here)[-1] == pytest.approx(5.6, abs=0.5)
    assert here.world.verify() == []


def test_a_burst_after_a_pause_is_one_batch(paced_here):
    here = paced_here('rate = "1/s"', people=8)
    here.clock.advance(hours=1)
    here.run()
    first, second = (at for at, _ in here.log.requests)
    assert second - first >= timedelta(seconds=4)


def test_a_lease_that_is_rolled_back_costs_nothing_and_a_grant_is_given_once(store):
    entry = ProviderSettings(name="main", kind="mailbox", rate="10/s")
    for _ in range(2):
        with store.engine.connect() as connection:  # of a worker that is killed before its commit
            assert pacing.grant(connection, entry, "", 5, NOON)
    with store.begin() as connection:
        assert pacing.grant(connection, entry, "", 5, NOON)
        assert not pacing.grant(connection, entry, "", 5, NOON + timedelta(seconds=0.4))
        assert free_times(connection, entry) == {"": NOON + timedelta(seconds=0.5)}
        assert pacing.grant(connection, entry, "", 5, NOON + timedelta(seconds=0.5))


def test_of_workers_that_ask_at_one_moment_one_gets_the_grant(store):
    entry = ProviderSettings(name="main", kind="mailbox", rate="10/s")
    ready = threading.Barrier(4)

    def ask(now: datetime) -> bool:
        ready.wait(30)
        with store.begin() as connection:
            return pacing.grant(connection, entry, "", 5, now)

    for second in range(3):  # the first of them makes the row
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask, [NOON + timedelta(seconds=second)] * 4))
        assert sorted(answers) == [False, False, False, True]


@pytest.mark.parametrize("jump", [timedelta(hours=-3), timedelta(hours=3)])
def test_a_clock_that_jumps_does_not_stall_a_paced_send(paced_here, jump):
    here = paced_here('rate = "10/s"', people=40)

    def during(prepared):
        here.log(prepared)
        if len(here.log.requests) == 3:
            here.clock.moment += jump

    here.world.provider.during = during
    here.run(policy=Policy())
    assert here.world.counts() == {"total": 40, "accepted": 40}
    assert here.clock.elapsed < 30


# --- rates of domains -------------------------------------------------------------------------


def add_readers(store: Store, domains: dict[str, int]) -> None:
    rows = [
        {
            "email": f"Reader{number}@{domain}",
            "email_key": f"reader{number}@{domain}",
            "first_name": "Ada",
            "state": "active",
            "created_at": NOON,
            "updated_at": NOON,
        }
        for domain, count in domains.items()
        for number in range(count)
    ]
    with store.begin() as connection:
        connection.execute(insert(subscribers), rows)


def test_a_slow_domain_keeps_nobody_else_waiting(paced):
    rates = 'domain_rates = { "gmail.com" = "2/s", "outlook.com hotmail.com" = "4/s" }'
    here = paced(rates, people=30)
    add_readers(here.world.store, {"gmail.com": 12, "Outlook.com": 6, "hotmail.com": 6})
    here.run()
    times: dict[str, list[float]] = {}
    for at, people in here.log.requests:
        pools = {_pool(address) for address in people}
        assert len(pools) == 1, f"a batch holds {pools}"
        times.setdefault(pools.pop(), []).append((at - NOON).total_seconds())
    assert max(times["others"]) < 1
    assert times["gmail"] == pytest.approx([0, 2, 4], abs=0.2)
    assert times["microsoft"] == pytest.approx([0, 1, 2], abs=0.2)
    assert here.world.verify() == []
    assert here.status()["state"] == "sent"


def _pool(address: str) -> str:
    domain = address.rpartition("@")[2].lower()
    pools = {"gmail.com": "gmail", "outlook.com": "microsoft", "hotmail.com": "microsoft"}
    return pools.get(domain, "others")


# --- quotas and warm-up -----------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_warm_up_spreads_a_send_over_days(paced, workers):
    plan = "warm_up = [5, 10]\nwarm_up_from = 2026-11-25\ndaily_quota = 12"
    here = paced(plan, people=40)
    here.run(workers)
    # Nothing before the plan begins; a batch of 4 is cut to what the day has left.
    assert here.log.by_day() == {"11-25": 5, "11-26": 10, "11-27": 12, "11-28": 12, "11-29": 1}
    first = here.log.requests[0][0].astimezone(LONDON)
    assert (first.hour, first.minute) == (0, 0)
    assert here.world.received_once(40)
    assert here.world.verify() == []
    assert here.clock.sleeps < 200, "it spins"


def test_a_day_is_counted_through_restarts(paced):
    here = paced("daily_quota = 10", people=15)
    stop = asyncio.Event()

    def during(prepared):
        here.log(prepared)
        stop.set()

    here.world.provider.during = during
    here.run(stop=stop)
    assert 0 < here.log.by_day()["11-24"] < 10
    here.world.provider.during = here.log
    here.run()
    assert here.log.by_day() == {"11-24": 10, "11-25": 5}


def test_what_was_surely_not_accepted_does_not_count(paced):
    here = paced("daily_quota = 10", people=14)
    provider = here.world.provider
    provider.refuse = {"reader1@example.com", "reader2@example.com"}
    provider.put_off["reader5@example.com"] = 1
    provider.faults = [lambda *_: Deferred("busy"), None, lost_before]
    here.run()
    accepted = Counter(here_day for here_day in _accepted_days(here))
    assert accepted == {"11-24": 10, "11-25": 2}
    with here.world.store.read() as connection:
        used = dict(connection.execute(select(quotas.c.day, quotas.c.used)).all())
    assert used == {"2026-11-24": 10, "2026-11-25": 2}
    assert here.world.verify() == []


def _accepted_days(here: Paced) -> list[str]:
    kept = Counter(key for key, _ in here.world.provider.kept)
    days = []
    for (at, _), prepared in zip(here.log.requests, here.world.provider.requests, strict=True):
        days += [f"{at.astimezone(LONDON):%m-%d}"] * kept.pop(prepared.key, 0)
    return days


def test_status_tells_what_a_send_waits_for(paced_here):
    here = paced_here("daily_quota = 6", 'windows = ["08:00-20:00"]', people=10)
    here.run(policy=Policy(patience=timedelta(minutes=1)))
    told = here.status()
    assert told["state"] == "sending"
    # The next day begins outside of the hours in which issues leave.
    assert told["reason"] == "today's quota of 6 is used up; goes on 2026-11-25 08:00"
    here.clock.advance(hours=12)
    assert here.status()["reason"].endswith("the window opens at 2026-11-25 08:00")
    assert here.log.by_day() == {"11-24": 6}
    here.run()
    assert here.log.by_day() == {"11-24": 6, "11-25": 4}
    assert here.status()["reason"] == ""


def test_no_end_is_told_before_the_quota_allows_it(paced_here):
    plan = "in_flight = 1\nwarm_up = [8, 9]\nwarm_up_from = 2026-11-24\ndaily_quota = 10"
    here = paced_here(plan, 'windows = ["08:00-20:00"]', people=30)
    stop = asyncio.Event()
    provider = here.world.provider
    provider.during = lambda _p: len(provider.requests) == 2 and stop.set()
    here.run(stop=stop)
    here.clock.advance(seconds=1)
    told = here.status()
    # Eight have it today: of 22 nine go tomorrow, ten and three on the days after.
    assert (told["counts"]["accepted"], told["counts"]["pending"], told["rate"]) == (8, 22, 8.0)
    assert told["eta"] == "2026-11-27T08:00:00Z"


# --- sending hours ----------------------------------------------------------------------------

FRIDAY_EVENING = datetime(2027, 3, 26, 19, 59, 57, tzinfo=UTC)  # clocks go forward on Sunday


def test_outside_its_hours_nothing_new_leaves_and_doubts_are_settled(paced_here):
    here = paced_here(
        'rate = "1/s"', 'windows = ["mon-fri 08:00-20:00"]', 5, at=FRIDAY_EVENING, batch_size=1
    )
    here.world.provider.faults = [None, lost_before]
    here.run()
    evening = [at for at, _ in here.log.requests if at.date() == FRIDAY_EVENING.date()]
    monday = [at for at, _ in here.log.requests if at.date() != FRIDAY_EVENING.date()]
    assert evening[-1] < datetime(2027, 3, 26, 20, 0, tzinfo=UTC)
    assert monday[0] == datetime(2027, 3, 29, 7, 0, tzinfo=UTC)  # 08:00 in summer time
    assert len(evening) == 3
    assert [at.date() for at in here.world.provider.lookups] == [FRIDAY_EVENING.date()] * len(
        here.world.provider.lookups
    )
    assert here.world.provider.lookups
    assert here.world.received_once(5)
    assert here.clock.sleeps < 200, "it spins"


def test_a_night_outside_its_hours_is_no_failure_of_the_provider(paced_here):
    evening = NOON.replace(hour=19, minute=59, second=50)
    here = paced_here(delivery='windows = ["08:00-20:00"]', people=4, at=evening)
    here.world.provider.faults = [lambda *_: Deferred("busy")] * 8
    here.run()
    assert len(here.log.requests) == 9
    assert here.status()["state"] == "sent"


def test_a_run_until_idle_does_not_wait_for_tomorrow(paced_here):
    here = paced_here(delivery='windows = ["08:00-20:00"]', people=4, at=NOON.replace(hour=21))
    here.run(policy=Policy(patience=timedelta(minutes=1)))
    assert here.clock.elapsed < 60
    assert here.log.requests == []
    here.clock.advance(hours=10, minutes=59, seconds=30)
    here.run(policy=Policy(patience=timedelta(minutes=1)))
    assert here.status()["state"] == "sent"
