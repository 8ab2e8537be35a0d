"""A provider that accepts everything at once and keeps nothing: both formats, over real HTTP.

It runs in a process of its own, reads a request whole, finds out how many messages it holds without
parsing it all, and answers in the API's form. It is the same for what is measured and the baseline.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TO_MAILBOX = re.compile(rb'"to":"([^"]+)"')
_TO_POSTMARK = re.compile(rb'"To":"([^"]+)"')


class _Sink(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = bytearray()
        self.needed = -1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            if self.needed < 0:
                end = self.buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                head = bytes(self.buffer[:end])
                length = _LENGTH.search(head)
                self.path = head.split(b" ", 2)[1]
                self.head_bytes = end + 4
                self.needed = self.head_bytes + (int(length[1]) if length else 0)
            if len(self.buffer) < self.needed:
                return
            body = bytes(self.buffer[self.head_bytes : self.needed])
            del self.buffer[: self.needed]
            self.needed = -1
            self.transport.write(_respond(self.path, body))


def _respond(path: bytes, body: bytes) -> bytes:
    if path.startswith(b"/email/batch"):
        answer = orjson.dumps(
            [
                {"ErrorCode": 0, "Message": "OK", "MessageID": f"m-{n}", "To": to.decode()}
                for n, to in enumerate(_TO_POSTMARK.findall(body))
            ]
        )
    else:
        answer = orjson.dumps(
            {
                "batch": "b",
                "results": [
                    {"to": to.decode(), "id": f"m-{n}"}
                    for n, to in enumerate(_TO_MAILBOX.findall(body))
                ],
            }
        )
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(answer)
    ) + answer


def _serve(listening: socket.socket) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Sink, sock=listening)
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def running_sink() -> Iterator[str]:
    """A sink in its own process; yields its base address."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(64)
    process = multiprocessing.get_context("fork").Process(
        target=_serve, args=(listening,), daemon=True
    )
    process.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        process.terminate()
        process.join()
        listening.close()
