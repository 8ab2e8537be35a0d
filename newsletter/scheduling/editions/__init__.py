"""Editions: a newsletter that keeps its rhythm. One row a date, planned ahead, made at most once.

A date is planned (`waiting`), drafted ahead of its hour, approved by a person or sent by itself,
and ends as `sent` or `skipped`. What the clock missed: a draft is made late while the hour is
ahead; an hour is made up for within `delivery.grace`; of several missed dates only the latest can
still go out, those planned before it are skipped with the reason, and others leave no row.
"""

from newsletter.scheduling.editions.clockwork import editions_tick, next_moment
from newsletter.scheduling.editions.states import edition_states

__all__ = ["edition_states", "editions_tick", "next_moment"]
