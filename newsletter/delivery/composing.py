"""Makes an attempt's request from the ledger's rows: the same rows and key give the same bytes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Text, select, type_coerce

from newsletter.compiled import CompiledIssue, People
from newsletter.providers.base import (
    Capabilities,
    Form,
    FormBatch,
    Personal,
    Prepared,
    Provider,
)
from newsletter.providers.columns import Columns
from newsletter.rendering import make_form, personals
from newsletter.store import Store
from newsletter.store.schema import deliveries, media
from newsletter.store.types import to_microseconds
from newsletter.tokens import recipient_tokens

_log = logging.getLogger(__name__)

#: Bytes of one request that the engine aims at, however many the provider would take.
REQUEST_BYTES = 16_000_000
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
    #: Forms that a provider keeps, as was last known, and those being left there: its name, theirs.
    kept: set[tuple[str, str]] = field(default_factory=set, init=False, repr=False, compare=False)
    making: dict[tuple[str, str], asyncio.Task[bool]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _forms: dict[str, Form] = field(default_factory=dict, init=False, repr=False, compare=False)

    def form(self, variant: str) -> Form:
        """The form of one variant, made once."""
        if variant not in self._forms:
            form = make_form(self.compiled, variant, at=self.at, media=self.media)
            self._forms[variant] = replace(form, name=self._form_name(variant, form))
        return self._forms[variant]

    def _form_name(self, variant: str, form: Form) -> str:
        """32 hex digits: the same from a restored database, others in any other workspace, and
        others for every other text."""
        said = [form.subject, form.html, form.text, form.headers, form.sender, form.reply_to]
        text = hashlib.sha256(orjson.dumps(said)).hexdigest()
        told = f"form\0{self.send}\0{to_microseconds(self.created_at)}\0{variant}\0{text}"
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
    elif limits.keeps_forms:
        fit = budget // (attached + _BYTES_AROUND)
    else:
        fit = budget // (largest + attached + _BYTES_AROUND)
    return max(1, min(limits.batch_size, fit))


def _size(literal: str) -> int:
    return len(literal.encode())


#: What messages are made from, in the order of positions; `fields` is JSON, read where it is used.
ROWS = select(
    deliveries.c.position,
    deliveries.c.subscriber_id,
    deliveries.c.email,
    deliveries.c.first_name,
    deliveries.c.last_name,
    type_coerce(deliveries.c.fields, Text),
    deliveries.c.variant,
).order_by(deliveries.c.position)
_POSITION, _VARIANT = 0, 6  # places in a row of them


def rows_where(connection: Connection, send_id: int, *conditions: ColumnElement[bool]) -> list[Any]:
    """What messages are made from, in the order of positions."""
    query = ROWS.where(deliveries.c.send_id == send_id, *conditions)
    return list(connection.execute(query).all())


def build(
    letter: Letter,
    provider: Provider,
    key: str,
    rows: Sequence[Sequence[Any]],
    *,
    kept: bool = False,
) -> Request:
    """The request for as many of `rows` as the provider's limits allow, all of one variant.

    It is the first row's; where nobody of it can be composed, the next one's. `kept` says that the
    provider keeps the first row's form.
    """
    failed: dict[int, str] = {}
    limits = provider.capabilities
    variants = [row[_VARIANT] for row in rows]
    for variant in dict.fromkeys(variants):
        mine = rows
        if variants.count(variant) < len(rows):
            mine = [row for row in rows if row[_VARIANT] == variant]
        people, positions = _people(letter, key, mine[: limits.batch_size], limits, failed)
        if people:
            uses_kept = kept and variant == variants[0]
            batch = FormBatch(key, letter.form(variant), people, kept=uses_kept)
            return _fitted(provider, batch, positions, failed)
    return Request(None, (), failed)


def _people(
    letter: Letter,
    key: str,
    rows: Sequence[Sequence[Any]],
    limits: Capabilities,
    failed: dict[int, str],
) -> tuple[Sequence[Personal], Sequence[int]]:
    """Those who can be composed, with their positions; `failed` gets the others."""
    try:
        return _together(letter, key, rows, limits)
    except Exception as error:
        if len(rows) == 1:
            position = rows[0][_POSITION]
            _log.exception("send %s: position %d cannot be composed", letter.send, position)
            failed[position] = f"cannot be composed: {error}"
            return [], []
    # One recipient's data must not keep the issue from all others.
    each = [_people(letter, key, [row], limits, failed) for row in rows]
    return [p for people, _ in each for p in people], [n for _, places in each for n in places]


def _together(
    letter: Letter, key: str, rows: Sequence[Sequence[Any]], limits: Capabilities
) -> tuple[Columns, tuple[int, ...]]:
    """All of them, of one variant, in bulk, and their positions; raises if one cannot be."""
    positions, subscribers, emails, first_names, last_names, fields, variants = zip(
        *rows, strict=True
    )
    if not all(emails):
        raise ValueError("the address is gone")
    uses_fields = letter.compiled.variants[variants[0]].uses_fields
    people = People(
        subscribers,
        emails,
        first_names,
        last_names,
        [orjson.loads(text) for text in fields] if uses_fields else (),
        recipient_tokens(letter.key, letter.send_id, subscribers),
    )
    metadata = {
        "attempt": [key] * len(rows),
        "delivery": [f"{letter.send_id}.{position}" for position in positions],
        "send": [letter.send[:_METADATA_LENGTH]] * len(rows),
    }
    made = personals(letter.compiled, people, variant=variants[0], metadata=metadata)
    if limits.value_bytes is not None:
        _refuse_large(made.values, limits.value_bytes)
    return made, positions


def _refuse_large(columns: Sequence[Sequence[str]], most: int) -> None:
    # A character has four bytes at most: they are counted only where it could matter.
    if 4 * sum(max(map(len, column)) for column in columns) <= most:
        return
    for values in zip(*columns, strict=True):
        if _size("".join(values)) > most:
            raise ValueError(f"its merge values have more than the {most} bytes the provider takes")


def _fitted(
    provider: Provider, batch: FormBatch, positions: Sequence[int], failed: dict[int, str]
) -> Request:
    """The request for the batch, or for as many of it, from the first on, as fit into one."""
    people = batch.recipients
    while True:
        prepared = provider.prepare_form(replace(batch, recipients=people))
        size = len(prepared.body)
        most = provider.capabilities.max_bytes
        if len(people) > 1:  # the batch may have been planned for a form that is kept
            most = min(most, 2 * REQUEST_BYTES)
        if size <= most:
            return Request(prepared, tuple(positions[: len(people)]), failed)
        if len(people) == 1:
            failed[positions[0]] = (
                f"cannot be composed: {size} bytes are more than the provider takes in a request"
            )
            return Request(None, (), failed)
        people = people[: max(min(len(people) - 1, int(len(people) * most / size * 0.95)), 1)]


def media_reader(store: Store) -> Callable[[str], bytes]:
    """Reads an image by its SHA-256, and keeps the last few: a send embeds the same ones always."""

    @lru_cache(maxsize=64)
    def read(sha256: str) -> bytes:
        with store.read() as connection:
            query = select(media.c.bytes).where(media.c.sha256 == sha256)
            return bytes(connection.execute(query).scalar_one())

    return read
