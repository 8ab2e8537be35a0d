"""A send from its hour to its end, over a provider that behaves or refuses."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise

import pytest
from sqlalchemy import insert, select, update

from newsletter.delivery import cancel, pause, resume
from newsletter.errors import BadInput, Conflict, Unreachable
from newsletter.providers.base import Deferred, Denied
from newsletter.store import Store
from newsletter.store.schema import (
    attempts,
    outbox,
    segment_members,
    sends,
    subscribers,
)
from support.ledger import (
    NOON,
    add_people,
    everybody,
    make_compiled,
    make_world,
    schedule_send,
)


@pytest.fixture
def world(workspace, store, clock):
    return partial(make_world, workspace, store, clock)


def subjects(store):
    with store.read() as connection:
        return list(connection.execute(select(outbox.c.subject).order_by(outbox.c.id)).scalars())


def test_everybody_gets_the_issue_once_and_the_send_is_sent(world):
    here = world(people=10)
    report = here.run()
    assert report.sent == ["milia.1"]
    assert here.provider.received == everybody(10)
    told = here.status()
    assert told["state"] == "sent"
    assert told["started_at"]
    assert told["finished_at"]
    assert here.counts() == {"total": 10, "accepted": 10}
    assert here.verify() == []
    here.clock.advance(hours=1)
    here.run()
    assert here.provider.received == everybody(10)


def test_a_send_waits_for_its_hour(world):
    here = world(people=2, schedule=False)
    schedule_send(here.store, at=NOON + timedelta(minutes=5))
    assert here.run().sent == []
    assert here.status()["counts"]["total"] == 0
    here.clock.advance(minutes=5)
    assert here.run().sent == ["milia.1"]


def test_a_send_without_anybody_is_sent(world):
    here = world(people=1)
    here.leave("reader1@example.com")
    here.run()
    assert here.status()["state"] == "sent"
    assert here.status()["counts"]["total"] == 0
    assert here.verify() == []


def test_who_left_before_the_start_has_no_row_and_who_left_later_is_skipped(world):
    here = world(people=8)
    here.leave("reader2@example.com")
    asked = []

    def leave_meanwhile(_prepared):
        if not asked:
            here.leave("reader7@example.com")
        asked.append(1)

    here.provider.settings = here.provider.settings.model_copy(update={"in_flight": 1})
    here.provider.during = leave_meanwhile
    here.run()
    assert here.provider.received == everybody(8, but=(2, 7))
    assert here.counts() == {"total": 7, "accepted": 6, "skipped": 1}
    assert here.verify() == []


def test_suppressed_people_are_skipped_with_the_reason(world):
    from newsletter.delivery import export_rows

    here = world(people=2)
    here.provider.faults = [lambda *_: Deferred("busy")]

    def suppress(_prepared):
        with here.store.begin() as connection:
            connection.execute(
                update(subscribers).where(subscribers.c.id == 2).values(suppressed="asked by phone")
            )

    here.provider.during = suppress
    here.run()
    rows = {row["email"]: row for row in export_rows(here.store, "milia.1")}
    assert rows["reader2@example.com"]["state"] == "skipped"
    assert rows["reader2@example.com"]["reason"] == "suppressed: asked by phone"
    assert here.provider.received == everybody(1)


def test_each_gets_the_variant_of_their_segments(world):
    here = world(people=3, schedule=False)
    with here.store.begin() as connection:
        rows = [
            {"segment": "vip", "subscriber_id": 1},
            {"segment": "vip", "subscriber_id": 2},
            {"segment": "beta", "subscriber_id": 2},
        ]
        connection.execute(insert(segment_members), rows)
    schedule_send(here.store, make_compiled(segments=("vip", "beta")))
    here.run()
    bodies = b"".join(prepared.body for prepared in here.provider.requests)
    assert b"Hello Ada1 [vip]" in bodies
    assert b"Hello Ada2 [beta,vip]" in bodies
    assert b"Hello Ada3<" in bodies


def test_a_later_change_of_a_person_does_not_change_a_started_send(world):
    here = world(people=1)
    here.provider.faults = [lambda *_: Deferred("busy")]

    def rename(_prepared):
        with here.store.begin() as connection:
            connection.execute(update(subscribers).values(first_name="Grace"))

    here.provider.during = rename
    here.run()
    assert all(b"Ada1" in prepared.body for prepared in here.provider.requests)


def test_refused_recipients_are_rejected_and_suppressed_for_later_sends(world):
    here = world(people=6)
    here.provider.refuse = {"reader3@example.com"}
    here.run()
    assert here.counts() == {"total": 6, "accepted": 5, "rejected": 1}
    assert here.status()["state"] == "sent"
    assert here.verify() == []
    schedule_send(here.store, make_compiled("next"), at=here.clock.now())
    here.run()
    assert here.counts("next.1") == {"total": 5, "accepted": 5}


def test_messages_that_the_provider_puts_off_are_sent_later(world):
    here = world(people=5)
    here.provider.put_off = Counter({"reader2@example.com": 2})
    here.run()
    assert here.provider.received == everybody(5)
    assert here.verify() == []


def test_a_refused_request_backs_off_and_obeys_retry_after(world):
    here = world(people=4)
    asked_at = []
    here.provider.during = lambda _prepared: asked_at.append(here.clock.now())
    here.provider.faults = [
        lambda *_: Deferred("throttled", timedelta(seconds=90)),
        lambda *_: Deferred("no connection"),
    ]
    here.run()
    assert here.provider.received == everybody(4)
    waits = [later - earlier for earlier, later in pairwise(asked_at)]
    assert timedelta(seconds=90) <= waits[0] < timedelta(seconds=95)
    assert timedelta(seconds=1) <= waits[1] < timedelta(seconds=6)
    keys = [prepared.key for prepared in here.provider.requests]
    assert len(set(keys)) == 3, "a new try is a new attempt under a new key"
    assert here.verify() == []


def test_status_says_what_a_send_without_progress_waits_for(world):
    here = world(people=2)
    told = []
    here.provider.during = lambda _prepared: told.append(here.status()["reason"])
    here.provider.faults = [lambda *_: Deferred("no connection")] * 2
    here.run()
    assert told == ["", "trying again: no connection", "trying again: no connection"]
    assert here.status()["reason"] == ""


def test_the_editors_are_told_of_a_long_pause_that_the_provider_asks_for(world):
    here = world()
    here.policy = replace(here.policy, poll=timedelta(hours=1))
    here.provider.faults = [lambda _p, _r: Deferred("over the day's quota", timedelta(hours=20))]
    here.run()
    assert here.status()["state"] == "sent"
    with here.store.read() as connection:
        (notice,) = connection.execute(select(outbox)).all()
    assert notice.subject == "The send milia.1 waits for its provider"
    assert "2026-11-25 08:00" in notice.text


def test_wrong_credentials_hold_the_send_and_leave_everybody_pending(world):
    here = world(people=6)
    here.provider.faults = [lambda *_: Denied("401: see providers.main.api_key")] * 9
    assert here.run().held == ["milia.1"]
    told = here.status()
    assert told["state"] == "held"
    assert "api_key" in told["reason"]
    assert here.counts() == {"total": 6, "pending": 6}
    assert subjects(here.store) == ["The send milia.1 is held"]
    assert here.verify() == []
    here.run()
    assert here.status()["state"] == "held", "nobody goes on without a person"
    here.provider.faults = []
    with here.store.begin() as connection:
        resume(connection, "milia.1", here.clock.now())
    here.run()
    assert here.provider.received == everybody(6)
    assert here.status()["state"] == "sent"


def test_missing_settings_hold_the_send_before_anybody_has_a_row(world):
    here = world(people=3)

    def missing(_name):
        raise BadInput("the environment variable MAIN_API_KEY is not set")

    here.run(open_provider=missing)
    told = here.status()
    assert told["state"] == "held"
    assert "MAIN_API_KEY" in told["reason"]
    assert told["counts"]["total"] == 0
    with here.store.begin() as connection:
        resume(connection, "milia.1", here.clock.now())
    here.run()
    assert here.provider.received == everybody(3)


def test_a_send_found_within_its_grace_goes_out_late_and_later_it_is_held(world):
    here = world(people=2)
    here.clock.advance(hours=5, minutes=59)
    here.run()
    assert here.status()["state"] == "sent"
    schedule_send(here.store, make_compiled("next"), at=NOON)
    here.clock.advance(minutes=2)
    here.run()
    told = here.status("next.1")
    assert told["state"] == "held"
    assert "6 h 1 min after its time" in told["reason"]
    assert subjects(here.store) == ["The send next.1 is held"]
    with here.store.begin() as connection:
        resume(connection, "next.1", here.clock.now())
    here.run()
    assert here.status("next.1")["state"] == "sent", "a person said to send it all the same"


def test_a_check_that_blocks_when_the_send_starts_holds_it(world):
    here = world(people=2, schedule=False)
    compiled = make_compiled()
    bare = {
        name: type(message)(message.slots, message.subject, ("<p>no links</p>",), message.text, ())
        for name, message in compiled.variants.items()
    }
    fields = {name: getattr(compiled, name) for name in compiled.__dataclass_fields__}
    schedule_send(here.store, type(compiled)(**{**fields, "variants": bare}))
    here.run()
    told = here.status()
    assert told["state"] == "held"
    assert "unsubscribe" in told["reason"]
    assert here.provider.requests == []


def test_pause_is_felt_within_one_batch_and_resume_goes_on(world):
    here = world(people=12, settings={"in_flight": 1})

    def pause_at_the_second(_prepared):
        if len(here.provider.requests) == 2:
            with here.store.begin() as connection:
                pause(connection, "milia.1", here.clock.now())

    here.provider.during = pause_at_the_second
    here.run()
    assert here.status()["state"] == "paused"
    assert here.counts() == {"total": 12, "pending": 4, "accepted": 8}
    assert here.verify() == []
    with here.store.begin() as connection:
        resume(connection, "milia.1", here.clock.now())
    here.run()
    assert here.provider.received == everybody(12)


def test_cancel_says_how_many_had_left_and_nobody_else_gets_it(world):
    here = world(people=12, settings={"in_flight": 1})

    def cancel_at_the_second(_prepared):
        if len(here.provider.requests) == 2:
            with here.store.begin() as connection:
                cancel(connection, "milia.1", here.clock.now())

    here.provider.during = cancel_at_the_second
    here.run()
    told = here.status()
    assert told["state"] == "cancelled"
    # The first answer is written down once the second request has left.
    assert told["reason"] == "cancelled by a person: 0 of 12 had left, 8 more may have"
    assert here.counts() == {"total": 12, "accepted": 8, "skipped": 4}
    assert here.verify() == []
    for change in (pause, resume, cancel):
        with pytest.raises(Conflict), here.store.begin() as connection:
            change(connection, "milia.1", here.clock.now())
    here.run()
    assert len(here.provider.requests) == 2


def test_what_comes_back_after_a_cancel_is_not_sent(world):
    here = world(people=4)

    def cancel_now(_prepared):
        with here.store.begin() as connection:
            cancel(connection, "milia.1", here.clock.now())

    here.provider.during = cancel_now
    here.provider.faults = [lambda *_: Deferred("throttled")]
    here.run()
    assert here.counts() == {"total": 4, "skipped": 4}
    assert here.verify() == []


def test_a_stop_lets_requests_in_flight_end_and_starts_nothing_new(world):
    here = world(people=12, settings={"in_flight": 2})

    async def go():
        runtime = here.runtime()
        here.provider.during = lambda _prepared: runtime.stop.set()
        from newsletter.delivery import run_due

        await run_due(runtime)

    asyncio.run(go())
    assert len(here.provider.requests) == 2
    assert here.counts() == {"total": 12, "pending": 4, "accepted": 8}
    assert here.status()["state"] == "sending"
    assert here.verify() == []
    here.provider.during = None
    here.run()
    assert here.provider.received == everybody(12)


def test_a_request_obeys_the_byte_limit_and_the_rest_follows(world):
    here = world(people=8, batch_size=8, max_bytes=2000)
    here.run()
    assert here.provider.received == everybody(8)
    assert all(len(prepared.body) <= 2000 for prepared in here.provider.requests)
    assert len(here.provider.requests) > 1
    assert here.verify() == []


def test_the_rate_holds_with_a_burst_of_one_batch(world):
    here = world(people=12, settings={"rate": "2/s", "in_flight": 4})
    asked_at = []
    here.provider.during = lambda _prepared: asked_at.append(here.clock.now() - NOON)
    here.run()
    assert len(asked_at) == 3
    assert asked_at[1] >= timedelta(seconds=2)
    assert asked_at[2] >= timedelta(seconds=4)


def test_one_person_who_cannot_be_written_to_does_not_keep_the_issue_from_the_others(world):
    here = world(people=6)
    with here.store.begin() as connection:
        connection.execute(update(subscribers).where(subscribers.c.id == 2).values(email=""))
    here.run()
    assert here.provider.received == everybody(6, but=(2,))
    assert here.counts() == {"total": 6, "accepted": 5, "rejected": 1}
    assert subjects(here.store) == ["Some messages of milia.1 could not be composed"]
    assert here.verify() == []


def test_an_issue_that_can_be_composed_for_nobody_is_held(world):
    here = world(people=3)
    with here.store.begin() as connection:
        connection.execute(update(subscribers).values(email=""))
    here.run()
    assert here.status()["state"] == "held"
    assert here.counts() == {"total": 3, "pending": 3}


@pytest.mark.slow
def test_a_provider_that_is_down_is_tried_again_and_in_the_end_a_person_is_asked(world):
    here = world(people=2)
    here.provider.faults = [lambda *_: Deferred("no connection")] * 1000
    here.run()
    told = here.status()
    assert told["state"] == "held"
    assert "no connection" in told["reason"]
    assert subjects(here.store) == ["The provider main keeps failing", "The send milia.1 is held"]
    assert here.counts() == {"total": 2, "pending": 2}
    here.provider.faults = []
    with here.store.begin() as connection:
        resume(connection, "milia.1", here.clock.now())
    here.run()
    assert here.provider.received == everybody(2)


def test_two_sends_at_once_take_turns(world):
    here = world(people=8, settings={"in_flight": 1})
    schedule_send(here.store, make_compiled("next"))
    here.run()
    with here.store.read() as connection:
        order = list(
            connection.execute(
                select(attempts.c.send_id).order_by(attempts.c.started_at, attempts.c.batch)
            ).scalars()
        )
    assert sorted(order[:2]) == [1, 2]
    assert here.status("next.1")["state"] == here.status()["state"] == "sent"


def test_a_second_scheduler_that_starts_the_same_send_does_no_harm(world):
    from newsletter.delivery.start import start_send

    here = world(people=5)
    runtime = here.runtime()
    start_send(runtime, 1, lambda _name: here.provider)
    start_send(runtime, 1, lambda _name: here.provider)
    assert here.counts() == {"total": 5, "pending": 5}
    with here.store.read() as connection:
        assert connection.execute(select(sends.c.state)).scalar_one() == "sending"
    here.run()
    assert here.provider.received == everybody(5)


def test_keys_follow_from_send_batch_and_try_alone(world):
    here = world(people=6)
    here.run()
    first = [prepared.key for prepared in here.provider.requests]
    again = [prepared.sha256 for prepared in here.provider.requests]
    with here.store.begin() as connection:
        for table in ("attempts", "batches", "deliveries"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
        connection.execute(update(sends).values(state="scheduled", filled_at=None))
    here.provider.requests.clear()
    here.run()
    assert [prepared.key for prepared in here.provider.requests] == first
    assert [prepared.sha256 for prepared in here.provider.requests] == again


def test_people_forgotten_on_the_way_leave_no_copy_behind(world):
    from newsletter.delivery import export_rows

    here = world(people=3)

    def forget(_prepared):
        with here.store.begin() as connection:
            connection.execute(
                update(subscribers).where(subscribers.c.id == 2).values(state="forgotten", email="")
            )

    here.provider.during = forget
    here.run()
    assert here.provider.received == everybody(3)
    assert [row["email"] for row in export_rows(here.store, "milia.1")][1] == ""


def test_more_people_than_one_batch_each_have_one_row(world):
    here = world(people=4, batch_size=500)
    add_people(here.store, 1200, first=5)
    here.run()
    assert here.counts() == {"total": 1204, "accepted": 1204}
    assert here.provider.received == everybody(1204)
    assert len(here.provider.requests) == 3
    assert here.verify() == []


class FailingStore(Store):
    """A database that is full, or locked, for some of its commits."""

    def __init__(self, store, failing):
        super().__init__(store.engine)
        self.failing = failing
        self.begun = 0

    @contextmanager
    def begin(self):
        self.begun += 1
        with super().begin() as connection:
            yield connection
            if self.begun in self.failing:
                raise Unreachable("the database does not answer: database or disk is full")


def test_an_outcome_that_cannot_be_written_is_written_later(world):
    here = world(people=4)
    answered = []
    store = FailingStore(here.store, set())

    def answer(_prepared):
        answered.append(store.begun)
        store.failing = set(range(store.begun + 1, store.begun + 6))

    here.provider.during = answer
    with suppress(Unreachable):  # looking for another batch fails as well
        here.run(store=store)
    assert here.counts() == {"total": 4, "accepted": 4}
    here.run()
    assert len(here.provider.requests) == 1
    assert here.status()["state"] == "sent"


def test_an_attempt_that_cannot_be_written_is_not_made(world):
    here = world(people=4, settings={"in_flight": 1})
    for broken in range(1, 7):
        store = FailingStore(here.store, {broken})
        with suppress(Unreachable):
            here.run(store=store, gone=lambda _holder: True)
    here.run(gone=lambda _holder: True)
    assert here.provider.received == everybody(4)
    assert here.status()["state"] == "sent"
    assert here.verify() == []
