"""Unknown outcomes: settled by a key, by a look-up after its lag, by an event, or by a person."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import select, update

from newsletter.delivery import apply_event, cancel, leases, pause, resolve, resume, run_due
from newsletter.delivery.attempts import load_attempt, record_answer
from newsletter.delivery.start import start_send
from newsletter.errors import Conflict
from newsletter.providers.base import (
    Accepted,
    Answered,
    Deferred,
    Denied,
    Event,
    EventType,
    Unknown,
)
from newsletter.store.schema import attempts, batches, deliveries, outbox, sends, subscribers
from support.ledger import (
    everybody,
    lost_after,
    lost_before,
    make_compiled,
    make_world,
    schedule_send,
)

KEYS = {"idempotency": timedelta(hours=24), "lookup": False}
LOOKUP = {"idempotency": None, "lookup": True}
BOTH = {"idempotency": timedelta(hours=24), "lookup": True}
NEITHER = {"idempotency": None, "lookup": False}


@pytest.fixture
def world(workspace, store, clock):
    return partial(make_world, workspace, store, clock)


def states_of_attempts(here):
    with here.store.read() as connection:
        query = select(attempts.c.state).order_by(attempts.c.batch, attempts.c.number)
        return list(connection.execute(query).scalars())


@pytest.mark.slow
@pytest.mark.parametrize("means", [KEYS, LOOKUP, BOTH], ids=["keys", "lookup", "both"])
@pytest.mark.parametrize("fault", [lost_before, lost_after])
def test_a_lost_answer_is_settled_and_nobody_gets_it_twice(world, means, fault):
    here = world(people=8, **means)
    here.provider.faults = [fault, None, fault, fault]
    here.run()
    assert here.provider.received == everybody(8)
    assert here.status()["state"] == "sent"
    assert here.counts() == {"total": 8, "accepted": 8}
    assert here.verify() == []


def test_a_repeat_has_the_same_key_and_the_same_bytes(world):
    here = world(people=4, **KEYS)
    here.provider.faults = [lost_after, lost_before]
    here.run()
    assert len({(p.key, p.body) for p in here.provider.requests}) == 1
    assert len(here.provider.requests) == 3


def test_an_empty_look_up_within_the_lag_proves_nothing(world):
    here = world(people=4, **LOOKUP)
    here.provider.faults = [lost_after]
    here.run()
    assert here.provider.received == everybody(4)
    assert len(here.provider.requests) == 1
    assert here.provider.lookups, "it was asked"


def test_only_after_the_lag_an_attempt_counts_as_not_accepted_and_a_new_one_is_made(world):
    here = world(people=4, **LOOKUP)
    asked_at = []
    here.provider.during = lambda _prepared: asked_at.append(here.clock.now())
    here.provider.faults = [lost_before]
    here.run()
    assert asked_at[1] - asked_at[0] >= timedelta(minutes=2)
    assert len({prepared.key for prepared in here.provider.requests}) == 2
    assert states_of_attempts(here) == ["settled", "answered"]


def test_a_part_that_a_look_up_finds_is_accepted_and_only_the_rest_is_sent_again(world):
    here = world(people=4, **LOOKUP)

    def half(provider, prepared):
        provider.accept(prepared)
        provider.kept[:] = [kept for kept in provider.kept if kept[1] < "reader3"]
        return Unknown("a read time-out")

    here.provider.faults = [half]
    here.run()
    assert here.provider.received == everybody(4)
    assert here.provider.requests[1].recipients == ("reader3@example.com", "reader4@example.com")
    assert here.verify() == []


@pytest.mark.slow
def test_a_look_up_may_spell_a_domain_in_its_other_form(world):
    here = world(1)
    with here.store.begin() as connection:
        connection.execute(update(subscribers).values(email="rosa@bücher.example"))
    here.provider.faults = [lost_after]
    find = here.provider.find

    async def spelt_otherwise(key, *, since):
        found = await find(key, since=since)
        messages = {
            address.replace("bücher", "xn--bcher-kva"): message
            for address, message in found.messages.items()
        }
        return replace(found, messages=messages)

    here.provider.find = spelt_otherwise
    here.run()
    assert here.provider.received == {"rosa@bücher.example": 1}
    assert here.counts() == {"total": 1, "accepted": 1}


def test_look_ups_that_fail_prove_nothing_and_are_made_again(world):
    here = world(people=4, **LOOKUP)
    here.provider.faults = [lost_after]
    here.provider.failing_lookups = 9
    here.run()
    assert here.provider.received == everybody(4)
    assert here.status()["state"] == "sent"
    assert len(here.provider.requests) == 1


@pytest.mark.slow
def test_look_ups_that_never_work_end_in_a_held_send_and_resume_asks_again(world):
    here = world(people=8, **LOOKUP)
    here.provider.faults = [lost_after]
    here.provider.failing_lookups = 10**6
    assert here.run().held == ["milia.1"]
    told = here.status()
    assert told["state"] == "held"
    assert "4 deliveries are in doubt" in told["reason"]
    assert here.counts() == {"total": 8, "accepted": 4, "in_doubt": 4}
    assert here.verify() == []
    with here.store.read() as connection:
        subjects = list(connection.execute(select(outbox.c.subject)).scalars())
    assert "The send milia.1 is held" in subjects
    here.provider.failing_lookups = 0
    with here.store.begin() as connection:
        resume(connection, "milia.1", here.clock.now())
    here.run()
    assert here.provider.received == everybody(8)
    assert here.status()["state"] == "sent"


@pytest.mark.parametrize(
    "outcome",
    [Deferred("429", timedelta(seconds=3)), Denied("401"), Unknown("HTML")],
    ids=["throttled", "denied", "unknown"],
)
def test_a_refused_repeat_says_nothing_of_the_first_request(world, outcome):
    here = world(people=4, **KEYS)
    here.provider.faults = [lost_after, lambda *_: outcome]
    here.run()
    if isinstance(outcome, Denied):
        assert here.status()["state"] == "held"
        assert here.counts() == {"total": 4, "in_doubt": 4}
        with here.store.begin() as connection:
            resume(connection, "milia.1", here.clock.now())
        here.run()
    assert here.provider.received == everybody(4)
    assert len({prepared.key for prepared in here.provider.requests}) == 1
    assert here.status()["state"] == "sent"


def test_a_body_that_would_differ_is_not_repeated(world):
    here = world(people=4, **BOTH)
    here.provider.faults = [lost_before]

    def change(_prepared):
        with here.store.begin() as connection:
            connection.execute(
                update(deliveries).where(deliveries.c.position == 1).values(first_name="Grace")
            )

    here.provider.during = change
    here.run()
    assert here.provider.received == everybody(4)
    assert len({prepared.key for prepared in here.provider.requests}) == 2
    assert here.provider.lookups


def test_a_key_past_its_life_is_not_used_any_more(world):
    here = world(people=4, idempotency=timedelta(seconds=30), lookup=True)
    here.provider.faults = [lost_after]
    here.run()
    assert len(here.provider.requests) == 1, "60 s of time-out would outlast the key"
    assert here.provider.received == everybody(4)


def test_a_repeat_does_not_reach_somebody_who_left_meanwhile(world):
    here = world(people=4, **BOTH)
    here.provider.faults = [lost_before]
    here.provider.during = lambda _prepared: here.leave("reader3@example.com")
    here.run()
    assert here.provider.received == everybody(4, but=(3,))
    assert here.counts() == {"total": 4, "accepted": 3, "skipped": 1}
    assert here.verify() == []


def test_with_neither_key_nor_look_up_it_waits_for_an_event_and_then_for_a_person(world):
    here = world(people=8, **NEITHER)
    here.provider.faults = [lost_after]
    assert here.run().held == ["milia.1"]
    assert here.counts() == {"total": 8, "accepted": 4, "in_doubt": 4}
    assert here.verify() == []
    key = here.provider.requests[0].key
    for position in range(1, 5):
        event = Event(
            type=EventType.DELIVERED,
            recipient=f"reader{position}@example.com",
            provider_message_id=f"m{position}",
            at=here.clock.now(),
            metadata={"attempt": key, "delivery": f"1.{position}"},
        )
        with here.store.begin() as connection:
            matched = apply_event(connection, event, provider="main", now=here.clock.now())
        assert matched is not None
        assert matched.changed
    assert here.counts() == {"total": 8, "accepted": 4, "delivered": 4}
    assert here.status()["state"] == "sent", "nothing is left to decide"
    assert here.verify() == []


@pytest.mark.parametrize("fault", [lost_before, lost_after])
def test_the_doubts_of_a_cancelled_send_are_looked_up_and_never_repeated(world, fault):
    here = world(people=8, settings={"in_flight": 1}, **BOTH)

    def cancel_now(_prepared):
        with here.store.begin() as connection:
            cancel(connection, "milia.1", here.clock.now())

    here.provider.during = cancel_now
    here.provider.faults = [fault]
    here.run()
    assert here.status()["state"] == "cancelled"
    assert len(here.provider.requests) == 1
    if fault is lost_after:
        assert here.counts() == {"total": 8, "accepted": 4, "skipped": 4}
    else:
        assert here.counts() == {"total": 8, "skipped": 8}
    assert here.verify() == []


def test_a_doubt_of_a_paused_send_is_looked_up_once_it_is_cancelled(world):
    here = world(people=4, **LOOKUP)

    def pause_now(_prepared):
        with here.store.begin() as connection:
            pause(connection, "milia.1", here.clock.now())

    here.provider.during = pause_now
    here.provider.faults = [lost_after]
    here.run()
    assert here.counts() == {"total": 4, "in_doubt": 4}
    with here.store.begin() as connection:
        cancel(connection, "milia.1", here.clock.now())
    here.run()
    assert here.counts() == {"total": 4, "accepted": 4}
    assert here.status()["state"] == "cancelled"
    assert here.verify() == []


def test_the_doubts_of_a_cancelled_send_end_with_a_person_where_nobody_can_be_asked(world):
    here = world(people=4, **KEYS)

    def cancel_now(_prepared):
        with here.store.begin() as connection:
            cancel(connection, "milia.1", here.clock.now())

    here.provider.during = cancel_now
    here.provider.faults = [lost_before]
    here.run()
    assert len(here.provider.requests) == 1
    assert here.counts() == {"total": 4, "in_doubt": 4}
    with here.store.begin() as connection:
        resolve(connection, "milia.1", "abandon", here.clock.now())
    assert here.counts() == {"total": 4, "skipped": 4}
    assert here.verify() == []


@pytest.mark.parametrize(("how", "copies"), [("resend", 2), ("abandon", 1)])
def test_a_person_decides_what_nothing_could_settle(world, how, copies):
    here = world(people=8, **NEITHER)
    here.provider.faults = [lost_after]
    here.run()
    with here.store.begin() as connection:
        resolve(connection, "milia.1", how, here.clock.now())
    here.run()
    assert here.provider.received["reader1@example.com"] == copies
    assert here.status()["state"] == "sent"
    assert here.counts().get("in_doubt") is None
    assert here.verify() == []
    with pytest.raises(Conflict), here.store.begin() as connection:
        resolve(connection, "milia.1", how, here.clock.now())


def test_an_answer_of_another_length_is_no_answer(world):
    here = world(people=4, **LOOKUP)

    def short(provider, prepared):
        provider.accept(prepared)
        return Answered((Accepted("1"),))

    here.provider.faults = [short]
    here.run()
    assert here.provider.received == everybody(4)
    assert here.verify() == []


def test_a_provider_that_raises_has_proved_nothing(world):
    here = world(people=4, **LOOKUP)

    def broken(provider, prepared):
        provider.accept(prepared)
        raise RuntimeError("a bug in a provider's module")

    here.provider.faults = [broken]
    here.run()
    assert here.provider.received == everybody(4)


# --- workers that vanish ------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a worker as a crash does: nothing of it runs any more."""


