"""`python -m bench.workers [speed] [idle] [size]`: what several workers on one PostgreSQL do.

`speed` sends one issue with 1, 2 and 4 real workers at a provider whose answers take 100 ms; `idle`
lets ten of them wait for a minute; `size` tells what a send leaves behind in the database.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text

from bench.runs import databases
from bench.sink import running_sink
from bench.workspaces import ISSUE, add_audience, make_workspace
from newsletter.clock import SystemClock
from newsletter.delivery import find_send
from newsletter.scheduling import schedule
from newsletter.store import Store
from newsletter.store.schema import attempts
from newsletter.workspace import Workspace

LATENCY = 0.1
IDLE_SECONDS = 60
IDLE_WORKERS = 10
#: Form, requests in flight of each worker, recipients: no more than are made when a send starts, so
#: that only the sending counts.
RUNS = (
    ("sendgrid", 1, 50_000),
    ("sendgrid", 4, 50_000),
    ("postmark", 1, 30_000),
    ("postmark", 4, 50_000),
    ("mailbox", 4, 20_000),
)
_LONGEST = 300  # seconds for one send
_AGAIN = "again"
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    for name in sys.argv[1:] or list(PARTS):
        for line in PARTS[name]():
            print(line, flush=True)
        print()


def speed() -> Iterator[str]:
    """How the rate grows with the workers, and what limits it."""
    yield (
        "| provider | a request | in flight | workers | recipients/s | of one"
        " | of what latency allows | CPU of workers | of PostgreSQL | memory of one |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    with running_sink(latency=LATENCY) as sink, databases() as make_database:
        for form, in_flight, people in RUNS:
            first = 0.0
            for count in (1, 2, 4):
                told = _send(form, make_database("postgresql"), sink, people, count, in_flight)
                first = first or told["rate"]
                limit = count * in_flight * told["a_request"] / LATENCY
                yield (
                    f"| {form} | {told['a_request']} | {in_flight} | {count} | {told['rate']:,.0f}"
                    f" | {told['rate'] / first:.2f} | {told['rate'] / limit:.0%}"
                    f" | {told['workers']:.0%} | {told['postgres']:.0%} | {told['mb']:.0f} MB |"
                )


def _send(
    form: str, database: str, sink: str, people: int, count: int, in_flight: int
) -> dict[str, float]:
    with _prepared(form, database, sink, people) as (workspace, store):
        settings = workspace.root / "newsletter.toml"
        written = settings.read_text().replace("in_flight = 4", f"in_flight = {in_flight}")
        settings.write_text(written)
        shutil.copytree(workspace.issues / ISSUE, workspace.issues / _AGAIN)
        with _workers(workspace, count) as pids:
            # The first send finds every worker about to import its provider.
            schedule(workspace, store, SystemClock(), ISSUE, offline=True)
            _wait(store, lambda send: send.state == "sent")
            schedule(workspace, store, SystemClock(), _AGAIN, offline=True)
            _wait(store, lambda send: send.filled_at is not None, _AGAIN)
            used, servers = _cpu(pids), _cpu(_backends(store))
            _wait(store, lambda send: send.state == "sent", _AGAIN)
            used = _cpu(pids) - used
            served = _cpu(_backends(store)) - servers
            peak = max(_peak_mb(pid) for pid in pids)
        query = select(
            func.min(attempts.c.started_at),
            func.max(attempts.c.finished_at),
            func.count(),
        ).where(attempts.c.send_id == 2)
        with store.read() as connection:
            began, ended, requests = connection.execute(query).one()
        seconds = (ended - began).total_seconds()
    return {
        "rate": people / seconds,
        "a_request": round(people / requests),
        "workers": used / seconds,
        "postgres": served / seconds,
        "mb": peak,
    }


def idle() -> Iterator[str]:
    """What ten workers cost that have nothing to do."""
    yield f"| {IDLE_WORKERS} idle workers, a minute | |"
    yield "|---|---:|"
    with databases() as make_database:
        database = make_database("postgresql")
        with (
            _prepared("sendgrid", database, "http://127.0.0.1:9", 1000) as (workspace, store),
            _workers(workspace, IDLE_WORKERS) as pids,
        ):
            time.sleep(5)  # they have looked once
            before, used, served = _transactions(store), _cpu(pids), _cpu(_backends(store))
            sessions = _sessions(store)
            time.sleep(IDLE_SECONDS)
            used, served = _cpu(pids) - used, _cpu(_backends(store)) - served
            transactions = _transactions(store) - before
            memory = max(_peak_mb(pid) for pid in pids)
    minutes = IDLE_SECONDS / 60
    yield f"| CPU of all workers | {used / minutes:.2f} s |"
    yield f"| CPU of their sessions in PostgreSQL | {served / minutes:.2f} s |"
    yield f"| transactions | {transactions / minutes:.0f} |"
    yield f"| sessions | {sessions} |"
    yield f"| memory of one | {memory:.0f} MB |"


def size() -> Iterator[str]:
    """What a send of 100,000 leaves behind: bytes on disk, and of write-ahead log."""
    people = 100_000
    with running_sink() as sink, databases() as make_database:
        database = make_database("postgresql")
        with _prepared("sendgrid", database, sink, people) as (workspace, store):
            audience = _table_bytes(store)
            before = _wal(store)
            with _workers(workspace, 1):
                schedule(workspace, store, SystemClock(), ISSUE, offline=True)
                _wait(store, lambda send: send.filled_at is not None)
                filled, began = _wal(store), time.monotonic()
                _wait(store, lambda send: send.state == "sent")
                seconds = time.monotonic() - began
            ended = _wal(store)
            tables = _table_bytes(store)
    yield "| a recipient, in bytes | table | indexes |"
    yield "|---|---:|---:|"
    yield _size_row("subscribers", audience, people)
    for table in ("deliveries", "batches", "attempts"):
        yield _size_row(table, tables, people)
    yield f"| write-ahead log of the start | {(filled - before) / people:.0f} | |"
    yield f"| write-ahead log of the sending | {(ended - filled) / people:.0f} | |"
    yield ""
    yield f"One worker sent to {people:,} in {seconds:.1f} s."


def _size_row(table: str, sizes: dict[str, tuple[int, int]], people: int) -> str:
    heap, indexes = sizes[table]
    return f"| {table} | {heap / people:.0f} | {indexes / people:.0f} |"


PARTS = {"speed": speed, "idle": idle, "size": size}


# --- processes ------------------------------------------------------------------------------------


@contextmanager
def _prepared(
    form: str, database: str, sink: str, people: int
) -> Iterator[tuple[Workspace, Store]]:
    with tempfile.TemporaryDirectory() as folder:
        workspace, store = make_workspace(Path(folder), form, database, sink)
        try:
            add_audience(store, people)
            yield workspace, store
        finally:
            store.close()


@contextmanager
def _workers(workspace: Workspace, count: int) -> Iterator[list[int]]:
    """Real workers, once each has told that it is ready."""
    log = workspace.root / "workers.log"
    with ExitStack() as stack:
        out = stack.enter_context(log.open("wb"))
        processes = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "newsletter", "worker"],
                cwd=workspace.root,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
                stderr=out,
            )
            for _ in range(count)
        ]
        try:
            while len(re.findall("is ready", log.read_text())) < count:
                time.sleep(0.1)
            yield [process.pid for process in processes]
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def _wait(store: Store, reached: Any, issue: str = ISSUE) -> None:
    deadline = time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        with store.read() as connection:
            send = find_send(connection, f"{issue}.1")
        if send.state == "held":
            raise RuntimeError(send.reason)
        if reached(send):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the send does not go on: it is {send.state}")


def _cpu(pids: list[int]) -> float:
    """Seconds that the processes have used (proc(5): stat, fields 14 and 15)."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def _peak_mb(pid: int) -> float:
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) / 1024


# --- what PostgreSQL tells ------------------------------------------------------------------------


def _one(store: Store, query: str) -> Any:
    with store.read() as connection:
        return connection.execute(text(query)).scalar_one()


def _backends(store: Store) -> list[int]:
    with store.read() as connection:
        query = (
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return list(connection.execute(text(query)).scalars())


def _sessions(store: Store) -> int:
    return len(_backends(store))


def _transactions(store: Store) -> int:
    query = (
        "SELECT xact_commit + xact_rollback FROM pg_stat_database"
        " WHERE datname = current_database()"
    )
    return int(_one(store, query))


def _wal(store: Store) -> int:
    return int(_one(store, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))


def _table_bytes(store: Store) -> dict[str, tuple[int, int]]:
    """Table → bytes of its rows and of its indexes."""
    query = "SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class WHERE oid IN ("
    query += "'subscribers'::regclass, 'deliveries'::regclass, 'batches'::regclass,"
    query += " 'attempts'::regclass)"
    with store.read() as connection:
        return {name: (heap, rest) for name, heap, rest in connection.execute(text(query))}


if __name__ == "__main__":
    main()
