"""Who of several services polls the feeds and keeps the editions.

The steps are safe without it, each by guarded updates of its own; it spares double work. On SQLite
it is a lease in the database, here; on PostgreSQL a lock of a session's (`session_leader`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection, delete, select, update

from newsletter.audience.sql import insert_into
from newsletter.service.runtime import Runtime
from newsletter.store.schema import leases

LIFETIME = timedelta(seconds=45)
_RENEWED_AFTER = LIFETIME / 3


class Leader(Protocol):
    """Tells whether this service leads now. Ask before each step: it may have been taken over."""

    #: How often to ask, in seconds, for the lead to be kept, or taken over from one that is gone.
    beat: float

    async def leads(self, name: str) -> bool:
        """Whether this service leads the step of that name now; takes the lead where it is free."""
        ...

    async def step_down(self) -> None:
        """Give up the lead, for another service to take it at once."""
        ...


class LeaseLeader:
    """Leads by leases in the database, one a step.

    Who vanished is followed at once on the same machine, elsewhere when the lease runs out.
    """

    beat = _RENEWED_AFTER.total_seconds()

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def leads(self, name: str) -> bool:
        """Whether the lease of that name is ours; raises `Unreachable`."""
        return lead(self._runtime, name)

    async def step_down(self) -> None:
        """Give up every lease; raises `Unreachable`."""
        step_down(self._runtime)


def lead(runtime: Runtime, name: str) -> bool:
    """Whether this service holds the lease of that name now; it is renewed or taken over.

    It is renewed when a third of it is over and not each time, as on SQLite each write wakes every
    step, and the next of them would ask again.
    """
    now = runtime.clock.now()
    if _is_fresh(runtime, name, now):
        return True
    with runtime.store.begin() as connection:
        if _insert(connection, runtime, name, now):
            return True
        row = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
        if row is None:
            return False
        if row.holder != runtime.holder and row.until > now and not runtime.gone(row.holder):
            return False
        statement = (
            update(leases)
            .where(
                leases.c.name == name, leases.c.holder == row.holder, leases.c.until == row.until
            )
            .values(holder=runtime.holder, until=now + LIFETIME)
        )
        return connection.execute(statement).rowcount == 1


def step_down(runtime: Runtime) -> None:
    """Give up every lease, for another service to lead at once."""
    with runtime.store.begin() as connection:
        connection.execute(delete(leases).where(leases.c.holder == runtime.holder))


def _is_fresh(runtime: Runtime, name: str, now: datetime) -> bool:
    """Whether the lease is ours for so long that nothing needs to be written."""
    query = select(leases.c.until).where(leases.c.name == name, leases.c.holder == runtime.holder)
    with runtime.store.read() as connection:
        until: datetime | None = connection.execute(query).scalar()
    return until is not None and until > now + LIFETIME - _RENEWED_AFTER


def _insert(connection: Connection, runtime: Runtime, name: str, now: datetime) -> bool:
    statement = insert_into(connection, leases).values(
        name=name, holder=runtime.holder, until=now + LIFETIME
    )
    inserted = statement.on_conflict_do_nothing().returning(leases.c.name)
    return connection.execute(inserted).first() is not None
