"""Sends what is in the outbox: each row is claimed, committed and only then requested.

An unknown outcome is settled by a repeat under its key or by look-up; where neither is possible the
message is given up and not sent again on a guess.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, case, select, update

from newsletter.audience import comparison_key
from newsletter.clock import Clock
from newsletter.errors import NewsletterError
from newsletter.outbox.message import build
from newsletter.outbox.queue import abandoned_after
from newsletter.outbox.webhook import post
from newsletter.providers import provider_named
from newsletter.providers.base import (
    Accepted,
    Answered,
    Batch,
    Deferred,
    Denied,
    Outcome,
    Prepared,
    Provider,
    Rejected,
    Unknown,
    lag_of,
)
from newsletter.providers.transport import HttpxTransport, Transport
from newsletter.store import Store
from newsletter.store.schema import outbox
from newsletter.workspace import Workspace

_log = logging.getLogger(__name__)

MOST_TRIES = 20  # some eleven hours
_FIRST_WAIT = timedelta(seconds=5)
_LONGEST_WAIT = timedelta(hours=1)
_AT_ONCE = 200
_MACHINE = {  # state → states that a guarded UPDATE may lead to
    "pending": {"sending", "failed"},
    "sending": {"accepted", "pending", "failed", "in_doubt"},
    "in_doubt": {"accepted", "pending", "failed", "in_doubt"},
}


def wait_after(tries: int) -> timedelta:
    """The pause after the n-th try in a row that led to nothing."""
    doubled: int = 2 ** min(max(tries, 1) - 1, 20)
    return min(_FIRST_WAIT * doubled, _LONGEST_WAIT)


async def flush(
    workspace: Workspace,
    store: Store,
    clock: Clock,
    open_provider: Callable[[str], Provider],
    transport: Transport | None = None,
) -> int:
    """Send and settle everything due; returns how many rows were accepted.

    `open_provider` takes a provider's name, and mail goes through the first of the settings.
    Webhooks go over `transport`, or one made for the call. Any number of processes may flush.
    Raises `BadInput` or `NotFound` if the provider cannot be opened; webhooks have left by then.
    """
    return await _Flush(workspace, store, clock, open_provider, transport).run()


class _Flush:
    def __init__(
        self,
        workspace: Workspace,
        store: Store,
        clock: Clock,
        open_provider: Callable[[str], Provider],
        transport: Transport | None,
    ) -> None:
        self.workspace = workspace
        self.store = store
        self.clock = clock
        self.open_provider = open_provider
        self.transport = transport

    async def run(self) -> int:
        self._doubt_the_abandoned()
        rows = self._due()
        accepted = await self._webhooks([row for row in rows if row.kind == "webhook"])
        for row in rows:
            if row.kind == "webhook":
                continue
            state = await (self._settle(row) if row.state == "in_doubt" else self._send(row))
            accepted += state == "accepted"
            if state in {"pending", "in_doubt"}:
                break  # the provider is in trouble: the others wait for the next call
        return accepted

    # --- rows -----------------------------------------------------------------------------------

    def _doubt_the_abandoned(self) -> None:
        """Whose process vanished during a request: its outcome is unknown."""
        now = self.clock.now()
        begun = now - abandoned_after(self.workspace)
        abandoned = (outbox.c.state == "sending") & (outbox.c.attempted_at <= begun)
        with self.store.read() as connection:
            if connection.execute(select(outbox.c.id).where(abandoned).limit(1)).first() is None:
                return
        with self.store.begin() as connection:
            connection.execute(
                update(outbox)
                .where(abandoned)
                .values(
                    # a webhook's receiver knows a cause that it gets twice
                    state=case((outbox.c.kind == "webhook", "pending"), else_="in_doubt"),
                    not_before=now,
                    reason="the process ended meanwhile",
                )
            )

    def _due(self) -> list[Row[Any]]:
        query = (
            select(outbox)
            .where(
                outbox.c.state.in_(("pending", "in_doubt")),
                outbox.c.not_before <= self.clock.now(),
            )
            .order_by(outbox.c.not_before, outbox.c.id)
            .limit(_AT_ONCE)
        )
        with self.store.read() as connection:
            return list(connection.execute(query))

    def _move(self, row: Row[Any], source: str, state: str, **values: Any) -> bool:
        """One guarded UPDATE; false where another process was there first."""
        assert state in _MACHINE[source], f"{source} does not become {state}"
        now = self.clock.now()
        final = state in {"accepted", "failed"}
        if final and row.kind == "confirmation":
            values |= {"html": "", "text": ""}  # its link is the person's alone
        guard = [outbox.c.id == row.id, outbox.c.state == source]
        if source != "sending":
            guard.append(outbox.c.not_before == row.not_before)
        statement = update(outbox).where(*guard).values(state=state, updated_at=now, **values)
        with self.store.begin() as connection:
            moved = connection.execute(statement).rowcount == 1
        if moved and state == "failed":
            _log.error("%s %r was not sent: %s", row.kind, row.cause, values["reason"])
        return moved

    # --- mail -----------------------------------------------------------------------------------

    def _prepare(self, row: Row[Any], provider: Provider, key: str) -> Prepared:
        message = build(self.workspace, row, key)
        return provider.prepare(Batch(key=key, messages=(message,), kind="transactional"))

    async def _send(self, row: Row[Any]) -> str:
        provider = self.open_provider(provider_named(self.workspace).name)
        key = _key(self.workspace, row)
        prepared = self._prepare(row, provider, key)
        claimed = self._move(
            row,
            "pending",
            "sending",
            attempt=key,
            provider=provider.settings.name,
            body_sha256=prepared.sha256,
            attempted_at=self.clock.now(),
            attempts=row.attempts + 1,
        )
        if not claimed:
            return "taken"
        return self._record(row, "sending", await _request(provider, prepared))

    async def _settle(self, row: Row[Any]) -> str:
        """Learn what an earlier request led to. Only its own answer or a look-up tells."""
        try:
            provider = self.open_provider(row.provider)
        except NewsletterError as error:
            return self._later(row, "in_doubt", "in_doubt", str(error))
        now = self.clock.now()
        patience = now + wait_after(row.attempts + 1) + 2 * provider.settings.timeout
        if not self._move(
            row, "in_doubt", "in_doubt", not_before=patience, attempts=row.attempts + 1
        ):
            return "taken"
        row = self._again(row)
        life = provider.capabilities.idempotency
        if life is not None and now + provider.settings.timeout < row.attempted_at + life:
            prepared = self._prepare(row, provider, row.attempt)
            if prepared.sha256 == row.body_sha256:
                outcome = await _request(provider, prepared)
                if isinstance(outcome, Deferred | Denied):  # that speaks of the repeat alone
                    outcome = Unknown(outcome.reason)
                return self._record(row, "in_doubt", outcome)
        if provider.capabilities.lookup:
            return await self._look_up(row, provider)
        return self._fail(row, "in_doubt", "its outcome is unknown and cannot be looked up")

    def _again(self, row: Row[Any]) -> Row[Any]:
        with self.store.read() as connection:
            return connection.execute(select(outbox).where(outbox.c.id == row.id)).one()

    async def _look_up(self, row: Row[Any], provider: Provider) -> str:
        asked_at = self.clock.now()
        found = await provider.find(row.attempt, since=row.attempted_at)
        if found.whole or comparison_key(row.to_email) in map(comparison_key, found.messages):
            return self._accept(row, "in_doubt")
        proven_at = row.attempted_at + provider.settings.timeout + lag_of(provider)
        if found.conclusive and asked_at >= proven_at:
            return self._later(row, "in_doubt", "pending", "a look-up shows it was not accepted")
        return self._later(row, "in_doubt", "in_doubt", found.reason or row.reason)

    def _record(self, row: Row[Any], source: str, outcome: Outcome) -> str:
        match outcome:
            case Answered((Accepted(),)):
                return self._accept(row, source)
            case Answered((Rejected(reason),)):
                return self._fail(row, source, reason)
            case Answered((Deferred(reason, retry_after),)) | Deferred(reason, retry_after):
                return self._later(row, source, "pending", reason, retry_after)
            case Denied(reason):  # the message is not lost for credentials that are put right
                return self._later(row, source, "pending", reason)
            case Unknown(reason):
                return self._later(row, source, "in_doubt", reason)
        return self._later(row, source, "in_doubt", "the answer is not for one message")

    def _accept(self, row: Row[Any], source: str) -> str:
        self._move(row, source, "accepted", reason="")
        _log.info("%s %r was accepted", row.kind, row.cause)
        return "accepted"

    def _fail(self, row: Row[Any], source: str, reason: str) -> str:
        self._move(row, source, "failed", reason=reason)
        return "failed"

    def _later(
        self,
        row: Row[Any],
        source: str,
        state: str,
        reason: str,
        at_least: timedelta | None = None,
    ) -> str:
        tries = row.attempts + (source != "in_doubt")
        if tries >= MOST_TRIES:
            return self._fail(row, source, f"given up after {tries} tries: {reason}")
        wait = max(wait_after(tries), at_least or timedelta(0))
        self._move(row, source, state, reason=reason, not_before=self.clock.now() + wait)
        _log.warning("%s %r is tried again later: %s", row.kind, row.cause, reason)
        return state

    # --- the editors' webhook -------------------------------------------------------------------

    async def _webhooks(self, rows: list[Row[Any]]) -> int:
        if not rows:
            return 0
        transport = self.transport or HttpxTransport()
        try:
            return sum([await self._webhook(row, transport) for row in rows])
        finally:
            if self.transport is None:
                await transport.close()

    async def _webhook(self, row: Row[Any], transport: Transport) -> bool:
        """Post one; a receiver that may have got it gets it again, with the same cause."""
        url = self.workspace.settings.editors.webhook
        if not url:
            self._move(row, "pending", "failed", reason="editors.webhook is not set any more")
            return False
        tries = row.attempts + 1
        now = self.clock.now()
        if not self._move(row, "pending", "sending", attempted_at=now, attempts=tries):
            return False
        problem = await post(transport, url, row)
        if problem is None:
            return self._accept(row, "sending") == "accepted"
        self._later(row, "sending", "pending", problem)
        return False


def _key(workspace: Workspace, row: Row[Any]) -> str:
    """The key of the row's next request: no other database of this provider has it."""
    parts = (workspace.key.decode(), row.id, row.created_at.isoformat(), row.attempts + 1)
    digest = hashlib.sha256("\0".join(map(str, ("outbox", *parts))).encode()).hexdigest()
    return f"outbox-{digest[:32]}"


async def _request(provider: Provider, prepared: Prepared) -> Outcome:
    try:
        return await provider.send(prepared)
    except Exception as error:  # whatever a provider's module does, the request may have left
        _log.exception("the provider %s failed inside", provider.settings.name)
        return Unknown(f"the provider's module failed: {type(error).__name__}")
