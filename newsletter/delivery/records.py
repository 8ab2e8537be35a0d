"""What a provider has of a whole send, and whether that is all: by the send's name where it can be
asked by it, else by the keys of all attempts that can have been made.

A key follows from send, batch and try alone, so that keys which were lost with the database can be
made again. Nothing here writes to the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Row, and_, case, func, select

from newsletter.audience import comparison_key
from newsletter.delivery.attempts import attempt_key
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.delivery.transitions import LEFT
from newsletter.providers.base import FindsSends, Found, Provider
from newsletter.store.schema import attempts, batches, deliveries

#: So many tries of one batch in a row may have been refused before one was accepted.
TRIES = 20
_AT_ONCE = 4
_DOUBTFUL = ("started", "in_doubt")
# Of a send whose recipients are not known: so many batches and tries in a row without anything.
_EMPTY = 3


@dataclass(frozen=True, slots=True)
class Known:
    """One message that a provider has."""

    provider: str
    provider_message_id: str
    attempt: str


@dataclass
class Record:
    """The messages of a send by their recipients' addresses, in the form for comparison.

    `complete`: whoever is not in it was surely not sent anything. `failed`: why nobody knows yet.
    """

    messages: dict[str, Known] = field(default_factory=dict)
    complete: bool = False
    failed: str = ""
    asked: int = 0
    # Attempts that were taken as a whole, though not all in them may be listed: key → id.
    wholes: dict[str, str] = field(default_factory=dict)

    def add(self, other: Record) -> None:
        """Take in what one more provider has."""
        self.complete = other.complete and (self.complete or not self.asked)
        self.asked += 1
        self.failed = self.failed or other.failed
        self.wholes |= other.wholes
        for address, known in other.messages.items():
            self.messages.setdefault(address, known)

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys of all attempts that were accepted."""
        return frozenset([*self.wholes, *(known.attempt for known in self.messages.values())])


async def ask(
    runtime: DeliveryRuntime,
    provider: Provider,
    send: Row[Any],
    lost: int | None,
    progress: Callable[[str], None],
) -> Record:
    """What the provider has of the send. Empty and not complete where it cannot be asked.

    `lost` is how many requests the database does not know of, where that is known.
    """
    if not provider.capabilities.lookup:
        return Record()
    total: int | None = None
    if isinstance(provider, FindsSends):
        found = await provider.find_send(send.send, since=send.created_at)
        if found.total is None:
            return Record(failed=_unanswered(provider, found.reason))
        if found.complete:
            record = Record(complete=True)
            for each in found.messages:
                known = Known(provider.settings.name, each.provider_message_id, each.attempt)
                record.messages.setdefault(comparison_key(each.recipient), known)
            return record
        total = found.total
    return await _ByKeys(runtime, provider, send, progress, total=total, lost=lost).record()


def _unanswered(provider: Provider, reason: str) -> str:
    return f"{provider.settings.name} cannot be asked now: {reason}"


