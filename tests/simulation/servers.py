"""Twins of providers' servers: they accept messages, answer in their API's format, and keep the
record by which the engine is judged. They know nothing of the ledger.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from email.utils import parseaddr
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import orjson

from newsletter.providers.transport import Response

if TYPE_CHECKING:
    from simulation.network import Request
    from simulation.world import World


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One message that the provider has taken."""

    number: int
    at: float
    address: str
    attempt: str
    delivery: str  # `send.position`, as the message said
    visible_at: float

    @property
    def id(self) -> str:
        return f"message-{self.number}"


class Server(ABC):
    """A provider account; what it accepted is never forgotten."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.record: list[Acceptance] = []
        self.of: dict[str, list[Acceptance]] = {}  # by address
        self.answers: dict[str, tuple[bytes, bytes]] = {}  # key → body, answer
        self.put_off: dict[str, int] = {}

    @abstractmethod
    def handle(self, request: Request) -> Response:
        """Work on a request that has arrived."""

    @abstractmethod
    def attempt_of(self, request: Request) -> str: ...

    @abstractmethod
    def addresses_of(self, request: Request) -> list[str]: ...

    @abstractmethod
    def error(self, text: str) -> bytes: ...

    @abstractmethod
    def event(self, acceptance: Acceptance, kind: str, number: int, at: str) -> dict[str, Any]:
        """A webhook's body about a message: `accepted`, `delivered`, `bounced`, `complained`."""

    def cut(self, body: bytes) -> bytes:
        return body[: len(body) // 2]

    def accept(self, request: Request, address: str, attempt: str, delivery: str) -> Acceptance:
        world = self.world
        now = world.loop.time()
        number = len(self.record)
        limit = (now if request.ended is None else request.ended) + world.scenario.lag * 0.95
        visible = now + world.network_rng.random() * max(0.0, limit - now)
        taken = Acceptance(number, now, address, attempt, delivery, visible)
        self.record.append(taken)
        self.of.setdefault(address, []).append(taken)
        world.accepted(taken)
        return taken

    def count(self, address: str) -> int:
        return len(self.of.get(address, ()))

    def _puts_off(self, address: str) -> bool:
        left = self.put_off.get(address, 0)
        self.put_off[address] = left - 1
        return left > 0


class MailboxServer(Server):
    """`newsletter mailbox`, whose keys can be taken away."""

    def __init__(self, world: World, *, keys: bool) -> None:
        super().__init__(world)
        self.keys = keys

    def handle(self, request: Request) -> Response:
        if request.method == "GET":
            return self._look_up(self.attempt_of(request))
        key = self.attempt_of(request)
        if self.keys and key in self.answers:
            body, answer = self.answers[key]
            if body != request.body:
                return Response(409, {}, b'{"error":"this key was used","code":"key_reused"}')
            self.world.tell("provider", f"repeats its answer to {key[:6]}")
            return Response(200, {}, answer)
        results = [
            self._take(request, key, item) for item in orjson.loads(request.body)["messages"]
        ]
        answer = orjson.dumps({"batch": key, "results": results})
        self.answers.setdefault(key, (request.body, answer))
        return Response(200, {}, answer)

    def _take(self, request: Request, key: str, message: dict[str, Any]) -> dict[str, Any]:
        address = message["to"]
        if address in self.world.inactive:
            self.world.hit("inactive recipient")
            return {"to": address, "error": "the recipient is inactive", "code": "inactive"}
        taken = self.accept(request, address, key, message["metadata"]["delivery"])
        return {"to": address, "id": taken.id}

    def _look_up(self, key: str) -> Response:
        now = self.world.loop.time()
        seen = [a for a in self.record if a.attempt == key and a.visible_at <= now]
        if not seen:
            return Response(404, {}, b'{"error":"none","code":"no_such_batch"}')
        results = [{"to": taken.address, "id": taken.id} for taken in seen]
        return Response(200, {}, orjson.dumps({"batch": key, "results": results}))

    def attempt_of(self, request: Request) -> str:
        if request.method == "GET":
            return urlsplit(request.url).path.rpartition("/")[2]
        return request.headers["Idempotency-Key"]

    def addresses_of(self, request: Request) -> list[str]:
        return [item["to"] for item in orjson.loads(request.body)["messages"]]

    def error(self, text: str) -> bytes:
        return orjson.dumps({"error": text, "code": "error"})

    def event(self, acceptance: Acceptance, kind: str, number: int, at: str) -> dict[str, Any]:
        metadata = {"attempt": acceptance.attempt, "delivery": acceptance.delivery}
        item = {"type": kind, "id": f"event-{number}", "message": acceptance.id, "at": at}
        item |= {"recipient": acceptance.address}
        if kind == "bounced":
            item |= {"bounce": "hard", "reason": "no such mailbox"}
        return {"events": [{**item, "metadata": metadata}]}


class PostmarkServer(Server):
    """Postmark's `/email/batch` and message search, which shows a message after its lag."""

    def handle(self, request: Request) -> Response:
        if request.method == "GET":
            return self._search(parse_qs(urlsplit(request.url).query))
        messages = orjson.loads(request.body)
        if request.fault == "accepted in part":
            messages = messages[: max(1, len(messages) // 2)]
        return Response(200, {}, orjson.dumps([self._take(request, item) for item in messages]))

    def _take(self, request: Request, message: dict[str, Any]) -> dict[str, Any]:
        address = parseaddr(message["To"])[1]
        if address in self.world.inactive:
            self.world.hit("inactive recipient")
            return {"ErrorCode": 406, "Message": "marked as inactive"}
        if self._puts_off(address):
            self.world.hit("recipient put off")
            return {"ErrorCode": 100, "Message": "maintenance"}
        told = message["Metadata"]
        taken = self.accept(request, address, told["attempt"], told["delivery"])
        return {"ErrorCode": 0, "Message": "OK", "To": message["To"], "MessageID": taken.id}

    def _search(self, query: dict[str, list[str]]) -> Response:
        now = self.world.loop.time()
        key, stream = query["metadata_attempt"][0], query["messagestream"][0]
        seen = [
            {"MessageID": taken.id, "To": [{"Email": taken.address, "Name": None}]}
            for taken in self.record
            if taken.attempt == key and taken.visible_at <= now and stream == "broadcast"
        ]
        return Response(200, {}, orjson.dumps({"TotalCount": len(seen), "Messages": seen}))

    def attempt_of(self, request: Request) -> str:
        if request.method == "GET":
            return parse_qs(urlsplit(request.url).query)["metadata_attempt"][0]
        return str(orjson.loads(request.body)[0]["Metadata"]["attempt"])

    def addresses_of(self, request: Request) -> list[str]:
        return [parseaddr(item["To"])[1] for item in orjson.loads(request.body)]

    def error(self, text: str) -> bytes:
        return orjson.dumps({"ErrorCode": 0, "Message": text})

    def event(self, acceptance: Acceptance, kind: str, number: int, at: str) -> dict[str, Any]:
        common = {
            "MessageID": acceptance.id,
            "Metadata": {"attempt": acceptance.attempt, "delivery": acceptance.delivery},
        }
        if kind in {"accepted", "delivered"}:
            return {**common, "RecordType": "Delivery", "Recipient": acceptance.address,
                    "DeliveredAt": at}  # fmt: skip
        name = "HardBounce" if kind == "bounced" else "SpamComplaint"
        return {**common, "RecordType": "Bounce", "Type": name, "Email": acceptance.address,
                "BouncedAt": at, "ID": number, "Inactive": True}  # fmt: skip
