"""The breaker of each provider, shared by all workers: after failures in a row it opens, and then
nothing new goes to that provider until one batch, claimed by one worker, has tried it.

It judges requests, never recipients, and knows nothing of batches or of who stands in.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    update,
)

from newsletter.audience.sql import insert_into
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.outbox import notify_editors
from newsletter.providers.base import Answered, Deferred, Denied, Outcome, Unknown
from newsletter.store import notify
from newsletter.store.schema import breakers
from newsletter.store.types import Instant, to_microseconds

_log = logging.getLogger(__name__)

# Statements of every batch are made once: to make one costs more than to run it.
#: The breakers that are open.
OPEN = select(breakers).where(breakers.c.state == "open").order_by(breakers.c.provider)

_NOW = bindparam("b_now", type_=Instant())
_UNTIL = bindparam("b_until", type_=Instant())
# A time beyond any pause was written by a clock that has jumped back since.
_ASTRAY = breakers.c.retry_at > bindparam("b_furthest", type_=Instant())
_CLAIM = (
    update(breakers)
    .where(
        breakers.c.provider == bindparam("b_provider"),
        breakers.c.state == "open",
        or_(breakers.c.retry_at <= _NOW, _ASTRAY),
        or_(
            breakers.c.probe_until.is_(None),
            breakers.c.probe_until <= _NOW,
            breakers.c.probe_until > _UNTIL,
        ),
    )
    .values(
        probe_until=_UNTIL,
        # So that the failure of this try is known for one.
        retry_at=case((_ASTRAY, _NOW), else_=breakers.c.retry_at),
    )
)
_COUNT_FAILURE = (
    update(breakers)
    .where(breakers.c.provider == bindparam("b_provider"))
    .values(
        failures=breakers.c.failures + 1,
        failing_since=func.coalesce(breakers.c.failing_since, _NOW),
        reason=bindparam("b_reason"),
    )
    .returning(breakers.c.failures, breakers.c.state)
)
_GIVE_UP = (
    update(breakers)
    .where(
        breakers.c.provider == bindparam("b_provider"),
        breakers.c.probe_until == bindparam("b_claim"),
    )
    .values(probe_until=None)
)

_TROUBLED = (
    select(breakers.c.state, breakers.c.episode)
    .where(
        breakers.c.provider == bindparam("b_provider"),
        or_(breakers.c.state == "open", breakers.c.failures > 0),
    )
    .with_for_update()
)

LONGEST_PAUSE = timedelta(minutes=10)
#: A provider that fails again so soon after it worked is the same story: it is told once.
SAME_EPISODE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Opened:
    """A provider that is given nothing new, and why. From `retry_at` on one batch may try it.

    While one does, that is when whoever claimed it would have vanished.
    """

    provider: str
    since: datetime  # of the first failure in the row
    reason: str
    retry_at: datetime
    is_tried: bool


def open_breakers(connection: Connection) -> dict[str, Opened]:
    """The providers whose breaker is open; cheap, as there are as many rows as providers."""
    return {
        row.provider: Opened(
            row.provider,
            row.failing_since,
            row.reason,
            max(row.retry_at, row.probe_until or row.retry_at),
            row.probe_until is not None,
        )
        for row in connection.execute(OPEN)
    }


def has_opened(provider: ColumnElement[str]) -> ColumnElement[bool]:
    """The condition that nothing new may go to a provider."""
    return exists().where(breakers.c.provider == provider, breakers.c.state == "open")


def is_open(connection: Connection, provider: str) -> bool:
    """Whether nothing new may go to a provider."""
    return provider in open_breakers(connection)


def claim_probe(
    connection: Connection, runtime: DeliveryRuntime, provider: str, now: datetime
) -> datetime | None:
    """A claim for the one caller that tries an open provider now, with one batch; else None.

    It ends with `note`, with `give_up_probe` or, should its holder vanish, after a lease's time.
    """
    until = now + runtime.workspace.settings.delivery.lease
    values = {
        "b_provider": provider,
        "b_now": now,
        "b_until": until,
        "b_furthest": now + _longest_pause(runtime),
    }
    return until if connection.execute(_CLAIM, values).rowcount == 1 else None


def give_up_probe(connection: Connection, provider: str, claim: datetime) -> None:
    """Nothing came of a claim: no batch, or no request. Harmless after `note`."""
    connection.execute(_GIVE_UP, {"b_provider": provider, "b_claim": claim})


def note(
    connection: Connection,
    runtime: DeliveryRuntime,
    provider: str,
    outcome: Outcome,
    started_at: datetime,
) -> None:
    """Count what a request led to, in the transaction that writes it down.

    An answer closes the breaker, whatever it says of recipients. A request to wait (`Retry-After`)
    says neither. A refusal as a whole counts only against a provider that was being tried.
    """
    match outcome:
        case Answered():
            _close(connection, runtime, provider)
        case Deferred(reason, None) | Unknown(reason):
            _fail(connection, runtime, provider, reason, started_at)
        case Deferred(reason) | Denied(reason):
            _again(connection, runtime, provider, reason, started_at)


def trip(connection: Connection, runtime: DeliveryRuntime, provider: str, reason: str) -> None:
    """Open the breaker at once: the provider has said that it will take nothing."""
    _ensure_row(connection, provider)
    _open(connection, runtime, provider, reason)


def give_chance(connection: Connection, provider: str, now: datetime) -> None:
    """A person says that the cause is gone: the provider is tried at once, as if for the first
    time."""
    connection.execute(
        update(breakers)
        .where(breakers.c.provider == provider, breakers.c.state == "open")
        .values(failing_since=now, retry_at=now, probe_until=None, openings=0)
    )


def _ensure_row(connection: Connection, provider: str) -> None:
    statement = insert_into(connection, breakers).values(provider=provider, state="closed")
    connection.execute(statement.on_conflict_do_nothing(index_elements=["provider"]))


def _fail(
    connection: Connection,
    runtime: DeliveryRuntime,
    provider: str,
    reason: str,
    started_at: datetime,
) -> None:
    _ensure_row(connection, provider)
    values = {"b_provider": provider, "b_now": runtime.clock.now(), "b_reason": reason}
    row = connection.execute(_COUNT_FAILURE, values).one()
    if row.state == "open":
        _again(connection, runtime, provider, reason, started_at)
    elif row.failures >= runtime.workspace.settings.delivery.breaker_after:
        _open(connection, runtime, provider, reason)


def _open(connection: Connection, runtime: DeliveryRuntime, provider: str, reason: str) -> None:
    """Out of `closed`, once: who opens it tells the editors."""
    now = runtime.clock.now()
    statement = (
        update(breakers)
        .where(breakers.c.provider == provider, breakers.c.state == "closed")
        .values(
            state="open",
            openings=1,
            retry_at=now + _pause(runtime, 1),
            probe_until=None,
            reason=reason,
        )
        .returning(breakers.c.failing_since, breakers.c.episode, breakers.c.closed_at)
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return
    same = row.closed_at is not None and now - row.closed_at < SAME_EPISODE
    episode = row.episode if same else now
    connection.execute(
        update(breakers)
        .where(breakers.c.provider == provider)
        .values(failing_since=row.failing_since or now, episode=episode)
    )
    _log.warning("the provider %s is given nothing new for a while: %s", provider, reason)
    notify_editors(
        connection,
        runtime.workspace,
        now,
        cause=f"provider:{provider}:failing:{to_microseconds(episode)}",
        subject=f"The provider {provider} keeps failing",
        text=f"**{provider}** failed again and again; it gets nothing new for a while, and then "
        f"one batch tries it again. {_stand_in(runtime, provider)}\n\nThe last answer: {reason}",
    )


def _stand_in(runtime: DeliveryRuntime, provider: str) -> str:
    for entry in runtime.workspace.settings.providers:
        if entry.name == provider and entry.failover:
            return f"Until then **{entry.failover}** takes over what {provider} surely has not got."
    minutes = runtime.policy.hold_after.total_seconds() / 60
    return f"After {minutes:.0f} minutes its sends are held."


def _again(
    connection: Connection,
    runtime: DeliveryRuntime,
    provider: str,
    reason: str,
    started_at: datetime,
) -> None:
    """The batch that tried an open provider failed: the next one tries it after a longer pause.

    An older request that ends only now, which had started before that, changes nothing.
    """
    trying = (
        breakers.c.provider == provider,
        breakers.c.state == "open",
        breakers.c.probe_until.is_not(None),
        breakers.c.retry_at <= started_at,
    )
    query = select(breakers.c.openings).where(*trying).with_for_update()
    openings = connection.execute(query).scalar_one_or_none()
    if openings is None:
        return
    connection.execute(
        update(breakers)
        .where(*trying)
        .values(
            openings=openings + 1,
            retry_at=runtime.clock.now() + _pause(runtime, openings + 1),
            probe_until=None,
            reason=reason,
        )
    )


def _close(connection: Connection, runtime: DeliveryRuntime, provider: str) -> None:
    now = runtime.clock.now()
    row = connection.execute(_TROUBLED, {"b_provider": provider}).one_or_none()
    if row is None:
        return
    values: dict[str, object] = {"failures": 0, "failing_since": None, "openings": 0}
    if row.state == "open":
        values |= {"state": "closed", "retry_at": None, "probe_until": None, "closed_at": now}
    connection.execute(update(breakers).where(breakers.c.provider == provider).values(values))
    if row.state == "open":
        _log.warning("the provider %s works again", provider)
        notify(connection, "sends")
        notify_editors(
            connection,
            runtime.workspace,
            now,
            cause=f"provider:{provider}:works:{to_microseconds(row.episode)}",
            subject=f"The provider {provider} works again",
            text=f"**{provider}** has taken a batch: its sends go on by themselves.",
        )


def _pause(runtime: DeliveryRuntime, openings: int) -> timedelta:
    """Between half and all of the pause, which doubles with each opening in a row."""
    first = runtime.workspace.settings.delivery.breaker_pause
    doublings = min(max(openings, 1) - 1, 20)
    full = min(first * (1 << doublings), _longest_pause(runtime))
    return full * runtime.rng.uniform(0.5, 1.0)


def _longest_pause(runtime: DeliveryRuntime) -> timedelta:
    return max(LONGEST_PAUSE, runtime.workspace.settings.delivery.breaker_pause)
