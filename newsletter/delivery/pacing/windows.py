"""Whether issues may leave at this hour of the site's zone, and when they may again.

On the days when clocks change the rule for editions holds: an hour that does not exist is the first
moment after the gap, one that comes twice is the first of the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from newsletter.hours import Hours
from newsletter.scheduling.localtime import resolve

_DAYS_AHEAD = 16  # two whole weeks: one opening may fall into a gap


def next_opening(windows: Sequence[Hours], zone: ZoneInfo, now: datetime) -> datetime | None:
    """When the hours begin again, in UTC; None where it is within them, or where there are none."""
    if not windows or open_since(windows, zone, now) is not None:
        return None
    openings = (opens for opens, _ in _around(windows, zone, now, _DAYS_AHEAD) if opens > now)
    return min(openings, default=None)


def open_since(windows: Sequence[Hours], zone: ZoneInfo, now: datetime) -> datetime | None:
    """When the hours that it is within began; None outside them, and where there are none."""
    found = (opens for opens, closes in _around(windows, zone, now, 1) if opens <= now < closes)
    return min(found, default=None)


def _around(
    windows: Sequence[Hours], zone: ZoneInfo, now: datetime, days: int
) -> Iterator[tuple[datetime, datetime]]:
    """From when to when the hours of yesterday, today and the days after are."""
    today = now.astimezone(zone).date()
    for ahead in range(-1, days):
        midnight = datetime.combine(today + timedelta(days=ahead), time())
        for hours in windows:
            if midnight.weekday() in hours.days:
                opens = resolve(midnight + timedelta(minutes=hours.start), zone)
                closes = resolve(midnight + timedelta(minutes=hours.end), zone)
                if opens < closes:
                    yield opens, closes
