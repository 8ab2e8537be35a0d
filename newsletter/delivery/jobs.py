"""What working on a batch takes: the batch and its surroundings, requests that are never cancelled,
and commits of outcomes that go on until they are written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection

from newsletter.delivery import leases
from newsletter.delivery.composing import Letter
from newsletter.delivery.leases import Lease
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.errors import Unreachable
from newsletter.providers.base import Provider, Unknown, lag_of

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_COMMITS_AFTER_STOP = 30


@dataclass(frozen=True, slots=True)
class Job:
    """A leased batch with what it takes to work on it."""

    runtime: DeliveryRuntime
    provider: Provider
    letter: Letter
    lease: Lease
    slot: asyncio.Semaphore  # one of the provider's requests in flight
    probing: datetime | None = None  # the claim to try the provider, whose breaker is open

    @property
    def name(self) -> str:
        """The provider's, in the settings."""
        return self.provider.settings.name

    @property
    def lag(self) -> timedelta:
        """How long after a request an empty look-up proves nothing."""
        return lag_of(self.provider)


def within_lease(job: Job) -> Callable[[], bool]:
    """Whether the lease that the attempt was committed under has not run out, by either clock.

    The loop's does not jump, and the wall's runs on while the machine is suspended.
    """
    clock, until = job.runtime.clock, job.lease.until
    loop = asyncio.get_running_loop()
    over = loop.time() + (until - clock.now()).total_seconds()
    return lambda: loop.time() < over and clock.now() < until


async def make_request(job: Job, call: Coroutine[Any, Any, _T]) -> _T | Unknown:
    """Await a request to its end, keeping the lease alive; it is never cancelled.

    A provider raises nothing that the outside world causes; if it does raise, nothing is known.
    """
    runtime, lease = job.runtime, job.lease
    duration = runtime.workspace.settings.delivery.lease
    task = asyncio.ensure_future(call)
    while True:
        # The loop's own time, not the clock's: a clock that jumps must not end the wait.
        done, _ = await asyncio.wait({task}, timeout=duration.total_seconds() / 3)
        if done:
            break
        try:
            with runtime.store.begin() as connection:
                leases.renew(connection, lease, runtime.clock.now(), duration)
        except Unreachable as error:
            _log.warning("the lease of batch %d could not be renewed: %s", lease.number, error)
    try:
        return task.result()
    except Exception as error:
        _log.exception("the provider %s failed inside", job.provider.settings.name)
        return Unknown(f"the provider's module failed: {type(error).__name__}")


async def commit(runtime: DeliveryRuntime, work: Callable[[Connection], None]) -> None:
    """Commit an outcome, however long the database is locked, full or away.

    After a stop it gives up in the end: the attempt then is `started`, which is settled later.
    """

    def write() -> None:
        with runtime.store.begin() as connection:
            work(connection)

    failures = 0
    while True:
        try:
            await runtime.aside(write)
            return
        except Unreachable as error:
            failures += 1
            if runtime.stop.is_set() and failures > _COMMITS_AFTER_STOP:
                raise
            _log.warning("an outcome could not be written and is tried again: %s", error)
        await runtime.clock.sleep(min(0.1 * failures, 1.0))
