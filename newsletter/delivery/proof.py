"""What the provider's events say about deliveries: they settle doubts and are never undone.

An event about a message proves that it was accepted, whatever the ledger thought; a state that an
event gave is not taken back by an earlier event that comes late, and a repeat changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, Text, Update, bindparam, func, or_, select, update

from newsletter.audience import comparison_key
from newsletter.delivery.attempts import load_attempt, scrub, settle_if_clear
from newsletter.delivery.bulk import from_ranges, to_ranges
from newsletter.delivery.counting import note_change
from newsletter.delivery.ending import finish_if_done
from newsletter.delivery.pacing.quota import give_back
from newsletter.delivery.transitions import DELIVERY, delivery_move
from newsletter.providers.base import Event, EventType
from newsletter.store.schema import attempts, deliveries, subscribers
from newsletter.store.types import Instant

_DELIVERY_KEY = re.compile(r"(\d{1,9})\.(\d{1,9})", re.ASCII)  # of 32 bits each
_DROPPED = "the provider dropped it and does not say why"
#: Event type → event of the delivery's machine. Those not named here say nothing about delivery.
_MEANS = {
    EventType.ACCEPTED: "accept",
    EventType.DEFERRED: "accept",
    EventType.UNSUBSCRIBED: "accept",
    EventType.OPENED: "accept",
    EventType.CLICKED: "accept",
    EventType.DELIVERED: "delivered",
    EventType.BOUNCED: "bounced",
    EventType.COMPLAINED: "complained",
}


@dataclass(frozen=True, slots=True)
class Matched:
    """The delivery that an event is about; `changed` if its state moved."""

    send_id: int
    position: int
    subscriber_id: int
    changed: bool


def apply_event(
    connection: Connection, event: Event, *, provider: str, now: datetime
) -> Matched | None:
    """Find the delivery that an event is about and move its state; None where there is none.

    Runs in the caller's transaction; applying the same event again changes nothing.
    """
    row = _find(connection, event, provider)
    if row is None:
        return None
    became = _move(connection, row, event, now)
    if became:
        note_change(connection, row.send_id, row.batch, row.state, became)
        _credit(connection, row, event, now)
        scrub(connection, row.send_id, row.position, row.position)
        finish_if_done(connection, row.send_id, now)
    return Matched(row.send_id, row.position, row.subscriber_id, bool(became))


def _find(connection: Connection, event: Event, provider: str) -> Row[Any] | None:
    """By the delivery's key in the message's metadata, else by address and message id.

    A provider speaks of the attempts that went through it, whoever else sent of the same send.
    """
    told = _DELIVERY_KEY.fullmatch(event.metadata.get("delivery", ""))
    if told is not None and event.metadata.get("attempt"):
        key = {"b_send": int(told[1])}
        ours = {**key, "b_id": event.metadata["attempt"], "b_provider": provider}
        if connection.execute(_OURS, ours).one_or_none() is not None:
            return connection.execute(_TRIED, {**key, "b_position": int(told[2])}).one_or_none()
    if not event.provider_message_id or not event.recipient:
        return None
    # No index has the message ids: it would cost each send more than all else in the ledger.
    address = subscribers.c.email_key == comparison_key(event.recipient)
    known = connection.execute(select(subscribers.c.id).where(address)).one_or_none()
    whose = address if known is not None else subscribers.c.state == "forgotten"
    by_id = _ALL_TRIED.where(
        attempts.c.provider == provider,
        deliveries.c.subscriber_id.in_(select(subscribers.c.id).where(whose)),
        deliveries.c.provider_message_id == event.provider_message_id,
    )
    return connection.execute(by_id.order_by(deliveries.c.send_id).limit(1)).one_or_none()


def _move(connection: Connection, row: Row[Any], event: Event, now: datetime) -> str:
    """The delivery's new state; '' where the event changes nothing."""
    if event.type is EventType.REJECTED:  # taken, and then dropped by the provider
        name = "drop" if row.state == "accepted" else "reject"
    else:
        name = _MEANS[event.type]
    if name == "accept" and row.state == "sending":
        return ""  # its answer is on its way and says it better
    if name not in DELIVERY[row.state]:
        return ""
    values = {
        "b_send": row.send_id,
        "b_position": row.position,
        "b_state": row.state,
        "b_reason": event.reason or (_DROPPED if event.type is EventType.REJECTED else ""),
        "b_now": now,
        "b_at": event.at,
        "b_message": event.provider_message_id or None,
    }
    moved = connection.execute(_event_move(name), values).rowcount == 1
    return DELIVERY[row.state][name] if moved else ""


@lru_cache(maxsize=16)
def _event_move(name: str) -> Update:
    """Moves one delivery out of the state that it was read in, unless it knows a later event."""
    at = bindparam("b_at", type_=Instant())
    known = func.coalesce(deliveries.c.provider_message_id, bindparam("b_message", type_=Text()))
    values: dict[str, Any] = {
        "reason": bindparam("b_reason"),
        "updated_at": bindparam("b_now"),
        "provider_message_id": known,
    }
    if name != "accept":
        values["event_at"] = at
    statement = delivery_move(name).where(
        deliveries.c.send_id == bindparam("b_send"),
        deliveries.c.position == bindparam("b_position"),
        deliveries.c.state == bindparam("b_state"),
    )
    if name != "complained":
        not_newer = or_(deliveries.c.event_at.is_(None), deliveries.c.event_at <= at)
        statement = statement.where(not_newer)
    return statement.values(values)


_OURS = select(attempts.c.id).where(
    attempts.c.id == bindparam("b_id"),
    attempts.c.send_id == bindparam("b_send"),
    attempts.c.provider == bindparam("b_provider"),
)
_ALL_TRIED = select(deliveries, attempts.c.batch).join(
    attempts, attempts.c.id == deliveries.c.attempt
)
_TRIED = _ALL_TRIED.where(
    deliveries.c.send_id == bindparam("b_send"), deliveries.c.position == bindparam("b_position")
)


def _credit(connection: Connection, row: Row[Any], event: Event, now: datetime) -> None:
    """The attempt that carried the message is known to have been accepted for this position."""
    carried = event.metadata.get("attempt") or row.attempt
    if carried != row.attempt and row.state in {"pending", "skipped"}:
        connection.execute(
            update(deliveries)
            .where(deliveries.c.send_id == row.send_id, deliveries.c.position == row.position)
            .values(attempt=carried)
        )
    attempt = load_attempt(connection, carried)
    if attempt is None:
        return
    if attempt.state == "in_doubt":
        settle_if_clear(connection, attempt, now)
        return
    query = select(attempts.c.not_accepted).where(attempts.c.id == carried)
    refused = from_ranges(connection.execute(query).scalar_one() or [])
    if row.position in refused and event.type is not EventType.REJECTED:
        refused.remove(row.position)
        connection.execute(
            update(attempts).where(attempts.c.id == carried).values(not_accepted=to_ranges(refused))
        )
        give_back(connection, carried, -1)
