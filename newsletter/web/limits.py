"""Limits on what a visitor can make the site do: the size of a body, the number of sign-ups.

Nothing here knows what a request is for, beyond the path that decides its size limit.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from datetime import datetime, timedelta

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 1_000_000
MAX_WEBHOOK_BODY = 5_000_000


class BodyLimit:
    """Refuses a body that is too large when a page reads it: by its announced length or its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = MAX_WEBHOOK_BODY if scope["path"].startswith("/webhooks/") else MAX_BODY
        announced, read = _announced(scope), 0

        async def limited() -> Message:
            nonlocal read
            if announced > limit:
                raise HTTPException(413)
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise HTTPException(413)
            return message

        await self.app(scope, limited, send)


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


class SlidingWindow:
    """At most `limit` events a key within `span`; remembers `capacity` keys, the latest ones."""

    def __init__(
        self, limit: int = 10, span: timedelta = timedelta(minutes=10), capacity: int = 10_000
    ) -> None:
        self.limit, self.span, self.capacity = limit, span, capacity
        self._seen: OrderedDict[str, deque[datetime]] = OrderedDict()

    def allow(self, key: str, now: datetime) -> bool:
        """Whether one more event of `key` is within the limit; if so, it counts."""
        times = self._seen.setdefault(key, deque())
        self._seen.move_to_end(key)
        while len(self._seen) > self.capacity:
            self._seen.popitem(last=False)
        while times and times[0] <= now - self.span:
            times.popleft()
        if len(times) >= self.limit:
            return False
        times.append(now)
        return True


def visitor(address: str) -> str:
    """The key of a visitor's IP address: an IPv6 customer has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
