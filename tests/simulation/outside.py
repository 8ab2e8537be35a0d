"""Who is outside of the engine: the people, and the provider's webhooks, through the real code."""

from __future__ import annotations

import base64
import random
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import orjson
from sqlalchemy import insert, select

from newsletter.audience import erase, suppress, unsubscribe
from newsletter.errors import NewsletterError, Unreachable
from newsletter.events import ingest
from newsletter.providers.base import WebhookRequest
from newsletter.providers.sendgrid_events import parse_events
from newsletter.store.schema import frozen_issues, sends, subscribers
from simulation.database import Change, Database, OpenStore, away
from simulation.plan import Fault
from simulation.providers import SECRET, open_simulated
from simulation.servers import Acceptance
from support.ledger import make_compiled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from simulation.world import World

COMPILED = make_compiled()
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TOO_LARGE = 40_000  # characters of a name


#: What a provider tells of one message; SendGrid also of one that it took and then dropped.
_TOLD = (
    *(("delivered",), ("delivered",), ("accepted", "delivered"), ("bounced",)),
    *(("delivered", "bounced"), ("delivered", "complained"), ("bounced", "complained")),
    *(("complained",), ("accepted",)),
)
_DROPPED = (("dropped",), ("accepted", "dropped"))


_PEOPLE = insert(subscribers)
_SEND = insert(sends)
_OF_SEND = {
    "send": "milia.1",
    "issue": "milia",
    "segment": "all",
    "provider": "main",
    "frozen": COMPILED.sha256,
    "state": "scheduled",
}


def freeze_issue(database: Database) -> None:
    """The issue that every send is of."""
    with database.store.begin() as connection:
        issue = {"issue": COMPILED.issue, "source_sha256": "0" * 64, "created_at": NOON}
        frozen = {"sha256": COMPILED.sha256, "compiled": COMPILED.to_bytes()}
        connection.execute(insert(frozen_issues), {**issue, **frozen})


