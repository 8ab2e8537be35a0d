"""How a send goes: its rate, through which providers, what went wrong, what its sample says.

It only reads, and no more than grows with requests or with what went wrong: whoever watches a send
of a million may ask every second.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Text, and_, func, select, type_coerce

from newsletter.clock import isoformat
from newsletter.delivery import breaker, canary, pacing
from newsletter.delivery.transitions import LEFT
from newsletter.settings import Settings
from newsletter.store.schema import attempts, batches, deliveries, sends, waves

#: Over which time the rate is taken.
LATELY = timedelta(minutes=1)
_REASONS = 8
_BATCHES_READ = 20  # for the reasons of one state
_ROWS_READ = 1000
_REASON_LENGTH = 120
_ADDRESS = re.compile(r"[^\s<>,;:]+@[^\s<>,;:]+")


def progress(
    connection: Connection,
    settings: Settings,
    send: Row[Any],
    counts: Mapping[str, int],
    now: datetime | None,
) -> dict[str, Any]:
    """The contract's `{rate, eta, providers, errors, canary}`; without `now` no rate is known."""
    rate = None if now is None or send.state != "sending" else _rate(connection, send, now)
    eta = None
    if now is not None and rate and not _waits(connection, send):
        eta = pacing.end(connection, settings, send, counts["pending"], rate, now)
    return {
        "rate": rate,
        "eta": None if eta is None else isoformat(eta),
        "providers": _providers(connection, send, counts, now),
        "errors": _errors(connection, send.id, counts),
        "canary": _canary(connection, settings, send),
    }


def _rate(connection: Connection, send: Row[Any], now: datetime) -> float:
    """Recipients a second whom a provider took, over the last minute or since the start."""
    lately = select(attempts.c.positions, attempts.c.not_accepted).where(
        attempts.c.send_id == send.id,
        attempts.c.finished_at > now - LATELY,
        attempts.c.state.in_(["answered", "settled"]),
    )
    taken = sum(
        _size(row.positions) - _size(row.not_accepted) for row in connection.execute(lately)
    )
    since = max(send.started_at or now, send.released_at or now - LATELY, now - LATELY)
    return round(taken / max((now - since).total_seconds(), 1.0), 1)


def _waits(connection: Connection, send: Row[Any]) -> bool:
    """Whether a part of the send has not been let go yet, so that its rate tells no end."""
    later = select(waves.c.at).where(waves.c.send_id == send.id, waves.c.opened_at.is_(None))
    judged = send.canary is None or send.canary_passed
    return not judged or connection.execute(later.limit(1)).one_or_none() is not None


def _providers(
    connection: Connection, send: Row[Any], counts: Mapping[str, int], now: datetime | None
) -> list[dict[str, Any]]:
    """What each provider of the send took, `accepted` being whatever became of it later."""
    used = select(attempts.c.provider).where(attempts.c.send_id == send.id).distinct()
    names = sorted({send.provider, *connection.execute(used).scalars()})
    if names == [send.provider]:
        found = {send.provider: Counter(accepted=sum(counts[state] for state in LEFT))}
        found[send.provider].update({state: counts[state] for state in ("sending", "in_doubt")})
    else:
        found = _by_attempts(connection, send.id, names)
    opened = breaker.open_breakers(connection)
    return [
        {
            "name": name,
            **{state: found[name][state] for state in ("accepted", "sending", "in_doubt")},
            "breaker": "open" if name in opened else "closed",
            "reason": opened[name].reason if name in opened else "",
            "retry_at": _retry_at(opened.get(name), now),
        }
        for name in names
    ]


def _retry_at(opened: breaker.Opened | None, now: datetime | None) -> str | None:
    """When the provider is tried again; None also while it is, and once it may be."""
    if opened is None or opened.is_tried or (now is not None and opened.retry_at <= now):
        return None
    return isoformat(opened.retry_at)


def _by_attempts(connection: Connection, send_id: int, names: list[str]) -> dict[str, Counter[str]]:
    """Recipients by provider, from the attempts: a batch may have been with two of them."""
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    query = select(
        attempts.c.provider, attempts.c.state, attempts.c.positions, attempts.c.not_accepted
    ).where(attempts.c.send_id == send_id, attempts.c.state != "not_accepted")
    states = {"started": "sending", "in_doubt": "in_doubt"}
    for row in connection.execute(query):
        number = _size(row.positions) - _size(row.not_accepted)
        found[row.provider][states.get(row.state, "accepted")] += number
    return found


def _errors(
    connection: Connection, send_id: int, counts: Mapping[str, int]
) -> list[dict[str, Any]]:
    """The reasons that most recipients have not got it for, the most frequent first.

    They are read in the last batches that have any, and stand for those of the others.
    """
    found: Counter[str] = Counter()
    for state in ("rejected", "bounced", "complained", "in_doubt"):
        if not counts[state]:
            continue
        some = (
            select(batches.c.lo, batches.c.hi)
            .where(
                batches.c.send_id == send_id,
                type_coerce(batches.c.counts, Text).contains(f'"{state}"'),
            )
            .order_by(batches.c.number.desc())
            .limit(_BATCHES_READ)
        ).subquery()
        query = (
            select(deliveries.c.reason)
            .join_from(some, deliveries, deliveries.c.position.between(some.c.lo, some.c.hi))
            .where(deliveries.c.send_id == send_id, deliveries.c.state == state)
        )
        read = [_told(each) for each in connection.execute(query.limit(_ROWS_READ)).scalars()]
        for reason, number in Counter(read).items():
            found[reason] += round(number * max(counts[state], len(read)) / len(read))
    found += _failing(connection, send_id)
    return [{"reason": reason, "count": number} for reason, number in found.most_common(_REASONS)]


def _failing(connection: Connection, send_id: int) -> Counter[str]:
    """Those who wait in batches that fail, by the reason of the batch's last attempt."""
    last = and_(
        attempts.c.send_id == batches.c.send_id,
        attempts.c.batch == batches.c.number,
        attempts.c.number == batches.c.tries,
    )
    query = (
        select(attempts.c.reason, batches.c.counts)
        .join_from(batches, attempts, last)
        .where(batches.c.send_id == send_id, batches.c.failing_since.is_not(None))
    )
    found: Counter[str] = Counter()
    for reason, counts in connection.execute(query):
        if waiting := (counts or {}).get("pending", 0):
            found[_told(reason)] += waiting
    return found


def _told(reason: str) -> str:
    """Without the addresses in it, by which each recipient's would be another."""
    return _ADDRESS.sub("…", reason)[:_REASON_LENGTH] or "no reason was given"


def _canary(connection: Connection, settings: Settings, send: Row[Any]) -> dict[str, Any] | None:
    """The sample: its size, what became of it, and until when it is waited for."""
    if send.canary is None:
        return None
    last = select(func.max(batches.c.hi)).where(
        batches.c.send_id == send.id, batches.c.number <= send.canary
    )
    until = select(canary.over_at()).where(sends.c.id == send.id)
    over_at = connection.execute(until, canary.waited(settings.delivery)).scalar_one()
    found = canary.figures(connection, send.id, send.canary)
    return {
        "recipients": connection.execute(last).scalar_one(),
        "messages": found.messages,
        "bounced": found.bounced,
        "complained": found.complained,
        "until": None if over_at is None else isoformat(over_at),
        "passed": send.canary_passed,
    }


def _size(ranges: list[list[int]] | None) -> int:
    return sum(hi - lo + 1 for lo, hi in ranges or [])
