"""Who a personal link belongs to. It reads; what a person changes goes through the audience."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from newsletter.store.schema import sends, subscribers
from newsletter.web.context import Site


def find_person(here: Site, subscriber: int) -> Row[Any] | None:
    """The subscriber's row; None where there is none or it was erased."""
    with here.store.read() as connection:
        return connection.execute(
            select(subscribers).where(
                subscribers.c.id == subscriber, subscribers.c.state != "forgotten"
            )
        ).first()


def sent_at(here: Site, send: int) -> datetime | None:
    """When the send was due that a link came with."""
    with here.store.read() as connection:
        return connection.scalar(select(sends.c.at).where(sends.c.id == send))


def masked(email: str) -> str:
    """The address as its owner recognises it and nobody else learns it: `ro…@example.com`."""
    local, _, domain = email.rpartition("@")
    return f"{local[: 2 if len(local) > 3 else 1]}…@{domain}"
