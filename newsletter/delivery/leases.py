"""Leases of batches: who works on one holds it for a time, under a token that only grows.

A batch is `open` (something is left to do), `leased`, or `done`. Whose lease was taken over makes
no attempt and gives nothing back; the outcome of a request that it made is still knowledge, and is
guarded by the attempt's state instead.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    literal_column,
    or_,
    select,
    update,
)

from newsletter.delivery import counting
from newsletter.delivery.attempts import doubt, scrub
from newsletter.delivery.canary import released
from newsletter.delivery.failover import OPEN, Admission, being_settled, may_take
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
    pool: str


def take(
    connection: Connection,
    send_id: int,
    provider: str,
    holder: str,
    now: datetime,
    duration: timedelta,
    *,
    admitted: Admission = OPEN,
    shut: Sequence[str] = (),
) -> Lease | None:
    """Lease the next batch that goes through `provider`, or None where none is ready.

    The send is `sending`; a cancelled send's open batches have only doubts to settle. Batches of
    the pools in `shut` wait.
    """
    query = _next_open(send_id, provider, now, admitted)
    if shut:
        query = query.where(batches.c.pool.not_in(shut))
    row = connection.execute(query).one_or_none()
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
            # Nothing of it is in doubt, and the token keeps it so: it may go to another provider.
            provider=row.provider if row.through == provider else provider,
            counts=None,
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
        pool=row.pool,
    )


def _next_open(send_id: int, provider: str, now: datetime, admitted: Admission) -> Select[Any]:
    columns = batches.c
    own = select(sends.c.provider).where(sends.c.id == send_id).scalar_subquery()
    query = (
        select(
            columns.number,
            columns.lo,
            columns.hi,
            columns.lease_token,
            columns.tries,
            columns.failures,
            columns.pool,
            columns.provider,
            func.coalesce(columns.provider, own).label("through"),
        )
        .where(
            columns.send_id == send_id,
            unfinished(),
            columns.state == "open",
            or_(columns.not_before.is_(None), columns.not_before <= now),
            or_(columns.due_at.is_(None), columns.due_at <= now),
            exists().where(
                sends.c.id == send_id,
                sends.c.state.in_(["sending", "cancelled"]),
                or_(sends.c.not_before.is_(None), sends.c.not_before <= now),
                may_take(provider, admitted.instead_of),
                released(),
            ),
        )
        .order_by(columns.number)
        .limit(1)
        .with_for_update(skip_locked=True, of=batches)
    )
    return query.where(being_settled()) if admitted.doubts_only else query


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
    if not_before is not None:  # another worker may rest until this lease would have run out
        notify(connection, "sends")
    held = select(batches.c.number).where(*_held(lease)).with_for_update()
    if connection.execute(held).one_or_none() is None:
        cancel_rest(connection, lease, now)
        counting.forget(connection, lease.send_id, lease.number)
        return False
    counts = _counts(connection, lease)
    if "pending" in counts and cancel_rest(connection, lease, now):
        counts = _counts(connection, lease)
    left = not_before is not None or "pending" in counts or _is_doubtful(connection, lease)
    values: dict[str, object] = {
        "state": "open" if left else "done",
        "not_before": not_before,
        "counts": counts,
        "lease_holder": None,
        "lease_until": None,
    }
    if failed:
        values["failures"] = batches.c.failures + 1
        values["failing_since"] = func.coalesce(batches.c.failing_since, literal(now, Instant()))
    elif progress:
        values |= {"failures": 0, "failing_since": None}
    statement = update(batches).where(*_held(lease)).values(values)
    return connection.execute(statement).rowcount == 1


def unfinished() -> ColumnElement[bool]:
    """Of a batch, that it is not done: written out, as the index of such batches is."""
    return batches.c.state != literal_column("'done'")


def is_cancelled(connection: Connection, lease: Lease) -> bool:
    state = select(sends.c.state).where(sends.c.id == lease.send_id)
    return bool(connection.execute(state).scalar_one() == "cancelled")


def cancel_rest(connection: Connection, lease: Lease, now: datetime) -> bool:
    """Rows that came back from a request after the send was cancelled are not sent any more."""
    # Waits for a cancel under way in another process, which does not see these rows yet.
    state = select(sends.c.state).where(sends.c.id == lease.send_id)
    if connection.execute(state.with_for_update(key_share=True)).scalar_one() != "cancelled":
        return False
    connection.execute(
        delivery_move("cancel")
        .where(
            deliveries.c.send_id == lease.send_id,
            deliveries.c.position.between(lease.lo, lease.hi),
        )
        .values(reason="the send was cancelled", updated_at=now)
    )
    scrub(connection, lease.send_id, lease.lo, lease.hi)
    return True


def worked_on() -> ColumnElement[bool]:
    """Of a row of `sends`: it goes on, or it was cancelled with doubts that are being settled."""
    working = exists().where(batches.c.send_id == sends.c.id, unfinished())
    return or_(sends.c.state == "sending", and_(sends.c.state == "cancelled", working))


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


def _counts(connection: Connection, lease: Lease) -> dict[str, int]:
    return counting.recount(connection, lease.send_id, lease.number, lease.lo, lease.hi)


def _is_doubtful(connection: Connection, lease: Lease) -> bool:
    """Whether an attempt of the batch is under way, or waits to be settled."""
    doubtful = exists().where(
        attempts.c.send_id == lease.send_id,
        attempts.c.batch == lease.number,
        or_(
            attempts.c.state == "started",
            and_(attempts.c.state == "in_doubt", attempts.c.settle_at.is_not(None)),
        ),
    )
    return bool(connection.execute(select(doubtful)).scalar_one())


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
    ).where(unfinished(), columns.state == "leased")
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
