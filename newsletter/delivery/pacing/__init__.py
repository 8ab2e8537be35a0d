"""When a batch may go: rates, daily quotas and warm-up, sending hours, waves by time zone.

Each is one question about a provider, asked before anything is leased; the answers that workers
share are rows of the database. Nothing here knows requests, or what they led to.
"""

from newsletter.delivery.pacing.agenda import (
    Moment,
    Unfinished,
    next_change,
    next_moment,
    unfinished,
)
from newsletter.delivery.pacing.grouping import (
    Group,
    Grouping,
    count_passed,
    grouping,
    last_sampled,
    write_waves,
)
from newsletter.delivery.pacing.pace import Pace, pace_of, resumed_at
from newsletter.delivery.pacing.rate import grant, justify
from newsletter.delivery.pacing.telling import end, list_waves, reason
from newsletter.delivery.pacing.waves import DUE_WAVES, open_waves

__all__ = [
    "DUE_WAVES",
    "Group",
    "Grouping",
    "Moment",
    "Pace",
    "Unfinished",
    "count_passed",
    "end",
    "grant",
    "grouping",
    "justify",
    "last_sampled",
    "list_waves",
    "next_change",
    "next_moment",
    "open_waves",
    "pace_of",
    "reason",
    "resumed_at",
    "unfinished",
    "write_waves",
]
