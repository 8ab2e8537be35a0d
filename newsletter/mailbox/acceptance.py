"""What happens to a batch: which messages are taken, which refused, and what becomes of them.

Pure: it decides from the request alone. Local parts stand for fates, so that a test or a demo can
have a bounce or a complaint by writing to an address.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from newsletter.mailbox.storage import Kept

BATCH_SIZE = 500

_ADDRESS = re.compile(r"[^\s@<>,;:\"\\]+@[^\s@<>,;:\"\\]+\.[^\s@<>,;:\"\\.]+")
_TAIL = r"(?:[-+._\d].*)?"
_HARD = re.compile(r"(?:hard-?)?bounced?" + _TAIL)
_SOFT = re.compile(r"soft-?bounced?" + _TAIL)
_COMPLAINT = re.compile(r"(?:complain|complaint|complains|spam)" + _TAIL)
_INACTIVE = re.compile(r"inactive" + _TAIL)
_REFUSED = re.compile(r"(?:refuse|refused|reject|rejected)" + _TAIL)
_TEXTS = ("to", "from", "subject", "html", "text")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A batch worked out: the answer, the messages to keep and the events to post."""

    answer: bytes
    messages: list[Kept]
    events: list[bytes]


class NotABatch(Exception):
    """The request is no batch at all; `status` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_batch(body: bytes) -> list[Any]:
    """The messages of a request's body. Raises `NotABatch`."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotABatch(400, f"the body is not JSON: {error}") from error
    messages = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(messages, list) or not messages:
        raise NotABatch(422, "messages: a list of at least one message is needed")
    if len(messages) > BATCH_SIZE:
        raise NotABatch(413, f"messages: {len(messages)} of them, {BATCH_SIZE} at most")
    return messages


def accept(
    key: str, messages: list[Any], now: datetime, refuse: Callable[[], bool] = lambda: False
) -> Accepted:
    """Decide on each message, in order. `refuse` may refuse one that would have been taken."""
    results: list[dict[str, str]] = []
    kept: list[Kept] = []
    events: list[bytes] = []
    for message in messages:
        to = message.get("to") if isinstance(message, dict) else None
        echoed = to if isinstance(to, str) else ""
        refusal = _refusal(message)
        if refusal is None and refuse():
            refusal = ("refused", "refused by a fault switch")
        if refusal is not None:
            results.append({"to": echoed, "error": refusal[1], "code": refusal[0]})
            continue
        taken, event = _take(message, now)
        results.append({"to": echoed, "id": taken.id})
        kept.append(taken)
        events.append(event)
    return Accepted(orjson.dumps({"batch": key, "results": results}), kept, events)


def event_of(message: dict[str, Any], kind: str, now: datetime, **more: Any) -> bytes:
    """The JSON of one event about a kept message; `message` has `id`, `to` and `metadata`."""
    return orjson.dumps(
        {
            "id": uuid.uuid4().hex,
            "type": kind,
            "message": message["id"],
            "recipient": message["to"],
            "at": now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "metadata": message["metadata"],
            **more,
        }
    )


def _take(message: dict[str, Any], now: datetime) -> tuple[Kept, bytes]:
    message_id = uuid.uuid4().hex
    local = message["to"].partition("@")[0].lower()
    metadata = message.get("metadata") or {}
    known = {"id": message_id, "to": message["to"], "metadata": metadata}
    if _HARD.fullmatch(local):
        state, response = "bounced", "550 5.1.1 The mailbox does not exist"
        event = event_of(
            known, "bounced", now, bounce="hard", reason="unknown user", response=response
        )
    elif _SOFT.fullmatch(local):
        state, response = "bounced", "452 4.2.2 The mailbox is full"
        event = event_of(
            known, "bounced", now, bounce="soft", reason="mailbox full", response=response
        )
    elif _COMPLAINT.fullmatch(local):
        state = "complained"
        event = event_of(known, "complained", now, reason="marked as spam")
    else:
        state = "delivered"
        event = event_of(known, "delivered", now, response="250 2.0.0 OK")
    kept = Kept(
        id=message_id,
        recipient=message["to"],
        sender=message["from"],
        subject=message["subject"],
        metadata=orjson.dumps(metadata).decode(),
        state=state,
        content=orjson.dumps(message),
    )
    return kept, event


def _refusal(message: Any) -> tuple[str, str] | None:
    """(code, reason) for a message that is not taken."""
    if not isinstance(message, dict):
        return "invalid", "the message is not an object"
    for name in _TEXTS:
        value = message.get(name, "" if name in {"html", "text"} else None)
        if not isinstance(value, str):
            return "invalid", f"{name}: text is needed"
        if name not in {"html", "text"} and ("\r" in value or "\n" in value):
            return "invalid", f"{name}: must be one line"
    if not message.get("html") and not message.get("text"):
        return "invalid", "html, text: one of them is needed"
    for name in ("headers", "metadata"):
        value = message.get(name) or {}
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            return "invalid", f"{name}: an object of texts is needed"
        if any("\r" in text or "\n" in text for pair in value.items() for text in pair):
            return "invalid", f"{name}: must be one line each"
    if not _ADDRESS.fullmatch(message["to"]):
        return "invalid", f"to: no email address: {message['to']!r}"
    local = message["to"].partition("@")[0].lower()
    if _INACTIVE.fullmatch(local):
        return "inactive", "the recipient is inactive: earlier mail bounced or was complained about"
    if _REFUSED.fullmatch(local):
        return "refused", "the recipient is refused"
    return None
