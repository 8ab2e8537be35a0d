"""When an idle engine must wake again: the next moment at which anything may go, and why not yet.

The counterpart of `launching`: whatever is asked there before a lease has its moment here, so that
an engine sleeps until then and never spins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, case

from newsletter.delivery import breaker, canary, failover, pacing
from newsletter.delivery.pacing import Moment, Pace
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.settings import ProviderSettings


def next_wake(
    connection: Connection,
    runtime: DeliveryRuntime,
    now: datetime,
    entries: Iterable[ProviderSettings],
) -> Moment | None:
    """When there is work again for sends that are going on, or None when there is none at all.

    A batch that another worker holds is work again when its lease runs out, at the latest.
    """
    ready_at = _ready_at(connection, runtime, now)
    paces = _paces(connection, runtime, now, entries)
    moment = pacing.next_moment(connection, now, paces, ready_at)
    if moment is not None and moment.at > now:
        wait = runtime.workspace.settings.delivery.canary_wait
        if moment.at in canary.ends(connection, wait):
            return replace(moment, why="canary")
    return moment


def next_change(
    connection: Connection,
    runtime: DeliveryRuntime,
    now: datetime,
    entries: Iterable[ProviderSettings],
) -> datetime | None:
    """When something may go that may not go yet, beside what others hold."""
    ready_at = _ready_at(connection, runtime, now, tried=False)
    return pacing.next_change(connection, now, _paces(connection, runtime, now, entries), ready_at)


def _paces(
    connection: Connection,
    runtime: DeliveryRuntime,
    now: datetime,
    entries: Iterable[ProviderSettings],
) -> Callable[[str], Pace | None]:
    """What each provider's pacing lets go; of one that is stood in for, that of its stand-in."""
    settings = runtime.workspace.settings
    by_name = {entry.name: entry for entry in entries}
    helped = failover.stand_ins(settings.providers, breaker.open_breakers(connection))
    known: dict[str, Pace | None] = {}

    def pace_of(provider: str) -> Pace | None:
        name = helped.get(provider, provider)
        if name not in known:
            entry = by_name.get(name)
            known[name] = (
                None if entry is None else pacing.pace_of(connection, settings, entry, now)
            )
        return known[name]

    return pace_of


def _ready_at(
    connection: Connection, runtime: DeliveryRuntime, now: datetime, *, tried: bool = True
) -> ColumnElement[datetime]:
    """Of a batch and its send, when it may be leased; NULL where that depends on other batches.

    Without `tried` that is so, too, of a provider which a batch is trying.
    """
    settings = runtime.workspace.settings
    opened = breaker.open_breakers(connection)
    ready = failover.ready_at(opened, settings.providers, now, tried=tried)
    return case((canary.released(), ready), else_=canary.over_at(settings.delivery.canary_wait))
