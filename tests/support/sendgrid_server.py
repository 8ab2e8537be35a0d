"""A faithful SendGrid server for tests: `/v3/mail/send` and `/v3/logs` over real HTTP.

It enforces the limits of SendGrid's pages, refuses a request as a whole, substitutes as SendGrid
does (also within values, four deep), and shows a message in its logs only after its lag. It keeps
what it accepted in SQLite, so it can be killed, and fails on purpose by the mailbox's fault
switches. In a process: `python -m support.sendgrid_server --port 0`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import re
import socket
import sqlite3
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from newsletter.mailbox.faults import Faults, parse_fault
from newsletter.mailbox.serving import DroppableProtocol, drop_connection

MAX_BYTES = 30_000_000
MAX_PEOPLE = 1_000
MAX_SUBSTITUTIONS = 10_000
_ADDRESS = re.compile(r"[a-z0-9.!#$%&'`*+\-/=^_{}|~]+@([a-z0-9-]+\.)+[a-z0-9-]+", re.IGNORECASE)
_QUERY = re.compile(r"categories IN \('([^']+)'\)")
_FIELDS = frozenset({"personalizations", "from", "reply_to", "subject", "content", "attachments"})
_FIELDS |= {"headers", "categories", "custom_args", "mail_settings", "tracking_settings"}
_RESERVED = frozenset({"x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "to"})
_RESERVED |= {"content-transfer-encoding", "from", "subject", "reply-to", "cc", "bcc"}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (id TEXT PRIMARY KEY, visible REAL, body TEXT);
CREATE TABLE IF NOT EXISTS categories (category TEXT, request TEXT);
CREATE INDEX IF NOT EXISTS by_category ON categories (category);
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY, request TEXT, recipient TEXT, id TEXT, personalization TEXT);
CREATE INDEX IF NOT EXISTS by_request ON messages (request);
"""


