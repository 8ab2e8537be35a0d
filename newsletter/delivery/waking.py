"""When an idle engine must wake again: the next moment at which anything may go, and why not yet.

The counterpart of `launching`: whatever is asked there before a lease has its moment here, so that
an engine sleeps until then and never spins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, case

from newsletter.delivery import breaker, canary, failover, pacing
from newsletter.delivery.breaker import Opened
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
    opened = breaker.open_breakers(connection)
    query = _query(runtime, opened, tried=True)
    paces = _paces(connection, runtime, now, entries, opened)
    values = _values(runtime, opened, now)
    moment = pacing.next_moment(connection, now, paces, query, values)
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
    opened = breaker.open_breakers(connection)
    query = _query(runtime, opened, tried=False)
    paces = _paces(connection, runtime, now, entries, opened)
    return pacing.next_change(connection, now, paces, query, _values(runtime, opened, now))


def _paces(
    connection: Connection,
    runtime: DeliveryRuntime,
    now: datetime,
    entries: Iterable[ProviderSettings],
    opened: Mapping[str, Opened],
) -> Callable[[str], Pace | None]:
    """What each provider's pacing lets go; of one that is stood in for, that of its stand-in."""
    settings = runtime.workspace.settings
    by_name = {entry.name: entry for entry in entries}
    helped = failover.stand_ins(settings.providers, opened)
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


def _query(
    runtime: DeliveryRuntime, opened: Mapping[str, Opened], *, tried: bool
) -> pacing.Unfinished:
    return _unfinished(failover.shut(opened, runtime.workspace.settings.providers, tried=tried))


@lru_cache(maxsize=64)
def _unfinished(shut: tuple[failover.Shut, ...]) -> pacing.Unfinished:
    """A batch may be leased when its breaker lets it, and once the canary before it is over."""
    ready = failover.ready_at(shut)
    return pacing.unfinished(case((canary.released(), ready), else_=canary.over_at()))


def _values(
    runtime: DeliveryRuntime, opened: Mapping[str, Opened], now: datetime
) -> dict[str, Any]:
    settings = runtime.workspace.settings.delivery
    return {**failover.ready_values(opened, now), **canary.waited(settings)}
