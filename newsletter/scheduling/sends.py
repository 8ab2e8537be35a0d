"""Schedules issues: checked, frozen and written down as one send, or nothing at all happens.

Who schedules an issue first is decided by a unique index. Recipients are counted here and chosen
only when the send starts; nothing here sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, case, func, insert, literal, select, update
from sqlalchemy.exc import IntegrityError

from newsletter.audience import segment_exists, segment_size
from newsletter.checks import Finding, blocks, check_issue
from newsletter.clock import Clock, isoformat
from newsletter.drafting import read_issue
from newsletter.errors import Conflict, DoesNotHold, NotFound
from newsletter.providers import provider_named
from newsletter.scheduling.freezing import Frozen, compile_now, keep, source_digest
from newsletter.scheduling.localtime import earliest
from newsletter.scheduling.localtime import local_time as to_local
from newsletter.store import Store, notify
from newsletter.store.schema import send_sources, sends
from newsletter.store.types import Instant
from newsletter.workspace import Workspace

_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A send that was written down; `recipients` counts those who would get it now."""

    send: str
    issue: str
    at: datetime
    segment: str
    recipients: int
    frozen: str
    findings: tuple[Finding, ...]
    starts_at: datetime | None = None  # of its first wave; None: it is not in local time

    def as_json(self) -> dict[str, Any]:
        """The contract's shape; `starts_at` is told of a send in local time."""
        waves = {} if self.starts_at is None else {"starts_at": isoformat(self.starts_at)}
        return {
            "send": self.send,
            "issue": self.issue,
            "state": "scheduled",
            "at": isoformat(self.at),
            "segment": self.segment,
            "recipients": self.recipients,
            "frozen": self.frozen,
            **waves,
        }


@dataclass(frozen=True, slots=True)
class NewSend:
    """What a send is made from. `edition` names the one that it belongs to.

    `starts_at` is given where `at` is meant in each recipient's own time zone: the moment at which
    the first zone on Earth gets there.
    """

    frozen: Frozen
    at: datetime
    segment: str
    provider: str
    edition: str | None = None
    starts_at: datetime | None = None


def schedule(
    workspace: Workspace,
    store: Store,
    clock: Clock,
    slug: str,
    *,
    at: datetime | None = None,
    segment: str | None = None,
    provider: str | None = None,
    offline: bool = False,
    local_time: bool = False,
) -> Scheduled:
    """Check, freeze and schedule an issue, for now without `at`.

    With `local_time` everybody gets it at the hour that `at` is in the site's zone, by their own.
    `segment` is instead of the issue's audience, `provider` instead of the first. Raises `NotFound`
    for an unknown issue, segment or provider, `Conflict` if it is scheduled or sent already,
    `DoesNotHold` with the findings that block, `BadInput` for what is wrong in the issue.
    """
    issue = read_issue(workspace, slug)
    named = provider_named(workspace, provider).name
    target = segment or issue.audience
    with store.read() as connection:
        require_segment(connection, target)
        refuse_second(connection, slug)
    source = source_digest(workspace, slug)
    findings = check_issue(
        workspace, store, clock, slug, offline=offline, segment=target, provider=named
    )
    refuse_blocked(slug, findings)
    frozen = compile_now(workspace, store, slug)
    if frozen.source_sha256 != source:
        raise Conflict(
            f"the issue {slug!r} was edited while it was being checked",
            hint="Try again once it is saved.",
        )
    try:
        with store.begin() as connection:
            now = clock.now()
            keep(connection, frozen, now)
            starts_at = first_wave(workspace, at or now) if local_time else None
            new = NewSend(frozen, at or now, target, named, starts_at=starts_at)
            _, name = add_send(connection, new, now)
            recipients = segment_size(connection, target, now)
    except IntegrityError as error:  # another process was first, at the same moment
        with store.read() as connection:
            refuse_second(connection, slug)
        raise Conflict(f"the issue {slug!r} was scheduled by somebody else meanwhile") from error
    return Scheduled(
        name, slug, at or now, target, recipients, frozen.sha256, tuple(findings), starts_at
    )


def first_wave(workspace: Workspace, at: datetime) -> datetime:
    """When a send in recipients' own zones starts: as the first zone on Earth gets to its hour."""
    return earliest(to_local(at, workspace.settings.site.zone))


