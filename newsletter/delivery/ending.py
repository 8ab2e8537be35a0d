"""The end of a send: `sent` once every delivery is with the provider or surely never will be,
`held` when doubts remain that nothing can settle; and when an idle engine must wake again.
"""

from __future__ import annotations

import logging
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, bindparam, exists, select

from newsletter.delivery.counting import by_state
from newsletter.delivery.leases import unfinished
from newsletter.delivery.notices import hold
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.delivery.transitions import SEND, in_states, move_send, sources
from newsletter.store.schema import batches, sends

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
                left = _unfinished(connection, send_id)
                if _is_all_done(connection, send_id):  # still, after its rows were counted
                    hold(connection, runtime, send_id, _what_is_left(left), cause="in-doubt")


def finish_if_done(connection: Connection, send_id: int, now: datetime) -> bool:
    """Whether nothing is left to do for the send and it was ended now; also if it was held."""
    if not _is_all_done(connection, send_id) or _unfinished(connection, send_id):
        return False
    return move_send(connection, send_id, "finish", finished_at=now, reason="")


def _without_open_batches(connection: Connection) -> list[tuple[int, str, str]]:
    return [tuple(row) for row in connection.execute(ALL_DONE)]


def _is_all_done(connection: Connection, send_id: int) -> bool:
    return connection.execute(_IS_ALL_DONE, {"b_send": send_id}).one_or_none() is not None


def _all_done() -> tuple[ColumnElement[bool], ...]:
    """Of a send that can end: it has all its recipients, and none of its batches is open."""
    return (
        in_states(sends.c.state, sources(SEND, "finish")),
        sends.c.filled_at.is_not(None),
        sends.c.unfilled == 0,
        ~exists().where(batches.c.send_id == sends.c.id, unfinished()),
    )


#: The sends whose batches are all done.
ALL_DONE = select(sends.c.id, sends.c.send, sends.c.state).where(*_all_done()).order_by(sends.c.id)
_IS_ALL_DONE = select(sends.c.id).where(sends.c.id == bindparam("b_send"), *_all_done())


def _unfinished(connection: Connection, send_id: int) -> dict[str, int]:
    found = by_state(connection, send_id)
    return {state: found[state] for state in ("pending", "sending", "in_doubt") if found[state]}


def _what_is_left(left: dict[str, int]) -> str:
    count = left.get("in_doubt", 0)
    if others := sum(left.values()) - count:  # a fault of ours, which must not stop other sends
        return f"{others} recipients have not got it, but none of its batches is open"
    noun = "delivery is" if count == 1 else "deliveries are"
    return (
        f"{count} {noun} in doubt and nothing can settle that by itself: an event may still do so, "
        "or decide with `newsletter ledger resolve`"
    )
