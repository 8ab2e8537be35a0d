"""How many recipients a day's requests have at a provider, counted beside the engine: by the clock
of the machine that makes the attempt, the provider's own record, and what is in doubt.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from simulation.database import Change

if TYPE_CHECKING:
    from simulation.world import World


FIRST_DAY = date(2026, 11, 24)


class Quota:
    """The rule of the quota."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._day: dict[str, tuple[str, date]] = {}  # attempt → provider, day
        self._rows: Counter[str] = Counter()  # attempt → recipients

    def committed(self, who: str, told: Sequence[Change]) -> None:
        """Look at every day again at which an attempt was made just now."""
        begun = {change.told for change in told if change.what == "attempt" and not change.old}
        process = self.world.processes.get(who)
        if not begun or process is None:
            return
        zone = self.world.workspace.settings.site.zone
        day = process.machine.now().astimezone(zone).date()
        for attempt in begun:
            self._day[attempt] = (self.world.checker.provider_of[attempt], day)
        self._rows.update(
            change.more for change in told if change.what == "delivery" and change.more in begun
        )
        for provider in {self._day[attempt][0] for attempt in begun}:
            self._check(provider, day)

    def _check(self, provider: str, day: date) -> None:
        world, limit = self.world, self._limit(day)
        counts = self._counts(provider)
        if counts[day] > limit:
            world.fail("the quota holds", f"{counts[day]} of {limit} at {provider} on {day}")
        if any(counts[earlier] >= self._limit(earlier) for earlier in counts if earlier < day):
            world.hit("quota held back")

    def _limit(self, day: date) -> float:
        scenario, number = self.world.scenario, (day - FIRST_DAY).days
        if not scenario.warm_up:
            return scenario.quota
        if number < 0:  # by a clock that was set back
            return 0
        return scenario.quota * (number + 1) if number < 2 else math.inf

    def _counts(self, provider: str) -> Counter[date]:
        """Recipients by day: whom the provider has, and all of an attempt that is not over."""
        # Whom the provider dropped afterwards, and told so, it has not taken after all.
        dropped = self.world.checker.dropped
        record = self.world.servers[provider].record
        taken = Counter(each.attempt for each in record if each.address not in dropped)
        counts: Counter[date] = Counter()
        for attempt, (through, day) in self._day.items():
            if through == provider:
                _, state = self.world.checker.attempts[attempt]
                is_open = state in {"started", "in_doubt"}
                counts[day] += self._rows[attempt] if is_open else taken[attempt]
        return counts
