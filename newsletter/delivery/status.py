"""What can be told of a send: its state and counts, and a line for each of its recipients."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from newsletter.clock import isoformat
from newsletter.delivery import canary, pacing
from newsletter.delivery.counting import by_state
from newsletter.delivery.guard import quarantine
from newsletter.delivery.naming import find_send
from newsletter.delivery.progress import progress
from newsletter.delivery.transitions import OVER
from newsletter.drafting import issue_digest, load_issue
from newsletter.errors import NewsletterError
from newsletter.store import Store
from newsletter.store.schema import attempts, batches, deliveries, frozen_issues, sends
from newsletter.workspace import Workspace

_EXPORT_ROWS = 2000


def status(
    connection: Connection, workspace: Workspace, name: str, now: datetime | None = None
) -> dict[str, Any]:
    """The contract's status of one send, by its name or its issue's. Raises `NotFound`.

    With `now` the reason also tells what the send waits for at that moment, and its rate is known.
    """
    send = find_send(connection, name)
    document = _describe(connection, workspace, send, now)
    how = progress(connection, workspace.settings, send, document["counts"], now)
    return {**document, **how}


def list_status(
    connection: Connection, workspace: Workspace, now: datetime | None = None
) -> list[dict[str, Any]]:
    """The status of every send, the oldest first."""
    rows = connection.execute(select(sends).order_by(sends.c.id)).all()
    return [_describe(connection, workspace, row, now) for row in rows]


def sends_that_go_on(connection: Connection) -> list[str]:
    """The names of the sends that are not over, the oldest first."""
    query = select(sends.c.send).where(sends.c.state.not_in(sorted(OVER))).order_by(sends.c.id)
    return list(connection.execute(query).scalars())


def counts(connection: Connection, send_id: int) -> dict[str, int]:
    """Deliveries by present state; the states add up to `total`.

    Cheap whatever the size of the send: see `counting`.
    """
    found = by_state(connection, send_id)
    return {"total": sum(found.values()), **found}


def attempts_once_in_doubt(connection: Connection, name: str) -> int:
    """How many requests of the send had an unknown outcome at some time, settled or not."""
    send = find_send(connection, name)
    query = select(func.count()).where(
        attempts.c.send_id == send.id, attempts.c.doubt_at.is_not(None)
    )
    return int(connection.execute(query).scalar_one())


def export_rows(store: Store, name: str) -> Iterator[dict[str, Any]]:
    """One line a recipient, in the order of positions; memory does not grow with the send."""
    with store.read() as connection:
        send = find_send(connection, name)
    last = 0
    while True:
        with store.read() as connection:
            query = (
                select(deliveries, attempts.c.provider)
                .outerjoin(attempts, attempts.c.id == deliveries.c.attempt)
                .where(deliveries.c.send_id == send.id, deliveries.c.position > last)
                .order_by(deliveries.c.position)
                .limit(_EXPORT_ROWS)
            )
            rows = connection.execute(query).all()
        for row in rows:
            yield {
                "subscriber": row.subscriber_id,
                "email": row.email,
                "state": row.state,
                "provider": row.provider or send.provider,
                "provider_message_id": row.provider_message_id,
                "attempt": row.attempt,
                "reason": row.reason,
                "updated_at": isoformat(row.updated_at),
            }
        if len(rows) < _EXPORT_ROWS:
            return
        last = rows[-1].position


def _describe(
    connection: Connection, workspace: Workspace, send: Row[Any], now: datetime | None
) -> dict[str, Any]:
    def when(moment: Any) -> str | None:
        return None if moment is None else isoformat(moment)

    return {
        "send": send.send,
        "issue": send.issue,
        "state": send.state,
        "reason": send.reason
        or _quarantine(connection, send)
        or _trouble(connection, send)
        or _wait(connection, workspace, send, now),
        "at": when(send.at),
        "started_at": when(send.started_at),
        "finished_at": when(send.finished_at),
        "provider": send.provider,
        "file_differs": _file_differs(connection, workspace, send),
        "counts": counts(connection, send.id),
        "local_time": send.local_time,
        "waves": pacing.list_waves(connection, send.id) if send.local_time else [],
    }


def _wait(
    connection: Connection, workspace: Workspace, send: Row[Any], now: datetime | None
) -> str:
    if send.state != "sending" or now is None:
        return ""
    settings = workspace.settings
    return canary.reason(settings, send) or pacing.reason(connection, settings, send, now)


def _quarantine(connection: Connection, send: Row[Any]) -> str:
    """Why nothing is sent at all, which concerns whatever is to be sent."""
    reason = quarantine(connection) if send.state in {"scheduled", "sending"} else ""
    return f"quarantined: {reason}" if reason else ""


def _trouble(connection: Connection, send: Row[Any]) -> str:
    """What a send that goes on is waiting for: why the last request of a failing batch failed."""
    if send.state != "sending":
        return ""
    failing = select(batches.c.number).where(
        batches.c.send_id == send.id, batches.c.failing_since.is_not(None)
    )
    query = (
        select(attempts.c.reason)
        .where(
            attempts.c.send_id == send.id,
            attempts.c.batch.in_(failing),
            attempts.c.reason != "",  # one under way has none yet
        )
        .order_by(attempts.c.started_at.desc())
        .limit(1)
    )
    reason = connection.execute(query).scalar_one_or_none()
    return f"trying again: {reason}" if reason else ""


def _file_differs(connection: Connection, workspace: Workspace, send: Row[Any]) -> bool:
    """Whether the issue's folder is not what was frozen: edited since, unreadable, or gone."""
    query = select(frozen_issues.c.source_sha256).where(frozen_issues.c.sha256 == send.frozen)
    frozen: str = connection.execute(query).scalar_one()
    try:
        return issue_digest(load_issue(workspace, send.issue)) != frozen
    except NewsletterError:
        return True
