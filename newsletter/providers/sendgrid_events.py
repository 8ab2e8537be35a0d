"""SendGrid's event webhook: its signature, and an array of events of many messages.

Written from https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event and
…/getting-started-event-webhook-security-features. Nothing is parsed before it is verified.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import orjson

from newsletter.errors import BadInput, Unreachable
from newsletter.providers.base import Event, EventType, VerificationError, WebhookRequest
from newsletter.providers.machines import is_machine
from newsletter.providers.sendgrid_body import ARGUMENT
from newsletter.providers.webhooks import text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

_SIGNATURE = "x-twilio-email-event-webhook-signature"
_TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
# Its pages name no window. A repeat changes nothing here, and a webhook that waited is still true.
_TOLERANCE = timedelta(minutes=30)

_KINDS = {
    "processed": EventType.ACCEPTED,
    "deferred": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "bounce": EventType.BOUNCED,
    "dropped": EventType.REJECTED,
    "spamreport": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "group_unsubscribe": EventType.UNSUBSCRIBED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
}

# SendGrid's own fields of an event; any other text among them is a custom argument.
_OWN = frozenset(
    {
        "asm_group_id",
        "attempt",
        "bounce_classification",
        "category",
        "cert_err",
        "email",
        "event",
        "ip",
        "marketing_campaign_id",
        "marketing_campaign_name",
        "marketing_campaign_split_id",
        "marketing_campaign_version",
        "pool",
        "reason",
        "response",
        "send_at",
        "sg_content_type",
        "sg_event_id",
        "sg_machine_open",
        "sg_message_id",
        "sg_template_id",
        "sg_template_name",
        "singlesend_id",
        "singlesend_name",
        "smtp-id",
        "status",
        "template_hash",
        "template_id",
        "template_version_id",
        "timestamp",
        "tls",
        "type",
        "url",
        "url_offset",
        "useragent",
    }
)

# "XBg2anf2TqCy6WXKQFhieQ.filter0905p1mdw1-4434-59E0C6FF-3.0": the request's id (which in old ones
# has dots itself), then the server and the recipient.
_MESSAGE_ID = re.compile(r"(.+?)\.(?:filter|recvd).*")


def request_id(sg_message_id: str) -> str:
    """The request's id, the answer's `X-Message-Id`, with which a message's id begins."""
    match = _MESSAGE_ID.fullmatch(sg_message_id)
    return match[1] if match else sg_message_id.partition(".")[0]


# --- verification -------------------------------------------------------------------------------


def verify(request: WebhookRequest, keys: Sequence[str], now: datetime) -> None:
    """Check the ECDSA signature over the timestamp and the raw body. `keys` are the public keys as
    SendGrid shows them, base64 of DER; several are valid while one is changed.

    Raises `VerificationError`, and `Unreachable` where the package that checks it is missing.
    """
    if not keys:
        raise VerificationError(
            "no webhook secret is set, so no webhook can be believed",
            hint="Set webhook_secret to the verification key that SendGrid shows.",
        )
    timestamp = request.headers.get(_TIMESTAMP, "")
    signature = _decoded(request.headers.get(_SIGNATURE, ""))
    signed = timestamp.encode() + request.body
    if not any(_is_signed(key, signature, signed) for key in _public_keys(keys)):
        raise VerificationError("the webhook is not signed by SendGrid's key")
    if not timestamp.isdecimal() or len(timestamp) > 11:
        raise VerificationError("the webhook's timestamp is no Unix time")
    age = now - datetime.fromtimestamp(int(timestamp), UTC)
    if abs(age) > _TOLERANCE:
        raise VerificationError(f"the webhook was signed at another time: {age} ago by our clock")


def _public_keys(keys: Sequence[str]) -> list[EllipticCurvePublicKey]:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_der_public_key
    except ImportError as error:
        raise Unreachable(
            "webhooks of SendGrid cannot be verified without the package cryptography",
            hint="Install it: pip install 'newsletter-pipeline[sendgrid]'.",
        ) from error
    usable: list[EllipticCurvePublicKey] = []
    for key in keys:
        with suppress(ValueError, UnsupportedAlgorithm):
            public = load_der_public_key(_decoded(key))
            if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp256r1":
                usable.append(public)
    if not usable:
        raise VerificationError(
            "webhook_secret is no public key of SendGrid's",
            hint="Copy the verification key from Mail Settings, Event Webhooks, Security features.",
        )
    return usable


def _is_signed(key: EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        key.verify(signature, signed, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _decoded(encoded: str) -> bytes:
    """Base64 with or without the lines that PEM puts around it; nothing where it is none."""
    lines = [line for line in encoded.splitlines() if not line.startswith("-----")]
    try:
        return base64.b64decode("".join(lines).strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


# --- events ---------------------------------------------------------------------------------------


def parse_events(body: bytes) -> list[Event]:
    """The events of one webhook, without those that say nothing about a message's fate.

    Raises `BadInput` naming what cannot be read.
    """
    try:
        documents = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the webhook is not JSON: {error}") from error
    if not isinstance(documents, list) or not all(isinstance(d, dict) for d in documents):
        raise BadInput("the webhook is not a JSON array of events")
    known = [(n, d) for n, d in enumerate(documents) if d.get("event") in _KINDS]
    return [_event(document, number) for number, document in known]


def _event(document: Mapping[str, Any], number: int) -> Event:
    kind = _KINDS[document["event"]]
    agent = text(document, "useragent")
    return Event(
        type=kind,
        recipient=text(document, "email"),
        provider_message_id=request_id(text(document, "sg_message_id")),
        at=_moment(document, number),
        provider_event_id=text(document, "sg_event_id"),
        bounce=_bounce(document) if kind is EventType.BOUNCED else "",
        reason=text(document, "reason"),
        response=text(document, "response") or text(document, "status"),
        url=text(document, "url"),
        user_agent=agent,
        machine=document.get("sg_machine_open") is True or (bool(agent) and is_machine(agent)),
        metadata=_arguments(document),
        tags=_categories(document),
    )


def _arguments(document: Mapping[str, Any]) -> dict[str, str]:
    """The message's custom arguments: those that we gave, by our names, and others'."""
    texts = {name: value for name, value in document.items() if isinstance(value, str)}
    others = {name: value for name, value in texts.items() if name not in _OWN}
    ours = {n.removeprefix(ARGUMENT): v for n, v in others.items() if n.startswith(ARGUMENT)}
    return {n: v for n, v in others.items() if not n.startswith(ARGUMENT)} | ours


def _bounce(document: Mapping[str, Any]) -> Literal["hard", "soft"]:
    """A block is the server's refusal of this message; SendGrid goes on writing to the address."""
    return "hard" if text(document, "type") in {"bounce", ""} else "soft"


def _categories(document: Mapping[str, Any]) -> tuple[str, ...]:
    value = document.get("category")
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),) if value else ()


def _moment(document: Mapping[str, Any], number: int) -> datetime:
    value = document.get("timestamp")
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return datetime.fromtimestamp(float(value), UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise BadInput(f"{number}.timestamp: no Unix time: {value!r}")
