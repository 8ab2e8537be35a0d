"""Who must not be written to, whatever list they are on.

A known person carries the reason on their row, so that the audience is one set-based query; the
keyed hash of the address is kept beside it for when there is no row, or no longer one.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select, update

from newsletter.audience.addresses import address_hash, normalise_address
from newsletter.audience.sql import insert_into
from newsletter.audience.transitions import move, write_history
from newsletter.store.schema import subscribers, suppressions

BLOCKED_STATES = frozenset({"unsubscribed", "bounced", "complained"})
# An erased person may sign up anew; the other kinds stand against that too.
ENDED_BY_SIGN_UP = frozenset({"forgotten"})


def suppress(connection: Connection, key: bytes, email: str, *, reason: str, now: datetime) -> None:
    """Keep an address, known or not, out of every later send. Raises `BadAddress`.

    `key` is the workspace's.
    """
    address = normalise_address(email)
    keep_hash(connection, address_hash(key, address.key), "suppressed", reason, now)
    subscriber_id = connection.scalar(
        select(subscribers.c.id).where(subscribers.c.email_key == address.key)
    )
    if subscriber_id is not None:
        mark_suppressed(connection, subscriber_id, reason=reason, now=now)


def mark_suppressed(
    connection: Connection, subscriber_id: int, *, reason: str, now: datetime
) -> bool:
    """Suppress a known person, for a reason other than their own wish. False if they were."""
    changed = connection.execute(
        update(subscribers)
        .where(subscribers.c.id == subscriber_id, subscribers.c.suppressed == "")
        .values(suppressed=reason or "suppressed", updated_at=now)
    ).rowcount
    if changed:
        write_history(connection, subscriber_id, "suppressed", now=now, detail=reason)
    return changed == 1


def mark_bounced(connection: Connection, subscriber_id: int, *, reason: str, now: datetime) -> bool:
    """The address refuses mail for good: no later send has it. False when nothing changed."""
    return move(connection, subscriber_id, "bounced", now=now, detail=reason)


def mark_complained(
    connection: Connection, subscriber_id: int, *, reason: str, now: datetime
) -> bool:
    """The person called it spam: no later send has them. False when nothing changed."""
    return move(connection, subscriber_id, "complained", now=now, detail=reason)


def is_suppressed(connection: Connection, key: bytes, email: str) -> bool:
    """Whether nobody may write to or add this address. Raises `BadAddress`."""
    address = normalise_address(email)
    row = connection.execute(
        select(subscribers.c.state, subscribers.c.suppressed).where(
            subscribers.c.email_key == address.key
        )
    ).first()
    if row is not None and (row.suppressed or row.state in BLOCKED_STATES):
        return True
    if row is not None and row.state == "active":
        return False  # an erased person who signed up anew and confirmed
    return kept_kind(connection, address_hash(key, address.key)) is not None


def kept_kind(connection: Connection, email_hash: str) -> str | None:
    """The kind of suppression kept for an address by its hash, or None."""
    return connection.scalar(
        select(suppressions.c.kind).where(suppressions.c.email_hash == email_hash)
    )


def keep_hash(
    connection: Connection, email_hash: str, kind: str, reason: str, now: datetime
) -> None:
    """Remember an address by its hash. A kind that a sign-up ends never replaces another."""
    values = {"kind": kind, "reason": reason, "at": now}
    statement = insert_into(connection, suppressions).values(email_hash=email_hash, **values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[suppressions.c.email_hash],
            set_=values,
            where=suppressions.c.kind.in_(ENDED_BY_SIGN_UP),
        )
    )
