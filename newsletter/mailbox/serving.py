"""A server for one ASGI app: its socket, its end by signals, and connections that can be dropped.

It knows nothing of mail.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from newsletter.errors import Unreachable

_EXTENSION = "newsletter.connection"
_SECONDS_TO_FINISH = 5


class DroppableProtocol(HttpToolsProtocol):
    """HTTP whose requests can reach the connection they came over."""

    def on_message_begin(self) -> None:
        super().on_message_begin()  # type: ignore[no-untyped-call,unused-ignore]
        self.scope["extensions"] = {_EXTENSION: {"transport": self.transport}}


async def drop_connection(request: Request) -> Response:
    """Cut the request's connection without an answer; the response returned goes nowhere."""
    transport = cast(asyncio.Transport, request.scope["extensions"][_EXTENSION]["transport"])
    transport.abort()
    await asyncio.sleep(0.01)  # until the server has noticed: it then sends nothing
    return Response(status_code=503)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises `Unreachable` naming the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise Unreachable(
            f"the port {port} of {host} cannot be used: {error.strerror}",
            hint="Stop what uses it, or take another with --port.",
        ) from error


class _Server(uvicorn.Server):
    """uvicorn's server, whose signals are ours: SIGTERM ends in order, and so does Ctrl-C."""

    interrupted = False

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until SIGTERM; after Ctrl-C, `KeyboardInterrupt` is raised once all has ended."""
    config = uvicorn.Config(
        app,
        http=DroppableProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        server_header=False,
    )
    server = _Server(config)

    def end(interrupted: bool) -> None:
        server.interrupted = server.interrupted or interrupted
        server.should_exit = True

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, end, False)
        loop.add_signal_handler(signal.SIGINT, end, True)
        await server.serve(sockets=[listening])

    asyncio.run(run())
    if server.interrupted:
        raise KeyboardInterrupt
