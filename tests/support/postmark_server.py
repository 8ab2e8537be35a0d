"""A faithful Postmark server for tests: `/email/batch`, `/email/batchWithTemplates` with the
templates, and `/messages/outbound`, over real HTTP.

It enforces 500 messages and 50 MB, the token, the streams and each message's fields with Postmark's
error codes; it searches the stream `outbound` unless told another, as Postmark does, and shows a
message only after its lag. It keeps what it accepted in SQLite, so it can be killed, and fails on
purpose by the mailbox's fault switches. In a process: `python -m support.postmark_server --port 0`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import re
import socket
import sqlite3
import threading
import time
import urllib.request
import uuid
from dataclasses import dataclass, field
from email.utils import parseaddr
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from newsletter.mailbox.faults import Faults, parse_fault
from newsletter.mailbox.serving import DroppableProtocol, drop_connection
from support.postmark_templates import Templates

MAX_BYTES = 50 * 1024 * 1024
MAX_MESSAGES = 500
_ADDRESS = re.compile(r"[a-z0-9.!#$%&'`*+\-/=^_{}|~]+@([a-z0-9-]+\.)+[a-z0-9-]+", re.IGNORECASE)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY, id TEXT UNIQUE, recipient TEXT, stream TEXT, tag TEXT,
    metadata TEXT, subject TEXT, sender TEXT, visible REAL, content TEXT);
CREATE INDEX IF NOT EXISTS messages_search ON messages (stream, seq);
"""


