"""The transport over real sockets: what never left, what is in doubt, and how long it takes."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import certifi
import pytest

from newsletter.providers.transport import (
    HttpxTransport,
    InDoubt,
    NeverLeft,
    Response,
    Result,
)
from support.sockets import Script, answer, own_certificate, raw_server, read_request


async def post(url: str, transport: HttpxTransport, seconds: float = 0.4) -> Result:
    return await transport.request(
        "POST",
        url,
        headers={"Content-Type": "application/json"},
        body=b"x" * 4_000_000,
        timeout=timedelta(seconds=seconds),
    )


def try_once(
    script: Script,
    *,
    seconds: float = 0.4,
    max_answer: int = 1_000_000,
    tls: ssl.SSLContext | None = None,
) -> Result:
    async def run() -> Result:
        transport = HttpxTransport(max_answer=max_answer)
        async with raw_server(script, tls) as url:
            try:
                return await post(url, transport, seconds)
            finally:
                await transport.close()

    return asyncio.run(run())


def test_a_complete_answer_is_returned_as_it_came() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b'{"a":1}', "202 Accepted", "X-Id: 7\r\n"))

    result = try_once(script)
    assert isinstance(result, Response)
    assert (result.status, result.body, result.headers["x-id"]) == (202, b'{"a":1}', "7")


def test_nobody_listening_means_that_nothing_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def run() -> Result:
        transport = HttpxTransport()
        return await post(f"http://127.0.0.1:{port}", transport)

    assert isinstance(asyncio.run(run()), NeverLeft)


@pytest.mark.parametrize("key", ["s3cr3t\n", "s3cr3t\x00", "s3cr3t-schlüssel"])
def test_a_key_that_no_header_takes_never_leaves_and_is_not_shown(key: str) -> None:
    """Its message ends in the ledger, in `status` and in mail to the editors."""

    async def run() -> Result:
        transport = HttpxTransport()
        async with raw_server(_never_reads) as url:
            try:
                return await transport.request(
                    "POST",
                    url,
                    headers={"Authorization": f"Bearer {key}"},
                    body=b"x",
                    timeout=timedelta(seconds=1),
                )
            finally:
                await transport.close()

    result = asyncio.run(run())
    assert isinstance(result, NeverLeft)
    assert "s3cr3t" not in repr(result)


def test_an_address_that_is_none_never_leaves() -> None:
    async def run() -> Result:
        return await post("http://[::1", HttpxTransport())

    assert isinstance(asyncio.run(run()), NeverLeft)


async def _never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(2)


async def _reads_and_is_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await asyncio.sleep(2)


async def _cuts_amid_the_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await reader.read(1000)
    writer.transport.abort()


async def _cuts_after_the_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await read_request(reader)
    writer.transport.abort()


async def _cuts_amid_the_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    await writer.drain()


async def _cuts_amid_the_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(answer(b"x" * 1000)[:-500])
    await writer.drain()


async def _speaks_no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"220 mail.example ESMTP\r\n")


async def _answers_a_gzip_bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(answer(gzip.compress(b"0" * 50_000_000), headers="Content-Encoding: gzip\r\n"))


async def _answers_too_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(answer(b"0" * 1_500_000))
    await writer.drain()


@pytest.mark.parametrize(
    "script",
    [
        _never_reads,
        _reads_and_is_silent,
        _cuts_amid_the_request,
        _cuts_after_the_request,
        _cuts_amid_the_head,
        _cuts_amid_the_answer,
        _speaks_no_http,
        _answers_a_gzip_bomb,
        _answers_too_much,
    ],
    ids=lambda script: script.__name__.strip("_"),
)
def test_whatever_goes_wrong_after_the_connection_is_in_doubt(script: Script) -> None:
    assert isinstance(try_once(script), InDoubt)


@pytest.mark.parametrize("head_too", [True, False], ids=["in the head", "in the body"])
def test_an_answer_that_trickles_ends_at_the_time_limit(head_too: bool) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        whole = answer(b"y" * 200)
        start = 0 if head_too else whole.index(b"y")
        writer.write(whole[:start])
        for position in range(start, len(whole)):
            writer.write(whole[position : position + 1])
            await writer.drain()
            await asyncio.sleep(0.05)

    began = time.monotonic()
    assert isinstance(try_once(script), InDoubt)
    assert time.monotonic() - began < 2


def _many(script: Script, work: Callable[[HttpxTransport, str], Awaitable[None]]) -> None:
    async def run() -> None:
        transport = HttpxTransport()
        async with raw_server(script) as url:
            await work(transport, url)
        await transport.close()

    asyncio.run(run())


@pytest.mark.slow
def test_many_time_outs_do_not_spoil_the_requests_after_them() -> None:
    healthy = False

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            if not healthy:
                await asyncio.sleep(60)
            writer.write(answer(b"ok"))

    async def get(transport: HttpxTransport, url: str, seconds: float) -> Result:
        return await transport.request("GET", url, headers={}, timeout=timedelta(seconds=seconds))

    async def work(transport: HttpxTransport, url: str) -> None:
        nonlocal healthy
        for _ in range(10):
            results = await asyncio.gather(*(get(transport, url, 0.05) for _ in range(100)))
            assert not any(isinstance(result, Response) for result in results)
        healthy = True
        results = await asyncio.gather(*(get(transport, url, 10) for _ in range(10)))
        assert [r.status for r in results if isinstance(r, Response)] == [200] * 10

    _many(script, work)


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b"ok"))  # it promises to stay, and closes

    async def work(transport: HttpxTransport, url: str) -> None:
        for _ in range(5):
            assert isinstance(await post(url, transport, 5), Response)
            await asyncio.sleep(0.05)

    _many(script, work)


def test_no_redirect_is_followed() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b"", "307 Temporary Redirect", "Location: http://127.0.0.1:9/\r\n"))

    result = try_once(script)
    assert isinstance(result, Response)
    assert result.status == 307


def test_a_hosts_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b"ok"))

    def found(_host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    async def work(transport: HttpxTransport, url: str) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", found)
        url = url.replace("127.0.0.1", "two.example")
        assert isinstance(await post(url, transport, 5), Response)

    _many(script, work)


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context, whose certificate the transport trusts."""
    path, context = own_certificate(tmp_path)
    monkeypatch.setattr(certifi, "where", lambda: str(path))
    return context


