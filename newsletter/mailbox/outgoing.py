"""Requests that the mailbox makes itself: events for the newsletter, one-click unsubscribes.

It speaks plain HTTP with the standard library, in threads, and shares nothing with the providers'
transport: the mailbox is a program of its own.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from time import time
from urllib.parse import urlsplit

from newsletter.mailbox.faults import Faults
from newsletter.mailbox.storage import MailboxStorage

_log = logging.getLogger(__name__)

_SECONDS = 15.0
_EVENTS_A_POST = 100
_LONGEST_WAIT = 30.0
_TRIES = 2_000  # most of a day, with the longest wait between them


def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """POST and return the status. Raises `OSError` when there is no answer. Blocking."""
    parts = urlsplit(url)
    connection_class = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection = connection_class(parts.hostname or "", parts.port, timeout=_SECONDS)
        try:
            connection.request("POST", target, body, dict(headers))
            return connection.getresponse().status
        finally:
            connection.close()
    except (HTTPException, ValueError) as error:
        raise OSError(f"no HTTP answer: {error}") from error


def authorization(secret: str) -> str:
    """Basic auth for a secret `user:password`, a bearer token for any other."""
    if ":" in secret:
        return "Basic " + base64.b64encode(secret.encode()).decode()
    return f"Bearer {secret}"


class EventPoster:
    """Posts the events that are due, in batches, until each is taken or given up."""

    def __init__(self, storage: MailboxStorage, url: str, secret: str, faults: Faults) -> None:
        self._storage = storage
        self._url = url
        self._secret = secret
        self._faults = faults
        self._news = asyncio.Event()

    def wake(self) -> None:
        """There is something new to post."""
        self._news.set()

    async def run(self) -> None:
        """Post for ever. Events outlive the process: what was not taken is posted by the next."""
        failures = 0
        while True:
            self._news.clear()
            taken = await asyncio.to_thread(self._post_due)
            if taken is False:
                failures += 1
                await asyncio.sleep(min(0.25 * 2.0**failures, _LONGEST_WAIT))
                continue
            failures = 0
            if taken is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.2)

    def _post_due(self) -> bool | None:
        """Post what is due; None when nothing is, false when it was not taken. Blocking."""
        due = self._storage.due_events(time(), _EVENTS_A_POST)
        if not due:
            return None
        bodies: list[bytes] = []
        for _, event, tries in due:
            if tries == 0 and self._faults.strikes("webhook_lost"):
                continue
            bodies.append(event)
            if tries == 0 and self._faults.strikes("webhook_repeated"):
                bodies.append(event)
        numbers = [number for number, _, _ in due]
        if not bodies or self._taken(bodies):
            self._storage.forget_events(numbers)
            return True
        if max(tries for _, _, tries in due) >= _TRIES:
            _log.warning("%d events given up after %d tries", len(numbers), _TRIES)
            self._storage.forget_events(numbers)
        else:
            self._storage.postpone_events(numbers, time())
        return False

    def _taken(self, bodies: list[bytes]) -> bool:
        headers = {"Content-Type": "application/json", "User-Agent": "newsletter-mailbox"}
        if self._secret:
            headers["Authorization"] = authorization(self._secret)
        try:
            status = post(self._url, headers, b'{"events":[' + b",".join(bodies) + b"]}")
        except OSError as error:
            _log.info("the webhook is out of reach: %s", error)
            return False
        if not 200 <= status < 300:
            _log.info("the webhook answered %d", status)
        return 200 <= status < 300