class OutsideStore(OpenStore):
    """The web server's and the editors' connections: they meet no fault but a database away."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world.database)
        self._world = world
        self.name = name

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        self._reach()
        pending = self._world.database.pending
        try:
            with super().begin() as connection:
                yield connection
                told = pending[:]
        finally:
            pending.clear()
        self._world.committed(self.name, told)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._reach()
        with super().read() as connection:
            yield connection

    def _reach(self) -> None:
        if self._world.database_away:
            raise away()


class Outside:
    """People who subscribe and leave, and what the provider tells of their messages."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = OutsideStore(world, "web")
        self.rng = random.Random(f"{world.scenario.seed}/events")
        self.providers = {name: open_simulated(world, name, None) for name in world.servers}
        self.addresses = [f"reader{n}@example.com" for n in range(1, world.scenario.people + 1)]
        self.too_large: set[str] = set()
        self.left: set[int] = set()
        self.coming = 0  # webhooks on their way
        self._events = 0

    # --- people -----------------------------------------------------------------------------------

    def populate(self) -> None:
        people = [
            {
                "email": address,
                "email_key": address,
                "first_name": "A" * TOO_LARGE if address in self.too_large else "Ada",
                "state": "active",
                "created_at": NOON,
                "updated_at": NOON,
            }
            for address in self.addresses
        ]
        for fault in self.world.scenario.faults:
            if fault.what == "message too large":
                self.world.hit(fault.what)
                person = people[int(fault.at) % len(people)]
                person["first_name"] = "A" * TOO_LARGE
                self.too_large.add(str(person["email"]))
        grace = self.world.workspace.settings.delivery.grace
        start = self.world.start
        at = start - 2 * grace if self.world.scenario.late else start
        with self.store.begin() as connection:
            connection.execute(_PEOPLE, people)
            connection.execute(_SEND, {**_OF_SEND, "at": at, "created_at": at})

    def afflict(self, fault: Fault) -> None:
        """Something is special about a recipient."""
        address = self.addresses[int(fault.at) % len(self.addresses)]
        if fault.what == "inactive recipient":
            self.world.inactive.add(address)
        elif fault.what == "recipient put off":
            self.world.server.put_off[address] = int(fault.value)

    def leave(self, fault: Fault) -> None:
        """Somebody unsubscribes, is suppressed or erased."""
        world = self.world
        number = fault.who % len(self.addresses) + 1
        now = world.machines[0].now()
        key = world.workspace.key
        with self.store.begin() as connection:
            state = select(subscribers.c.state).where(subscribers.c.id == number)
            if connection.execute(state).scalar_one() == "forgotten":
                return
            match fault.what:
                case "unsubscribes":
                    unsubscribe(connection, number, how="one-click", now=now)
                case "suppressed":
                    address = self.addresses[number - 1]
                    suppress(connection, key, address, reason="by an editor", now=now)
                case "erased":
                    erase(connection, key, number, now)
        world.hit(fault.what)

    def committed(self, told: list[Change]) -> None:
        for change in told:
            if change.what == "person" and (change.new != "active" or change.told):
                self.left.add(change.number)

    # --- webhooks ---------------------------------------------------------------------------------

    def plan_events(self, taken: Acceptance) -> None:
        """What the provider will tell of a message, and when."""
        rng, world = self.rng, self.world
        if rng.random() >= world.scenario.events:
            return
        kinds = rng.choice(_TOLD + _DROPPED if _kind(world, taken) == "sendgrid" else _TOLD)
        at = world.loop.time()
        for kind in kinds:
            at += rng.expovariate(1 / 5)
            self._plan_event(taken, kind, at)

    def _plan_event(self, taken: Acceptance, kind: str, at: float) -> None:
        world = self.world
        number = self._events
        self._events += 1
        fault = world.planned("webhook")
        told_at = at + self.rng.expovariate(1 / 10)
        times = 1
        if fault is not None:
            world.hit(fault.what)
            world.tell("network", f"fault at webhook {number}: {fault.what}")
            match fault.what:
                case "webhook lost":
                    return
                case "webhook replayed":
                    times = 3
                case "webhook late":
                    told_at += fault.value
                case "webhook before the answer":
                    told_at = world.loop.time()
        when = world.machines[0].now() + timedelta(seconds=at - world.loop.time())
        server = world.servers[taken.provider]
        body = orjson.dumps(server.event(taken, kind, number, when.isoformat()))
        for repeat in range(times):
            self.coming += 1
            world.at(told_at + repeat * 7, self._tell, body, kind, taken)

    def _tell(self, body: bytes, kind: str, taken: Acceptance) -> None:
        """The webhook arrives; while it is not taken in, the provider tries again."""
        world = self.world
        secret = base64.b64encode(SECRET.encode()).decode()
        scheme = f"Basic {secret}" if ":" in SECRET else f"Bearer {SECRET}"
        request = WebhookRequest("POST", {"authorization": scheme}, body)
        now = world.machines[0].now()
        try:
            if _kind(world, taken) == "sendgrid":  # whose signatures are tested elsewhere
                told = parse_events(body)
            else:
                told = self.providers[taken.provider].events(request, now=now)
            world.tell("web", f"is told: {kind} {taken.address}")
            ingest(self.store, world.workspace, taken.provider, told, now)
            if kind != "accepted":  # which is left to the answer while a request is under way
                world.checker.told_of.add(taken.address)
            if kind == "dropped":
                world.checker.dropped.add(taken.address)
        except Unreachable:
            world.at(world.loop.time() + 15, self._tell, body, kind, taken)
            return
        except NewsletterError as error:
            world.fail("no fault inside", f"a webhook is refused: {error}")
        self.coming -= 1


def _kind(world: World, taken: Acceptance) -> str:
    """The kind of the provider that has taken the message."""
    return world.scenario.kinds[taken.provider]
