"""Postmark's templates: they make the messages that whole ones are; made, found and removed."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from newsletter.clock import SystemClock
from newsletter.providers.base import (
    Answered,
    Attachment,
    Deferred,
    Denied,
    Form,
    FormBatch,
    Kept,
    Outcome,
    Personal,
    Unknown,
)
from newsletter.providers.postmark import PostmarkProvider
from newsletter.providers.transport import HttpxTransport
from newsletter.settings import ProviderSettings
from support.postmark_server import PostmarkServer

_T = TypeVar("_T")
BRACES = (
    "{",
    "}",
    "{{",
    "}}",
    "{{{",
    "}}}",
    "{{{{",
    "{{v0}}",
    "{{{v1}}}",
    "{{#each x}}",
    "{{! x }}",
)
TEXTS = (
    *BRACES,
    "",
    "a",
    '"\\',
    "<b>&amp;",
    "é 😀\u2028",
    "v0",
    "\n",
    "$0",
    "{ {x} }",
    "{x}}",
    "@media{.a{b:c}}",
)


def form(parts: list[Any]) -> Form:
    return Form(
        name="0f" * 16,
        contexts=("html", "text", "header"),
        sender=("Glow", "hello@glow.example"),
        reply_to="editors@glow.example",
        subject=("About ", *parts[:4]),
        html=("<p>", *parts, "</p>"),
        text=tuple(parts[::-1]) or ("text",),
        headers=(
            ("Date", ("Tue, 24 Nov 2026 09:00:00 +0000",)),
            ("Message-ID", ("<", 2, "@glow.example>")),
            ("List-Unsubscribe", ("<https://glow.example/", 1, ">")),
        ),
        attachments=(Attachment("a", "image/png", "a.png", b"\x00"),),
    )


def batch(said: Form, values: list[tuple[str, ...]], *, kept: bool = False) -> FormBatch:
    people = [
        Personal(("Ada", f"r{number}@x.example"), each, {"attempt": "k", "delivery": str(number)})
        for number, each in enumerate(values)
    ]
    return FormBatch("k", said, people, kept)


def client(url: str, **changes: Any) -> PostmarkProvider:
    return PostmarkProvider(
        ProviderSettings(name="pm", kind="postmark", base_url=url, **changes),
        api_key="server-token",
        webhook_secrets=[],
        clock=SystemClock(),
        transport=HttpxTransport(),
    )


def run(provider: PostmarkProvider, call: Coroutine[Any, Any, _T]) -> _T:
    async def go() -> _T:
        try:
            return await call
        finally:
            await provider.close()

    return asyncio.run(go())


def send(provider: PostmarkProvider, batch: FormBatch) -> Outcome:
    return run(provider, provider.send(provider.prepare_form(batch)))


@pytest.fixture
def server() -> Iterator[PostmarkServer]:
    with PostmarkServer() as running:
        yield running


def test_a_template_makes_the_whole_messages(server: PostmarkServer) -> None:
    rng = random.Random(4)
    provider = client(server.url)
    for round_ in range(40):
        parts = [rng.choice((0, 1, *TEXTS)) for _ in range(rng.randrange(1, 12))]
        parts = parts if round_ else ["{", "{x}}", "{", 0, "}", "{{", "x}", "}"]
        said = replace(form(parts), name=f"{round_:032x}")
        values = [tuple(rng.choice(TEXTS) or "x" for _ in range(3)) for _ in range(3)]
        assert run(provider, provider.keep(said)) == Kept()
        assert isinstance(send(provider, batch(said, values, kept=True)), Answered)
        assert isinstance(send(provider, batch(said, values)), Answered)
        messages = server.messages()[-6:]
        assert messages[:3] == messages[3:], parts
        assert run(provider, provider.drop(said.name))
    assert server.templates.kept == {}


def test_what_is_the_same_is_in_the_template_alone(server: PostmarkServer) -> None:
    provider, said = client(server.url), form(["x" * 50_000, 0])
    prepared = provider.prepare_form(batch(said, [("a", "b", "c")] * 500, kept=True))
    assert prepared.path == "/email/batchWithTemplates"
    assert len(prepared.body) < 500 * 700
    other = provider.prepare_form(batch(replace(said, name="1" * 32), [("a", "b", "c")], kept=True))
    assert len({prepared.sha256, other.sha256}) == 2


def test_keeping_a_form_again_makes_nothing_new(server: PostmarkServer) -> None:
    provider, said = client(server.url), form([0])
    assert [run(provider, provider.keep(said)) for _ in range(2)] == [Kept(), Kept()]
    assert server.templates.made == 1
    server.templates.kept[f"newsletter-{said.name}"]["TextBody"] += "!"
    assert isinstance(run(provider, provider.keep(said)), Denied)


def test_of_two_that_make_it_at_once_both_have_it(server: PostmarkServer) -> None:
    provider, said = client(server.url), form([0])

    async def both() -> list[Any]:
        return await asyncio.gather(provider.keep(said), provider.keep(said))

    assert run(provider, both()) == [Kept(), Kept()]
    assert server.templates.made == 1


@pytest.mark.parametrize(
    ("failing", "outcome", "there"),
    [
        ([500], Unknown, 0),
        ([429], Deferred, 0),
        ([403], Denied, 0),
        (["drop"], Unknown, 1),
    ],
)
def test_a_failure_to_make_one_is_told_honestly(
    server: PostmarkServer, failing: list[int | str], outcome: type[Any], there: int
) -> None:
    provider, said = client(server.url), form([0])
    server.templates.failing = failing
    assert isinstance(run(provider, provider.keep(said)), outcome)
    assert len(server.templates.kept) == there
    assert run(provider, provider.keep(said)) == Kept()  # a look shows what is there


def test_a_full_server_and_a_refused_one_deny_it(server: PostmarkServer) -> None:
    provider, said = client(server.url), form([0])
    server.templates.limit = 0
    refused = run(provider, provider.keep(said))
    assert isinstance(refused, Denied)
    assert "too many templates" in refused.reason


def test_a_template_that_is_gone_defers_everybody(server: PostmarkServer) -> None:
    outcome = send(client(server.url), batch(form([0]), [("a", "b", "c")] * 2, kept=True))
    assert isinstance(outcome, Answered)
    assert all(isinstance(o, Deferred) and o.form_gone for o in outcome.outcomes)
    assert server.delivered() == []


def test_a_refusal_of_the_whole_request_is_left_to_whole_messages(server: PostmarkServer) -> None:
    provider, said = client(server.url, stream="news"), form([0])
    run(provider, provider.keep(said))
    outcome = send(provider, batch(said, [("a", "b", "c")] * 2, kept=True))
    assert isinstance(outcome, Deferred)
    assert outcome.form_gone
    assert isinstance(send(provider, batch(said, [("a", "b", "c")] * 2)), Denied)


def test_dropping_is_certain_only_of_an_answer(server: PostmarkServer) -> None:
    provider, said = client(server.url), form([0])
    assert run(provider, provider.drop(said.name))
    run(provider, provider.keep(said))
    server.templates.failing = [500]
    assert not run(provider, provider.drop(said.name))
    server.templates.failing = ["drop"]
    assert not run(provider, provider.drop(said.name))
    assert run(provider, provider.drop(said.name))
    assert server.templates.kept == {}


def test_templates_can_be_left_out() -> None:
    assert client("http://127.0.0.1:1").capabilities.keeps_forms
    assert not client("http://127.0.0.1:1", templates="never").capabilities.keeps_forms


def test_a_template_has_no_recipient_in_it(server: PostmarkServer) -> None:
    provider, said = client(server.url), form([0, "x"])
    run(provider, provider.keep(said))
    (kept,) = server.templates.kept.values()
    assert "{{{v0}}}" in kept["HtmlBody"]
    assert "@" not in json.dumps({name: kept[name] for name in ("Name", "Alias", "HtmlBody")})
