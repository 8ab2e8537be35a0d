"""Opening providers from settings, the mailbox's client, and the command `provider events`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from newsletter.clock import SystemClock
from newsletter.errors import BadInput, NotFound
from newsletter.providers import known_kinds, open_provider, provider_named
from newsletter.providers.answers import retry_after
from newsletter.providers.base import (
    Accepted,
    Answered,
    Batch,
    Denied,
    Message,
    Outcome,
    Rejected,
    Unknown,
    WebhookRequest,
)
from newsletter.workspace import Workspace
from support.mailboxes import TOKEN, running_mailbox
from support.sockets import answer, raw_server, read_request

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
Make = Callable[..., Workspace]


def message(to: str) -> Message:
    return Message(
        to=("Ada", to),
        sender=("Glow", "hello@glow.example"),
        reply_to="",
        subject="Hello",
        html="<p>Hi</p>",
        text="Hi",
        headers=(("List-Id", "<glow.example>"),),
        metadata={"delivery": "d1"},
    )


def with_url(make_workspace: Make, url: str) -> Workspace:
    from support.site import SETTINGS

    settings = SETTINGS.replace("http://127.0.0.1:8025", url)
    return make_workspace(settings=settings)


def test_an_unknown_kind_names_the_field_and_the_kinds_there_are(make_workspace: Make) -> None:
    extra = '[[providers]]\nname = "odd"\nkind = "pigeon"\napi_key = { env = "X" }\n'
    workspace = make_workspace(extra)
    with pytest.raises(BadInput, match=r"providers\.odd\.kind(.|\n)*mailbox, postmark"):
        open_provider(workspace, provider_named(workspace, "odd"), SystemClock())
    assert {"mailbox", "postmark"} <= set(known_kinds())


def test_a_missing_key_names_its_field(make_workspace: Make) -> None:
    workspace = make_workspace('[[providers]]\nname = "pm"\nkind = "postmark"\n')
    with pytest.raises(BadInput, match=r"providers\.pm\.api_key"):
        open_provider(workspace, provider_named(workspace, "pm"), SystemClock())


def test_a_provider_is_found_by_its_name_or_is_the_first(workspace: Workspace) -> None:
    assert provider_named(workspace).name == "main"
    with pytest.raises(NotFound, match="main"):
        provider_named(workspace, "other")


def test_the_mailbox_is_sent_to_and_looked_up(make_workspace: Make, tmp_path: Path) -> None:
    async def run(url: str) -> None:
        workspace = with_url(make_workspace, url)
        provider = open_provider(workspace, provider_named(workspace), SystemClock())
        prepared = provider.prepare(
            Batch("k", [message("a@x.example"), message("inactive@x.example"), message("no")])
        )
        outcome = await provider.send(prepared)
        assert isinstance(outcome, Answered)
        first, second, third = outcome.outcomes
        assert isinstance(first, Accepted)
        assert isinstance(second, Rejected)
        assert isinstance(third, Rejected)
        assert (second.suppress, third.suppress) == (True, False)
        assert await provider.send(prepared) == outcome
        found = await provider.find("k", since=NOW)
        assert found.messages == {"a@x.example": first.provider_message_id}
        assert (await provider.find("other", since=NOW)).conclusive
        changed = provider.prepare(Batch("k", [message("b@x.example")]))
        assert isinstance(await provider.send(changed), Unknown)
        await provider.close()

    with running_mailbox(tmp_path / "mailbox") as mailbox:
        asyncio.run(run(mailbox.url))
    with running_mailbox(tmp_path / "other", "--token", "another") as mailbox:
        denied = asyncio.run(_send_one(with_url(make_workspace, mailbox.url)))
    assert TOKEN != "another"
    assert isinstance(denied, Denied)
    assert "providers.main.api_key" in denied.reason


async def _send_one(workspace: Workspace) -> Outcome:
    provider = open_provider(workspace, provider_named(workspace), SystemClock())
    try:
        return await provider.send(provider.prepare(Batch("k", [message("a@x.example")])))
    finally:
        await provider.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"batch":"k"}',
        b'{"batch":"k","results":[]}',
        b'{"batch":"k","results":[{"to":"b@x.example","id":"m"}]}',
        b'{"batch":"k","results":[{"to":"a@x.example"}]}',
    ],
)
def test_an_answer_of_another_shape_is_in_doubt(make_workspace: Make, body: bytes) -> None:
    async def run() -> Outcome:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(answer(body))

        async with raw_server(script) as url:
            return await _send_one(with_url(make_workspace, url))

    assert isinstance(asyncio.run(run()), Unknown)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("30", timedelta(seconds=30)),
        ("Tue, 24 Nov 2026 09:02:00 GMT", timedelta(minutes=2)),
        ("Tue, 24 Nov 2026 08:00:00 GMT", timedelta(0)),
        ("soon", None),
        ("", None),
        ("-5", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, wait: timedelta | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == wait


def test_mailbox_events_are_verified_and_read(workspace: Workspace) -> None:
    provider = open_provider(workspace, provider_named(workspace), SystemClock())
    item = {"id": "e1", "type": "bounced", "bounce": "hard", "message": "m1"}
    item |= {"recipient": "a@x.example", "at": "2026-11-24T09:00:00Z"}
    body = json.dumps({"events": [item]}).encode()
    request = WebhookRequest("POST", {"authorization": "Bearer local-hook"}, body)
    (event,) = provider.events(request, now=NOW)
    assert (event.type, event.bounce, event.provider_event_id) == ("bounced", "hard", "e1")


REQUEST = {
    "method": "POST",
    "query": {},
    "headers": {"Authorization": "Basic dTpw"},
    "body": json.dumps(
        {
            "RecordType": "Click",
            "MessageID": "m",
            "Recipient": "a@x.example",
            "ReceivedAt": "2026-11-24T09:00:00+01:00",
            "OriginalLink": "https://glow.example/",
            "Metadata": {"delivery": "d1"},
        }
    ),
}


def test_the_command_prints_events_without_a_workspace(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = ("provider", "events", "postmark", "--secret", "no:no", "--secret", "u:p", "--json")
    ran = cli(*arguments, cwd=tmp_path, stdin=json.dumps(REQUEST).encode())
    assert ran.code == 0, ran.err
    assert ran.json == [
        {
            "type": "clicked",
            "bounce": "",
            "recipient": "a@x.example",
            "provider_message_id": "m",
            "at": "2026-11-24T08:00:00Z",
            "provider_event_id": "",
            "reason": "",
            "response": "",
            "url": "https://glow.example/",
            "user_agent": "",
            "machine": False,
            "metadata": {"delivery": "d1"},
            "tags": [],
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        (("postmark", "--secret", "u:wrong"), json.dumps(REQUEST), 1),
        (("postmark",), json.dumps(REQUEST), 1),
        (("pigeon", "--secret", "u:p"), json.dumps(REQUEST), 3),
        (("postmark", "--secret", "u:p"), "nonsense", 2),
        (("postmark", "--secret", "u:p", "--at", "soon"), json.dumps(REQUEST), 2),
        (("postmark", "--secret", "u:p"), json.dumps({**REQUEST, "body_base64": "%"}), 2),
    ],
)
def test_the_command_says_what_is_wrong_and_prints_nothing(
    cli: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...], stdin: str, code: int
) -> None:
    ran = cli("provider", "events", *arguments, "--json", cwd=tmp_path, stdin=stdin.encode())
    assert (ran.code, ran.out) == (code, "")
    assert ran.err
