"""Runs the web app in uvicorn: one port, orderly endings, and no address of a page in any log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette

from newsletter import outbox
from newsletter.clock import Clock
from newsletter.errors import NewsletterError, Unreachable
from newsletter.store import Store, open_store
from newsletter.web.app import create_app
from newsletter.web.context import trusted_networks
from newsletter.web.providers import Providers
from newsletter.workspace import Workspace

_log = logging.getLogger(__name__)

_GRACE_SECONDS = 10  # for requests in flight when the server is told to stop


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the caller's: uvicorn would raise them again and end the process by them."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `Unreachable` when that cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise Unreachable(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="Choose another port with --port; 0 takes a free one.",
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """The address at which a browser on this machine finds the listener."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve_app(app: Starlette, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then finish the requests in flight; other tasks may run beside.

    Forwarded headers are the app's business: uvicorn's own belief in 127.0.0.1 is switched off.
    There is no access log, as addresses carry tokens.
    """
    # uvicorn's own switch alone does not hold: whatever configures logging, no address is logged.
    logging.getLogger("uvicorn.access").disabled = True
    server = _Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )

    async def watch() -> None:
        await stop.wait()
        server.should_exit = True

    watcher = asyncio.create_task(watch())
    try:
        await server.serve(sockets=[listener])
    finally:
        watcher.cancel()
        listener.close()


async def serve_until_signal(app: Starlette, listener: socket.socket) -> bool:
    """Serve until SIGTERM or Ctrl-C; whether it was Ctrl-C."""
    stop, interrupted = asyncio.Event(), asyncio.Event()

    def interrupt() -> None:
        interrupted.set()
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    await serve_app(app, listener, stop)
    return interrupted.is_set()


def serve(workspace: Workspace, clock: Clock, host: str, port: int) -> None:
    """Run the site until SIGTERM, or until Ctrl-C (then `KeyboardInterrupt` comes out)."""
    trusted_networks(workspace.settings)  # a wrong setting is told before anything is opened
    listener = listen(host, port)
    store = open_store(workspace.settings.database.url, workspace.root)

    async def run() -> bool:
        async with open_site(workspace, store, clock) as app:
            return await serve_until_signal(app, listener)

    print(f"The site is at {address_of(listener)}", file=sys.stderr, flush=True)  # noqa: T201
    try:
        interrupted = asyncio.run(run())
    finally:
        store.close()
    if interrupted:
        raise KeyboardInterrupt


@contextlib.asynccontextmanager
async def open_site(workspace: Workspace, store: Store, clock: Clock) -> AsyncIterator[Starlette]:
    """The app with providers and a way to send its mail, closed again at the end."""
    providers = Providers(workspace, clock)
    sending = asyncio.Lock()

    async def flush() -> None:
        async with sending:
            try:
                await outbox.flush(workspace, store, clock, providers.open)
            except NewsletterError as error:  # the mail stays queued, and the scheduler tries again
                _log.error("the outbox cannot be sent: %s", error)

    try:
        yield create_app(workspace, store, clock, provider=providers.open, flush=flush)
    finally:
        await providers.close()
