"""Makes an attempt's request from the ledger's rows: the same rows and key give the same bytes."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from newsletter.compiled import CompiledIssue, Recipient
from newsletter.providers.base import (
    Capabilities,
    Form,
    FormBatch,
    Personal,
    Prepared,
    Provider,
)
from newsletter.rendering import make_form, personal
from newsletter.store import Store
from newsletter.store.schema import deliveries, media
from newsletter.store.types import to_microseconds
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
    _forms: dict[str, Form] = field(default_factory=dict, init=False, repr=False, compare=False)

    def form(self, variant: str) -> Form:
        """The form of one variant, made once."""
        if variant not in self._forms:
            self._forms[variant] = make_form(
                self.compiled, variant, name=self._form_name(variant), at=self.at, media=self.media
            )
        return self._forms[variant]

    def _form_name(self, variant: str) -> str:
        """32 hex digits: the same from a restored database, another one in any other workspace."""
        told = f"form\0{self.send}\0{to_microseconds(self.created_at)}\0{variant}"
        return hmac.digest(self.key, told.encode(), "sha256").hex()[:32]


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
    if limits.one_body:
        fit = (budget - largest - attached) // _BYTES_AROUND
    else:
        fit = budget // (largest + attached + _BYTES_AROUND)
    return max(1, min(limits.batch_size, fit))


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
    """The request for as many of `rows` as the provider's limits allow, all of one variant.

    It is the first row's; where nobody of it can be composed, the next one's.
    """
    failed: dict[int, str] = {}
    limits = provider.capabilities
    for variant in dict.fromkeys(row.variant for row in rows):
        mine = [row for row in rows if row.variant == variant][: limits.batch_size]
        people, positions = _people(letter, key, mine, limits, failed)
        if people:
            batch = FormBatch(key, letter.form(variant), people)
            return _fitted(provider, batch, positions, failed)
    return Request(None, (), failed)


def _people(
    letter: Letter,
    key: str,
    rows: Sequence[Row[Any]],
    limits: Capabilities,
    failed: dict[int, str],
) -> tuple[list[Personal], list[int]]:
    people: list[Personal] = []
    positions: list[int] = []
    for row in rows:
        try:
            person = _person(letter, key, row)
            _refuse_large(person, limits)
            people.append(person)
            positions.append(row.position)
        except Exception as error:
            # One recipient's data must not keep the issue from all others.
            _log.exception("send %s: position %d cannot be composed", letter.send, row.position)
            failed[row.position] = f"cannot be composed: {error}"
    return people, positions


def _refuse_large(person: Personal, limits: Capabilities) -> None:
    values, most = "".join(person.values), limits.value_bytes
    # A character has four bytes at most: they are counted only where it could matter.
    if most is not None and 4 * len(values) > most and _size(values) > most:
        raise ValueError(f"its merge values have more than the {most} bytes the provider takes")


def _fitted(
    provider: Provider, batch: FormBatch, positions: list[int], failed: dict[int, str]
) -> Request:
    """The request for the batch, or for as many of it, from the first on, as fit into one."""
    most = provider.capabilities.max_bytes
    people = batch.recipients
    while True:
        prepared = provider.prepare_form(replace(batch, recipients=people))
        size = len(prepared.body)
        if size <= most:
            return Request(prepared, tuple(positions[: len(people)]), failed)
        if len(people) == 1:
            failed[positions[0]] = (
                f"cannot be composed: {size} bytes are more than the provider takes in a request"
            )
            return Request(None, (), failed)
        people = people[: max(min(len(people) - 1, int(len(people) * most / size * 0.95)), 1)]


def _person(letter: Letter, key: str, row: Row[Any]) -> Personal:
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
    return personal(
        letter.compiled,
        recipient,
        variant=row.variant,
        metadata={
            "attempt": key,
            "delivery": f"{letter.send_id}.{row.position}",
            "send": letter.send[:_METADATA_LENGTH],
        },
    )


def media_reader(store: Store) -> Callable[[str], bytes]:
    """Reads an image by its SHA-256, and keeps the last few: a send embeds the same ones always."""

    @lru_cache(maxsize=64)
    def read(sha256: str) -> bytes:
        with store.read() as connection:
            query = select(media.c.bytes).where(media.c.sha256 == sha256)
            return bytes(connection.execute(query).scalar_one())

    return read