def crash_during(here, moment, **changes):
    """Run until the request number `moment`, and leave everything as a crash would."""

    async def go():
        runtime = here.runtime(**changes)

        async def never(_prepared):
            here.provider.send = original
            runtime.stop.set()
            task = asyncio.current_task()
            assert task is not None
            for other in asyncio.all_tasks():
                if other is not task:
                    other.cancel()
            await asyncio.sleep(3600)

        original = here.provider.send
        requests = 0

        async def send(prepared):
            nonlocal requests
            requests += 1
            if requests == moment:
                return await never(prepared)
            return await original(prepared)

        here.provider.send = send
        await run_due(runtime)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(go())


@pytest.mark.parametrize("means", [KEYS, LOOKUP], ids=["keys", "lookup"])
def test_what_a_vanished_worker_had_begun_is_in_doubt_and_is_settled(world, means):
    here = world(people=12, settings={"in_flight": 1}, **means)
    crash_during(here, 2)
    # The first answer is written down once the second request has left.
    assert here.counts() == {"total": 12, "pending": 4, "sending": 8}
    here.clock.advance(minutes=1)
    started = here.clock.now()
    here.run()
    assert here.provider.received == everybody(12)
    assert here.status()["state"] == "sent"
    assert here.verify() == []
    assert here.clock.now() - started >= timedelta(seconds=50), "its lease was waited out"


