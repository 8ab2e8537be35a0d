"""Hours of the week as settings write them: `"mon-fri 08:00-20:00"`; without days, every day.

Knows no time zone and no clock: what the hours mean on a given date is decided where they are used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")  # as `date.weekday()` counts them

_HOURS = re.compile(r"(?:(\S.*?)\s+)?(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
_DAY_MINUTES = 24 * 60
_EXAMPLE = 'write hours such as "mon-fri 08:00-20:00", "sat 10:00-14:00" or "22:00-06:00"'


@dataclass(frozen=True, slots=True)
class Hours:
    """From `start` to `end`, in minutes since midnight, on the days on which they start.

    `end` is past 24:00 (1,440) where they run over midnight.
    """

    days: tuple[int, ...]  # 0 is Monday
    start: int
    end: int


def parse_hours(text: str) -> Hours:
    """Read hours of the week. Raises `ValueError` that says how they are written."""
    match = _HOURS.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(_EXAMPLE)
    start = _minutes(match[2], match[3])
    end = _minutes(match[4], match[5])
    if start in (_DAY_MINUTES, end):
        raise ValueError(f"the hours are empty; {_EXAMPLE}")
    if end < start:
        end += _DAY_MINUTES
    return Hours(_days(match[1]), start, end)


def _minutes(hour: str, minute: str) -> int:
    minutes = int(hour) * 60 + int(minute)
    if int(minute) > 59 or minutes > _DAY_MINUTES:
        raise ValueError(f"there is no time {hour}:{minute}; {_EXAMPLE}")
    return minutes


def _days(text: str | None) -> tuple[int, ...]:
    if text is None:
        return tuple(range(7))
    found: set[int] = set()
    for item in text.split(","):
        first, dash, last = item.strip().partition("-")
        low, high = _day(first), _day(last if dash else first)
        found.update(day % 7 for day in range(low, high + (7 if high < low else 0) + 1))
    return tuple(sorted(found))


def _day(name: str) -> int:
    if name.strip() not in DAYS:
        raise ValueError(f"{name.strip()!r} is no day: {', '.join(DAYS)}; {_EXAMPLE}")
    return DAYS.index(name.strip())
