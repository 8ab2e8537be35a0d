"""The mailbox's API: batches under idempotency keys, look-ups, messages, fault switches.

It checks the token, applies the faults and answers JSON; what becomes of a message is decided in
`acceptance`, and what is kept, in `storage`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from newsletter.clock import Clock, isoformat
from newsletter.errors import BadInput
from newsletter.mailbox.acceptance import Accepted, NotABatch, accept, read_batch
from newsletter.mailbox.faults import Fault, Faults
from newsletter.mailbox.mime import as_eml
from newsletter.mailbox.outgoing import EventPoster
from newsletter.mailbox.serving import drop_connection
from newsletter.mailbox.storage import MailboxStorage

_MAX_BODY = 64_000_000
_MAX_KEY = 256
_MAX_PAGE = 500


@dataclass(frozen=True)
class MailboxOptions:
    """What a mailbox is started with. Without a `webhook_url` it posts no events."""

    storage: Path
    token: str
    webhook_url: str = ""
    webhook_secret: str = field(default="", repr=False)
    faults: Faults = field(default_factory=Faults)
    idempotency: bool = True
    lookup: bool = True
    # Whether the button "unsubscribe" may make requests to other machines.
    unsubscribe_anywhere: bool = False


@dataclass
class Mailbox:
    """A running mailbox: what its handlers share."""

    options: MailboxOptions
    storage: MailboxStorage
    poster: EventPoster
    clock: Clock
    # Keys of requests being worked on: a look-up must not take them for unknown.
    in_progress: set[str] = field(default_factory=set)

    def now(self) -> datetime:
        return self.clock.now()

    def due(self) -> float:
        """When an event that happens now is to be posted: soon, but seldom before the answer."""
        return time() + 0.1


def routes(mailbox: Mailbox) -> list[Route]:
    """The API's routes, each behind the bearer token."""
    api = _Api(mailbox)
    return [
        Route("/v1/batches", _guarded(mailbox, api.post_batch), methods=["POST"]),
        Route("/v1/batches/{key:path}", _guarded(mailbox, api.get_batch), methods=["GET"]),
        Route("/v1/messages", _guarded(mailbox, api.list_messages), methods=["GET"]),
        Route("/v1/messages/{id}", _guarded(mailbox, api.get_message), methods=["GET"]),
        Route("/v1/messages/{id}/raw", _guarded(mailbox, api.get_raw), methods=["GET"]),
        Route("/v1/faults", _guarded(mailbox, api.get_faults), methods=["GET"]),
        Route("/v1/faults", _guarded(mailbox, api.put_faults), methods=["PUT"]),
    ]


Handler = Callable[[Request], Awaitable[Response]]


