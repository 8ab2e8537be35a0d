"""A row of the outbox as a message: the same row and settings give the same bytes."""

from __future__ import annotations

import hashlib
from email.utils import format_datetime
from typing import Any

import idna
from sqlalchemy import Row

from newsletter.providers.base import Message
from newsletter.workspace import Workspace


def build(workspace: Workspace, row: Row[Any], attempt: str) -> Message:
    """The message of a row; `attempt` comes back in look-ups and events."""
    sender = workspace.settings.sender
    return Message(
        to=("", row.to_email),
        sender=(sender.name, sender.email),
        reply_to=sender.reply_to,
        subject=row.subject,
        html=row.html,
        text=row.text,
        headers=(
            ("Date", format_datetime(row.created_at.replace(microsecond=0))),
            ("Message-ID", _message_id(row, sender.email)),
            ("Auto-Submitted", "auto-generated"),
        ),
        metadata={"attempt": attempt},
    )


def _message_id(row: Row[Any], sender: str) -> str:
    digest = hashlib.sha256(f"{row.id}\0{row.cause}\0{row.created_at}".encode()).hexdigest()
    domain = sender.rpartition("@")[2]
    if not domain.isascii():
        domain = idna.encode(domain, uts46=True).decode("ascii")
    return f"<{digest[:32]}@{domain}>"
