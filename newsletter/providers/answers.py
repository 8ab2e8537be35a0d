"""What every HTTP API's answers have in common: statuses, Retry-After, JSON that may be none.

It reads answers and knows neither a provider nor the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from newsletter.providers.base import Deferred, Denied, Unknown
from newsletter.providers.transport import InDoubt, NeverLeft, Response, Result

# Refused at the door, whatever stands in the body (a proxy's HTML, for instance).
_REFUSED = frozenset({401, 403, 413})


def json_body(response: Response) -> Any:
    """The answer's JSON, or None where there is none."""
    try:
        return orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return None


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """`Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3); None if absent or odd."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal() and len(value) < 9:
        return timedelta(seconds=int(value))
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta(0))


def failure(
    result: Result, *, message_field: str, key_field: str, now: datetime
) -> Deferred | Denied | Unknown | None:
    """What a request without a usable answer led to; None when its status is 200 to 299.

    `message_field` is where the API's JSON says what is wrong, `key_field` names the setting that
    holds the credentials. A 4xx is a certain refusal only if the API itself said so, and a 5xx
    tells nothing about acceptance.
    """
    if isinstance(result, NeverLeft):
        return Deferred(result.reason)
    if isinstance(result, InDoubt):
        return Unknown(result.reason)
    status = result.status
    if 200 <= status < 300:
        return None
    document = json_body(result)
    told = document.get(message_field) if isinstance(document, dict) else None
    message = told if isinstance(told, str) else ""
    if status == 429:
        return Deferred(message or "throttled (429)", retry_after(result.headers, now))
    if status in {401, 403}:
        return Denied(f"the credentials are refused ({status}): see {key_field}. {message}".strip())
    if status in _REFUSED or (400 <= status < 500 and status != 408 and message):
        return Denied(f"the request is refused ({status}): {message or 'too large'}")
    return Unknown(f"an answer that tells nothing about acceptance: {status} {message}".strip())
