"""How many recipients a provider gets on one day of the site's zone: its quota, and the warm-up.

An attempt is counted in the transaction that writes it down, and what was surely not accepted is
given back in the one that says so: the count is that of the ledger, whatever crashes.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, bindparam, func, literal, select, update

from newsletter.audience.sql import insert_into
from newsletter.scheduling.localtime import resolve
from newsletter.settings import ProviderSettings
from newsletter.store.schema import attempts, quotas

_USED = select(quotas.c.used).where(
    quotas.c.provider == bindparam("b_provider"), quotas.c.day == bindparam("b_day")
)

_DAYS_PLANNED = 366

_OF_ATTEMPT = attempts.c.id == bindparam("b_attempt")
_GIVE_BACK = (
    update(quotas)
    .where(
        quotas.c.provider == select(attempts.c.provider).where(_OF_ATTEMPT).scalar_subquery(),
        quotas.c.day
        == select(func.coalesce(attempts.c.day, literal(""))).where(_OF_ATTEMPT).scalar_subquery(),
    )
    .values(used=quotas.c.used - bindparam("b_recipients"))
)


class QuotaUsedUp(Exception):
    """Another worker used what was left of the day: nothing was sent, the batch goes later."""


def limit_on(provider: ProviderSettings, day: date) -> int | None:
    """How many recipients the provider gets on that day; None: any number."""
    limits = [] if provider.daily_quota is None else [provider.daily_quota]
    if provider.warm_up_from is not None:
        number = (day - provider.warm_up_from).days
        if number < 0:
            return 0
        limits += provider.warm_up[number : number + 1]
    return min(limits, default=None)


def day_of(zone: ZoneInfo, now: datetime) -> date:
    return now.astimezone(zone).date()


def start_of(zone: ZoneInfo, day: date) -> datetime:
    """The first moment of a day, in UTC."""
    return resolve(datetime.combine(day, time()), zone)


def next_day(provider: ProviderSettings, day: date) -> date:
    """The first day after `day` on which the provider gets any issue."""
    begins = provider.warm_up_from
    tomorrow = day + timedelta(days=1)
    return tomorrow if begins is None else max(begins, tomorrow)


def last_day(
    connection: Connection,
    provider: ProviderSettings,
    zone: ZoneInfo,
    recipients: int,
    now: datetime,
) -> tuple[date, int] | None:
    """The day on which the last of so many recipients may go, and how many of them go on it.

    None where that is further off than anybody plans.
    """
    day = day_of(zone, now)
    limit = limit_on(provider, day)
    if limit is not None:
        limit -= used_on(connection, provider, day)
    left = recipients
    for _ in range(_DAYS_PLANNED):
        if limit is None or left <= limit:
            return day, left
        left -= max(limit, 0)
        day = next_day(provider, day)
        limit = limit_on(provider, day)
    return None


def used_on(connection: Connection, provider: ProviderSettings, day: date) -> int:
    """Recipients counted on that day."""
    key = {"b_provider": provider.name, "b_day": day.isoformat()}
    return connection.execute(_USED, key).scalar_one_or_none() or 0


def count_on_day(
    connection: Connection,
    provider: ProviderSettings,
    zone: ZoneInfo,
    attempt: str,
    recipients: int,
    now: datetime,
) -> None:
    """Count an attempt that was just written down. Raises `QuotaUsedUp`: roll back."""
    day = day_of(zone, now)
    limit = limit_on(provider, day)
    if limit is None:
        return
    key = {"provider": provider.name, "day": day.isoformat()}
    connection.execute(insert_into(connection, quotas).values(**key).on_conflict_do_nothing())
    statement = (
        update(quotas)
        .where(
            quotas.c.provider == key["provider"],
            quotas.c.day == key["day"],
            quotas.c.used + recipients <= limit,
        )
        .values(used=quotas.c.used + recipients)
    )
    if connection.execute(statement).rowcount != 1:
        raise QuotaUsedUp(f"{provider.name}: {limit} recipients on {day}")
    connection.execute(update(attempts).where(attempts.c.id == attempt).values(day=key["day"]))


def give_back(connection: Connection, attempt: str, recipients: int) -> None:
    """Of an attempt so many recipients were surely not accepted: they do not count on its day.

    A negative number counts again some of whom it turned out that they were.
    """
    if not recipients:
        return
    connection.execute(_GIVE_BACK, {"b_attempt": attempt, "b_recipients": recipients})
