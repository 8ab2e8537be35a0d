"""Attempts: one request each, committed before it leaves, with what it led to for each recipient.

An attempt's id is its idempotency key and follows from the send, the batch and the try alone. Rows
move only while they belong to the attempt that speaks of them, so that a late answer and whoever
settles a doubt cannot contradict each other: the first to move the attempt decides.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Update,
    bindparam,
    case,
    exists,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from newsletter.delivery.bulk import from_ranges, to_ranges
from newsletter.delivery.counting import forget
from newsletter.delivery.outcomes import accept_rows, give_reasons, open_rows
from newsletter.delivery.pacing.quota import give_back
from newsletter.delivery.transitions import (
    ATTEMPT,
    FINAL,
    LEFT,
    delivery_move,
    in_states,
    move_attempt,
)
from newsletter.providers.base import Accepted, Deferred, Rejected
from newsletter.store import notify
from newsletter.store.schema import attempts, batches, deliveries, subscribers
from newsletter.store.types import Instant, to_microseconds

_log = logging.getLogger(__name__)

# Statements of every batch are made once: to make one costs more than to run it.
_INSERT = insert(attempts)
_DOUBTFUL = (
    select(attempts.c.id)
    .where(
        attempts.c.send_id == bindparam("b_send"),
        attempts.c.batch == bindparam("b_batch"),
        attempts.c.state == "in_doubt",
        attempts.c.settle_at.is_not(None),
    )
    .order_by(attempts.c.number)
    .limit(1)
)
_ONE = select(attempts).where(attempts.c.id == bindparam("b_attempt"))
_LOCKED = (
    select(attempts.c.state, attempts.c.not_accepted)
    .where(attempts.c.id == bindparam("b_attempt"))
    .with_for_update()
)
#: The state is written out: as a parameter, its rarity is unknown to PostgreSQL's prepared plans,
#: which then read the whole audience.
_FORGOTTEN = select(subscribers.c.id).where(subscribers.c.state == literal_column("'forgotten'"))
_ANYBODY_FORGOTTEN = select(exists(_FORGOTTEN))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One row of `attempts`; `positions` rise and are in the order of the request's messages."""

    id: str
    send_id: int
    batch: int
    positions: tuple[int, ...]
    body_sha256: str
    state: str
    started_at: datetime
    doubt_at: datetime | None
    asked: int


def attempt_key(key: bytes, send: str, created_at: datetime, batch: int, number: int) -> str:
    """The id of a try: 32 hex digits, the same again from a restored database.

    The workspace's secret and the time the send was made keep apart two workspaces, or a database
    made anew, that share one provider account.
    """
    told = f"attempt\0{send}\0{to_microseconds(created_at)}\0{batch}\0{number}"
    return hmac.digest(key, told.encode(), "sha256").hex()[:32]


def load_attempt(connection: Connection, attempt: str) -> Attempt | None:
    row = connection.execute(_ONE, {"b_attempt": attempt}).one_or_none()
    if row is None:
        return None
    return Attempt(
        id=row.id,
        send_id=row.send_id,
        batch=row.batch,
        positions=tuple(from_ranges(row.positions)),
        body_sha256=row.body_sha256,
        state=row.state,
        started_at=row.started_at,
        doubt_at=row.doubt_at,
        asked=row.asked,
    )


def doubtful_attempt(connection: Connection, send_id: int, batch: int) -> Attempt | None:
    """The batch's oldest attempt in doubt that something can still settle."""
    key = {"b_send": send_id, "b_batch": batch}
    found = connection.execute(_DOUBTFUL, key).scalar_one_or_none()
    return None if found is None else load_attempt(connection, found)


def open_attempt(
    connection: Connection, attempt: Attempt, number: int, provider: str, *, whoever: bool = False
) -> None:
    """Write a try down before it is made; its rows, all pending, become `sending`.

    Raises `RowsMoved` where one of them is not, or of somebody who left; those count as well with
    `whoever`, for a try that was made and is not known.
    """
    connection.execute(
        _INSERT,
        {
            "id": attempt.id,
            "send_id": attempt.send_id,
            "batch": attempt.batch,
            "number": number,
            "provider": provider,
            "positions": to_ranges(attempt.positions),
            "body_sha256": attempt.body_sha256,
            "state": "started",
            "started_at": attempt.started_at,
        },
    )
    one = (attempt.send_id, attempt.id, attempt.positions, attempt.started_at)
    moved = open_rows(connection, *one, whoever=whoever)
    if moved != len(attempt.positions):
        raise RowsMoved(f"{moved} of {len(attempt.positions)} rows may still be sent")


