"""All issues with their state: draft, broken, or what the latest send of each is in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from newsletter.drafting.files import FILE_NAME, folders, issue_digest, load_issue
from newsletter.errors import NewsletterError
from newsletter.store import Store
from newsletter.store.schema import approvals, frozen_issues, sends
from newsletter.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Listed:
    """One issue. `send` is the name of its latest send; a `broken` issue has its `error`."""

    issue: str
    subject: str
    state: str
    audience: str
    path: str
    changed_at: datetime
    send: str | None
    error: str | None


def list_states(workspace: Workspace, store: Store) -> list[Listed]:
    """Every issue in order of its name; one that cannot be read is listed with its error.

    So is a folder whose name no issue can have.
    """
    with store.read() as connection:
        latest = {
            row.issue: (row.send, row.state)
            for row in connection.execute(
                select(sends.c.issue, sends.c.send, sends.c.state).order_by(sends.c.id)
            )
        }
        approved: dict[str, set[str]] = {}
        for issue, digest in connection.execute(
            select(approvals.c.issue, frozen_issues.c.source_sha256).join(
                frozen_issues, frozen_issues.c.sha256 == approvals.c.frozen
            )
        ):
            approved.setdefault(issue, set()).add(digest)
    return [
        _listed(workspace, slug, latest.get(slug), approved.get(slug, set()))
        for slug in folders(workspace)
    ]


def _listed(
    workspace: Workspace, slug: str, send: tuple[str, str] | None, approved: set[str]
) -> Listed:
    """`send` is (name, state); `approved` the digests of the folder that were approved."""
    path = workspace.issues / slug / FILE_NAME
    changed_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    subject, audience, error = "", "", None
    state = send[1] if send else "draft"
    try:
        issue = load_issue(workspace, slug)
    except NewsletterError as caught:
        error = f"{caught.where}: {caught.message}" if caught.where else caught.message
        state = send[1] if send else "broken"
    else:
        subject, audience = issue.subject, issue.audience
        if approved and not send and issue_digest(issue) in approved:
            state = "approved"
    return Listed(
        issue=slug,
        subject=subject,
        state=state,
        audience=audience,
        path=workspace.relative(path),
        changed_at=changed_at,
        send=send[0] if send else None,
        error=error,
    )
