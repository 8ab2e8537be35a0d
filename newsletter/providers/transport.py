"""HTTP for provider APIs: the one module that knows which client makes the requests.

It tells apart what never left, what may have arrived and what was answered; it never retries,
cancels or follows anything, and knows no provider. Facts about httpx are those of 0.28.1.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import httpcore
import httpx

from newsletter.providers.base import may_leave
from newsletter.providers.network import DeadlineNetwork, deadline
from newsletter.providers.pieces import Body, chunks

_CONNECT_SECONDS = 10.0
_LONGEST_TURN = 0.1  # seconds
_MAX_ANSWER = 10_000_000
_MAX_CONNECTIONS = 128  # twice what `in_flight` may be: nobody waits for a place
# Shorter than servers keep theirs: a connection that the server is about to close is not reused.
_KEEPALIVE_SECONDS = 5.0
_REPLACE_AFTER = 3  # failures in a row
_UNMAKEABLE = "the request cannot be made: its address or a header (the key?) is not valid"

# It logs whole URLs at INFO, and they may hold addresses and keys.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer. Header names are in lower case; the body is as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NeverLeft:
    """The other side has no byte of the request's body, if anything at all."""

    reason: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The request, or a part of it, left; what became of it is not known."""

    reason: str


Result = Response | NeverLeft | InDoubt


class Transport(Protocol):
    """Makes one request. Nothing that the outside world does makes it raise."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Body = b"",
        timeout: timedelta,
    ) -> Result:
        """`timeout` is for the whole request, its answer included."""
        ...

    async def close(self) -> None: ...


class HttpxTransport:
    """The transport over httpx. A client that misbehaves is replaced and closed once it is idle."""

    def __init__(self, *, max_answer: int = _MAX_ANSWER) -> None:
        self._max_answer = max_answer
        self._ssl = httpx.create_ssl_context(trust_env=False)
        self._client = self._new_client()
        self._turns = _Turns()
        self._failures = 0
        self._in_use: dict[httpx.AsyncClient, int] = {}
        self._retired: set[httpx.AsyncClient] = set()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Body = b"",
        timeout: timedelta,
    ) -> Result:
        client = self._client
        self._in_use[client] = self._in_use.get(client, 0) + 1
        seconds = timeout.total_seconds()
        token = deadline.set(asyncio.get_running_loop().time() + seconds)
        ended = False
        try:
            result = await self._attempt(client, method, url, headers, body, seconds)
            ended = True
            return result
        finally:
            deadline.reset(token)
            if not ended:  # cancelled from outside: its pool never recovers from that
                self._retire(client)
            await self._done_with(client)

    async def _attempt(
        self,
        client: httpx.AsyncClient,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body,
        seconds: float,
    ) -> Result:
        content = _Body(body, self._turns)
        try:
            request = client.build_request(
                method,
                url,
                headers={
                    **headers,
                    "Accept-Encoding": "identity",
                    "Content-Length": str(len(body)),  # else httpx would send it in chunks
                },
                content=content,
                timeout=httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
            )
        except (httpx.InvalidURL, ValueError):  # an address, or a header that is not ASCII
            return NeverLeft(_UNMAKEABLE)
        try:
            response = await client.send(request, stream=True)
            try:
                result = await self._read(response)
            finally:
                await response.aclose()
        except _TooLate as late:
            return NeverLeft(str(late))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._failed(client)
            return NeverLeft(f"no connection: {_describe(error)}")
        except httpx.PoolTimeout:
            self._retire(client)
            return NeverLeft("no free connection")
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            # Its text holds the header that is wrong, and that may be the one with the secret.
            return InDoubt(type(error).__name__) if content.begun else NeverLeft(_UNMAKEABLE)
        except (httpx.HTTPError, httpx.StreamError) as error:
            self._failed(client)
            return InDoubt(_describe(error))
        finally:
            content.forget()
        self._failures = 0
        return result

    async def _read(self, response: httpx.Response) -> Result:
        """The body as it came, up to the limit; it is never decompressed."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            return InDoubt("the answer is compressed, which was not asked for")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._max_answer:
                return InDoubt(f"the answer is over {self._max_answer} bytes")
        return Response(response.status_code, dict(response.headers), bytes(body))

    async def close(self) -> None:
        """Close every connection; requests under way end in doubt. A later one opens its own."""
        closing = {self._client, *self._retired}
        self._client = self._new_client()
        self._retired.clear()
        for client in closing:
            await client.aclose()

    # --- clients that misbehave -----------------------------------------------------------------

    def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=_DeadlineTransport(self._ssl), trust_env=False, follow_redirects=False
        )

    def _failed(self, client: httpx.AsyncClient) -> None:
        self._failures += 1
        if self._failures >= _REPLACE_AFTER:
            self._retire(client)

    def _retire(self, client: httpx.AsyncClient) -> None:
        if client is self._client:
            self._client = self._new_client()
            self._failures = 0
            self._retired.add(client)

    async def _done_with(self, client: httpx.AsyncClient) -> None:
        self._in_use[client] -= 1
        if self._in_use[client] == 0:
            del self._in_use[client]
            if client in self._retired:
                self._retired.discard(client)
                await client.aclose()


class _TooLate(Exception):
    """The request must not leave any more, and a part of it at least has not."""


class _Turns:
    """Bodies leave one after the other: all at once, each would arrive as late as the last.

    Nobody waits for long: a connection that stands still must not hold up the others.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self) -> bool:
        """Whether it is one's turn; false where it did not come in time."""
        try:
            async with asyncio.timeout(_LONGEST_TURN):
                return await self._lock.acquire()
        except TimeoutError:
            return False

    def give(self) -> None:
        self._lock.release()


class _Body(httpx.AsyncByteStream):
    """A request's body, given out in pieces, and forgotten once the request is over.

    httpx's request and response refer to each other, so that megabytes would stay in memory until
    the garbage collector runs; and a body written at once is copied whole on its way.
    """

    def __init__(self, body: Body, turns: _Turns) -> None:
        self._body = body
        self._turns = turns
        self._has_turn = False
        self.begun = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._has_turn = await self._turns.take()
        for number, chunk in enumerate(chunks(self._body)):
            # An incomplete request is none: what is left of it must not go out later than anybody
            # waits for it, whatever has kept this process from running.
            if number == 0 and not may_leave.get()():
                raise _TooLate("it was too late to make the request")
            if number and asyncio.get_running_loop().time() > deadline.get():
                raise _TooLate("the time for the request was over before all of it had left")
            self.begun = True
            yield chunk
        self._give_turn()

    def _give_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._turns.give()

    def forget(self) -> None:
        self._give_turn()
        self._body = b""


def _describe(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _DeadlineTransport(httpx.AsyncHTTPTransport):
    """httpx's transport on our network, for which it has no parameter: hence its attribute."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_MAX_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            retries=0,
            network_backend=DeadlineNetwork(),
        )
