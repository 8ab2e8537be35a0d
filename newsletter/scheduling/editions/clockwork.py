"""What the clock does for the editions: plan, draft in time, look after edits, and send or skip.

Everything is decided from the database and the files, so that a restart at any instruction, or a
second scheduler, neither doubles nor loses a date. It talks to no provider.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import IntegrityError

from newsletter.audience import segment_exists
from newsletter.checks import Finding, blocks, check_issue
from newsletter.clock import Clock
from newsletter.drafting import choose_content, draft_issue, issue_path
from newsletter.errors import Conflict, NewsletterError, Unreachable
from newsletter.providers import provider_named
from newsletter.scheduling.approvals import is_approved, last_approved
from newsletter.scheduling.editions import notices, rows
from newsletter.scheduling.freezing import Frozen, compile_now, keep, source_digest
from newsletter.scheduling.localtime import check_editions
from newsletter.scheduling.sends import NewSend, add_send, first_wave, spell_finding
from newsletter.settings import Edition
from newsletter.store import Store
from newsletter.store.schema import editions
from newsletter.workspace import Workspace

_log = logging.getLogger(__name__)


def editions_tick(workspace: Workspace, store: Store, clock: Clock) -> None:
    """Do all that is due for the editions now. Safe to repeat and to run twice at once.

    Raises `BadInput` for a rhythm that cannot be read and `Unreachable` for the database. Whatever
    else goes wrong with one edition is told to the editors and does not touch another.
    """
    check_editions(workspace.settings)
    for edition in workspace.settings.editions:
        try:
            _Keeper(workspace, store, clock, edition).run()
        except Unreachable:
            raise
        except Exception as error:  # one edition's trouble, whatever it is, is not another's
            _log.exception("the edition %s cannot be looked after", edition.name)
            with store.begin() as connection:
                notices.tell_broken(connection, workspace, clock.now(), edition, str(error))


def next_moment(workspace: Workspace, store: Store, after: datetime) -> datetime | None:
    """The first moment after `after` at which the clock has something to do for an edition."""
    zone = workspace.settings.site.zone
    ahead = {edition.name: edition for edition in workspace.settings.editions}
    query = select(editions.c.name, editions.c.state, editions.c.send_at).where(
        editions.c.name.in_(list(ahead)),
        editions.c.state.in_(rows.OPEN),
        editions.c.send_id.is_(None),
    )
    with store.read() as connection:
        found = connection.execute(query).all()
    due = [(ahead[name], state, rows.begins(ahead[name], zone, at)) for name, state, at in found]
    moments = [at for _, _, at in due]
    moments += [at - edition.draft_before for edition, state, at in due if state == "waiting"]
    return min((moment for moment in moments if moment > after), default=None)


class _Keeper:
    """One edition at one moment."""

    def __init__(self, workspace: Workspace, store: Store, clock: Clock, edition: Edition) -> None:
        self.workspace = workspace
        self.store = store
        self.clock = clock
        self.edition = edition

    def run(self) -> None:
        now = self.clock.now()
        with self.store.begin() as connection:
            rows.plan(connection, self.edition, self.workspace.settings.site.zone, now)
            rows.follow_sends(connection, self.edition.name, now)
            found = rows.open_rows(connection, self.edition.name)
        due = [row for row in found if self.begins(row) <= now]
        for row in due[:-1]:
            self._skip(row, "a later date was due before the clock ran again")
        for row in found[max(len(due) - 1, 0) :]:
            if self.begins(row) <= now:
                self.at_its_hour(row)
            elif row.state != "waiting":
                self.look_after(row)
            elif self.begins(row) - self.edition.draft_before <= now:
                self.draft(row)

    def begins(self, row: Row[Any]) -> datetime:
        return rows.begins(self.edition, self.workspace.settings.site.zone, row.send_at)

    # --- ahead of its hour ----------------------------------------------------------------------

    def draft(self, row: Row[Any]) -> None:
        """Make the draft of a date: the row is claimed first, then the file is written."""
        try:
            row, skipped = self._write(row)
            if skipped:
                self._skip(row, skipped)
                return
            self._present(row)
        except Unreachable:
            raise
        except (NewsletterError, OSError) as error:
            with self.store.begin() as connection:
                now = self.clock.now()
                rows.note(connection, row, str(error), now)
                notices.tell_failing(connection, self.workspace, now, row, str(error))

    def _write(self, row: Row[Any]) -> tuple[Row[Any], str]:
        """The claimed row, and why the date is to be skipped instead, if it is."""
        slug = row.issue or self._slug(row)
        path = issue_path(self.workspace, slug)
        if not row.issue:
            with self.store.begin() as connection:
                there = path.exists()
                rows.claim(connection, row, slug, drafted_here=not there, now=self.clock.now())
                row = rows.again(connection, row)
        if path.exists():
            # It is ours from a try that ended half way, or an editor's own: either way it stands.
            return row, ""
        edition = self.edition
        chosen = choose_content(
            self.workspace,
            self.store,
            self.clock,
            excerpts=edition.excerpts,
            tips=edition.tips,
            topics=edition.topics,
            repeat_after=edition.repeat_after,
        )
        new = len(chosen.unsent)
        if new < edition.min_new or not (chosen.articles or chosen.tips):
            items = "item" if new == 1 else "items"
            return row, f"there is too little new content: {new} {items} of {edition.min_new}"
        try:
            draft_issue(
                self.workspace,
                self.store,
                self.clock,
                slug,
                chosen=chosen,
                template=edition.template,
                audience=edition.audience,
            )
        except Conflict:
            _log.info("%s was written by another scheduler meanwhile", slug)
        return row, ""

    def _slug(self, row: Row[Any]) -> str:
        """`<edition>-<date>`, with the hour where the edition comes out again on that day."""
        day, _, hour = row.date.partition("T")
        with self.store.read() as connection:
            taken = connection.execute(
                select(editions.c.date).where(
                    editions.c.name == row.name,
                    editions.c.date != row.date,
                    editions.c.issue == f"{row.name}-{day}",
                )
            ).first()
        return f"{row.name}-{day}" + (f"-{hour.replace(':', '')}" if taken else "")

    def _present(self, row: Row[Any]) -> None:
        """Check the draft and show it to the editors."""
        frozen, findings, reason = self.judge(row.issue)
        page = notices.page_for_editors(self.workspace, row.issue) if frozen else None
        now = self.clock.now()
        with self.store.begin() as connection:
            approved = frozen and is_approved(connection, row.issue, frozen.sha256)
            moved = rows.move(
                connection,
                row,
                "held" if reason else "approved" if approved else "drafted",
                now,
                reason=reason,
                source_sha256=frozen.source_sha256 if frozen else "",
            )
            if not moved:
                return
            self._keep(connection, row, frozen, now)
            notices.tell_drafted(
                connection,
                self.workspace,
                now,
                row,
                self.edition,
                findings=findings,
                reason=reason,
                issue_html=page,
            )

    def judge(self, slug: str) -> tuple[Frozen | None, list[Finding], str]:
        """The issue compiled and checked as it is now; `reason` says why it cannot go out."""
        offline = not self.workspace.settings.checks.network_blocks
        try:
            frozen = compile_now(self.workspace, self.store, slug)
            findings = check_issue(self.workspace, self.store, self.clock, slug, offline=offline)
            if frozen.source_sha256 != source_digest(self.workspace, slug):
                return None, [], "it is being edited"
        except Unreachable:
            raise
        except (NewsletterError, OSError) as error:
            return None, [], str(error)
        blocking = blocks(findings)
        if blocking:
            return frozen, findings, "a check blocks: " + spell_finding(blocking[0])
        with self.store.read() as connection:
            if not segment_exists(connection, frozen.compiled.audience):
                return frozen, findings, f"there is no segment {frozen.compiled.audience!r}"
        return frozen, findings, ""

    def look_after(self, row: Row[Any]) -> None:
        """See whether the draft was edited: its checks and its approval are then others."""
        try:
            digest = source_digest(self.workspace, row.issue)
        except (NewsletterError, OSError):
            digest = ""
        if digest == row.source_sha256 != "":
            return
        frozen, _, reason = self.judge(row.issue)
        source = frozen.source_sha256 if frozen else ""
        now = self.clock.now()
        with self.store.begin() as connection:
            approved = frozen and is_approved(connection, row.issue, frozen.sha256)
            state = "held" if reason else "approved" if approved else "drafted"
            if (state, reason, source) == (row.state, row.reason, row.source_sha256):
                return
            values = {"reason": reason, "source_sha256": source}
            if not rows.move(connection, row, state, now, **values):
                return
            self._keep(connection, row, frozen, now)
            if row.state == "approved" != state:
                before = last_approved(connection, row.issue)
                notices.tell_voided(connection, self.workspace, now, row, before)

    def _keep(
        self, connection: Connection, row: Row[Any], frozen: Frozen | None, now: datetime
    ) -> None:
        if frozen is not None:
            keep(connection, frozen, now)  # its images are then where the notice links to
            rows.keep_items(connection, row, frozen.compiled.sources)

    # --- at its hour ----------------------------------------------------------------------------

    def at_its_hour(self, row: Row[Any]) -> None:
        """Send the date's issue or skip the date; an hour is made up for within the grace."""
        grace = self.workspace.settings.delivery.grace
        if self.clock.now() - row.send_at > grace:
            self._skip(row, "its hour was missed by more than delivery.grace")
            return
        if row.state == "waiting":
            if self.edition.approval == "required":
                self._skip(row, row.reason or "no draft was made before its hour")
                return
            self.draft(row)
            with self.store.read() as connection:
                row = rows.again(connection, row)
            if row.state == "waiting":
                self._skip(row, row.reason)
                return
        if row.state not in rows.OPEN:
            return
        frozen, _, reason = self.judge(row.issue)
        if frozen is None or reason:
            self._skip(row, reason)
            return
        self._send(row, frozen)

    def _send(self, row: Row[Any], frozen: Frozen) -> None:
        now = self.clock.now()
        needed = self.edition.approval == "required" or not row.drafted_here
        try:
            with self.store.begin() as connection:
                if needed and not is_approved(connection, row.issue, frozen.sha256):
                    known = last_approved(connection, row.issue)
                    self._skip_in(
                        connection,
                        row,
                        "it changed after it was approved" if known else "nobody approved it",
                    )
                    return
                keep(connection, frozen, now)
                provider = provider_named(self.workspace).name
                local = self.edition.local_time
                new = NewSend(
                    frozen,
                    row.send_at,
                    frozen.compiled.audience,
                    provider,
                    row.name,
                    starts_at=first_wave(self.workspace, row.send_at) if local else None,
                )
                send_id, name = add_send(connection, new, now)
                rows.keep_items(connection, row, frozen.compiled.sources)
                if not rows.move(connection, row, "scheduled", now, send_id=send_id, reason=""):
                    raise Conflict("the edition was changed meanwhile")
        except (Conflict, IntegrityError):  # by hand, or by another scheduler: the next tick sees
            _log.info("%s was scheduled meanwhile", row.issue)
            return
        _log.info("%s of %s is scheduled as %s", row.name, row.date, name)

    def _skip(self, row: Row[Any], reason: str) -> None:
        with self.store.begin() as connection:
            self._skip_in(connection, row, reason)

    def _skip_in(self, connection: Connection, row: Row[Any], reason: str) -> None:
        now = self.clock.now()
        written = bool(row.issue) and issue_path(self.workspace, row.issue).exists()
        issue = row.issue if written else ""
        if rows.move(connection, row, "skipped", now, reason=reason, issue=issue):
            notices.tell_skipped(connection, self.workspace, now, row, reason, draft=issue)
