"""Twins of providers' servers: they accept messages, answer in their API's format, and keep the
record by which the engine is judged. They know nothing of the ledger.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
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
    provider: str

    @property
    def metadata(self) -> dict[str, str]:
        return {"attempt": self.attempt, "delivery": self.delivery, "send": "milia.1"}

    @property
    def position(self) -> int:
        return int(self.delivery.partition(".")[2])

    @property
    def id(self) -> str:
        return f"message-{self.number}"


class Server(ABC):
    """A provider account; what it accepted is never forgotten."""

    def __init__(self, world: World, name: str, kind: str) -> None:
        self.world = world
        self.name = name
        self.kind = kind
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
    def event(self, acceptance: Acceptance, kind: str, number: int, at: str) -> Any:
        """A webhook's body about a message: `accepted`, `delivered`, `bounced`, `complained`,
        and of SendGrid also `dropped`."""

    def cut(self, response: Response) -> Response:
        """An answer of which a part is missing."""
        return Response(response.status, {}, response.body[: len(response.body) // 2])

    def is_send(self, request: Request) -> bool:
        """Whether a request may make the provider accept something."""
        return request.method == "POST"

    def accept(self, request: Request, address: str, attempt: str, delivery: str) -> Acceptance:
        world = self.world
        now = world.loop.time()
        number = len(world.record)
        limit = (now if request.ended is None else request.ended) + world.scenario.lag * 0.95
        visible = now + world.network_rng.random() * max(0.0, limit - now)
        taken = Acceptance(number, now, address, attempt, delivery, visible, self.name)
        self.record.append(taken)
        self.of.setdefault(address, []).append(taken)
        world.accepted(taken)
        return taken

    def seen(self) -> list[Acceptance]:
        """The messages that a look-up shows by now."""
        now = self.world.loop.time()
        return [taken for taken in self.record if taken.visible_at <= now]

    def count(self, address: str) -> int:
        return len(self.of.get(address, ()))

    def _puts_off(self, address: str) -> bool:
        left = self.put_off.get(address, 0)
        self.put_off[address] = left - 1
        return left > 0


class MailboxServer(Server):
    """`newsletter mailbox`, whose keys can be taken away."""

    def handle(self, request: Request) -> Response:
        if request.method == "GET":
            if urlsplit(request.url).path == "/v1/messages":
                return self._list(parse_qs(urlsplit(request.url).query))
            return self._look_up(self.attempt_of(request))
        key = request.headers["Idempotency-Key"]
        if self.kind == "mailbox" and key in self.answers:
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

    def _list(self, query: dict[str, list[str]]) -> Response:
        """All messages, as there is one send, of the newest first."""
        now, offset = self.world.loop.time(), int(query["offset"][0])
        seen = [a for a in reversed(self.record) if a.visible_at <= now]
        messages = [
            {"id": taken.id, "to": taken.address, "metadata": {"attempt": taken.attempt}}
            for taken in seen[offset : offset + int(query["limit"][0])]
        ]
        document = {"messages": messages, "total": len(seen), "send": query["send"][0]}
        return Response(200, {}, orjson.dumps(document))

    def _look_up(self, key: str) -> Response:
        seen = [taken for taken in self.seen() if taken.attempt == key]
        if not seen:
            return Response(404, {}, b'{"error":"none","code":"no_such_batch"}')
        results = [{"to": taken.address, "id": taken.id} for taken in seen]
        return Response(200, {}, orjson.dumps({"batch": key, "results": results}))

    def _messages_of(self, send: str) -> Response:
        messages = [
            {"id": taken.id, "to": taken.address, "metadata": taken.metadata}
            for taken in self.seen()
        ]
        answer = {"send": send, "total": len(messages), "messages": messages}
        return Response(200, {}, orjson.dumps(answer))

    def attempt_of(self, request: Request) -> str:
        if request.method == "GET":
            return urlsplit(request.url).path.rpartition("/")[2]
        return str(orjson.loads(request.body)["messages"][0]["metadata"]["attempt"])

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
    """Postmark's `/email/batch`, also with templates, and its message search, which shows a message
    after its lag."""

    def __init__(self, world: World, name: str, kind: str) -> None:
        super().__init__(world, name, kind)
        self.templates: dict[str, dict[str, Any]] = {}

    def handle(self, request: Request) -> Response:
        path = urlsplit(request.url).path
        if "/templates" in path:
            return self._template(request, path.rpartition("/")[2])
        if request.method == "GET":
            return self._search(parse_qs(urlsplit(request.url).query))
        messages = _messages(request)
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
        if message.get("TemplateAlias", "") not in self.templates | {"": {}}:
            return {"ErrorCode": 1101, "Message": "no such template"}
        told = message["Metadata"]
        taken = self.accept(request, address, told["attempt"], told["delivery"])
        return {"ErrorCode": 0, "Message": "OK", "To": message["To"], "MessageID": taken.id}

    def _template(self, request: Request, alias: str) -> Response:
        missing = Response(422, {}, b'{"ErrorCode":1101,"Message":"no such template"}')
        match request.method:
            case "POST":
                told = orjson.loads(request.body)
                if told["Alias"] in self.templates:
                    return Response(422, {}, b'{"ErrorCode":1109,"Message":"it is there"}')
                self.templates[told["Alias"]] = {**told, "TemplateId": 1}
                self.world.hit("template made")
                return Response(200, {}, orjson.dumps({"Alias": told["Alias"], "TemplateId": 1}))
            case "DELETE" if self.templates.pop(alias, None):
                self.world.hit("template removed")
                return Response(200, {}, b'{"ErrorCode":0,"Message":"removed"}')
            case "GET" if alias in self.templates:
                return Response(200, {}, orjson.dumps(self.templates[alias]))
        return missing

    def is_send(self, request: Request) -> bool:
        return request.method == "POST" and "/templates" not in request.url

    def _search(self, query: dict[str, list[str]]) -> Response:
        now = self.world.loop.time()
        key, stream = query.get("metadata_attempt", [""])[0], query["messagestream"][0]
        seen = [
            {
                "MessageID": taken.id,
                "To": [{"Email": taken.address, "Name": None}],
                "Metadata": {"attempt": taken.attempt},
            }
            for taken in self.record  # without a key all are asked for, as there is one send
            if key in {"", taken.attempt} and taken.visible_at <= now and stream == "broadcast"
        ]
        return Response(200, {}, orjson.dumps({"TotalCount": len(seen), "Messages": seen}))

    def attempt_of(self, request: Request) -> str:
        if "/templates" in request.url:
            return ""
        if request.method == "GET":
            return parse_qs(urlsplit(request.url).query).get("metadata_attempt", [""])[0]
        return str(_messages(request)[0]["Metadata"]["attempt"])

    def addresses_of(self, request: Request) -> list[str]:
        return [parseaddr(item["To"])[1] for item in _messages(request)]

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


def _messages(request: Request) -> list[dict[str, Any]]:
    document = orjson.loads(request.body)
    found: list[dict[str, Any]] = document["Messages"] if isinstance(document, dict) else document
    return found


class SendgridServer(Server):
    """SendGrid's `/v3/mail/send`, which takes a request as a whole, and the search of its logs."""

    def handle(self, request: Request) -> Response:
        if not self.is_send(request):
            return self._search(self.attempt_of(request))
        people = orjson.loads(request.body)["personalizations"]
        errors = [
            {"message": "Does not contain a valid address.", "field": f"personalizations.{n}.to"}
            for n, person in enumerate(people)
            if person["to"][0]["email"] in self.world.inactive
        ]
        if errors:
            self.world.hit("inactive recipient")
            return Response(400, {}, orjson.dumps({"errors": errors}))
        attempt = self.attempt_of(request)
        for person in people:
            self.accept(
                request, person["to"][0]["email"], attempt, person["custom_args"]["nl_delivery"]
            )
        return Response(202, {"x-message-id": f"request-{attempt[:8]}"}, b"")

    def is_send(self, request: Request) -> bool:
        return request.url.endswith("/mail/send")

    def cut(self, response: Response) -> Response:
        return Response(response.status, {}, b"")

    def _search(self, attempt: str) -> Response:
        seen = [
            {"to_email": taken.address, "sg_message_id": f"request-{taken.attempt[:8]}.filter-1"}
            for taken in self.seen()
            if attempt in {taken.attempt, taken.metadata["send"]}
        ]
        return Response(200, {}, orjson.dumps({"messages": seen}))

    def attempt_of(self, request: Request) -> str:
        document = orjson.loads(request.body)
        if self.is_send(request):
            return str(document["categories"][0])
        return str(document["query"].split("'")[1])

    def addresses_of(self, request: Request) -> list[str]:
        people = orjson.loads(request.body)["personalizations"]
        return [person["to"][0]["email"] for person in people]

    def error(self, text: str) -> bytes:
        return orjson.dumps({"errors": [{"message": text, "field": None}]})

    def event(self, acceptance: Acceptance, kind: str, number: int, at: str) -> Any:
        names = {"accepted": "processed", "bounced": "bounce", "complained": "spamreport"}
        why = {"reason": "Bounced Address"} if kind == "dropped" and number % 2 else {}
        return [
            {
                **why,
                "event": names.get(kind, kind),
                "email": acceptance.address,
                "timestamp": datetime.fromisoformat(at).timestamp(),
                "sg_event_id": f"event-{number}",
                "sg_message_id": f"request-{acceptance.attempt[:8]}.filter-{number}",
                "nl_attempt": acceptance.attempt,
                "nl_delivery": acceptance.delivery,
            }
        ]
