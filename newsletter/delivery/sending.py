"""One batch, in this order: who left is skipped, the attempt is committed, the request is made,
each recipient's outcome is committed. Nothing here decides what an unknown outcome was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    update,
)

from newsletter.audience import segment_select, suppress
from newsletter.delivery import breaker, failover, forms, guard, leases, pacing
from newsletter.delivery.attempts import (
    Attempt,
    RowsMoved,
    attempt_key,
    doubt,
    open_attempt,
    record_answer,
    refuse_attempt,
    scrub,
)
from newsletter.delivery.composing import ROWS, Letter, build
from newsletter.delivery.leases import Lease
from newsletter.delivery.notices import hold, tell_editors
from newsletter.delivery.pacing.quota import QuotaUsedUp, count_on_day
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.delivery.transitions import delivery_move
from newsletter.errors import NewsletterError, Unreachable
from newsletter.providers.base import (
    Accepted,
    Answered,
    Deferred,
    Denied,
    Outcome,
    Provider,
    Rejected,
    Unknown,
    may_leave,
)
from newsletter.store.schema import attempts, deliveries, sends, subscribers

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_COMMITS_AFTER_STOP = 30


@dataclass(frozen=True, slots=True)
class Job:
    """A leased batch with what it takes to work on it."""

    runtime: DeliveryRuntime
    provider: Provider
    letter: Letter
    lease: Lease

    @property
    def name(self) -> str:
        """The provider's, in the settings."""
        return self.provider.settings.name

    @property
    def lag(self) -> timedelta:
        """How long after a request an empty look-up proves nothing."""
        told = self.provider.settings.lookup_lag
        return self.provider.capabilities.lookup_lag if told is None else told


def has_left() -> ColumnElement[bool]:
    """The condition on `deliveries` that nobody may write to this person any more."""
    eligible = segment_select("all").where(subscribers.c.id == deliveries.c.subscriber_id)
    # A value and no EXISTS, which PostgreSQL answers by reading the whole audience for each batch.
    return eligible.correlate(deliveries).scalar_subquery().is_(None)


def skip_those_who_left(connection: Connection, lease: Lease, now: datetime) -> int:
    """Skip whom the batch must not reach any more, with the reason; set-based. Returns how many."""
    person = subscribers.c.id == deliveries.c.subscriber_id
    why = case(
        (
            subscribers.c.state == "active",
            literal("suppressed: ") + subscribers.c.suppressed,
        ),
        else_=subscribers.c.state,
    )
    reason = select(why).where(person).scalar_subquery()
    statement = (
        delivery_move("leave")
        .where(
            deliveries.c.send_id == lease.send_id,
            deliveries.c.position.between(lease.lo, lease.hi),
            has_left(),
        )
        .values(reason=func.coalesce(reason, "gone"), updated_at=now)
    )
    skipped = connection.execute(statement).rowcount
    if skipped:
        scrub(connection, lease.send_id, lease.lo, lease.hi)
    return skipped


def rows_to_send(connection: Connection, lease: Lease, now: datetime) -> list[Any]:
    """The batch's rows that wait to be sent; who has left since the start is skipped."""
    batch = {"b_send": lease.send_id, "b_lo": lease.lo, "b_hi": lease.hi}
    rows = connection.execute(_ROWS_TO_SEND, batch).all()
    if connection.execute(_WAITING, batch).scalar_one() != len(rows):
        skip_those_who_left(connection, lease, now)
    return list(rows)


_WAITS = (
    deliveries.c.send_id == bindparam("b_send"),
    deliveries.c.position.between(bindparam("b_lo"), bindparam("b_hi")),
    deliveries.c.state == "pending",
)
_ROWS_TO_SEND = ROWS.where(*_WAITS, ~has_left())
_WAITING = select(func.count()).where(*_WAITS)


async def send_rows(job: Job, rows: list[Any]) -> None:
    """Make one attempt at `rows`, which are pending and under the job's lease.

    First their form is left at the provider, where that is worth it.
    """
    of_form = (job.runtime, job.provider, job.letter, rows[0].variant)
    standing = forms.standing(*of_form, len(rows))
    if standing != "to make":
        await _attempt_at(job, rows, kept=standing == "kept")
        return
    kept = await make_request(job, forms.make(*of_form)) is True
    renewed = _read_again(job)
    if renewed is not None:
        await _attempt_at(*renewed, kept=kept)


