"""The table of editions: planned ahead of time, and moved by guarded UPDATEs only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, and_, delete, insert, select, update

from newsletter.audience.sql import insert_into
from newsletter.scheduling.localtime import (
    Occurrence,
    earliest,
    last_occurrence,
    local_time,
    next_occurrences,
)
from newsletter.settings import Edition
from newsletter.store.schema import edition_items, editions, sends

#: state → states it may become; what has a send follows the send.
MACHINE: Mapping[str, frozenset[str]] = {
    "waiting": frozenset({"drafted", "approved", "held", "skipped"}),
    "drafted": frozenset({"approved", "held", "scheduled", "skipped", "drafted"}),
    "approved": frozenset({"drafted", "held", "scheduled", "skipped", "approved"}),
    "held": frozenset({"drafted", "approved", "scheduled", "skipped", "held"}),
}
OPEN = tuple(MACHINE)
_MOST_AHEAD = 100
_INSTANT = timedelta(microseconds=1)


def begins(edition: Edition, zone: ZoneInfo, at: datetime) -> datetime:
    """When a date's send starts: at its hour, or as the first zone on Earth gets to that hour."""
    return earliest(local_time(at, zone)) if edition.local_time else at


def plan(connection: Connection, edition: Edition, zone: Any, now: datetime) -> None:
    """See that every date has a row whose draft is due, and the one after; forget stale plans."""
    _forget_stale(connection, edition, zone, now)
    missed = last_occurrence(edition.cron, zone, now)
    if missed is not None and _was_down(connection, edition, missed):
        _add(connection, edition, missed, now)
    for number, occurrence in enumerate(next_occurrences(edition.cron, zone, now)):
        _add(connection, edition, occurrence, now)
        starts = begins(edition, zone, occurrence.at)
        if starts - edition.draft_before > now or number >= _MOST_AHEAD:
            return


def _was_down(connection: Connection, edition: Edition, missed: Occurrence) -> bool:
    """Whether an earlier hour passed unnoticed: the clock did not run, so it missed this one too.

    Without that, a rhythm that was just changed would make up for hours that it never had.
    """
    query = select(editions.c.date).where(
        editions.c.name == edition.name,
        editions.c.state.in_(OPEN),
        editions.c.send_id.is_(None),
        editions.c.send_at < missed.at,
    )
    return connection.execute(query.limit(1)).first() is not None


def _add(connection: Connection, edition: Edition, occurrence: Occurrence, now: datetime) -> None:
    statement = insert_into(connection, editions).values(
        name=edition.name,
        date=occurrence.date,
        send_at=occurrence.at,
        state="waiting",
        updated_at=now,
    )
    connection.execute(statement.on_conflict_do_nothing())


def _forget_stale(connection: Connection, edition: Edition, zone: Any, now: datetime) -> None:
    """Drop plans that the rhythm in the settings does not have any more."""
    planned = and_(
        editions.c.name == edition.name, editions.c.state == "waiting", editions.c.issue == ""
    )
    for row in connection.execute(select(editions).where(planned, editions.c.send_at > now)):
        due = next(next_occurrences(edition.cron, zone, row.send_at - _INSTANT))
        if (due.date, due.at) != (row.date, row.send_at):
            connection.execute(delete(editions).where(planned, editions.c.date == row.date))


def open_rows(connection: Connection, name: str) -> list[Row[Any]]:
    """The edition's dates that are neither over nor have a send, in order."""
    query = select(editions).where(
        editions.c.name == name, editions.c.state.in_(OPEN), editions.c.send_id.is_(None)
    )
    return list(connection.execute(query.order_by(editions.c.send_at)))


def again(connection: Connection, row: Row[Any]) -> Row[Any]:
    """The row as it is now."""
    return connection.execute(select(editions).where(*_is(row))).one()


def claim(
    connection: Connection, row: Row[Any], slug: str, *, drafted_here: bool, now: datetime
) -> bool:
    """Take a planned date before its file is written; false if another process has."""
    statement = (
        update(editions)
        .where(*_is(row), editions.c.state == "waiting", editions.c.issue == "")
        .values(issue=slug, drafted_here=drafted_here, updated_at=now)
    )
    return connection.execute(statement).rowcount == 1


def move(connection: Connection, row: Row[Any], state: str, now: datetime, **values: Any) -> bool:
    """Move a date out of the state that `row` saw; false if somebody changed it meanwhile."""
    assert state in MACHINE[row.state], f"{row.state} does not become {state}"
    statement = (
        update(editions)
        .where(
            *_is(row),
            editions.c.state == row.state,
            editions.c.source_sha256 == row.source_sha256,
            editions.c.send_id.is_(None),
        )
        .values(state=state, updated_at=now, **values)
    )
    return connection.execute(statement).rowcount == 1


def note(connection: Connection, row: Row[Any], reason: str, now: datetime) -> None:
    """Say why a planned date is not drafted yet."""
    connection.execute(
        update(editions)
        .where(*_is(row), editions.c.state == "waiting")
        .values(reason=reason, updated_at=now)
    )


def keep_items(connection: Connection, row: Row[Any], content: Collection[str]) -> None:
    """The content that the date's issue uses, in place of what was kept before."""
    here = and_(edition_items.c.name == row.name, edition_items.c.date == row.date)
    connection.execute(delete(edition_items).where(here))
    if content:
        connection.execute(
            insert(edition_items),
            [{"name": row.name, "date": row.date, "content": item} for item in content],
        )


# What a date says while its issue has a send.
_BY_SEND = {
    "scheduled": "scheduled",
    "sending": "scheduled",
    "sent": "sent",
    "paused": "held",
    "held": "held",
    "cancelled": "skipped",
}


def by_send(state: str, reason: str) -> tuple[str, str]:
    """State and reason of a date whose issue has a send in `state`."""
    return _BY_SEND[state], reason if state in {"paused", "held", "cancelled"} else ""


def follow_sends(connection: Connection, name: str, now: datetime) -> None:
    """Bring dates in line with their issue's send, whoever scheduled it."""
    query = (
        select(
            editions,
            sends.c.id.label("live_id"),
            sends.c.state.label("live_state"),
            sends.c.reason.label("live_reason"),
        )
        .join(sends, sends.c.issue == editions.c.issue)
        .where(editions.c.name == name, editions.c.state != "sent")
        .order_by(sends.c.id)
    )
    latest = {row.date: row for row in connection.execute(query)}
    for row in latest.values():
        if row.live_state == "cancelled" and row.send_id is None:
            continue  # scheduled by hand and cancelled again: the edition goes its own way
        state, reason = by_send(row.live_state, row.live_reason)
        if (state, reason, row.live_id) != (row.state, row.reason, row.send_id):
            statement = update(editions).where(*_is(row), editions.c.state == row.state)
            connection.execute(
                statement.values(state=state, reason=reason, send_id=row.live_id, updated_at=now)
            )


def _is(row: Row[Any]) -> tuple[Any, Any]:
    return editions.c.name == row.name, editions.c.date == row.date
