"""Runs the steps until the service is stopped, each in a loop of its own.

A send that takes hours does not keep an edition or a notice waiting. The loops have no timer: the
bell wakes them when others have made work, and the ticker at known moments and, in case a word was
lost, now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from newsletter import outbox
from newsletter.errors import DoesNotHold, Unreachable
from newsletter.scheduling import next_moment
from newsletter.service import steps
from newsletter.service.bell import Bell, Waking
from newsletter.service.idle import is_idle, next_send
from newsletter.service.leadership import Leader, LeaseLeader
from newsletter.service.listening import listen
from newsletter.service.readiness import tell_system
from newsletter.service.runtime import Runtime
from newsletter.service.ticker import Ticker

_log = logging.getLogger(__name__)

_LEAD_SECONDS = 10  # feeds and editions, whose files nobody tells of; a known moment wakes them too
_LOOK_SECONDS = 30  # sends and notices: how late one is whose word was lost
_AGAIN_SECONDS = 1  # for what should have been done by now; longer while it keeps failing
_LONGEST_AGAIN = 5
_IDLE_SECONDS = 0.2
_MOST_FAILURES = 5  # in a row, after which a run until idle does not go on


@dataclass(frozen=True, slots=True)
class Ended:
    """How a service ended: sends that were held meanwhile, by public name."""

    held: tuple[str, ...]


@dataclass
class _Loop:
    """One step's loop: what wakes it, and when its last complete round began."""

    step: steps.Step
    seconds: float
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    busy: bool = False
    seen: datetime | None = None
    failures: int = 0
    problem: str = ""


async def serve(
    runtime: Runtime, ticker: Ticker, *, sends_only: bool = False, until_idle: bool = False
) -> Ended:
    """Run until `runtime.stop` is set, or until nothing is due or in flight.

    Ends in order: requests in flight end and are written down. While the database is out of reach
    it waits for it; until idle it raises `Unreachable` instead.
    """
    service = _Service(runtime, ticker, sends_only=sends_only, until_idle=until_idle)
    return await service.run()


