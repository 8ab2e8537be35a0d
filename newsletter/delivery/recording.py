"""What an outcome means: for the attempt and its rows, for the batch, the provider and the send.

An outcome is given; nothing here makes a request or decides what an unknown outcome was.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, or_, select, update

from newsletter.audience import suppress
from newsletter.delivery import breaker, failover, forms, leases, pacing
from newsletter.delivery.attempts import Attempt, doubt, record_answer, refuse_attempt
from newsletter.delivery.jobs import Job
from newsletter.delivery.notices import hold, tell_editors
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.errors import NewsletterError
from newsletter.providers.base import (
    Accepted,
    Answered,
    Deferred,
    Denied,
    Outcome,
    Rejected,
    Unknown,
)
from newsletter.store.schema import deliveries, sends


def record(connection: Connection, job: Job, attempt: Attempt, outcome: Outcome) -> None:
    runtime, lease = job.runtime, job.lease
    now = runtime.clock.now()
    breaker.note(connection, runtime, job.name, outcome, attempt.started_at)
    forms.note_outcome(connection, job.provider, job.letter, outcome)
    match outcome:
        case Answered(outcomes):
            accepted = record_answer(connection, attempt, outcomes, now)
            if accepted is not None:
                suppress_refused(connection, runtime, attempt, outcomes)
            finish_answered(connection, job, outcomes, accepted or 0)
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
    connection: Connection,
    job: Job,
    outcomes: tuple[Accepted | Rejected | Deferred, ...],
    accepted: int = 0,
) -> None:
    """Give the batch back after an answer; rows that the provider put off wait.

    `accepted` is how many rows became so by it.
    """
    put_aside = [outcome for outcome in outcomes if isinstance(outcome, Deferred)]
    if not put_aside:
        leases.give_back(connection, job.lease, job.runtime.clock.now(), accepted=accepted)
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