def test_an_answer_that_could_not_be_asked_for_again_is_written_down_before_the_next_request(world):
    here = world(people=12, settings={"in_flight": 1}, **NEITHER)
    crash_during(here, 2)
    assert here.counts() == {"total": 12, "pending": 4, "sending": 4, "accepted": 4}


@pytest.mark.parametrize(
    ("over", "then"),
    [
        (timedelta(minutes=1), timedelta(minutes=1)),
        (timedelta(minutes=-5), timedelta(0)),
        (timedelta(days=365), timedelta(hours=1)),
    ],
    ids=["under way", "long over", "by a wrong clock"],
)
def test_resume_counts_the_lag_from_the_end_of_a_request_that_may_be_under_way(world, over, then):
    here = world(people=4, **LOOKUP)
    crash_during(here, 1)
    now = here.clock.now()
    with here.store.begin() as connection:
        assert leases.break_lease(connection, 1, 1, 1, now, over_at=now + over)
        pause(connection, "milia.1", now)
        resume(connection, "milia.1", now)
        assert connection.execute(select(attempts.c.doubt_at)).scalar_one() == now + then


def test_a_lease_that_a_wrong_clock_took_keeps_nobody_waiting(world):
    here = world(people=4)
    start_send(here.runtime(), 1, lambda _name: here.provider)
    ahead = here.clock.now() + timedelta(days=365)
    with here.store.begin() as connection:
        assert leases.take(connection, 1, "main", "gone", ahead, timedelta(minutes=2))
    here.run(gone=lambda _holder: False)
    assert here.provider.received == everybody(4)
    assert here.clock.now() < ahead - timedelta(days=364)


