"""Through which provider a batch goes: its send's, or the one that stands in while that fails.

A batch moves only while no attempt of it is under way or in doubt, by the UPDATE that leases it;
whatever is in doubt stays with the provider that was asked, until it is settled there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    null,
    or_,
    select,
)

from newsletter.delivery import breaker, canary, pacing
from newsletter.delivery.breaker import Opened
from newsletter.delivery.notices import hold
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.settings import ProviderSettings
from newsletter.store.schema import attempts, batches, sends
from newsletter.store.types import Instant


@dataclass(frozen=True, slots=True)
class Admission:
    """What may be leased for a provider now: all, doubts alone, or one batch that tries it.

    `instead_of` are the providers that it stands in for.
    """

    doubts_only: bool = False
    probing: datetime | None = None  # the claim
    instead_of: tuple[str, ...] = ()


#: The providers that have taken batches over, by send.
MOVED = (
    select(batches.c.send_id, batches.c.provider)
    .where(batches.c.provider.is_not(None), batches.c.state != literal_column("'done'"))
    .distinct()
    .order_by(batches.c.send_id, batches.c.provider)
)

#: A provider that works and stands in for nobody.
OPEN = Admission()


def admission(
    connection: Connection, runtime: DeliveryRuntime, provider: str, now: datetime
) -> Admission:
    """Asked in the transaction that leases; whoever gets a claim uses it or gives it up."""
    opened = breaker.open_breakers(connection)
    if provider in opened:
        claim = breaker.claim_probe(connection, runtime, provider, now)
        return Admission(doubts_only=claim is None, probing=claim)
    helped = stand_ins(runtime.workspace.settings.providers, opened)
    others = tuple(name for name, helper in helped.items() if helper == provider)
    return Admission(instead_of=others)


def stand_ins(entries: Iterable[ProviderSettings], opened: Collection[str]) -> dict[str, str]:
    """Of the providers whose breaker is open, who takes over: the first in line that works."""
    leads_to = {entry.name: entry.failover for entry in entries}
    helped: dict[str, str] = {}
    for name in opened:
        step = leads_to.get(name, "")
        while step in opened:
            step = leads_to.get(step, "")
        if step:
            helped[name] = step
    return helped


def helper_of(connection: Connection, runtime: DeliveryRuntime, provider: str) -> str:
    """Who would stand in for a provider if its breaker were open; '' where nobody would."""
    opened = {*breaker.open_breakers(connection), provider}
    entries = runtime.workspace.settings.providers
    return stand_ins(entries, sorted(opened)).get(provider, "")


def lanes(
    connection: Connection, runtime: DeliveryRuntime, live: Iterable[tuple[int, str]]
) -> list[tuple[int, str]]:
    """(send id, provider) of sends that go on: with their own providers, with those that took
    batches over, and with those that may do so now."""
    own = list(live)
    mine = {send_id for send_id, _ in own}
    moved = connection.execute(MOVED)
    found = own + [(row.send_id, row.provider) for row in moved if row.send_id in mine]
    entries = runtime.workspace.settings.providers
    helped = stand_ins(entries, breaker.open_breakers(connection))
    found += [(send_id, helped[name]) for send_id, name in found if name in helped]
    return list(dict.fromkeys(found))


def through(provider: str) -> ColumnElement[bool]:
    """Of a batch and its send, that it goes through that provider."""
    return func.coalesce(batches.c.provider, sends.c.provider) == provider


def may_take(provider: str, instead_of: Collection[str]) -> ColumnElement[bool]:
    """Of a batch and its send, that the provider may have it: it is its own, or it may move."""
    others = [and_(through(name), ~in_doubt()) for name in instead_of]
    return or_(through(provider), *others)


def in_doubt() -> ColumnElement[bool]:
    """Of a batch, that the outcome of an attempt at it is not known."""
    return _attempt_of_batch(attempts.c.state.in_(["started", "in_doubt"]))


def being_settled() -> ColumnElement[bool]:
    """Of a batch, that something can still settle an attempt of it that is in doubt."""
    return _attempt_of_batch(attempts.c.state == "in_doubt", attempts.c.settle_at.is_not(None))


def _attempt_of_batch(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    mine = (attempts.c.send_id == batches.c.send_id, attempts.c.batch == batches.c.number)
    # Told, as it may stand two queries deep, where it would else be of any batch.
    return select(attempts.c.id).where(*mine, *conditions).correlate(batches).exists()


class Shut(NamedTuple):
    """A provider whose breaker is open, as far as a statement depends on it."""

    provider: str
    is_helped: bool  # another one stands in
    is_known: bool  # when it may be given something again


def shut(
    opened: Mapping[str, Opened], entries: Iterable[ProviderSettings], *, tried: bool
) -> tuple[Shut, ...]:
    """Without `tried`, what rests with the batch that tries a provider is not known."""
    helped = stand_ins(entries, opened)
    return tuple(
        Shut(name, name in helped, tried or not state.is_tried) for name, state in opened.items()
    )


def ready_at(shut: Iterable[Shut]) -> ColumnElement[datetime]:
    """Of a batch and its send, when it may be leased as far as back-offs and breakers go.

    Where that rests with the batch that tries the provider, that is when it is waited for no more;
    NULL where that is not known. The values are `ready_values`.
    """
    ready = func.coalesce(batches.c.not_before, bindparam("b_now", type_=Instant()))
    waits = []
    for number, each in enumerate(shut):
        retry_at = bindparam(f"b_retry_{number}", type_=Instant())
        blocked = and_(through(each.provider), ~being_settled(), ready < retry_at)
        if each.is_helped:
            blocked = and_(blocked, in_doubt())
        waits.append((blocked, retry_at if each.is_known else null()))
    return case(*waits, else_=ready) if waits else ready


def ready_values(opened: Mapping[str, Opened], now: datetime) -> dict[str, datetime]:
    """What `ready_at` is asked with."""
    times = {f"b_retry_{number}": state.retry_at for number, state in enumerate(opened.values())}
    return {"b_now": now, **times}


def hold_stalled(runtime: DeliveryRuntime) -> None:
    """Hold the sends that wait for a provider which has failed for too long: a person is asked."""
    with runtime.store.read() as connection:
        opened = breaker.open_breakers(connection)
        now = runtime.clock.now()
        latest = now - runtime.policy.hold_after
        late = [
            state
            for state in opened.values()
            if _failing_since(connection, runtime, state, now) <= latest
        ]
        helped = stand_ins(runtime.workspace.settings.providers, opened)
        stalled = [
            (send_id, state)
            for state in late
            for send_id in _waiting_for(
                connection, state.provider, state.provider in helped, latest
            )
        ]
    for send_id, state in stalled:
        with runtime.store.begin() as connection:
            reason = (
                f"{state.provider} has taken nothing since {state.since:%H:%M} UTC: {state.reason}"
            )
            hold(connection, runtime, send_id, reason, cause="failing-on")


def _failing_since(
    connection: Connection, runtime: DeliveryRuntime, state: Opened, now: datetime
) -> datetime:
    """Since when it fails, without hours in which it would have been given nothing anyway."""
    settings = runtime.workspace.settings
    entry = next((each for each in settings.providers if each.name == state.provider), None)
    if entry is None:
        return state.since
    if not pacing.pace_of(connection, settings, entry, now).lets_fresh:
        return now
    return max(state.since, pacing.resumed_at(settings, entry, now) or state.since)


def _waiting_for(
    connection: Connection, provider: str, helped: bool, latest: datetime
) -> list[int]:
    """The sends with batches that only that provider could take on, and could since `latest`.

    One that started later has not waited for long, whenever the provider began to fail.
    """
    waits = [batches.c.state == "open", through(provider), ~being_settled(), canary.released()]
    for since in (sends.c.started_at, sends.c.released_at, batches.c.due_at):
        waits.append(or_(since.is_(None), since <= latest))
    if helped:
        waits.append(in_doubt())  # the others move
    query = (
        select(sends.c.id)
        .join(batches, batches.c.send_id == sends.c.id)
        .where(sends.c.state == "sending", *waits)
        .distinct()
    )
    return list(connection.execute(query.order_by(sends.c.id)).scalars())
