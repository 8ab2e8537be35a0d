"""The states of a subscriber as data, and the one guarded way from one to the next.

Every change of `subscribers.state` goes through `move`, which also writes the history.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import ColumnElement, Connection, Update, bindparam, insert, or_, update

from newsletter.store.schema import subscriber_history, subscribers

STATES = ("pending", "active", "unsubscribed", "bounced", "complained", "forgotten")


@dataclass(frozen=True, slots=True)
class Transition:
    """From any of `sources` to `target`; in every other state the event changes nothing."""

    sources: tuple[str, ...]
    target: str


TRANSITIONS = {
    # The person's own yes, by the link in the confirmation mail.
    "confirmed": Transition(("pending", "unsubscribed"), "active"),
    # Consent that the editors hold; it never speaks for somebody who left.
    "consented": Transition(("pending",), "active"),
    "unsubscribed": Transition(("pending", "active"), "unsubscribed"),
    "bounced": Transition(("pending", "active", "unsubscribed"), "bounced"),
    "complained": Transition(("pending", "active", "unsubscribed", "bounced"), "complained"),
    "forgotten": Transition(
        ("pending", "active", "unsubscribed", "bounced", "complained"), "forgotten"
    ),
}


def move(
    connection: Connection,
    subscriber_id: int,
    event: str,
    *,
    now: datetime,
    detail: str = "",
    only_if: ColumnElement[bool] | None = None,
) -> bool:
    """Apply `event` where the table allows it (and `only_if` holds); False when nothing changed."""
    transition = TRANSITIONS[event]
    statement = _move(transition)
    if only_if is not None:
        statement = statement.where(only_if)
    values = {"b_id": subscriber_id, "b_reason": detail, "b_now": now}
    changed = connection.execute(statement, values).rowcount
    if changed:
        write_history(connection, subscriber_id, event, now=now, detail=detail)
    return changed == 1


@cache
def _move(transition: Transition) -> Update:
    return (
        update(subscribers)
        .where(
            subscribers.c.id == bindparam("b_id"),
            or_(*[subscribers.c.state == state for state in transition.sources]),
        )
        .values(
            state=transition.target,
            state_reason=bindparam("b_reason"),
            updated_at=bindparam("b_now"),
        )
    )


def write_history(
    connection: Connection, subscriber_id: int, event: str, *, now: datetime, detail: str = ""
) -> None:
    """Note what happened to a person, for `show` and for their own copy of their data."""
    connection.execute(
        insert(subscriber_history).values(
            subscriber_id=subscriber_id, at=now, event=event, detail=detail
        )
    )
