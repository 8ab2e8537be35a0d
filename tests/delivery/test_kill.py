"""Workers killed (SIGKILL) at points spread over a send, and restarted until all is done.

What counts is the provider's own record: exactly one message for everybody who should get one.
A failed test's id holds its seed and repeats it: pytest 'tests/delivery/test_kill.py::…[sqlite-7]'.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import urllib.request
from collections import Counter
from contextlib import closing

import pytest

from newsletter.mailbox.faults import FAULTS
from support.killing import kill_and_restart
from support.mailboxes import running_mailbox
from support.site import ROOT, SETTINGS

QUICK_LOOK_UP = 'webhook_secret = "local-hook"\nlookup_lag = "{lag}"\ntimeout = "5s"\n'
FAILING = {
    "drop_before": 0.1,
    "drop_after": 0.1,
    "error_before": 0.05,
    "error_after": 0.05,
    "html": 0.03,
    "lookup_error": 0.1,
    "rate_limit": {"probability": 0.1, "seconds": 0},
}


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory):
    with running_mailbox(tmp_path_factory.mktemp("mailbox")) as running:
        yield running


class RunningPostmark:
    """The Postmark test server in a process of its own; it shows messages 300 ms late."""

    def __init__(self, folder):
        self.db = folder / "postmark.db"
        command = [sys.executable, "-m", "support.postmark_server", "--port", "0"]
        path = f"{ROOT / 'tests'}{os.pathsep}{ROOT}"
        self.process = subprocess.Popen(
            [*command, "--db", str(self.db), "--lag", "0.3", "--token", "local-key"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        )
        line = self.process.stdout.readline()
        self.url = re.search(r"http://[\d.]+:\d+", line)[0]

    def set_faults(self, **faults):
        document = {name: faults.get(name) for name in FAULTS} | {"seed": faults["seed"]}
        request = urllib.request.Request(
            f"{self.url}/faults", json.dumps(document).encode(), method="PUT"
        )
        urllib.request.urlopen(request, timeout=10).close()

    def received(self, domain):
        query = "SELECT recipient, count(*) FROM messages WHERE recipient LIKE ? GROUP BY recipient"
        with closing(sqlite3.connect(self.db)) as connection:
            return Counter(dict(connection.execute(query, (f"%@{domain}",))))


@pytest.fixture(scope="module")
def postmark(tmp_path_factory):
    running = RunningPostmark(tmp_path_factory.mktemp("postmark"))
    yield running
    running.process.terminate()
    running.process.wait(10)


def settings_for(url, lag):
    settings = SETTINGS.replace("http://127.0.0.1:8025", url)
    return settings.replace('webhook_secret = "local-hook"\n', QUICK_LOOK_UP.format(lag=lag))


def own_seed(seed, database_url):
    """Other seeds on PostgreSQL than on SQLite."""
    return seed if database_url.startswith("sqlite") else 1000 + seed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(22))
def test_killed_anywhere_over_the_mailbox_everybody_has_it_once(
    seed, make_workspace, database_url, mailbox, tmp_path
):
    kill_and_restart(
        own_seed(seed, database_url),
        make_workspace(settings=settings_for(mailbox.url, "300ms")),
        database_url,
        mailbox,
        tmp_path / "workers.log",
        faults=FAILING,
        refused={7: "refused", 1234: "inactive", 4321: "refused-too"},
        sometimes_without_keys=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_anywhere_over_postmark_everybody_has_it_once(
    seed, make_workspace, database_url, postmark, tmp_path
):
    settings = settings_for(postmark.url, "1500ms").replace('kind = "mailbox"', 'kind = "postmark"')
    kill_and_restart(
        own_seed(seed, database_url),
        make_workspace(settings=settings),
        database_url,
        postmark,
        tmp_path / "workers.log",
        faults={**FAILING, "drop_before": 0.05, "drop_after": 0.05, "html": 0.02},
        refused={7: "inactive-1", 1234: "inactive-2"},
        sometimes_without_keys=False,
    )
