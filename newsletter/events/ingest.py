"""Takes in verified provider events: each once, matched to its delivery, with its consequences.

A batch may repeat, come late and out of order. What belongs to no message of ours is kept all the
same. Nothing here knows a provider's format.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from newsletter import audience
from newsletter.audience import BadAddress, normalise_address
from newsletter.delivery import apply_event
from newsletter.providers.base import Event, EventType
from newsletter.providers.machines import is_machine
from newsletter.store import Store, canonical_json
from newsletter.store.schema import events, subscribers
from newsletter.workspace import Workspace

_NUL = re.compile(r"[\x00\ud800-\udfff]")
_REDIRECT = re.compile(r"(/r/[\w-]+)\.[\w-]+", re.ASCII)
_SHOWN = (EventType.OPENED, EventType.CLICKED)


def ingest(
    store: Store, workspace: Workspace, provider: str, received: Sequence[Event], now: datetime
) -> int:
    """Store events and what follows from them in one transaction; how many were new.

    Raises `Unreachable` when the database cannot be reached: then nothing is stored, and the
    provider shall try again.
    """
    with store.begin() as connection:
        return sum(_take_in(connection, workspace, provider, event, now) for event in received)


def _take_in(
    connection: Connection, workspace: Workspace, provider: str, received: Event, now: datetime
) -> bool:
    event = _cleaned(received)
    stored = _store(connection, provider, event, now)
    if stored is None:
        return False
    match = apply_event(connection, event, provider=provider, now=now)
    person = match.subscriber_id if match else _person(connection, event.recipient)
    values = {"b_id": stored, "b_send": match.send_id if match else None, "b_person": person}
    forgotten = match is not None and _is_forgotten(connection, match.subscriber_id)
    connection.execute(_MATCH_AND_FORGET if forgotten else _MATCH, values)
    _heed(connection, workspace.key, event, person, match.send_id if match else 0, now)
    return True


_MATCH = (
    update(events)
    .where(events.c.id == bindparam("b_id"))
    .values(send_id=bindparam("b_send"), subscriber_id=bindparam("b_person"))
)
_MATCH_AND_FORGET = _MATCH.values(recipient="", event={}, url="")


def _store(connection: Connection, provider: str, event: Event, now: datetime) -> int | None:
    """The new row's id; None for an event that was stored before."""
    document = _document(event)
    row = {
        "provider": provider,
        "provider_event_id": event.provider_event_id or _digest(document),
        "type": event.type.value,
        "recipient": event.recipient,
        "provider_message_id": event.provider_message_id,
        "machine": event.machine,
        "url": _without_person(event.url),
        "at": event.at,
        "received_at": now,
        "event": document,
    }
    new: int | None = connection.scalar(_INSERT[connection.dialect.name], row)
    return new


_INSERT = {
    "postgresql": postgresql.insert(events).on_conflict_do_nothing().returning(events.c.id),
    "sqlite": sqlite.insert(events).on_conflict_do_nothing().returning(events.c.id),
}


def _cleaned(event: Event) -> Event:
    """The event without what no database takes; whether a person was there is decided here."""
    by_machine = event.type in _SHOWN and bool(event.user_agent) and is_machine(event.user_agent)
    return replace(
        event,
        recipient=_clean(event.recipient),
        provider_message_id=_clean(event.provider_message_id),
        provider_event_id=_clean(event.provider_event_id),
        reason=_clean(event.reason),
        response=_clean(event.response),
        url=_clean(event.url),
        user_agent=_clean(event.user_agent),
        machine=event.machine or by_machine,
        metadata={_clean(str(key)): _clean(str(value)) for key, value in event.metadata.items()},
        tags=tuple(_clean(tag) for tag in event.tags),
    )


def _document(event: Event) -> dict[str, Any]:
    """The event as JSON."""
    document = {field.name: getattr(event, field.name) for field in fields(event)}
    return {**document, "type": event.type.value}


def _digest(document: Mapping[str, Any]) -> str:
    """Stands in for the id where a provider has none: the same event gives the same."""
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def _without_person(url: str) -> str:
    """A link of ours without the recipient's part of its token: the column outlives erasure."""
    return _REDIRECT.sub(r"\1", url)


def _clean(text: str) -> str:
    return _NUL.sub("", text)


def _person(connection: Connection, recipient: str) -> int | None:
    try:
        key = normalise_address(recipient).key
    except BadAddress:
        return None
    person: int | None = connection.scalar(_BY_ADDRESS, {"b_key": key})
    return person


def _is_forgotten(connection: Connection, person: int) -> bool:
    """Whether the person was erased before the event came: it brings nothing back of them."""
    return connection.scalar(_STATE, {"b_id": person}) == "forgotten"


_BY_ADDRESS = select(subscribers.c.id).where(subscribers.c.email_key == bindparam("b_key"))
_STATE = select(subscribers.c.state).where(subscribers.c.id == bindparam("b_id"))


def _heed(
    connection: Connection,
    key: bytes,
    event: Event,
    person: int | None,
    send_id: int,
    now: datetime,
) -> None:
    """Stop writing, at once, to whom an event says not to be written to."""
    reason = event.reason or event.type.value
    match event.type, event.bounce:
        case EventType.BOUNCED, "hard":
            if person is not None:
                audience.mark_bounced(connection, person, reason=reason, now=now)
        case EventType.COMPLAINED, _:
            if person is not None:
                audience.mark_complained(connection, person, reason=reason, now=now)
        case EventType.UNSUBSCRIBED, _:
            if person is not None:
                audience.unsubscribe(
                    connection,
                    person,
                    how="provider",
                    now=now,
                    send_id=send_id,
                )
            return
        case _:
            return
    if person is None:
        _suppress_address(connection, key, event.recipient, reason, now)


def _suppress_address(
    connection: Connection, key: bytes, recipient: str, reason: str, now: datetime
) -> None:
    try:
        audience.suppress(connection, key, recipient, reason=reason, now=now)
    except BadAddress:  # nobody can be written to at what is no address
        return
