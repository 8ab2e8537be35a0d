"""A ledger with people and a scheduled send, and a provider that keeps a record of its own."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import insert, select, update

from newsletter.compiled import CompiledIssue, CompiledMessage, Slot
from newsletter.delivery import DeliveryRuntime, Policy, RunReport, run_due, status, verify
from newsletter.providers.base import (
    Accepted,
    Answered,
    Batch,
    Capabilities,
    Deferred,
    Event,
    FormBatch,
    Found,
    Outcome,
    Prepared,
    Rejected,
    Unknown,
    WebhookRequest,
)
from newsletter.settings import ProviderSettings
from newsletter.store import Store
from newsletter.store.schema import frozen_issues, sends, subscribers
from newsletter.workspace import Workspace

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def make_compiled(issue: str = "milia", segments: tuple[str, ...] = ()) -> CompiledIssue:
    """A small frozen issue: a greeting, a personal link, a variant for each set of segments."""

    base = "http://127.0.0.1:8000"
    postal = "Glow Letter Ltd, 1 Rose Lane, London E1 6AN"

    def message(note: str) -> CompiledMessage:
        slots = (
            Slot("subscriber.first_name", (("default", "there"),), "html"),
            Slot("links.token", (), "url"),
        )
        return CompiledMessage(
            slots=slots,
            subject=("Does microneedling help milia?",),
            html=(
                "<p>Hello ",
                0,
                f'{note}</p><a href="{base}/archive/{issue}">web version</a>'
                f'<a href="{base}/unsubscribe/',
                1,
                f'">unsubscribe</a><p>{postal}</p>',
            ),
            text=(
                "Hello ",
                0,
                f"{note}\n{base}/archive/{issue}\n{base}/unsubscribe/",
                1,
                f"\n{postal}",
            ),
            headers=(
                ("List-Unsubscribe", (f"<{base}/unsubscribe/", 1, ">")),
                ("List-Unsubscribe-Post", ("List-Unsubscribe=One-Click",)),
            ),
        )

    names = [""]
    for segment in sorted(segments):
        names += [f"{name},{segment}".lstrip(",") for name in names]
    return CompiledIssue(
        issue=issue,
        language="en",
        title="Does microneedling help milia?",
        summary="",
        sender_name="Glow Letter",
        sender_email="hello@glow.example",
        reply_to="",
        list_id="<glow.example>",
        audience="all",
        segments=segments,
        variants={name: message(f" [{name}]" if name else "") for name in names},
        web="",
        assets=(),
        links=(),
        sources=(),
    )


def add_people(store: Store, count: int, *, first: int = 1, local: str = "reader") -> None:
    rows = [
        {
            "email": f"{local}{number}@example.com",
            "email_key": f"{local}{number}@example.com",
            "first_name": f"Ada{number}",
            "state": "active",
            "created_at": NOON,
            "updated_at": NOON,
        }
        for number in range(first, first + count)
    ]
    with store.begin() as connection:
        connection.execute(insert(subscribers), rows)


def schedule_send(
    store: Store,
    compiled: CompiledIssue | None = None,
    *,
    at: datetime = NOON,
    segment: str = "all",
    provider: str = "main",
) -> str:
    """Freeze an issue and insert its send, as scheduling does. Returns its public name."""
    compiled = compiled or make_compiled()
    with store.begin() as connection:
        known = select(frozen_issues.c.sha256).where(frozen_issues.c.sha256 == compiled.sha256)
        if connection.execute(known).one_or_none() is None:
            connection.execute(
                insert(frozen_issues).values(
                    sha256=compiled.sha256,
                    issue=compiled.issue,
                    compiled=compiled.to_bytes(),
                    source_sha256="0" * 64,
                    created_at=at,
                )
            )
        name = f"{compiled.issue}.1"
        connection.execute(
            insert(sends).values(
                send=name,
                issue=compiled.issue,
                frozen=compiled.sha256,
                segment=segment,
                provider=provider,
                state="scheduled",
                at=at,
                created_at=at,
            )
        )
    return name


#: What a request does at the provider: the outcome told, and whether the batch was kept.
Fault = Callable[["RecordingProvider", Prepared], Outcome | None]


@dataclass
class RecordingProvider:
    """A provider that keeps every message that it accepted, and fails as it is told to.

    `faults` are used up one a request; None in their place lets a request through.
    """

    settings: ProviderSettings
    capabilities: Capabilities
    clock: Any
    faults: list[Fault | None] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)  # (key, address)
    answers: dict[str, tuple[str, Answered]] = field(default_factory=dict)
    visible_at: dict[str, datetime] = field(default_factory=dict)
    requests: list[Prepared] = field(default_factory=list)
    lookups: list[datetime] = field(default_factory=list)
    failing_lookups: int = 0
    refuse: set[str] = field(default_factory=set)
    put_off: Counter[str] = field(default_factory=Counter)
    during: Callable[[Prepared], Any] | None = None

    def prepare(self, batch: Batch) -> Prepared:
        body = orjson.dumps(
            [[message.to[1], message.html, dict(message.metadata)] for message in batch.messages]
        )
        addresses = tuple(message.to[1] for message in batch.messages)
        return Prepared(batch.key, "/send", body, {}, addresses)

    def prepare_form(self, batch: FormBatch) -> Prepared:
        return self.prepare(batch.whole())

    async def send(self, prepared: Prepared) -> Outcome:
        self.requests.append(prepared)
        await asyncio.sleep(0)
        if self.during is not None:
            self.during(prepared)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            outcome = fault(self, prepared)
            if outcome is not None:
                return outcome
        return self.accept(prepared)

    def accept(self, prepared: Prepared) -> Outcome:
        """Take the batch, or answer as the first time where the key is known."""
        if self.capabilities.idempotency is not None and prepared.key in self.answers:
            sha256, answer = self.answers[prepared.key]
            if sha256 != prepared.sha256:
                return Unknown("409: the key was used for other bytes")
            return answer
        outcomes: list[Accepted | Rejected | Deferred] = []
        for number, address in enumerate(prepared.recipients):
            if address in self.refuse:
                outcomes.append(Rejected("the recipient is inactive", suppress=True))
            elif self.put_off[address] > 0:
                self.put_off[address] -= 1
                outcomes.append(Deferred("greylisted"))
            else:
                self.kept.append((prepared.key, address))
                outcomes.append(Accepted(f"{prepared.key}-{number}"))
        answer = Answered(tuple(outcomes))
        self.answers[prepared.key] = (prepared.sha256, answer)
        self.visible_at[prepared.key] = self.clock.now() + self.capabilities.lookup_lag
        return answer

    async def find(self, key: str, *, since: datetime) -> Found:
        self.lookups.append(self.clock.now())
        await asyncio.sleep(0)
        if self.failing_lookups:
            self.failing_lookups -= 1
            return Found({}, conclusive=False, reason="an HTML page")
        if key not in self.answers or self.clock.now() < self.visible_at[key]:
            return Found({}, conclusive=True)
        ids = {address: f"{key}-{n}" for n, (k, address) in enumerate(self.kept) if k == key}
        return Found(ids, conclusive=True)

    def events(self, request: WebhookRequest, *, now: datetime) -> list[Event]:
        return []

    async def close(self) -> None:
        return None

    @property
    def received(self) -> Counter[str]:
        """How many messages each address was sent."""
        return Counter(address for _, address in self.kept)


def lost_before(_provider: RecordingProvider, _prepared: Prepared) -> Outcome:
    return Unknown("the connection was dropped")


def lost_after(provider: RecordingProvider, prepared: Prepared) -> Outcome:
    provider.accept(prepared)
    return Unknown("the connection was dropped")


class World:
    """One workspace's ledger with a provider, driven by a clock that the test moves."""

    def __init__(self, workspace: Workspace, store: Store, clock: Any, provider: Any) -> None:
        self.workspace = workspace
        self.store = store
        self.clock = clock
        self.provider = provider
        self.policy = Policy(poll=timedelta(seconds=30))  # nobody else makes work here

    def runtime(self, **changes: Any) -> DeliveryRuntime:
        values: dict[str, Any] = {
            "rng": random.Random(7),
            "policy": self.policy,
            "open_provider": lambda _name: self.provider,
            **changes,
        }
        store = values.pop("store", self.store)
        return DeliveryRuntime(self.workspace, store, self.clock, **values)

    def run(self, **changes: Any) -> RunReport:
        async def go() -> RunReport:
            return await run_due(self.runtime(**changes))

        return asyncio.run(go())

    def status(self, send: str = "milia.1") -> dict[str, Any]:
        with self.store.read() as connection:
            return status(connection, self.workspace, send)

    def counts(self, send: str = "milia.1") -> dict[str, int]:
        """The counts that are not zero."""
        return {name: count for name, count in self.status(send)["counts"].items() if count}

    def verify(self, send: str = "milia.1") -> list[str]:
        report = verify(self.store, send)
        assert report["ok"] == (not report["violations"])
        return report["violations"]

    def received_once(self, people: int) -> bool:
        """Whether everybody that the world was made with got exactly one message."""
        received: Counter[str] = self.provider.received
        return received == everybody(people)

    def leave(self, *addresses: str, state: str = "unsubscribed") -> None:
        with self.store.begin() as connection:
            connection.execute(
                update(subscribers).where(subscribers.c.email.in_(addresses)).values(state=state)
            )


def make_world(
    workspace: Workspace,
    store: Store,
    clock: Any,
    people: int = 10,
    *,
    settings: dict[str, Any] | None = None,
    schedule: bool = True,
    **capabilities: Any,
) -> World:
    """People, a send that is due at NOON (the clock's time), and a provider that keeps a record."""
    clock.moment = NOON
    base = Capabilities(
        batch_size=4,
        max_bytes=1_000_000,
        idempotency=None,
        lookup=True,
        lookup_lag=timedelta(minutes=2),
    )
    provider = RecordingProvider(
        settings=ProviderSettings(name="main", kind="mailbox", **(settings or {})),
        capabilities=replace(base, **capabilities),
        clock=clock,
    )
    add_people(store, people)
    if schedule:
        schedule_send(store)
    return World(workspace, store, clock, provider)


def everybody(people: int, but: Sequence[int] = ()) -> Counter[str]:
    return Counter(
        f"reader{number}@example.com" for number in range(1, people + 1) if number not in but
    )
