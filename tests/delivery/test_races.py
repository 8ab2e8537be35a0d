"""Two things at once: an editor, an event, an erasure or another worker in the midst of a send."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from newsletter import audience
from newsletter.delivery import apply_event, cancel, control, leases, resolve, run_due, start
from newsletter.providers.base import Deferred, Event, EventType, Outcome, Prepared
from newsletter.scheduling import reschedule
from newsletter.store import Store, open_store
from newsletter.store.schema import attempts, batches, deliveries, sends, subscribers
from newsletter.workspace import Workspace
from support.ledger import (
    NOON,
    RecordingProvider,
    World,
    add_people,
    everybody,
    lost_before,
    make_world,
    schedule_send,
)
from support.ledger import make_compiled as compiled_of

READER = "reader1@example.com"


@pytest.fixture
def world(workspace: Workspace, store: Store, clock: Any) -> World:
    return make_world(workspace, store, clock)


def erase_reader(world: World) -> None:
    with world.store.begin() as connection:
        reader = audience.find(connection, READER)
        audience.erase(connection, world.workspace.key, reader, world.clock.now())


def first_delivery(world: World) -> Any:
    with world.store.read() as connection:
        return connection.execute(select(deliveries).where(deliveries.c.position == 1)).one()


def put_off(_provider: RecordingProvider, _prepared: Prepared) -> Outcome:
    return Deferred("throttled (429)")


def test_a_send_that_is_moved_while_it_is_checked_does_not_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = start.check_compiled

    def moved_meanwhile(*values: Any, **more: Any) -> Any:
        reschedule(world.store, world.clock, "milia.1", NOON + timedelta(days=1))
        return check(*values, **more)

    monkeypatch.setattr(start, "check_compiled", moved_meanwhile)
    world.run()
    assert world.status()["state"] == "scheduled"
    assert not world.provider.received


def test_a_send_that_cannot_be_started_at_all_keeps_no_other_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule_send(world.store, compiled_of("roller"), at=NOON)
    check = start.check_compiled

    def fails_for_one(*values: Any, **more: Any) -> Any:
        if values[3].issue == "milia":
            raise RuntimeError("a rule that fails inside")
        return check(*values, **more)

    monkeypatch.setattr(start, "check_compiled", fails_for_one)
    world.run()
    assert world.status()["reason"] == "a rule that fails inside"
    assert world.status("roller.1")["state"] == "sent"


def test_a_request_that_outlives_its_lease_is_waited_for(
    workspace: Workspace, store: Store, clock: Any
) -> None:
    """The clock jumps over the lease: its worker still waits for the provider's answer."""
    world = make_world(
        workspace,
        store,
        clock,
        4,
        settings={"timeout": "10m", "lookup_lag": "1m"},
        lookup_lag=timedelta(minutes=1),
    )
    settings = workspace.settings.model_copy(update={"providers": [world.provider.settings]})
    world.workspace = Workspace(workspace.root, settings)
    slowly = world.provider.send

    async def run() -> None:
        started, released = asyncio.Event(), asyncio.Event()

        async def send(prepared: Prepared) -> Outcome:
            if started.is_set():
                return await slowly(prepared)
            started.set()
            await released.wait()
            return world.provider.accept(prepared)

        world.provider.send = send
        first = asyncio.ensure_future(run_due(world.runtime(holder="a", gone=lambda _: False)))
        await started.wait()
        clock.moment += timedelta(minutes=3)
        second = asyncio.ensure_future(run_due(world.runtime(holder="b", gone=lambda _: False)))
        for _ in range(100_000):  # the second asks and waits, on the test's clock
            await asyncio.sleep(0)
            if clock.moment >= NOON + timedelta(minutes=9):
                break
        released.set()
        await asyncio.gather(first, second)

    asyncio.run(run())
    assert world.provider.received == everybody(4)
    assert world.verify() == []


@pytest.mark.postgres
def test_who_takes_a_batch_over_waits_for_an_outcome_that_is_being_written(
    workspace: Workspace, postgres_url: str, clock: Any
) -> None:
    store = open_store(postgres_url, workspace.root)
    world = make_world(workspace, store, clock, 4, idempotency=None, lookup=False)
    world.provider.faults = [lost_before]
    world.run()

    def take_over() -> None:
        with store.begin() as connection:
            now = world.clock.now()
            taken.append(leases.break_lease(connection, 1, 1, token, now, over_at=now))

    taken: list[bool] = []
    with store.begin() as connection:
        connection.execute(update(batches).values(state="leased"))
        token = connection.execute(select(batches.c.lease_token)).scalar_one()
    other = threading.Thread(target=take_over)
    with store.begin() as connection:
        connection.execute(select(attempts.c.id).with_for_update())
        other.start()
        other.join(1)
        connection.execute(select(batches.c.number).with_for_update())
    other.join(10)
    store.close()
    assert taken == [True]


