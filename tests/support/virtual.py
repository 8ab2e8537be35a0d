"""Hours and days in a moment: an event loop whose time leaps to the next timer, and its clock."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

_T = TypeVar("_T")


class VirtualClock:
    """A clock that runs with the virtual loops made from it. A test may set `moment`."""

    def __init__(self, now: datetime = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)) -> None:
        self.moment = now
        self.elapsed = 0.0  # seconds on the loops, which no change of the clock alters
        self.sleeps = 0

    def now(self) -> datetime:
        return self.moment

    def advance(self, **delta: float) -> None:
        self.leap(timedelta(**delta).total_seconds())

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        await asyncio.sleep(seconds)

    def leap(self, seconds: float) -> None:
        self.elapsed += seconds
        self.moment += timedelta(seconds=seconds)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end on a loop in which this clock's time passes."""
        loop = _VirtualLoop(self)
        try:
            return loop.run_until_complete(work)
        finally:
            loop.close()


class _Leaping(selectors.SelectSelector):
    """Never waits: with nothing to do, time leaps to the next timer."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits, and no timer is left")
            self.clock.leap(timeout)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(_Leaping(clock))
        self.clock = clock

    def time(self) -> float:
        return self.clock.elapsed
