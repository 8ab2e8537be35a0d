"""What a person does to a send: pause, resume, cancel, and decide doubts that nothing can settle.

Each is one guarded UPDATE, so that it is felt by every worker before its next batch; requests in
flight still end and are written down.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Row, case, literal, select, update

from newsletter.delivery import breaker, canary
from newsletter.delivery.attempts import load_attempt, move_rows, scrub, settle_if_clear
from newsletter.delivery.counting import by_state, forget
from newsletter.delivery.ending import finish_if_done
from newsletter.delivery.filling import fill_rest
from newsletter.delivery.naming import find_send
from newsletter.delivery.transitions import LEFT, OVER, delivery_move, move_send
from newsletter.errors import Conflict
from newsletter.store import notify
from newsletter.store.schema import attempts, batches, deliveries
from newsletter.store.types import Instant

#: Far beyond any provider's time-out.
_LONGEST_REQUEST = timedelta(hours=1)


def pause(connection: Connection, name: str, now: datetime) -> Row[Any]:
    """Pause a send. One that is paused or held already stays so; one that is over: `Conflict`."""
    send = _not_over(connection, name)
    if not move_send(connection, send.id, "pause", reason="paused by a person"):
        _not_over(connection, name)
    return find_send(connection, send.send)


def resume(connection: Connection, name: str, now: datetime) -> Row[Any]:
    """Let a paused or held send go on; what held it is tried again. Over: `Conflict`."""
    send = _not_over(connection, name)
    # Before the send's own row, as whoever writes an outcome down takes them in this order too.
    _try_providers(connection, send, now)
    in_doubt = (attempts.c.send_id == send.id) & (attempts.c.state == "in_doubt")
    locked = select(attempts.c.id).where(in_doubt).order_by(attempts.c.batch, attempts.c.number)
    connection.execute(locked.with_for_update())
    event = "reschedule" if send.filled_at is None else "resume"
    if move_send(connection, send.id, event, reason="", released_at=now, not_before=None):
        _forget_failures(connection, send.id, now)
        notify(connection, "sends")
    else:
        _not_over(connection, name)
    return find_send(connection, send.send)


def cancel(connection: Connection, name: str, now: datetime) -> Row[Any]:
    """End a send: whoever has not got it will not. The reason says how many had left.

    What is in doubt is still looked up where the provider can be asked, and never repeated.
    """
    send = _not_over(connection, name)
    found = by_state(connection, send.id)
    total = sum(found.values())
    left = sum(found[state] for state in LEFT)
    flying = found["sending"] + found["in_doubt"]
    reason = f"cancelled by a person: {left} of {total} had left"
    if flying:
        reason += f", {flying} more may have"
    if not move_send(connection, send.id, "cancel", reason=reason, finished_at=now):
        _not_over(connection, name)
        raise Conflict(f"the send {send.send} was changed by somebody meanwhile")
    fill_rest(connection, send.id, now)  # everybody who was eligible has a row, and a reason
    connection.execute(
        delivery_move("cancel")
        .where(deliveries.c.send_id == send.id)
        .values(reason="the send was cancelled", updated_at=now)
    )
    scrub(connection, send.id, 1, total)
    being_settled = select(attempts.c.batch).where(
        attempts.c.send_id == send.id,
        attempts.c.state == "in_doubt",
        attempts.c.settle_at.is_not(None),
    )
    connection.execute(
        update(batches)
        .where(
            batches.c.send_id == send.id,
            batches.c.state == "open",
            batches.c.number.not_in(being_settled),
        )
        .values(state="done", not_before=None)
    )
    forget(connection, send.id)
    return find_send(connection, send.send)


def resolve(
    connection: Connection, name: str, how: Literal["resend", "abandon"], now: datetime
) -> Row[Any]:
    """Decide the deliveries in doubt: send them again under a new attempt, or let them be.

    `Conflict` where none is in doubt, where something is still settling them, or where a cancelled
    send is to resend.
    """
    send = find_send(connection, name)
    if send.state == "sending":
        raise Conflict(
            f"the send {send.send} is still settling its doubts",
            hint="Wait until it is held, or pause it first.",
        )
    if how == "resend" and send.state in OVER:
        raise Conflict(f"the send {send.send} is {send.state}: nothing more is sent for it")
    query = select(attempts.c.id, attempts.c.batch).where(
        attempts.c.send_id == send.id, attempts.c.state == "in_doubt"
    )
    doubtful = connection.execute(query).all()
    if not doubtful:
        raise Conflict(f"the send {send.send} has no delivery in doubt")
    reasons = {"resend": "sent again by a person", "abandon": "in doubt, abandoned by a person"}
    for attempt_id, batch in doubtful:
        attempt = load_attempt(connection, attempt_id)
        assert attempt is not None
        move_rows(connection, attempt, how, reasons[how], now)
        settle_if_clear(connection, attempt, now)
        scrub(connection, send.id, attempt.positions[0], attempt.positions[-1])
        if how == "resend":
            _reopen(connection, send.id, batch)
    if not finish_if_done(connection, send.id, now) and send.state == "held":
        move_send(connection, send.id, "resume", reason="", released_at=now, not_before=None)
        notify(connection, "sends")
    return find_send(connection, send.send)


def _not_over(connection: Connection, name: str) -> Row[Any]:
    send = find_send(connection, name)
    if send.state in OVER:
        raise Conflict(f"the send {send.send} is over: it is {send.state}")
    return send


def _try_providers(connection: Connection, send: Row[Any], now: datetime) -> None:
    """Those whose breaker is open are tried at once."""
    moved = select(batches.c.provider).where(
        batches.c.send_id == send.id, batches.c.provider.is_not(None)
    )
    names = {send.provider, *connection.execute(moved.distinct()).scalars()}
    for provider in sorted(names):
        breaker.give_chance(connection, provider, now)


def _forget_failures(connection: Connection, send_id: int, now: datetime) -> None:
    """Everything is tried again as if for the first time, doubts that were given up too."""
    canary.overrule(connection, send_id)
    connection.execute(
        update(batches)
        .where(batches.c.send_id == send_id, batches.c.state == "open")
        .values(failures=0, failing_since=None, not_before=None)
    )
    in_doubt = (attempts.c.send_id == send_id) & (attempts.c.state == "in_doubt")
    query = select(attempts.c.batch).where(in_doubt).distinct()
    for batch in connection.execute(query).scalars().all():
        _reopen(connection, send_id, batch)
    # The lag is waited out anew: that is never wrong. A request may yet be under way, until then.
    soon, latest = literal(now, Instant()), literal(now + _LONGEST_REQUEST, Instant())
    over_at = case(
        (attempts.c.doubt_at > latest, latest),  # by a clock that was ahead
        (attempts.c.doubt_at > soon, attempts.c.doubt_at),
        else_=soon,
    )
    connection.execute(
        update(attempts).where(in_doubt).values(doubt_at=over_at, settle_at=now, asked=0)
    )


def _reopen(connection: Connection, send_id: int, batch: int) -> None:
    connection.execute(
        update(batches)
        .where(batches.c.send_id == send_id, batches.c.number == batch, batches.c.state == "done")
        .values(state="open", not_before=None, failures=0, failing_since=None)
    )