def test_requests_over_tls_arrive_whole_and_share_a_connection(tls: ssl.SSLContext) -> None:
    connections = 0
    bodies = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            bodies.append((await read_request(reader)).partition(b"\r\n\r\n")[2])
            writer.write(answer(b"y" * 900_000))

    async def run() -> list[Result]:
        transport = HttpxTransport()
        async with raw_server(script, tls) as url:
            results = [await post(url, transport, 20) for _ in range(2)]
            await transport.close()
        return results

    results = asyncio.run(run())
    assert [r.body for r in results if isinstance(r, Response)] == [b"y" * 900_000] * 2
    assert bodies == [b"x" * 4_000_000] * 2
    assert connections == 1


@pytest.mark.parametrize(
    "script",
    [_never_reads, _reads_and_is_silent, _cuts_amid_the_request, _cuts_amid_the_answer],
    ids=lambda script: script.__name__.strip("_"),
)
def test_what_goes_wrong_over_tls_is_in_doubt(script: Script, tls: ssl.SSLContext) -> None:
    assert isinstance(try_once(script, tls=tls), InDoubt)


def test_a_server_that_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    _, context = own_certificate(tmp_path)
    result = try_once(_reads_and_is_silent, tls=context)
    assert isinstance(result, NeverLeft)
    assert "certificate" in result.reason


def test_a_server_that_never_begins_tls_gets_nothing() -> None:
    async def run() -> Result:
        transport = HttpxTransport()
        async with raw_server(_never_reads) as url:
            try:
                return await post(url.replace("http:", "https:"), transport)
            finally:
                await transport.close()

    assert isinstance(asyncio.run(run()), NeverLeft)


@pytest.mark.parametrize("script", [_never_reads, _reads_and_is_silent])
def test_closing_ends_the_requests_under_way_in_doubt(script: Script) -> None:
    async def work(transport: HttpxTransport, url: str) -> None:
        requests = [asyncio.ensure_future(post(url, transport, 60)) for _ in range(3)]
        await asyncio.sleep(0.3)
        await transport.close()
        async with asyncio.timeout(5):
            results = await asyncio.gather(*requests)
        assert all(isinstance(result, InDoubt) for result in results)

    _many(script, work)
