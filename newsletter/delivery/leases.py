"""Leases of batches: who works on one holds it for a time, under a token that only grows.

A batch is `open` (something is left to do), `leased`, or `done`. Whose lease was taken over makes
no attempt and gives nothing back; the outcome of a request that it made is still knowledge, and is
guarded by the attempt's state instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)

from newsletter.delivery.attempts import doubt, scrub
from newsletter.delivery.transitions import delivery_move
from newsletter.store import notify
from newsletter.store.schema import attempts, batches, deliveries, sends
from newsletter.store.types import Instant


@dataclass(frozen=True, slots=True)
class Lease:
    """One batch of one send, held under `token`; its rows are positions `lo`..`hi`."""

    send_id: int
    number: int
    lo: int
    hi: int
    token: int
    tries: int
    failures: int
    until: datetime


def take(
    connection: Connection, send_id: int, holder: str, now: datetime, duration: timedelta
) -> Lease | None:
    """Lease the next batch of a send that is `sending`, or None where none is ready.

    A cancelled send's open batches have only doubts to settle.
    """
    row = connection.execute(_next_open(send_id, now)).one_or_none()
    if row is None:
        return None
    statement = (
        update(batches)
        .where(
            batches.c.send_id == send_id,
            batches.c.number == row.number,
            batches.c.state == "open",
            batches.c.lease_token == row.lease_token,
        )
        .values(
            state="leased",
            lease_holder=holder,
            lease_token=row.lease_token + 1,
            lease_until=now + duration,
        )
    )
    if connection.execute(statement).rowcount != 1:
        return None
    return Lease(
        send_id=send_id,
        number=row.number,
        lo=row.lo,
        hi=row.hi,
        token=row.lease_token + 1,
        tries=row.tries,
        failures=row.failures,
        until=now + duration,
    )


def _next_open(send_id: int, now: datetime) -> Select[Any]:
    columns = batches.c
    return (
        select(
            columns.number,
            columns.lo,
            columns.hi,
            columns.lease_token,
            columns.tries,
            columns.failures,
        )
        .where(
            columns.send_id == send_id,
            columns.state == "open",
            or_(columns.not_before.is_(None), columns.not_before <= now),
            exists().where(
                sends.c.id == send_id,
                sends.c.state.in_(["sending", "cancelled"]),
                or_(sends.c.not_before.is_(None), sends.c.not_before <= now),
            ),
        )
        .order_by(columns.number)
        .limit(1)
        .with_for_update(skip_locked=True, of=batches)
    )


def renew(connection: Connection, lease: Lease, now: datetime, duration: timedelta) -> bool:
    """Whether the lease still was ours; it now lasts until `now + duration`."""
    statement = update(batches).where(*_held(lease)).values(lease_until=now + duration)
    return connection.execute(statement).rowcount == 1


def count_try(connection: Connection, lease: Lease) -> int | None:
    """The number of the next attempt, or None if the lease was lost or the send stopped."""
    going = exists().where(sends.c.id == lease.send_id, sends.c.state == "sending")
    statement = (
        update(batches)
        .where(*_held(lease), going)
        .values(tries=batches.c.tries + 1)
        .returning(batches.c.tries)
    )
    return connection.execute(statement).scalar_one_or_none()


def give_back(
    connection: Connection,
    lease: Lease,
    now: datetime,
    *,
    not_before: datetime | None = None,
    failed: bool = False,
    progress: bool = True,
) -> bool:
    """End the lease: `done` if nothing is left in the batch, else `open`, not before a time.

    `failed` counts a failure in a row; `progress` (without `failed`) clears the count.
    """
    values: dict[str, object] = {"lease_holder": None, "lease_until": None}
    if failed:
        values["failures"] = batches.c.failures + 1
        values["failing_since"] = func.coalesce(batches.c.failing_since, literal(now, Instant()))
    elif progress:
        values |= {"failures": 0, "failing_since": None}
    cancel_rest(connection, lease, now)
    if not_before is not None:  # another worker may rest until this lease would have run out
        notify(connection, "sends")
    left = not_before is not None or has_work(connection, lease)
    values |= {"state": "open" if left else "done", "not_before": not_before}
    statement = update(batches).where(*_held(lease)).values(values)
    return connection.execute(statement).rowcount == 1


def is_cancelled(connection: Connection, lease: Lease) -> bool:
    state = select(sends.c.state).where(sends.c.id == lease.send_id)
    return bool(connection.execute(state).scalar_one() == "cancelled")


def cancel_rest(connection: Connection, lease: Lease, now: datetime) -> None:
    """Rows that came back from a request after the send was cancelled are not sent any more."""
    if not _has_pending(connection, lease):
        return
    # Waits for a cancel under way in another process, which does not see these rows yet.
    state = select(sends.c.state).where(sends.c.id == lease.send_id)
    if connection.execute(state.with_for_update(key_share=True)).scalar_one() != "cancelled":
        return
    connection.execute(
        delivery_move("cancel")
        .where(
            deliveries.c.send_id == lease.send_id,
            deliveries.c.position.between(lease.lo, lease.hi),
        )
        .values(reason="the send was cancelled", updated_at=now)
    )
    scrub(connection, lease.send_id, lease.lo, lease.hi)


def worked_on() -> ColumnElement[bool]:
    """Of a row of `sends`: it goes on, or it was cancelled with doubts that are being settled."""
    unfinished = exists().where(batches.c.send_id == sends.c.id, batches.c.state != "done")
    return or_(sends.c.state == "sending", and_(sends.c.state == "cancelled", unfinished))


def give_up_cancelled(connection: Connection, send_id: int) -> None:
    """Leave the doubts of a cancelled send to a person; another send is left as it is."""
    cancelled = exists().where(sends.c.id == send_id, sends.c.state == "cancelled")
    connection.execute(
        update(attempts)
        .where(attempts.c.send_id == send_id, attempts.c.state == "in_doubt", cancelled)
        .values(settle_at=None)
    )
    connection.execute(
        update(batches)
        .where(batches.c.send_id == send_id, batches.c.state == "open", cancelled)
        .values(state="done", not_before=None)
    )


def has_work(connection: Connection, lease: Lease) -> bool:
    """Whether rows wait to be sent in the batch, or an attempt of it waits to be settled."""
    doubtful = select(
        exists().where(
            attempts.c.send_id == lease.send_id,
            attempts.c.batch == lease.number,
            or_(
                attempts.c.state == "started",
                and_(attempts.c.state == "in_doubt", attempts.c.settle_at.is_not(None)),
            ),
        )
    )
    return _has_pending(connection, lease) or bool(connection.execute(doubtful).scalar_one())


def _has_pending(connection: Connection, lease: Lease) -> bool:
    pending = exists().where(
        deliveries.c.send_id == lease.send_id,
        deliveries.c.position.between(lease.lo, lease.hi),
        deliveries.c.state == "pending",
    )
    return bool(connection.execute(select(pending)).scalar_one())


def failing_since(connection: Connection, lease: Lease) -> datetime | None:
    """Since when the batch has made no progress; None while it does."""
    query = select(batches.c.failing_since).where(
        batches.c.send_id == lease.send_id, batches.c.number == lease.number
    )
    since: datetime | None = connection.execute(query).scalar_one()
    return since


def all_leases(connection: Connection) -> list[tuple[int, int, int, str, datetime]]:
    """Every lease there is: (send id, batch, token, holder, until)."""
    columns = batches.c
    query = select(
        columns.send_id,
        columns.number,
        columns.lease_token,
        columns.lease_holder,
        columns.lease_until,
    ).where(columns.state == "leased")
    return [tuple(row) for row in connection.execute(query)]


def break_lease(
    connection: Connection,
    send_id: int,
    number: int,
    token: int,
    now: datetime,
    *,
    over_at: datetime,
) -> bool:
    """Open a batch whose worker vanished; a request that it had begun is in doubt from now on.

    `over_at` is when that request has surely ended.
    """
    statement = (
        update(batches)
        .where(
            batches.c.send_id == send_id,
            batches.c.number == number,
            batches.c.state == "leased",
            batches.c.lease_token == token,
        )
        .values(
            state="open",
            lease_holder=None,
            lease_until=None,
            lease_token=batches.c.lease_token + 1,
            not_before=None,
        )
    )
    if connection.execute(statement).rowcount != 1:
        return False
    query = select(attempts.c.id).where(
        attempts.c.send_id == send_id, attempts.c.batch == number, attempts.c.state == "started"
    )
    for attempt in connection.execute(query).scalars().all():
        doubt(
            connection,
            attempt,
            now,
            reason="the worker that made the request is gone",
            settle_at=now,
            over_at=over_at,
        )
    return True


def _held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return (
        batches.c.send_id == lease.send_id,
        batches.c.number == lease.number,
        batches.c.state == "leased",
        batches.c.lease_token == lease.token,
    )