class RowsMoved(Exception):
    """Rows changed, or somebody left, since they were read: nothing was sent, read them again."""


def record_answer(
    connection: Connection,
    attempt: Attempt,
    outcomes: Sequence[Accepted | Rejected | Deferred],
    now: datetime,
) -> int | None:
    """Write down one outcome a position; how many rows became accepted by it.

    None if the attempt's outcome was known already.

    The answer to a request is knowledge whoever holds the lease by now: only the attempt's own
    state and the rows that still belong to it decide what it may change.
    """
    numbered = list(zip(attempt.positions, outcomes, strict=True))
    accepted = {
        place: outcome.provider_message_id
        for place, outcome in numbered
        if isinstance(outcome, Accepted)
    }
    whole = len(accepted) == len(numbered)
    refused = [] if whole else to_ranges(place for place, _ in numbered if place not in accepted)
    values = {"not_accepted": refused, "settle_at": None}
    state, missed = "started", None
    if not move_attempt(connection, attempt.id, "answer", state, now, **values):
        # Locked: whoever settles it at this moment is waited for, and the answer still counts.
        state, missed = connection.execute(_LOCKED, {"b_attempt": attempt.id}).one()
        if "answer" not in ATTEMPT[state]:
            return None
        if not move_attempt(connection, attempt.id, "answer", state, now, **values):
            return None
    moved = accept_rows(connection, attempt.send_id, attempt.id, accepted, now)
    for event, kind in (("reject", Rejected), ("defer", Deferred)) if not whole else ():
        reasons = {
            place: outcome.reason for place, outcome in numbered if isinstance(outcome, kind)
        }
        give_reasons(connection, attempt.send_id, attempt.id, event, reasons, now)
    scrub(connection, attempt.send_id, attempt.positions[0], attempt.positions[-1])
    if state != "started":  # it came late: the batch may be done by now
        forget(connection, attempt.send_id, attempt.batch)
        _reopen_batch(connection, attempt)
    # After the rows, as whoever makes an attempt locks them in this order.
    not_accepted = len(from_ranges(refused)) - len(from_ranges(missed or []))
    give_back(connection, attempt.id, not_accepted)
    return moved


def _reopen_batch(connection: Connection, attempt: Attempt) -> None:
    """Rows that a late answer puts off are sent again, though their batch is done by now."""
    one = (batches.c.send_id == attempt.send_id, batches.c.number == attempt.batch)
    # Waits for whoever is just giving it back without having seen these rows.
    connection.execute(select(batches.c.number).where(*one).with_for_update())
    put_off = exists().where(*_OF, deliveries.c.state == "pending")
    reopened = update(batches).where(*one, batches.c.state == "done", put_off)
    reopen = reopened.values(state="open", not_before=None)
    if connection.execute(reopen, _key(attempt)).rowcount:
        notify(connection, "sends")


def refuse_attempt(connection: Connection, attempt: Attempt, reason: str, now: datetime) -> bool:
    """The request was surely not accepted as a whole: its rows are pending again."""
    values = {"reason": reason, "not_accepted": to_ranges(attempt.positions)}
    if not move_attempt(connection, attempt.id, "refuse", "started", now, **values):
        return False
    move_rows(connection, attempt, "defer", reason, now)
    give_back(connection, attempt.id, len(attempt.positions))
    return True


def doubt(
    connection: Connection,
    attempt: str,
    now: datetime,
    *,
    reason: str,
    settle_at: datetime,
    over_at: datetime | None = None,
) -> bool:
    """The outcome of a started attempt is unknown: it and its rows are `in_doubt`.

    `over_at` is when its request has surely ended, now unless told: a look-up's lag counts from it.
    """
    values = {"reason": reason, "doubt_at": over_at or now, "settle_at": settle_at}
    if not move_attempt(connection, attempt, "lose", "started", now, **values):
        return False
    loaded = load_attempt(connection, attempt)
    assert loaded is not None
    move_rows(connection, loaded, "lose", reason, now)
    return True


def count_lag_from(connection: Connection, send_id: int, batch: int, over_at: datetime) -> None:
    """A repeat of a doubtful attempt has surely ended at `over_at`, and may have been the first to
    arrive: an empty look-up proves nothing until the lag is over from there."""
    values = {"b_send": send_id, "b_batch": batch, "b_over_at": over_at}
    connection.execute(_COUNT_LAG, values)


