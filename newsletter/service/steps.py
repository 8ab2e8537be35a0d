"""The four steps of the service, and one round of them. A failing step never stops another.

Feeds and editions are for one service at a time; sends and notices for any number.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from newsletter import outbox
from newsletter.content.polling import poll_feeds
from newsletter.delivery import run_due
from newsletter.errors import NewsletterError, Unreachable
from newsletter.fetching import Fetcher
from newsletter.providers.base import Provider
from newsletter.scheduling import editions_tick
from newsletter.service.leadership import Leader, LeaseLeader
from newsletter.service.runtime import Runtime
from newsletter.workspace import Workspace

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 10.0  # how late edited settings are noticed while a send is under way

Step = Callable[[Runtime], Awaitable[None]]


async def tick(runtime: Runtime) -> None:
    """One round: feeds, editions, everything due to be sent, and the outbox.

    Raises `Unreachable` when the database is; whatever else fails is told to the editors.
    """
    for step in (feeds, editions, sends, notices):
        await guarded(runtime, step)


async def guarded(runtime: Runtime, step: Step) -> bool:
    """Run a step; false if it failed, which is logged and told to the editors once a cause and day.

    Raises `Unreachable`, as nothing can be told without the database.
    """
    try:
        runtime.read_settings_again()
        await step(runtime)
    except Unreachable:
        raise
    except Exception as error:
        name = step.__name__
        if isinstance(error, NewsletterError):
            _log.error("%s: %s", name, error)
        else:
            _log.exception("%s failed", name)
        _tell(runtime, name, error)
        return False
    return True


def _tell(runtime: Runtime, step: str, error: Exception) -> None:
    now = runtime.clock.now()
    problem = str(error) or type(error).__name__
    digest = hashlib.sha256(f"{type(error).__name__}{problem}".encode()).hexdigest()[:16]
    with runtime.store.begin() as connection:
        outbox.notify_editors(
            connection,
            runtime.workspace,
            now,
            cause=f"service:{step}:{digest}:{now:%Y-%m-%d}",
            subject=f"The scheduler meets an error ({step})",
            text="It goes on with everything else, and tries this again:\n\n"
            + "\n".join(f"    {line}" for line in problem.splitlines()),
        )


# --- for one service at a time --------------------------------------------------------------------


async def feeds(runtime: Runtime) -> None:
    """Fetch the feeds that are due, one after another until stopped."""
    settings = runtime.workspace.settings
    if not settings.feeds:
        return
    leader = _leader(runtime)
    async with _staying(leader, "feeds"):
        for feed in settings.feeds:
            if runtime.stop.is_set() or not await leader.leads("feeds"):
                return
            one = settings.model_copy(update={"feeds": [feed]})
            workspace = Workspace(runtime.workspace.root, one)
            fetcher = Fetcher(settings.fetch)
            polled = await asyncio.to_thread(
                poll_feeds, workspace, runtime.store, runtime.clock, fetcher
            )
            for rejected in polled.added.rejected:
                _tell_feed(runtime, feed.url, f"{rejected.source}: {rejected.reason}")


def _tell_feed(runtime: Runtime, url: str, problem: str) -> None:
    """A feed, or an entry of one, that cannot be taken in: told once a day while it lasts."""
    now = runtime.clock.now()
    _log.warning("the feed %s: %s", url, problem)
    with runtime.store.begin() as connection:
        outbox.notify_editors(
            connection,
            runtime.workspace,
            now,
            cause=f"feed:{url}:{now:%Y-%m-%d}",
            subject="A feed cannot be taken in",
            text=f"The feed `{url}` is tried again in its time. What went wrong:\n\n"
            + "\n".join(f"    {line}" for line in problem.splitlines()),
        )


async def editions(runtime: Runtime) -> None:
    """Plan, draft, look after and send what the editions have due."""
    if not runtime.workspace.settings.editions:
        return
    leader = _leader(runtime)
    if not await leader.leads("editions"):
        return
    async with _staying(leader, "editions"):
        await asyncio.to_thread(editions_tick, runtime.workspace, runtime.store, runtime.clock)


def _leader(runtime: Runtime) -> Leader:
    return runtime.leader or LeaseLeader(runtime)


@contextlib.asynccontextmanager
async def _staying(leader: Leader, name: str) -> AsyncIterator[None]:
    """Keep the lead while a long step runs in its thread; on the loop's time, as that is real."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(leader.beat)
            with contextlib.suppress(Unreachable):
                await leader.leads(name)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()


# --- for any number of services -------------------------------------------------------------------


async def sends(runtime: Runtime) -> None:
    """Send everything due, until nothing is due or in flight.

    A send may take days: when the settings are edited meanwhile, the engine's run ends in order and
    another goes on by the new ones.
    """
    while not runtime.stop.is_set():
        workspace = runtime.workspace
        async with _until_edited(runtime) as ended:
            report = await run_due(dataclasses.replace(runtime.delivery(), stop=ended))
        runtime.held.update(report.held)
        runtime.quarantine = report.quarantine
        if runtime.workspace is workspace:
            return


@contextlib.asynccontextmanager
async def _until_edited(runtime: Runtime) -> AsyncIterator[asyncio.Event]:
    """An event that is set when the service is stopped or goes by other settings than now."""
    workspace, ended = runtime.workspace, asyncio.Event()

    async def watch() -> None:
        try:
            while runtime.workspace is workspace and not runtime.stop.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(runtime.stop.wait(), _LOOK_SECONDS)
                with contextlib.suppress(Unreachable):
                    runtime.read_settings_again()
        finally:
            ended.set()

    watching = asyncio.create_task(watch())
    try:
        yield ended
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def notices(runtime: Runtime) -> None:
    """Send what is in the outbox, if anything is due there."""
    with runtime.store.read() as connection:
        due = outbox.next_due(connection, runtime.workspace)
    if due is None or due > runtime.clock.now():
        return
    opened: dict[str, Provider] = {}
    workspace, clock = runtime.workspace, runtime.clock

    def opener(name: str) -> Provider:
        if name not in opened:
            opened[name] = runtime.open_provider(workspace, clock, name)
        return opened[name]

    try:
        await outbox.flush(workspace, runtime.store, clock, opener)
    finally:
        for provider in opened.values():
            await provider.close()
