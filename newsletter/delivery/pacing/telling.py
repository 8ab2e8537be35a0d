"""What `status` tells of pacing: why a send that goes on is waiting, and its waves."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from newsletter.clock import isoformat
from newsletter.delivery.pacing import quota
from newsletter.delivery.pacing.agenda import Moment, next_moment, unfinished
from newsletter.delivery.pacing.pace import Pace, pace_of
from newsletter.delivery.pacing.windows import next_opening
from newsletter.settings import ProviderSettings, Settings
from newsletter.store.schema import batches, waves
from newsletter.store.types import Instant

_UNFINISHED = unfinished(
    func.coalesce(batches.c.not_before, bindparam("b_now", type_=Instant())), of_one=True
)


def reason(connection: Connection, settings: Settings, send: Row[Any], now: datetime) -> str:
    """Why nothing of the send may go at this moment, and when it goes on; '' where it may."""
    entries = {entry.name: entry for entry in settings.providers}

    def pace(provider: str) -> Pace | None:
        entry = entries.get(provider)
        return None if entry is None else pace_of(connection, settings, entry, now)

    values = {"b_now": now, "b_send": send.id}
    moment = next_moment(connection, now, pace, _UNFINISHED, values, of_others=False)
    if moment is None or moment.at <= now or not moment.why:
        return ""
    return _spell(connection, settings, send, entries.get(send.provider), moment, now)


def end(
    connection: Connection,
    settings: Settings,
    send: Row[Any],
    recipients: int,
    rate: float,
    now: datetime,
) -> datetime | None:
    """When the last of so many recipients goes at that rate, and not before the quota lets them.

    None where several providers, of which one has a quota, share them, and in a year or later.
    """
    query = select(batches.c.provider).distinct()
    query = query.where(batches.c.send_id == send.id, batches.c.state != "done")
    names = {send.provider, *connection.execute(query).scalars()}
    entries = [entry for entry in settings.providers if entry.name in names]
    zone = settings.site.zone
    today, begins, left = quota.day_of(zone, now), now, recipients
    for entry in entries:
        last = quota.last_day(connection, entry, zone, recipients, now)
        if last is None or (last[0] > today and len(entries) > 1):
            return None
        if last[0] > today:
            opens = quota.start_of(zone, last[0])
            begins = next_opening(settings.delivery.windows, zone, opens) or opens
            left = last[1]
    return begins + timedelta(seconds=left / rate)


def list_waves(connection: Connection, send_id: int) -> list[dict[str, Any]]:
    """The contract's waves of a send, in order; none where it is not in local time."""
    query = select(waves).where(waves.c.send_id == send_id).order_by(waves.c.at)
    return [
        {
            "at": isoformat(row.at),
            "recipients": row.recipients,
            "opened_at": None if row.opened_at is None else isoformat(row.opened_at),
        }
        for row in connection.execute(query)
    ]


def _spell(
    connection: Connection,
    settings: Settings,
    send: Row[Any],
    entry: ProviderSettings | None,
    moment: Moment,
    now: datetime,
) -> str:
    zone = settings.site.zone
    local = moment.at.astimezone(zone)
    when = f"{local:%Y-%m-%d %H:%M}"
    match moment.why:
        case "window":
            return f"outside the hours in which issues leave: the window opens at {when}"
        case "wave":
            size = select(waves.c.recipients).where(
                waves.c.send_id == send.id, waves.c.at == moment.at
            )
            number = connection.execute(size).scalar_one()
            return f"the next wave, {number:,} recipients, goes at {when}"
        case "rate":
            return f"paced by its rate: the next batch goes at {local:%Y-%m-%d %H:%M:%S}"
    day = quota.day_of(zone, now)
    limit = None if entry is None else quota.limit_on(entry, day)
    if limit == 0:
        return f"the warm-up has not begun; goes on {when}"
    of = "quota" if moment.why == "quota" else "step of the warm-up"
    return f"today's {of} of {limit:,} is used up; goes on {when}"
