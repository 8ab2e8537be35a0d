"""Notices work that other processes have made, and rings the bell.

On PostgreSQL a session of its own listens and costs nothing while it is quiet; it is opened anew
after a restart or fail-over, and whatever was missed meanwhile is looked for. On SQLite one number
in the file's header tells whether anybody has written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, Any

from newsletter.service.bell import Bell
from newsletter.store import Store
from newsletter.store.notifying import CHANNEL

if TYPE_CHECKING:
    import psycopg

_log = logging.getLogger(__name__)

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0
_LOOK_SECONDS = 1.0  # SQLite


async def listen(store: Store, name: str, bell: Bell, listening: asyncio.Event) -> None:
    """Ring the bell for what others have made, for as long as the task lives.

    `name` is what the session is called in PostgreSQL's `pg_stat_activity`; `listening` is set once
    the database answers and nothing that is told is missed.
    """
    if store.is_sqlite:
        await _watch_file(str(store.engine.url.database), bell, listening)
    else:
        await _listen(store, name, bell, listening)


async def _listen(store: Store, name: str, bell: Bell, listening: asyncio.Event) -> None:
    import psycopg

    from newsletter.store.postgresql import open_session

    wait = _FIRST_WAIT
    while True:
        try:
            session = await open_session(store.engine, name)
            try:
                await session.execute(f"LISTEN {CHANNEL}")
                listening.set()
                bell.ring()  # for what happened while nobody listened
                wait = _FIRST_WAIT
                await _until_broken(session, bell)
            finally:
                await session.close()
        except (psycopg.Error, OSError) as error:
            _log.warning("not told of new work until the database answers: %s", error)
        await asyncio.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT)


async def _until_broken(session: psycopg.AsyncConnection[Any], bell: Bell) -> None:
    """Pass on what comes; raises `psycopg.OperationalError` once the connection is lost.

    By the loop's own reader, as psycopg's `notifies()` wakes ten times a second.
    """
    loop, connection = asyncio.get_running_loop(), session.pgconn
    descriptor = connection.socket
    broken: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        try:
            connection.consume_input()
            while (told := connection.notifies()) is not None:
                bell.ring(told.extra.decode())
        except Exception as error:
            loop.remove_reader(descriptor)
            if not broken.done():
                broken.set_exception(error)

    loop.add_reader(descriptor, readable)
    readable()  # what came with the answer to LISTEN
    try:
        await broken
    finally:
        loop.remove_reader(descriptor)


async def _watch_file(path: str, bell: Bell, listening: asyncio.Event) -> None:
    """Ring whenever another connection has written (SQLite: PRAGMA data_version)."""
    with contextlib.closing(sqlite3.connect(path, timeout=0.1)) as connection:
        seen = None
        while True:
            with contextlib.suppress(sqlite3.OperationalError):  # locked for a moment
                version = connection.execute("PRAGMA data_version").fetchone()[0]
                listening.set()
                if version != seen:
                    seen = version
                    bell.ring()
            await asyncio.sleep(_LOOK_SECONDS)