class _ByKeys:
    """Looks up one key after another, until everything that the provider has is accounted for."""

    def __init__(
        self,
        runtime: DeliveryRuntime,
        provider: Provider,
        send: Row[Any],
        progress: Callable[[str], None],
        *,
        total: int | None,
        lost: int | None,
    ) -> None:
        self.runtime = runtime
        self.provider = provider
        self.send = send
        self.progress = progress
        self.total = total
        self.lost = lost
        self.found = Record()
        self.requests = 0  # that the provider has, and the database had not

    async def record(self) -> Record:
        if self.send.filled_at is None:
            await self._batches_unknown()
            return self.found
        with self.runtime.store.read() as connection:
            doubtful = _doubtful(connection, self.send.id)
            parts = _parts(connection, self.send.id)
            name = self.provider.settings.name
            self.known = _with_provider(connection, self.send.id, name)
        await self._look_up(doubtful)
        wanted = {part.number: part.left for part in parts}
        tries = {part.number: part.tries for part in parts}
        for further in range(1, TRIES + 1):
            if self.found.failed or self._accounted():
                break
            open_ones = [number for number in wanted if wanted[number] > 0]
            keys = {self._key(number, tries[number] + further): number for number in open_ones}
            counts = await self._look_up(list(keys))
            self.requests += sum(count > 0 for count in counts.values())
            for key, count in counts.items():
                wanted[keys[key]] -= count
        self.found.complete = not self.found.failed and self._accounted()
        return self.found

    def _accounted(self) -> bool:
        """Whether nothing can be left at the provider that was not found."""
        if self.total is not None:
            return self.known + len(self.found.messages) >= self.total
        return self.lost is not None and self.requests >= self.lost

    async def _batches_unknown(self) -> None:
        self.known = 0
        empty = number = 0
        while empty < _EMPTY and not self.found.failed:
            number += 1
            keys = [self._key(number, further) for further in range(1, _EMPTY + 1)]
            counts = await self._look_up(keys)
            empty = 0 if any(counts.values()) else empty + 1
        found = bool(self.total) and len(self.found.messages) >= (self.total or 0)
        self.found.complete = not self.found.failed and (self.total == 0 or found)

    async def _look_up(self, keys: Sequence[str]) -> Mapping[str, int]:
        """How many messages each attempt has; a look-up that fails ends it all."""
        counts: dict[str, int] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            since = self.send.created_at
            answers: list[Found] = await asyncio.gather(
                *[self.provider.find(key, since=since) for key in some]
            )
            for key, found in zip(some, answers, strict=True):
                if not found.conclusive:
                    self.found.failed = _unanswered(self.provider, found.reason)
                    return {}
                counts[key] = max(len(found.messages), bool(found.whole))
                self._keep(key, found)
            self.progress(f"{self.send.send}: {len(self.found.messages)} messages found")
        return counts

    def _keep(self, key: str, found: Found) -> None:
        if found.whole:
            self.found.wholes[key] = found.whole
        for address, message in found.messages.items():
            known = Known(self.provider.settings.name, message, key)
            self.found.messages.setdefault(comparison_key(address), known)

    def _key(self, batch: int, number: int) -> str:
        send = self.send
        return attempt_key(self.runtime.workspace.key, send.send, send.created_at, batch, number)


def _doubtful(connection: Connection, send_id: int) -> list[str]:
    query = select(attempts.c.id).where(
        attempts.c.send_id == send_id, attempts.c.state.in_(_DOUBTFUL)
    )
    return list(connection.execute(query.order_by(attempts.c.batch, attempts.c.number)).scalars())


def _parts(connection: Connection, send_id: int) -> list[Any]:
    """The batches in which something is left, with how much."""
    open_states = ["pending", "sending", "in_doubt", "skipped"]  # cancelled, and sent to before
    left = case((deliveries.c.state.in_(open_states), 1), else_=0)
    within = and_(
        deliveries.c.send_id == batches.c.send_id,
        deliveries.c.position.between(batches.c.lo, batches.c.hi),
    )
    query = (
        select(batches.c.number, batches.c.tries, func.sum(left).label("left"))
        .join(deliveries, within)
        .where(batches.c.send_id == send_id)
        .group_by(batches.c.number, batches.c.tries)
        .having(func.sum(left) > 0)
    )
    return list(connection.execute(query.order_by(batches.c.number)).all())


def _with_provider(connection: Connection, send_id: int, provider: str) -> int:
    """How many messages this provider has for sure: not a stand-in, and no doubt looked up here."""
    settled = select(attempts.c.id).where(
        attempts.c.send_id == send_id,
        attempts.c.provider == provider,
        attempts.c.state.not_in(_DOUBTFUL),
    )
    query = select(func.count()).where(
        deliveries.c.send_id == send_id,
        deliveries.c.state.in_(sorted(LEFT)),
        deliveries.c.attempt.in_(settled),
    )
    return int(connection.execute(query).scalar_one())
