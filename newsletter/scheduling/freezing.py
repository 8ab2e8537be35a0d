"""Freezes an issue: what will be sent, under its SHA-256, with its images and tracked links.

Later edits of the files change nothing that was frozen. The same issue and settings give the same
bytes, and to freeze them again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from newsletter.audience import segments
from newsletter.audience.sql import insert_into
from newsletter.clock import Clock
from newsletter.compiled import CompiledIssue
from newsletter.drafting import issue_digest, load_issue
from newsletter.errors import Conflict, Where
from newsletter.rendering import MediaFile, compile_issue
from newsletter.store import Store
from newsletter.store.schema import frozen_issues, links, media
from newsletter.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Frozen:
    """`sha256` names `compiled`; `source_sha256` is of the issue's folder it was made from."""

    issue: str
    sha256: str
    source_sha256: str
    compiled: CompiledIssue
    media: tuple[MediaFile, ...]


def freeze(workspace: Workspace, store: Store, clock: Clock, slug: str) -> Frozen:
    """Compile the issue as it is now and keep it. Idempotent.

    Raises `NotFound` if there is no such issue, `BadInput` with file and line for what is wrong in
    it, `Conflict` if it was edited meanwhile.
    """
    frozen = compile_now(workspace, store, slug)
    with store.begin() as connection:
        keep(connection, frozen, clock.now())
    return frozen


def compile_now(workspace: Workspace, store: Store, slug: str) -> Frozen:
    """What `freeze` would keep; writes nothing. Raises as it does."""
    with store.read() as connection:
        known = [segment["name"] for segment in segments(connection)]
    issue = load_issue(workspace, slug)
    source = issue_digest(issue)
    rendered = compile_issue(workspace, issue, segments=known)
    if source != source_digest(workspace, slug):
        raise Conflict(
            "the issue was edited while it was being read",
            where=Where(issue.file),
            hint="Try again once it is saved.",
        )
    return Frozen(slug, rendered.compiled.sha256, source, rendered.compiled, rendered.media)


def source_digest(workspace: Workspace, slug: str) -> str:
    """SHA-256 of the issue's folder as it is now. Raises as `load_issue`."""
    return issue_digest(load_issue(workspace, slug))


def keep(connection: Connection, frozen: Frozen, now: datetime) -> None:
    """Store a frozen issue inside the caller's transaction."""
    row = insert_into(connection, frozen_issues).values(
        sha256=frozen.sha256,
        issue=frozen.issue,
        compiled=frozen.compiled.to_bytes(),
        source_sha256=frozen.source_sha256,
        created_at=now,
    )
    # Other files that give the same bytes: what is sent is what they say now.
    connection.execute(
        row.on_conflict_do_update(
            index_elements=["sha256"], set_={"source_sha256": frozen.source_sha256}
        )
    )
    for image in frozen.media:
        values = {
            "sha256": image.asset.sha256,
            "extension": image.asset.extension,
            "content_type": image.asset.content_type,
            "bytes": image.content,
            "created_at": now,
        }
        connection.execute(insert_into(connection, media).values(values).on_conflict_do_nothing())
    for link in frozen.compiled.links:
        values = {
            "link": link.link,
            "issue": frozen.issue,
            "position": link.position,
            "url": link.url,
        }
        connection.execute(insert_into(connection, links).values(values).on_conflict_do_nothing())