@dataclass
class SendgridServer:
    """The server. `with SendgridServer() as server:` runs it in a thread; see `url`."""

    key: str = "local-key"
    lag: float = 0.0
    db: Path | str = ":memory:"
    faults: Faults = field(default_factory=Faults)
    webhook_url: str = ""
    sandbox: bool = False
    log_shows: int = 1000  # messages at most
    port: int = 0
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._db = sqlite3.connect(self.db, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(_SCHEMA)
        self._lock = threading.Lock()
        self._signing_key = ec.generate_private_key(ec.SECP256R1())
        self._listening = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.app = Starlette(
            routes=[
                Route("/v3/mail/send", self._send, methods=["POST"]),
                Route("/v3/logs", self._logs, methods=["POST"]),
                Route("/faults", self._faults, methods=["GET", "PUT"]),
            ]
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.app,
                http=DroppableProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_keep_alive=30,
                timeout_graceful_shutdown=1,
            )
        )

    def __enter__(self) -> SendgridServer:
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def run(self) -> None:
        self._server.run(sockets=[self._listening])

    # --- what was accepted --------------------------------------------------------------------

    def delivered(self) -> list[str]:
        """The recipients of all accepted messages, one entry a message."""
        with self._lock:
            rows = self._db.execute("SELECT recipient FROM messages ORDER BY seq").fetchall()
        return [row[0] for row in rows]

    def received(self, domain: str) -> Counter[str]:
        """How many messages each address of a domain was sent."""
        return Counter(address for address in self.delivered() if address.endswith(f"@{domain}"))

    def messages(self) -> Iterator[dict[str, Any]]:
        """All accepted messages as their recipients read them, in order."""
        query = (
            "SELECT body, personalization FROM messages m JOIN requests r ON r.id = m.request"
            " ORDER BY seq"
        )
        with self._lock:
            rows = self._db.execute(query).fetchall()
        for body, personalization in rows:
            yield as_read(json.loads(body), json.loads(personalization))

    def events(self) -> list[dict[str, Any]]:
        """What its webhooks say of all accepted messages."""
        query = (
            "SELECT recipient, m.id, personalization, body FROM messages m"
            " JOIN requests r ON r.id = m.request ORDER BY seq"
        )
        with self._lock:
            rows = self._db.execute(query).fetchall()
        return [_event(*row[:3], json.loads(row[3])["categories"]) for row in rows]

    @property
    def public_key(self) -> str:
        """The verification key of its webhooks, as SendGrid shows it."""
        public = self._signing_key.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode()

    def sign(self, body: bytes, timestamp: int) -> dict[str, str]:
        """The headers that a webhook has, in lower case."""
        signature = self._signing_key.sign(str(timestamp).encode() + body, ec.ECDSA(SHA256()))
        return {
            "x-twilio-email-event-webhook-timestamp": str(timestamp),
            "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
        }

    # --- sending ------------------------------------------------------------------------------

    async def _send(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append(str(request.url))
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return _errors(401, ("The provided authorization grant is invalid", None))
        if len(body) > MAX_BYTES:
            return _errors(413, ("content too large", None))
        if fault := self.faults.strikes("latency"):
            await asyncio.sleep(fault.seconds)
        if fault := self.faults.strikes("rate_limit"):
            answer = _errors(429, ("too many requests", None))
            answer.headers["X-RateLimit-Remaining"] = "0"
            answer.headers["X-RateLimit-Reset"] = str(int(time.time() + fault.seconds))
            return answer
        if self.faults.strikes("error_before"):
            return _errors(500, ("internal server error", None))
        if self.faults.strikes("drop_before"):
            return await drop_connection(request)
        try:
            document = json.loads(body)
        except ValueError:
            return _errors(400, ("Bad Request", None))
        refused = list(_refusals(document))
        if not refused and self.faults.strikes("refuse"):
            refused = [("Does not contain a valid address.", "personalizations.0.to.0.email")]
        if refused:
            status = 403 if refused[0][1] == "from" else 400
            return _errors(status, *refused)
        if self.sandbox or document.get("mail_settings", {}).get("sandbox_mode", {}).get("enable"):
            return Response(status_code=200)
        request_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22]
        await asyncio.to_thread(self._accept, request_id, document)
        return await self._answer(request, request_id)

    async def _answer(self, request: Request, request_id: str) -> Response:
        if self.faults.strikes("drop_after"):
            return await drop_connection(request)
        if self.faults.strikes("error_after"):
            return _errors(500, ("internal server error", None))
        if self.faults.strikes("html"):
            return Response("<!doctype html><h1>It works!</h1>", 200)
        if fault := self.faults.strikes("slow"):
            pause = fault.seconds

            async def slowly() -> Any:
                while True:
                    yield b" "
                    await asyncio.sleep(pause)

            return StreamingResponse(slowly(), 202, {"X-Message-Id": request_id})
        return Response(status_code=202, headers={"X-Message-Id": request_id})

    def _accept(self, request_id: str, document: dict[str, Any]) -> None:
        people = document.pop("personalizations")
        rows = [
            (
                request_id,
                person["to"][0]["email"],
                f"{request_id}.recvd-65f9fc9bdf-xk2mv-1-6719E3C1-{number:X}.0",
                json.dumps(person),
            )
            for number, person in enumerate(people)
        ]
        categories = [(category, request_id) for category in document.get("categories", ())]
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT INTO requests VALUES (?, ?, ?)",
                (request_id, time.time() + self.lag, json.dumps(document)),
            )
            self._db.executemany("INSERT INTO categories VALUES (?, ?)", categories)
            self._db.executemany(
                "INSERT INTO messages (request, recipient, id, personalization)"
                " VALUES (?, ?, ?, ?)",
                rows,
            )
            self._db.execute("COMMIT")
        if self.webhook_url:
            listed = document.get("categories", [])
            events = [_event(*row[1:], listed) for row in rows]
            threading.Thread(target=self._post, args=(events,), daemon=True).start()

    def _post(self, events: list[dict[str, Any]]) -> None:
        repeats = 2 if self.faults.strikes("webhook_repeated") else 1
        for _ in range(0 if self.faults.strikes("webhook_lost") else repeats):
            body = json.dumps(events).encode()
            headers = {"Content-Type": "application/json", **self.sign(body, int(time.time()))}
            request = urllib.request.Request(self.webhook_url, body, headers)
            urllib.request.urlopen(request, timeout=10).close()

    # --- look-up ------------------------------------------------------------------------------

    async def _logs(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append(f"{request.url} {body.decode()}")
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return _errors(401, ("authorization required", None))
        if self.faults.strikes("lookup_error"):
            return _errors(500, ("internal server error", None))
        asked = json.loads(body)
        query, limit = _QUERY.fullmatch(asked.get("query", "")), asked.get("limit", 10)
        if query is None or not 1 <= limit <= 1000:
            return _errors(400, ("invalid query", "query"))
        sql = (
            "SELECT m.id, recipient, body FROM categories c JOIN requests r ON r.id = c.request"
            " JOIN messages m ON m.request = r.id WHERE category = ? AND visible <= ?"
            " ORDER BY seq DESC LIMIT ?"
        )
        with self._lock:
            rows = self._db.execute(
                sql, (query[1], time.time(), min(limit, self.log_shows))
            ).fetchall()
        return JSONResponse({"messages": [_logged(*row) for row in rows]})

    async def _faults(self, request: Request) -> Response:
        if request.method == "PUT":
            self.faults.change(await request.json())
        return JSONResponse(self.faults.describe())


def as_read(document: dict[str, Any], personalization: dict[str, Any]) -> dict[str, Any]:
    """A message as its recipient reads it: substituted, with the headers of the personalization.

    Fields of a personalization override the message's, headers as a whole; tags are replaced
    wherever they stand, in what was put in as well, four times over.
    """
    tags = personalization.get("substitutions", {})

    def put_in(text: str) -> str:
        for _ in range(4 if tags else 0):
            for tag, value in tags.items():
                text = text.replace(tag, value)
        return text

    contents = {part["type"]: put_in(part["value"]) for part in document["content"]}
    return {
        "to": personalization["to"][0],
        "from": document["from"],
        "reply_to": document.get("reply_to", {}).get("email", ""),
        "subject": put_in(document["subject"]),
        "html": contents.get("text/html", ""),
        "text": contents.get("text/plain", ""),
        "headers": personalization.get("headers", document.get("headers", {})),
        "custom_args": personalization.get("custom_args", document.get("custom_args", {})),
        "categories": document.get("categories", []),
        "attachments": document.get("attachments", []),
        "tracking_settings": document.get("tracking_settings", {}),
        "mail_settings": document.get("mail_settings", {}),
    }


# --- what is refused ------------------------------------------------------------------------------


def _refusals(document: Any) -> Iterator[tuple[str, str | None]]:
    """(message, field) of everything that is wrong."""
    if not isinstance(document, dict):
        yield "Bad Request", None
        return
    for name in sorted(document.keys() - _FIELDS):
        yield f"Additional property {name} is not allowed", name
    sender = document.get("from") or {}
    if not _ADDRESS.fullmatch(str(sender.get("email", ""))):
        yield "The from object must be provided for every email send.", "from.email"
    elif sender["email"].startswith("unverified"):
        yield "The from address does not match a verified Sender Identity.", "from"
    if not document.get("subject"):
        yield "The subject is required.", "subject"
    yield from _wrong_content(document.get("content"))
    yield from _wrong_headers(document.get("headers", {}), "headers")
    categories = document.get("categories", [])
    if len(categories) > 10 or len(set(categories)) != len(categories):
        yield "You can only have 10 different categories.", "categories"
    if any(not category or len(category) > 255 for category in categories):
        yield "A category is up to 255 characters.", "categories"
    people = document.get("personalizations")
    if not isinstance(people, list) or not people:
        yield "You must have at least one personalization.", "personalizations"
        return
    if len(people) > MAX_PEOPLE:
        yield f"The personalization block is limited to {MAX_PEOPLE}.", "personalizations"
    for number, person in enumerate(people):
        yield from _wrong_person(person, f"personalizations.{number}")
    addresses = Counter(str(person["to"][0].get("email")).lower() for person in people)
    for address, count in addresses.items():
        if count > 1:
            yield (
                "Each unique email address in the personalizations array should only be included"
                f" once. You have included [{address}] more than once.",
                "personalizations",
            )


def _wrong_content(content: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(content, list) or not content:
        yield "The content parameter is required.", "content"
        return
    order = ["text/plain", "text/html"]
    kinds = [part["type"] for part in content]
    if kinds != [kind for kind in order if kind in kinds]:
        yield "text/plain goes first, then text/html.", "content"
    for number, part in enumerate(content):
        if not isinstance(part.get("value"), str) or not part["value"]:
            yield (
                "The content value must be a string of one character at least.",
                (f"content.{number}.value"),
            )


def _wrong_person(person: Any, place: str) -> Iterator[tuple[str, str]]:
    unknown = person.keys() - {"to", "headers", "substitutions", "custom_args", "subject"}
    if unknown:
        yield f"Additional property {min(unknown)} is not allowed", place
    if len(person["to"]) != 1:
        yield "This server takes one address a personalization.", f"{place}.to"
    address = str(person["to"][0].get("email"))
    if not _ADDRESS.fullmatch(address) or address.startswith("refused"):
        yield "Does not contain a valid address.", f"{place}.to.0.email"
    name = person["to"][0].get("name", "x")
    if not isinstance(name, str) or not name or ";" in name or "," in name:
        yield "The name can include neither ; nor ,", f"{place}.to.0.name"
    yield from _wrong_headers(person.get("headers", {}), f"{place}.headers")
    for field_name in ("substitutions", "custom_args"):
        texts = person.get(field_name, {})
        if not all(isinstance(value, str) for value in texts.values()):
            yield "Only strings.", f"{place}.{field_name}"
        elif sum(len((k + v).encode()) for k, v in texts.items()) > MAX_SUBSTITUTIONS:
            yield f"More than {MAX_SUBSTITUTIONS} bytes.", f"{place}.{field_name}"


def _wrong_headers(headers: dict[str, Any], place: str) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        if name.lower() in _RESERVED:
            yield f"You may not overwrite {name}.", place
        if not isinstance(value, str) or not value.isascii() or "\n" in value:
            yield f"The header {name} is not encoded.", place


def _errors(status: int, *errors: tuple[str, str | None]) -> JSONResponse:
    listed = [{"message": message, "field": name, "help": None} for message, name in errors]
    return JSONResponse({"errors": listed}, status)


def _logged(message_id: str, recipient: str, body: str) -> dict[str, str]:
    document = json.loads(body)
    return {
        "from_email": document["from"]["email"],
        "sg_message_id": message_id,
        "subject": document["subject"],
        "to_email": recipient,
        "status": "processed",
        "sg_message_id_created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _event(
    recipient: str, message_id: str, personalization: str, categories: list[str]
) -> dict[str, Any]:
    """What became of a message: delivered, or bounced for the addresses that say so."""
    bounced = {"event": "bounce", "type": "bounce", "reason": "550 no such user", "status": "5.1.1"}
    fate = bounced if recipient.startswith("bounce") else {"event": "delivered"}
    return {
        "email": recipient,
        "timestamp": int(time.time()),
        "sg_message_id": message_id,
        "sg_event_id": hashlib.sha256(message_id.encode()).hexdigest()[:22],
        "category": categories,
        **fate,
        **json.loads(personalization).get("custom_args", {}),
    }


def main() -> None:
    """Serve until SIGTERM; the address is printed first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--db", default=":memory:")
    parser.add_argument("--key", default="local-key")
    parser.add_argument("--lag", type=float, default=0.0)
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    server = SendgridServer(
        key=given.key,
        lag=given.lag,
        db=given.db,
        port=given.port,
        faults=Faults(dict(map(parse_fault, given.fault)), given.seed),
    )
    print(server.url, flush=True)
    server.run()


if __name__ == "__main__":
    main()