def _read_again(job: Job) -> tuple[Job, list[Any]] | None:
    """The batch under a new term after a request that was for none of it; None if that is over.

    Somebody may have left meanwhile.
    """
    runtime, lease = job.runtime, job.lease
    now, duration = runtime.clock.now(), runtime.workspace.settings.delivery.lease
    with runtime.store.begin() as connection:
        if not leases.renew(connection, lease, now, duration):
            return None
        rows = rows_to_send(connection, lease, now)
        if not rows:
            leases.give_back(connection, lease, now)
            return None
    return replace(job, lease=replace(lease, until=now + duration)), rows


async def _attempt_at(job: Job, rows: list[Any], *, kept: bool) -> None:
    runtime, lease, letter = job.runtime, job.lease, job.letter
    number = lease.tries + 1
    key = attempt_key(letter.key, letter.send, letter.created_at, lease.number, number)
    try:
        request = build(letter, job.provider, key, rows, kept=kept)
    except Exception as error:
        _log.exception("send %s: batch %d cannot be prepared", letter.send, lease.number)
        with runtime.store.begin() as connection:
            reason = f"batch {lease.number} cannot be prepared: {error}"
            hold(connection, runtime, lease.send_id, reason, cause="prepare")
            leases.give_back(connection, lease, runtime.clock.now(), progress=False)
        return
    if request.failed and not _drop_failed(job, request.failed, everybody=not request.positions):
        return
    if request.prepared is None:
        with runtime.store.begin() as connection:
            leases.give_back(connection, lease, runtime.clock.now())
        return
    attempt = Attempt(
        id=key,
        send_id=lease.send_id,
        batch=lease.number,
        positions=request.positions,
        body_sha256=request.prepared.sha256,
        state="started",
        started_at=runtime.clock.now(),
        doubt_at=None,
        asked=0,
    )
    in_time = within_lease(job)
    if not _commit_attempt(job, attempt, number):
        return
    # Asked again when its bytes are about to leave: whoever slept until then sends nothing.
    asked = may_leave.set(in_time)
    outcome = await make_request(job, job.provider.send(request.prepared))
    may_leave.reset(asked)
    if isinstance(outcome, Answered) and len(outcome.outcomes) != len(attempt.positions):
        outcome = Unknown("the answer does not have one outcome for each message")
    await commit(runtime, lambda connection: _record(connection, job, attempt, outcome))


def _commit_attempt(job: Job, attempt: Attempt, number: int) -> bool:
    """Write the attempt down; false where it must not be made: stopped, or the lease was lost."""
    runtime, lease = job.runtime, job.lease
    try:
        seen = runtime.mark.read()
        with runtime.store.begin() as connection:
            counted = leases.count_try(connection, lease)
            if counted is None:
                leases.give_back(connection, lease, runtime.clock.now(), progress=False)
                return False
            assert counted == number, "a lease is held by one worker, and counts its tries"
            open_attempt(connection, attempt, number, job.provider.settings.name)
            count_on_day(
                connection,
                job.provider.settings,
                runtime.workspace.settings.site.zone,
                attempt.id,
                len(attempt.positions),
                runtime.clock.now(),
            )
            position = guard.count_attempt(connection, seen)
    except guard.NotCounted as refused:
        now = runtime.clock.now()
        with runtime.store.begin() as connection:
            # By the time it is leased again the house was looked at, and nothing is leased.
            leases.give_back(
                connection, lease, now, not_before=now + runtime.policy.poll, progress=False
            )
            if refused.alarm is not None:
                guard.trip(connection, runtime, refused.alarm)
        return False
    except (RowsMoved, QuotaUsedUp):
        # An event spoke of a row between reading and now, or another worker used up the day's
        # quota: read the batch again.
        with runtime.store.begin() as connection:
            leases.give_back(connection, lease, runtime.clock.now(), progress=False)
        return False
    runtime.mark.note(position)
    # A process that slept since then lost its lease: somebody else settles this attempt.
    return runtime.clock.now() < lease.until


def within_lease(job: Job) -> Callable[[], bool]:
    """Whether the lease that the attempt was committed under has not run out, by either clock.

    The loop's does not jump, and the wall's runs on while the machine is suspended.
    """
    clock, until = job.runtime.clock, job.lease.until
    loop = asyncio.get_running_loop()
    over = loop.time() + (until - clock.now()).total_seconds()
    return lambda: loop.time() < over and clock.now() < until


