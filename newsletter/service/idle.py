"""What is left to wait for: the next send, and whether there is anything at all."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, exists, func, or_, select

from newsletter.delivery import quarantine, worked_on
from newsletter.delivery.waking import next_wake
from newsletter.scheduling import next_moment
from newsletter.service.runtime import Runtime
from newsletter.store.schema import outbox, sends

SOON = timedelta(minutes=1)


def is_idle(runtime: Runtime, editions_seen: datetime | None) -> bool:
    """Whether nothing is due within a minute or in flight, in this process or another.

    `editions_seen` is when the last look at the editions began; None where they are not kept here.
    A send that is paused, held or quarantined, one that waits for longer for its hours, its wave or
    a new day's quota, and mail that the provider put off, do not count.
    """
    now = runtime.clock.now()
    soon = now + SOON
    with runtime.store.read() as connection:
        sending = _sends_wait(connection, runtime, now) and not quarantine(connection)
        if sending or _mail_waits(connection, soon):
            return False
    if editions_seen is None:
        return True
    due = next_moment(runtime.workspace, runtime.store, editions_seen)
    return due is None or due > soon


def next_send(connection: Connection) -> datetime | None:
    """When the first scheduled send is due, or was."""
    starts = func.coalesce(sends.c.starts_at, sends.c.at)
    query = select(func.min(starts)).where(sends.c.state == "scheduled")
    due: datetime | None = connection.execute(query).scalar()
    return due


def _sends_wait(connection: Connection, runtime: Runtime, now: datetime) -> bool:
    due = next_send(connection)
    if due is not None and due <= now + SOON:
        return True
    if not connection.execute(select(exists().where(worked_on()))).scalar_one():
        return False
    providers = runtime.workspace.settings.providers
    wake = next_wake(connection, runtime.delivery(), now, providers)
    return wake is None or wake.is_within(SOON, now)


def _mail_waits(connection: Connection, soon: datetime) -> bool:
    """Mail that was not tried yet, is under way, or whose doubt can be settled soon."""
    mail = outbox.c
    fresh = (mail.state == "pending") & (mail.attempts == 0)
    due = or_(fresh, mail.state == "in_doubt") & (mail.not_before <= soon)
    waiting = exists().where(or_(mail.state == "sending", due))
    return bool(connection.execute(select(waiting)).scalar_one())
