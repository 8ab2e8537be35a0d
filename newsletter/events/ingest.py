"""Takes in verified provider events: each once, matched to its delivery, with its consequences.

A batch may repeat, come late and out of order. What belongs to no message of ours is kept all the
same. Nothing here knows a provider's format.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects import postgresql, sqlite

from newsletter import audience
from newsletter.audience import BadAddress, normalise_address
from newsletter.delivery import apply_event
from newsletter.events.machines import is_machine
from newsletter.providers.base import Event, EventType
from newsletter.store import Store, canonical_json
from newsletter.store.schema import deliveries, events, subscribers
from newsletter.workspace import Workspace

_DELIVERY = re.compile(r"(\d{1,9})\.(\d{1,9})", re.ASCII)
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
    connection: Connection, workspace: Workspace, provider: str, event: Event, now: datetime
) -> bool:
    delivery = find_delivery(connection, event)
    person = delivery.subscriber_id if delivery else _person(connection, event.recipient)
    if not _store(connection, provider, event, delivery, person, now):
        return False
    if delivery is not None:
        apply_event(connection, event, delivery.send_id, delivery.position, now)
    _heed(connection, workspace.key, event, person, delivery, now)
    return True


def find_delivery(connection: Connection, event: Event) -> Row[Any] | None:
    """The delivery that an event is about: by our own metadata, else by the provider's id."""
    columns = deliveries.c.send_id, deliveries.c.position, deliveries.c.subscriber_id
    match = _DELIVERY.fullmatch(event.metadata.get("delivery", ""))
    if match:
        found = connection.execute(
            select(*columns).where(
                deliveries.c.send_id == int(match[1]), deliveries.c.position == int(match[2])
            )
        ).first()
        if found is not None:
            return found
    if not event.provider_message_id:
        return None
    return connection.execute(
        select(*columns)
        .where(deliveries.c.provider_message_id == _clean(event.provider_message_id))
        .limit(1)
    ).first()


def _store(
    connection: Connection,
    provider: str,
    event: Event,
    delivery: Row[Any] | None,
    person: int | None,
    now: datetime,
) -> bool:
    """Whether the event is stored now, and was not before."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    document = _document(event)
    statement = insert(events).values(
        provider=provider,
        provider_event_id=_clean(event.provider_event_id) or _digest(document),
        type=event.type.value,
        recipient=document["recipient"],
        provider_message_id=document["provider_message_id"],
        send_id=delivery.send_id if delivery else None,
        subscriber_id=person,
        machine=document["machine"],
        url=_without_person(document["url"]),
        at=event.at,
        received_at=now,
        event=document,
    )
    return connection.execute(statement.on_conflict_do_nothing()).rowcount == 1


def _document(event: Event) -> dict[str, Any]:
    """The event as JSON without what no database takes; who opened or clicked is decided here."""
    document = {field.name: _cleaned(getattr(event, field.name)) for field in fields(event)}
    document["type"] = event.type.value
    if event.type in _SHOWN and event.user_agent:
        document["machine"] = event.machine or is_machine(event.user_agent)
    return document


def _digest(document: Mapping[str, Any]) -> str:
    """Stands in for the id where a provider has none: the same event gives the same."""
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, Mapping):
        return {_clean(str(key)): _cleaned(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_cleaned(item) for item in value]
    return value


def _without_person(url: str) -> str:
    """A link of ours without the recipient's part of its token: the column outlives erasure."""
    return _REDIRECT.sub(r"\1", url)


def _clean(text: str) -> str:
    return _NUL.sub("", text)


def _person(connection: Connection, recipient: str) -> int | None:
    try:
        key = normalise_address(_clean(recipient)).key
    except BadAddress:
        return None
    return connection.scalar(select(subscribers.c.id).where(subscribers.c.email_key == key))


def _heed(
    connection: Connection,
    key: bytes,
    event: Event,
    person: int | None,
    delivery: Row[Any] | None,
    now: datetime,
) -> None:
    """Stop writing, at once, to whom an event says not to be written to."""
    reason = _clean(event.reason) or event.type.value
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
                    send_id=delivery.send_id if delivery else 0,
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
        audience.suppress(connection, key, _clean(recipient), reason=reason, now=now)
    except BadAddress:  # nobody can be written to at what is no address
        return
