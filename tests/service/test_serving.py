"""The service on SQLite while a send is under way for days, and while nothing happens."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from newsletter.clock import SystemClock
from newsletter.delivery import status
from newsletter.scheduling import schedule
from newsletter.service import Runtime, Ticker, serve, steps
from newsletter.store import Store
from newsletter.workspace import Workspace
from support.editions import WEEKLY
from support.ledger import add_people
from support.mailboxes import RunningMailbox, running_mailbox
from support.site import SETTINGS

SLOWEST = 60  # seconds; what is waited for comes in one or two on a machine that is not busy
ISSUE = '---\nsubject: "Hello"\npreheader: "A word."\n---\nHello there.\n'


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMailbox]:
    with running_mailbox(tmp_path_factory.mktemp("mailbox")) as running:
        yield running


@pytest.fixture
def paced(
    make_workspace: Callable[..., Workspace], sqlite_store: Store, mailbox: RunningMailbox
) -> Workspace:
    """A workspace with a send to five people that is due, two of them a day."""
    settings = SETTINGS.replace("http://127.0.0.1:8025", mailbox.url) + "daily_quota = 2\n"
    workspace = make_workspace(settings=settings)
    (workspace.issues / "hello").mkdir()
    (workspace.issues / "hello" / "issue.md").write_text(ISSUE)
    add_people(sqlite_store, 5)
    schedule(workspace, sqlite_store, SystemClock(), "hello", offline=True)
    return workspace


@asynccontextmanager
async def serving(runtime: Runtime, **options: Any) -> AsyncIterator[None]:
    """A service that is stopped in order at the end."""
    task = asyncio.create_task(serve(runtime, Ticker(AsyncIOScheduler(timezone=UTC)), **options))
    try:
        yield
    finally:
        runtime.stop.set()
        await task


async def accepted(store: Store, workspace: Workspace, count: int) -> None:
    """Wait until so many people of the send have got it."""
    for _ in range(SLOWEST * 10):
        with store.read() as connection:
            found = status(connection, workspace, "hello.1")
        if found["counts"].get("accepted") == count:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"not {count}, but {found['counts']}")


def test_a_service_is_ready_while_its_first_send_waits_for_a_new_day(
    paced: Workspace, sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    system.settimeout(SLOWEST)
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    system.bind("systemd")
    monkeypatch.setenv("NOTIFY_SOCKET", "systemd")

    async def go() -> None:
        async with serving(Runtime(paced, sqlite_store, SystemClock())):
            assert await asyncio.to_thread(system.recv, 100) == b"READY=1"
            await accepted(sqlite_store, paced, 2)
        assert system.recv(100) == b"STOPPING=1"

    with system:
        asyncio.run(go())


def test_edited_settings_hold_for_a_send_that_waits_for_a_new_day(
    paced: Workspace, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_LOOK_SECONDS", 0.2)
    path = paced.root / "newsletter.toml"

    async def go() -> None:
        async with serving(Runtime(paced, sqlite_store, SystemClock()), sends_only=True):
            await accepted(sqlite_store, paced, 2)
            path.write_text(path.read_text() + "[sitte]\n")  # wrong: the old ones go on
            await asyncio.sleep(1)
            await accepted(sqlite_store, paced, 2)
            text = path.read_text().replace("[sitte]\n", "")
            path.write_text(text.replace("daily_quota = 2", "daily_quota = 10"))
            await accepted(sqlite_store, paced, 5)

    asyncio.run(go())


def test_a_scheduler_with_an_edition_writes_nothing_while_nothing_happens(
    make_workspace: Callable[..., Workspace], sqlite_store: Store
) -> None:
    """Who renews a lease whenever the file has changed changes it by that."""
    month = datetime.now(UTC).month
    yearly = f"0 9 15 {(month + 5) % 12 + 1} *"  # half a year away
    workspace = make_workspace(WEEKLY.replace("0 9 * * thu", yearly))

    async def go() -> None:
        database = str(sqlite_store.engine.url.database)
        async with serving(Runtime(workspace, sqlite_store, SystemClock())):
            with closing(sqlite3.connect(database)) as connection:
                versions: list[Any] = []
                while len(versions) < 8 or len(set(versions[-8:])) > 1:
                    assert len(versions) < 60, "it goes on writing"
                    await asyncio.sleep(0.5)
                    versions += connection.execute("PRAGMA data_version").fetchall()

    asyncio.run(go())
