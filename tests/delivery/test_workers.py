"""Several real workers on one database, over a real mailbox."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from functools import partial

import pytest
from sqlalchemy import insert, select

from newsletter.clock import SystemClock
from newsletter.delivery import export_rows, open_runtime, run_due, verify
from newsletter.store import open_store
from newsletter.store.schema import attempts, subscribers
from support.crashing import ended, in_process, run_engine
from support.ledger import NOON, make_compiled, schedule_send
from support.mailboxes import running_mailbox
from support.site import ROOT, SETTINGS


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory):
    with running_mailbox(tmp_path_factory.mktemp("mailbox")) as running:
        yield running


def add_people_of(store, domain, count):
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


@pytest.mark.slow
def test_two_workers_share_a_send_and_nobody_gets_it_twice(
    make_workspace, database_url, mailbox, tmp_path
):
    workspace = make_workspace(settings=SETTINGS.replace("http://127.0.0.1:8025", mailbox.url))
    store = open_store(database_url, workspace.root)
    domain = f"{tmp_path.name.replace('_', '-')}.example"
    add_people_of(store, domain, 6000)
    schedule_send(store, make_compiled(), at=datetime.now(UTC))
    mailbox.set_faults(latency={"probability": 1, "seconds": 0.05}, drop_after=0.2, seed=3)
    log = tmp_path / "workers.log"
    workers = [
        in_process(partial(run_engine, workspace, database_url, seed), log) for seed in (1, 2)
    ]
    assert [ended(worker, within=60) for worker in workers] == [0, 0], log.read_text()[-3000:]
    assert mailbox.received(domain) == Counter(f"reader{n}@{domain}" for n in range(6000))
    assert all(row["state"] == "accepted" for row in export_rows(store, "milia.1"))
    assert verify(store, "milia.1")["violations"] == []
    with store.read() as connection:
        tries = connection.execute(select(attempts.c.id)).all()
    assert len(tries) == 12, "each batch was attempted once, by one of them"
    store.close()


@pytest.mark.slow
def test_a_mailbox_without_keys_is_asked_and_never_given_a_request_again(make_workspace, tmp_path):
    with running_mailbox(tmp_path / "mailbox", "--no-idempotency") as keyless:
        settings = SETTINGS.replace("http://127.0.0.1:8025", keyless.url)
        entry = 'idempotency = false\nlookup_lag = "100ms"\n'
        workspace = make_workspace(settings=settings + entry)
        store = open_store(workspace.settings.database.url, workspace.root)
        add_people_of(store, "keyless.example", 20)
        schedule_send(store, make_compiled(), at=datetime.now(UTC))
        keyless.set_faults(drop_after={"times": 1})
        asyncio.run(run_due(open_runtime(workspace, store, SystemClock())))
        got = keyless.received("keyless.example")
        assert got == Counter(f"reader{n}@keyless.example" for n in range(20))
        assert verify(store, "milia.1")["violations"] == []
        store.close()


@pytest.mark.slow
def test_the_scheduler_itself_killed_and_started_again_sends_to_everybody_once(
    make_workspace, database_url, mailbox, tmp_path, cli
):
    settings = SETTINGS.replace("http://127.0.0.1:8025", mailbox.url)
    workspace = make_workspace(f'[database]\nurl = "{database_url}"\n', settings=settings)
    store = open_store(database_url, workspace.root)
    domain = f"scheduler-{database_url[:6]}.example"
    add_people_of(store, domain, 5000)
    schedule_send(store, make_compiled(), at=datetime.now(UTC))
    mailbox.set_faults(
        seed=5,
        latency={"probability": 1, "seconds": 0.2},
        drop_before=0.1,
        drop_after=0.1,
        error_after=0.1,
        rate_limit={"probability": 0.1, "seconds": 0},
    )
    command = [sys.executable, "-m", "newsletter", "scheduler", "--until-idle"]
    for more in (0.1, 0.5):
        process = subprocess.Popen(
            command,
            cwd=workspace.root,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        before = sum(mailbox.received(domain).values())
        while sum(mailbox.received(domain).values()) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(more)
        process.kill()
        process.wait(10)
    done = cli("scheduler", "--until-idle", cwd=workspace)
    assert done.code == 0, done.err
    assert mailbox.received(domain) == Counter(f"reader{n}@{domain}" for n in range(5000))
    assert cli("ledger", "verify", "milia.1", cwd=workspace).code == 0
    store.close()
