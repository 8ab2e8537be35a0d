"""The canary: a sample of the recipients gets an issue first, and what becomes of their messages
decides whether the others get it too. A person who resumes the send overrules it.

The sample is the send's first batches. Nothing here leases or sends.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import exp, lgamma, log, log1p
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Text,
    bindparam,
    distinct,
    exists,
    func,
    literal,
    or_,
    select,
    type_coerce,
    update,
)

from newsletter.delivery.notices import hold
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.settings import Delivery, Settings
from newsletter.store import notify
from newsletter.store.schema import batches, deliveries, events, sends, subscribers
from newsletter.store.types import Instant

_log = logging.getLogger(__name__)

#: A smaller sample says nothing: one bounce of 20 is 5 %.
FEWEST = 20
# One bounce or complaint alone is no rate.
_AT_LEAST = 2
# Before the wait is over a rate counts only if it is no accident: so improbable under the limit.
# Small, as it is looked at again and again.
_BY_ACCIDENT = 0.001


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of a sample so far: of `messages` that left, those that went wrong."""

    messages: int
    bounced: int  # for good, or refused by the provider
    complained: int


def size_of(settings: Delivery, total: int) -> int:
    """How many of `total` recipients go first; 0 where the canary is off or would say nothing."""
    size = settings.canary_of(total)
    return size if FEWEST <= size < total else 0


def part_of(connection: Connection, settings: Delivery, people: ColumnElement[bool]) -> float:
    """Which part of these `subscribers` is the sample; 0 where there is to be none."""
    if not settings.canary:
        return 0.0
    query = select(func.count()).select_from(subscribers).where(people)
    total = connection.execute(query).scalar_one()
    return size_of(settings, total) / total if total else 0.0


def sampled(columns: Any, part: float) -> ColumnElement[bool]:
    """Whether a row of `subscribers` or `deliveries` is in the sample of so large a part.

    By Knuth's multiplicative hash of the subscriber's number, which spreads any run of them evenly:
    those who joined early and late are in it as in the whole, and so are the domains, and the same
    people again after a restore. In the order of numbers the oldest readers alone would be judged.
    """
    number = columns.subscriber_id if "subscriber_id" in columns else columns.id
    mixed: ColumnElement[int] = number * literal(2654435761, BigInteger)
    return mixed % literal(2**32, BigInteger) < literal(round(part * 2**32), BigInteger)


def plan(connection: Connection, send_id: int, last: int) -> None:
    """Write down that the send's batches up to the position `last` are its sample; 0: none."""
    of_sample = select(func.max(batches.c.number)).where(
        batches.c.send_id == send_id, batches.c.hi <= last
    )
    connection.execute(
        update(sends).where(sends.c.id == send_id).values(canary=of_sample.scalar_subquery())
    )


def released() -> ColumnElement[bool]:
    """Of a batch and its send: it belongs to the sample, or the sample has been judged."""
    return or_(
        sends.c.canary.is_(None),
        sends.c.canary_passed.is_(True),
        batches.c.number <= sends.c.canary,
    )


def over_at() -> ColumnElement[datetime]:
    """Of a send, when its sample has been waited for `b_canary_wait`, which `waited` gives; NULL
    while some of it waits to be sent."""
    wait = bindparam("b_canary_wait", type_=BigInteger())
    return type_coerce(type_coerce(sends.c.canary_at, BigInteger) + wait, Instant)


