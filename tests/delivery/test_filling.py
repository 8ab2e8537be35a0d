"""A large send is filled in parts while it is under way: all who are eligible at its start."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import func, insert, select, update

from newsletter.delivery import cancel, export_rows, pause, resume
from newsletter.delivery.filling import fill_more
from newsletter.delivery.start import start_send
from newsletter.store.schema import batches, deliveries, eligible, segment_members, sends
from support.ledger import add_people, make_compiled, make_world, schedule_send


@pytest.fixture
def world(workspace, store, clock):
    def make(**values):
        here = make_world(workspace, store, clock, **values)
        here.policy = replace(here.policy, part=8)
        return here

    return make


def once(action):
    """The action, at the first request only."""
    waiting = [action]

    def during(_prepared):
        if waiting:
            waiting.pop()()

    return during


def rows_made(here):
    with here.store.read() as connection:
        return connection.execute(select(func.count()).select_from(deliveries)).scalar_one()


def everybody(here, *without):
    return Counter(
        {f"reader{n}@example.com": 1 for n in range(1, 31) if f"reader{n}" not in without}
    )


def test_who_leaves_meanwhile_is_skipped_and_who_comes_gets_nothing(world):
    here = world(people=30)
    seen = {}

    def meanwhile():
        seen["rows"] = rows_made(here)
        seen["counts"] = here.counts()
        here.leave("reader25@example.com")
        here.leave("reader26@example.com", state="forgotten")
        add_people(here.store, 5, first=31)

    here.provider.during = once(meanwhile)
    here.run()
    assert seen["rows"] < 30
    assert seen["counts"]["total"] == 30 == sum(seen["counts"].values()) / 2
    assert here.provider.received == everybody(here, "reader25", "reader26")
    assert here.counts() == {"total": 30, "accepted": 28, "skipped": 2}
    assert here.status()["state"] == "sent"
    assert here.verify() == []


def test_the_first_part_alone_does_not_end_the_send(world):
    here = world(people=30)
    here.provider.during = lambda _prepared: here.status()["state"] == "sending" or 1 / 0
    runtime = here.runtime()
    start_send(runtime, 1, lambda _name: here.provider)
    assert rows_made(here) == 8
    with here.store.begin() as connection:
        connection.execute(update(batches).values(state="done", counts={"accepted": 4}))
        connection.execute(update(deliveries).values(state="accepted"))
    here.run()
    assert here.status()["state"] == "sent"
    assert here.counts() == {"total": 30, "accepted": 30}
    assert len(here.provider.received) == 22


def test_any_worker_goes_on_with_the_next_part_and_batches_stay_whole(world):
    here = world(people=30)
    start_send(here.runtime(), 1, lambda _name: here.provider)
    assert fill_more(here.runtime())
    assert here.verify() == []
    while fill_more(here.runtime()):
        pass
    with here.store.read() as connection:
        sizes = connection.execute(
            select(batches.c.hi - batches.c.lo + 1).order_by(batches.c.number)
        ).scalars()
        assert list(sizes) == [4] * 7 + [2]
        assert connection.execute(select(sends.c.unfilled)).scalar_one() == 0
        assert connection.execute(select(eligible)).all() == []
    here.run()
    assert here.provider.received == everybody(here)


def test_paused_while_it_is_filled_it_goes_on_where_it_was(world):
    here = world(people=30)

    def stop():
        with here.store.begin() as connection:
            pause(connection, "milia.1", here.clock.now())

    here.provider.during = once(stop)
    here.run()
    assert (here.status()["state"], here.counts()["total"]) == ("paused", 30)
    assert not fill_more(here.runtime())
    assert here.verify() == []
    with here.store.begin() as connection:
        resume(connection, "milia.1", here.clock.now())
    here.run()
    assert here.provider.received == everybody(here)
    assert here.counts() == {"total": 30, "accepted": 30}


def test_cancelled_while_it_is_filled_everybody_has_a_row_with_the_reason(world):
    here = world(people=30, settings={"in_flight": 1})

    def end():
        with here.store.begin() as connection:
            cancel(connection, "milia.1", here.clock.now())

    here.provider.during = once(end)
    here.run()
    assert here.counts() == {"total": 30, "accepted": 4, "skipped": 26}
    assert "0 of 30 had left, 4 more may have" in here.status()["reason"]
    reasons = {row["reason"] for row in export_rows(here.store, "milia.1")}
    assert reasons == {"", "the send was cancelled"}
    assert here.verify() == []


def test_parts_whose_variants_come_one_after_another_leave_nobody_out(world):
    here = world(people=30, schedule=False)
    schedule_send(here.store, make_compiled(segments=("vip",)))
    vips = [{"segment": "vip", "subscriber_id": number} for number in (1, 2, 8, 9, 16, 17, 30)]
    with here.store.begin() as connection:
        connection.execute(insert(segment_members), vips)
    here.run()
    assert here.provider.received == everybody(here)
    assert here.counts() == {"total": 30, "accepted": 30}
    assert here.verify() == []


def test_a_variant_that_is_missing_in_a_later_part_holds_the_send(world):
    here = world(people=30, schedule=False)
    compiled = make_compiled(segments=("vip",))
    del compiled.variants["vip"]
    schedule_send(here.store, compiled)
    with here.store.begin() as connection:
        connection.execute(insert(segment_members).values(segment="vip", subscriber_id=20))
    here.run()
    told = here.status()
    assert (told["state"], told["counts"]["total"]) == ("held", 30)
    assert "has no variant for vip" in told["reason"]
    assert here.verify() == []
