"""Whole sends through SendGrid's API by the real engine, with faults on and workers killed.

What counts is the server's own record: exactly one message for everybody who should get one. A
failed test's id holds its seed and repeats it.
"""

from __future__ import annotations

import asyncio
import html
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from newsletter.clock import SystemClock
from newsletter.delivery import DeliveryRuntime, export_rows, run_due, verify
from newsletter.events import ingest
from newsletter.providers import open_provider, provider_named
from newsletter.providers.base import Provider, WebhookRequest
from newsletter.store import Store
from newsletter.store.schema import subscribers
from newsletter.web.trial import send_test
from newsletter.workspace import Workspace
from support.api_process import ApiProcess
from support.crashing import QUICK
from support.killing import kill_and_restart
from support.ledger import add_people, make_compiled, schedule_send
from support.sendgrid_server import SendgridServer
from support.site import SETTINGS

Make = Callable[..., Workspace]

PEOPLE = 3000
BATCH = 150  # smaller than SendGrid takes: more requests to fail
FAILING = {
    "drop_before": 0.08,
    "drop_after": 0.08,
    "error_before": 0.04,
    "error_after": 0.04,
    "html": 0.04,
    "lookup_error": 0.1,
    "rate_limit": {"probability": 0.08, "seconds": 0},
}
NAMES = ['O"Brien\\', "Zoë 🏳️‍🌈", "{{ 7*7 }}", "-name-", "a,b;c", "<b>&amp;</b>", "%s %d", "Ada"]


def settings_for(url: str, lag: str = "400ms", secret: str = "local-hook") -> str:
    changed = SETTINGS.replace("http://127.0.0.1:8025", url).replace('"mailbox"', '"sendgrid"')
    hook = f'webhook_secret = "{secret}"\nlookup_lag = "{lag}"\ntimeout = "5s"\n'
    return changed.replace('webhook_secret = "local-hook"\n', hook)


@pytest.fixture
def server() -> Iterator[SendgridServer]:
    with SendgridServer(lag=0.1) as running:
        yield running


def run(workspace: Workspace, store: Store, seed: int = 1, batch: int = BATCH) -> Provider:
    """Run the engine until it is idle. Returns its provider."""
    clock = SystemClock()
    provider = open_provider(workspace, provider_named(workspace), clock)
    provider.capabilities = replace(provider.capabilities, batch_size=batch)
    runtime = DeliveryRuntime(
        workspace, store, clock, lambda _: provider, rng=random.Random(seed), policy=QUICK
    )

    async def go() -> None:
        await run_due(runtime)
        await provider.close()

    asyncio.run(go())
    return provider


def name_everybody(store: Store, names: dict[str, str]) -> None:
    with store.begin() as connection:
        for email, name in names.items():
            statement = update(subscribers).where(subscribers.c.email == email)
            connection.execute(statement.values(first_name=name))


@pytest.mark.slow
def test_everybody_has_it_once_as_it_was_written_whatever_fails(
    make_workspace: Make, store: Store, server: SendgridServer
) -> None:
    workspace = make_workspace(settings=settings_for(server.url, secret=server.public_key))
    add_people(store, PEOPLE)
    add_people(store, 2, local="refused")
    add_people(store, 3, local="bounce")
    names = {f"reader{n * 7}@example.com": NAMES[n % len(NAMES)] for n in range(1, 200)}
    name_everybody(store, names)
    compiled = make_compiled()
    schedule_send(store, compiled, at=datetime.now(UTC))
    server.faults.change({**FAILING, "seed": 11})
    provider = run(workspace, store)

    rows = list(export_rows(store, "milia.1"))
    states = Counter(row["state"] for row in rows)
    assert states == {"accepted": PEOPLE + 3, "rejected": 2}
    assert verify(store, "milia.1")["violations"] == []
    got = server.received("example.com")
    assert got == Counter(row["email"] for row in rows if row["state"] == "accepted")
    sends = [url for url in server.requests if url.endswith("/v3/mail/send")]
    assert len(sends) > (PEOPLE + 5) / BATCH  # some were refused or lost
    for message in server.messages():
        name = names.get(message["to"]["email"])
        if name is not None:
            shown = html.escape(name)
            assert message["text"].startswith(f"Hello {shown}\n")
            assert message["html"].startswith(f"<p>Hello {shown}</p>")

    events = [event for event in server.events() if event["event"] == "bounce"]
    events += server.events()[:40]
    body = json.dumps(events).encode()
    now = datetime.now(UTC)
    request = WebhookRequest("POST", server.sign(body, int(now.timestamp())), body)
    ingest(store, workspace, "main", provider.events(request, now=now), now)
    states = Counter(row["state"] for row in export_rows(store, "milia.1"))
    assert states["bounced"] == 3
    assert states["delivered"] in range(37, 41)
    assert verify(store, "milia.1")["violations"] == []


