"""Scheduling: freezes issues, writes sends down, and keeps the rhythm of the editions.

All times are moments in UTC that come from the caller; the database is the truth. It never talks to
a provider: what is due is sent by the delivery stage.
"""

from newsletter.scheduling.approvals import Approval, approve
from newsletter.scheduling.editions import edition_states, editions_tick, next_moment
from newsletter.scheduling.freezing import Frozen, freeze
from newsletter.scheduling.localtime import (
    check_editions,
    find_zone,
    parse_local_time,
    parse_time,
)
from newsletter.scheduling.sends import Scheduled, reschedule, schedule, spell_finding

__all__ = [
    "Approval",
    "Frozen",
    "Scheduled",
    "approve",
    "check_editions",
    "edition_states",
    "editions_tick",
    "find_zone",
    "freeze",
    "next_moment",
    "parse_local_time",
    "parse_time",
    "reschedule",
    "schedule",
    "spell_finding",
]
