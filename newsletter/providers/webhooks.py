"""What webhooks of several providers share: secrets compared in constant time, fields read.

It knows no provider. Whatever comes in is untrusted until `verify_authorization` has passed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from newsletter.errors import BadInput
from newsletter.providers.base import VerificationError, WebhookRequest


def verify_authorization(request: WebhookRequest, secrets: Sequence[str]) -> None:
    """Basic auth for a secret `user:password`, a bearer token for any other.

    Several secrets are several valid ones, while they are rotated. Raises `VerificationError`.
    """
    if not secrets:
        raise VerificationError(
            "no webhook secret is set, so no webhook can be believed",
            hint="Set webhook_secret of the provider, and the same at the provider.",
        )
    given = _credentials(request.headers.get("authorization", ""))
    matches = [hmac.compare_digest(given, _expected(secret)) for secret in secrets]
    if not any(matches):
        raise VerificationError("the webhook does not carry the right credentials")


def _expected(secret: str) -> bytes:
    scheme = b"basic " if ":" in secret else b"bearer "
    return scheme + secret.encode()


def _credentials(header: str) -> bytes:
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "basic":
        try:
            return b"basic " + base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return b""
    return b"bearer " + value.encode() if scheme.lower() == "bearer" else b""


def json_object(body: bytes, what: str) -> dict[str, Any]:
    """The body as a JSON object; raises `BadInput` naming `what` it should have been."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"{what} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadInput(f"{what} is not a JSON object")
    return document


def text(document: Mapping[str, Any], name: str) -> str:
    """A field as text; empty where it is absent, null or no text."""
    value = document.get(name)
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def text_map(document: Mapping[str, Any], name: str) -> dict[str, str]:
    """A field that maps names to text; empty where it is no such map."""
    value = document.get(name)
    return {k: str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def moment(document: Mapping[str, Any], name: str) -> datetime:
    """A field as a time, UTC where it names no offset. Raises `BadInput` naming the field."""
    value = document.get(name)
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        parsed = None
    if parsed is None:
        raise BadInput(f"{name}: no ISO 8601 time: {value!r}")
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
