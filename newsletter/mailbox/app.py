"""Puts the mailbox together: storage, events to be posted, the API and the web inbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette

from newsletter.clock import Clock
from newsletter.mailbox import api, inbox
from newsletter.mailbox.api import Mailbox, MailboxOptions
from newsletter.mailbox.outgoing import EventPoster
from newsletter.mailbox.storage import MailboxStorage


def create_app(options: MailboxOptions, clock: Clock) -> Starlette:
    """The mailbox as an ASGI app. Raises `Unreachable` if its storage cannot be opened."""
    storage = MailboxStorage(options.storage)
    poster = EventPoster(storage, options.webhook_url, options.webhook_secret, options.faults)
    mailbox = Mailbox(options, storage, poster, clock)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        posting = asyncio.create_task(poster.run()) if options.webhook_url else None
        yield
        if posting is not None:
            posting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await posting
        storage.close()

    return Starlette(routes=[*api.routes(mailbox), *inbox.routes(mailbox)], lifespan=lifespan)