def _guarded(mailbox: Mailbox, handler: Handler) -> Handler:
    expected = f"bearer {mailbox.options.token}".encode()

    async def guard(request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not hmac.compare_digest(f"{scheme.lower()} {token.strip()}".encode(), expected):
            await _body(request)  # an answer amid the request would look like a dropped one
            return _error(401, "unauthorized", "the bearer token is missing or wrong")
        return await handler(request)

    return guard


class _Api:
    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._storage = mailbox.storage
        self._faults = mailbox.options.faults

    # --- batches --------------------------------------------------------------------------------

    async def post_batch(self, request: Request) -> Response:
        key = request.headers.get("idempotency-key", "").strip()
        if not key or len(key) > _MAX_KEY:
            await _body(request)
            return _error(400, "no_key", f"Idempotency-Key: needed, {_MAX_KEY} characters at most")
        in_progress = self._mailbox.in_progress
        if self._mailbox.options.idempotency and key in in_progress:
            await _body(request)
            return _error(409, "in_progress", "a request with this key is being worked on")
        in_progress.add(key)
        try:
            return await self._work_on(request, key)
        finally:
            in_progress.discard(key)

    async def _work_on(self, request: Request, key: str) -> Response:
        body = await _body(request)
        if body is None:
            return _error(413, "too_large", f"the body is over {_MAX_BODY} bytes")
        if fault := self._faults.strikes("latency"):
            await asyncio.sleep(fault.seconds)
        if fault := self._faults.strikes("rate_limit"):
            wait = {"Retry-After": str(max(round(fault.seconds), 0))}
            return _error(429, "throttled", "too many requests", wait)
        if self._faults.strikes("error_before"):
            return _error(500, "internal", "an internal error")
        if self._faults.strikes("drop_before"):
            return await self._drop(request, key)
        try:
            answer = await asyncio.to_thread(self._answer, key, body)
        except NotABatch as error:
            return _error(error.status, "not_a_batch", str(error))
        if answer is None:
            return _error(409, "key_reused", "this key was used for another request")
        self._mailbox.poster.wake()
        return await self._deliver(request, key, answer)

    def _answer(self, key: str, body: bytes) -> bytes | None:
        """The answer to a batch, kept with it; None if its key was used for another. Blocking."""
        sha256 = hashlib.sha256(body).hexdigest()
        if self._mailbox.options.idempotency and (known := self._storage.batch(key)):
            return known[1] if known[0] == sha256 else None
        now = self._mailbox.now()
        accepted = accept(
            key, read_batch(body), now, lambda: self._faults.strikes("refuse") is not None
        )
        self._keep(key, sha256, accepted, now)
        return accepted.answer

    def _keep(self, key: str, sha256: str, accepted: Accepted, now: datetime) -> None:
        self._storage.accept(
            key,
            sha256,
            accepted.answer,
            accepted.messages,
            accepted.events if self._mailbox.options.webhook_url else [],
            at=isoformat(now),
            due=self._mailbox.due(),
        )

    async def _deliver(self, request: Request, key: str, answer: bytes) -> Response:
        """The answer, unless a fault spoils it on the way."""
        if self._faults.strikes("drop_after"):
            return await self._drop(request, key)
        if self._faults.strikes("error_after"):
            return _error(500, "internal", "an internal error")
        if self._faults.strikes("html"):
            return Response("<!doctype html><title>Welcome</title><h1>It works!</h1>", 200)
        if fault := self._faults.strikes("slow"):
            return StreamingResponse(_slowly(answer, fault), media_type="application/json")
        return Response(answer, media_type="application/json")

    async def _drop(self, request: Request, key: str) -> Response:
        self._mailbox.in_progress.discard(key)  # it ends here, as the client can tell at once
        return await drop_connection(request)

    async def get_batch(self, request: Request) -> Response:
        key = request.path_params["key"]
        if not self._mailbox.options.lookup:
            return _error(501, "lookup_off", "look-up is switched off")
        if self._faults.strikes("lookup_error"):
            return _error(500, "internal", "an internal error")
        if key in self._mailbox.in_progress:
            return _error(409, "in_progress", "a request with this key is being worked on")
        known = await asyncio.to_thread(self._storage.batch, key)
        if known is None:
            return _error(404, "no_such_batch", "no batch was accepted under this key")
        return Response(known[1], media_type="application/json")

    # --- messages -------------------------------------------------------------------------------

    async def list_messages(self, request: Request) -> Response:
        query = request.query_params
        limit, offset = query.get("limit", "50"), query.get("offset", "0")
        if not limit.isdecimal() or not offset.isdecimal() or len(limit + offset) > 15:
            return _error(400, "bad_request", "limit, offset: whole numbers are needed")
        shown, send = min(int(limit), _MAX_PAGE), query.get("send", "")
        if send and not self._mailbox.options.lookup:
            return _error(501, "lookup_off", "look-up is switched off")
        if send and self._faults.strikes("lookup_error"):
            return _error(500, "internal", "an internal error")
        page = await asyncio.to_thread(
            self._storage.page,
            to=query.get("to", ""),
            send=send,
            limit=shown,
            offset=int(offset),
        )
        document = {"messages": page.messages, "total": page.total, "limit": shown}
        document["offset"] = int(offset)
        return _json(document | {"send": send} if send else document)

    async def get_message(self, request: Request) -> Response:
        message = await asyncio.to_thread(self._storage.message, request.path_params["id"])
        if message is None:
            return _error(404, "no_such_message", "no such message")
        return _json(message)

    async def get_raw(self, request: Request) -> Response:
        message = await asyncio.to_thread(self._storage.message, request.path_params["id"])
        if message is None:
            return _error(404, "no_such_message", "no such message")
        return Response(as_eml(message), media_type="message/rfc822")

    # --- fault switches -------------------------------------------------------------------------

    async def get_faults(self, request: Request) -> Response:
        return _json(self._faults.describe())

    async def put_faults(self, request: Request) -> Response:
        try:
            self._faults.change(orjson.loads(await request.body()))
        except orjson.JSONDecodeError as error:
            return _error(400, "bad_request", f"the body is not JSON: {error}")
        except BadInput as error:
            return _error(422, "bad_request", str(error))
        return _json(self._faults.describe())


async def _body(request: Request) -> bytes | None:
    """The whole body; None, read to its end and thrown away, when it is too large."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= _MAX_BODY:
            chunks.append(chunk)
        else:
            chunks.clear()
    return b"".join(chunks) if size <= _MAX_BODY else None


async def _slowly(answer: bytes, fault: Fault) -> AsyncIterator[bytes]:
    for position in range(len(answer)):
        yield answer[position : position + 1]
        await asyncio.sleep(fault.seconds)


def _json(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(document), status, headers, media_type="application/json")


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return _json({"error": message, "code": code}, status, headers)