def accept_found(
    connection: Connection, attempt: Attempt, found: dict[int, str], now: datetime
) -> None:
    """A look-up found messages of an attempt in doubt: position → provider message id."""
    rising = {place: found[place] for place in sorted(found)}
    state, missed = connection.execute(_LOCKED, {"b_attempt": attempt.id}).one()
    if state == "settled":  # by a person, while the look-up was under way
        _credit_found(connection, attempt, rising, from_ranges(missed or []))
    accept_rows(connection, attempt.send_id, attempt.id, rising, now)
    scrub(connection, attempt.send_id, attempt.positions[0], attempt.positions[-1])
    forget(connection, attempt.send_id, attempt.batch)


def _credit_found(
    connection: Connection, attempt: Attempt, found: Collection[int], missed: Sequence[int]
) -> None:
    """The attempt was settled as not accepted for some whose messages are there."""
    left = [place for place in missed if place not in found]
    values = {"b_attempt": attempt.id, "b_refused": to_ranges(left)}
    connection.execute(_CREDIT, values)
    give_back(connection, attempt.id, len(left) - len(missed))


def move_rows(
    connection: Connection, attempt: Attempt, event: str, reason: str, now: datetime
) -> int:
    """Move all rows of the attempt that are in a state that knows `event`."""
    values = {**_key(attempt), "b_reason": reason, "b_now": now}
    moved = connection.execute(_rows_move(event), values).rowcount
    forget(connection, attempt.send_id, attempt.batch)
    return moved


@lru_cache(maxsize=16)
def _rows_move(event: str) -> Update:
    values: dict[str, Any] = {"reason": bindparam("b_reason"), "updated_at": bindparam("b_now")}
    return delivery_move(event).where(*_OF).values(**values)


def rows_in_doubt(connection: Connection, attempt: Attempt) -> int:
    """How many rows of the attempt are in doubt still."""
    return len(connection.execute(_IN_DOUBT, _key(attempt)).all())


def settle_if_clear(connection: Connection, attempt: Attempt, now: datetime) -> bool:
    """Close an attempt in doubt once no row of it is: whatever is not with the provider is open."""
    if rows_in_doubt(connection, attempt):
        return False
    mine = set(attempt.positions)
    open_rows = sorted(mine.intersection(connection.execute(_NOT_LEFT, _key(attempt)).scalars()))
    values = {"not_accepted": to_ranges(open_rows), "settle_at": None}
    if not move_attempt(connection, attempt.id, "settle", "in_doubt", now, **values):
        return False
    give_back(connection, attempt.id, len(open_rows))
    return True


def scrub(connection: Connection, send_id: int, lo: int, hi: int) -> None:
    """Empty the copies of people who were forgotten while their message was on its way."""
    if not connection.execute(_ANYBODY_FORGOTTEN).scalar_one():
        return
    # A provider's words may name the person; why somebody was skipped is said in ours.
    ours = (deliveries.c.reason == "") | (deliveries.c.state == "skipped")
    told = case((ours, deliveries.c.reason), else_="erased")
    connection.execute(
        update(deliveries)
        .where(
            deliveries.c.send_id == send_id,
            deliveries.c.position.between(lo, hi),
            deliveries.c.state.in_(sorted(FINAL)),
            deliveries.c.subscriber_id.in_(_FORGOTTEN),
        )
        .values(email="", first_name="", last_name="", fields={}, reason=told)
    )


def _key(attempt: Attempt) -> dict[str, Any]:
    """The values of `_SPAN` and `_OF`."""
    lo, hi = attempt.positions[0], attempt.positions[-1]
    return {"b_send": attempt.send_id, "b_lo": lo, "b_hi": hi, "b_attempt": attempt.id}


_SPAN = (
    deliveries.c.send_id == bindparam("b_send"),
    deliveries.c.position.between(bindparam("b_lo"), bindparam("b_hi")),
)
_MINE = deliveries.c.attempt == bindparam("b_attempt")
_OF = (*_SPAN, _MINE)
_IN_DOUBT = select(deliveries.c.position).where(*_OF, deliveries.c.state == "in_doubt")
_NOT_LEFT = select(deliveries.c.position).where(
    *_SPAN, or_(~_MINE, ~in_states(deliveries.c.state, tuple(sorted(LEFT))))
)
_CREDIT = (
    update(attempts)
    .where(attempts.c.id == bindparam("b_attempt"))
    .values(not_accepted=bindparam("b_refused"))
)
_COUNT_LAG = (
    update(attempts)
    .where(
        attempts.c.send_id == bindparam("b_send"),
        attempts.c.batch == bindparam("b_batch"),
        attempts.c.state == "in_doubt",
        attempts.c.doubt_at < bindparam("b_over_at", type_=Instant()),
    )
    .values(doubt_at=bindparam("b_over_at", type_=Instant()))
)
