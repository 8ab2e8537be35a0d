"""The end of a send: `sent` once every delivery is with the provider or surely never will be,
`held` when doubts remain that nothing can settle; and when an idle engine must wake again.
"""

from __future__ import annotations

import logging
from datetime import datetime

from sqlalchemy import Connection, exists, func, literal, select

from newsletter.delivery.notices import hold
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.delivery.transitions import move_send
from newsletter.store.schema import batches, deliveries, sends
from newsletter.store.types import Instant

_log = logging.getLogger(__name__)


def finish_sends(runtime: DeliveryRuntime) -> None:
    """End the sends whose batches are all done."""
    with runtime.store.read() as connection:
        ending = _without_open_batches(connection)
    for send_id, name, state in ending:
        with runtime.store.begin() as connection:
            if finish_if_done(connection, send_id, runtime.clock.now()):
                _log.info("send %s is sent", name)
            elif state == "sending":
                reason = _doubts(_unfinished(connection, send_id))
                hold(connection, runtime, send_id, reason, cause="in-doubt")


def finish_if_done(connection: Connection, send_id: int, now: datetime) -> bool:
    """Whether nothing is left to do for the send and it was ended now; also if it was held."""
    working = select(exists().where(batches.c.send_id == send_id, batches.c.state != "done"))
    filled = select(sends.c.filled_at).where(sends.c.id == send_id)
    if (
        connection.execute(filled).scalar_one() is None
        or connection.execute(working).scalar_one()
        or _unfinished(connection, send_id)
    ):
        return False
    return move_send(connection, send_id, "finish", finished_at=now, reason="")


def _without_open_batches(connection: Connection) -> list[tuple[int, str, str]]:
    working = exists().where(batches.c.send_id == sends.c.id, batches.c.state != "done")
    query = select(sends.c.id, sends.c.send, sends.c.state).where(
        sends.c.state.in_(["sending", "paused", "held"]), sends.c.filled_at.is_not(None), ~working
    )
    return [tuple(row) for row in connection.execute(query.order_by(sends.c.id))]


def _unfinished(connection: Connection, send_id: int) -> dict[str, int]:
    query = (
        select(deliveries.c.state, func.count().label("number"))
        .where(
            deliveries.c.send_id == send_id,
            deliveries.c.state.in_(["pending", "sending", "in_doubt"]),
        )
        .group_by(deliveries.c.state)
    )
    return {row.state: row.number for row in connection.execute(query)}


def _doubts(left: dict[str, int]) -> str:
    count = left.get("in_doubt", 0)
    others = sum(left.values()) - count
    assert not others, f"a send without open batches has {left}"
    noun = "delivery is" if count == 1 else "deliveries are"
    return (
        f"{count} {noun} in doubt and nothing can settle that by itself: an event may still do so, "
        "or decide with `newsletter ledger resolve`"
    )


def next_wake(connection: Connection, now: datetime, *, of_others: bool = True) -> datetime | None:
    """When there is work again for sends that are going on, or None when there is none at all.

    A batch that another worker holds is work again when its lease runs out, at the latest; those
    count only when `of_others`.
    """
    query = (
        select(
            batches.c.state,
            func.min(func.coalesce(batches.c.not_before, literal(now, Instant()))),
            func.max(sends.c.not_before),
            func.min(batches.c.lease_until),
        )
        .join(sends, sends.c.id == batches.c.send_id)
        .where(sends.c.state.in_(["sending", "cancelled"]), batches.c.state.in_(["open", "leased"]))
        .group_by(batches.c.send_id, batches.c.state)
    )
    times: list[datetime] = []
    for state, batch_at, send_at, lease_until in connection.execute(query):
        if state == "open":
            times.append(max(batch_at, send_at) if send_at is not None else batch_at)
        elif of_others:
            times.append(lease_until)
    return min(times, default=None)
