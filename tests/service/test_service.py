"""The service: what is due is done, failures are told and stay apart, and a stop ends in order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from newsletter.clock import SystemClock
from newsletter.delivery import status
from newsletter.errors import Unreachable
from newsletter.scheduling import schedule
from newsletter.service import steps, tick
from newsletter.service.leadership import LIFETIME, lead, step_down
from newsletter.store import Store, open_store
from newsletter.workspace import Workspace
from support.editions import WEEKLY, Newsroom, add_articles
from support.ledger import add_people
from support.mailboxes import RunningMailbox, running_mailbox
from support.site import ROOT, SETTINGS

ISSUE = '---\nsubject: "Hello"\npreheader: "A word."\n---\nHello there.\n'


def write_issue(workspace: Workspace, slug: str = "hello") -> None:
    (workspace.issues / slug).mkdir()
    (workspace.issues / slug / "issue.md").write_text(ISSUE)


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMailbox]:
    with running_mailbox(tmp_path_factory.mktemp("mailbox")) as running:
        yield running


@pytest.fixture
def live(make_workspace: Callable[..., Workspace], mailbox: RunningMailbox) -> Workspace:
    """A workspace with an issue and five people, whose provider really runs."""
    settings = SETTINGS.replace("http://127.0.0.1:8025", mailbox.url)
    workspace = make_workspace(settings=settings)
    write_issue(workspace)
    store = open_store(workspace.settings.database.url, workspace.root)
    add_people(store, 5)
    store.close()
    return workspace


def state_of(workspace: Workspace, send: str = "hello.1") -> dict[str, Any]:
    store = open_store(workspace.settings.database.url, workspace.root)
    with store.read() as connection:
        found = status(connection, workspace, send)
    store.close()
    return found


@contextmanager
def running(workspace: Workspace, *command: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=workspace.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


# --- the commands ---------------------------------------------------------------------------------


def test_until_idle_ends_at_once_with_nothing_to_do(
    workspace: Workspace, cli: Callable[..., Any]
) -> None:
    ran = cli("scheduler", "--until-idle", cwd=workspace)
    assert (ran.code, ran.out) == (0, "")


def test_until_idle_waits_for_a_send_that_is_due_soon_but_not_for_a_later_one(
    live: Workspace, cli: Callable[..., Any]
) -> None:
    write_issue(live, "later")
    soon, later = (
        (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")
        for seconds in (6, 3600)
    )
    assert cli("schedule", "hello", "--at", soon, "--json", cwd=live).code == 0
    assert cli("schedule", "later", "--at", later, "--json", cwd=live).code == 0
    done = subprocess.run(
        [sys.executable, str(ROOT / "scheduler.py"), "--until-idle"],
        cwd=live.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stderr, "no progress where there is no terminal"
    hello = state_of(live)
    assert (hello["state"], hello["counts"]["accepted"]) == ("sent", 5)
    assert hello["started_at"] >= hello["at"]
    assert state_of(live, "later.1")["state"] == "scheduled"


def test_until_idle_tells_of_a_held_send_by_its_exit_code_once(
    live: Workspace, cli: Callable[..., Any]
) -> None:
    text = (live.root / "newsletter.toml").read_text().replace('"local-key"', '"wrong"')
    (live.root / "newsletter.toml").write_text(text)
    assert cli("send", "hello", cwd=live).code == 0
    ran = cli("scheduler", "--until-idle", cwd=live)
    assert ran.code == 1
    assert "hello.1" in ran.err
    assert state_of(live)["counts"]["pending"] == 5
    assert cli("scheduler", "--until-idle", cwd=live).code == 0, "a held send is idle"


@pytest.mark.slow
def test_a_running_scheduler_sends_on_time_what_another_process_schedules_and_stops_in_order(
    live: Workspace,
) -> None:
    with running(live, "-m", "newsletter", "scheduler") as process:
        store = open_store(live.settings.database.url, live.root)
        time.sleep(3)
        at = datetime.now(UTC) + timedelta(seconds=3)
        schedule(live, store, SystemClock(), "hello", at=at, offline=True)
        store.close()
        wait_for(lambda: state_of(live)["state"] == "sent")
        late = datetime.fromisoformat(state_of(live)["started_at"]) - at
        assert late < timedelta(seconds=5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_ctrl_c_ends_it_with_130(workspace: Workspace) -> None:
    with running(workspace, "-m", "newsletter", "worker") as process:
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_a_rhythm_that_cannot_be_read_stops_the_command(
    make_workspace: Callable[..., Workspace], cli: Callable[..., Any]
) -> None:
    workspace = make_workspace(WEEKLY.replace("0 9 * * thu", "every thursday"))
    for command in ("scheduler", "worker", "editions"):
        ran = cli(command, cwd=workspace)
        assert ran.code == 2
        assert "editions.weekly.cron" in ran.err


# --- one round ------------------------------------------------------------------------------------


@pytest.fixture
def room(make_workspace: Callable[..., Workspace], sqlite_store: Store, clock: Any) -> Newsroom:
    workspace = make_workspace(WEEKLY)
    add_articles(workspace, 6)
    return Newsroom(workspace, sqlite_store, clock)


def test_a_failing_step_is_told_once_and_stops_no_other(
    room: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_runtime: Any) -> None:
        raise ValueError("the disk is on fire")

    monkeypatch.setattr(steps, "editions", broken)
    write_issue(room.workspace)
    schedule(room.workspace, room.store, room.clock, "hello", offline=True)
    for _ in range(3):
        room.tick()
    assert [slug for slug, _ in room.sent] == ["hello"]
    assert room.notices == ["The scheduler meets an error (broken)"]
    room.clock.advance(days=1)
    room.tick()
    assert len(room.notices) == 2, "once a day while it lasts"


def test_a_database_out_of_reach_is_raised_as_such(
    room: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(_runtime: Any) -> None:
        raise Unreachable("the database does not answer")

    monkeypatch.setattr(steps, "feeds", unreachable)
    with pytest.raises(Unreachable):
        room.tick()


def test_one_service_leads_until_it_steps_down_vanishes_or_its_lease_runs_out(
    room: Newsroom,
) -> None:
    first, second = (room.runtime(gone=lambda _holder: False) for _ in range(2))
    assert lead(first, "editions")
    assert not lead(second, "editions")
    assert lead(second, "feeds"), "each lease is led on its own"
    room.clock.advance(seconds=LIFETIME.total_seconds() - 1)
    assert lead(first, "editions"), "renewed"
    room.clock.advance(seconds=2)
    assert not lead(second, "editions")
    room.clock.advance(seconds=LIFETIME.total_seconds())
    assert lead(second, "editions")
    assert not lead(first, "editions")
    step_down(second)
    assert lead(first, "editions")
    third = room.runtime(gone=lambda holder: holder == first.holder)
    assert lead(third, "editions"), "it is known to have ended"


def test_edited_settings_are_taken_over_and_wrong_ones_are_told(room: Newsroom) -> None:
    runtime = room.runtime()
    path = Path(room.workspace.root / "newsletter.toml")
    asyncio.run(tick(runtime))
    path.write_text(path.read_text().replace('name = "Glow Letter"', 'name = "Glow"'))
    asyncio.run(tick(runtime))
    assert runtime.workspace.settings.site.name == "Glow"
    path.write_text(path.read_text() + "\n[sitte]\n")
    for _ in range(2):
        asyncio.run(tick(runtime))
    assert runtime.workspace.settings.site.name == "Glow"
    assert sum("newsletter.toml is wrong" in subject for subject in room.notices) == 1


def test_a_feed_that_fails_is_told_once_a_day_and_keeps_nothing_back(
    make_workspace: Callable[..., Workspace], sqlite_store: Store, clock: Any
) -> None:
    feed = '[[feeds]]\nurl = "http://127.0.0.1:9/feed.xml"\nevery = "1h"\n'
    room = Newsroom(make_workspace(feed), sqlite_store, clock)
    write_issue(room.workspace)
    schedule(room.workspace, room.store, room.clock, "hello", offline=True)
    for _ in range(3):
        room.tick()
        room.clock.advance(hours=2)
    assert [slug for slug, _ in room.sent] == ["hello"]
    assert room.notices == ["A feed cannot be taken in"]
