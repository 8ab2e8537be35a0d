"""How many recipients make one request: the provider's size, fewer where messages are large."""

from __future__ import annotations

from datetime import timedelta

import pytest

from newsletter.compiled import CompiledIssue, CompiledMessage
from newsletter.delivery.composing import REQUEST_BYTES, messages_per_request
from newsletter.providers.base import Capabilities

LIMITS = Capabilities(
    batch_size=500,
    max_bytes=50_000_000,
    idempotency=None,
    lookup=True,
    lookup_lag=timedelta(0),
)


def issue(*sizes: int) -> CompiledIssue:
    """An issue whose variants have HTML of these bytes."""
    variants = {
        str(number): CompiledMessage((), ("Hello",), ("x" * size,), ("text",), ())
        for number, size in enumerate(sizes)
    }
    return CompiledIssue(
        "a", "en", "A", "", "N", "n@n.example", "", "l", "all", (), variants, "", (), (), ()
    )


def test_small_messages_fill_the_providers_batch() -> None:
    assert messages_per_request(issue(2_000), LIMITS, 0) == 500


@pytest.mark.parametrize(("html", "attached"), [(50_000, 0), (2_000, 48_000)])
def test_large_messages_make_smaller_batches(html: int, attached: int) -> None:
    count = messages_per_request(issue(2_000, html), LIMITS, attached)
    assert count < 500
    assert count * (html + attached) <= REQUEST_BYTES < (count + 2) * (html + attached + 1_000)


def test_one_message_is_the_least() -> None:
    assert messages_per_request(issue(9_000_000), LIMITS, 0) == 1
