"""Workers killed (SIGKILL) at points spread over a send, and restarted until all is done.

What counts is the provider's own record: exactly one message for everybody who should get one.
A failure names the test's id, which holds the seed and repeats it.
"""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from functools import partial

import pytest
from sqlalchemy import insert, update

from conftest import SETTINGS
from newsletter.delivery import export_rows, status, verify
from newsletter.store import open_store
from newsletter.store.schema import subscribers
from support.crashing import KILLED, ended, in_process, run_engine
from support.ledger import NOON, make_compiled, schedule_send
from support.mailboxes import running_mailbox

PEOPLE = 5000
POINTS = 95  # commits and requests of such a send pass at least so many points of a crash
GOT_IT = {"accepted", "delivered", "bounced", "complained"}


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory):
    with running_mailbox(tmp_path_factory.mktemp("mailbox")) as running:
        yield running


def add_audience(store, domain):
    """5,000 people, of whom the mailbox refuses some."""
    locals_ = {7: "refused", 1234: "inactive", 4321: "refused-too"}
    rows = [
        {
            "email": f"{locals_.get(number, f'reader{number}')}@{domain}",
            "email_key": f"{locals_.get(number, f'reader{number}')}@{domain}",
            "first_name": f"Ada{number}",
            "state": "active",
            "created_at": NOON,
            "updated_at": NOON,
        }
        for number in range(PEOPLE)
    ]
    with store.begin() as connection:
        connection.execute(insert(subscribers), rows)


def unsubscribe_some(store, rng, domain):
    """Between two runs a few people leave: who has not got it by then must not get it."""
    leaving = [f"reader{rng.randrange(PEOPLE)}@{domain}" for _ in range(5)]
    with store.begin() as connection:
        connection.execute(
            update(subscribers).where(subscribers.c.email.in_(leaving)).values(state="unsubscribed")
        )


def kill_and_restart(seed, workspace, url, mailbox, log):
    """One seed: a send with faults on, two or three kills, then a run until idle."""
    rng = random.Random(seed)
    domain = f"seed{seed}-{rng.randrange(10**9)}.example"
    store = open_store(url, workspace.root)
    add_audience(store, domain)
    schedule_send(store, make_compiled(), at=datetime.now(UTC))
    mailbox.set_faults(
        seed=seed,
        drop_before=0.1,
        drop_after=0.1,
        error_before=0.05,
        error_after=0.05,
        html=0.03,
        lookup_error=0.1,
        rate_limit={"probability": 0.1, "seconds": 0},
    )
    without_keys = rng.random() < 0.4
    kills = 0
    for run in range(rng.choice((2, 3))):
        timed = run > 0 and rng.random() < 0.5
        body = partial(
            run_engine,
            workspace,
            url,
            rng.randrange(10**9),
            crash_at=None if timed else rng.randint(1, POINTS - 30 * run),
            without_keys=without_keys,
        )
        after = rng.uniform(0.05, 1.2) if timed else None
        code = ended(in_process(body, log), within=60, kill_after=after)
        assert code in {0, KILLED}, log.read_text()[-3000:]
        kills += code == KILLED
        if run == 0:
            unsubscribe_some(store, rng, domain)
    last = partial(run_engine, workspace, url, seed, without_keys=without_keys)
    assert ended(in_process(last, log), within=60) == 0, log.read_text()[-3000:]
    return store, domain, kills


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_killed_anywhere_and_restarted_everybody_has_it_once(
    seed, request, make_workspace, database_url, mailbox, tmp_path
):
    told = f"repeat it with: pytest '{request.node.nodeid}'; its workers' log is in {tmp_path}"
    seed += 0 if database_url.startswith("sqlite") else 1000
    workspace = make_workspace(
        settings=SETTINGS.replace("http://127.0.0.1:8025", mailbox.url).replace(
            'webhook_secret = "local-hook"\n',
            'webhook_secret = "local-hook"\nlookup_lag = "300ms"\ntimeout = "5s"\n',
        )
    )
    log = tmp_path / "workers.log"
    store, domain, kills = kill_and_restart(seed, workspace, database_url, mailbox, log)
    assert kills, told
    got = mailbox.received(domain)
    rows = list(export_rows(store, "milia.1"))
    should = Counter(row["email"] for row in rows if row["state"] in GOT_IT)
    assert got == should, told
    states = Counter(row["state"] for row in rows)
    assert states["rejected"] == 3, told
    # Who left before the send had started has no row, who left later is skipped or was faster.
    assert states["accepted"] + states["skipped"] + 3 == len(rows), told
    assert len(rows) - states["skipped"] >= PEOPLE - 5, told
    assert all(r["reason"] == "unsubscribed" for r in rows if r["state"] == "skipped"), told
    report = verify(store, "milia.1")
    assert report["violations"] == [], told
    with store.read() as connection:
        assert status(connection, workspace, "milia.1")["state"] == "sent", told
    store.close()
