"""How a send's recipients are grouped: a batch holds one wave and one pool of domains only.

Gives the expressions by which the start of a send numbers its recipients; a slow pool comes first
within its wave, so that it is the bottleneck from the first minute on and not at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Row,
    case,
    cast,
    func,
    insert,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from newsletter.audience import segment_select
from newsletter.delivery import canary
from newsletter.delivery.pacing.waves import FIELD, known_zone, wave_of, zones_by_wave
from newsletter.scheduling.localtime import local_time, resolve
from newsletter.settings import ProviderSettings, Settings
from newsletter.store.schema import deliveries, subscribers, waves
from newsletter.store.types import from_microseconds, to_microseconds


@dataclass(frozen=True, slots=True)
class Group:
    """Positions `lo`..`hi` of a send: one pool of one wave, all in the canary's sample or none."""

    lo: int
    hi: int
    pool: str
    due_at: datetime | None
    sampled: bool = False


@dataclass(frozen=True, slots=True)
class Grouping:
    """The recipients of one send by wave and pool."""

    pools: tuple[str, ...]  # the slowest first
    zones: dict[datetime, list[str]] | None  # by the moment of their wave; None: no waves
    others_at: datetime | None  # the wave of everybody else
    sample: float = 0.0  # the part of each wave that comes first in it, for the canary

    def order(self, columns: Any, dialect: str) -> tuple[ColumnElement[Any], ...]:
        """What recipients are numbered by first; `columns` has their `email` and `fields`."""
        sampled = [case((canary.sampled(columns, self.sample), 0), else_=1)] if self.sample else []
        return (*self._due(columns, dialect), *sampled, *self._rank(columns))

    def groups(self, connection: Connection, send_id: int, total: int) -> list[Group]:
        """The send's groups once its recipients are numbered, in the order of positions."""
        keys = self.order(deliveries.c, connection.dialect.name)
        if not keys or not total:
            return [Group(1, total, "", None)] if total else []
        labelled = [key.label(f"key{number}") for number, key in enumerate(keys)]
        lo = func.min(deliveries.c.position)
        query = (
            select(lo, func.max(deliveries.c.position), *labelled)
            .where(deliveries.c.send_id == send_id)
            .group_by(*labelled)
            .order_by(lo)
        )
        return [self._group(row) for row in connection.execute(query)]

    def _group(self, row: Row[Any]) -> Group:
        lo, hi, *keys = tuple(row)
        due_at = None if self.zones is None else from_microseconds(keys.pop(0))
        sampled = bool(self.sample) and keys.pop(0) == 0
        pool = (*self.pools, "")[keys[0]] if keys else ""
        return Group(lo, hi, pool, due_at, sampled)

    def _due(self, columns: Any, dialect: str) -> list[ColumnElement[Any]]:
        if self.zones is None or self.others_at is None:
            return []
        others = literal(to_microseconds(self.others_at), BigInteger)
        zone = _zone(columns.fields, dialect)
        moments = [
            (zone.in_(names), literal(to_microseconds(at), BigInteger))
            for at, names in sorted(self.zones.items())
        ]
        return [cast(case(*moments, else_=others), BigInteger) if moments else others]

    def _rank(self, columns: Any) -> list[ColumnElement[Any]]:
        if not self.pools:
            return []
        email = func.lower(columns.email)
        ranks = []
        for number, pool in enumerate(self.pools):
            inside = [email.endswith(f"@{domain}", autoescape=True) for domain in pool.split()]
            ranks.append((or_(*inside), literal(number, Integer)))
        return [case(*ranks, else_=literal(len(self.pools), Integer))]


def grouping(
    connection: Connection,
    settings: Settings,
    provider: ProviderSettings,
    send: Row[Any],
    now: datetime,
) -> Grouping:
    """How the recipients of a send that starts now are grouped, by the settings as they are."""
    rates = provider.domain_rates
    pools = tuple(sorted(rates, key=lambda pool: (rates[pool], pool)))
    people = subscribers.c.id.in_(segment_select(send.segment, now))
    sample = canary.part_of(connection, settings.delivery, people)
    if not send.local_time:
        return Grouping(pools, None, None, sample)
    zone = settings.site.zone
    passed = settings.delivery.zone_passed
    scheduled_at = max(send.created_at, send.released_at or send.created_at)
    local = local_time(send.at, zone)
    told = _zone(subscribers.c.fields, connection.dialect.name)
    names = connection.execute(select(told).where(people).distinct()).scalars().all()
    found = zones_by_wave(
        [name for name in names if isinstance(name, str)],
        local,
        scheduled_at=scheduled_at,
        passed=passed,
        now=now,
    )
    others = wave_of(zone, local, scheduled_at=scheduled_at, passed=passed, now=now)
    return Grouping(pools, found, others, sample)


def count_passed(
    connection: Connection, settings: Settings, segment: str, at: datetime, now: datetime
) -> int:
    """Of a send in recipients' own zones: for how many the hour of `at` is over already."""
    site = settings.site.zone
    local = local_time(at, site)
    told = _zone(subscribers.c.fields, connection.dialect.name)
    people = subscribers.c.id.in_(segment_select(segment, now))
    query = select(told, func.count()).where(people).group_by(told)
    return sum(
        number
        for name, number in connection.execute(query)
        if resolve(local, (known_zone(name) if isinstance(name, str) else None) or site) < now
    )


def last_sampled(groups: Sequence[Group]) -> int:
    """The last position of the canary's sample, which is of the first wave alone; 0: none."""
    first = groups[0].due_at if groups else None
    mine = [each for each in groups if each.sampled and each.due_at == first]
    size = sum(each.hi - each.lo + 1 for each in mine)
    # Half, as the sample that was asked for is hit only about; a small first wave has none.
    return mine[-1].hi if 2 * size >= canary.FEWEST else 0


def write_waves(connection: Connection, send_id: int, groups: Sequence[Group]) -> None:
    """Write the waves down, with how many recipients each has."""
    sizes: dict[datetime, int] = {}
    for group in groups:
        if group.due_at is not None:
            sizes[group.due_at] = sizes.get(group.due_at, 0) + group.hi - group.lo + 1
    if sizes:
        connection.execute(
            insert(waves),
            [{"send_id": send_id, "at": at, "recipients": size} for at, size in sizes.items()],
        )


def _zone(fields: ColumnElement[Any], dialect: str) -> ColumnElement[str]:
    """A recipient's own zone in SQL, '' where they have none."""
    if dialect == "postgresql":
        return func.coalesce(func.cast(fields, JSONB)[FIELD].astext, "")
    return func.coalesce(func.json_extract(fields, f'$."{FIELD}"'), "")
