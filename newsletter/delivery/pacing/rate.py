"""One rate for a provider's account, and for domains within it, shared by all its workers.

The generic cell rate algorithm (ITU-T I.371, Annex A) without tolerance: a batch goes when
`free_at` has come, and moves it on by what its recipients cost. A burst is one batch at most, as
time that nobody used is not saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select, update

from newsletter.audience.sql import insert_into
from newsletter.settings import ProviderSettings
from newsletter.store import Store
from newsletter.store.schema import pace

#: How far the clocks of workers may differ without one taking another's grant for a mistake.
SKEW = timedelta(seconds=5)

_FREE_AT = select(pace.c.pool, pace.c.free_at).where(pace.c.provider == bindparam("b_provider"))


def rates_of(provider: ProviderSettings, pool: str) -> Iterator[tuple[str, float]]:
    """The rates, by pool, that a batch of `pool` is counted on: the account's and its domains'."""
    if provider.rate is not None:
        yield "", provider.rate
    if pool in provider.domain_rates:
        yield pool, provider.domain_rates[pool]


def free_times(connection: Connection, provider: ProviderSettings) -> dict[str, datetime]:
    """When each of the provider's rates lets the next batch go, by pool; '' is the account's."""
    known = {"", *provider.domain_rates} if provider.rate is not None else {*provider.domain_rates}
    rows = connection.execute(_FREE_AT, {"b_provider": provider.name})
    return {pool: at for pool, at in rows if pool in known}


def grant(
    connection: Connection, provider: ProviderSettings, pool: str, recipients: int, now: datetime
) -> bool:
    """Whether a batch may go now; then its recipients are counted, in the lease's transaction.

    False where another worker was faster: the caller rolls the transaction back.
    """
    for name, rate in rates_of(provider, pool):
        until = now + timedelta(seconds=recipients / rate)
        taken = connection.execute(
            update(pace)
            .where(pace.c.provider == provider.name, pace.c.pool == name, pace.c.free_at <= now)
            .values(free_at=until)
        ).rowcount
        if not taken:
            first = insert_into(connection, pace).values(
                provider=provider.name, pool=name, free_at=until
            )
            made = first.on_conflict_do_nothing().returning(pace.c.pool)
            if connection.execute(made).one_or_none() is None:
                return False
    return True


def justify(store: Store, provider: ProviderSettings, batch_size: int, now: datetime) -> None:
    """Bring back times that no batch can have caused: the clock or the rate was changed.

    One batch of `batch_size` recipients is the most that a rate lets go at once.
    """
    if provider.rate is None and not provider.domain_rates:
        return
    with store.read() as connection:
        times = free_times(connection, provider)
    for pool, free_at in times.items():
        furthest = now + timedelta(seconds=batch_size / dict(rates_of(provider, pool))[pool])
        if free_at > furthest + SKEW:
            key = (pace.c.provider == provider.name, pace.c.pool == pool)
            with store.begin() as connection:
                connection.execute(
                    update(pace).where(*key, pace.c.free_at == free_at).values(free_at=furthest)
                )
