"""What the simulation has found in the engine, each as a small test of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from newsletter.delivery import pause, resolve
from newsletter.providers.base import Found, Prepared, may_leave
from newsletter.store import Store
from newsletter.workspace import Workspace
from support.ledger import lost_after, lost_before, make_world


def test_a_repeat_does_not_leave_once_its_lease_is_over(
    workspace: Workspace, sqlite_store: Store, clock: Any
) -> None:
    """A worker that slept before its repeat left: the doubt was settled by look-up meanwhile, and
    everybody sent to anew, when the repeat arrived as the first."""
    world = make_world(workspace, sqlite_store, clock, 4, idempotency=timedelta(days=1))
    world.provider.faults = [lost_before]
    told: list[bool] = []

    def sleeps(_prepared: Prepared) -> None:
        told.append(may_leave.get()())
        if len(world.provider.requests) == 2:
            clock.advance(seconds=workspace.settings.delivery.lease.total_seconds() + 1)
            told.append(may_leave.get()())

    world.provider.during = sleeps
    world.run()
    assert told == [True, True, False]


def test_the_lag_is_counted_from_the_last_repeat(
    workspace: Workspace, sqlite_store: Store, clock: Any
) -> None:
    """The first request was lost, its repeat was answered late and accepted later still: a look-up
    that counted the lag from the first one believed that nothing had arrived."""
    lag = timedelta(minutes=2)
    world = make_world(
        workspace, sqlite_store, clock, 4, idempotency=timedelta(days=1), lookup_lag=lag
    )
    world.provider.faults = [lost_before, lost_before]
    ended: list[Any] = []

    def during(_prepared: Prepared) -> None:
        if len(world.provider.requests) == 2:
            clock.advance(seconds=60)
            world.leave("reader1@example.com")  # from here on it is looked up, and not repeated
        ended.append(clock.now())

    world.provider.during = during
    world.run()
    _, repeat, anew = ended
    assert anew - repeat >= lag
    assert world.provider.received.total() == 3


def test_what_a_look_up_finds_counts_though_a_person_gave_it_up_meanwhile(
    workspace: Workspace, sqlite_store: Store, clock: Any
) -> None:
    """The rows were accepted, but their attempt was for nobody: the ledger did not verify."""
    world = make_world(workspace, sqlite_store, clock, 4)
    world.provider.faults = [lost_after]
    find = world.provider.find

    async def meanwhile(key: str, **more: Any) -> Found:
        found: Found = await find(key, **more)
        if found.messages and world.counts().get("in_doubt"):
            with sqlite_store.begin() as connection:
                pause(connection, "milia.1", clock.now())
                resolve(connection, "milia.1", "abandon", clock.now())
        return found

    world.provider.find = meanwhile
    world.run()
    assert world.counts() == {"total": 4, "accepted": 4}
    assert world.verify() == []
