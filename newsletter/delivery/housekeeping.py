"""What a look at the house finds to do, in two statements: most looks find nothing.

Each answer is whether the statement of the chore itself would find a row, so that a chore which is
passed over would have done nothing. What another process makes meanwhile is for the next look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from newsletter.delivery import breaker, canary, counting, ending, failover, forms, leases, pacing
from newsletter.delivery.start import is_due
from newsletter.store.schema import sends


@dataclass(frozen=True, slots=True)
class Look:
    """One consistent state of the database, as far as a look at the house goes."""

    now: datetime
    sends: Sequence[Any]  # rows, due, or worked on; by id
    chores: Any  # each of `_CHORES` is whether there is something of it

    @property
    def due(self) -> list[int]:
        """The sends whose time has come, the earliest first."""
        waiting = [row for row in self.sends if row.state == "scheduled"]
        return [row.id for row in sorted(waiting, key=lambda row: (row.at, row.id))]

    @property
    def going_on(self) -> list[tuple[int, str]]:
        """(id, provider) of the sends that are worked on."""
        return [(row.id, row.provider) for row in self.sends if row.state != "scheduled"]


def look(connection: Connection, now: datetime) -> Look:
    """Look at the house."""
    found = connection.execute(_SENDS, {"b_now": now}).all()
    return Look(now, found, connection.execute(_CHORES, {"b_now": now}).one())


_SENDS = (
    select(sends.c.id, sends.c.provider, sends.c.state, sends.c.at)
    .where(is_due() | leases.worked_on())
    .order_by(sends.c.id)
)
_CHORES = select(
    leases.ALL.exists().label("leases"),
    counting.UNCOUNTED.exists().label("uncounted"),
    counting.SOME_CHANGE.exists().label("changed"),
    ending.ALL_DONE.exists().label("ending"),
    forms.TO_REMOVE.exists().label("forms"),
    pacing.DUE_WAVES.exists().label("waves"),
    canary.WAITING.exists().label("canary"),
    breaker.OPEN.exists().label("failing"),
    failover.MOVED.exists().label("moved"),
)
