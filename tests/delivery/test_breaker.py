"""The breaker: a provider that keeps failing is left alone, tried with one batch, used again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise

import pytest
from sqlalchemy import select

from newsletter.delivery import breaker, resume, run_due
from newsletter.delivery.start import start_send
from newsletter.providers.base import Answered, Deferred, Denied, Rejected, Unknown
from newsletter.store.schema import attempts, breakers, outbox
from newsletter.workspace import Workspace
from support.ledger import NOON, everybody, lost_before, make_compiled, make_world, schedule_send

DOWN = Deferred("no connection")


def down(_provider, _prepared):
    return DOWN


@pytest.fixture
def world(workspace, store, clock):
    return partial(make_world, workspace, store, clock)


@pytest.fixture
def on_sqlite(workspace, sqlite_store, clock):
    return partial(make_world, workspace, sqlite_store, clock)


def subjects(here):
    with here.store.read() as connection:
        return list(connection.execute(select(outbox.c.subject).order_by(outbox.c.id)).scalars())


def row_of(here, provider="main"):
    with here.store.read() as connection:
        query = select(breakers).where(breakers.c.provider == provider)
        return connection.execute(query).one_or_none()


def note(here, *outcomes, at=None):
    """Write down what requests led to, outside a run."""
    runtime = here.runtime()
    with here.store.begin() as connection:
        for outcome in outcomes:
            breaker.note(connection, runtime, "main", outcome, at or here.clock.now())


def claim(here):
    with here.store.begin() as connection:
        return breaker.claim_probe(connection, here.runtime(), "main", here.clock.now())


def test_failures_in_a_row_open_it_one_batch_tries_and_success_closes_it(world):
    here = world(people=40, settings={"in_flight": 1})
    here.provider.faults = [down] * 7
    asked_at = []
    here.provider.during = lambda _prepared: asked_at.append(here.clock.now())
    here.run()
    assert here.provider.received == everybody(40)
    assert here.status()["state"] == "sent"
    assert here.verify() == []
    pauses = [later - earlier for earlier, later in pairwise(asked_at)]
    assert all(pause < timedelta(seconds=10) for pause in pauses[:4] + pauses[7:])
    for number, pause in enumerate(pauses[4:7]):
        full = timedelta(seconds=30) * 2**number
        assert full / 2 <= pause <= full + timedelta(seconds=2), number
    assert subjects(here) == ["The provider main keeps failing", "The provider main works again"]
    assert (row_of(here).state, row_of(here).failures) == ("closed", 0)


def test_each_try_that_fails_doubles_the_pause_up_to_ten_minutes(on_sqlite):
    here = on_sqlite(people=4)
    here.policy = replace(here.policy, hold_after=timedelta(hours=3), poll=timedelta(minutes=10))
    here.provider.faults = [down] * 15
    asked_at = []
    here.provider.during = lambda _prepared: asked_at.append(here.clock.now())
    here.run()
    pauses = [later - earlier for earlier, later in pairwise(asked_at)][4:]
    for number, pause in enumerate(pauses):
        full = min(timedelta(seconds=30) * 2**number, timedelta(minutes=10))
        assert full / 2 <= pause <= full + timedelta(seconds=2), number
    assert here.status()["state"] == "sent"


@pytest.mark.parametrize(
    "outcome",
    [
        Deferred("throttled", timedelta(seconds=1)),
        Denied("401"),
        Answered((Rejected("inactive"), Rejected("inactive"))),
    ],
    ids=["throttled", "denied", "refused recipients"],
)
def test_throttling_and_refusals_are_no_failures(world, outcome):
    here = world(people=1, schedule=False)
    note(here, *[outcome] * 20)
    with here.store.read() as connection:
        assert not breaker.is_open(connection, "main")


def test_an_answer_in_between_starts_the_count_anew(world):
    here = world(people=1, schedule=False)
    note(here, *[DOWN] * 4, Answered(()), *[Unknown("502")] * 4)
    assert row_of(here).state == "closed"
    note(here, Unknown("502"))
    assert row_of(here).state == "open"
    assert row_of(here).reason == "502"


def test_of_many_workers_one_tries_an_open_provider(world):
    here = world(people=1, schedule=False)
    note(here, *[DOWN] * 5)
    assert not claim(here), "not before its pause is over"
    here.clock.advance(seconds=31)
    assert sum(claim(here) is not None for _ in range(10)) == 1
    here.clock.advance(minutes=2, seconds=1)
    assert claim(here), "who had claimed it has vanished"


@pytest.mark.parametrize(
    ("pause", "put_back", "tries"),
    [(timedelta(seconds=30), timedelta(hours=1), 1), (timedelta(hours=1), timedelta(0), 0)],
    ids=["the clock is put back", "a long pause"],
)
def test_a_pause_follows_each_try_that_fails(world, pause, put_back, tries):
    here = world(people=1, schedule=False)
    settings = here.workspace.settings
    delivery = settings.delivery.model_copy(update={"breaker_pause": pause})
    here.workspace = Workspace(
        here.workspace.root, settings.model_copy(update={"delivery": delivery})
    )
    note(here, *[DOWN] * 5)
    here.clock.moment -= put_back
    found = 0
    for _ in range(20):
        here.clock.advance(seconds=0.1)
        claimed = claim(here)
        if claimed:
            found += 1
            note(here, DOWN)
            with here.store.begin() as connection:
                breaker.give_up_probe(connection, "main", claimed)
    assert found == tries


def test_a_request_from_before_it_opened_does_not_count_as_the_one_that_tries(world):
    here = world(people=1, schedule=False)
    before = here.clock.now()
    note(here, *[DOWN] * 5)
    here.clock.advance(seconds=31)
    assert claim(here)
    note(here, Unknown("a read time-out"), at=before)
    assert row_of(here).openings == 1
    note(here, Unknown("a read time-out"), at=here.clock.now())
    assert row_of(here).openings == 2
    assert row_of(here).probe_until is None


def test_workers_share_it_and_only_one_batch_goes_while_it_is_tried(world):
    here = world(people=40, settings={"in_flight": 4})
    note(here, *[DOWN] * 5)
    runtimes = [here.runtime(holder=f"/{number}//") for number in range(3)]
    start_send(runtimes[0], 1, lambda _name: here.provider)
    in_flight, most = 0, []
    accept = here.provider.send

    async def slow(prepared):
        nonlocal in_flight
        in_flight += 1
        shut = row_of(here).state == "open"
        most.append((shut, in_flight))
        for _ in range(4):
            await asyncio.sleep(0)
        try:
            return await accept(prepared)
        finally:
            in_flight -= 1

    here.provider.send = slow

    async def go():
        await asyncio.gather(*(run_due(runtime) for runtime in runtimes))

    asyncio.run(go())
    assert here.provider.received == everybody(40)
    assert max(number for shut, number in most if shut) == 1
    assert max(number for shut, number in most if not shut) > 1
    assert here.verify() == []


def test_doubts_are_settled_while_it_is_open(on_sqlite):
    here = on_sqlite(people=4, lookup=True, idempotency=None)
    here.provider.faults = [lost_before]
    here.run_until = None
    note(here, *[DOWN] * 4)
    here.run()
    with here.store.read() as connection:
        states = list(
            connection.execute(select(attempts.c.state).order_by(attempts.c.number)).scalars()
        )
    assert states == ["settled", "answered"]
    assert here.provider.received == everybody(4)


def test_a_send_whose_provider_stays_open_is_held_and_resume_tries_it_at_once(on_sqlite):
    here = on_sqlite(people=12, settings={"in_flight": 2})
    here.policy = replace(here.policy, poll=timedelta(seconds=20))
    schedule_send(here.store, make_compiled("next"))
    here.provider.faults = [down] * 1000
    report = here.run()
    assert sorted(report.held) == ["milia.1", "next.1"]
    told = here.status()
    assert told["state"] == "held"
    assert "main has taken nothing since 12:00 UTC: no connection" in told["reason"]
    held_after = here.clock.now() - NOON
    assert timedelta(minutes=30) <= held_after <= timedelta(minutes=32)
    assert subjects(here) == [
        "The provider main keeps failing",
        "The send milia.1 is held",
        "The send next.1 is held",
    ]
    here.provider.faults = []
    resumed_at = here.clock.now()
    with here.store.begin() as connection:
        resume(connection, "milia.1", here.clock.now())
    here.run()
    assert here.provider.received == everybody(12)
    assert here.clock.now() - resumed_at < timedelta(minutes=1)
    assert subjects(here)[-1] == "The provider main works again"


def test_a_later_send_tries_a_provider_that_was_left_open_long_ago(world):
    here = world(people=4, schedule=False)
    note(here, *[DOWN] * 5)
    here.clock.advance(days=1)
    schedule_send(here.store, at=here.clock.now())
    here.run()
    assert here.provider.received == everybody(4)
    assert row_of(here).state == "closed"


def test_a_provider_that_flaps_is_told_of_once_an_hour(on_sqlite):
    here = on_sqlite(people=1, schedule=False)
    for _ in range(4):
        note(here, *[DOWN] * 5)
        here.clock.advance(minutes=1)
        note(here, Answered(()))
        here.clock.advance(minutes=10)
    assert subjects(here) == ["The provider main keeps failing", "The provider main works again"]
    here.clock.advance(hours=2)
    note(here, *[DOWN] * 5)
    assert len(subjects(here)) == 3
