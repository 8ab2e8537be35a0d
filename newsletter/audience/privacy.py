"""A person's rights over their data: a copy of all of it, and its erasure.

What must stay for the books (that a message went out, that a click happened) stays without
anything that tells who it was.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, case, delete, or_, select, update

from newsletter.audience import people
from newsletter.audience.addresses import address_hash
from newsletter.audience.suppression import keep_hash
from newsletter.audience.transitions import move
from newsletter.clock import isoformat
from newsletter.store.schema import (
    clicks,
    consents,
    deliveries,
    events,
    links,
    opens,
    outbox,
    segment_members,
    sends,
    subscriber_history,
    subscribers,
    unsubscribes,
)

# A delivery in one of the other states still needs its copy for the repeat of the same bytes;
# the delivery of a send empties it once the outcome is known.
_SETTLED = ("accepted", "delivered", "bounced", "complained", "rejected", "skipped")
_KEPT_KINDS = {"bounced": "bounced", "complained": "complained"}


def personal_data(connection: Connection, subscriber_id: int) -> dict[str, Any]:
    """Everything that is held about a person, for themselves, ready for JSON. Raises `NotFound`."""

    def listed(query: Select[Any], *names: str) -> list[dict[str, Any]]:
        return [
            {name: _plain(value) for name, value in zip(names, row, strict=True)}
            for row in connection.execute(query)
        ]

    mine = subscriber_id
    of_sends = select(sends.c.send, deliveries.c.email, deliveries.c.state, deliveries.c.updated_at)
    clicked = select(links.c.url, clicks.c.machine, clicks.c.at).join_from(clicks, links)
    opened = select(sends.c.send, opens.c.machine, opens.c.at)
    left = select(sends.c.send, unsubscribes.c.at)
    return {
        **people.describe(connection, subscriber_id),
        "deliveries": listed(
            of_sends.where(deliveries.c.send_id == sends.c.id, deliveries.c.subscriber_id == mine),
            *("send", "email", "state", "updated_at"),
        ),
        "events": listed(
            select(events.c.type, events.c.at, events.c.recipient, events.c.event)
            .where(events.c.subscriber_id == mine)
            .order_by(events.c.id),
            *("type", "at", "recipient", "event"),
        ),
        "clicks": listed(clicked.where(clicks.c.subscriber_id == mine), "url", "machine", "at"),
        "opens": listed(
            opened.join_from(opens, sends, opens.c.send_id == sends.c.id).where(
                opens.c.subscriber_id == mine
            ),
            *("send", "machine", "at"),
        ),
        "unsubscribes": listed(
            left.join_from(unsubscribes, sends, unsubscribes.c.send_id == sends.c.id).where(
                unsubscribes.c.subscriber_id == mine
            ),
            *("send", "at"),
        ),
    }


def erase(connection: Connection, key: bytes, subscriber_id: int, now: datetime) -> bool:
    """Empty everything that tells who this was; only a keyed hash stays, against adding them anew.

    `key` is the workspace's. False if they are unknown or were erased already.
    """
    row = connection.execute(select(subscribers).where(subscribers.c.id == subscriber_id)).first()
    if row is None or not move(connection, subscriber_id, "forgotten", now=now):
        return False
    kind = "suppressed" if row.suppressed else _KEPT_KINDS.get(row.state, "forgotten")
    keep_hash(connection, address_hash(key, row.email_key), kind, kind, now)
    connection.execute(
        update(subscribers)
        .where(subscribers.c.id == subscriber_id)
        .values(
            email="",
            email_key=f"forgotten:{subscriber_id}",
            first_name="",
            last_name="",
            fields={},
            topics=[],
            frequency="every",
            suppressed="",
        )
    )
    _empty_records(connection, subscriber_id)
    _empty_copies(connection, subscriber_id, row.email)
    return True


def forget(connection: Connection, key: bytes, email: str, now: datetime) -> None:
    """Erase the person with this address. Raises `NotFound` or `BadAddress`."""
    erase(connection, key, people.find(connection, email), now)


def _empty_records(connection: Connection, subscriber_id: int) -> None:
    connection.execute(
        update(consents).where(consents.c.subscriber_id == subscriber_id).values(details={})
    )
    connection.execute(
        update(subscriber_history)
        .where(subscriber_history.c.subscriber_id == subscriber_id)
        .values(detail="")
    )
    connection.execute(
        delete(segment_members).where(segment_members.c.subscriber_id == subscriber_id)
    )


def _empty_copies(connection: Connection, subscriber_id: int, email: str) -> None:
    """The copies that the stages after this one keep."""
    # A provider's words may name the person; that there was a reason is the ledger's.
    told = case((deliveries.c.reason == "", ""), else_="erased")
    connection.execute(
        update(deliveries)
        .where(deliveries.c.subscriber_id == subscriber_id, deliveries.c.state.in_(_SETTLED))
        .values(email="", first_name="", last_name="", fields={}, reason=told)
    )
    # A link that everybody got, or our own redirect (stored without the person's part), tells
    # nothing; any other may have been made from their data.
    shared = events.c.url.in_(select(links.c.url)) | events.c.url.contains("/r/")
    connection.execute(
        update(events)
        .where(or_(events.c.subscriber_id == subscriber_id, events.c.recipient == email))
        .values(recipient="", event={}, url=case((shared, events.c.url), else_=""))
    )
    connection.execute(
        update(clicks).where(clicks.c.subscriber_id == subscriber_id).values(subscriber_id=None)
    )
    connection.execute(
        update(opens).where(opens.c.subscriber_id == subscriber_id).values(subscriber_id=0)
    )
    confirmations = (outbox.c.kind == "confirmation") & (outbox.c.to_email == email)
    connection.execute(
        update(outbox)
        .where(confirmations, outbox.c.state == "pending")
        .values(state="failed", reason="erased")
    )
    connection.execute(
        update(outbox)
        .where(confirmations, outbox.c.state.in_(("accepted", "failed")))
        .values(to_email="", html="", text="")
    )


def _plain(value: Any) -> Any:
    return isoformat(value) if isinstance(value, datetime) else value