def test_what_was_begun_by_a_wrong_clock_is_sent_again_only_when_a_person_says_so(world):
    here = world(people=4, **LOOKUP)
    crash_during(here, 1)
    with here.store.begin() as connection:
        ahead = here.clock.now() + timedelta(days=365)
        connection.execute(update(batches).values(lease_until=ahead))
    here.run(gone=lambda _holder: False)
    assert here.status()["state"] == "held"
    assert not here.provider.received
    with here.store.begin() as connection:
        resume(connection, "milia.1", here.clock.now())
    here.clock.advance(hours=1)
    here.run()
    assert here.provider.received == everybody(4)
    assert here.clock.now() < ahead - timedelta(days=364)
    assert here.verify() == []


def test_a_worker_that_has_surely_ended_is_not_waited_for(world):
    here = world(people=4, settings={"in_flight": 1}, **KEYS)
    crash_during(here, 1)
    started = here.clock.now()
    here.run(gone=lambda _holder: True)
    assert here.provider.received == everybody(4)
    assert here.clock.now() - started < timedelta(seconds=30)


@pytest.mark.slow
def test_a_late_answer_and_a_successor_agree_on_what_was_accepted(world):
    """The first worker wakes after its lease was taken over and the attempt settled as missing."""
    here = world(people=4, **LOOKUP)
    here.provider.faults = [lost_before]
    here.provider.failing_lookups = 10**6
    here.run()
    key = here.provider.requests[0].key
    with here.store.read() as connection:
        attempt = load_attempt(connection, key)
    answer = [Accepted(f"late-{n}") for n in range(4)]
    with here.store.begin() as connection:
        assert record_answer(connection, attempt, answer, here.clock.now())
    assert here.counts() == {"total": 4, "accepted": 4}
    with here.store.begin() as connection:
        resume(connection, "milia.1", here.clock.now())
    here.run()
    assert len(here.provider.requests) == 1
    assert here.status()["state"] == "sent"
    assert here.verify() == []


