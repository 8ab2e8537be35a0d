"""What a look at the house finds to do, in two statements, as most looks find nothing; and
its first chore, to take over from workers that are gone.

Each answer is whether the statement of the chore itself would find a row, so that a chore which is
passed over would have done nothing. What another process makes meanwhile is for the next look.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from newsletter.delivery import breaker, canary, counting, ending, failover, forms, leases, pacing
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.delivery.start import is_due
from newsletter.errors import Unreachable
from newsletter.store.schema import sends

_log = logging.getLogger(__name__)
_CLOCKS_DIFFER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Look:
    """One consistent state of the database, as far as a look at the house goes."""

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
    return Look(found, connection.execute(_CHORES, {"b_now": now}).one())


def break_lost_leases(
    runtime: DeliveryRuntime, ours: Collection[tuple[int, int, int]], now: datetime
) -> bool:
    """Open the batches of workers that are gone; what they had begun is in doubt.

    `ours` are the leases that this engine holds: (send id, batch, token). True if there was one of
    another's to open, whoever opened it.
    """
    broken = False
    with runtime.store.read() as connection:
        held = leases.all_leases(connection)
    timeouts = [entry.timeout for entry in runtime.workspace.settings.providers]
    longest = max(timeouts, default=timedelta(0))
    for send_id, number, token, holder, until in held:
        if (send_id, number, token) in ours:
            continue
        # A lease of ours that we do not hold is of an earlier run that failed.
        ended = holder == runtime.holder or runtime.gone(holder)
        # So far ahead no clock but a wrong one has put it, perhaps ours.
        astray = until > now + runtime.workspace.settings.delivery.lease + _CLOCKS_DIFFER
        if until > now and not ended and not astray:
            continue
        # Who only lost touch with the database may have a request under way for a time-out.
        over_at = now if ended else max(now, until) + longest
        broken = True
        try:
            with runtime.store.begin() as connection:
                leases.break_lease(connection, send_id, number, token, now, over_at=over_at)
        except Unreachable as error:  # if it answers nothing else, what follows says so
            _log.warning("batch %d is taken over at the next look: %s", number, error)
            return broken
        _log.warning("took over batch %d of send %d from %s", number, send_id, holder)
    return broken


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
