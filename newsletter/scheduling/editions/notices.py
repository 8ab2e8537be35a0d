"""What the editors are told of an edition, in words: each cause once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from newsletter.checks import Finding
from newsletter.drafting import load_issue
from newsletter.outbox import notify_editors
from newsletter.rendering import compile_issue, neutral_recipient
from newsletter.scheduling.sends import spell_finding
from newsletter.settings import Edition
from newsletter.workspace import Workspace


def tell(
    connection: Connection,
    workspace: Workspace,
    now: datetime,
    row: Row[Any],
    *,
    cause: str,
    subject: str,
    text: str,
    issue_html: str | None = None,
) -> None:
    """Queue one notice about a date of an edition."""
    notify_editors(
        connection,
        workspace,
        now,
        cause=f"edition:{row.name}:{row.date}:{cause}",
        subject=subject,
        text=text,
        issue_html=issue_html,
    )


def tell_drafted(
    connection: Connection,
    workspace: Workspace,
    now: datetime,
    row: Row[Any],
    edition: Edition,
    *,
    findings: Sequence[Finding],
    reason: str,
    issue_html: str | None,
) -> None:
    """The draft is there: what was found in it and how it goes out; `reason`: why it cannot yet."""
    hour = spell_hour(workspace, row.send_at)
    waits = edition.approval == "required" or not row.drafted_here
    parts = [
        f"The draft of **{code(edition.name)}** for {hour} is in "
        f"`issues/{row.issue}/issue.md`, and shown below."
    ]
    if not row.drafted_here:
        parts[0] = (
            f"`issues/{row.issue}/issue.md` was there already when the draft of "
            f"**{code(edition.name)}** for {hour} was due: it stands for it, unchanged."
        )
    if reason:
        parts.append(f"**It cannot go out as it is.** {code(reason)}")
    if waits:
        parts.append("It goes out at its hour if you approve it, and not otherwise:")
    else:
        parts.append("It goes out at its hour by itself, unless a check blocks. To look at it:")
    command = "approve" if waits else "preview"
    parts.append(f"    newsletter {command} {row.issue}")
    if waits:
        parts.append("An edit after the approval voids it: approve it again then.")
    if findings:
        listed = [f"- {found.severity}: {code(spell_finding(found))}" for found in findings]
        parts.append("What the checks found:\n\n" + "\n".join(listed))
    else:
        parts.append("The checks found nothing.")
    subject = f"{edition.name}: the draft for {hour} waits for your approval"
    if not waits:
        subject = f"{edition.name}: the draft for {hour}"
    tell(
        connection,
        workspace,
        now,
        row,
        cause="drafted",
        subject=subject,
        text="\n\n".join(parts),
        issue_html=issue_html,
    )


def tell_skipped(
    connection: Connection,
    workspace: Workspace,
    now: datetime,
    row: Row[Any],
    reason: str,
    *,
    draft: str,
) -> None:
    """Nothing goes out for this date, and why; `draft` is the issue that was written, if any."""
    hour = spell_hour(workspace, row.send_at)
    text = f"**{code(row.name)}** of {hour} does not go out: {code(reason)}.\n\n"
    if draft:
        text += (
            f"Its draft is kept in `issues/{draft}/issue.md`. To send it all the same:\n\n"
            f"    newsletter send {draft}\n\n"
        )
    text += "The next edition is not affected."
    tell(
        connection,
        workspace,
        now,
        row,
        cause="skipped",
        subject=f"{row.name}: nothing goes out on {hour}",
        text=text,
    )


def tell_voided(
    connection: Connection, workspace: Workspace, now: datetime, row: Row[Any], approved: str
) -> None:
    """The issue is not any more what was approved."""
    hour = spell_hour(workspace, row.send_at)
    tell(
        connection,
        workspace,
        now,
        row,
        cause=f"voided:{approved}",
        subject=f"{row.name}: the draft for {hour} changed after its approval",
        text=f"`issues/{row.issue}/issue.md` was edited after it was approved, so the approval does"
        f" not hold any more. To send it on {hour}, approve it as it is now:\n\n"
        f"    newsletter approve {row.issue}",
    )


def tell_failing(
    connection: Connection, workspace: Workspace, now: datetime, row: Row[Any], reason: str
) -> None:
    """The draft cannot be made; it is tried until its hour."""
    hour = spell_hour(workspace, row.send_at)
    digest = hashlib.sha256(reason.encode()).hexdigest()[:16]
    tell(
        connection,
        workspace,
        now,
        row,
        cause=f"failing:{digest}",
        subject=f"{row.name}: the draft for {hour} cannot be made",
        text=f"The draft of **{code(row.name)}** for {hour} cannot be made: {code(reason)}\n\n"
        "It is tried again until its hour.",
    )


def page_for_editors(workspace: Workspace, slug: str) -> str:
    """The issue's HTML as nobody in particular would get it, its links not counted."""
    compiled = compile_issue(workspace, load_issue(workspace, slug), tracked=False).compiled
    return compiled.variants[""].render(neutral_recipient()).html


def spell_hour(workspace: Workspace, moment: datetime) -> str:
    """A moment as the site's readers would say it."""
    local = moment.astimezone(workspace.settings.site.zone)
    return f"{local:%A} {local.day} {local:%B %Y, %H:%M} ({local.tzname()})"


def code(text: str) -> str:
    """Words that come from a file or a message: shown as they are, on one line, not as Markdown."""
    line = " ".join(text.split())
    return "".join("\\" + mark if mark in "\\`*_[]<>#!|~" else mark for mark in line)


def tell_broken(
    connection: Connection, workspace: Workspace, now: datetime, edition: Edition, reason: str
) -> None:
    """The edition as a whole cannot be looked after."""
    digest = hashlib.sha256(reason.encode()).hexdigest()[:16]
    notify_editors(
        connection,
        workspace,
        now,
        cause=f"edition:{edition.name}:broken:{digest}:{now:%Y-%m-%d}",
        subject=f"{edition.name}: the edition cannot be looked after",
        text=f"The edition **{code(edition.name)}** meets an error: {code(reason)}\n\n"
        "It is tried again; other editions are not affected.",
    )
