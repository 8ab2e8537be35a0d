"""Whether issues may leave at this hour of the site's zone, and when they may again.

On the days when clocks change the rule for editions holds: an hour that does not exist is the first
moment after the gap, one that comes twice is the first of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from newsletter.hours import Hours
from newsletter.scheduling.localtime import resolve

_DAYS_AHEAD = 16  # two whole weeks: one opening may fall into a gap


def next_opening(windows: Sequence[Hours], zone: ZoneInfo, now: datetime) -> datetime | None:
    """When the hours begin again, in UTC; None where it is within them, or where there are none."""
    today = now.astimezone(zone).date()
    found: datetime | None = None
    for ahead in range(-1, _DAYS_AHEAD) if windows else ():
        midnight = datetime.combine(today + timedelta(days=ahead), time())
        for hours in windows:
            if midnight.weekday() not in hours.days:
                continue
            opens = resolve(midnight + timedelta(minutes=hours.start), zone)
            closes = resolve(midnight + timedelta(minutes=hours.end), zone)
            if opens <= now < closes:
                return None
            if now < opens < closes and (found is None or opens < found):
                found = opens
        if found is not None and ahead > 1:
            break
    return found
