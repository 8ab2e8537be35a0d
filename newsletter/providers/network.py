"""The network below the HTTP client: bare sockets, whose waits end at the request's deadline.

A time-out of httpx is for one read: a byte a second would hold a request for ever, and to cancel it
would poison the pool. And its own network copies what a socket does not take at once, twice, and
sets up a scope for every write: for megabytes that costs as much as the kernel does.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import httpcore

_T = TypeVar("_T")
# A host's next address is tried then. One after the other: who races them can lose a socket.
_NEXT_ADDRESS_SECONDS = 1.0

#: The loop's time at which the current request must be over, whatever trickles in.
deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class DeadlineNetwork(httpcore.AsyncNetworkBackend):
    """Makes connections for httpcore's pool, which asks for no local address and no options.

    What goes wrong has the names that it expects.
    """

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        with _named(httpcore.ConnectError, httpcore.ConnectTimeout):
            async with asyncio.timeout_at(_end(timeout)):
                return _Stream(await _connect(host, port))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _connect(host: str, port: int) -> socket.socket:
    """A connection to the first of the host's addresses that takes one soon, or to the last."""
    loop = asyncio.get_running_loop()
    *others, last = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for each in others:
        with suppress(OSError):
            async with asyncio.timeout(_NEXT_ADDRESS_SECONDS):
                return await _connect_to(each)
    return await _connect_to(last)


async def _connect_to(found: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, address = found
    bare = socket.socket(family, kind, protocol)
    try:
        bare.setblocking(False)
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(bare, address)
    except BaseException:
        bare.close()
        raise
    return bare


class _Stream(httpcore.AsyncNetworkStream):
    """A connection. Nothing is kept here of what is written: the kernel has it, or nobody."""

    def __init__(self, bare: socket.socket) -> None:
        self._socket = bare
        self._waiting: asyncio.Future[None] | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _named(httpcore.ReadError, httpcore.ReadTimeout):
            return await self._do(partial(self._socket.recv, max_bytes), _end(timeout))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        end, left = _end(timeout), memoryview(buffer)
        with _named(httpcore.WriteError, httpcore.WriteTimeout):
            while left:
                sent = await self._do(partial(self._socket.send, left), end, writing=True)
                left = left[sent:]
        await asyncio.sleep(0)  # to whoever else waits for the loop, however fast it is read

    async def aclose(self) -> None:
        self._stop_waiting(ConnectionAbortedError("the connection was closed"))
        self._socket.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        end = _end(timeout)
        with _named(httpcore.ConnectError, httpcore.ConnectTimeout):
            try:
                secured = ssl_context.wrap_socket(
                    self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
                )
                stream = _Stream(secured)
            except BaseException:
                await self.aclose()
                raise
            try:
                await stream._do(secured.do_handshake, end)
            except BaseException:
                await stream.aclose()
                raise
        return stream

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "ssl_object":
                return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
            case "socket":
                return self._socket
            case "is_readable":  # asked of an idle connection: whether the other side has closed it
                return _is_readable(self._socket)
        return None

    async def _do(self, operation: Callable[[], _T], end: float, *, writing: bool = False) -> _T:
        """The operation's result, as soon as the socket lets it have one. Raises `TimeoutError`."""
        while True:
            try:
                return operation()
            except ssl.SSLWantReadError:
                writing = False
            except ssl.SSLWantWriteError:
                writing = True
            except BlockingIOError:
                pass
            await self._wait(end, writing=writing)

    async def _wait(self, end: float, *, writing: bool) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = ready = loop.create_future()
        (loop.add_writer if writing else loop.add_reader)(self._socket.fileno(), _wake, ready)
        try:
            async with asyncio.timeout_at(end):
                await ready
        finally:
            if self._waiting is ready:
                self._stop_waiting()

    def _stop_waiting(self, error: OSError | None = None) -> None:
        """At once: when the waiting task is run, the socket's number may be another's."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        loop = waiting.get_loop()
        loop.remove_reader(self._socket.fileno())
        loop.remove_writer(self._socket.fileno())
        if error is not None and not waiting.done():
            waiting.set_exception(error)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _is_readable(bare: socket.socket) -> bool:
    if bare.fileno() < 0:
        return True
    asked = select.poll()
    asked.register(bare, select.POLLIN)
    return bool(asked.poll(0))


def _end(timeout: float | None) -> float:
    """The loop's time at which a wait must end."""
    if timeout is None:
        return deadline.get()
    return min(asyncio.get_running_loop().time() + timeout, deadline.get())


@contextmanager
def _named(
    error: type[httpcore.NetworkError], late: type[httpcore.TimeoutException]
) -> Iterator[None]:
    """What goes wrong, by the names that httpcore's callers expect."""
    try:
        yield
    except TimeoutError as caught:
        raise late(str(caught)) from caught
    except OSError as caught:
        raise error(str(caught)) from caught