@pytest.mark.parametrize("held", [True, False], ids=["held", "before it is held"])
def test_whom_a_late_answer_puts_off_gets_it_though_the_doubt_was_given_up(world, held):
    here = world(people=4, **NEITHER)
    here.provider.faults = [lost_before]
    here.run()
    assert here.status()["state"] == "held"
    with here.store.begin() as connection:
        attempt = load_attempt(connection, here.provider.requests[0].key)
        if not held:
            connection.execute(update(sends).values(state="sending"))
        answer = [Accepted("late-0"), Accepted("late-1"), Deferred("later"), Deferred("later")]
        assert record_answer(connection, attempt, answer, here.clock.now())
        if held:
            resume(connection, "milia.1", here.clock.now())
    here.run()
    assert here.provider.received == everybody(4, but=(1, 2))
    assert here.status()["state"] == "sent"
    assert here.verify() == []


def test_a_send_that_contradicts_itself_stops_no_other(world):
    here = world(people=4)
    start_send(here.runtime(), 1, lambda _name: here.provider)
    with here.store.begin() as connection:
        connection.execute(update(batches).values(state="done"))
    schedule_send(here.store, make_compiled("roller"))
    assert here.run().sent == ["roller.1"]
    assert here.status()["state"] == "held"
    assert here.status()["reason"].startswith("4 recipients have not got it")


@pytest.mark.slow
def test_an_event_that_comes_after_all_stops_a_message_from_being_sent_again(world):
    """The look-up came too early by the provider's own fault; the event is in time."""
    here = world(people=4, settings={"in_flight": 1}, lookup_lag=timedelta(0), **LOOKUP)
    here.provider.faults = [lost_before, lambda *_: Deferred("busy", timedelta(hours=1))]

    def deliver(prepared):
        if len(here.provider.requests) == 2:
            prove(here, here.provider.requests[0].key)

    here.provider.during = deliver
    here.run()
    assert here.provider.received == everybody(4, but=(1,))
    assert here.counts() == {"total": 4, "accepted": 3, "delivered": 1}
    assert here.verify() == []


def test_the_ledger_does_not_hide_that_somebody_got_it_twice(world):
    here = world(people=4, settings={"in_flight": 1}, **LOOKUP)
    here.provider.faults = [lost_before]
    here.run()
    prove(here, here.provider.requests[0].key)
    violations = here.verify()
    assert len(violations) == 1
    assert "two attempts" in violations[0]


def prove(here, key):
    """An event says that the attempt's first message was delivered."""
    event = Event(
        type=EventType.DELIVERED,
        recipient="reader1@example.com",
        provider_message_id="late",
        at=here.clock.now(),
        metadata={"attempt": key, "delivery": "1.1"},
    )
    with here.store.begin() as connection:
        assert apply_event(connection, event, provider="main", now=here.clock.now())


def test_who_lost_the_lease_makes_no_attempt_and_gives_nothing_back(world):
    here = world(people=4)
    start_send(here.runtime(), 1, lambda _name: here.provider)
    now, hold_for = here.clock.now(), timedelta(minutes=2)
    with here.store.begin() as connection:
        first = leases.take(connection, 1, "main", "first", now, hold_for)
        assert leases.take(connection, 1, "main", "second", now, hold_for) is None
        assert leases.break_lease(connection, 1, first.number, first.token, now, over_at=now)
        assert not leases.break_lease(connection, 1, first.number, first.token, now, over_at=now)
        second = leases.take(connection, 1, "main", "second", now, hold_for)
        assert second.token > first.token
        assert leases.count_try(connection, first) is None
        assert not leases.renew(connection, first, now, hold_for)
        assert not leases.give_back(connection, first, now)
        assert leases.count_try(connection, second) == 1
    with here.store.begin() as connection:
        connection.execute(update(sends).values(state="paused"))
        assert leases.count_try(connection, second) is None, "no attempt in a paused send"
