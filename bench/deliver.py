"""One measured run in a process of its own: `python -m bench.deliver send|floor …` prints JSON.

`send` runs the real engine with its whole ledger; `floor` posts a body of the same size, over and
over, by a bare httpx loop that knows no database and no answer but its status.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

import httpx

from bench.workspaces import ISSUE
from newsletter.clock import SystemClock
from newsletter.compiled import Recipient
from newsletter.delivery import open_runtime, run_due, status
from newsletter.providers import open_provider, provider_named
from newsletter.providers.base import Batch, Prepared
from newsletter.rendering import compose
from newsletter.scheduling.freezing import compile_now
from newsletter.settings import load_settings
from newsletter.store import Store, open_store
from newsletter.workspace import Workspace

_IN_FLIGHT = 4


def measure_send(workspace: Workspace, store: Store) -> dict[str, float]:
    """Run the engine until the scheduled send is over."""
    started = time.perf_counter()
    asyncio.run(run_due(open_runtime(workspace, store, SystemClock())))
    seconds = time.perf_counter() - started
    with store.read() as connection:
        told = status(connection, workspace, f"{ISSUE}.1")
    assert told["state"] == "sent", told
    assert told["counts"]["accepted"] == told["counts"]["total"], told
    return {"seconds": seconds, "recipients": told["counts"]["total"]}


def measure_floor(workspace: Workspace, store: Store, people: int) -> dict[str, float]:
    """Post as many batches as the send would, with a bare httpx loop."""
    prepared, size = one_batch(workspace, store)
    requests = -(-people // size)

    async def loop() -> float:
        url = workspace.settings.providers[0].base_url + prepared.path
        headers = {"Content-Type": "application/json", **prepared.headers}
        left = iter(range(requests))
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:

            async def post() -> None:
                for _ in left:
                    answer = await client.post(url, content=prepared.body, headers=headers)
                    assert answer.status_code == 200

            started = time.perf_counter()
            await asyncio.gather(*[post() for _ in range(_IN_FLIGHT)])
            return time.perf_counter() - started

    return {"seconds": asyncio.run(loop()), "recipients": requests * size}


def one_batch(workspace: Workspace, store: Store) -> tuple[Prepared, int]:
    """The request for one full batch, and how many messages it holds."""
    clock = SystemClock()
    provider = open_provider(workspace, provider_named(workspace, None), clock)
    compiled = compile_now(workspace, store, ISSUE).compiled
    size = provider.capabilities.batch_size
    while True:
        messages = [
            compose(
                compiled,
                Recipient(n, f"reader{n}@inbox.example", f"First{n % 97}", f"Last{n % 89}"),
                variant="",
                at=clock.now(),
                metadata={"attempt": "0" * 32, "delivery": f"1.{n}"},
                media=lambda _: b"",
            )
            for n in range(size)
        ]
        prepared = provider.prepare(Batch("0" * 32, messages))
        if len(prepared.body) <= provider.capabilities.max_bytes:
            return prepared, size
        size = int(size * 0.9)


def main() -> None:
    what, root, people = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    workspace = Workspace(root, load_settings(root / "newsletter.toml"))
    store = open_store(workspace.settings.database.url, root)
    if what == "send":
        measured = measure_send(workspace, store)
    else:
        measured = measure_floor(workspace, store, people)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**measured, "peak_mb": peak}))


if __name__ == "__main__":
    main()
