"""The one leader on PostgreSQL: who holds an advisory lock, for as long as its session lives.

The server frees the lock when the session ends: at once for a process that died, within seconds for
a machine that vanished (keepalives), and for one that is stopped or hangs once it was silent for
`SILENCE` (from PostgreSQL 14 on). Whoever lost its session finds out before its next step.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from typing import Any

import psycopg
from sqlalchemy import Engine

from newsletter.store.postgresql import open_session

_log = logging.getLogger(__name__)

#: How long the server waits for a sign of life before it ends the leader's session, in seconds.
SILENCE = 20
_PATIENCE = 5.0  # for an answer
#: The lock is the database's own, so that two of them on one server do not meet.
_LOCK = int.from_bytes(hashlib.sha256(b"newsletter: clock").digest()[:8], signed=True)


class SessionLeader:
    """Leads every step or none. Never raises: while the database is away, nobody leads."""

    beat = 3.0

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._session: psycopg.AsyncConnection[Any] | None = None
        self._pid = 0  # the server's process that holds the lock; 0 while none does
        self._failed = False  # when last asked
        self._asking = asyncio.Lock()

    async def leads(self, name: str) -> bool:
        """Whether the lock is ours now, by the server's word; it is taken where it is free."""
        async with self._asking:
            try:
                async with asyncio.timeout(_PATIENCE):
                    leads = await self._ask()
            except (psycopg.Error, OSError) as error:  # a time-out is an OSError
                if self._pid or not self._failed:
                    what = "leads no more" if self._pid else "cannot lead"
                    _log.warning("%s: %s", what, str(error) or "no answer in time")
                self._failed = True
                await self._end()
                return False
            self._failed = False
            return leads

    async def step_down(self) -> None:
        """Free the lock, and end the session."""
        async with self._asking:
            if self._pid and self._session is not None:
                # The end of the session would free it too, but a moment after `step_down`.
                with contextlib.suppress(psycopg.Error, OSError):
                    async with asyncio.timeout(_PATIENCE):
                        await self._session.execute(f"SELECT pg_advisory_unlock({_LOCK})")
            await self._end()

    async def _ask(self) -> bool:
        if self._session is None:
            self._session = await open_session(self._engine, self._name)
            await self._session.execute(f"SET idle_session_timeout = '{SILENCE}s'")
        if self._pid:
            row = await self._one("SELECT pg_backend_pid()")
            if row == self._pid:
                return True
            # A pooler gave us another session: the lock is not this one's.
            raise psycopg.OperationalError("the session was changed for another")
        if not await self._one(f"SELECT pg_try_advisory_lock({_LOCK})"):
            return False
        self._pid = await self._one("SELECT pg_backend_pid()")
        _log.info("leads from now on: feeds and editions")
        return True

    async def _one(self, query: str) -> Any:
        assert self._session is not None
        row = await (await self._session.execute(query)).fetchone()
        assert row is not None
        return row[0]

    async def _end(self) -> None:
        session, self._session, self._pid = self._session, None, 0
        if session is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await session.close()
