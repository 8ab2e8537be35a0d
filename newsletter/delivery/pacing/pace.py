"""What a provider's pacing lets go at this moment: each question is asked here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from newsletter.delivery.pacing import quota, rate
from newsletter.delivery.pacing.windows import next_opening, open_since
from newsletter.settings import ProviderSettings, Settings


@dataclass(frozen=True, slots=True)
class Pace:
    """What may go to a provider, and from when on the rest may.

    `at` holds back everything, doubts as well; `fresh_at` only recipients who were not tried yet,
    and `why` it does: "window", "quota" or "warm-up". `pools` are domains whose own rate holds them
    back. `recipients` is how many fresh ones the day has left; None: any number.
    """

    now: datetime
    at: datetime | None = None
    fresh_at: datetime | None = None
    why: str = ""
    pools: Mapping[str, datetime] = field(default_factory=dict)
    recipients: int | None = None

    @property
    def is_shut(self) -> bool:
        """Whether nothing at all may go."""
        return self.at is not None and self.at > self.now

    @property
    def lets_fresh(self) -> bool:
        """Whether recipients who were not tried yet may go."""
        return self.fresh_at is None

    @property
    def shut_pools(self) -> tuple[str, ...]:
        return tuple(self.pools)

    def opens_for(self, pool: str, *, fresh: bool) -> tuple[datetime, str]:
        """When a batch of that pool may go, at the earliest, and what it waits for."""
        times = [(self.now, "")]
        if self.at is not None:
            times.append((self.at, "rate"))
        if pool in self.pools:
            times.append((self.pools[pool], "rate"))
        if fresh and self.fresh_at is not None:
            times.append((self.fresh_at, self.why))
        return max(times)


def pace_of(
    connection: Connection, settings: Settings, provider: ProviderSettings, now: datetime
) -> Pace:
    """Ask rate, domains' rates, window and quota, in this order; only what is set costs a query."""
    zone = settings.site.zone
    times: dict[str, datetime] = {}
    if provider.rate is not None or provider.domain_rates:
        times = rate.free_times(connection, provider)
    later = {pool: at for pool, at in times.items() if at > now}
    account = later.pop("", None)
    fresh_at, why, left = _fresh(connection, settings, provider, zone, now)
    return Pace(now, account, fresh_at, why, later, left)


def resumed_at(settings: Settings, provider: ProviderSettings, now: datetime) -> datetime | None:
    """Since when its hours and its quota have let the provider have anything, at the earliest.

    None where neither is set: it was never kept waiting.
    """
    times = []
    opened = open_since(settings.delivery.windows, settings.site.zone, now)
    if opened is not None:
        times.append(opened)
    day = quota.day_of(settings.site.zone, now)
    if quota.limit_on(provider, day) is not None:
        times.append(quota.start_of(settings.site.zone, day))
    return max(times, default=None)


def _fresh(
    connection: Connection,
    settings: Settings,
    provider: ProviderSettings,
    zone: ZoneInfo,
    now: datetime,
) -> tuple[datetime | None, str, int | None]:
    opening = next_opening(settings.delivery.windows, zone, now)
    if opening is not None:
        return opening, "window", None
    day = quota.day_of(zone, now)
    limit = quota.limit_on(provider, day)
    if limit is None:
        return None, "", None
    left = limit - quota.used_on(connection, provider, day)
    if left > 0:
        return None, "", left
    begins = quota.start_of(zone, quota.next_day(provider, day))
    why = "warm-up" if limit != provider.daily_quota else "quota"
    # The day's first moment may lie outside the hours in which issues may leave.
    later = next_opening(settings.delivery.windows, zone, begins) or begins
    return max(later, now + timedelta(microseconds=1)), why, 0
