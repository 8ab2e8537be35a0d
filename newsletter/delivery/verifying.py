"""Proves a send from its rows and attempts alone: every violation of the ledger's invariants.

The invariants are numbered in docs/delivery.md; each message here names the one it is about.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, func, select

from newsletter.delivery.counting import changed_by
from newsletter.delivery.naming import find_send
from newsletter.delivery.transitions import DELIVERY, LEFT, OVER
from newsletter.store import Store
from newsletter.store.schema import attempts, batches, count_changes, deliveries, eligible

_ROWS = 5000
_SHOWN = 100


@dataclass
class _Findings:
    shown: list[str] = field(default_factory=list)
    total: int = 0

    def add(self, invariant: int, what: str) -> None:
        self.total += 1
        if self.total <= _SHOWN:
            self.shown.append(f"[{invariant}] {what}")


class _Ranges:
    """A set of positions kept as ranges, each with a label (an attempt's id, a batch's state)."""

    def __init__(self, ranges: list[tuple[int, int, str]]) -> None:
        self.ranges = sorted(ranges)
        self.starts = [lo for lo, _, _ in self.ranges]

    def at(self, position: int) -> str | None:
        index = bisect_right(self.starts, position) - 1
        if index < 0:
            return None
        _, hi, label = self.ranges[index]
        return label if position <= hi else None


def verify(store: Store, name: str) -> dict[str, Any]:
    """`{send, ok, recipients, violations}` of one consistent state. Raises `NotFound`.

    Memory grows with the batches and attempts, not with the recipients.
    """
    findings = _Findings()
    with store.read() as connection:
        send = find_send(connection, name)
        tries = connection.execute(select(attempts).where(attempts.c.send_id == send.id)).all()
        parts = connection.execute(
            select(batches).where(batches.c.send_id == send.id).order_by(batches.c.number)
        ).all()
        recipients = _check_rows(connection, send, tries, parts, findings)
        _check_unfilled(connection, send, findings)
    _check_batches(parts, recipients, findings)
    _check_attempts(tries, parts, findings)
    if findings.total > _SHOWN:
        findings.shown.append(f"and {findings.total - _SHOWN} more")
    return {
        "send": send.send,
        "ok": findings.total == 0,
        "recipients": recipients,
        "violations": findings.shown,
    }


def _check_rows(
    connection: Connection,
    send: Row[Any],
    tries: Sequence[Row[Any]],
    parts: Sequence[Row[Any]],
    findings: _Findings,
) -> int:
    states = {row.id: row.state for row in tries}
    covered = {row.id: _Ranges([(lo, hi, row.id) for lo, hi in row.positions]) for row in tries}
    accepted = _accepted(tries, findings)
    tally = _Tally(connection, send.id, parts, findings)
    expected = 1
    for row in _rows(connection, send.id):
        if row.position != expected:
            findings.add(1, f"position {expected} is missing: the next one is {row.position}")
        expected = row.position + 1
        if row.state not in DELIVERY:
            findings.add(3, f"position {row.position} is {row.state!r}, which is no state")
        _check_row(row, send.state, states, covered, accepted, findings)
        part = tally.add(row)
        if row.state == "pending" and part is not None and part.state == "done":
            findings.add(6, f"position {row.position} is pending in a batch that is done")
    tally.close()
    query = select(func.count(), func.count(func.distinct(deliveries.c.subscriber_id))).where(
        deliveries.c.send_id == send.id
    )
    rows, people = connection.execute(query).one()
    if rows != people:
        findings.add(1, f"{rows} rows are for {people} people")
    return int(rows)


class _Tally:
    """Counts the rows of one batch after the other, and compares with what the batch says."""

    def __init__(
        self,
        connection: Connection,
        send_id: int,
        parts: Sequence[Row[Any]],
        findings: _Findings,
    ) -> None:
        self.parts = list(parts)
        self.findings = findings
        self.found: Counter[str] = Counter()
        self.changes: dict[int, list[tuple[str, str]]] = {}
        query = select(count_changes).where(count_changes.c.send_id == send_id)
        for row in connection.execute(query):
            self.changes.setdefault(row.batch, []).append((row.was, row.became))

    def add(self, row: Row[Any]) -> Row[Any] | None:
        """The batch that the row is in."""
        while self.parts and row.position > self.parts[0].hi:
            self._compare()
        if not self.parts or row.position < self.parts[0].lo:
            return None
        self.found[row.state] += 1
        return self.parts[0]

    def close(self) -> None:
        while self.parts:
            self._compare()

    def _compare(self) -> None:
        part = self.parts.pop(0)
        found, self.found = dict(self.found), Counter()
        if part.counts is None:
            return
        told = changed_by(part.counts, self.changes.get(part.number, []))
        if told != found:
            self.findings.add(8, f"batch {part.number} counts {told}, its rows are {found}")


def _check_unfilled(connection: Connection, send: Row[Any], findings: _Findings) -> None:
    query = select(func.count()).where(eligible.c.send_id == send.id)
    waiting = connection.execute(query).scalar_one()
    if waiting != send.unfilled:
        findings.add(8, f"{waiting} are eligible without a row, the send says {send.unfilled}")
    if waiting and send.state in OVER:
        findings.add(6, f"{waiting} have no row in a send that is {send.state}")


def _check_row(
    row: Row[Any],
    send_state: str,
    states: dict[str, str],
    covered: dict[str, _Ranges],
    accepted: _Ranges,
    findings: _Findings,
) -> None:
    where = f"position {row.position}"
    attempt = row.attempt
    if attempt is not None and (attempt not in covered or not covered[attempt].at(row.position)):
        findings.add(3, f"{where} names the attempt {attempt}, which does not contain it")
        return
    state_of_attempt = states.get(attempt or "")
    by = accepted.at(row.position)
    # An event can be faster than the answer, or than what settles a doubt.
    known = state_of_attempt not in {"started", "in_doubt"}
    if row.state in LEFT and known and by is None:
        findings.add(3, f"{where} is {row.state}, but no attempt was accepted for it")
    if row.state == "accepted" and row.provider_message_id is None:
        findings.add(3, f"{where} is accepted without a message id")
    if by is not None and row.state not in LEFT | {"rejected"}:
        findings.add(4, f"{where} is {row.state}, but the attempt {by} was accepted for it")
    if row.state == "sending" and state_of_attempt != "started":
        findings.add(5, f"{where} is sending, but its attempt is {state_of_attempt}")
    if row.state == "in_doubt" and state_of_attempt != "in_doubt":
        findings.add(5, f"{where} is in doubt, but its attempt is {state_of_attempt}")
    if row.state in {"skipped", "rejected"} and not row.reason:
        findings.add(7, f"{where} is {row.state} without a reason")
    if send_state == "sent" and row.state in {"pending", "sending", "in_doubt"}:
        findings.add(6, f"{where} is {row.state} in a send that is sent")
    if send_state == "cancelled" and row.state == "pending":
        findings.add(6, f"{where} is pending in a send that is cancelled")


def _accepted(tries: Sequence[Row[Any]], findings: _Findings) -> _Ranges:
    """The positions that the attempts themselves know to be accepted; each in one attempt only."""
    found: list[tuple[int, int, str]] = []
    for row in tries:
        if row.state in {"answered", "settled", "not_accepted"}:
            found += [(lo, hi, row.id) for lo, hi in _without(row.positions, row.not_accepted)]
    ranges: list[tuple[int, int, str]] = []
    for lo, hi, attempt in sorted(found):
        start = lo
        if ranges and lo <= ranges[-1][1]:
            before = ranges[-1]
            start = before[1] + 1
            for position in range(lo, min(hi, before[1]) + 1):
                findings.add(
                    4,
                    f"position {position} was accepted in two attempts: {before[2]} and {attempt}",
                )
        if start <= hi:
            ranges.append((start, hi, attempt))
    return _Ranges(ranges)


def _without(
    ranges: Sequence[Sequence[int]], others: Sequence[Sequence[int]] | None
) -> list[tuple[int, int]]:
    """Rising ranges without the positions of `others`, which rise as well."""
    left: list[tuple[int, int]] = []
    for lo, hi in ranges:
        start = lo
        for first, last in others or []:
            if last < start or first > hi:
                continue
            if first > start:
                left.append((start, first - 1))
            start = last + 1
        if start <= hi:
            left.append((start, hi))
    return left


def _check_batches(parts: Sequence[Row[Any]], recipients: int, findings: _Findings) -> None:
    expected = 1
    for part in parts:
        if part.lo != expected or part.hi < part.lo:
            findings.add(2, f"batch {part.number} is {part.lo}..{part.hi}, not from {expected} on")
        expected = part.hi + 1
    if parts and expected != recipients + 1:
        findings.add(2, f"the batches end at {expected - 1}, the recipients at {recipients}")
    if not parts and recipients:
        findings.add(2, f"{recipients} recipients are in no batch")


def _check_attempts(
    tries: Sequence[Row[Any]], parts: Sequence[Row[Any]], findings: _Findings
) -> None:
    bounds = {part.number: part for part in parts}
    for row in tries:
        part = bounds.get(row.batch)
        if part is None or row.positions[0][0] < part.lo or row.positions[-1][1] > part.hi:
            findings.add(2, f"the attempt {row.id} reaches beyond its batch {row.batch}")
            continue
        if row.state == "started" and part.state != "leased":
            findings.add(5, f"the attempt {row.id} is under way, but nobody holds its batch")
        if row.state in {"answered", "settled", "not_accepted"} and row.finished_at is None:
            findings.add(5, f"the attempt {row.id} is {row.state} without an end")


def _rows(connection: Connection, send_id: int) -> Iterator[Any]:
    last = 0
    while True:
        query = (
            select(
                deliveries.c.position,
                deliveries.c.state,
                deliveries.c.attempt,
                deliveries.c.provider_message_id,
                deliveries.c.reason,
            )
            .where(deliveries.c.send_id == send_id, deliveries.c.position > last)
            .order_by(deliveries.c.position)
            .limit(_ROWS)
        )
        rows = connection.execute(query).all()
        yield from rows
        if len(rows) < _ROWS:
            return
        last = rows[-1].position
