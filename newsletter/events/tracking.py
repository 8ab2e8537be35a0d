"""Records clicks and opens that come to our own addresses.

What an anonymous click is recorded with leads to no person: the link and the hour's count, no more.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, distinct, func, insert, select, update

from newsletter.providers.machines import is_machine
from newsletter.store.schema import clicks, deliveries, links, opens
from newsletter.tokens import RecipientToken

#: A click this soon after the message was accepted is a scanner's: nobody reads that fast.
SOON = timedelta(seconds=5)
#: So many different links of one recipient within `SOON` are a scanner's.
MANY_LINKS = 3


def target_of(connection: Connection, link: str) -> str | None:
    """Where a tracked link leads; `link` is the hex of the 8 bytes in its token."""
    return connection.scalar(select(links.c.url).where(links.c.link == link))


def record_click(
    connection: Connection,
    *,
    link: str,
    recipient: RecipientToken | None,
    user_agent: str,
    now: datetime,
) -> None:
    """Note a click on a known link; with `recipient` only where tracking is individual."""
    known = recipient if recipient is not None and _has_delivery(connection, recipient) else None
    machine = is_machine(user_agent) or (known is not None and _is_soon(connection, known, now))
    connection.execute(
        insert(clicks).values(
            link=link,
            send_id=known.send if known else None,
            subscriber_id=known.subscriber if known else None,
            machine=machine,
            at=now,
        )
    )
    if known is not None:
        _mark_scanner(connection, known, now)


def record_open(
    connection: Connection, *, recipient: RecipientToken, user_agent: str, now: datetime
) -> None:
    """Note that a recipient's message was shown; nothing for one that is in no send."""
    if not _has_delivery(connection, recipient):
        return
    connection.execute(
        insert(opens).values(
            send_id=recipient.send,
            subscriber_id=recipient.subscriber,
            machine=is_machine(user_agent),
            at=now,
        )
    )


def _has_delivery(connection: Connection, recipient: RecipientToken) -> bool:
    query = select(deliveries.c.position).where(
        deliveries.c.send_id == recipient.send, deliveries.c.subscriber_id == recipient.subscriber
    )
    return connection.scalar(query) is not None


def _is_soon(connection: Connection, recipient: RecipientToken, now: datetime) -> bool:
    """Whether the message was accepted or delivered only moments ago."""
    changed = connection.scalar(
        select(deliveries.c.updated_at).where(
            deliveries.c.send_id == recipient.send,
            deliveries.c.subscriber_id == recipient.subscriber,
            deliveries.c.state.in_(("sending", "accepted", "delivered")),
        )
    )
    return changed is not None and now - changed < SOON


def _mark_scanner(connection: Connection, recipient: RecipientToken, now: datetime) -> None:
    """Count a burst over many links as a machine's, its first clicks too."""
    burst = (
        (clicks.c.send_id == recipient.send)
        & (clicks.c.subscriber_id == recipient.subscriber)
        & (clicks.c.at > now - SOON)
    )
    taken = connection.scalar(select(func.count(distinct(clicks.c.link))).where(burst)) or 0
    if taken >= MANY_LINKS:
        connection.execute(update(clicks).where(burst).values(machine=True))
