"""The editors' webhook: one POST of JSON `{cause, subject, text, at}`.

The address is the operator's own setting, so it may be a private one. A receiver can get the same
cause twice and tells them apart by it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import Row

from newsletter.clock import isoformat
from newsletter.outbox.queue import WEBHOOK
from newsletter.providers.transport import Response, Transport

_TIMEOUT = timedelta(seconds=15)


async def post(transport: Transport, url: str, row: Row[Any]) -> str | None:
    """None if it was taken (any 2xx), else what went wrong."""
    body = {
        "cause": row.cause.removesuffix(WEBHOOK),
        "subject": row.subject,
        "text": row.text,
        "at": isoformat(row.created_at),
    }
    result = await transport.request(
        "POST",
        url,
        headers={"Content-Type": "application/json"},
        body=orjson.dumps(body),
        timeout=_TIMEOUT,
    )
    if not isinstance(result, Response):
        return result.reason
    return None if 200 <= result.status < 300 else f"the webhook answered {result.status}"
