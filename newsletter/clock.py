"""The clock as an argument: nothing else in the library asks what time it is, or sleeps.

`NEWSLETTER_NOW` (ISO 8601) sets the time at which a process starts; its clock runs on from there.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from newsletter.errors import BadInput


class Clock(Protocol):
    """Wall time in UTC and a sleep that follows it, so that a test can simulate a year."""

    def now(self) -> datetime: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock, moved by a fixed offset when the process was told what time it is."""

    def __init__(self, offset: timedelta = timedelta(0)) -> None:
        self._offset = offset

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def clock_from_environment() -> SystemClock:
    """The process's clock, honouring `NEWSLETTER_NOW`. Raises `BadInput` if that is no time."""
    told = os.environ.get("NEWSLETTER_NOW")
    if not told:
        return SystemClock()
    try:
        start = datetime.fromisoformat(told)
    except ValueError as error:
        raise BadInput(
            f"NEWSLETTER_NOW is not an ISO 8601 time: {told!r}",
            hint="Write for example 2026-11-26T09:00:00Z.",
        ) from error
    if start.tzinfo is None:
        start = start.replace(tzinfo=UTC)
    return SystemClock(start - datetime.fromtimestamp(time.time(), UTC))


def isoformat(moment: datetime) -> str:
    """ISO 8601 in UTC with `Z`, to the second, as all output has it."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
