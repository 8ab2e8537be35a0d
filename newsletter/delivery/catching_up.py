"""Brings a batch up to what the providers have, through the ledger's own guarded transitions.

Rows are found by address, as a send that was filled anew may have other positions. What was found
becomes an attempt with an answer; what nobody can tell, an attempt in doubt for a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from newsletter.audience import comparison_key
from newsletter.delivery.attempts import (
    Attempt,
    accept_found,
    attempt_key,
    doubt,
    load_attempt,
    move_rows,
    open_attempt,
    record_answer,
    settle_if_clear,
)
from newsletter.delivery.bulk import to_ranges
from newsletter.delivery.records import TRIES, Known, Record
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.providers.base import Accepted
from newsletter.store.schema import attempts, batches, deliveries

_UNKNOWN = "the database was restored, and nobody can tell whether this was sent"


def catch_up(
    connection: Connection, runtime: DeliveryRuntime, send: Row[Any], number: int, record: Record
) -> None:
    """Settle the rows of one batch that nobody holds. Doing it again changes nothing."""
    part = connection.execute(
        select(batches).where(batches.c.send_id == send.id, batches.c.number == number)
    ).one()
    _settle_doubts(connection, part, record, runtime.clock.now())
    batch = _Batch(connection, runtime, send, part)
    known_tries = batch.tries_known(record)
    batch.tries = max([part.tries, *known_tries])
    pending = _rows(connection, part, "pending")
    found = {row.position: record.messages.get(comparison_key(row.email)) for row in pending}
    batch.accept({position: known for position, known in found.items() if known is not None})
    # Cancelled or left since the restored state, and sent to before: the provider knows better.
    skipped = _rows(connection, part, "skipped") if record.messages else []
    known_of = {row.position: record.messages.get(comparison_key(row.email)) for row in skipped}
    batch.accept({place: known for place, known in known_of.items() if known}, skipped=True)
    missing = [position for position, known in found.items() if known is None]
    # Of a request that was taken as a whole, whoever is not listed may have been in it.
    unlisted = any(batch.key(number) in record.wholes for number in known_tries)
    if missing and (unlisted or not record.complete):
        batch.lose(missing)
        missing = []
    connection.execute(
        update(batches)
        .where(
            batches.c.send_id == send.id, batches.c.number == number, batches.c.state != "leased"
        )
        .values(
            state="open" if missing or _being_settled(connection, part) else "done",
            tries=batch.tries,
            counts=None,
            not_before=None,
            failures=0,
            failing_since=None,
        )
    )


class _Batch:
    """One batch being caught up; `tries` grows with each attempt that is written down."""

    def __init__(
        self, connection: Connection, runtime: DeliveryRuntime, send: Row[Any], part: Row[Any]
    ) -> None:
        self.connection = connection
        self.runtime = runtime
        self.send = send
        self.part = part
        self.now = runtime.clock.now()
        self.tries = int(part.tries)

    def key(self, number: int) -> str:
        send = self.send
        return attempt_key(
            self.runtime.workspace.key, send.send, send.created_at, self.part.number, number
        )

    def tries_known(self, record: Record) -> list[int]:
        """The tries of this batch that a provider has: their keys are used up."""
        further = range(self.tries + 1, self.tries + TRIES + 1)
        return [number for number in further if self.key(number) in record.keys]

    def accept(self, found: dict[int, Known], *, skipped: bool = False) -> None:
        """Write down who was accepted, an attempt for each provider."""
        for provider in sorted({known.provider for known in found.values()}):
            mine = {place: known for place, known in found.items() if known.provider == provider}
            attempt = self._open(sorted(mine), provider, skipped=skipped)
            outcomes = [Accepted(mine[place].provider_message_id) for place in attempt.positions]
            record_answer(self.connection, attempt, outcomes, self.now)

    def lose(self, positions: Sequence[int]) -> None:
        """Whether these were sent nobody can tell: a person decides."""
        attempt = self._open(positions, self.part.provider or self.send.provider)
        doubt(self.connection, attempt.id, self.now, reason=_UNKNOWN, settle_at=self.now)
        _leave_to_a_person(self.connection, attempt.id)

    def _open(self, positions: Sequence[int], provider: str, *, skipped: bool = False) -> Attempt:
        self.tries += 1
        attempt = Attempt(
            id=self.key(self.tries),
            send_id=self.send.id,
            batch=self.part.number,
            positions=tuple(positions),
            body_sha256="",
            state="started",
            started_at=self.now,
            doubt_at=None,
            asked=0,
        )
        if skipped:
            self._credit(attempt, provider)
        else:
            # Some of whom the provider has may have left since.
            open_attempt(self.connection, attempt, self.tries, provider, whoever=True)
        return attempt

    def _credit(self, attempt: Attempt, provider: str) -> None:
        """An attempt of rows that were not sent to, as far as the ledger knew."""
        self.connection.execute(
            insert(attempts).values(
                id=attempt.id,
                send_id=attempt.send_id,
                batch=attempt.batch,
                number=self.tries,
                provider=provider,
                positions=to_ranges(attempt.positions),
                body_sha256=attempt.body_sha256,
                state=attempt.state,
                started_at=attempt.started_at,
            )
        )
        self.connection.execute(
            update(deliveries)
            .where(
                deliveries.c.send_id == attempt.send_id,
                deliveries.c.position.in_(attempt.positions),
                deliveries.c.state == "skipped",
            )
            .values(attempt=attempt.id)
        )


def _settle_doubts(connection: Connection, part: Row[Any], record: Record, now: datetime) -> None:
    """The attempts of the batch that were in doubt when the database was dumped."""
    query = select(attempts.c.id).where(
        attempts.c.send_id == part.send_id,
        attempts.c.batch == part.number,
        attempts.c.state == "in_doubt",
    )
    for attempt_id in connection.execute(query.order_by(attempts.c.number)).scalars().all():
        attempt = load_attempt(connection, attempt_id)
        assert attempt is not None
        mine = [row for row in _rows(connection, part, "in_doubt") if row.attempt == attempt_id]
        found = {
            row.position: record.wholes[attempt_id] if known is None else known.provider_message_id
            for row in mine
            if (known := record.messages.get(comparison_key(row.email))) is not None
            or attempt_id in record.wholes
        }
        accept_found(connection, attempt, found, now)
        if record.complete:
            move_rows(connection, attempt, "miss", "the provider's record does not have it", now)
        if not settle_if_clear(connection, attempt, now):
            _leave_to_a_person(connection, attempt_id)


def _leave_to_a_person(connection: Connection, attempt_id: str) -> None:
    connection.execute(
        update(attempts)
        .where(attempts.c.id == attempt_id, attempts.c.state == "in_doubt")
        .values(settle_at=None)
    )


def _rows(connection: Connection, part: Row[Any], state: str) -> list[Any]:
    columns = deliveries.c
    query = select(columns.position, columns.email, columns.attempt).where(
        columns.send_id == part.send_id,
        columns.position.between(part.lo, part.hi),
        columns.state == state,
    )
    return list(connection.execute(query.order_by(columns.position)).all())


def _being_settled(connection: Connection, part: Row[Any]) -> bool:
    query = select(attempts.c.id).where(
        attempts.c.send_id == part.send_id,
        attempts.c.batch == part.number,
        attempts.c.state == "in_doubt",
        attempts.c.settle_at.is_not(None),
    )
    return connection.execute(query.limit(1)).one_or_none() is not None
