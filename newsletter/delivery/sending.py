"""One batch, in this order: who left is skipped, the attempt is committed, the request is made,
each recipient's outcome is committed. Nothing here decides what an unknown outcome was.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select

from newsletter.delivery import forms, guard, leases
from newsletter.delivery.attempts import Attempt, RowsMoved, attempt_key, open_attempt, scrub
from newsletter.delivery.composing import build
from newsletter.delivery.jobs import Job, commit, make_request, within_lease
from newsletter.delivery.leaving import rows_to_send
from newsletter.delivery.notices import hold, tell_editors
from newsletter.delivery.pacing.quota import QuotaUsedUp, count_on_day
from newsletter.delivery.recording import record
from newsletter.delivery.transitions import delivery_move
from newsletter.providers.base import Answered, Deferred, Outcome, Prepared, Unknown, may_leave
from newsletter.store.schema import attempts, deliveries

_log = logging.getLogger(__name__)
#: Seconds in which a request that waited for a slot leaves, before the answer is written down.
_TURN = 0.001


async def send_rows(job: Job, rows: list[Any]) -> None:
    """Make one attempt at `rows`, which are pending and under the job's lease.

    First their form is left at the provider, where that is worth it.
    """
    of_form = (job.runtime, job.provider, job.letter, rows[0].variant)
    standing = forms.standing(*of_form, len(rows))
    if standing != "to make":
        await _attempt_at(job, rows, kept=standing == "kept")
        return
    async with job.slot:
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
    """Prepare the request while others are in flight, make it in its turn, record its outcome."""
    request = _prepare(job, rows, kept=kept)
    if request is None:
        return
    async with job.slot:
        if job.runtime.stop.is_set():
            _put_back(job)
            return
        made = await _make_attempt(job, request)
        if made is None:
            return
        attempt, outcome = made
        if _may_hold_up(outcome) or not _can_be_settled(job):
            await _record(job, attempt, outcome)
            return
    await asyncio.sleep(_TURN)
    await _record(job, attempt, outcome)


async def _record(job: Job, attempt: Attempt, outcome: Outcome) -> None:
    await commit(job.runtime, lambda connection: record(connection, job, attempt, outcome))


def _can_be_settled(job: Job) -> bool:
    """Whether an answer that a crash takes with it does no more than cost a question."""
    capabilities = job.provider.capabilities
    return capabilities.idempotency is not None or capabilities.lookup


def _may_hold_up(outcome: Outcome) -> bool:
    """Whether the next request may have to wait for what this one led to."""
    if not isinstance(outcome, Answered):
        return True
    return any(isinstance(each, Deferred) for each in outcome.outcomes)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A try at some positions, ready to be written down and to leave."""

    key: str
    number: int
    positions: tuple[int, ...]
    body: Prepared


def _prepare(job: Job, rows: list[Any], *, kept: bool) -> _Prepared | None:
    """The request for as many of the rows as fit; None where there is none to be made."""
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
        return None
    if request.failed and not _drop_failed(job, request.failed, everybody=not request.positions):
        return None
    if request.prepared is None:
        with runtime.store.begin() as connection:
            leases.give_back(connection, lease, runtime.clock.now())
        return None
    return _Prepared(key, number, request.positions, request.prepared)


def _put_back(job: Job) -> None:
    """Give the batch back untouched."""
    with job.runtime.store.begin() as connection:
        leases.give_back(connection, job.lease, job.runtime.clock.now(), progress=False)


async def _make_attempt(job: Job, request: _Prepared) -> tuple[Attempt, Outcome] | None:
    """Write the attempt down and make its request; None where it must not be made."""
    attempt = Attempt(
        id=request.key,
        send_id=job.lease.send_id,
        batch=job.lease.number,
        positions=request.positions,
        body_sha256=request.body.sha256,
        state="started",
        started_at=job.runtime.clock.now(),
        doubt_at=None,
        asked=0,
    )
    in_time = within_lease(job)
    if not await job.runtime.aside(lambda: _commit_attempt(job, attempt, request.number)):
        return None
    # Asked again when its bytes are about to leave: whoever slept until then sends nothing.
    asked = may_leave.set(in_time)
    outcome = await make_request(job, job.provider.send(request.body))
    may_leave.reset(asked)
    if isinstance(outcome, Answered) and len(outcome.outcomes) != len(attempt.positions):
        outcome = Unknown("the answer does not have one outcome for each message")
    return attempt, outcome


def _commit_attempt(job: Job, attempt: Attempt, number: int) -> bool:
    """Write the attempt down; false where it must not be made: the send or the provider's breaker
    has stopped it, or the lease was lost."""
    runtime, lease = job.runtime, job.lease
    try:
        seen = runtime.mark.read()
        with runtime.store.begin() as connection:
            # Who tries a provider, whose breaker is open, was let through when it was leased.
            unless_open = job.name if job.probing is None else None
            counted = leases.count_try(connection, lease, unless_open=unless_open)
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
        # An event spoke of a row since it was read, or somebody left, or another worker used up the
        # day's quota: read the batch again.
        _put_back(job)
        return False
    runtime.mark.note(position)
    # A process that slept since then lost its lease: somebody else settles this attempt.
    return runtime.clock.now() < lease.until


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