@pytest.mark.postgres
def test_resume_waits_for_an_outcome_that_is_being_written(
    workspace: Workspace, postgres_url: str, clock: Any
) -> None:
    store = open_store(postgres_url, workspace.root)
    world = make_world(workspace, store, clock, 4, idempotency=None, lookup=False)
    world.provider.faults = [lost_before]
    world.run()

    def go_on() -> None:
        with store.begin() as connection:
            resumed.append(control.resume(connection, "milia.1", world.clock.now()).state)

    resumed: list[str] = []
    other = threading.Thread(target=go_on)
    with store.begin() as connection:
        connection.execute(select(attempts.c.id).with_for_update())
        other.start()
        other.join(1)
        connection.execute(select(sends.c.id).with_for_update())
    other.join(10)
    store.close()
    assert resumed == ["sending"]


def test_what_comes_back_during_a_cancel_is_not_left_pending(world: World) -> None:
    """On PostgreSQL the cancel does not see rows that another process is just giving back."""
    midst, going_on = threading.Event(), threading.Event()
    scrub = control.scrub

    def cancel_slowly() -> None:
        with world.store.begin() as connection:
            cancel(connection, "milia.1", world.clock.now())

    def wait_in_the_midst(*values: Any) -> None:
        midst.set()
        going_on.wait(1)
        scrub(*values)

    canceller = threading.Thread(target=cancel_slowly)

    def during(_prepared: Prepared) -> None:
        world.provider.during = None
        canceller.start()
        midst.wait(5)

    world.provider.during = during
    world.provider.faults = [put_off]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "scrub", wait_in_the_midst)
        world.run(progress=lambda _send: going_on.set())
        canceller.join()
    assert world.status()["state"] == "cancelled"
    assert "pending" not in world.counts()
    assert world.verify() == []


def test_an_event_before_the_answer_is_no_violation(world: World) -> None:
    found: list[list[str]] = []

    def during(_prepared: Prepared) -> None:
        world.provider.during = None
        metadata = {"attempt": first_delivery(world).attempt, "delivery": "1.1"}
        now = world.clock.now()
        event = Event(EventType.DELIVERED, READER, "m", now, metadata=metadata)
        with world.store.begin() as connection:
            apply_event(connection, event, provider="main", now=now)
        found.append(world.verify())

    world.provider.during = during
    world.run()
    assert found == [[]]


def test_an_event_with_a_key_that_is_not_ours_is_no_error(world: World) -> None:
    metadata = {"attempt": "a", "delivery": "9999999999.1"}
    event = Event(EventType.DELIVERED, READER, "", NOON, metadata=metadata)
    with world.store.begin() as connection:
        assert apply_event(connection, event, provider="main", now=NOON) is None


def test_who_was_erased_in_doubt_leaves_no_copy_when_that_is_abandoned(world: World) -> None:
    world.provider.faults = [lost_before]
    world.provider.failing_lookups = 1000
    world.run()
    erase_reader(world)
    assert first_delivery(world).email == READER  # it may have to be made again
    with world.store.begin() as connection:
        resolve(connection, "milia.1", "abandon", world.clock.now())
    assert (first_delivery(world).state, first_delivery(world).email) == ("skipped", "")


def test_who_was_erased_on_the_way_leaves_no_copy_in_a_cancelled_send(world: World) -> None:
    def during(_prepared: Prepared) -> None:
        world.provider.during = None
        erase_reader(world)
        with world.store.begin() as connection:
            cancel(connection, "milia.1", world.clock.now())

    world.provider.during = during
    world.provider.faults = [put_off]
    world.run()
    assert (first_delivery(world).state, first_delivery(world).email) == ("skipped", "")


def test_a_reading_transaction_sees_one_state(world: World) -> None:
    everyone = select(subscribers.c.id)
    with world.store.read() as connection:
        before = len(connection.execute(everyone).all())
        adding = threading.Thread(target=add_people, args=(world.store, 3), kwargs={"first": 100})
        adding.start()
        adding.join()
        assert len(connection.execute(everyone).all()) == before


def test_an_erasure_leaves_the_ledger_whole(world: World) -> None:
    """Reasons are words of providers, and may name the person."""
    world.provider.refuse = {READER}
    world.run()
    assert first_delivery(world).state == "rejected"
    erase_reader(world)
    assert first_delivery(world).reason == "erased"
    assert world.verify() == []


def test_what_an_event_says_of_an_erased_person_is_not_kept(world: World) -> None:
    world.run()
    attempt = first_delivery(world).attempt
    erase_reader(world)
    metadata = {"attempt": attempt, "delivery": "1.1"}
    event = Event(EventType.BOUNCED, READER, "", NOON, reason=f"no {READER}", metadata=metadata)
    with world.store.begin() as connection:
        apply_event(connection, event, provider="main", now=NOON)
    assert first_delivery(world).state == "bounced"
    assert READER not in str(first_delivery(world))
