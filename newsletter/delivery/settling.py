"""Settles attempts whose outcome is unknown: by repeating them under their key, by look-up after
the provider's lag, or not at all, and then a person is asked. Nothing here guesses.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select, update

from newsletter.audience import comparison_key
from newsletter.delivery import breaker, leases
from newsletter.delivery.attempts import (
    Attempt,
    accept_found,
    count_lag_from,
    move_rows,
    record_answer,
    settle_if_clear,
)
from newsletter.delivery.composing import build, rows_where
from newsletter.delivery.jobs import Job, commit, make_request, within_lease
from newsletter.delivery.leaving import someone_left
from newsletter.delivery.recording import (
    denied,
    finish_answered,
    note_failure,
    suppress_refused,
)
from newsletter.providers.base import (
    Answered,
    Deferred,
    Denied,
    Found,
    Outcome,
    Prepared,
    Unknown,
    may_leave,
)
from newsletter.store.schema import attempts, deliveries

_log = logging.getLogger(__name__)


async def settle(job: Job, attempt: Attempt) -> None:
    """Take the next step to learn what an attempt in doubt led to. The batch is leased."""
    in_time = within_lease(job)
    prepared = _repeatable(job, attempt)
    if prepared is not None:
        # Whoever sleeps until its lease is over may find the attempt settled without it.
        asked = may_leave.set(in_time)
        outcome = await make_request(job, job.provider.send(prepared))
        may_leave.reset(asked)
        if isinstance(outcome, Answered) and len(outcome.outcomes) != len(attempt.positions):
            outcome = Unknown("the answer does not have one outcome for each message")
        await commit(
            job.runtime, lambda connection: _record_repeat(connection, job, attempt, outcome)
        )
        return
    asked_at = job.runtime.clock.now()
    if not job.provider.capabilities.lookup:
        reason = "neither a key nor a look-up can settle it"
        await commit(job.runtime, lambda connection: _give_up(connection, job, attempt, reason))
        return
    found = await make_request(job, job.provider.find(attempt.id, since=attempt.started_at))
    await commit(
        job.runtime, lambda connection: _record_found(connection, job, attempt, found, asked_at)
    )


def _repeatable(job: Job, attempt: Attempt) -> Prepared | None:
    """The identical request, if the provider would answer it as it answered the first."""
    with job.runtime.store.read() as connection:
        cancelled = leases.is_cancelled(connection, job.lease)
    if cancelled:
        return None  # the repeat might be the first to arrive
    life = job.provider.capabilities.idempotency
    now = job.runtime.clock.now()
    if life is None or now + job.provider.settings.timeout >= attempt.started_at + life:
        return None
    within = deliveries.c.position.between(attempt.positions[0], attempt.positions[-1])
    with job.runtime.store.read() as connection:
        rows = rows_where(connection, attempt.send_id, within)
        left = connection.execute(someone_left(attempt)).scalar_one()
    if left and job.provider.capabilities.lookup:
        return None  # the repeat might be the first to arrive: rather ask than write to them
    mine = set(attempt.positions)
    try:
        request = build(
            job.letter, job.provider, attempt.id, [row for row in rows if row.position in mine]
        )
    except Exception:
        _log.exception("attempt %s cannot be made again", attempt.id)
        return None
    if request.prepared is None or request.prepared.sha256 != attempt.body_sha256:
        _log.warning("attempt %s would not have the same bytes: not repeated", attempt.id)
        return None
    return request.prepared


def _record_repeat(connection: Connection, job: Job, attempt: Attempt, outcome: Outcome) -> None:
    """Only an answer in full tells what the first request led to; a refusal is of the repeat."""
    now = job.runtime.clock.now()
    breaker.note(connection, job.runtime, job.name, outcome, attempt.started_at)
    match outcome:
        case Answered(outcomes):
            if record_answer(connection, attempt, outcomes, now) is not None:
                suppress_refused(connection, job.runtime, attempt, outcomes)
            finish_answered(connection, job, outcomes)
        case Denied(reason):
            denied(connection, job, reason)
            _ask_later(connection, job, attempt, reason)
        case Deferred(reason, retry_after):
            _ask_later(connection, job, attempt, reason, at_least=retry_after)
        case Unknown(reason):
            count_lag_from(connection, attempt.send_id, attempt.batch, now)
            _ask_later(connection, job, attempt, reason)


def _record_found(
    connection: Connection,
    job: Job,
    attempt: Attempt,
    found: Found | Unknown,
    asked_at: datetime,
) -> None:
    now = job.runtime.clock.now()
    assert attempt.doubt_at is not None
    proven_at = attempt.doubt_at + job.lag
    if isinstance(found, Unknown):
        _ask_later(connection, job, attempt, found.reason)
        return
    accept_found(connection, attempt, _positions(connection, attempt, found), now)
    if found.conclusive and asked_at >= proven_at:
        move_rows(connection, attempt, "miss", "a look-up shows that it was not accepted", now)
    if settle_if_clear(connection, attempt, now):
        leases.give_back(connection, job.lease, now)
        return
    reason = found.reason or "the look-up does not have it yet"
    wait = proven_at - now if found.conclusive and asked_at < proven_at else None
    _ask_later(connection, job, attempt, reason, no_later=wait)


def _positions(connection: Connection, attempt: Attempt, found: Found) -> dict[int, str]:
    """Whose messages were found: position → provider message id."""
    # A provider may spell an international domain in its other form.
    by_address = {comparison_key(address): message for address, message in found.messages.items()}
    if not by_address and not found.whole:
        return {}
    query = select(deliveries.c.position, deliveries.c.email).where(
        deliveries.c.send_id == attempt.send_id,
        deliveries.c.position.between(attempt.positions[0], attempt.positions[-1]),
        deliveries.c.attempt == attempt.id,
    )
    keys = {position: comparison_key(email) for position, email in connection.execute(query)}
    ids = {position: by_address.get(key, found.whole) for position, key in keys.items()}
    return {position: message for position, message in ids.items() if message}


def _ask_later(
    connection: Connection,
    job: Job,
    attempt: Attempt,
    reason: str,
    *,
    at_least: timedelta | None = None,
    no_later: timedelta | None = None,
) -> None:
    """Plan the next look into a doubt, or leave it to a person once its time is up."""
    now = job.runtime.clock.now()
    wait = job.runtime.policy.wait(attempt.asked + 2, job.runtime.rng)
    if no_later is not None:
        wait = min(wait, max(no_later, timedelta(0)))
    if at_least is not None:
        wait = max(wait, at_least)
    assert attempt.doubt_at is not None
    policy = job.runtime.policy
    late = now + wait > attempt.doubt_at + job.lag + policy.settle_for
    if late and attempt.asked + 1 >= policy.fewest_looks:
        _give_up(connection, job, attempt, reason)
        return
    if _replan(connection, attempt, now + wait, reason):
        note_failure(connection, job, reason)
        leases.give_back(connection, job.lease, now, not_before=now + wait, failed=True)
    else:
        leases.give_back(connection, job.lease, now, progress=False)


def _give_up(connection: Connection, job: Job, attempt: Attempt, reason: str) -> None:
    """Leave the doubt to a person or to an event; the rest of the batch goes on."""
    _replan(connection, attempt, None, reason)
    leases.give_back(connection, job.lease, job.runtime.clock.now(), progress=False)


def _replan(
    connection: Connection, attempt: Attempt, settle_at: datetime | None, reason: str
) -> bool:
    """When to look into it next; false if somebody else has settled it by now."""
    values = {"b_id": attempt.id, "b_settle_at": settle_at, "b_reason": reason}
    return connection.execute(_REPLAN, values).rowcount == 1


_REPLAN = (
    update(attempts)
    .where(attempts.c.id == bindparam("b_id"), attempts.c.state == "in_doubt")
    .values(
        settle_at=bindparam("b_settle_at"),
        asked=attempts.c.asked + 1,
        reason=bindparam("b_reason"),
    )
)
