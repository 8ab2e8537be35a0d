"""A form's requests: the bytes of whole messages, encoded once, whatever the values hold."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from newsletter.clock import SystemClock
from newsletter.providers import provider_class
from newsletter.providers.base import Attachment, Form, FormBatch, Personal, Provider
from newsletter.providers.pieces import CHUNK, Pieces, chunks
from newsletter.providers.transport import HttpxTransport
from newsletter.settings import ProviderSettings

HOSTILE = (
    "",
    "Ada",
    '"',
    "\\",
    'a\\"b","c',
    '","',
    'x",',
    ",",
    "\x00\x01\x1f\x7f\u0080",
    "line\nbreak\r\t",
    "\u2028\u2029",
    "\U0010ffff3\U0010ffff",
    "😀 é ﷽",
    "\u202eשלום",
    "{{{v0}}} {{x}} %s {0} $1",
    "\\u0041",
    "</script>&amp;",
)


def form(**changes: Any) -> Form:
    base = Form(
        name="f" * 32,
        contexts=("html", "url", "header"),
        sender=('Glow "the" Letter', "hello@glow.example"),
        reply_to="editors@glow.example",
        subject=("Hello ", 0),
        html=("<p>", 0, '"\\\U0010ffff1\U0010ffff</p>', 1, 1, "{{x}}"),
        text=("Hi ", 0, "\n", 1),
        headers=(("Message-ID", ("<", 2, "@glow.example>")), ("List-Unsubscribe", ("<", 1, ">"))),
        attachments=(Attachment("a", "image/png", "a.png", b"\x00\xff"),),
    )
    return replace(base, **changes)


def person(choose: Callable[[], str], number: int) -> Personal:
    values = (choose(), choose(), choose())
    told = {"attempt": "k", "delivery": f"1.{number}", "send": choose(), "n" * 30: choose() * 40}
    return Personal((choose(), f"r{number}@x.example"), values, told)


def opened(kind: str) -> Provider:
    settings = ProviderSettings(name="main", kind=kind, base_url="http://127.0.0.1:1")
    return provider_class(kind)(
        settings,
        api_key="key",
        webhook_secrets=[],
        clock=SystemClock(),
        transport=HttpxTransport(),
    )


@pytest.mark.parametrize("kind", ["mailbox", "postmark"])
def test_a_form_makes_the_bytes_of_its_whole_messages(kind: str) -> None:
    provider, said = opened(kind), form()
    rng = random.Random(11)
    for size in (1, 2, 40):
        batch = FormBatch("k", said, [person(lambda: rng.choice(HOSTILE), n) for n in range(size)])
        prepared, whole = provider.prepare_form(batch), provider.prepare(batch.whole())
        assert bytes(prepared.body) == whole.body
        assert len(prepared.body) == len(whole.body)
        assert b"".join(chunks(prepared.body)) == whole.body
        assert replace(prepared, body=b"", digest="") == replace(whole, body=b"")
        assert len(orjson.loads(bytes(prepared.body))) in {1, size}


@pytest.mark.parametrize("kind", ["mailbox", "postmark"])
def test_the_digest_is_another_one_for_every_other_body(kind: str) -> None:
    provider = opened(kind)
    rng = random.Random(3)
    people = [person(lambda: rng.choice(HOSTILE), n) for n in range(20)]
    shifted = [*people[:1], people[1]._replace(values=("A", "da", "Ada")), *people[2:]]
    batches = [
        FormBatch("k", form(), people),
        FormBatch("k", form(), people[:-1]),
        FormBatch("k", form(), people[::-1]),
        FormBatch("k", form(), shifted),
        FormBatch("k", form(text=("Hi ", 1, "\n", 0)), people),
        FormBatch("k", form(subject=("hello ", 0)), people),
        FormBatch("k", form(reply_to=""), people),
    ]
    digests = [provider.prepare_form(batch).sha256 for batch in batches]
    assert len(set(digests)) == len({provider.prepare(b.whole()).sha256 for b in batches}) == 7
    assert digests == [opened(kind).prepare_form(batch).sha256 for batch in batches]


def test_recipients_whose_values_do_not_fit_the_form_are_an_error() -> None:
    people = [Personal(("", "a@x.example"), ("a", "b", "c"), {"attempt": "k"})]
    people.append(people[0]._replace(values=("a", "b")))
    for kind in ("mailbox", "postmark"):
        with pytest.raises(ValueError, match="equally many"):
            opened(kind).prepare_form(FormBatch("k", form(), people))


def test_a_body_in_pieces_is_given_out_in_chunks() -> None:
    pieces = [bytes([n % 256]) * (n * 977 % 50_000) for n in range(60)]
    body = Pieces(pieces)
    given = list(chunks(body))
    assert b"".join(given) == b"".join(pieces) == bytes(body)
    assert all(CHUNK <= len(chunk) < CHUNK + 50_000 for chunk in given[:-1])
    assert list(chunks(Pieces([]))) == []
    whole = bytes(body)
    assert b"".join(chunks(whole)) == whole
