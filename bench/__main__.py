"""`python -m bench [tables] [latency] [growth]`: every figure, printed and written to results.md.

Without arguments it makes all of them. Each ratio is of one run: what is measured and what it is
measured against take turns on the same machine.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.plot import draw
from bench.runs import SERVER, baseline, databases, growth, latency, ours
from bench.sink import running_sink
from bench.workspaces import ISSUE, literals, make_workspace
from newsletter.clock import SystemClock
from newsletter.compiled import Recipient
from newsletter.drafting import load_issue
from newsletter.rendering import compile_issue

FOLDER = Path(__file__).parent
PEOPLE = 100_000
ROUNDS = 3  # of the table, whose medians are told
#: Form → what it is to reach: against which baseline, by database.
TARGETS = {
    "sendgrid": ("anymail", {"sqlite": 3.0, "postgresql": 2.0}),
    "postmark": ("anymail", {"sqlite": 3.0, "postgresql": 3.0}),
    "postmark-whole": ("bare", {"sqlite": 1.8, "postgresql": 1.8}),
    "mailbox": ("bare", {"sqlite": 1.8, "postgresql": 1.8}),
}


def main() -> None:
    chosen = sys.argv[1:] or list(PARTS)
    lines = [
        "# Figures",
        "",
        f"Measured on {SystemClock().now():%Y-%m-%d} by `make bench`: {_machine()}. On a"
        f" shared machine: compare the ratios, not the seconds. PostgreSQL runs with"
        f" {', '.join(f'{name} {value}' for name, value in SERVER.items())}, else as it comes.",
    ]
    for name in chosen:
        lines.append("")
        for line in PARTS[name]():
            print(line, flush=True)
            lines.append(line)
    if chosen == list(PARTS):
        (FOLDER / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print("wrote bench/results.md and bench/growth.svg")


def rendering() -> Iterator[str]:
    yield "## Compiling and personalising an issue of 50 KB of HTML"
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
    yield from ("", "| | |", "|---|---:|")
    yield f"| HTML of one message | {size:,} bytes |"
    yield f"| compile, median of {len(times)} | {statistics.median(times) * 1000:.1f} ms |"
    yield f"| whole messages (subject, HTML, text, headers) joined | {rate:,.0f} a second |"


def tables() -> Iterator[str]:
    yield f"## A send to {PEOPLE:,} people, with the whole ledger"
    yield ""
    yield (
        "`ours` is the real engine from the start of the send to its end, 4 requests in flight; its"
        " process has sent a small issue before, as a worker has."
        " `bare` is a loop over httpx and orjson.dumps with no database, 4 in flight; `httpx alone`"
        " posts one encoded body over and over; `anymail` is a loop over django-anymail's backend"
        " with merge data. All talk to the same local server in turn, which accepts everything."
        f" Medians of {ROUNDS} rounds."
    )
    yield ""
    yield "| form | database | ours | CPU | memory | anymail | bare | httpx alone | target |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---|"
    with running_sink() as sink, databases() as make_database, tempfile.TemporaryDirectory() as one:
        workspace, store = make_workspace(Path(one), "mailbox", "sqlite:///var/bench.db", sink)
        store.close()
        content = literals(workspace)
        for form in TARGETS:
            yield from _form_rows(form, sink, make_database, content)


def _form_rows(
    form: str, sink: str, make_database: Callable[[str], str], content: tuple[str, str]
) -> Iterator[str]:
    against, targets = TARGETS[form]
    has_anymail = form in {"sendgrid", "postmark"}
    people = PEOPLE if has_anymail else PEOPLE // 4
    for engine, target in targets.items():
        runs = []
        rates: dict[str, list[float]] = {}
        for _ in range(ROUNDS):  # in turn, so that all have the same disturbances
            runs.append(ours(form, make_database(engine), sink, PEOPLE))
            for what in ("anymail", "bare", "encoded") if has_anymail else ("bare", "encoded"):
                rates.setdefault(what, []).append(baseline(what, form, sink, people, content))
        sent = sorted(runs, key=lambda run: run.rate)[ROUNDS // 2]
        others = {what: statistics.median(each) for what, each in rates.items()}
        told = [
            f"{others[what]:,.0f}/s ({sent.rate / others[what]:.2f} ×)" if what in others else "—"
            for what in ("anymail", "bare", "encoded")
        ]
        ratio = sent.rate / others[against]
        met = "met" if ratio >= target else "missed"
        yield (
            f"| {form} | {engine} | {sent.rate:,.0f}/s | {sent.cpu:.1f} s | {sent.peak_mb:.0f} MB"
            f" | {' | '.join(told)} | {target:g} × {against}: {met}, {ratio:.2f} × |"
        )


def with_latency() -> Iterator[str]:
    yield "## A provider that takes 100 ms to answer"
    yield ""
    yield (
        "No rate limit; the limit is requests in flight × recipients a request / 100 ms, as if a"
        " request took no time to leave. The rate is from the first request to the end of the send."
    )
    yield ""
    yield (
        "| form | database | in flight | a request | limit | ours | of the limit | first request |"
    )
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    with running_sink(latency=0.1) as sink, databases() as make_database:
        for form in ("sendgrid", "postmark", "mailbox"):
            for engine in ("sqlite", "postgresql"):
                yield latency(form, make_database(engine), engine, sink, 0.1)


def in_growth() -> Iterator[str]:
    yield "## Growth"
    yield ""
    yield "![Seconds against recipients](growth.svg)"
    yield ""
    yield (
        "`first request` is the time from the start of the process's work to the first byte at the"
        " provider; `status` is the time that `status` takes in another process while the send"
        " goes on, median and slowest of all that were asked."
    )
    yield ""
    yield "| form | database | recipients | seconds | a second | memory | first request | status |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    series: dict[str, list[tuple[int, float]]] = {}
    with running_sink() as sink, databases() as make_database:
        for form, engine, sizes in (
            ("sendgrid", "sqlite", (10_000, 100_000, 1_000_000)),
            ("sendgrid", "postgresql", (10_000, 100_000, 1_000_000)),
            ("mailbox", "sqlite", (10_000, 100_000)),
        ):
            points = series.setdefault(f"{form}, {engine}", [])
            for people in sizes:
                sent, row = growth(form, make_database(engine), engine, sink, people)
                points.append((people, sent.seconds))
                yield row
    draw(FOLDER / "growth.svg", series)


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "rendering": rendering,
    "tables": tables,
    "latency": with_latency,
    "growth": in_growth,
}


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    version = platform.python_version()
    return (
        f"{platform.system()} {platform.machine()}, {_processor()}, {cores} cores, Python {version}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "processor unknown"


if __name__ == "__main__":
    main()
