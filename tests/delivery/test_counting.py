"""Counts that batches keep agree with the rows, whatever happens, and cost little for any send."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import func, select, update

from newsletter.delivery import apply_event, counts
from newsletter.delivery.counting import forget, keep_counts
from newsletter.providers.base import Event, EventType
from newsletter.store.schema import batches, count_changes, deliveries
from support.ledger import NOON, lost_after, make_world


@pytest.fixture
def world(workspace, store, clock):
    return partial(make_world, workspace, store, clock)


def rows_by_state(here):
    query = select(deliveries.c.state, func.count().label("number"))
    with here.store.read() as connection:
        found = connection.execute(query.group_by(deliveries.c.state))
        return {row.state: row.number for row in found}


def told_by_batches(here):
    with here.store.read() as connection:
        query = select(batches.c.counts).order_by(batches.c.number)
        return list(connection.execute(query).scalars())


def deliver(here, *positions, kind="delivered"):
    for position in positions:
        with here.store.begin() as connection:
            row = connection.execute(
                select(deliveries).where(deliveries.c.position == position)
            ).one()
            key = {"attempt": row.attempt, "delivery": f"1.{position}"}
            event = Event(EventType(kind), row.email, "", NOON, metadata=key)
            apply_event(connection, event, provider="main", now=here.clock.now())


def changes(here):
    with here.store.read() as connection:
        return connection.execute(select(func.count()).select_from(count_changes)).scalar_one()


def test_events_add_to_the_counts_and_housekeeping_takes_them_in(world):
    here = world(people=8)
    here.run()
    assert told_by_batches(here) == [{"accepted": 4}, {"accepted": 4}]
    deliver(here, 1, 2, 6)
    deliver(here, 2, kind="complained")
    assert told_by_batches(here) == [{"accepted": 4}, {"accepted": 4}]
    expected = {"total": 8, "accepted": 5, "delivered": 2, "complained": 1}
    assert here.counts() == expected
    assert here.verify() == []
    keep_counts(here.store)
    assert changes(here) == 0
    assert told_by_batches(here)[1] == {"accepted": 3, "delivered": 1}
    assert here.counts() == expected
    assert here.verify() == []


def test_what_was_forgotten_is_counted_again(world):
    here = world(people=8)
    here.run()
    deliver(here, 3)
    with here.store.begin() as connection:
        forget(connection, 1)
    assert told_by_batches(here) == [None, None]
    assert here.counts() == {"total": 8, "accepted": 7, "delivered": 1}
    keep_counts(here.store)
    assert told_by_batches(here) == [{"accepted": 3, "delivered": 1}, {"accepted": 4}]
    assert here.counts() == {"total": 8, "accepted": 7, "delivered": 1}


def test_counts_are_the_rows_at_every_request_and_after_it(world):
    here = world(people=16, idempotency=None)
    here.provider.refuse = {"reader2@example.com"}
    here.provider.put_off["reader7@example.com"] = 1
    here.provider.faults = [None, lost_after]
    here.leave("reader11@example.com")

    def compare(_prepared):
        deliver(here, *[position for position in (1, 3) if rows_by_state(here).get("accepted")])
        with here.store.read() as connection:
            told = counts(connection, 1)
        assert {k: v for k, v in told.items() if v and k != "total"} == rows_by_state(here)

    here.provider.during = compare
    here.run()
    compare(None)
    assert here.status()["state"] == "sent"
    assert here.verify() == []


def test_status_reads_no_row_of_a_batch_that_is_not_worked_on(world):
    here = world(people=12)
    here.run()
    with here.store.begin() as connection:  # what it would not notice if it read them
        connection.execute(update(deliveries).values(state="rejected", reason="x"))
    assert here.counts() == {"total": 12, "accepted": 12}
