"""One measured send in a process of its own: `python -m bench.deliver WORKSPACE` prints JSON.

It runs the real engine with its whole ledger, from the start of the send to its end, after another
send to a few: a worker runs for weeks.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from bench.sink import ask_sink
from bench.workspaces import EARLIER, ISSUE
from newsletter.clock import SystemClock
from newsletter.delivery import open_runtime, run_due, status
from newsletter.scheduling import schedule
from newsletter.service.collecting import collect_seldom
from newsletter.settings import load_settings
from newsletter.store import open_store
from newsletter.workspace import Workspace


def main() -> None:
    root = Path(sys.argv[1])
    workspace = Workspace(root, load_settings(root / "newsletter.toml"))
    store = open_store(workspace.settings.database.url, root)
    clock = SystemClock()
    schedule(workspace, store, clock, EARLIER, offline=True)
    asyncio.run(run_due(open_runtime(workspace, store, clock)))
    schedule(workspace, store, clock, ISSUE, offline=True)
    ask_sink(workspace.settings.providers[0].base_url, "/reset")
    collect_seldom()  # as the service does
    began_at = time.monotonic()
    used = time.process_time()
    asyncio.run(run_due(open_runtime(workspace, store, clock)))
    seconds = time.monotonic() - began_at
    with store.read() as connection:
        told = status(connection, workspace, f"{ISSUE}.1")
    assert told["state"] == "sent", told
    assert told["counts"]["accepted"] == told["counts"]["total"], told
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": time.process_time() - used,
                "recipients": told["counts"]["total"],
                "began_at": began_at,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