def waited(settings: Delivery) -> dict[str, int]:
    """What `over_at` is asked with."""
    return {"b_canary_wait": settings.canary_wait // timedelta(microseconds=1)}


def ends(connection: Connection, wait: timedelta) -> list[datetime]:
    """When the samples that are out now have been waited for."""
    return [at + wait for at in connection.execute(_OUT).scalars()]


#: The sends whose sample is not judged yet.
WAITING = (
    select(sends)
    .where(
        sends.c.state == "sending", sends.c.canary.is_not(None), sends.c.canary_passed.is_not(True)
    )
    .order_by(sends.c.id)
)
_OUT = select(sends.c.canary_at).where(
    sends.c.state == "sending",
    sends.c.canary_at.is_not(None),
    sends.c.canary_passed.is_not(True),
)


def reason(settings: Settings, send: Row[Any]) -> str:
    """What a send waits for whose sample is out; '' for any other."""
    if send.state != "sending" or send.canary_at is None or send.canary_passed:
        return ""
    until = (send.canary_at + settings.delivery.canary_wait).astimezone(settings.site.zone)
    return f"its canary is out; the others follow at {until:%Y-%m-%d %H:%M} if all is well"


def judge(runtime: DeliveryRuntime) -> None:
    """Look at the samples that are out: hold the send, let it go on, or wait."""
    with runtime.store.read() as connection:
        waiting = connection.execute(WAITING).all()
    for send in waiting:
        with runtime.store.begin() as connection:
            _judge(connection, runtime, send)


def overrule(connection: Connection, send_id: int) -> None:
    """A person lets a send go on that its sample has held."""
    connection.execute(
        update(sends)
        .where(sends.c.id == send_id, sends.c.canary_passed.is_(False))
        .values(canary_passed=True)
    )


def figures(connection: Connection, send_id: int, canary: int) -> Figures:
    """Count what is known of the sample's messages; cheap, whatever the size of the send."""
    mine = (batches.c.send_id == send_id, batches.c.number <= canary)
    query = select(batches.c.lo, batches.c.hi, batches.c.counts).where(
        *mine, batches.c.state == "done"
    )
    count: Counter[str] = Counter()
    for row in connection.execute(query):
        known = row.counts
        count.update(_rows_of(connection, send_id, row.lo, row.hi) if known is None else known)
    last = select(func.max(batches.c.hi)).where(*mine).scalar_subquery()
    within = (deliveries.c.send_id == send_id, deliveries.c.position <= last)
    return Figures(
        messages=count.total() - count["skipped"] - count["in_doubt"],
        # As canonical JSON, in which nothing else is spelt like this.
        bounced=count["rejected"]
        + _people(
            connection,
            *within,
            events.c.type == "bounced",
            type_coerce(events.c.event, Text).contains('"bounce":"hard"'),
        ),
        complained=_people(connection, *within, events.c.type == "complained"),
    )


def _rows_of(connection: Connection, send_id: int, lo: int, hi: int) -> dict[str, int]:
    """The deliveries of a batch by state, where its counts are not known at the moment."""
    query = (
        select(deliveries.c.state, func.count())
        .where(deliveries.c.send_id == send_id, deliveries.c.position.between(lo, hi))
        .group_by(deliveries.c.state)
    )
    return dict(connection.execute(query).tuples().all())


def verdict(settings: Delivery, found: Figures, *, early: bool) -> str:
    """Why the send must not go on, with the figures; '' while nothing speaks against it."""
    told = []
    bad = False
    for number, limit, what in (
        (found.bounced, settings.max_bounces, "bounced or were refused"),
        (found.complained, settings.max_complaints, "complained"),
    ):
        rate = number / found.messages if found.messages else 0.0
        over = number >= _AT_LEAST and rate > limit
        if over and early:
            over = chance(found.messages, number, limit) < _BY_ACCIDENT
        bad |= over
        told.append(f"{number:,} {what} ({_percent(rate)}, the limit is {_percent(limit)})")
    return " and ".join(told) if bad else ""


def chance(messages: int, number: int, rate: float) -> float:
    """How probable `number` or more of `messages` are at a true `rate`: the binomial tail."""
    if number <= 0 or rate >= 1:
        return 1.0
    if rate <= 0 or number > messages:
        return 0.0
    total = 0.0
    for hits in range(number, messages + 1):
        ways = lgamma(messages + 1) - lgamma(hits + 1) - lgamma(messages - hits + 1)
        term = exp(ways + hits * log(rate) + (messages - hits) * log1p(-rate))
        total += term
        if term < total * 1e-9 and hits > messages * rate:
            break
    return min(total, 1.0)


def _judge(connection: Connection, runtime: DeliveryRuntime, send: Row[Any]) -> None:
    now = runtime.clock.now()
    settings = runtime.workspace.settings.delivery
    out_since = send.canary_at or _note_end(connection, send, now)
    over = out_since is not None and now >= out_since + settings.canary_wait
    found = figures(connection, send.id, send.canary)
    why = verdict(settings, found, early=not over)
    if why:
        reason = f"of its first {found.messages:,} messages {why}: the others have not left"
        _mark(connection, send.id, passed=False)
        hold(connection, runtime, send.id, reason, cause="canary")
    elif over and _mark(connection, send.id, passed=True):
        notify(connection, "sends")
        _log.info("send %s goes on after its first %d messages", send.send, found.messages)


def _note_end(connection: Connection, send: Row[Any], now: datetime) -> datetime | None:
    """When the last batch of the sample was done: now, if that is so."""
    working = exists().where(
        batches.c.send_id == send.id, batches.c.number <= send.canary, batches.c.state != "done"
    )
    statement = (
        update(sends)
        .where(sends.c.id == send.id, sends.c.canary_at.is_(None), ~working)
        .values(canary_at=now)
    )
    return now if connection.execute(statement).rowcount == 1 else None


def _mark(connection: Connection, send_id: int, *, passed: bool) -> bool:
    statement = (
        update(sends)
        .where(
            sends.c.id == send_id, sends.c.state == "sending", sends.c.canary_passed.is_not(True)
        )
        .values(canary_passed=passed)
    )
    return connection.execute(statement).rowcount == 1


def _people(connection: Connection, *conditions: ColumnElement[bool]) -> int:
    """How many recipients of the send have such an event."""
    query = (
        select(func.count(distinct(events.c.subscriber_id)))
        .select_from(events)
        .join(
            deliveries,
            (deliveries.c.send_id == events.c.send_id)
            & (deliveries.c.subscriber_id == events.c.subscriber_id),
        )
        .where(*conditions)
    )
    return int(connection.execute(query).scalar_one())


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
