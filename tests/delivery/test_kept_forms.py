"""A form left at the provider while a send lasts, over a server that keeps Postmark's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from newsletter.compiled import CompiledIssue
from newsletter.providers.postmark import PostmarkProvider
from newsletter.providers.transport import HttpxTransport
from newsletter.settings import ProviderSettings
from newsletter.store import Store
from newsletter.store.schema import kept_forms, sends
from support.ledger import World, everybody, make_compiled, make_world, schedule_send
from support.postmark_server import PostmarkServer

PEOPLE = 30


def large(size: int = 50_000) -> CompiledIssue:
    """The small issue with so much more text."""
    compiled = make_compiled()
    message = compiled.variants[""]
    more = "{{{v0}}} {{x}} @media{.a{b:c}} " + "x" * size
    return replace(compiled, variants={"": replace(message, html=(more, *message.html))})


@pytest.fixture
def server() -> Iterator[PostmarkServer]:
    with PostmarkServer() as running:
        yield running


@pytest.fixture
def world(
    workspace: Any, sqlite_store: Store, clock: Any, server: PostmarkServer
) -> Callable[..., World]:
    def opened(_name: str, **settings: Any) -> PostmarkProvider:
        return PostmarkProvider(
            ProviderSettings(name="main", kind="postmark", base_url=server.url, **settings),
            api_key="server-token",
            webhook_secrets=[],
            clock=clock,
            transport=HttpxTransport(),
        )

    def make(
        compiled: CompiledIssue | None = None, *, store: Store = sqlite_store, **settings: Any
    ) -> World:
        here = make_world(workspace, store, clock, people=PEOPLE, schedule=False)
        schedule_send(store, compiled or large())
        here.run = partial(here.run, open_provider=partial(opened, **settings))  # type: ignore[method-assign]
        return here

    return make


def rows(store: Store) -> list[tuple[str, str]]:
    with store.read() as connection:
        query = select(kept_forms.c.state, kept_forms.c.reason)
        return [tuple(row) for row in connection.execute(query)]


def used(server: PostmarkServer) -> set[str]:
    return {url.rpartition("/email/")[2] for url in server.requests if "/email/" in url}


def test_a_large_send_leaves_its_form_at_the_provider_and_removes_it(
    world: Any, server: PostmarkServer, store: Store
) -> None:
    here = world(store=store)
    assert here.run().sent == ["milia.1"]
    assert sorted(server.delivered()) == sorted(everybody(PEOPLE))
    assert used(server) == {"batchWithTemplates"}
    assert server.templates.made == 1
    assert server.templates.kept == {}
    assert rows(here.store) == []
    assert here.verify() == []
    first = server.messages()[0]
    assert first["HtmlBody"].startswith("{{{v0}}} {{x}} @media{.a{b:c}} xxx")
    assert "Hello Ada" in first["HtmlBody"]


def test_a_small_send_goes_as_whole_messages(world: Any, server: PostmarkServer) -> None:
    world(make_compiled()).run()
    assert used(server) == {"batch"}
    assert server.templates.requests == []


def test_settings_can_forbid_it(world: Any, server: PostmarkServer) -> None:
    world(templates="never").run()
    assert used(server) == {"batch"}
    assert server.templates.requests == []


@pytest.mark.parametrize("failing", [[404], [500], ["drop"]])
def test_a_form_that_cannot_be_kept_costs_no_send(
    world: Any, server: PostmarkServer, failing: list[int | str]
) -> None:
    here = world()
    server.templates.failing = failing
    assert here.run().sent == ["milia.1"]
    assert sorted(server.delivered()) == sorted(everybody(PEOPLE))
    here.clock.advance(minutes=6)  # what was perhaps made is removed when it is tried again
    here.run()
    assert server.templates.kept == {}
    assert rows(here.store) == []


def test_a_server_that_is_full_gets_whole_messages(world: Any, server: PostmarkServer) -> None:
    here = world()
    server.templates.limit = 0
    assert here.run().sent == ["milia.1"]
    assert used(server) == {"batch"}
    assert sorted(server.delivered()) == sorted(everybody(PEOPLE))


def test_a_template_that_somebody_removes_does_not_stop_the_send(
    world: Any, server: PostmarkServer
) -> None:
    here = world()
    accept = server.templates.whole

    def removed(message: Any) -> Any:
        server.templates.kept.clear()
        return accept(message)

    server.templates.whole = removed  # type: ignore[method-assign]
    assert here.run().sent == ["milia.1"]
    assert used(server) == {"batchWithTemplates", "batch"}
    assert sorted(server.delivered()) == sorted(everybody(PEOPLE))
    assert here.verify() == []


def test_what_a_crash_left_behind_is_removed_once_its_send_is_over(
    world: Any, server: PostmarkServer
) -> None:
    here = world()
    with here.store.begin() as connection:
        connection.execute(update(sends).values(state="held"))
        row = {"provider": "main", "name": "a" * 32, "send_id": 1, "state": "asked"}
        connection.execute(insert(kept_forms), [row, {**row, "name": "b" * 32, "state": "kept"}])
    server.templates.kept[f"newsletter-{'a' * 32}"] = {}
    here.run()
    assert server.templates.requests == []  # it may be resumed
    with here.store.begin() as connection:
        connection.execute(update(sends).values(state="cancelled"))
    server.templates.failing = [500]
    here.run()
    assert len(rows(here.store)) == 1
    here.run()
    assert len(server.templates.requests) == 2  # not at once again
    here.clock.advance(minutes=6)
    here.run()
    assert server.templates.kept == {}
    assert rows(here.store) == []


def test_a_form_that_is_made_after_it_was_removed_is_removed_again(
    world: Any, server: PostmarkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world()
    keep = PostmarkProvider.keep

    async def too_late(self: PostmarkProvider, form: Any) -> Any:
        with here.store.begin() as connection:
            connection.execute(update(sends).values(state="cancelled"))
            connection.execute(delete(kept_forms))
        return await keep(self, form)

    monkeypatch.setattr(PostmarkProvider, "keep", too_late)
    here.run()
    here.clock.advance(minutes=6)
    here.run()
    assert server.templates.made == 1
    assert server.templates.kept == {}
    assert rows(here.store) == []
