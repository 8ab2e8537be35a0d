"""Makes an attempt's request from the ledger's rows: the same rows and key give the same bytes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from newsletter.compiled import CompiledIssue, Recipient
from newsletter.providers.base import Batch, Capabilities, Message, Prepared, Provider
from newsletter.rendering import compose
from newsletter.store import Store
from newsletter.store.schema import deliveries, media
from newsletter.tokens import recipient_token

_log = logging.getLogger(__name__)

#: Bytes of one request that the engine aims at, however many the provider would take.
REQUEST_BYTES = 8_000_000
# Of a message in a request beside its literals: address, merge values, metadata, JSON.
_BYTES_AROUND = 1_000
_METADATA_LENGTH = 80  # of a value, at the strictest provider


@dataclass(frozen=True, slots=True)
class Letter:
    """What is the same for all recipients of a send."""

    send_id: int
    send: str
    at: datetime
    created_at: datetime
    compiled: CompiledIssue
    key: bytes = field(repr=False)  # the workspace's
    media: Callable[[str], bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """A request for the rows that could be composed, and the others as position → reason."""

    prepared: Prepared | None
    positions: tuple[int, ...]
    failed: dict[int, str]


def messages_per_request(compiled: CompiledIssue, limits: Capabilities, attached: int) -> int:
    """How many recipients make one batch: the provider's size, fewer where messages are large.

    `attached` is the bytes that embedded images add to each. With several requests in flight the
    engine's memory rests on the size of one, whatever the audience.
    """
    largest = max(sum(map(_size, variant.literals())) for variant in compiled.variants.values())
    budget = min(REQUEST_BYTES, limits.max_bytes)
    return max(1, min(limits.batch_size, budget // (largest + attached + _BYTES_AROUND)))


def _size(literal: str) -> int:
    return len(literal.encode())


def rows_where(connection: Connection, send_id: int, *conditions: ColumnElement[bool]) -> list[Any]:
    """What messages are made from, in the order of positions."""
    columns = deliveries.c
    query = select(
        columns.position,
        columns.subscriber_id,
        columns.email,
        columns.first_name,
        columns.last_name,
        columns.fields,
        columns.variant,
    ).where(columns.send_id == send_id, *conditions)
    return list(connection.execute(query.order_by(columns.position)))


def build(letter: Letter, provider: Provider, key: str, rows: Sequence[Row[Any]]) -> Request:
    """The request for as many of `rows`, from the first on, as the provider's limits allow."""
    failed: dict[int, str] = {}
    limits = provider.capabilities
    messages: list[Message] = []
    positions: list[int] = []
    for row in rows[: limits.batch_size]:
        try:
            messages.append(_message(letter, key, row))
            positions.append(row.position)
        except Exception as error:
            # One recipient's data must not keep the issue from all others.
            _log.exception("send %s: position %d cannot be composed", letter.send, row.position)
            failed[row.position] = f"cannot be composed: {error}"
    while messages:
        prepared = provider.prepare(Batch(key=key, messages=messages))
        size = len(prepared.body)
        if size <= limits.max_bytes:
            return Request(prepared, tuple(positions), failed)
        if len(messages) == 1:
            failed[positions[0]] = (
                f"cannot be composed: {size} bytes are more than the provider takes in a request"
            )
            return Request(None, (), failed)
        fit = min(len(messages) - 1, int(len(messages) * limits.max_bytes / size * 0.95))
        del messages[max(fit, 1) :], positions[max(fit, 1) :]
    return Request(None, (), failed)


def _message(letter: Letter, key: str, row: Row[Any]) -> Message:
    if not row.email:
        raise ValueError("the address is gone")
    recipient = Recipient(
        subscriber=row.subscriber_id,
        email=row.email,
        first_name=row.first_name,
        last_name=row.last_name,
        fields={name: str(value) for name, value in row.fields.items()},
        token=recipient_token(letter.key, letter.send_id, row.subscriber_id),
    )
    return compose(
        letter.compiled,
        recipient,
        variant=row.variant,
        at=letter.at,
        metadata={
            "attempt": key,
            "delivery": f"{letter.send_id}.{row.position}",
            "send": letter.send[:_METADATA_LENGTH],
        },
        media=letter.media,
    )


def media_reader(store: Store) -> Callable[[str], bytes]:
    """Reads an image by its SHA-256, and keeps the last few: a send embeds the same ones always."""

    @lru_cache(maxsize=64)
    def read(sha256: str) -> bytes:
        with store.read() as connection:
            query = select(media.c.bytes).where(media.c.sha256 == sha256)
            return bytes(connection.execute(query).scalar_one())

    return read
