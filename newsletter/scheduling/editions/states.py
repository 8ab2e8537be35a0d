"""Where each edition stands: its next times, and the date that matters now. Reads only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from newsletter.clock import Clock, isoformat
from newsletter.errors import NewsletterError
from newsletter.scheduling.editions.rows import OPEN, begins, by_send
from newsletter.scheduling.freezing import source_digest
from newsletter.scheduling.localtime import check_editions, next_occurrences
from newsletter.settings import Edition
from newsletter.store import Store
from newsletter.store.schema import editions, sends
from newsletter.workspace import Workspace


def edition_states(workspace: Workspace, store: Store, clock: Clock) -> list[dict[str, Any]]:
    """The contract's list, in the order of the settings.

    `issue`, `state` and `reason` are of the next date once there is something to say of it, and of
    the last one until then. Raises `BadInput` for a rhythm that cannot be read.
    """
    check_editions(workspace.settings)
    with store.read() as connection:
        return [
            _state(connection, workspace, edition, clock.now())
            for edition in workspace.settings.editions
        ]


def _state(
    connection: Connection, workspace: Workspace, edition: Edition, now: datetime
) -> dict[str, Any]:
    zone = workspace.settings.site.zone
    upcoming = next_occurrences(edition.cron, zone, now)
    first = next(upcoming)
    query = select(editions).where(editions.c.name == edition.name)
    rows = {row.date: row for row in connection.execute(query.order_by(editions.c.send_at))}
    undrafted = first
    while (row := rows.get(undrafted.date)) is not None and row.state != "waiting":
        undrafted = next(upcoming)
    past = [row for row in rows.values() if row.send_at <= now]
    shown = rows.get(first.date)
    if past and (shown is None or (shown.state == "waiting" and not shown.reason)):
        shown = past[-1]
    issue, state, reason = _now(connection, workspace, shown)
    return {
        "name": edition.name,
        "next_draft_at": isoformat(begins(edition, zone, undrafted.at) - edition.draft_before),
        "next_send_at": isoformat(first.at),
        "issue": issue,
        "state": state,
        "reason": reason,
    }


def _now(
    connection: Connection, workspace: Workspace, row: Row[Any] | None
) -> tuple[str | None, str, str]:
    """Issue, state and reason of a date as they are this moment, not as the clock last saw them."""
    if row is None:
        return None, "waiting", ""
    issue = row.issue or None
    query = select(sends.c.state, sends.c.reason).where(sends.c.issue == row.issue)
    send = connection.execute(query.order_by(sends.c.id.desc()).limit(1)).first()
    if send is not None and (send.state != "cancelled" or row.send_id is not None):
        return issue, *by_send(send.state, send.reason)
    if row.state == "approved" and _digest(workspace, row.issue) != row.source_sha256:
        return issue, "drafted", "it changed after it was approved"
    state = row.state if row.state in OPEN else "skipped"
    return issue, state, row.reason


def _digest(workspace: Workspace, slug: str) -> str:
    try:
        return source_digest(workspace, slug)
    except (NewsletterError, OSError):
        return ""
