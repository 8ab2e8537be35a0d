"""Commands of the room `serving`: the scheduler, a worker, and both sides in one process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from newsletter.cli.base import Context, WorkspaceOption, open_context
from newsletter.errors import DoesNotHold

if TYPE_CHECKING:
    from newsletter.service import Runtime, Ticker
    from newsletter.store import Store

UntilIdleOption = Annotated[
    bool, typer.Option("--until-idle", help="End once nothing is due or in flight.")
]
_PROGRESS_SECONDS = 0.2


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command("scheduler")(scheduler)
    app.command("worker")(worker)
    app.command("run")(run)


def scheduler(until_idle: UntilIdleOption = False, workspace: WorkspaceOption = None) -> None:
    """Run what is due: feeds, editions, sends and notices. Keep one running."""
    run_service(open_context(workspace), new_ticker(), until_idle=until_idle)


def worker(workspace: WorkspaceOption = None) -> None:
    """Run sends only, beside a scheduler. On PostgreSQL any number of them share the work."""
    run_service(open_context(workspace), new_ticker(), sends_only=True)


def run(
    host: Annotated[
        str | None, typer.Option("--host", help="The address to listen on; else the settings'.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="0 takes a free one; else the settings'."),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Run the public site and the scheduler in one process."""
    from newsletter.web import address_of, listen, open_site, serve_app

    context = open_context(workspace)
    web = context.workspace.settings.web
    listener = listen(web.host if host is None else host, web.port if port is None else port)

    async def site(runtime: Runtime) -> None:
        async with open_site(runtime.workspace, runtime.store, runtime.clock) as app:
            await serve_app(app, listener, runtime.stop)

    typer.echo(f"The site is at {address_of(listener)}", err=True)
    with contextlib.closing(listener):
        run_service(context, new_ticker(), beside=site)


def new_ticker() -> Ticker:
    """APScheduler in memory and in UTC, as the service's clock."""
    from datetime import UTC

    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    from newsletter.service import Ticker

    return Ticker(AsyncIOScheduler(timezone=UTC))


def run_service(
    context: Context,
    ticker: Ticker,
    *,
    sends_only: bool = False,
    until_idle: bool = False,
    beside: Callable[[Runtime], Awaitable[None]] | None = None,
) -> None:
    """Run the service until it is idle or stopped; `beside` runs in the same loop.

    SIGTERM ends it in order, Ctrl-C too and then raises `KeyboardInterrupt`. Raises `DoesNotHold`
    if a send was held while a run until idle went on.
    """
    from newsletter.delivery import UNTIL_IDLE, Policy
    from newsletter.logs import configure_logging
    from newsletter.scheduling import check_editions
    from newsletter.service import Runtime, serve
    from newsletter.service.collecting import collect_seldom

    configure_logging()
    check_editions(context.workspace.settings)
    policy = UNTIL_IDLE if until_idle else Policy()
    runtime = Runtime(context.workspace, context.store, context.clock, policy=policy)
    if sys.stderr.isatty():
        runtime.progress = _Progress(context.store)
    interrupted: list[bool] = []

    async def main() -> tuple[str, ...]:
        _stop_on_signals(runtime, interrupted)
        service = serve(runtime, ticker, sends_only=sends_only, until_idle=until_idle)
        if beside is None:
            return (await service).held
        ended, _ = await asyncio.gather(service, _ending_both(runtime, beside))
        return ended.held

    collect_seldom()
    try:
        held = asyncio.run(main())
    finally:
        context.store.close()
    if interrupted:
        raise KeyboardInterrupt
    if until_idle and runtime.quarantine:
        raise DoesNotHold(
            f"nothing is sent: {runtime.quarantine}",
            hint="`newsletter ledger reconcile` asks the providers what they have, and lifts it.",
        )
    if until_idle and held:
        raise DoesNotHold(
            f"held: {', '.join(held)}", hint="`newsletter status` says why, for each of them."
        )


async def _ending_both(runtime: Runtime, beside: Callable[[Runtime], Awaitable[None]]) -> None:
    try:
        await beside(runtime)
    finally:
        runtime.stop.set()


def _stop_on_signals(runtime: Runtime, interrupted: list[bool]) -> None:
    def interrupt() -> None:
        interrupted.append(True)
        runtime.stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, runtime.stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)


class _Progress:
    """One line on the terminal for the send that goes on; called after every batch."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shown_at = 0.0

    def __call__(self, send: str) -> None:
        from newsletter.delivery import counts, find_send

        with self._store.read() as connection:
            row = find_send(connection, send)
            count = counts(connection, row.id)
        left = count["pending"] + count["sending"] + count["in_doubt"]
        now = time.monotonic()
        if left and now - self._shown_at < _PROGRESS_SECONDS:
            return
        self._shown_at = now
        done, total = count["total"] - left, count["total"]
        width = 30 * done // max(total, 1)
        bar = "━" * width + "╌" * (30 - width)
        end = "" if left else "\n"
        sys.stderr.write(f"\r\x1b[K{send} {bar} {done} of {total}{end}")
        sys.stderr.flush()
