"""APScheduler as a clock that wakes the service, and nothing more.

Its jobs live in memory and only set events: no work runs inside its executor, whose shutdown
cancels coroutines; no cron trigger is used, as those fire twice in autumn; and a wake-up that comes
late still comes, as a missed one costs nothing but is never dropped.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

_JOB: dict[str, Any] = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}


class Ticker:
    """Events that APScheduler's `AsyncIOScheduler` sets: at intervals, and at a moment."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def start(self) -> None:
        """Begin to tick; within a running loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """End; there is nothing to wait for."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def every(self, seconds: float, event: asyncio.Event) -> None:
        """Set `event` again and again, now for the first time."""

        async def wake() -> None:  # a coroutine: another function would run in a thread
            event.set()

        event.set()
        self._scheduler.add_job(wake, "interval", seconds=seconds, timezone=UTC, **_JOB)

    def once_in(self, seconds: float, event: asyncio.Event, name: str) -> None:
        """Set `event` after some seconds of real time, in place of an earlier wake-up `name`."""

        async def wake() -> None:
            event.set()

        moment = datetime.now(UTC) + timedelta(seconds=max(seconds, 0.0))
        self._scheduler.add_job(
            wake,
            "date",
            run_date=moment,
            timezone=UTC,
            id=name,
            replace_existing=True,
            **_JOB,
        )
