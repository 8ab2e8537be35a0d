"""`status --watch` in a pipe and on a terminal, and what `status` tells of a send on its way."""

from __future__ import annotations

import json
import os
import re
import select as selecting
import signal
import subprocess
import sys
import time

import pytest

from newsletter.delivery import status
from newsletter.delivery.start import start_send
from newsletter.providers.base import Deferred, Rejected
from support.ledger import NOON, make_world
from support.site import ROOT


@pytest.fixture
def world(workspace, sqlite_store, clock):
    return make_world(workspace, sqlite_store, clock, 10)


def watching(world, *args, stdout=subprocess.PIPE):
    return subprocess.Popen(
        [sys.executable, "-m", "newsletter", "status", "--watch", *args],
        cwd=world.workspace.root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def start(world):
    start_send(world.runtime(), 1, lambda _name: world.provider)


def test_in_a_pipe_it_writes_plain_lines_until_the_send_is_over(world):
    start(world)
    process = watching(world, "milia.1")
    first = process.stdout.readline().decode()
    world.provider.refuse = {"reader3@example.com"}
    world.run()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    lines = [first, *out.decode().splitlines(keepends=True)]
    assert re.fullmatch(r"\d\d:\d\d:\d\d milia\.1 sending 0 of 10, 0/s\n", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d milia\.1 sent 10 of 10\n", lines[-1])
    assert all(line[:-1].isprintable() for line in lines)


def test_as_json_it_writes_an_object_a_line_and_ctrl_c_ends_it_with_130(world):
    start(world)
    process = watching(world, "--json")
    documents = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert [document["send"] for document in documents] == ["milia.1"] * 2
    assert documents[0]["counts"]["pending"] == 10
    assert documents[0]["providers"][0]["breaker"] == "closed"


def test_on_a_terminal_it_is_a_live_view_and_leaves_the_terminal_as_it_was(world):
    start(world)
    ours, theirs = os.openpty()
    process = watching(world, stdout=theirs)
    os.close(theirs)
    shown = b""
    until = time.monotonic() + 60
    while b"closed" not in shown and time.monotonic() < until:
        if selecting.select([ours], [], [], 1)[0]:
            shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    while selecting.select([ours], [], [], 0.2)[0]:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
    os.close(ours)
    assert b"milia.1" in shown
    assert b"0 of 10" in shown
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l"), "the cursor is shown again"


@pytest.mark.parametrize(
    ("args", "code", "out"), [(["nobody.1"], 3, ""), ([], 0, "no send goes on\n")]
)
def test_with_nothing_to_watch_it_ends(cli, workspace, args, code, out):
    ran = cli("status", "--watch", *args, cwd=workspace)
    assert (ran.code, ran.out[9:]) == (code, out)


def told(world, now=None):
    with world.store.read() as connection:
        return status(connection, world.workspace, "milia.1", now)


def test_the_rate_of_the_last_minute_and_when_it_will_end(world):
    start(world)
    assert told(world, NOON)["rate"] == 0
    assert told(world, NOON)["eta"] is None
    # Eight recipients have it, and then the provider is down.
    world.provider.settings = world.provider.settings.model_copy(update={"in_flight": 1})
    runtime = world.runtime()
    world.provider.during = lambda _p: len(world.provider.requests) == 2 and runtime.stop.set()
    world.run(stop=runtime.stop)
    world.clock.advance(seconds=4)
    here = told(world, world.clock.now())
    assert here["rate"] == 2.0
    assert here["eta"] == "2026-11-24T12:00:05Z"
    world.clock.advance(minutes=2)
    assert told(world, world.clock.now())["rate"] == 0
    world.provider.during = None
    world.run()
    assert told(world, world.clock.now())["rate"] is None


def test_what_went_wrong_is_counted_by_reason_without_the_addresses(world):
    accept = world.provider.accept

    def accept_some(prepared):
        answer = accept(prepared)
        outcomes = [
            Rejected(f"no mailbox {address}") if address < "reader3" else outcome
            for address, outcome in zip(prepared.recipients, answer.outcomes, strict=True)
        ]
        return type(answer)(tuple(outcomes))

    world.provider.accept = accept_some
    world.run()
    here = told(world)
    assert here["errors"] == [{"reason": "no mailbox …", "count": 3}]
    assert here["providers"] == [
        {
            "name": "main",
            "accepted": 7,
            "sending": 0,
            "in_doubt": 0,
            "breaker": "closed",
            "reason": "",
            "retry_at": None,
        }
    ]


def test_an_open_breaker_is_told_with_its_reason_and_when_it_is_tried(world):
    world.provider.settings = world.provider.settings.model_copy(update={"in_flight": 1})
    world.provider.faults = [lambda *_: Deferred("no connection")] * 5
    runtime = world.runtime()
    world.provider.during = lambda _p: len(world.provider.requests) == 5 and runtime.stop.set()
    world.run(stop=runtime.stop)
    (provider,) = told(world)["providers"]
    assert (provider["breaker"], provider["reason"]) == ("open", "no connection")
    assert provider["retry_at"] > "2026-11-24T12:00:15Z"
    (error,) = told(world)["errors"]
    assert error["reason"] == "no connection"
    world.clock.advance(seconds=1)
    (provider,) = told(world, world.clock.now())["providers"]
    assert provider["retry_at"] > "2026-11-24T12:00:15Z"

    tried = []
    world.provider.during = lambda _p: tried.append(told(world, world.clock.now())["providers"][0])
    world.provider.faults = [lambda *_: Deferred("no connection")]
    world.clock.advance(minutes=1)
    (provider,) = told(world, world.clock.now())["providers"]
    assert (provider["breaker"], provider["retry_at"]) == ("open", None), "a try is due"
    world.run()
    assert (tried[0]["breaker"], tried[0]["retry_at"]) == ("open", None), "a try is under way"