@dataclass
class PostmarkServer:
    """The server. `with PostmarkServer() as server:` runs it in a thread; see `url`."""

    token: str = "server-token"
    streams: tuple[str, ...] = ("outbound", "broadcast")
    lag: float = 0.0
    db: Path | str = ":memory:"
    faults: Faults = field(default_factory=Faults)
    webhook_url: str = ""
    webhook_secret: str = ""
    inactive: frozenset[str] = frozenset()
    port: int = 0
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._db = sqlite3.connect(self.db, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(_SCHEMA)
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.templates = Templates(self.token)
        self.app = Starlette(
            routes=[
                *self.templates.routes(),
                Route("/email/batch", self._batch, methods=["POST"]),
                Route("/email/batchWithTemplates", self._batch, methods=["POST"]),
                Route("/messages/outbound", self._search, methods=["GET"]),
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

    def __enter__(self) -> PostmarkServer:
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def run(self) -> None:
        self._server.run(sockets=[self._listening])

    def delivered(self) -> list[str]:
        """The recipients of all accepted messages, one entry a message."""
        with self._lock:
            rows = self._db.execute("SELECT recipient FROM messages ORDER BY seq").fetchall()
        return [row[0] for row in rows]

    def messages(self) -> list[dict[str, Any]]:
        """All accepted messages as they came in."""
        with self._lock:
            rows = self._db.execute("SELECT content FROM messages ORDER BY seq").fetchall()
        return [json.loads(row[0]) for row in rows]

    # --- sending ------------------------------------------------------------------------------

    async def _batch(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append(str(request.url))
        if request.headers.get("x-postmark-server-token") != self.token:
            return _error(401, 10, "No Account or Server API tokens were supplied.")
        if len(body) > MAX_BYTES:
            return _error(413, 0, "The request exceeds the size limit of 50 MB.")
        if fault := self.faults.strikes("latency"):
            await asyncio.sleep(fault.seconds)
        if fault := self.faults.strikes("rate_limit"):
            answer = _error(429, 429, "Rate limit exceeded.")
            answer.headers["Retry-After"] = str(round(fault.seconds))
            return answer
        if self.faults.strikes("error_before"):
            return _error(500, 0, "Internal server error")
        if self.faults.strikes("drop_before"):
            return await drop_connection(request)
        try:
            messages = json.loads(body)
        except ValueError:
            return _error(422, 402, "Received invalid JSON input.")
        if request.url.path.endswith("Templates"):
            messages = messages.get("Messages") if isinstance(messages, dict) else None
        if not isinstance(messages, list):
            return _error(422, 403, "Incompatible JSON: an array is needed.")
        if len(messages) > MAX_MESSAGES:
            return _error(422, 410, f"Too many batch messages: {MAX_MESSAGES} at most.")
        if request.url.path.endswith("Templates"):
            messages = [self.templates.whole(message) for message in messages]
        items = await asyncio.to_thread(self._accept, messages)
        return await self._deliver(request, items)

    async def _deliver(self, request: Request, items: list[dict[str, Any]]) -> Response:
        if self.faults.strikes("drop_after"):
            return await drop_connection(request)
        if self.faults.strikes("error_after"):
            return _error(500, 0, "Internal server error")
        if self.faults.strikes("html"):
            return Response("<!doctype html><h1>It works!</h1>", 200)
        if fault := self.faults.strikes("slow"):
            data, pause = json.dumps(items).encode(), fault.seconds

            async def slowly() -> Any:
                for position in range(len(data)):
                    yield data[position : position + 1]
                    await asyncio.sleep(pause)

            return StreamingResponse(slowly(), media_type="application/json")
        return JSONResponse(items)

    def _accept(self, messages: list[Any]) -> list[dict[str, Any]]:
        items, rows = [], []
        for message in messages:
            refusal = self._refusal(message)
            if refusal is None and self.faults.strikes("refuse"):
                refusal = (_INACTIVE, "You tried to send to a recipient marked as inactive.")
            if refusal is not None:
                items.append({"ErrorCode": refusal[0], "Message": refusal[1]})
                continue
            message_id = str(uuid.uuid4())
            items.append(
                {
                    "To": message["To"],
                    "SubmittedAt": time.strftime("%Y-%m-%dT%H:%M:%S.0000000Z", time.gmtime()),
                    "MessageID": message_id,
                    "ErrorCode": 0,
                    "Message": "OK",
                }
            )
            rows.append(self._row(message_id, message))
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT INTO messages (id, recipient, stream, tag, metadata, subject, sender,"
                " visible, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._db.execute("COMMIT")
        for row in rows if self.webhook_url else ():
            threading.Thread(target=self._post_event, args=(row,), daemon=True).start()
        return items

    def _row(self, message_id: str, message: dict[str, Any]) -> tuple[Any, ...]:
        return (
            message_id,
            parseaddr(message["To"])[1],
            message.get("MessageStream", "outbound"),
            message.get("Tag", ""),
            json.dumps(message.get("Metadata", {})),
            message.get("Subject", ""),
            message["From"],
            time.time() + self.lag,
            json.dumps(message),
        )

    def _refusal(self, message: Any) -> tuple[int, str] | None:
        if isinstance(message, tuple):  # its template does not make a message of it
            return message
        if not isinstance(message, dict):
            return 403, "Incompatible JSON."
        for name in ("From", "To"):
            address = parseaddr(str(message.get(name, "")))[1]
            if not _ADDRESS.fullmatch(address):
                return 300, f"Error parsing '{name}': Illegal email address '{address}'."
        if not message.get("HtmlBody") and not message.get("TextBody"):
            return 300, "Provide either email TextBody or HtmlBody or both."
        if message.get("MessageStream", "outbound") not in self.streams:
            return 1235, "The 'MessageStream' provided does not exist on this server."
        if message.get("TrackLinks", "None") not in {"None", "HtmlAndText", "HtmlOnly", "TextOnly"}:
            return 300, "Invalid 'TrackLinks'."
        metadata = message.get("Metadata", {})
        if len(metadata) > 10 or any(len(k) > 20 or len(v) > 80 for k, v in metadata.items()):
            return 300, "Invalid metadata: 10 fields, names of 20, values of 80 characters."
        if any(set(header) != {"Name", "Value"} for header in message.get("Headers", [])):
            return 300, "Invalid 'Headers'."
        for header in message.get("Headers", []):
            if header["Name"].lower() in _NOT_ALLOWED:
                return 300, f"Header '{header['Name']}' not allowed."
        recipient = parseaddr(message["To"])[1].lower()
        if recipient in self.inactive or recipient.startswith("inactive"):
            return _INACTIVE, (
                "You tried to send to a recipient that has been marked as inactive. Found inactive"
                f" addresses: {recipient}."
            )
        return None

    # --- look-up ------------------------------------------------------------------------------

    async def _search(self, request: Request) -> Response:
        self.requests.append(str(request.url))
        if request.headers.get("x-postmark-server-token") != self.token:
            return _error(401, 10, "No Account or Server API tokens were supplied.")
        if self.faults.strikes("lookup_error"):
            return _error(500, 0, "Internal server error")
        query = request.query_params
        try:
            count, offset = int(query["count"]), int(query["offset"])
        except (KeyError, ValueError):
            return _error(422, 600, "'count' and 'offset' are needed.")
        if not 0 < count <= 500 or offset < 0 or count + offset > 10_000:
            return _error(422, 600, "'count' is up to 500, 'count' + 'offset' up to 10,000.")
        wanted = {k[9:]: v for k, v in query.items() if k.startswith("metadata_")}
        if len(wanted) > 1:
            return _error(422, 600, "One metadata field can be searched by.")
        where = ["stream = ?", "visible <= ?"]
        values: list[Any] = [query.get("messagestream", "outbound"), time.time()]
        for name, column in (("tag", "tag"), ("recipient", "recipient"), ("fromemail", "sender")):
            if query.get(name):
                where.append(f"{column} = ?")
                values.append(query[name])
        for name, value in wanted.items():
            where.append("json_extract(metadata, ?) = ?")
            values += [f'$."{name}"', value]
        condition = " AND ".join(where)
        with self._lock:
            total = self._db.execute(
                f"SELECT count(*) FROM messages WHERE {condition}", values
            ).fetchone()[0]
            rows = self._db.execute(
                "SELECT id, recipient, stream, tag, metadata, subject, sender FROM messages"
                f" WHERE {condition} ORDER BY seq DESC LIMIT ? OFFSET ?",
                [*values, count, offset],
            ).fetchall()
        return JSONResponse({"TotalCount": total, "Messages": [_found(*row) for row in rows]})

    async def _faults(self, request: Request) -> Response:
        if request.method == "PUT":
            self.faults.change(await request.json())
        return JSONResponse(self.faults.describe())

    # --- webhooks -----------------------------------------------------------------------------

    def _post_event(self, row: tuple[Any, ...]) -> None:
        message_id, recipient, stream, tag, metadata = row[:5]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        event: dict[str, Any] = {
            "MessageID": message_id,
            "MessageStream": stream,
            "ServerID": 23,
            "Tag": tag,
            "Metadata": json.loads(metadata),
        }
        if recipient.startswith("bounce"):
            event |= {"RecordType": "Bounce", "ID": 42, "Type": "HardBounce", "TypeCode": 1}
            event |= {"Email": recipient, "BouncedAt": now, "Inactive": True}
        else:
            event |= {"RecordType": "Delivery", "Recipient": recipient, "DeliveredAt": now}
            event |= {"Details": "250 2.0.0 OK"}
        repeats = 2 if self.faults.strikes("webhook_repeated") else 1
        for _ in range(0 if self.faults.strikes("webhook_lost") else repeats):
            secret = base64.b64encode(self.webhook_secret.encode()).decode()
            request = urllib.request.Request(
                self.webhook_url,
                json.dumps(event).encode(),
                {"Content-Type": "application/json", "Authorization": f"Basic {secret}"},
            )
            urllib.request.urlopen(request, timeout=10).close()


_INACTIVE = 406
# Fields of a message have no other way in; `Date` is Postmark's own.
_NOT_ALLOWED = frozenset({"bcc", "cc", "date", "from", "reply-to", "subject", "to"})


def _found(
    message_id: str,
    recipient: str,
    stream: str,
    tag: str,
    metadata: str,
    subject: str,
    sender: str,
) -> dict[str, Any]:
    return {
        "MessageID": message_id,
        "To": [{"Email": recipient, "Name": None}],
        "Recipients": [recipient],
        "MessageStream": stream,
        "Tag": tag,
        "Metadata": json.loads(metadata),
        "Subject": subject,
        "From": sender,
        "Status": "Sent",
    }


def _error(status: int, code: int, message: str) -> JSONResponse:
    return JSONResponse({"ErrorCode": code, "Message": message}, status)


def main() -> None:
    """Serve until SIGTERM; the address is printed first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--db", default=":memory:")
    parser.add_argument("--token", default="server-token")
    parser.add_argument("--lag", type=float, default=0.0)
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    server = PostmarkServer(
        token=given.token,
        lag=given.lag,
        db=given.db,
        port=given.port,
        faults=Faults(dict(map(parse_fault, given.fault)), given.seed),
    )
    print(server.url, flush=True)
    server.run()


if __name__ == "__main__":
    main()
