"""Leases of batches: who works on one holds it for a time, under a token that only grows.

A batch is `open` (something is left to do), `leased`, or `done`. Whose lease was taken over makes
no attempt and gives nothing back; the outcome of a request that it made is still knowledge, and is
guarded by the attempt's state instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)

from newsletter.delivery import breaker, counting
from newsletter.delivery.attempts import count_lag_from, doubt, scrub
from newsletter.delivery.canary import released
from newsletter.delivery.failover import OPEN, Admission, being_settled, may_take
from newsletter.delivery.transitions import delivery_move, in_states
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
    doubtful: bool = False  # an attempt of it is in doubt that something can still settle


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
    query = _next_open(provider, admitted.instead_of, admitted.doubts_only, tuple(shut))
    row = connection.execute(query, {"b_send": send_id, "b_now": now}).one_or_none()
    if row is None:
        return None
    values = {
        "b_send": send_id,
        "b_number": row.number,
        "b_token": row.lease_token,
        "b_holder": holder,
        "b_until": now + duration,
        # Nothing of it is in doubt, and the token keeps it so: it may go to another provider.
        "b_provider": row.provider if row.through == provider else provider,
    }
    if connection.execute(_LEASE, values).rowcount != 1:
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
        doubtful=bool(row.doubtful),
    )


@lru_cache(maxsize=256)
def _next_open(
    provider: str, instead_of: tuple[str, ...], doubts_only: bool, shut: tuple[str, ...]
) -> Select[Any]:
    columns = batches.c
    now = bindparam("b_now", type_=Instant())
    own = select(sends.c.provider).where(sends.c.id == columns.send_id).scalar_subquery()
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
            being_settled().label("doubtful"),
        )
        .where(
            columns.send_id == bindparam("b_send"),
            unfinished(),
            columns.state == "open",
            or_(columns.not_before.is_(None), columns.not_before <= now),
            or_(columns.due_at.is_(None), columns.due_at <= now),
            exists().where(
                sends.c.id == columns.send_id,
                sends.c.state.in_(["sending", "cancelled"]),
                or_(sends.c.not_before.is_(None), sends.c.not_before <= now),
                may_take(provider, instead_of),
                released(),
            ),
        )
        .order_by(columns.number)
        .limit(1)
        .with_for_update(skip_locked=True, of=batches)
    )
    if shut:
        query = query.where(batches.c.pool.not_in(shut))
    return query.where(being_settled()) if doubts_only else query


def renew(connection: Connection, lease: Lease, now: datetime, duration: timedelta) -> bool:
    """Whether the lease still was ours; it now lasts until `now + duration`."""
    statement = update(batches).where(*_HELD).values(lease_until=now + duration)
    return connection.execute(statement, _key(lease)).rowcount == 1


def count_try(
    connection: Connection, lease: Lease, *, unless_open: str | None = None
) -> int | None:
    """The number of the next attempt; None if the lease was lost or the send stopped, or where the
    breaker of the provider `unless_open` is open."""
    key = {**_key(lease), "b_provider": unless_open}
    return connection.execute(_COUNT_TRY, key).scalar_one_or_none()


def give_back(
    connection: Connection,
    lease: Lease,
    now: datetime,
    *,
    not_before: datetime | None = None,
    failed: bool = False,
    progress: bool = True,
    accepted: int = 0,
) -> bool:
    """End the lease: `done` if nothing is left in the batch, else `open`, not before a time.

    `failed` counts a failure in a row; `progress` (without `failed`) clears the count. So many rows
    became `accepted` in this transaction: where those are all, none need be counted.
    """
    if accepted == lease.hi - lease.lo + 1:
        key = {**_key(lease), "b_counts": {"accepted": accepted}}
        if connection.execute(_GIVE_BACK_WHOLE, key).rowcount == 1:
            return True
    if not_before is not None:  # another worker may rest until this lease would have run out
        notify(connection, "sends")
    if connection.execute(_LOCK_HELD, _key(lease)).one_or_none() is None:
        cancel_rest(connection, lease, now)
        counting.forget(connection, lease.send_id, lease.number)
        return False
    counts = _counts(connection, lease)
    if "pending" in counts and cancel_rest(connection, lease, now):
        counts = _counts(connection, lease)
    left = not_before is not None or "pending" in counts or _is_doubtful(connection, lease)
    values = {"b_state": "open" if left else "done", "b_not_before": not_before, "b_counts": counts}
    statement = _GIVE_BACK
    if failed:
        statement = _GIVE_BACK_FAILED
        values["b_now"] = now
    elif progress:
        statement = _GIVE_BACK_MOVED
    return connection.execute(statement, {**_key(lease), **values}).rowcount == 1


def unfinished() -> ColumnElement[bool]:
    """Of a batch, that it is not done: written out, as the index of such batches is."""
    return batches.c.state != literal_column("'done'")


def is_cancelled(connection: Connection, lease: Lease) -> bool:
    state = connection.execute(_STATE, {"b_send": lease.send_id}).scalar_one()
    return bool(state == "cancelled")


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
    key = {"b_send": lease.send_id, "b_number": lease.number}
    return bool(connection.execute(_IS_DOUBTFUL, key).scalar_one())


def failing_since(connection: Connection, lease: Lease) -> datetime | None:
    """Since when the batch has made no progress; None while it does."""
    key = {"b_send": lease.send_id, "b_number": lease.number}
    since: datetime | None = connection.execute(_FAILING_SINCE, key).scalar_one()
    return since


def all_leases(connection: Connection) -> list[tuple[int, int, int, str, datetime]]:
    """Every lease there is: (send id, batch, token, holder, until)."""
    return [tuple(row) for row in connection.execute(ALL)]


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
    # Before the batch, as whoever writes an outcome down takes them in this order too.
    key = {"b_send": send_id, "b_number": number}
    connection.execute(_LOCK_UNSETTLED, key)
    if connection.execute(_BREAK, {**key, "b_token": token}).rowcount != 1:
        return False
    # It may have been repeating one of these under its key.
    count_lag_from(connection, send_id, number, over_at)
    for attempt in connection.execute(_STARTED, key).scalars().all():
        doubt(
            connection,
            attempt,
            now,
            reason="the worker that made the request is gone",
            settle_at=now,
            over_at=over_at,
        )
    return True


def _key(lease: Lease) -> dict[str, Any]:
    return {"b_send": lease.send_id, "b_number": lease.number, "b_token": lease.token}


# Statements of every batch are made once: to make one costs more than to run it.
_ONE = (batches.c.send_id == bindparam("b_send"), batches.c.number == bindparam("b_number"))
_HELD = (*_ONE, batches.c.state == "leased", batches.c.lease_token == bindparam("b_token"))
_LEASE = (
    update(batches)
    .where(*_ONE, batches.c.state == "open", batches.c.lease_token == bindparam("b_token"))
    .values(
        state="leased",
        lease_holder=bindparam("b_holder"),
        lease_token=batches.c.lease_token + 1,
        lease_until=bindparam("b_until"),
        provider=bindparam("b_provider"),
        counts=None,
    )
)
#: Every lease that there is.
ALL = select(
    *(batches.c.send_id, batches.c.number),
    *(batches.c.lease_token, batches.c.lease_holder, batches.c.lease_until),
).where(unfinished(), batches.c.state == "leased")
_STATE = select(sends.c.state).where(sends.c.id == bindparam("b_send"))
_FAILING_SINCE = select(batches.c.failing_since).where(*_ONE)
_OF_BATCH = (attempts.c.send_id == bindparam("b_send"), attempts.c.batch == bindparam("b_number"))
_LOCK_UNSETTLED = (
    select(attempts.c.id)
    .where(*_OF_BATCH, in_states(attempts.c.state, ("started", "in_doubt")))
    .order_by(attempts.c.number)
    .with_for_update()
)
_STARTED = select(attempts.c.id).where(*_OF_BATCH, attempts.c.state == "started")
_BREAK = (
    update(batches)
    .where(*_HELD)
    .values(
        state="open",
        lease_holder=None,
        lease_until=None,
        lease_token=batches.c.lease_token + 1,
        not_before=None,
    )
)
_LOCK_HELD = select(batches.c.number).where(*_HELD).with_for_update()
_COUNT_TRY = (
    update(batches)
    .where(*_HELD, exists().where(sends.c.id == batches.c.send_id, sends.c.state == "sending"))
    .where(~breaker.has_opened(bindparam("b_provider", type_=Text())))
    .values(tries=batches.c.tries + 1)
    .returning(batches.c.tries)
)
_GIVE_BACK = (
    update(batches)
    .where(*_HELD)
    .values(
        state=bindparam("b_state"),
        not_before=bindparam("b_not_before"),
        counts=bindparam("b_counts"),
        lease_holder=None,
        lease_until=None,
    )
)
_GIVE_BACK_MOVED = _GIVE_BACK.values(failures=0, failing_since=None)
_GIVE_BACK_FAILED = _GIVE_BACK.values(
    failures=batches.c.failures + 1,
    failing_since=func.coalesce(batches.c.failing_since, bindparam("b_now", type_=Instant())),
)
_DOUBTFUL = exists().where(
    attempts.c.send_id == bindparam("b_send"),
    attempts.c.batch == bindparam("b_number"),
    or_(
        attempts.c.state == "started",
        and_(attempts.c.state == "in_doubt", attempts.c.settle_at.is_not(None)),
    ),
)
_IS_DOUBTFUL = select(_DOUBTFUL)
# Rows that became accepted just now had no event, so that no change waits to be taken in.
_GIVE_BACK_WHOLE = _GIVE_BACK_MOVED.where(~_DOUBTFUL).values(state="done", not_before=None)
