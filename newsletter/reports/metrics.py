"""What there is at this moment, counted by state, for a monitoring system."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, func, select

from newsletter.delivery import deliveries_by_state
from newsletter.store.schema import outbox, sends, subscribers

_COUNTED: tuple[tuple[str, str, Column[Any], tuple[str, ...]], ...] = (
    (
        "sends",
        "Sends by state.",
        sends.c.state,
        ("scheduled", "sending", "sent", "paused", "held", "cancelled"),
    ),
    (
        "subscribers",
        "Subscribers by state.",
        subscribers.c.state,
        ("pending", "active", "unsubscribed", "bounced", "complained", "forgotten"),
    ),
    (
        "outbox_messages",
        "Confirmations and notices by state.",
        outbox.c.state,
        ("pending", "sending", "accepted", "in_doubt", "failed"),
    ),
)


def state_counts(connection: Connection) -> dict[str, tuple[str, dict[str, int]]]:
    """Name → (what it counts, state → number); a state without any counts 0."""
    found = {}
    for name, what, state, states in _COUNTED:
        rows = connection.execute(select(state, func.count()).group_by(state)).all()
        found[name] = (what, {**dict.fromkeys(states, 0), **{row[0]: row[1] for row in rows}})
    # Not by reading them: there is one for each recipient of each send.
    found["deliveries"] = (
        "Deliveries by state; in_doubt ones may need a person.",
        deliveries_by_state(connection),
    )
    return found
