"""A real site: uvicorn on a free port, a real database, and providers that only record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select

from newsletter import audience
from newsletter.compiled import CompiledIssue, CompiledMessage
from newsletter.providers import open_provider, provider_named
from newsletter.store import Store, open_store
from newsletter.store.schema import frozen_issues, links, outbox, sends, subscribers
from newsletter.tokens import recipient_token
from newsletter.web import address_of, create_app, listen, serve_app
from newsletter.workspace import Workspace


@dataclass
class Running:
    """A running site and what a test wants of it."""

    workspace: Workspace
    store: Store
    clock: Any
    client: httpx.Client
    flushed: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        return str(self.client.base_url).rstrip("/")

    def person(self, email: str = "rosa@example.com", **values: Any) -> int:
        """An active subscriber's id."""
        with self.store.begin() as connection:
            made = audience.subscribe(
                connection,
                self.workspace.key,
                self.clock.now(),
                email=email,
                consent_text="yes",
                **values,
            )
            assert made.subscriber_id is not None
            audience.confirm(connection, made.subscriber_id, self.clock.now())
            return made.subscriber_id

    def token(self, subscriber: int, send: int = 0) -> str:
        return recipient_token(self.workspace.key, send, subscriber)

    def row(self, subscriber: int) -> Any:
        with self.store.read() as connection:
            return connection.execute(
                select(subscribers).where(subscribers.c.id == subscriber)
            ).one()

    def outbox(self) -> list[Any]:
        with self.store.read() as connection:
            return list(connection.execute(select(outbox).order_by(outbox.c.id)))

    def issue(self, slug: str, *, state: str = "sent", title: str = "", **values: Any) -> int:
        """A frozen issue with a send in `state`; the send's id."""
        compiled = compiled_issue(slug, title or slug)
        with self.store.begin() as connection:
            connection.execute(
                insert(frozen_issues).values(
                    sha256=compiled.sha256,
                    issue=slug,
                    compiled=compiled.to_bytes(),
                    source_sha256="0" * 64,
                    created_at=self.clock.now(),
                )
            )
            return connection.execute(
                insert(sends)
                .values(
                    **{
                        "send": f"{slug}.1",
                        "issue": slug,
                        "frozen": compiled.sha256,
                        "segment": "all",
                        "provider": "main",
                        "state": state,
                        "at": self.clock.now(),
                        "created_at": self.clock.now(),
                        **values,
                    }
                )
                .returning(sends.c.id)
            ).scalar_one()

    def link(self, link: str, url: str, issue: str = "one") -> None:
        with self.store.begin() as connection:
            connection.execute(insert(links).values(link=link, issue=issue, position=1, url=url))


def compiled_issue(slug: str, title: str) -> CompiledIssue:
    return CompiledIssue(
        issue=slug,
        language="en",
        title=title,
        summary="What is in it & why",
        sender_name="Glow",
        sender_email="hello@glow.example",
        reply_to="",
        list_id="",
        audience="all",
        segments=(),
        variants={"": CompiledMessage((), (title,), ("<p>x</p>",), ("x",), ())},
        web=f"<!doctype html><html lang='en'><title>t</title><h1>{slug} web</h1></html>",
        assets=(),
        links=(),
        sources=(),
    )


@pytest.fixture
def make_site(
    make_workspace: Callable[..., Workspace], clock: Any
) -> Iterator[Callable[..., Running]]:
    """Start a site; `extra` is added to its settings, `url` is its database's."""
    endings: list[Callable[[], None]] = []

    def make(extra: str = "", url: str | None = None) -> Running:
        workspace = make_workspace(extra, name=f"site{len(endings)}")
        store = open_store(url or workspace.settings.database.url, workspace.root)
        running, end = _start(workspace, store, clock)
        endings.append(end)
        return running

    yield make
    for end in endings:
        end()


@pytest.fixture
def live(make_site: Callable[..., Running]) -> Running:
    return make_site()


def _start(workspace: Workspace, store: Store, clock: Any) -> tuple[Running, Callable[[], None]]:
    flushed: list[int] = []

    def provider(name: str) -> Any:
        return open_provider(workspace, provider_named(workspace, name), clock)

    async def flush() -> None:
        flushed.append(1)

    app = create_app(workspace, store, clock, provider=provider, flush=flush)
    listener = listen("127.0.0.1", 0)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    address = address_of(listener)

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve_app(app, listener, stop))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    client = httpx.Client(base_url=address, trust_env=False, timeout=20)

    def end() -> None:
        client.close()
        loop.call_soon_threadsafe(stop.set)
        thread.join(15)
        store.close()

    return Running(workspace, store, clock, client, flushed), end
