"""Who is woken when there is work of a kind: the service's loops, and an engine that rests.

It says when to look, and never what is there: the database does.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta

from newsletter.store.notifying import Topic

_GATHER_SECONDS = 0.02  # what is told within that time is one reason to look


class Bell:
    """Sets the events that were hung for a topic when it is rung."""

    def __init__(self) -> None:
        self._events: dict[Topic, list[asyncio.Event]] = defaultdict(list)

    def hang(self, topic: Topic, event: asyncio.Event) -> None:
        """Have `event` set whenever there may be work of that kind."""
        self._events[topic].append(event)

    def ring(self, topic: str | None = None) -> None:
        """Wake those who wait for a topic, or everybody where it is not known what was missed."""
        for known, events in self._events.items():
            if topic in {known, None}:
                for event in events:
                    event.set()


class Waking:
    """The engine's `Wake`: a rest on the loop's own time that the bell ends early."""

    #: Batches of a worker that was killed on this machine are noticed by a look, not by the bell.
    longest = timedelta(seconds=10)

    def __init__(self, bell: Bell) -> None:
        self._event = asyncio.Event()
        bell.hang("sends", self._event)

    async def wait(self, seconds: float) -> None:
        """Return after some seconds, or soon after the bell was rung since the last rest."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
                await asyncio.sleep(_GATHER_SECONDS)
        except TimeoutError:
            pass
        self._event.clear()
