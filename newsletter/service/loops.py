"""Runs the steps until the service is stopped, each in a loop of its own.

A send that takes hours does not keep an edition or a notice waiting. The loops have no timer: the
ticker wakes them, every second for what other processes may have made due, and at known moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from newsletter.errors import DoesNotHold, Unreachable
from newsletter.scheduling import next_moment
from newsletter.service import steps
from newsletter.service.idle import is_idle, next_send
from newsletter.service.leadership import step_down
from newsletter.service.runtime import Runtime
from newsletter.service.ticker import Ticker

_log = logging.getLogger(__name__)

_LEAD_SECONDS = 10  # feeds and editions; a known moment wakes them as well
_POLL_SECONDS = 1  # sends and notices that another process has made
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
        self.sends = _Loop(steps.sends, _POLL_SECONDS)
        self.notices = _Loop(steps.notices, _POLL_SECONDS)
        self.editions = _Loop(steps.editions, _LEAD_SECONDS)
        self.feeds = _Loop(steps.feeds, _LEAD_SECONDS)
        self.loops: Sequence[_Loop] = [self.sends]
        if not sends_only:
            self.loops = [self.feeds, self.editions, self.sends, self.notices]

    async def run(self) -> Ended:
        self.ticker.start()
        tasks = []
        try:
            for loop in self.loops:
                self.ticker.every(loop.seconds, loop.wake)
                tasks.append(asyncio.create_task(self.keep_going(loop)))
            if self.until_idle:
                tasks.append(asyncio.create_task(self.watch()))
            await asyncio.gather(*tasks)
        finally:
            self.runtime.stop.set()  # one loop failed: the others end in order
            await asyncio.gather(*tasks, return_exceptions=True)
            self.ticker.stop()
            with contextlib.suppress(Unreachable):  # the leases run out by themselves
                step_down(self.runtime)
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
            loop.seen = began
            loop.problem = ""
            if loop is self.editions:
                self.wake_for_editions(began)
            elif loop is self.sends:
                self.wake_for_sends(began)
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

    def wake_for_editions(self, began: datetime) -> None:
        due = next_moment(self.runtime.workspace, self.runtime.store, began)
        if due is not None:
            seconds = (due - self.runtime.clock.now()).total_seconds()
            self.ticker.once_in(seconds, self.editions.wake, "editions")

    def wake_for_sends(self, began: datetime) -> None:
        """A send starts at its time, and not up to a second later."""
        with self.runtime.store.read() as connection:
            due = next_send(connection, began)
        if due is not None:
            seconds = (due - self.runtime.clock.now()).total_seconds()
            if seconds < 2 * _POLL_SECONDS:
                self.ticker.once_in(seconds, self.sends.wake, "sends")

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
