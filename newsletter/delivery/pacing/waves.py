"""A send in recipients' own time zones goes in waves: who gets it at the same moment is in one.

A recipient's zone is their field `timezone`, by its IANA name; without one it is the site's. A wave
opens when its time has come; found later than the grace, it holds the send for a person.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, bindparam, select, update

from newsletter.delivery.notices import hold
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.scheduling.localtime import resolve
from newsletter.store.schema import sends, waves
from newsletter.store.types import Instant

FIELD = "timezone"
#: The waves whose time has come by `b_now`.
DUE_WAVES = (
    select(waves.c.send_id, waves.c.at, waves.c.recipients, sends.c.released_at)
    .join(sends, sends.c.id == waves.c.send_id)
    .where(
        sends.c.state == "sending",
        waves.c.opened_at.is_(None),
        waves.c.at <= bindparam("b_now", type_=Instant()),
    )
    .order_by(waves.c.send_id, waves.c.at)
)


def zones_by_wave(
    names: Iterable[str],
    local: datetime,
    *,
    scheduled_at: datetime,
    passed: Literal["now", "next_day"],
    now: datetime,
) -> dict[datetime, list[str]]:
    """The known zones of `names`, by the moment of their wave.

    Where `local` was over when the send was scheduled, the wave is `now`, or the next day's. A
    local time that clocks skip or repeat there follows the rule for editions.
    """
    found: dict[datetime, list[str]] = {}
    for name in sorted(set(names)):
        zone = known_zone(name)
        if zone is not None:
            found.setdefault(
                wave_of(zone, local, scheduled_at=scheduled_at, passed=passed, now=now), []
            ).append(name)
    return found


def wave_of(
    zone: ZoneInfo,
    local: datetime,
    *,
    scheduled_at: datetime,
    passed: Literal["now", "next_day"],
    now: datetime,
) -> datetime:
    """The moment at which a zone's recipients get the send."""
    at = resolve(local, zone)
    if at >= scheduled_at:
        return at
    return now if passed == "now" else resolve(local + timedelta(days=1), zone)


def known_zone(name: str) -> ZoneInfo | None:
    """The zone of that name, or None where there is none."""
    try:
        return ZoneInfo(name) if name else None
    except (ValueError, OSError, KeyError):
        return None


def open_waves(runtime: DeliveryRuntime, now: datetime) -> None:
    """Open the waves whose time has come; hold the sends of those that were missed for too long."""
    with runtime.store.read() as connection:
        due = _due(connection, now)
    grace = runtime.workspace.settings.delivery.grace
    for wave in due:
        late = now - max(wave.at, wave.released_at or wave.at)
        with runtime.store.begin() as connection:
            if late > grace:
                hold(connection, runtime, wave.send_id, _missed(wave, late), cause="wave")
            else:
                connection.execute(
                    update(waves)
                    .where(
                        waves.c.send_id == wave.send_id,
                        waves.c.at == wave.at,
                        waves.c.opened_at.is_(None),
                    )
                    .values(opened_at=now)
                )


def _due(connection: Connection, now: datetime) -> list[Row[Any]]:
    return list(connection.execute(DUE_WAVES, {"b_now": now}))


def _missed(wave: Row[Any], late: timedelta) -> str:
    hours = late.total_seconds() / 3600
    return (
        f"the wave of {wave.at:%Y-%m-%d %H:%M} UTC, {wave.recipients} recipients, was found "
        f"{hours:.1f} h after its time; resume it to send it all the same"
    )
