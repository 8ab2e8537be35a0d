"""What an attempt does to the rows of its request: they are being sent, and then accepted with the
messages' ids or not, and why.

Rows move only while they belong to the attempt that speaks of them. The statements are made once
and run by the driver itself: the outcomes of a large send are millions of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Text,
    TextClause,
    Update,
    and_,
    bindparam,
    literal_column,
    text,
    true,
    update,
)

from newsletter.audience import segment_select
from newsletter.delivery.bulk import run_many, to_ranges
from newsletter.delivery.transitions import LEFT, delivery_move, in_states
from newsletter.store.schema import deliveries, subscribers
from newsletter.store.types import to_microseconds

_NOW = bindparam("b_now", type_=BigInteger())  # microseconds since 1970
_MESSAGE = bindparam("b_message", type_=Text())
_MINE = and_(
    deliveries.c.send_id == bindparam("b_send"), deliveries.c.attempt == bindparam("b_attempt")
)
_THIS_ROW = and_(_MINE, deliveries.c.position == bindparam("b_position"))
_RANGE = and_(_MINE, deliveries.c.position.between(bindparam("b_lo"), bindparam("b_hi")))
#: More ranges than this are cheaper row by row, in one executemany.
_FEW = 8


def has_left() -> ColumnElement[bool]:
    """The condition on `deliveries` that nobody may write to this person any more."""
    eligible = segment_select("all").where(subscribers.c.id == deliveries.c.subscriber_id)
    # A value and no EXISTS, which PostgreSQL answers by reading the whole audience for each batch.
    return eligible.correlate(deliveries).scalar_subquery().is_(None)


_Message = ColumnElement[str] | TextClause
_ROW = ("b_send", "b_attempt", "b_position")
_SPAN = ("b_send", "b_attempt", "b_lo", "b_hi")


def _accept(rows: ColumnElement[bool], message: _Message) -> Update:
    return (
        delivery_move("accept")
        .where(rows)
        .values(reason=literal_column("''"), provider_message_id=message, updated_at=_NOW)
    )


def _identify(rows: ColumnElement[bool], message: _Message) -> Update:
    """An event was faster than the answer: the row only learns its message's id."""
    unnamed = deliveries.c.provider_message_id.is_(None)
    left = in_states(deliveries.c.state, tuple(sorted(LEFT)))
    return update(deliveries).where(rows, unnamed, left).values(provider_message_id=message)


# PostgreSQL takes the ids of a range as an array: a join with `unnest` would be planned by
# statistics that lag behind a fresh send.
_NTH_MESSAGE = text("(CAST(:b_messages AS text[]))[deliveries.position - :b_lo + 1]")
_ACCEPT_ONE, _IDENTIFY_ONE = _accept(_THIS_ROW, _MESSAGE), _identify(_THIS_ROW, _MESSAGE)
_ACCEPT_RANGE, _IDENTIFY_RANGE = _accept(_RANGE, _MESSAGE), _identify(_RANGE, _MESSAGE)
_ACCEPT_EACH, _IDENTIFY_EACH = _accept(_RANGE, _NTH_MESSAGE), _identify(_RANGE, _NTH_MESSAGE)
_WITH_REASON = {
    event: delivery_move(event)
    .where(_RANGE)
    .values(reason=bindparam("b_reason", type_=Text()), updated_at=_NOW)
    for event in ("reject", "defer")
}


def _open(who: ColumnElement[bool]) -> Update:
    return (
        delivery_move("attempt")
        .where(
            deliveries.c.send_id == bindparam("b_send"),
            deliveries.c.position.between(bindparam("b_lo"), bindparam("b_hi")),
            who,
        )
        .values(
            attempt=bindparam("b_attempt", type_=Text()),
            reason=literal_column("''"),
            updated_at=_NOW,
        )
    )


_OPEN = _open(~has_left())
_OPEN_WHOEVER = _open(true())


def open_rows(
    connection: Connection,
    send_id: int,
    attempt: str,
    positions: Iterable[int],
    now: datetime,
    *,
    whoever: bool = False,
) -> int:
    """Pending rows become `sending` under an attempt; how many were still pending.

    Nobody's row does who has left: that is asked here, by the statement that binds the attempt.
    With `whoever` theirs do too: of an attempt that was made long ago.
    """
    when = to_microseconds(now)
    spans = [(send_id, attempt, lo, hi, when) for lo, hi in to_ranges(positions)]
    statement = _OPEN_WHOEVER if whoever else _OPEN
    return run_many(connection, statement, (*_SPAN, "b_now"), spans)


def accept_rows(
    connection: Connection, send_id: int, attempt: str, messages: Mapping[int, str], now: datetime
) -> int:
    """Rows of the attempt are accepted; rising position → provider message id. How many moved.

    One id for the whole request makes it one UPDATE for each range of positions.
    """
    ranges = to_ranges(messages)
    mine = (send_id, attempt)
    when = to_microseconds(now)
    told = list(messages.values())
    same = len(set(told)) == 1
    if len(ranges) > _FEW or not (same or connection.dialect.name == "postgresql"):
        rows = [(*mine, place, message) for place, message in messages.items()]
        timed = [(*row, when) for row in rows]
        moved = run_many(connection, _ACCEPT_ONE, (*_ROW, "b_message", "b_now"), timed)
        if moved != len(rows):
            run_many(connection, _IDENTIFY_ONE, (*_ROW, "b_message"), rows)
        return moved
    moved = 0
    for lo, hi in ranges:
        of_range, told = told[: hi - lo + 1], told[hi - lo + 1 :]
        if same:
            values: tuple[Any, ...] = (*mine, lo, hi, of_range[0])
            accept, identify, names = _ACCEPT_RANGE, _IDENTIFY_RANGE, (*_SPAN, "b_message")
        else:
            values = (*mine, lo, hi, of_range)
            accept, identify, names = _ACCEPT_EACH, _IDENTIFY_EACH, (*_SPAN, "b_messages")
        accepted = run_many(connection, accept, (*names, "b_now"), [(*values, when)])
        if accepted != len(of_range):
            run_many(connection, identify, names, [values])
        moved += accepted
    return moved


def give_reasons(
    connection: Connection,
    send_id: int,
    attempt: str,
    event: str,
    reasons: Mapping[int, str],
    now: datetime,
) -> None:
    """Rows of the attempt move by `event`; rising position → reason, most often the same one."""
    mine = (send_id, attempt)
    when = to_microseconds(now)
    by_reason: dict[str, list[int]] = {}
    for place, reason in reasons.items():
        by_reason.setdefault(reason, []).append(place)
    spans = [
        (*mine, lo, hi, reason, when)
        for reason, places in by_reason.items()
        for lo, hi in to_ranges(places)
    ]
    run_many(connection, _WITH_REASON[event], (*_SPAN, "b_reason", "b_now"), spans)
