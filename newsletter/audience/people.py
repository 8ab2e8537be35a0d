"""One person at a time, as the editors see them: look up, add, show."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from newsletter.audience.addresses import Address, address_hash, normalise_address
from newsletter.audience.segments import check_segment_name
from newsletter.audience.signup import record_consent
from newsletter.audience.sql import insert_into
from newsletter.audience.suppression import kept_kind
from newsletter.audience.transitions import write_history
from newsletter.audience.values import clean_field, clean_name, clean_topic_list, field_name
from newsletter.clock import isoformat
from newsletter.errors import BadInput, Conflict, NotFound
from newsletter.store.schema import consents, segment_members, subscriber_history, subscribers


def find(connection: Connection, email: str) -> int:
    """The id of the person with this address. Raises `NotFound` or `BadAddress`."""
    subscriber_id: int | None = connection.scalar(
        select(subscribers.c.id).where(subscribers.c.email_key == normalise_address(email).key)
    )
    if subscriber_id is None:
        raise NotFound(f"nobody in the audience has the address {email}")
    return subscriber_id


def show(connection: Connection, email: str) -> dict[str, Any]:
    """`{email, state, suppressed, first_name, …, segments, consent: […], history: […]}`.

    Raises `NotFound` or `BadAddress`.
    """
    return describe(connection, find(connection, email))


def describe(connection: Connection, subscriber_id: int) -> dict[str, Any]:
    """What `show` shows, by id. Raises `NotFound`."""
    row = connection.execute(select(subscribers).where(subscribers.c.id == subscriber_id)).first()
    if row is None:
        raise NotFound("there is no such subscriber")
    return {
        **_own_words(row),
        "segments": _segments_of(connection, subscriber_id),
        "consent": consent_of(connection, subscriber_id),
        "history": history_of(connection, subscriber_id),
    }


def add(
    connection: Connection,
    key: bytes,
    email: str,
    *,
    now: datetime,
    first_name: str = "",
    last_name: str = "",
    topics: list[str] | None = None,
    fields: dict[str, str] | None = None,
    consent: str = "",
    segment: str = "",
) -> int:
    """Add one person: active with `consent` (its source), pending without. Their new id.

    `key` is the workspace's. Raises `Conflict` if they are known or suppressed, `BadInput`.
    """
    address = normalise_address(email)
    kind = kept_kind(connection, address_hash(key, address.key))
    if kind is not None:
        raise Conflict(
            f"{address.email} is suppressed ({kind}) and cannot be added",
            hint="Somebody who was erased can sign up themselves on the sign-up page.",
        )
    values = {
        "first_name": clean_name(first_name, "first name"),
        "last_name": clean_name(last_name, "last name"),
        "topics": clean_topic_list(topics or []),
        "fields": clean_fields(fields or {}),
        "state": "active" if consent else "pending",
    }
    name = check_segment_name(segment) if segment else ""
    subscriber_id = _insert(connection, address, values, now)
    write_history(connection, subscriber_id, "added", now=now)
    if consent:
        record_consent(connection, subscriber_id, now=now, how="editor", text=consent)
    if name:
        connection.execute(
            insert(segment_members).values(segment=name, subscriber_id=subscriber_id)
        )
    return subscriber_id


def clean_fields(fields: dict[str, str]) -> dict[str, str]:
    """Fields under names that a merge field can use. Raises `BadInput`."""
    cleaned = {}
    for name, value in fields.items():
        known_as = field_name(name)
        if not known_as:
            raise BadInput(f"{name!r} is no name for a field")
        cleaned[known_as] = clean_field(value, name)
    return cleaned


def consent_of(connection: Connection, subscriber_id: int) -> list[dict[str, Any]]:
    """`[{at, how, text, details}]`, oldest first."""
    rows = connection.execute(
        select(consents).where(consents.c.subscriber_id == subscriber_id).order_by(consents.c.id)
    )
    return [
        {"at": isoformat(row.at), "how": row.how, "text": row.text, "details": row.details}
        for row in rows
    ]


def history_of(connection: Connection, subscriber_id: int) -> list[dict[str, Any]]:
    """`[{at, event, detail}]`, oldest first."""
    rows = connection.execute(
        select(subscriber_history)
        .where(subscriber_history.c.subscriber_id == subscriber_id)
        .order_by(subscriber_history.c.id)
    )
    return [{"at": isoformat(row.at), "event": row.event, "detail": row.detail} for row in rows]


def _own_words(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    return {
        "email": row.email,
        "state": row.state,
        "suppressed": row.suppressed,
        "first_name": row.first_name,
        "last_name": row.last_name,
        "topics": row.topics,
        "frequency": row.frequency,
        "fields": row.fields,
        "created_at": isoformat(row.created_at),
        "updated_at": isoformat(row.updated_at),
    }


def _segments_of(connection: Connection, subscriber_id: int) -> list[str]:
    return list(
        connection.scalars(
            select(segment_members.c.segment)
            .where(segment_members.c.subscriber_id == subscriber_id)
            .order_by(segment_members.c.segment)
        )
    )


def _insert(connection: Connection, address: Address, values: dict[str, Any], now: datetime) -> int:
    subscriber_id: int | None = connection.scalar(
        insert_into(connection, subscribers)
        .values(
            email=address.email, email_key=address.key, created_at=now, updated_at=now, **values
        )
        .on_conflict_do_nothing()
        .returning(subscribers.c.id)
    )
    if subscriber_id is None:
        raise Conflict(
            f"{address.email} is in the audience already",
            hint="`newsletter audience show` shows them; an import updates them.",
        )
    return subscriber_id
