"""A restored workspace on the command line: what it says, and with which exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from newsletter.clock import SystemClock
from newsletter.delivery import open_runtime, run_due
from newsletter.store import open_store
from newsletter.workspace import Workspace
from support.ledger import add_people, everybody, make_compiled, schedule_send
from support.mailboxes import TOKEN, running_mailbox
from support.site import ROOT, SETTINGS
from support.snapshots import Database

PEOPLE = 1100  # three batches
ENTRY = '\ntimeout = "1s"\nlookup_lag = "0s"\nin_flight = 1\n'


def on_a_terminal(workspace: Workspace, *arguments: str) -> tuple[int, bytes, str]:
    """Run a command whose standard error is a terminal: its exit code, output and what is shown."""
    ours, theirs = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "newsletter", *arguments],
        cwd=workspace.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=False,
        timeout=60,
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    return done.returncode, done.stdout, shown


@pytest.mark.slow
def test_a_restored_workspace_is_quarantined_reconciled_and_goes_on(
    cli: Callable[..., Any], make_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    import asyncio

    with running_mailbox(tmp_path / "mailbox") as mailbox:
        settings = SETTINGS.replace("http://127.0.0.1:8025", mailbox.url)
        workspace = make_workspace(settings=settings.replace("local-key", TOKEN) + ENTRY)
        store = open_store(workspace.settings.database.url, workspace.root)
        add_people(store, PEOPLE)
        schedule_send(store, make_compiled(), at=datetime.now(UTC))
        database = Database(store, tmp_path)
        dump = database.dump(store)
        runtime = open_runtime(workspace, store, SystemClock())
        runtime.progress = lambda _send: runtime.stop.set()
        asyncio.run(run_due(runtime))  # one batch
        put_back = database.put_back(store, dump)
        put_back.close()
        got = sum(mailbox.received("example.com").values())
        assert 0 < got < PEOPLE

        ran = cli("scheduler", "--until-idle", cwd=workspace)
        assert (ran.code, ran.out) == (1, "")
        assert "restored from an older state" in ran.err
        assert "newsletter ledger reconcile" in ran.err
        (told,) = cli("status", "--json", cwd=workspace).json
        assert told["state"] == "scheduled"
        assert told["reason"].startswith("quarantined: ")
        refused = cli("send", "milia", "--json", cwd=workspace)
        assert (refused.code, refused.out) == (1, "")
        assert "nothing is sent now" in refused.err

        mailbox.set_faults(lookup_error=1)
        code, out, shown = on_a_terminal(workspace, "ledger", "reconcile", "--json")
        assert (code, json.loads(out)["released"]) == (1, False)
        assert "milia.1: asking main" in shown
        assert shown.endswith("\r\x1b[K"), "the line is empty again"
        mailbox.set_faults()

        done = cli("ledger", "reconcile", "--json", cwd=workspace)
        assert done.code == 0, done.err
        assert "asking main" not in done.err  # no terminal
        assert done.json["quarantined"]
        assert done.json["released"]
        assert done.json["sends"] == [
            {"send": "milia.1", "found": got, "unsent": PEOPLE - got, "in_doubt": 0}
        ]
        again = cli("ledger", "reconcile", "--json", cwd=workspace)
        nothing = {"quarantined": False, "reason": "", "sends": [], "released": False}
        assert (again.code, again.json) == (0, nothing)
        ran = cli("scheduler", "--until-idle", cwd=workspace)
        assert ran.code == 0, ran.err
        assert cli("ledger", "verify", "milia.1", "--json", cwd=workspace).json["ok"]
        assert mailbox.received("example.com") == everybody(PEOPLE)