def test_whoever_has_too_large_values_is_left_out_alone(
    make_workspace: Make, store: Store, server: SendgridServer
) -> None:
    workspace = make_workspace(settings=settings_for(server.url))
    add_people(store, 20)
    name_everybody(store, {"reader7@example.com": "é" * 4100})
    schedule_send(store, at=datetime.now(UTC))
    run(workspace, store, batch=1000)
    rows = list(export_rows(store, "milia.1"))
    (left_out,) = [row for row in rows if row["state"] != "accepted"]
    assert (left_out["email"], left_out["state"]) == ("reader7@example.com", "rejected")
    assert "bytes" in left_out["reason"]
    assert len(server.delivered()) == 19


def test_a_log_that_shows_one_of_a_request_speaks_for_all_of_it(
    make_workspace: Make, store: Store, server: SendgridServer
) -> None:
    workspace = make_workspace(settings=settings_for(server.url))
    add_people(store, 20)
    schedule_send(store, at=datetime.now(UTC))
    server.log_shows = 1
    server.faults.change({"drop_after": {"times": 1}})
    run(workspace, store)
    assert {row["state"] for row in export_rows(store, "milia.1")} == {"accepted"}
    assert set(server.received("example.com").values()) == {1}
    assert len(server.delivered()) == 20
    assert verify(store, "milia.1")["violations"] == []


def test_a_sandbox_holds_the_send_and_nobody_counts_as_written_to(
    make_workspace: Make, store: Store, server: SendgridServer
) -> None:
    workspace = make_workspace(settings=settings_for(server.url))
    add_people(store, 20)
    schedule_send(store, at=datetime.now(UTC))
    server.sandbox = True
    run(workspace, store)
    assert {row["state"] for row in export_rows(store, "milia.1")} == {"pending"}


def test_a_test_goes_to_several_editors_one_request_each(
    make_workspace: Make, sqlite_store: Store, server: SendgridServer
) -> None:
    workspace = make_workspace(settings=settings_for(server.url))
    folder = workspace.issues / "one"
    folder.mkdir()
    text = '---\nsubject: "One"\npreheader: "A small one"\n---\nHello {{ subscriber.email }}.\n'
    (folder / "issue.md").write_text(text, encoding="utf-8")
    emails = ["editor@glow.example", "second@glow.example"]
    clock = SystemClock()
    provider = open_provider(workspace, provider_named(workspace), clock)

    async def go() -> dict[str, Any]:
        told = await send_test(
            workspace, sqlite_store, clock, provider, "one", emails, nonce="4711"
        )
        await provider.close()
        return told

    assert asyncio.run(go()) == {"issue": "one", "accepted": emails, "rejected": []}
    assert [message["to"]["email"] for message in server.messages()] == emails
    for email, message in zip(emails, server.messages(), strict=True):
        assert f"Hello {email}" in message["text"]
    assert {message["subject"] for message in server.messages()} == {"[Test] One"}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    running = ApiProcess("sendgrid_server", tmp_path_factory.mktemp("sendgrid"), "--lag", "0.3")
    yield running
    running.end()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1))
def test_killed_anywhere_everybody_has_it_once(
    seed: int, make_workspace: Make, database_url: str, process: ApiProcess, tmp_path: Path
) -> None:
    kill_and_restart(
        seed if database_url.startswith("sqlite") else 1000 + seed,
        make_workspace(settings=settings_for(process.url, "1500ms")),
        database_url,
        process,
        tmp_path / "workers.log",
        faults={**FAILING, "drop_before": 0.05, "drop_after": 0.05, "html": 0.02},
        refused={7: "refused-1", 1234: "refused-2"},
        sometimes_without_keys=False,
        batch_size=500,
    )
