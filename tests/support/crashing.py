"""Runs the real engine in a process of its own that is killed at a point that a seed chooses.

The points are every commit (before and after it) and every request (before it, and after its
answer); or any instant at all, when the parent kills it after a time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from newsletter.clock import SystemClock
from newsletter.delivery import DeliveryRuntime, Policy, run_due
from newsletter.providers import open_provider, provider_named
from newsletter.store import Store, open_store
from newsletter.workspace import Workspace

QUICK = Policy(
    first_wait=timedelta(milliseconds=20),
    longest_wait=timedelta(milliseconds=200),
    poll=timedelta(milliseconds=100),
)
KILLED = 137


class Crash:
    """Counts the points that are passed, and ends the process at the n-th as SIGKILL does."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.passed = 0

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class CrashingStore(Store):
    def __init__(self, store: Store, crash: Crash) -> None:
        super().__init__(store.engine)
        self.crash = crash

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with super().begin() as connection:
            yield connection
            self.crash.point()
        self.crash.point()


class CrashingProvider:
    """A real provider with crash points around its requests, and capabilities taken away."""

    def __init__(
        self, inner: Any, crash: Crash, without_keys: bool, batch_size: int | None = None
    ) -> None:
        self.inner = inner
        self.crash = crash
        self.settings = inner.settings
        self.capabilities = inner.capabilities
        if without_keys:
            self.capabilities = replace(inner.capabilities, idempotency=None)
        if batch_size is not None:
            self.capabilities = replace(self.capabilities, batch_size=batch_size)

    def prepare(self, batch: Any) -> Any:
        return self.inner.prepare(batch)

    def prepare_form(self, batch: Any) -> Any:
        return self.inner.prepare_form(batch)

    async def send(self, prepared: Any) -> Any:
        self.crash.point()
        outcome = await self.inner.send(prepared)
        self.crash.point()
        return outcome

    async def keep(self, form: Any) -> Any:
        self.crash.point()
        outcome = await self.inner.keep(form)
        self.crash.point()
        return outcome

    async def drop(self, name: str) -> Any:
        self.crash.point()
        gone = await self.inner.drop(name)
        self.crash.point()
        return gone

    async def find(self, key: str, *, since: datetime) -> Any:
        self.crash.point()
        return await self.inner.find(key, since=since)

    async def close(self) -> None:
        await self.inner.close()


def run_engine(
    workspace: Workspace,
    url: str,
    seed: int,
    *,
    crash_at: int | None = None,
    without_keys: bool = False,
    batch_size: int | None = None,
    open_named: Callable[[str], Any] | None = None,
) -> None:
    """The body of a worker's process: run until idle."""
    crash = Crash(crash_at)
    clock = SystemClock()
    store = CrashingStore(open_store(url, workspace.root), crash)

    def opened(name: str) -> Any:
        inner = open_provider(workspace, provider_named(workspace, name), clock)
        return CrashingProvider(inner, crash, without_keys, batch_size)

    async def go() -> None:
        await run_due(
            DeliveryRuntime(
                workspace,
                store,
                clock,
                open_named or opened,
                rng=random.Random(seed),
                policy=QUICK,
            )
        )

    asyncio.run(go())


def in_process(body: Callable[[], None], log: Path) -> int:
    """Start `body` in a forked process (no import costs a second again). Returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with log.open("a") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            sys.stdout = sys.stderr = out  # pytest had put files of its own there
            logging.basicConfig(stream=out, level=logging.INFO, force=True)
            body()
            code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def ended(pid: int, within: float, kill_after: float | None = None) -> int:
    """Wait for a process; kill it after a time if told. Returns its exit code, 137 if killed."""
    deadline = time.monotonic() + within
    kill_at = None if kill_after is None else time.monotonic() + kill_after
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return KILLED if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        if kill_at is not None and now >= kill_at:
            os.kill(pid, signal.SIGKILL)
            kill_at = None
        if now > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"the worker did not end within {within} s")
        time.sleep(0.005)
