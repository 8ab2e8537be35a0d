"""Segments: who may be written to now, in one query."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Connection, insert

from newsletter.audience import (
    add,
    mark_suppressed,
    segment_exists,
    segment_select,
    segment_size,
    segments,
    unsubscribe,
    update_preferences,
)
from newsletter.store import Store
from newsletter.store.schema import deliveries, frozen_issues, sends
from support.site import FakeClock

KEY = b"k" * 32


def add_people(connection: Connection, clock: FakeClock) -> dict[str, int]:
    people = {}
    for name, consent, segment in (
        ("ann", "x", "vip"),
        ("bob", "x", "vip"),
        ("cat", "x", ""),
        ("dan", "", "vip"),
        ("eve", "x", "only-eve"),
    ):
        people[name] = add(
            connection,
            KEY,
            f"{name}@example.com",
            now=clock.now(),
            consent=consent,
            segment=segment,
        )
    unsubscribe(connection, people["bob"], how="page", now=clock.now())
    mark_suppressed(connection, people["eve"], reason="406 inactive", now=clock.now())
    return people


def test_only_active_people_who_are_not_suppressed_are_in_a_segment(
    store: Store, clock: FakeClock
) -> None:
    with store.begin() as connection:
        people = add_people(connection, clock)
        chosen = {
            name: set(connection.scalars(segment_select(name)))
            for name in ("all", "vip", "only-eve", "nobody")
        }
        assert chosen == {
            "all": {people["ann"], people["cat"]},
            "vip": {people["ann"]},
            "only-eve": set(),
            "nobody": set(),
        }
        assert segments(connection) == [
            {"name": "all", "size": 2},
            {"name": "only-eve", "size": 0},
            {"name": "vip", "size": 1},
        ]
        exist = [segment_exists(connection, name) for name in ("all", "only-eve", "nobody")]
        assert exist == [True, True, False]


@pytest.mark.parametrize(
    ("state", "days_ago", "size"),
    [("delivered", 7, 1), ("pending", 7, 1), ("delivered", 28, 2), ("skipped", 7, 2)],
)
def test_who_wants_one_issue_a_month_gets_no_second(
    store: Store, clock: FakeClock, state: str, days_ago: int, size: int
) -> None:
    now = clock.now()
    then = now - timedelta(days=days_ago)
    with store.begin() as connection:
        people = add_people(connection, clock)
        update_preferences(
            connection,
            people["ann"],
            now=now,
            first_name="",
            last_name="",
            topics=[],
            frequency="monthly",
        )
        connection.execute(
            insert(frozen_issues).values(
                sha256="f" * 64, issue="one", compiled=b"", source_sha256="", created_at=then
            )
        )
        connection.execute(
            insert(sends).values(
                id=1,
                send="one.1",
                issue="one",
                frozen="f" * 64,
                segment="all",
                provider="main",
                state="sent",
                at=then,
                created_at=then,
                started_at=then,
            )
        )
        for position, name in enumerate(("ann", "cat"), start=1):
            connection.execute(
                insert(deliveries).values(
                    send_id=1,
                    position=position,
                    subscriber_id=people[name],
                    email="x",
                    state=state,
                    updated_at=now,
                )
            )
        assert segment_size(connection, "all", now) == size
        assert segment_size(connection, "all") == 2
