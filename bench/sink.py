"""A provider that accepts everything and keeps nothing, over real HTTP, in a process of its own.

It speaks the formats of the mailbox, Postmark and SendGrid, reads a request whole into a buffer
that it keeps, and finds its recipients without parsing it. It is the same for what is measured and
for the baselines, and cheap enough not to be what limits them.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ALIAS = re.compile(rb'"Alias":"([^"]+)"')
_SENDS = (b"POST /v3/mail/send", b"POST /email/", b"POST /v1/batches")
_ROOM = 1 << 20


class _Sink(asyncio.BufferedProtocol):
    """One connection. Bytes are received into one buffer, which grows to the largest request."""

    def __init__(self, counts: dict[str, float], latency: float) -> None:
        self.counts = counts
        self.latency = latency
        self.buffer = bytearray(_ROOM)
        self.filled = 0
        self.needed = 0
        self.head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        if len(self.buffer) - self.filled < _ROOM:
            self.buffer.extend(bytes(max(len(self.buffer), self.needed - len(self.buffer))))
        return memoryview(self.buffer)[self.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self.filled += nbytes
        if not self.needed:
            end = self.buffer.find(b"\r\n\r\n", 0, self.filled)
            if end < 0:
                return
            length = _LENGTH.search(self.buffer, 0, end)
            self.head_bytes = end + 4
            self.needed = self.head_bytes + (int(length[1]) if length else 0)
            if bytes(self.buffer[: self.head_bytes]).startswith(_SENDS):
                self.counts.setdefault("first_request_at", time.monotonic())
        if self.filled < self.needed:
            return
        method, path, _ = bytes(self.buffer[: self.head_bytes]).split(b" ", 2)
        status, headers, body = self.answer(method, path)
        answer = (
            b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"
            % (status, len(body), headers)
        ) + body
        self.filled = self.needed = 0
        if self.latency and method == b"POST":
            asyncio.get_running_loop().call_later(self.latency, self.transport.write, answer)
        else:
            self.transport.write(answer)

    def answer(self, method: bytes, path: bytes) -> tuple[bytes, bytes, bytes]:
        """Status line, further headers and body for the request in the buffer."""
        if path == b"/stats":
            return b"200 OK", b"", json.dumps(self.counts).encode()
        if path == b"/reset":
            self.counts.clear()
            return b"200 OK", b"", b"{}"
        self.counts["requests"] = self.counts.get("requests", 0) + 1
        self.counts["bytes"] = self.counts.get("bytes", 0) + self.needed
        if path.startswith(b"/v3/mail/send"):
            return b"202 Accepted", b"X-Message-Id: m%d\r\n" % self.counts["requests"], b""
        if path.startswith(b"/templates"):
            if method == b"GET":
                return b"422 Unprocessable Entity", b"", b'{"ErrorCode":1101,"Message":"none"}'
            made = _ALIAS.search(self.buffer, self.head_bytes, self.needed)
            alias = made[1] if made else b""
            return b"200 OK", b"", b'{"ErrorCode":0,"TemplateId":1,"Alias":"%s"}' % alias
        if path.startswith(b"/email/batch"):
            items = [
                b'{"ErrorCode":0,"Message":"OK","MessageID":"m-%d","To":"%s"}' % pair
                for pair in enumerate(self.found(b'"To":"'))
            ]
            return b"200 OK", b"", b"[" + b",".join(items) + b"]"
        items = [b'{"id":"m-%d","to":"%s"}' % pair for pair in enumerate(self.found(b'"to":"'))]
        return b"200 OK", b"", b'{"batch":"b","results":[' + b",".join(items) + b"]}"

    def found(self, mark: bytes) -> Iterator[bytes]:
        """The strings after each mark; messages are about as long as the first one."""
        buffer, end = self.buffer, self.needed
        place = buffer.find(mark, self.head_bytes, end)
        stride = 0
        while place >= 0:
            start = place + len(mark)
            yield bytes(buffer[start : buffer.index(b'"', start, end)])
            following = buffer.find(mark, place + max(stride, 1), end)
            if not stride and following > 0:
                stride = (following - place) * 9 // 10
            place = following


def _serve(listening: socket.socket, latency: float) -> None:
    async def main() -> None:
        counts: dict[str, float] = {}
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Sink(counts, latency), sock=listening)
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def running_sink(latency: float = 0.0) -> Iterator[str]:
    """A sink in its own process that answers after `latency` seconds; yields its base address."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    process = multiprocessing.get_context("fork").Process(
        target=_serve, args=(listening, latency), daemon=True
    )
    process.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        process.terminate()
        process.join()
        listening.close()


def ask_sink(url: str, path: str) -> dict[str, Any]:
    """`/stats` (requests, bytes, when the first one came by the monotonic clock), or `/reset`."""
    with urllib.request.urlopen(url + path, timeout=30) as answer:
        told: dict[str, Any] = json.load(answer)
    return told
