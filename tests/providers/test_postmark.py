"""Postmark's client against a server of its rules: batches, error codes, look-up, webhooks."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from newsletter.clock import SystemClock
from newsletter.errors import BadInput
from newsletter.providers.base import (
    Accepted,
    Answered,
    Batch,
    Deferred,
    Denied,
    Found,
    Message,
    Outcome,
    Rejected,
    Unknown,
    VerificationError,
    WebhookRequest,
)
from newsletter.providers.postmark import PostmarkProvider
from newsletter.providers.transport import HttpxTransport
from newsletter.settings import ProviderSettings
from support.postmark_server import PostmarkServer
from support.sockets import answer, raw_server, read_request

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def message(to: str = "ada@readers.example", *, name: str = "", html: str = "<p>Hi</p>") -> Message:
    return Message(
        to=(name, to),
        sender=("Glow, the Letter", "hello@glow.example"),
        reply_to="editors@glow.example",
        subject="Hello",
        html=html,
        text="Hi",
        headers=(
            ("List-Id", "<glow.example>"),
            ("Date", "Tue, 24 Nov 2026 09:00:00 +0000"),
            ("Message-ID", "<a@glow.example>"),
        ),
        metadata={"attempt": "other", "delivery": "d1"},
    )


def client(url: str, **changes: Any) -> PostmarkProvider:
    settings = ProviderSettings(name="pm", kind="postmark", base_url=url)
    return PostmarkProvider(
        settings.model_copy(update=changes),
        api_key=changes.pop("api_key", "server-token"),
        webhook_secrets=["user:old", "user:new"],
        clock=SystemClock(),
        transport=HttpxTransport(),
    )


def send(provider: PostmarkProvider, *messages: Message, key: str = "k1") -> Outcome:
    async def run() -> Outcome:
        try:
            return await provider.send(provider.prepare(Batch(key, messages)))
        finally:
            await provider.close()

    return asyncio.run(run())


def find(provider: PostmarkProvider, key: str = "k1") -> Found:
    async def run() -> Found:
        try:
            return await provider.find(key, since=NOW)
        finally:
            await provider.close()

    return asyncio.run(run())


@pytest.fixture
def server() -> Iterator[PostmarkServer]:
    with PostmarkServer() as running:
        yield running


def test_every_message_has_its_own_outcome(server: PostmarkServer) -> None:
    outcome = send(
        client(server.url),
        message("ada@readers.example", name="Ada Lovelace"),
        message("nonsense"),
        message("inactive@readers.example"),
        message("bob@readers.example", name='Bob "B", jr'),
    )
    assert isinstance(outcome, Answered)
    first, invalid, inactive, last = outcome.outcomes
    assert isinstance(first, Accepted)
    assert isinstance(last, Accepted)
    assert isinstance(invalid, Rejected)
    assert not invalid.suppress
    assert isinstance(inactive, Rejected)
    assert inactive.suppress
    assert server.delivered() == ["ada@readers.example", "bob@readers.example"]


def test_a_message_goes_to_its_stream_without_tracking_and_with_its_attempt(
    server: PostmarkServer,
) -> None:
    send(client(server.url), message())
    kept = server.messages()[0]
    assert kept["MessageStream"] == "broadcast"
    assert (kept["TrackOpens"], kept["TrackLinks"]) == (False, "None")
    assert kept["Metadata"] == {"attempt": "k1", "delivery": "d1"}
    assert kept["From"] == '"Glow, the Letter" <hello@glow.example>'
    assert kept["Headers"] == [{"Name": "List-Id", "Value": "<glow.example>"}]


def test_a_transactional_batch_uses_the_stream_outbound() -> None:
    provider = client("http://127.0.0.1:1")
    prepared = provider.prepare(Batch("k", [message()], kind="transactional"))
    assert json.loads(prepared.body)[0]["MessageStream"] == "outbound"
    assert provider.prepare(Batch("k", [message()], kind="transactional")).body == prepared.body


def test_a_lost_answer_is_found_in_the_broadcast_stream(server: PostmarkServer) -> None:
    server.faults.change({"drop_after": {"times": 1}})
    provider = client(server.url)
    messages = [message(f"r{n}@readers.example") for n in range(3)]
    assert isinstance(send(provider, *messages), Unknown)
    found = find(provider)
    assert found.conclusive
    assert sorted(found.messages) == [f"r{n}@readers.example" for n in range(3)]
    assert find(provider, "another").messages == {}


def test_a_lost_transactional_message_is_found_too(server: PostmarkServer) -> None:
    provider = client(server.url)

    async def run() -> None:
        await provider.send(provider.prepare(Batch("k1", [message()], kind="transactional")))
        await provider.close()

    asyncio.run(run())
    assert list(find(provider).messages) == ["ada@readers.example"]


def test_the_search_names_its_stream_always(server: PostmarkServer) -> None:
    find(client(server.url))
    assert all("messagestream=" in url and "metadata_attempt=k1" in url for url in server.requests)


def test_a_look_up_reads_all_pages(server: PostmarkServer) -> None:
    provider = client(server.url)
    for start in (0, 500, 1000):
        count = 500 if start < 1000 else 7
        batch = [message(f"r{start + n}@readers.example") for n in range(count)]
        assert isinstance(send(provider, *batch), Answered)
    assert len(find(provider).messages) == 1007


def test_within_the_lag_a_look_up_finds_nothing() -> None:
    with PostmarkServer(lag=60) as server:
        provider = client(server.url)
        send(provider, message())
        assert find(provider) == Found({}, conclusive=True)
        assert provider.capabilities.lookup_lag == timedelta(minutes=2)
        changed = client(server.url, lookup_lag=timedelta(minutes=5))
        assert changed.capabilities.lookup_lag == timedelta(minutes=5)


def test_a_look_up_that_fails_proves_nothing(server: PostmarkServer) -> None:
    server.faults.change({"lookup_error": 1})
    assert not find(client(server.url)).conclusive


@pytest.mark.parametrize(
    ("fault", "outcome", "accepted"),
    [
        ("drop_before", Unknown, 0),
        ("drop_after", Unknown, 1),
        ("error_before", Unknown, 0),
        ("error_after", Unknown, 1),
        ("html", Unknown, 1),
        ("rate_limit", Deferred, 0),
    ],
)
def test_a_fault_is_told_honestly(
    server: PostmarkServer, fault: str, outcome: type[Outcome], accepted: int
) -> None:
    server.faults.change({fault: {"times": 1, "seconds": 7}})
    got = send(client(server.url), message())
    assert isinstance(got, outcome)
    assert len(server.delivered()) == accepted
    if isinstance(got, Deferred):
        assert got.retry_after == timedelta(seconds=7)


def test_a_wrong_token_names_its_setting(server: PostmarkServer) -> None:
    server.token = "another"
    outcome = send(client(server.url), message())
    assert isinstance(outcome, Denied)
    assert "providers.pm.api_key" in outcome.reason


def test_an_unknown_stream_denies_the_request_instead_of_the_recipients(
    server: PostmarkServer,
) -> None:
    outcome = send(client(server.url, stream="news"), message(), message("b@readers.example"))
    assert isinstance(outcome, Denied)
    assert "MessageStream" in outcome.reason


def test_a_fault_of_every_message_denies_the_request_instead_of_the_recipients(
    server: PostmarkServer,
) -> None:
    broken = [replace(m, sender=("", "nobody")) for m in (message(), message("b@readers.example"))]
    assert isinstance(send(client(server.url), *broken), Denied)
    assert isinstance(send(client(server.url), message("bad")), Answered)


def test_more_than_500_messages_or_50_mb_are_refused(server: PostmarkServer) -> None:
    provider = client(server.url)
    assert isinstance(send(provider, *[message()] * 501), Denied)
    assert isinstance(send(provider, message(html="x" * 53_000_000)), Denied)
    assert server.delivered() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b"[]",
        b"[null]",
        b'[{"ErrorCode":0}]',
        b'[{"ErrorCode":0,"MessageID":"m","To":"somebody@else.example"}]',
        b'[{"Message":"OK"}]',
    ],
)
def test_an_answer_that_is_not_the_apis_is_in_doubt(body: bytes) -> None:
    async def run() -> Outcome:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(answer(body))

        async with raw_server(script) as url:
            provider = client(url)
            return await provider.send(provider.prepare(Batch("k", [message()])))

    assert isinstance(asyncio.run(run()), Unknown)


# --- webhooks -------------------------------------------------------------------------------------


def webhook(document: dict[str, Any], secret: str = "user:new") -> WebhookRequest:
    encoded = base64.b64encode(secret.encode()).decode()
    return WebhookRequest(
        "POST", {"authorization": f"Basic {encoded}"}, json.dumps(document).encode()
    )


BASE = {"MessageID": "m1", "Tag": "t", "Metadata": {"delivery": "d1"}}


def _record(kind: str, **more: Any) -> dict[str, Any]:
    at = "2026-11-24T08:59:00.9070259Z"
    names = ("DeliveredAt", "BouncedAt", "ReceivedAt", "ChangedAt")
    people = {"Recipient": "ada@readers.example", "Email": "ada@readers.example"}
    return {**BASE, **people, **dict.fromkeys(names, at), "RecordType": kind, **more}


@pytest.mark.parametrize(
    ("record", "type_", "bounce"),
    [
        (_record("Delivery"), "delivered", ""),
        (_record("Bounce", Type="HardBounce", ID=42), "bounced", "hard"),
        (_record("Bounce", Type="BadEmailAddress"), "bounced", "hard"),
        (_record("Bounce", Type="ManuallyDeactivated"), "bounced", "hard"),
        (_record("Bounce", Type="SoftBounce"), "bounced", "soft"),
        (_record("Bounce", Type="Blocked"), "bounced", "soft"),
        (_record("Bounce", Type="SpamNotification", Inactive=True), "bounced", "hard"),
        (_record("Bounce", Type="Transient"), "deferred", ""),
        (_record("Bounce", Type="AutoResponder"), "delivered", ""),
        (_record("Bounce", Type="SpamComplaint"), "complained", ""),
        (_record("SpamComplaint", ID=7), "complained", ""),
        (_record("Open", UserAgent="Thunderbird"), "opened", ""),
        (_record("Click", OriginalLink="https://a.example/"), "clicked", ""),
        (
            _record(
                "SubscriptionChange", SuppressSending=True, SuppressionReason="ManualSuppression"
            ),
            "unsubscribed",
            "",
        ),
        (
            _record("SubscriptionChange", SuppressSending=True, SuppressionReason="HardBounce"),
            "bounced",
            "hard",
        ),
        (
            _record("SubscriptionChange", SuppressSending=True, SuppressionReason="SpamComplaint"),
            "complained",
            "",
        ),
    ],
)
def test_a_webhook_is_read_in_the_one_vocabulary(
    record: dict[str, Any], type_: str, bounce: str
) -> None:
    (event,) = client("").events(webhook(record), now=NOW)
    assert (event.type, event.bounce) == (type_, bounce)
    assert event.recipient == "ada@readers.example"
    assert event.provider_message_id == "m1"
    assert event.at == datetime(2026, 11, 24, 8, 59, 0, 907025, tzinfo=UTC)
    assert event.metadata == {"delivery": "d1"}
    assert event.tags == ("t",)
    assert event.provider_event_id == str(record.get("ID", ""))


def test_a_reactivation_and_an_unknown_record_say_nothing() -> None:
    reactivated = _record("SubscriptionChange", SuppressSending=False)
    assert client("").events(webhook(reactivated), now=NOW) == []
    assert client("").events(webhook({"RecordType": "Inbound"}), now=NOW) == []


def test_a_proxy_that_opens_is_a_machine() -> None:
    for agent in ("Mozilla/5.0 (via ggpht.com GoogleImageProxy)", "Mozilla/5.0"):
        (event,) = client("").events(webhook(_record("Open", UserAgent=agent)), now=NOW)
        assert event.machine


@pytest.mark.parametrize("secret", ["user:wrong", "user", ""])
def test_a_webhook_with_wrong_credentials_is_not_believed(secret: str) -> None:
    with pytest.raises(VerificationError):
        client("").events(webhook(_record("Delivery"), secret), now=NOW)


def test_both_secrets_are_believed_while_they_are_changed() -> None:
    for secret in ("user:old", "user:new"):
        assert client("").events(webhook(_record("Delivery"), secret), now=NOW)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"RecordType":"Delivery","DeliveredAt":"soon"}']
)
def test_a_webhook_that_cannot_be_read_names_its_field(body: bytes) -> None:
    request = replace(webhook({}), body=body)
    with pytest.raises(BadInput):
        client("").events(request, now=NOW)


# --- the server of these tests --------------------------------------------------------------------


def test_the_server_keeps_what_it_accepted_when_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "support.postmark_server", "--db", str(tmp_path / "pm.db")]
    tests = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}

    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    process, url = start()
    assert isinstance(send(client(url), message()), Answered)
    process.kill()
    process.wait()
    process, url = start()
    try:
        assert list(find(client(url)).messages) == ["ada@readers.example"]
    finally:
        process.kill()
        process.wait()
