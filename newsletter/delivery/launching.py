"""Which batch of a send goes to a provider now, if any: every question is asked here, in order.

Rate, hours and quota (`pacing`), breaker and stand-in (`failover`); then the lease asks the send's
state, back-offs, waves and the canary (`leases.take`), and whoever left is skipped. All of it is
one transaction, so that a crash neither loses a grant nor gives one twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from newsletter.delivery import breaker, failover, leases, pacing
from newsletter.delivery.attempts import Attempt, doubtful_attempt
from newsletter.delivery.leases import Lease
from newsletter.delivery.leaving import rows_to_send
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.providers.base import Provider


@dataclass(frozen=True, slots=True)
class Launch:
    """A leased batch: a doubt to settle, or rows to send. Without either it was given back."""

    lease: Lease
    attempt: Attempt | None
    rows: list[Any]
    probing: datetime | None = None  # the claim to try the provider, whose breaker is open

    @property
    def is_empty(self) -> bool:
        return self.attempt is None and not self.rows


class Outrun(Exception):
    """Another worker took what the rate grants: the transaction must be rolled back."""


def next_batch(
    connection: Connection,
    runtime: DeliveryRuntime,
    provider: Provider,
    send_id: int,
    now: datetime,
    *,
    busy: int,
) -> Launch | None:
    """Lease the send's next batch for the provider, or None where nothing of it may go now.

    `busy` is how many requests to it are in flight here. Raises `Outrun`.
    """
    settings = runtime.workspace.settings
    entry = provider.settings
    # Rate, domains' rates, hours, quota and warm-up.
    pace = pacing.pace_of(connection, settings, entry, now)
    if pace.is_shut:
        return None
    # The breaker, and for whom this provider stands in.
    admitted = failover.admission(connection, runtime, entry.name, now)
    if admitted.doubts_only and busy:
        return None  # doubts are looked into gently: one at a time
    lease = leases.take(
        connection,
        send_id,
        entry.name,
        runtime.holder,
        now,
        settings.delivery.lease,
        admitted=replace(admitted, doubts_only=admitted.doubts_only or not pace.lets_fresh),
        shut=pace.shut_pools,
    )
    if lease is None:
        if admitted.probing is not None:
            breaker.give_up_probe(connection, entry.name, admitted.probing)
        return None
    attempt = doubtful_attempt(connection, send_id, lease.number) if lease.doubtful else None
    rows: list[Any] = []
    if attempt is None:
        rows = rows_to_send(connection, lease, now)[: pace.recipients]
        if not rows:
            leases.give_back(connection, lease, now)
    if admitted.probing is not None and not rows:
        breaker.give_up_probe(connection, entry.name, admitted.probing)
    recipients = len(rows)
    if attempt is not None and provider.capabilities.idempotency is not None:
        recipients = len(attempt.positions)  # it may be repeated under its key
    if recipients and not pacing.grant(connection, entry, lease.pool, recipients, now):
        raise Outrun
    return Launch(lease, attempt, rows, admitted.probing)
