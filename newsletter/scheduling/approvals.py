"""Approvals: a person says yes to the frozen bytes of an issue; a later edit makes them others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from newsletter.audience.sql import insert_into
from newsletter.checks import Finding, check_issue
from newsletter.clock import Clock, isoformat
from newsletter.scheduling.freezing import Frozen, compile_now, keep
from newsletter.scheduling.sends import refuse_blocked
from newsletter.store import Store, notify
from newsletter.store.schema import approvals, editions
from newsletter.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Approval:
    """`send_at` is the hour of the edition that the issue belongs to, if that is still to come."""

    issue: str
    frozen: str
    approved_by: str
    at: datetime
    findings: tuple[Finding, ...]
    send_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """The contract's shape."""
        return {
            "issue": self.issue,
            "frozen": self.frozen,
            "approved_by": self.approved_by,
            "at": isoformat(self.at),
        }


def approve(workspace: Workspace, store: Store, clock: Clock, slug: str, by: str) -> Approval:
    """Approve an issue as it is now; an edition's issue then goes out at its hour.

    The first approval of the same bytes stands. Raises `DoesNotHold` with the findings that block,
    and what `freeze` raises.
    """
    offline = not workspace.settings.checks.network_blocks
    frozen = compile_now(workspace, store, slug)
    findings = check_issue(workspace, store, clock, slug, offline=offline)
    refuse_blocked(slug, findings)
    now = clock.now()
    with store.begin() as connection:
        keep(connection, frozen, now)
        statement = insert_into(connection, approvals).values(
            issue=slug, frozen=frozen.sha256, approved_by=by, at=now
        )
        connection.execute(statement.on_conflict_do_nothing())
        row = connection.execute(
            select(approvals).where(approvals.c.issue == slug, approvals.c.frozen == frozen.sha256)
        ).one()
        send_at = _approve_edition(connection, frozen, now)
        notify(connection, "editions")
    return Approval(slug, frozen.sha256, row.approved_by, row.at, tuple(findings), send_at)


def is_approved(connection: Connection, slug: str, sha256: str) -> bool:
    """Whether somebody approved exactly these bytes."""
    query = select(approvals.c.at).where(approvals.c.issue == slug, approvals.c.frozen == sha256)
    return connection.execute(query).first() is not None


def last_approved(connection: Connection, slug: str) -> str:
    """The SHA-256 that was approved last, '' if nothing of the issue ever was."""
    query = select(approvals.c.frozen).where(approvals.c.issue == slug)
    latest: str | None = connection.execute(
        query.order_by(approvals.c.at.desc(), approvals.c.frozen).limit(1)
    ).scalar()
    return latest or ""


def _approve_edition(connection: Connection, frozen: Frozen, now: datetime) -> datetime | None:
    """Mark the open edition that the issue belongs to; its hour, or None if there is none."""
    statement = (
        update(editions)
        .where(
            editions.c.issue == frozen.issue,
            editions.c.state.in_(("drafted", "held", "approved")),
            editions.c.send_id.is_(None),
        )
        .values(state="approved", reason="", source_sha256=frozen.source_sha256, updated_at=now)
        .returning(editions.c.send_at)
    )
    send_at: datetime | None = connection.execute(statement).scalars().first()
    return send_at