def _drop_failed(job: Job, failed: dict[int, str], *, everybody: bool) -> bool:
    """Refuse rows that cannot be composed; if none ever could, hold the send and return false."""
    runtime, lease = job.runtime, job.lease
    now = runtime.clock.now()
    with runtime.store.begin() as connection:
        made = select(attempts.c.id).where(attempts.c.send_id == lease.send_id).limit(1)
        if everybody and connection.execute(made).one_or_none() is None:
            reason = next(iter(failed.values()))
            hold(connection, runtime, lease.send_id, f"no message {reason}", cause="compose")
            leases.give_back(connection, lease, now, progress=False)
            return False
        if not leases.renew(connection, lease, now, runtime.workspace.settings.delivery.lease):
            return False
        for position, reason in failed.items():
            connection.execute(
                delivery_move("uncomposable")
                .where(deliveries.c.send_id == lease.send_id, deliveries.c.position == position)
                .values(reason=reason, updated_at=now)
            )
        scrub(connection, lease.send_id, lease.lo, lease.hi)
        tell_editors(
            connection,
            runtime,
            lease.send_id,
            cause="compose",
            subject="Some messages of {send} could not be composed",
            text=f"In the send **{{send}}** messages could not be composed, for example: "
            f"{next(iter(failed.values()))}.\n\nThey count as rejected; "
            "`newsletter ledger export {send}` lists them.",
        )
    return True


async def make_request(job: Job, call: Coroutine[Any, Any, _T]) -> _T | Unknown:
    """Await a request to its end, keeping the lease alive; it is never cancelled.

    A provider raises nothing that the outside world causes; if it does raise, nothing is known.
    """
    runtime, lease = job.runtime, job.lease
    duration = runtime.workspace.settings.delivery.lease
    task = asyncio.ensure_future(call)
    while True:
        # The loop's own time, not the clock's: a clock that jumps must not end the wait.
        done, _ = await asyncio.wait({task}, timeout=duration.total_seconds() / 3)
        if done:
            break
        try:
            with runtime.store.begin() as connection:
                leases.renew(connection, lease, runtime.clock.now(), duration)
        except Unreachable as error:
            _log.warning("the lease of batch %d could not be renewed: %s", lease.number, error)
    try:
        return task.result()
    except Exception as error:
        _log.exception("the provider %s failed inside", job.provider.settings.name)
        return Unknown(f"the provider's module failed: {type(error).__name__}")


async def commit(runtime: DeliveryRuntime, work: Callable[[Connection], None]) -> None:
    """Commit an outcome, however long the database is locked, full or away.

    After a stop it gives up in the end: the attempt then is `started`, which is settled later.
    """
    failures = 0
    while True:
        try:
            with runtime.store.begin() as connection:
                work(connection)
            return
        except Unreachable as error:
            failures += 1
            if runtime.stop.is_set() and failures > _COMMITS_AFTER_STOP:
                raise
            _log.warning("an outcome could not be written and is tried again: %s", error)
        await runtime.clock.sleep(min(0.1 * failures, 1.0))


def _record(connection: Connection, job: Job, attempt: Attempt, outcome: Outcome) -> None:
    runtime, lease = job.runtime, job.lease
    now = runtime.clock.now()
    breaker.note(connection, runtime, job.name, outcome, attempt.started_at)
    forms.note_outcome(connection, job.provider, job.letter, outcome)
    match outcome:
        case Answered(outcomes):
            if record_answer(connection, attempt, outcomes, now):
                suppress_refused(connection, runtime, attempt, outcomes)
            finish_answered(connection, job, outcomes)
        case Deferred(reason, retry_after):
            if refuse_attempt(connection, attempt, reason, now):
                put_off(connection, job, reason, retry_after)
        case Denied(reason):
            if refuse_attempt(connection, attempt, reason, now):
                denied(connection, job, reason)
                leases.give_back(connection, lease, now, progress=False)
        case Unknown(reason):
            settle_at = first_look(job, now)
            if doubt(connection, attempt.id, now, reason=reason, settle_at=settle_at):
                note_failure(connection, job, reason)
                leases.give_back(connection, lease, now, not_before=settle_at, failed=True)


def denied(connection: Connection, job: Job, reason: str) -> None:
    """The provider will take nothing until a person acts: another stands in, or one is asked."""
    told = f"{job.name} refuses our requests: {reason}"
    if failover.helper_of(connection, job.runtime, job.name):
        breaker.trip(connection, job.runtime, job.name, told)
    else:
        hold(connection, job.runtime, job.lease.send_id, told, cause="denied")


