"""SendGrid's client against a server of its rules: one body, substitutions, refusals, look-up."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import pytest

from newsletter.clock import SystemClock
from newsletter.errors import BadInput
from newsletter.providers.base import (
    Accepted,
    Answered,
    Attachment,
    Batch,
    Deferred,
    Denied,
    Form,
    FormBatch,
    Found,
    Message,
    Outcome,
    Personal,
    Prepared,
    Rejected,
    Unknown,
)
from newsletter.providers.sendgrid import CAPABILITIES, SendgridProvider
from newsletter.providers.transport import HttpxTransport
from newsletter.settings import ProviderSettings
from support.sendgrid_server import SendgridServer, as_read
from support.sockets import answer, raw_server, read_request

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)

FORM = Form(
    name="0123456789abcdef0123456789abcdef",
    contexts=("html", "url", "text", "header"),
    sender=("Glow, the Letter", "hello@glow.example"),
    reply_to="editors@glow.example",
    subject=("Hello ", 2),
    html=(
        "<p>Hello ",
        0,
        ' 100 %, %s {{name}} \\ "q" 🎉</p><a href="https://g.example/u/',
        1,
        '">x</a>',
        0,
    ),
    text=("Hello ", 2, "\nhttps://g.example/u/", 1),
    headers=(
        ("Date", ("Tue, 24 Nov 2026 09:00:00 +0000",)),
        ("Message-ID", ("<", 3, "@glow.example>")),
        ("List-Id", ("<glow.example>",)),
        ("List-Unsubscribe", ("<https://g.example/u/", 1, ">")),
        ("List-Unsubscribe-Post", ("List-Unsubscribe=One-Click",)),
    ),
)


def person(to: str = "ada@readers.example", *values: str, name: str = "", n: int = 1) -> Personal:
    filled = (*values, *("Ada", "token", "Ada", "hash")[len(values) :])
    return Personal((name, to), filled, {"attempt": "k1", "delivery": f"7.{n}", "send": "milia.1"})


def people(count: int) -> list[Personal]:
    return [person(f"r{n}@readers.example", n=n) for n in range(count)]


def client(url: str = "", **changes: Any) -> SendgridProvider:
    settings = ProviderSettings(name="sg", kind="sendgrid", base_url=url)
    return SendgridProvider(
        settings.model_copy(update=changes),
        api_key="local-key",
        webhook_secrets=[],
        clock=SystemClock(),
        transport=HttpxTransport(),
    )


def deliver(provider: SendgridProvider, prepared: Prepared) -> Outcome:
    async def run() -> Outcome:
        try:
            return await provider.send(prepared)
        finally:
            await provider.close()

    return asyncio.run(run())


def send(
    url: str, recipients: Sequence[Personal], form: Form = FORM, key: str = "k1", **changes: Any
) -> Outcome:
    provider = client(url, **changes)
    return deliver(provider, provider.prepare_form(FormBatch(key, form, recipients)))


def find(provider: SendgridProvider, key: str = "k1", since: datetime | None = None) -> Found:
    async def run() -> Found:
        try:
            return await provider.find(key, since=since or datetime.now(UTC))
        finally:
            await provider.close()

    return asyncio.run(run())


@pytest.fixture
def server() -> Iterator[SendgridServer]:
    with SendgridServer() as running:
        yield running


def assert_read_as_meant(
    server: SendgridServer, form: Form, recipients: Sequence[Personal]
) -> None:
    """What each recipient reads is what the form says to them, whatever SendGrid put in."""
    read = list(server.messages())
    assert len(read) == len(recipients)
    for got, recipient in zip(read, recipients, strict=True):
        meant = form.message(recipient)
        assert got["to"]["email"] == meant.to[1]
        assert (got["subject"], got["html"], got["text"]) == (
            meant.subject,
            meant.html,
            meant.text,
        )
        assert got["headers"] == dict(meant.headers)
        assert got["reply_to"] == meant.reply_to


# --- the request ----------------------------------------------------------------------------------


def test_a_thousand_people_are_one_request_with_one_id_and_one_body(
    server: SendgridServer,
) -> None:
    form = replace(FORM, html=(*FORM.html, "x" * 50_000))
    recipients = people(1000)
    outcome = send(server.url, recipients, form)
    assert isinstance(outcome, Answered)
    assert len(outcome.outcomes) == 1000
    assert isinstance(outcome.outcomes[0], Accepted)
    assert len(set(outcome.outcomes)) == 1
    assert len(server.requests) == 1
    assert server.delivered() == [recipient.to[1] for recipient in recipients]
    body = client().prepare_form(FormBatch("k1", form, recipients)).body
    assert len(bytes(body)) < 50_000 + 5_000 + 1000 * 700
    assert_read_as_meant(server, form, recipients)


HOSTILE = [
    'O"Brien \\ \\u001f',
    "{{ name }} <% body %> [unsubscribe] %open-track% $&",
    "-name- %name% :name #name# -nl0000-",
    "日本語 🏳️‍🌈 é \u2028 %s %d %%",
    "a\tb\nc\x01\x1f\x7f",
    "</p><script>alert(1)</script>&amp;",
    "' or 1=1; -- ,;",
    "",
    "\\",
    "nl",
]


def test_hostile_values_reach_each_reader_as_they_are(server: SendgridServer) -> None:
    recipients = [
        person(f"r{n}@readers.example", text, f"tok{n}", text[::-1], f"hash{n}", n=n)
        for n, text in enumerate(HOSTILE)
    ]
    assert isinstance(send(server.url, recipients), Answered)
    assert_read_as_meant(server, FORM, recipients)


def tags_of(form: Form, recipients: Sequence[Personal]) -> dict[str, str]:
    body = bytes(client().prepare_form(FormBatch("k1", form, recipients)).body)
    tags: dict[str, str] = json.loads(body)["personalizations"][0]["substitutions"]
    return tags


def test_a_value_that_is_a_tag_is_not_put_in_again(server: SendgridServer) -> None:
    tags = list(tags_of(FORM, [person()]))
    recipients = [
        person("mallory@readers.example", tags[1], "tok1", tags[2]),
        person("bob@readers.example", "Bob", "tok2", "Bob"),
    ]
    assert not set(tags) & set(tags_of(FORM, recipients))
    assert isinstance(send(server.url, recipients), Answered)
    assert_read_as_meant(server, FORM, recipients)


def test_a_tag_occurs_in_no_literal(server: SendgridServer) -> None:
    tags = list(tags_of(FORM, [person()]))
    form = replace(FORM, text=(*FORM.text, f" about {tags[0]} and {tags[1][:18]}"))
    recipients = [person("a@readers.example", "A", "B", "C")]
    assert isinstance(send(server.url, recipients, form), Answered)
    assert_read_as_meant(server, form, recipients)


def test_tags_are_letters_and_digits_and_one_a_slot() -> None:
    tags = tags_of(FORM, [person("a@readers.example", "Ada", "tok", "Ada", "hash")])
    assert all(tag.isalnum() and tag.isascii() for tag in tags)
    assert list(tags.values()) == ["Ada", "tok", "Ada"]  # the slot of Message-ID is none


def test_headers_that_are_the_same_for_all_are_said_once(server: SendgridServer) -> None:
    form = replace(FORM, headers=(FORM.headers[0], FORM.headers[2]))
    body = json.loads(bytes(client().prepare_form(FormBatch("k", form, people(3))).body))
    assert body["headers"] == {"Date": FORM.headers[0][1][0], "List-Id": "<glow.example>"}
    assert all("headers" not in p for p in body["personalizations"])


def test_headers_beyond_ascii_are_encoded(server: SendgridServer) -> None:
    form = replace(
        FORM,
        headers=(
            ("List-Id", ('"Glühwürmchen, der Brief" <glow.example>',)),
            ("X-Reader", ("für ", 0)),
            ("X-Plain", ("plain ", 3)),
        ),
    )
    assert isinstance(send(server.url, [person("a@r.example", "Zoë " * 30, n=1)], form), Answered)
    headers = next(iter(server.messages()))["headers"]
    read = {name: str(make_header(decode_header(value))) for name, value in headers.items()}
    assert read["List-Id"] == "Glühwürmchen, der Brief <glow.example>"
    assert headers["List-Id"].endswith("?= <glow.example>")
    assert read["X-Reader"] == "für " + "Zoë " * 30
    assert read["X-Plain"] == "plain hash"


def test_names_and_addresses_are_such_as_sendgrid_takes(server: SendgridServer) -> None:
    recipients = [
        person("a@readers.example", name='Lovelace, Ada; "Countess" \\'),
        person("b@bücher.example", name="Zoë"),
        person("c@readers.example", name=";,"),
        person("d@readers.example"),
    ]
    outcome = send(server.url, recipients)
    assert isinstance(outcome, Answered)
    assert [message["to"] for message in server.messages()] == [
        {"email": "a@readers.example", "name": 'Lovelace Ada "Countess" \\'},
        {"email": "b@xn--bcher-kva.example", "name": "Zoë"},
        {"email": "c@readers.example"},
        {"email": "d@readers.example"},
    ]


def test_the_attempt_is_a_category_and_each_delivery_a_custom_argument(
    server: SendgridServer,
) -> None:
    send(server.url, people(2))
    for number, message in enumerate(server.messages()):
        assert message["categories"] == ["k1", "milia.1"]
        assert message["custom_args"] == {
            "nl_attempt": "k1",
            "nl_delivery": f"7.{number}",
            "nl_send": "milia.1",
        }


def test_sendgrids_own_tracking_and_footers_are_off(server: SendgridServer) -> None:
    send(server.url, [person()])
    message = next(iter(server.messages()))
    switches = {**message["tracking_settings"], **message["mail_settings"]}
    assert set(switches) == {
        "click_tracking",
        "open_tracking",
        "subscription_tracking",
        "ganalytics",
        "bypass_list_management",
        "footer",
        "sandbox_mode",
    }
    assert not any(value for switch in switches.values() for value in switch.values())


def test_an_image_is_embedded_once_for_all() -> None:
    image = Attachment("logo", "image/png", "logo.png", b"PNG" * 1000)
    form = replace(FORM, attachments=(image,))
    body = json.loads(bytes(client().prepare_form(FormBatch("k", form, people(50))).body))
    (part,) = body["attachments"]
    assert (part["disposition"], part["content_id"], part["type"]) == (
        "inline",
        "logo",
        "image/png",
    )
    assert as_read(body, body["personalizations"][49])["attachments"] == [part]


def test_the_same_batch_gives_the_same_bytes_and_another_does_not() -> None:
    batch = FormBatch("k1", FORM, people(20))
    first = client().prepare_form(batch)
    same = client().prepare_form(FormBatch("k1", replace(FORM), people(20)))
    assert bytes(first.body) == bytes(same.body)
    assert first.sha256 == same.sha256
    others = [
        FormBatch("k2", FORM, people(20)),
        FormBatch("k1", FORM, people(19)),
        FormBatch("k1", replace(FORM, subject=("Other ", 2)), people(20)),
        FormBatch("k1", FORM, [*people(19), person("r19@readers.example", "Eve", n=19)]),
        FormBatch("k1", FORM, [*people(19), person("r19@readers.example", n=20)]),
    ]
    assert len({first.sha256, *(client().prepare_form(batch).sha256 for batch in others)}) == 6


def test_an_address_twice_and_too_many_merge_fields_are_refused_before_sending() -> None:
    twice = [person("ada@readers.example"), person("ADA@readers.example")]
    with pytest.raises(BadInput, match="twice"):
        client().prepare_form(FormBatch("k", FORM, twice))
    slots = tuple(range(200))
    form = replace(FORM, contexts=("text",) * 200, text=slots, html=(), subject=("s",), headers=())
    with pytest.raises(BadInput, match="200 merge fields"):
        client().prepare_form(
            FormBatch("k", form, [Personal(("", "a@r.example"), ("v",) * 200, {})])
        )


# --- whole messages -------------------------------------------------------------------------------


def message(to: str = "ada@readers.example") -> Message:
    return Message(
        to=("", to),
        sender=("Glow", "hello@glow.example"),
        reply_to="",
        subject="Please confirm",
        html="<p>Hi -name- nl</p>",
        text="",
        headers=(("Auto-Submitted", "auto-generated"),),
        metadata={"attempt": "k1"},
    )


def test_a_whole_message_is_a_body_without_substitutions(server: SendgridServer) -> None:
    provider = client(server.url)
    outcome = deliver(provider, provider.prepare(Batch("k1", [message()], kind="transactional")))
    assert isinstance(outcome, Answered)
    (got,) = server.messages()
    assert (got["html"], got["text"], got["reply_to"]) == ("<p>Hi -name- nl</p>", "", "")
    assert got["headers"] == {"Auto-Submitted": "auto-generated"}
    assert got["custom_args"] == {"nl_attempt": "k1"}
    assert list(find(client(server.url)).messages) == ["ada@readers.example"]


def test_several_whole_messages_need_as_many_requests() -> None:
    assert CAPABILITIES.whole_messages == 1
    with pytest.raises(BadInput, match="one whole message a request"):
        client().prepare(Batch("k", [message(), message("b@readers.example")]))


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "outcome", "accepted"),
    [
        ("drop_before", Unknown, 0),
        ("drop_after", Unknown, 3),
        ("error_before", Unknown, 0),
        ("error_after", Unknown, 3),
        ("html", Unknown, 3),
        ("rate_limit", Deferred, 0),
    ],
)
def test_a_fault_is_told_honestly(
    server: SendgridServer, fault: str, outcome: type[Outcome], accepted: int
) -> None:
    server.faults.change({fault: {"times": 1, "seconds": 70}})
    got = send(server.url, people(3))
    assert isinstance(got, outcome)
    assert len(server.delivered()) == accepted
    if isinstance(got, Deferred):
        assert got.retry_after is not None
        assert timedelta(seconds=40) < got.retry_after <= timedelta(seconds=75)  # whole seconds


def test_an_answer_that_drips_is_in_doubt(server: SendgridServer) -> None:
    server.faults.change({"slow": {"times": 1, "seconds": 0.05}})
    assert isinstance(send(server.url, people(1), timeout=timedelta(seconds=0.5)), Unknown)


def test_a_named_recipient_is_refused_and_the_others_go_without_them(
    server: SendgridServer,
) -> None:
    recipients = [*people(3), person("refused-1@readers.example"), person("nonsense")]
    outcome = send(server.url, recipients)
    assert isinstance(outcome, Answered)
    kinds = [type(o) for o in outcome.outcomes]
    assert kinds == [Deferred, Deferred, Deferred, Rejected, Rejected]
    refused = outcome.outcomes[3]
    assert isinstance(refused, Rejected)
    assert "valid address" in refused.reason
    assert server.delivered() == []
    assert isinstance(send(server.url, recipients[:3]), Answered)
    assert len(server.delivered()) == 3


def test_one_bad_address_alone_is_refused(server: SendgridServer) -> None:
    outcome = send(server.url, [person("nonsense")])
    assert isinstance(outcome, Answered)
    assert isinstance(outcome.outcomes[0], Rejected)


def test_a_fault_of_everybody_or_of_another_field_denies_the_request(
    server: SendgridServer,
) -> None:
    everybody = [person("nonsense"), person("more nonsense")]
    assert isinstance(send(server.url, everybody), Denied)
    large = [person("a@readers.example", "v" * 11_000), person("b@readers.example")]
    outcome = send(server.url, large)
    assert isinstance(outcome, Denied)
    assert "personalizations.0.substitutions" in outcome.reason
    assert isinstance(send(server.url, people(1001)), Denied)
    assert server.delivered() == []


def test_a_wrong_key_and_an_unverified_sender_are_denied(server: SendgridServer) -> None:
    unverified = replace(FORM, sender=("Glow", "unverified@glow.example"))
    outcome = send(server.url, people(2), unverified)
    assert isinstance(outcome, Denied)
    assert "verified Sender Identity" in outcome.reason
    server.key = "another"
    outcome = send(server.url, people(2))
    assert isinstance(outcome, Denied)
    assert "providers.sg.api_key" in outcome.reason
    assert "grant is invalid" in outcome.reason


def test_too_large_a_request_is_denied(server: SendgridServer) -> None:
    outcome = send(server.url, people(1), replace(FORM, html=("x" * 31_000_000,)))
    assert isinstance(outcome, Denied)
    assert server.delivered() == []


def test_the_sandbox_accepts_nothing(server: SendgridServer) -> None:
    server.sandbox = True
    outcome = send(server.url, people(2))
    assert isinstance(outcome, Denied)
    assert "sandbox" in outcome.reason
    assert server.delivered() == []


def answered(raw: bytes) -> Outcome:
    async def run() -> Outcome:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(raw)

        async with raw_server(script) as url:
            provider = client(url)
            return await provider.send(provider.prepare_form(FormBatch("k", FORM, people(2))))

    return asyncio.run(run())


@pytest.mark.parametrize(
    "raw",
    [
        answer(b"<html>It works!</html>"),
        answer(b"{}"),
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 6\r\n\r\n<html>",
        b'HTTP/1.1 400 Bad Request\r\nContent-Length: 13\r\n\r\n{"errors":[]}',
        b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_that_is_not_the_apis_is_in_doubt(raw: bytes) -> None:
    assert isinstance(answered(raw), Unknown)


def test_a_limit_that_is_over_or_unreadable_asks_for_no_wait() -> None:
    head = b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n"
    past = answered(head + b"X-RateLimit-Reset: 1392815263\r\n\r\n")
    assert past == Deferred("throttled (429)", timedelta(0))
    assert answered(head + b"X-RateLimit-Reset: soon\r\n\r\n") == Deferred("throttled (429)")
    dated = b"Date: Tue, 24 Nov 2026 09:00:00 GMT\r\nX-RateLimit-Reset: 1795510830\r\n\r\n"
    assert answered(head + dated) == Deferred("throttled (429)", timedelta(seconds=30))


# --- look-up --------------------------------------------------------------------------------------


def test_a_lost_answer_is_found_by_its_category(server: SendgridServer) -> None:
    server.faults.change({"drop_after": {"times": 1}})
    assert isinstance(send(server.url, people(1000)), Unknown)
    found = find(client(server.url))
    assert found.conclusive
    assert sorted(found.messages) == sorted(server.delivered())
    assert set(found.messages.values()) == {found.whole}
    assert find(client(server.url), "another") == Found({}, conclusive=True)


def test_what_is_found_has_the_answers_id(server: SendgridServer) -> None:
    outcome = send(server.url, people(2))
    assert isinstance(outcome, Answered)
    assert outcome.outcomes[0] == Accepted(find(client(server.url)).whole)


def test_within_the_lag_nothing_is_found() -> None:
    with SendgridServer(lag=60) as server:
        send(server.url, people(1))
        assert find(client(server.url)) == Found({}, conclusive=True)
        assert client().capabilities.lookup_lag == timedelta(minutes=10)
        changed = client(lookup_lag=timedelta(minutes=30))
        assert changed.capabilities.lookup_lag == timedelta(minutes=30)


def test_a_look_up_that_fails_or_asks_too_late_proves_nothing(server: SendgridServer) -> None:
    server.faults.change({"lookup_error": {"times": 1}})
    assert not find(client(server.url)).conclusive
    assert find(client(server.url)).conclusive
    long_ago = datetime.now(UTC) - timedelta(days=31)
    assert not find(client(server.url), since=long_ago).conclusive
    server.key = "another"
    denied = find(client(server.url))
    assert not denied.conclusive
    assert "authorization required" in denied.reason


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"messages":{}}', b'{"messages":[{"to_email":"a@b.c"}]}']
)
def test_a_look_up_that_cannot_be_read_proves_nothing(body: bytes) -> None:
    async def run() -> Found:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(answer(body))

        async with raw_server(script) as url:
            return await client(url).find("k", since=datetime.now(UTC))

    assert not asyncio.run(run()).conclusive


# --- the server of these tests --------------------------------------------------------------------


def test_the_server_keeps_what_it_accepted_when_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "support.sendgrid_server", "--db", str(tmp_path / "sg.db")]
    tests = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}

    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    process, url = start()
    assert isinstance(send(url, people(2)), Answered)
    process.kill()
    process.wait()
    process, url = start()
    try:
        assert sorted(find(client(url)).messages) == ["r0@readers.example", "r1@readers.example"]
    finally:
        process.kill()
        process.wait()
