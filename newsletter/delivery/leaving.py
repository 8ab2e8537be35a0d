"""To whom of a batch may still be written: asked when it is leased, and before a repeat.

A new attempt asks once more, in the statement that binds its rows (`outcomes.open_rows`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    bindparam,
    case,
    exists,
    func,
    literal,
    select,
)

from newsletter.delivery.attempts import Attempt, scrub
from newsletter.delivery.composing import ROWS
from newsletter.delivery.leases import Lease
from newsletter.delivery.outcomes import has_left
from newsletter.delivery.transitions import delivery_move
from newsletter.store.schema import deliveries, subscribers


def skip_those_who_left(connection: Connection, lease: Lease, now: datetime) -> int:
    """Skip whom the batch must not reach any more, with the reason; set-based. Returns how many."""
    person = subscribers.c.id == deliveries.c.subscriber_id
    why = case(
        (
            subscribers.c.state == "active",
            literal("suppressed: ") + subscribers.c.suppressed,
        ),
        else_=subscribers.c.state,
    )
    reason = select(why).where(person).scalar_subquery()
    statement = (
        delivery_move("leave")
        .where(
            deliveries.c.send_id == lease.send_id,
            deliveries.c.position.between(lease.lo, lease.hi),
            has_left(),
        )
        .values(reason=func.coalesce(reason, "gone"), updated_at=now)
    )
    skipped = connection.execute(statement).rowcount
    if skipped:
        scrub(connection, lease.send_id, lease.lo, lease.hi)
    return skipped


def rows_to_send(connection: Connection, lease: Lease, now: datetime) -> list[Any]:
    """The batch's rows that wait to be sent; who has left since the start is skipped."""
    batch = {"b_send": lease.send_id, "b_lo": lease.lo, "b_hi": lease.hi}
    rows = connection.execute(_ROWS_TO_SEND, batch).all()
    whole = len(rows) == lease.hi - lease.lo + 1
    if not whole and connection.execute(_WAITING, batch).scalar_one() != len(rows):
        skip_those_who_left(connection, lease, now)
    return list(rows)


_WAITS = (
    deliveries.c.send_id == bindparam("b_send"),
    deliveries.c.position.between(bindparam("b_lo"), bindparam("b_hi")),
    deliveries.c.state == "pending",
)
_ROWS_TO_SEND = ROWS.where(*_WAITS, ~has_left())
_WAITING = select(func.count()).where(*_WAITS)


def someone_left(attempt: Attempt) -> Select[tuple[bool]]:
    """Whether nobody may write any more to one of those whose rows are the attempt's."""
    return select(
        exists().where(
            deliveries.c.send_id == attempt.send_id,
            deliveries.c.position.between(attempt.positions[0], attempt.positions[-1]),
            deliveries.c.attempt == attempt.id,
            has_left(),
        )
    )
