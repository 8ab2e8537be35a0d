"""One seed of the kill tests: a send over a real server, whose workers are killed on the way."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import insert, update

from newsletter.delivery import export_rows, status, verify
from newsletter.store import Store, open_store
from newsletter.store.schema import subscribers
from newsletter.workspace import Workspace
from support.crashing import KILLED, ended, in_process, run_engine
from support.ledger import NOON, make_compiled, schedule_send

PEOPLE = 5000
POINTS = 95  # commits and requests of such a send pass at least so many points of a crash
GOT_IT = {"accepted", "delivered", "bounced", "complained"}


class Server(Protocol):
    """A provider's server whose own record can be asked who got what."""

    def set_faults(self, **faults: Any) -> None: ...

    def received(self, domain: str) -> Counter[str]: ...


def audience(domain: str, refused: dict[int, str], people: int) -> list[str]:
    """The addresses of so many people, of whom the provider refuses some: number → local part."""
    return [f"{refused.get(n, f'reader{n}')}@{domain}" for n in range(people)]


def add_audience(store: Store, addresses: list[str]) -> None:
    """Active subscribers of these addresses."""
    rows = [
        {
            "email": address,
            "email_key": address,
            "first_name": f"Ada{number}",
            "state": "active",
            "created_at": NOON,
            "updated_at": NOON,
        }
        for number, address in enumerate(addresses)
    ]
    with store.begin() as connection:
        connection.execute(insert(subscribers), rows)


def unsubscribe_some(store: Store, rng: random.Random, domain: str) -> None:
    """Between two runs a few people leave: who has not got it by then must not get it."""
    leaving = [f"reader{rng.randrange(PEOPLE)}@{domain}" for _ in range(5)]
    with store.begin() as connection:
        connection.execute(
            update(subscribers).where(subscribers.c.email.in_(leaving)).values(state="unsubscribed")
        )


def kill_and_restart(
    seed: int,
    workspace: Workspace,
    url: str,
    server: Server,
    log: Path,
    *,
    faults: dict[str, Any],
    refused: dict[int, str],
    sometimes_without_keys: bool,
    batch_size: int | None = None,
) -> None:
    """A send with faults on, two or three kills, a run until idle; then who got it is counted."""
    rng = random.Random(seed)
    domain = f"seed{seed}-{rng.randrange(10**9)}.example"
    store = open_store(url, workspace.root)
    add_audience(store, audience(domain, refused, PEOPLE))
    schedule_send(store, make_compiled(), at=datetime.now(UTC))
    server.set_faults(seed=seed, **faults)
    without_keys = sometimes_without_keys and rng.random() < 0.4
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
            batch_size=batch_size,
        )
        after = rng.uniform(0.05, 1.2) if timed else None
        code = ended(in_process(body, log), within=90, kill_after=after)
        assert code in {0, KILLED}, log.read_text()[-3000:]
        kills += code == KILLED
        if run == 0:
            unsubscribe_some(store, rng, domain)
    last = partial(
        run_engine, workspace, url, seed, without_keys=without_keys, batch_size=batch_size
    )
    assert ended(in_process(last, log), within=90) == 0, log.read_text()[-3000:]
    assert kills
    check_everybody(workspace, store, server.received(domain), len(refused))
    store.close()


def check_everybody(workspace: Workspace, store: Store, got: Counter[str], refused: int) -> None:
    """Exactly one message for each who should get one, in the server's own record."""
    rows = list(export_rows(store, "milia.1"))
    assert got == Counter(row["email"] for row in rows if row["state"] in GOT_IT)
    states = Counter(row["state"] for row in rows)
    assert states["rejected"] == refused
    # Who left before the send had started has no row, who left later is skipped or was faster.
    assert states["accepted"] + states["skipped"] + refused == len(rows)
    assert len(rows) - states["skipped"] >= PEOPLE - 5
    assert all(row["reason"] == "unsubscribed" for row in rows if row["state"] == "skipped")
    assert verify(store, "milia.1")["violations"] == []
    with store.read() as connection:
        assert status(connection, workspace, "milia.1")["state"] == "sent"
