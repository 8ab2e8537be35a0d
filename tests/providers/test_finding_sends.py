"""A provider that can be asked for a whole send says all that it has of it, or that it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from newsletter.clock import SystemClock
from newsletter.providers import postmark
from newsletter.providers.base import Answered, Batch, FindsSends, FoundSend, Message
from newsletter.providers.mailbox import MailboxProvider
from newsletter.providers.transport import HttpxTransport
from newsletter.settings import ProviderSettings
from support.mailboxes import TOKEN, running_mailbox
from support.postmark_server import PostmarkServer
from support.sockets import answer, raw_server, read_request

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


@dataclass
class Server:
    kind: Any
    url: str
    key: str

    def ask(self, send: str) -> FoundSend:
        async def run() -> FoundSend:
            provider = self.open()
            try:
                assert isinstance(provider, FindsSends)
                return await provider.find_send(send, since=NOW)
            finally:
                await provider.close()

        return asyncio.run(run())

    def open(self) -> Any:
        return self.kind(
            ProviderSettings(name="main", kind="mailbox", base_url=self.url),
            api_key=self.key,
            webhook_secrets=["user:password"],
            clock=SystemClock(),
            transport=HttpxTransport(),
        )

    def send(self, send: str, key: str, first: int, count: int) -> None:
        async def run() -> None:
            provider = self.open()
            metadata = {"attempt": key, "delivery": "1.1", "send": send}
            people = [f"reader{number}@example.com" for number in range(first, first + count)]
            batch = Batch(key, [message(person, metadata) for person in people])
            assert isinstance(await provider.send(provider.prepare(batch)), Answered)
            await provider.close()

        asyncio.run(run())


def message(to: str, metadata: dict[str, str]) -> Message:
    sender = ("Glow", "hello@glow.example")
    return Message(("", to), sender, "", "Hello", "<p>Hi</p>", "Hi", (), metadata)


@pytest.fixture(params=["mailbox", "postmark"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    if request.param == "mailbox":
        with running_mailbox(tmp_path) as mailbox:
            yield Server(MailboxProvider, mailbox.url, TOKEN)
    else:
        with PostmarkServer() as running:
            yield Server(postmark.PostmarkProvider, running.url, running.token)


def test_all_messages_of_a_send_are_found_with_their_attempts(server: Server) -> None:
    server.send("milia.1", "k1", 1, 500)
    server.send("milia.1", "k2", 501, 200)
    server.send("milia.10", "k3", 1, 3)
    found = server.ask("milia.1")
    assert (found.total, found.complete) == (700, True)
    by_address = {each.recipient: each for each in found.messages}
    assert len(by_address) == 700
    assert by_address["reader500@example.com"].attempt == "k1"
    assert by_address["reader501@example.com"].attempt == "k2"
    assert len({each.provider_message_id for each in found.messages}) == 700
    assert server.ask("spring.1") == FoundSend((), 0)


def test_what_is_no_answer_proves_nothing() -> None:
    async def web_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b"<html>It works!</html>"))
        await writer.drain()

    async def run(kind: Any) -> FoundSend:
        async with raw_server(web_page) as url:
            provider = Server(kind, url, "key").open()
            found: FoundSend = await provider.find_send("milia.1", since=NOW)
            await provider.close()
            return found

    for kind in (MailboxProvider, postmark.PostmarkProvider):
        found = asyncio.run(run(kind))
        assert found.total is None
        assert not found.complete


def test_a_mailbox_without_look_up_says_so(tmp_path: Path) -> None:
    with running_mailbox(tmp_path, "--no-lookup") as mailbox:
        assert Server(MailboxProvider, mailbox.url, TOKEN).ask("milia.1").total is None


def test_postmark_counts_more_than_it_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postmark, "_LAST", 500)
    with PostmarkServer() as running:
        server = Server(postmark.PostmarkProvider, running.url, running.token)
        server.send("milia.1", "k1", 1, 500)
        server.send("milia.1", "k2", 501, 1)
        found = server.ask("milia.1")
    assert (found.total, found.messages, found.complete) == (501, (), False)
