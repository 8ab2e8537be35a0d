"""Queues mail inside the caller's transaction: it leaves exactly if what it tells of happened."""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta
from html import escape
from typing import Literal

from sqlalchemy import Connection, func, select

from newsletter.audience.sql import insert_into
from newsletter.errors import NewsletterError
from newsletter.rendering import render_notice
from newsletter.store import notify
from newsletter.store.schema import outbox
from newsletter.workspace import Workspace

Kind = Literal["confirmation", "notice", "webhook"]

WEBHOOK = ":webhook"  # ends the cause of a webhook's row

_log = logging.getLogger(__name__)
_BODY = re.compile(r"<body[^>]*>", re.IGNORECASE)


def enqueue(
    connection: Connection,
    *,
    kind: Kind,
    cause: str,
    to: str,
    subject: str,
    html: str,
    text: str,
    now: datetime,
) -> bool:
    """Queue one message; False if that `cause` was queued already, whatever became of it."""
    return _insert(connection, now, kind=kind, cause=cause, to_email=to, subject=subject,
                   html=html, text=text, state="pending")  # fmt: skip


def notify_editors(
    connection: Connection,
    workspace: Workspace,
    now: datetime,
    *,
    cause: str,
    subject: str,
    text: str,
    issue_html: str | None = None,
) -> bool:
    """Tell the editors by mail, by webhook if one is set, and in the log: once a `cause`.

    `text` is Markdown; `issue_html`, a whole page, is shown beneath it in the mail. False if that
    cause was told already. What may happen again needs something in its cause that differs.
    """
    people = list(dict.fromkeys(workspace.settings.editors.notify))
    new = False
    if people:
        html, plain = _rendered(workspace, subject, text)
        if issue_html is not None:
            html = _above(html, issue_html)
        for person in people:
            new |= enqueue(
                connection,
                kind="notice",
                cause=f"{cause}:{person}",
                to=person,
                subject=subject,
                html=html,
                text=plain,
                now=now,
            )
    if workspace.settings.editors.webhook:
        new |= enqueue(
            connection,
            kind="webhook",
            cause=cause + WEBHOOK,
            to="",
            subject=subject,
            html="",
            text=text,
            now=now,
        )
    elif not people:  # nobody to tell: the row keeps the log from repeating itself
        new = _insert(connection, now, kind="notice", cause=cause, to_email="", subject=subject,
                      html="", text=text, state="failed", reason="no editor is named")  # fmt: skip
    if new:
        _log.warning("%s (%s)", subject, cause)
    return new


def _rendered(workspace: Workspace, subject: str, text: str) -> tuple[str, str]:
    """The notice in the site's look, or bare where the workspace's own template is faulty."""
    try:
        return render_notice(workspace, subject, text)
    except NewsletterError as error:
        _log.error("the template of notices is not used: %s", error)
        return f"<!DOCTYPE html><html><body><pre>{escape(text)}</pre></body></html>", text


def next_due(connection: Connection, workspace: Workspace) -> datetime | None:
    """When the next message is to be sent or looked into; None if none waits."""
    waiting = outbox.c.state.in_(("pending", "in_doubt"))
    due: datetime | None = connection.execute(
        select(func.min(outbox.c.not_before)).where(waiting)
    ).scalar_one()
    begun: datetime | None = connection.execute(
        select(func.min(outbox.c.attempted_at)).where(outbox.c.state == "sending")
    ).scalar_one()
    times = [due, begun and begun + abandoned_after(workspace)]
    return min((time for time in times if time is not None), default=None)


def abandoned_after(workspace: Workspace) -> timedelta:
    """How long after its beginning a request has surely ended, or its process has."""
    timeouts = [provider.timeout for provider in workspace.settings.providers]
    return max([workspace.settings.delivery.lease, *(2 * timeout for timeout in timeouts)])


def _insert(connection: Connection, now: datetime, **values: str) -> bool:
    statement = (
        insert_into(connection, outbox)
        .values(**values, not_before=now, created_at=now, updated_at=now)
        .on_conflict_do_nothing(index_elements=["cause"])
        .returning(outbox.c.id)
    )
    new = connection.execute(statement).first() is not None
    if new and values["state"] == "pending":
        notify(connection, "notices")
    return new


def _above(notice: str, page: str) -> str:
    """The page with the notice's body at its top; both are of the same template family."""
    opened, start = _BODY.search(notice), _BODY.search(page)
    if opened is None or start is None:
        return notice
    body = notice[opened.end() : notice.lower().rfind("</body>")]
    return page[: start.end()] + body + page[start.end() :]
