"""The state machines of sends, deliveries and attempts, as data, and the one way to use them.

A change of state is a guarded UPDATE built from these tables, whose row count the caller checks.
The documentation and the tests read the same tables. Nothing here knows providers or the clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    bindparam,
    literal_column,
    or_,
    update,
)

from newsletter.store.schema import attempts, deliveries, sends

#: state → event → state
Machine = Mapping[str, Mapping[str, str]]

SEND: Machine = {
    "scheduled": {
        "start": "sending",
        "hold": "held",
        "pause": "paused",
        "cancel": "cancelled",
    },
    "sending": {"finish": "sent", "hold": "held", "pause": "paused", "cancel": "cancelled"},
    # `resume` is for a send that has its recipients, `reschedule` for one that has none yet.
    "paused": {
        "resume": "sending",
        "reschedule": "scheduled",
        "finish": "sent",
        "cancel": "cancelled",
    },
    "held": {
        "resume": "sending",
        "reschedule": "scheduled",
        "finish": "sent",
        "cancel": "cancelled",
    },
    "sent": {},
    "cancelled": {},
}

# An event of the provider about a message proves that it was accepted, whatever we thought.
_PROOF = {"delivered": "delivered", "bounced": "bounced", "complained": "complained"}

DELIVERY: Machine = {
    "pending": {
        "attempt": "sending",
        "leave": "skipped",
        "cancel": "skipped",
        "uncomposable": "rejected",
        # an answer that came after its attempt had been given up for lost
        "accept": "accepted",
        **_PROOF,
    },
    "sending": {
        "accept": "accepted",
        "reject": "rejected",
        "defer": "pending",
        "lose": "in_doubt",
        **_PROOF,
    },
    "in_doubt": {
        "accept": "accepted",
        "reject": "rejected",
        "defer": "pending",
        "miss": "pending",
        "resend": "pending",
        "abandon": "skipped",
        **_PROOF,
    },
    "accepted": {"drop": "rejected", **_PROOF},
    "delivered": {"bounced": "bounced", "complained": "complained"},
    "bounced": {"complained": "complained"},
    "complained": {},
    "rejected": {},
    # Abandoned in doubt, or left behind by a look-up that came too early: an event knows better.
    "skipped": {"accept": "accepted", **_PROOF},
}

ATTEMPT: Machine = {
    "started": {"answer": "answered", "refuse": "not_accepted", "lose": "in_doubt"},
    "in_doubt": {"answer": "settled", "settle": "settled"},
    "settled": {"answer": "settled"},  # an answer that came late still tells who was accepted
    "answered": {},
    "not_accepted": {},
}

#: A delivery in one of these is done with; nothing will be sent for it any more.
FINAL = frozenset({"accepted", "delivered", "bounced", "complained", "rejected", "skipped"})
#: The provider has the message of a delivery in one of these.
LEFT = frozenset({"accepted", "delivered", "bounced", "complained"})
#: A send in one of these is over.
OVER = frozenset({state for state, events in SEND.items() if not events})


def sources(machine: Machine, event: str) -> tuple[str, ...]:
    """The states in which `event` is possible, in the machine's order."""
    found = tuple(state for state, events in machine.items() if event in events)
    assert found, f"no state knows the event {event}"
    return found


def target(machine: Machine, event: str) -> str:
    """The state that `event` leads to: the same from wherever it is possible."""
    targets = {events[event] for events in machine.values() if event in events}
    assert len(targets) == 1, f"{event} leads to {targets}"
    return targets.pop()


def in_states(column: ColumnElement[str], states: tuple[str, ...]) -> ColumnElement[bool]:
    """`column IN (…)` with the constants written out, so that a bulk statement binds only rows."""
    return or_(*[column == literal_column(f"'{state}'") for state in states])


@cache
def send_move(event: str) -> Update:
    """UPDATE of `sends` for an event; the caller adds which send. Guarded by state."""
    return (
        update(sends)
        .values(state=target(SEND, event))
        .where(in_states(sends.c.state, sources(SEND, event)))
    )


def move_send(connection: Connection, send_id: int, event: str, **values: Any) -> bool:
    """Whether the send was in a state that knows `event` and has moved."""
    told = {f"b_{name}": value for name, value in values.items()}
    statement = _send_move(event, tuple(values))
    return connection.execute(statement, {"b_id": send_id, **told}).rowcount == 1


@lru_cache(maxsize=64)
def _send_move(event: str, names: tuple[str, ...]) -> Update:
    values: dict[str, Any] = {name: bindparam(f"b_{name}") for name in names}
    return send_move(event).where(sends.c.id == bindparam("b_id")).values(**values)


@cache
def delivery_move(event: str) -> Update:
    """UPDATE of `deliveries` for an event; the caller adds which rows. Guarded by state."""
    return (
        update(deliveries)
        .values(state=literal_column(f"'{target(DELIVERY, event)}'"))
        .where(in_states(deliveries.c.state, sources(DELIVERY, event)))
    )


def move_attempt(
    connection: Connection, attempt: str, event: str, state: str, now: datetime, **values: Any
) -> bool:
    """Move an attempt out of `state`; false when it is in another by now."""
    finished = None if ATTEMPT[state][event] == "in_doubt" else now
    told = {f"b_{name}": value for name, value in {**values, "finished_at": finished}.items()}
    statement = _attempt_move(event, state, tuple(values))
    return connection.execute(statement, {"b_id": attempt, **told}).rowcount == 1


@lru_cache(maxsize=64)
def _attempt_move(event: str, state: str, names: tuple[str, ...]) -> Update:
    return (
        update(attempts)
        .where(attempts.c.id == bindparam("b_id"), attempts.c.state == state)
        .values(
            state=ATTEMPT[state][event],
            **{name: bindparam(f"b_{name}") for name in (*names, "finished_at")},
        )
    )