class _Service:
    def __init__(
        self, runtime: Runtime, ticker: Ticker, *, sends_only: bool, until_idle: bool
    ) -> None:
        self.runtime = runtime
        self.ticker = ticker
        self.until_idle = until_idle
        self.name = _name("worker" if sends_only else "scheduler")
        self.sends = _Loop(steps.sends, _LOOK_SECONDS)
        self.notices = _Loop(steps.notices, _LOOK_SECONDS)
        self.editions = _Loop(steps.editions, _LEAD_SECONDS)
        self.feeds = _Loop(steps.feeds, _LEAD_SECONDS)
        self.loops: Sequence[_Loop] = [self.sends]
        if not sends_only:
            self.loops = [self.feeds, self.editions, self.sends, self.notices]
        self.listening = asyncio.Event()
        self.bell = Bell()
        self.bell.hang("sends", self.sends.wake)
        self.bell.hang("notices", self.notices.wake)
        self.bell.hang("editions", self.editions.wake)
        self.leader = _leader(runtime, self.name)
        runtime.leader = self.leader
        if not runtime.store.is_sqlite:
            runtime.wake = Waking(self.bell)

    async def run(self) -> Ended:
        self.ticker.start()
        tasks: list[asyncio.Task[None]] = []
        beside = [
            _beside(listen(self.runtime.store, self.name, self.bell, self.listening)),
            _beside(self.tell_ready()),
        ]
        if self.editions in self.loops:
            beside.append(_beside(self.keep_lead()))
        try:
            for loop in self.loops:
                self.ticker.every(loop.seconds, loop.wake)
                tasks.append(asyncio.create_task(self.keep_going(loop)))
            if self.until_idle:
                tasks.append(asyncio.create_task(self.watch()))
            await asyncio.gather(*tasks)
        finally:
            tell_system("STOPPING=1")
            self.runtime.stop.set()  # one loop failed: the others end in order
            await asyncio.gather(*tasks, return_exceptions=True)
            self.ticker.stop()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            with contextlib.suppress(Unreachable):  # the leases run out by themselves
                await self.leader.step_down()
        return Ended(tuple(sorted(self.runtime.held)))

    async def keep_going(self, loop: _Loop) -> None:
        stopped = asyncio.create_task(self.runtime.stop.wait())
        try:
            while not self.runtime.stop.is_set():
                waking = asyncio.create_task(loop.wake.wait())
                await asyncio.wait({waking, stopped}, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                loop.wake.clear()
                if not self.runtime.stop.is_set():
                    await self.round(loop)
        finally:
            stopped.cancel()

    async def round(self, loop: _Loop) -> None:
        began = self.runtime.clock.now()
        loop.busy = True
        try:
            done = await steps.guarded(self.runtime, loop.step)
            self.wake_at_next(loop, began)
            if loop is self.sends:
                self.listening.set()  # where the database tells of nothing, a look must do
            loop.seen = began
            loop.problem = ""
        except Unreachable as error:
            done = False
            if self.until_idle:
                raise
            if str(error) != loop.problem:
                _log.error("%s waits for the database: %s", loop.step.__name__, error)
            loop.problem = str(error)
        finally:
            loop.busy = False
        loop.failures = 0 if done else loop.failures + 1
        if not done and loop.seconds == _LOOK_SECONDS:
            wait = min(loop.failures * _AGAIN_SECONDS, _LONGEST_AGAIN)
            self.ticker.once_in(wait, loop.wake, f"{loop.step.__name__} again")

    async def tell_ready(self) -> None:
        """Ready is who listens: the first round may send for hours, or wait for a new day."""
        await self.listening.wait()
        store = self.runtime.store
        told = "the file changes" if store.is_sqlite else "PostgreSQL tells of work"
        _log.info("%s is ready; it looks when %s, and every %d s", self.name, told, _LOOK_SECONDS)
        tell_system("READY=1")

    def wake_at_next(self, loop: _Loop, began: datetime) -> None:
        """A send starts at its time, and an edition and a mail have theirs."""
        store = self.runtime.store
        due: datetime | None = None
        if loop is self.editions:
            due = next_moment(self.runtime.workspace, store, began)
        elif loop is not self.feeds:
            with store.read() as connection:
                if loop is self.sends:
                    due = next_send(connection)
                else:
                    due = outbox.next_due(connection, self.runtime.workspace)
        if due is None:
            return
        seconds = (due - self.runtime.clock.now()).total_seconds()
        if due <= began:  # it was put off, or another process is at it
            seconds = _AGAIN_SECONDS
        self.ticker.once_in(seconds, loop.wake, loop.step.__name__)

    async def keep_lead(self) -> None:
        """Keep the lead between the steps; who takes it over begins at once."""
        led = False
        while True:
            await asyncio.sleep(self.leader.beat)
            settings = self.runtime.workspace.settings
            if isinstance(self.leader, LeaseLeader) or not (settings.feeds or settings.editions):
                continue
            leads = await self.leader.leads("editions")
            if leads and not led:
                self.feeds.wake.set()
                self.editions.wake.set()
            led = leads

    async def watch(self) -> None:
        """Stop the service once every loop has had its turn and nothing is left to wait for."""
        while not self.runtime.stop.is_set():
            await asyncio.sleep(_IDLE_SECONDS)
            waiting = any(loop.busy or loop.wake.is_set() for loop in self.loops)
            turned = all(loop.seen is not None for loop in self.loops)
            if waiting or not turned:
                continue
            for loop in self.loops:
                if loop.failures >= _MOST_FAILURES:
                    raise DoesNotHold(
                        f"{loop.step.__name__} keeps failing, so it never gets idle",
                        hint="The log says why.",
                    )
            kept = self.editions.seen if self.editions in self.loops else None
            if is_idle(self.runtime, kept):
                self.runtime.stop.set()


def _leader(runtime: Runtime, name: str) -> Leader:
    if runtime.leader is not None:
        return runtime.leader
    if runtime.store.is_sqlite:
        return LeaseLeader(runtime)
    from newsletter.service.session_leader import SessionLeader

    return SessionLeader(runtime.store.engine, f"{name} leader")


def _name(what: str) -> str:
    """What this process is called in the log and among PostgreSQL's sessions (63 bytes at most)."""
    return f"newsletter {what} {socket.gethostname()[:24]}/{os.getpid()}"


def _beside(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that the service can do without; if it fails, the log says so."""
    task = asyncio.ensure_future(work)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.error("%s failed", task.get_coro(), exc_info=task.exception())

    task.add_done_callback(ended)
    return task
