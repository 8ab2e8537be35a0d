"""Signed tokens for links in mail and on pages. A token made for one purpose opens no other.

A recipient's links share one short token (purpose, send, subscriber: 9 bytes, and 16 bytes of
HMAC-SHA-256), because it is the only part of a message's addresses that differs between people.
Tokens for forms and confirmation carry their time and expire.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from itsdangerous import BadData, SignatureExpired, TimestampSigner, URLSafeTimedSerializer

from newsletter.errors import NewsletterError

_MAC_BYTES = 16
_RECIPIENT = struct.Struct(">BII")
_LINK = struct.Struct(">B8s")
_INNER = bytes(byte ^ 0x36 for byte in range(256))  # RFC 2104, ipad and opad
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_RECIPIENT_PURPOSE = 1
_LINK_PURPOSE = 2


class BadToken(NewsletterError):
    """The token is not ours, or is for another purpose: 404 on the web."""


class ExpiredToken(NewsletterError):
    """The token was ours but its time is over: 410 on the web."""


@dataclass(frozen=True, slots=True)
class RecipientToken:
    """Who a link in a message belongs to; `send` is 0 where no send is behind it."""

    send: int
    subscriber: int


def recipient_token(key: bytes, send: int, subscriber: int) -> str:
    """The token shared by all links of one recipient: 34 URL-safe characters, deterministic."""
    return _seal(key, _RECIPIENT.pack(_RECIPIENT_PURPOSE, send, subscriber))


def recipient_tokens(key: bytes, send: int, subscribers: Sequence[int]) -> list[str]:
    """`recipient_token` for each of many subscribers, at a third of the cost.

    The keyed states of HMAC (RFC 2104) are made once; a token's 25 bytes, filled up to 27, are 36
    characters of base64 whose last two are the filling's, so that one call encodes them all.
    """
    keyed = (key if len(key) <= 64 else hashlib.sha256(key).digest()).ljust(64, b"\0")
    inner = hashlib.sha256(keyed.translate(_INNER))
    outer = hashlib.sha256(keyed.translate(_OUTER))
    sealed: list[bytes] = []
    for subscriber in subscribers:
        payload = _RECIPIENT.pack(_RECIPIENT_PURPOSE, send, subscriber)
        first = inner.copy()
        first.update(payload)
        second = outer.copy()
        second.update(first.digest())
        sealed.append(payload + second.digest()[:_MAC_BYTES] + b"\0\0")
    text = base64.urlsafe_b64encode(b"".join(sealed)).decode("ascii")
    return [text[start : start + 34] for start in range(0, len(text), 36)]


def read_recipient_token(key: bytes, token: str) -> RecipientToken:
    """Raises `BadToken`."""
    purpose, send, subscriber = _RECIPIENT.unpack(_open(key, token))
    if purpose != _RECIPIENT_PURPOSE:
        raise BadToken("this link is for something else")
    return RecipientToken(send, subscriber)


def link_token(key: bytes, link: bytes) -> str:
    """The token of one tracked link, the same for everybody; `link` is its 8-byte id."""
    return _seal(key, _LINK.pack(_LINK_PURPOSE, link))


def read_link_token(key: bytes, token: str) -> bytes:
    """The 8-byte id of the link. Raises `BadToken`."""
    purpose, link = _LINK.unpack(_open(key, token))
    if purpose != _LINK_PURPOSE:
        raise BadToken("this link is for something else")
    return bytes(link)


def _seal(key: bytes, payload: bytes) -> str:
    mac = hmac.digest(key, payload, "sha256")[:_MAC_BYTES]
    return base64.urlsafe_b64encode(payload + mac).decode("ascii").rstrip("=")


def _open(key: bytes, token: str) -> bytes:
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadToken("this link is not valid") from error
    payload, mac = sealed[:-_MAC_BYTES], sealed[-_MAC_BYTES:]
    expected = hmac.digest(key, payload, "sha256")[:_MAC_BYTES]
    if len(payload) != _RECIPIENT.size or not hmac.compare_digest(mac, expected):
        raise BadToken("this link is not valid")
    if _seal(key, payload) != token:  # another spelling of the same bytes (base64's spare bits)
        raise BadToken("this link is not valid")
    return payload


def timed_token(key: bytes, purpose: str, data: Any, now: datetime) -> str:
    """A token that carries JSON `data` and the time it was made."""
    return _timed(key, purpose, now).dumps(data)


def read_timed_token(
    key: bytes, purpose: str, token: str, now: datetime, max_age: timedelta
) -> Any:
    """The data of a token made by `timed_token`. Raises `BadToken` or `ExpiredToken`."""
    try:
        return _timed(key, purpose, now).loads(token, max_age=int(max_age.total_seconds()))
    except SignatureExpired as error:
        raise ExpiredToken("this link has expired") from error
    except BadData as error:
        raise BadToken("this link is not valid") from error


def _timed(key: bytes, purpose: str, now: datetime) -> URLSafeTimedSerializer:
    class ClockedSigner(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(now.timestamp())

    return URLSafeTimedSerializer(
        key,
        salt=f"newsletter:{purpose}",
        signer=ClockedSigner,
        signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
    )