def require_segment(connection: Connection, segment: str) -> None:
    """Raises `NotFound` for a segment that nobody was ever put in."""
    if not segment_exists(connection, segment):
        raise NotFound(
            f"there is no segment {segment!r}",
            hint="`newsletter audience segments` lists those there are.",
        )


def refuse_second(connection: Connection, slug: str) -> None:
    """Raises `Conflict` if the issue has a send that was not cancelled."""
    query = select(sends.c.send, sends.c.state, sends.c.at).where(
        sends.c.issue == slug, sends.c.state != "cancelled"
    )
    row = connection.execute(query).first()
    if row is None:
        return
    if row.state == "sent":
        raise Conflict(
            f"the issue {slug!r} was sent already, as {row.send}",
            hint="An issue goes out once. To send its text again, copy its folder to a new name.",
        )
    raise Conflict(
        f"the issue {slug!r} is {row.state} already, as {row.send} for {isoformat(row.at)}",
        hint=f"Move it with `newsletter reschedule {row.send} --at TIME`, or cancel it first.",
    )


def refuse_blocked(slug: str, findings: list[Finding]) -> None:
    """Raises `DoesNotHold` that lists the findings which block."""
    blocking = blocks(findings)
    if blocking:
        listed = "\n".join(f"  {spell_finding(finding)}" for finding in blocking)
        raise DoesNotHold(
            f"{slug} cannot be sent as it is:\n{listed}",
            hint=f"`newsletter check {slug}` shows everything that was found.",
        )


def spell_finding(finding: Finding) -> str:
    """One finding on one line."""
    place = finding.file if finding.line is None else f"{finding.file}:{finding.line}"
    hint = f" {finding.hint}" if finding.hint else ""
    return f"{place}: {finding.message} [{finding.rule}]{hint}"


def add_send(connection: Connection, new: NewSend, now: datetime) -> tuple[int, str]:
    """Write a send down inside the caller's transaction; returns its id and public name.

    The frozen issue is kept already. Raises `Conflict` if the issue has a send, `IntegrityError` if
    another process adds one at the same moment.
    """
    slug = new.frozen.issue
    refuse_second(connection, slug)
    earlier = select(func.count()).select_from(sends).where(sends.c.issue == slug)
    name = f"{slug}.{connection.execute(earlier).scalar_one() + 1}"
    statement = (
        insert(sends)
        .values(
            send=name,
            issue=slug,
            frozen=new.frozen.sha256,
            segment=new.segment,
            provider=new.provider,
            state="scheduled",
            at=new.at,
            edition=new.edition,
            starts_at=new.starts_at,
            local_time=new.starts_at is not None,
            created_at=now,
        )
        .returning(sends.c.id)
    )
    send_id: int = connection.execute(statement).scalar_one()
    rows = [{"send_id": send_id, "content": source} for source in new.frozen.compiled.sources]
    if rows:
        connection.execute(insert(send_sources), rows)
    notify(connection, "sends")
    return send_id, name


def reschedule(
    store: Store, clock: Clock, send: str, at: datetime, *, zone: ZoneInfo = _UTC
) -> None:
    """Move a send that has not started, also a paused or held one, to another time.

    One in recipients' own time zones goes at the hour that `at` is in `zone`, by theirs. Raises
    `NotFound` for an unknown send and `Conflict` for one that has started or is over.
    """
    first = literal(earliest(to_local(at, zone)), Instant())
    movable = sends.c.state.in_(("scheduled", "paused", "held")) & sends.c.filled_at.is_(None)
    with store.begin() as connection:
        moved = connection.execute(
            update(sends)
            .where(sends.c.send == send, movable)
            .values(
                state="scheduled",
                at=at,
                starts_at=case((sends.c.local_time, first), else_=None),
                reason="",
                not_before=None,
                released_at=clock.now(),
            )
        ).rowcount
        if moved:
            notify(connection, "sends")
            return
        state = connection.execute(
            select(sends.c.state).where(sends.c.send == send)
        ).scalar_one_or_none()
    if state is None:
        raise NotFound(f"there is no send {send!r}", hint="`newsletter status` lists them.")
    if state in {"sent", "cancelled"}:
        raise Conflict(f"the send {send} is {state}: it cannot be moved any more")
    raise Conflict(
        f"the send {send} has started: it cannot be moved any more",
        hint=f"`newsletter pause {send}` or `newsletter cancel {send}` stops it.",
    )
