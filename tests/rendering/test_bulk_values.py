"""A batch's values made in bulk are those of each recipient alone."""

from __future__ import annotations

import random
from dataclasses import replace

from newsletter.compiled import ESCAPES, FILTERS, People, Recipient, Slot
from newsletter.rendering.message import personal, personals
from newsletter.tokens import read_recipient_token, recipient_token, recipient_tokens
from support.ledger import make_compiled

PLAIN = ("Ada", "Bob")
TEXTS = (
    *PLAIN,
    "",
    " ",
    "O'Brien",
    "<b>&",
    '"',
    "a\nb",
    "\x00\x1f",
    "\u2028",
    "é",
    "2026-03-01",
    "a/b",
)
NAMES = ("links.token", "subscriber.email", "subscriber.first_name", "subscriber.last_name")


def test_bulk_values_are_those_of_each_recipient() -> None:
    fields = (*NAMES, "subscriber.fields.city", "subscriber.fields.none")
    chains = [(), *(((name, argument),) for name in FILTERS for argument in (None, "x & y"))]
    slots = tuple(
        Slot(field, chain, context) for field in fields for chain in chains for context in ESCAPES
    )
    compiled = make_compiled()
    variant = replace(compiled.variants[""], slots=slots)
    compiled = replace(compiled, variants={"": variant})
    rng = random.Random(5)
    for texts in (TEXTS, PLAIN):
        people = [
            Recipient(
                subscriber=number,
                email=f"r{number}@x.example" if texts is PLAIN else f"r{number}'<@x.example",
                first_name=rng.choice(texts),
                last_name=rng.choice(texts),
                fields={"city": rng.choice(texts)},
                token=recipient_token(b"k" * 32, 3, number),
            )
            for number in range(60)
        ]
        columns = People(
            [each.subscriber for each in people],
            [each.email for each in people],
            [each.first_name for each in people],
            [each.last_name for each in people],
            [each.fields for each in people],
            [each.token for each in people],
        )
        made = personals(compiled, columns, metadata={"n": [str(p.subscriber) for p in people]})
        alone = [personal(compiled, p, metadata={"n": str(p.subscriber)}) for p in people]
        assert list(made) == alone
        assert list(made[7:20]) == alone[7:20]


def test_tokens_signed_in_bulk_are_those_signed_alone() -> None:
    subscribers = [0, 1, 255, 256, 2**31, 2**32 - 1, *range(1000, 1100)]
    for key in (b"", b"k" * 32, b"long" * 40):
        tokens = recipient_tokens(key, 7, subscribers)
        assert tokens == [recipient_token(key, 7, subscriber) for subscriber in subscribers]
    assert recipient_tokens(b"k", 7, []) == []
    assert read_recipient_token(key, tokens[3]).subscriber == 256