def first_look(job: Job, now: datetime) -> datetime:
    """When a fresh doubt is looked into first."""
    capabilities = job.provider.capabilities
    soon = now + job.runtime.policy.wait(1, job.runtime.rng)
    if capabilities.idempotency is not None:
        return soon
    if capabilities.lookup:
        return min(soon, now + job.lag)
    return now + job.lag  # only an event can help until then


def finish_answered(
    connection: Connection, job: Job, outcomes: tuple[Accepted | Rejected | Deferred, ...]
) -> None:
    """Give the batch back after an answer; rows that the provider put off wait."""
    put_aside = [outcome for outcome in outcomes if isinstance(outcome, Deferred)]
    if not put_aside:
        leases.give_back(connection, job.lease, job.runtime.clock.now())
        return
    waits = [outcome.retry_after for outcome in put_aside if outcome.retry_after is not None]
    put_off(connection, job, put_aside[0].reason, max(waits, default=None))


def put_off(connection: Connection, job: Job, reason: str, retry_after: timedelta | None) -> None:
    """Give the batch back for later; what the provider asked for holds for the whole send."""
    runtime, lease = job.runtime, job.lease
    now = runtime.clock.now()
    wait = runtime.policy.wait(lease.failures + 1, runtime.rng)
    if retry_after is not None:
        wait = max(wait, retry_after)
        until = now + retry_after
        connection.execute(
            update(sends)
            .where(
                sends.c.id == lease.send_id,
                or_(sends.c.not_before.is_(None), sends.c.not_before < until),
            )
            .values(not_before=until)
        )
        if retry_after > runtime.policy.hold_after:
            tell_editors(
                connection,
                runtime,
                lease.send_id,
                cause="waits",
                subject="The send {send} waits for its provider",
                text=f"{job.provider.settings.name} asks **{{send}}** to wait until "
                f"{until:%Y-%m-%d %H:%M} UTC, and then it goes on by itself: {reason}",
            )
    note_failure(connection, job, reason)
    leases.give_back(connection, lease, now, not_before=now + wait, failed=True)


def note_failure(connection: Connection, job: Job, reason: str) -> None:
    """Tell the editors of a provider that keeps failing, and hold the send when it goes on."""
    runtime, lease = job.runtime, job.lease
    name = job.name
    shut = breaker.is_open(connection, name)  # which the editors have been told
    if lease.failures + 1 == runtime.policy.notice_after and not shut:
        tell_editors(
            connection,
            runtime,
            lease.send_id,
            cause="failing",
            subject=f"The provider {name} keeps failing",
            text=f"A batch of **{{send}}** failed {runtime.policy.notice_after} times in a row; "
            f"it goes on trying.\n\nThe last answer: {reason}",
        )
    now = runtime.clock.now()
    since = leases.failing_since(connection, lease)
    # Hours in which nothing might leave are no failure.
    resumed = pacing.resumed_at(runtime.workspace.settings, job.provider.settings, now)
    if since is not None and resumed is not None:
        since = max(since, resumed)
    if shut and failover.helper_of(connection, runtime, name):
        return  # the others go on elsewhere; what is in doubt here is held at the end
    if since is not None and now - since > runtime.policy.hold_after:
        hold(
            connection,
            runtime,
            lease.send_id,
            f"{name} has taken nothing of batch {lease.number} since {since:%H:%M} UTC: {reason}",
            cause="failing-on",
        )


def suppress_refused(
    connection: Connection,
    runtime: DeliveryRuntime,
    attempt: Attempt,
    outcomes: tuple[Accepted | Rejected | Deferred, ...],
) -> None:
    """Suppress for later sends whom the provider will refuse again."""
    reasons = {
        place: outcome.reason
        for place, outcome in zip(attempt.positions, outcomes, strict=True)
        if isinstance(outcome, Rejected) and outcome.suppress
    }
    if not reasons:
        return
    query = select(deliveries.c.position, deliveries.c.email).where(
        deliveries.c.send_id == attempt.send_id, deliveries.c.position.in_(list(reasons))
    )
    for position, email in connection.execute(query).all():
        try:
            suppress(
                connection,
                runtime.workspace.key,
                email,
                reason=reasons[position],
                now=runtime.clock.now(),
            )
        except NewsletterError:  # the copy was emptied by erasure, which suppressed the address
            continue
