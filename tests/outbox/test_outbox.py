"""Mail that is no issue: queued once a cause, and never sent on a guess."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import select, update

from newsletter.outbox import enqueue, flush, next_due, notify_editors
from newsletter.outbox.sending import MOST_TRIES, wait_after
from newsletter.providers.base import Capabilities, Deferred, Denied, Outcome, Prepared, Unknown
from newsletter.settings import ProviderSettings
from newsletter.store import Store
from newsletter.store.schema import outbox
from newsletter.workspace import Workspace
from support.ledger import RecordingProvider, lost_after, lost_before
from support.site import FakeClock

CAPABILITIES = Capabilities(
    batch_size=500,
    max_bytes=1_000_000,
    idempotency=timedelta(hours=1),
    lookup=True,
    lookup_lag=timedelta(minutes=2),
)


def make_provider(clock: FakeClock, **capabilities: Any) -> RecordingProvider:
    return RecordingProvider(
        settings=ProviderSettings(name="main", kind="mailbox"),
        capabilities=replace(CAPABILITIES, **capabilities),
        clock=clock,
    )


def queue(store: Store, clock: FakeClock, cause: str = "one", **changes: str) -> bool:
    values = {
        "kind": "notice",
        "to": "editor@glow.example",
        "subject": "Look",
        "html": "<p>Look</p>",
        "text": "Look",
        **changes,
    }
    with store.begin() as connection:
        return enqueue(connection, cause=cause, now=clock.now(), **values)  # type: ignore[arg-type]


def send(workspace: Workspace, store: Store, clock: FakeClock, provider: RecordingProvider) -> int:
    return asyncio.run(flush(workspace, store, clock, lambda _name: provider))


def rows(store: Store) -> list[Any]:
    with store.read() as connection:
        return list(connection.execute(select(outbox).order_by(outbox.c.id)))


def states(store: Store) -> list[str]:
    return [row.state for row in rows(store)]


def test_a_cause_is_sent_once_however_often_it_is_queued(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    provider = make_provider(clock)
    assert queue(store, clock)
    assert not queue(store, clock)
    assert send(workspace, store, clock, provider) == 1
    assert not queue(store, clock), "also not after it left"
    assert send(workspace, store, clock, provider) == 0
    assert provider.received == {"editor@glow.example": 1}


def test_nothing_is_queued_when_what_it_tells_of_did_not_happen(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    def half_done() -> None:
        with store.begin() as connection:
            notify_editors(connection, workspace, clock.now(), cause="x", subject="S", text="T")
            raise RuntimeError("rolled back")

    with pytest.raises(RuntimeError):
        half_done()
    assert rows(store) == []


def test_a_lost_answer_is_settled_by_a_repeat_under_its_key(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    provider = make_provider(clock)
    provider.faults = [lost_after, lost_before]
    queue(store, clock)
    for _ in range(3):
        send(workspace, store, clock, provider)
        clock.advance(minutes=1)
    assert states(store) == ["accepted"]
    assert provider.received == {"editor@glow.example": 1}
    assert len({request.key for request in provider.requests}) == 1
    assert len({request.body for request in provider.requests}) == 1


@pytest.mark.parametrize(("fault", "requests"), [(lost_after, 1), (lost_before, 2)])
def test_without_keys_a_lookup_settles_it_once_its_lag_is_over(
    workspace: Workspace, store: Store, clock: FakeClock, fault: Any, requests: int
) -> None:
    provider = make_provider(clock, idempotency=None)
    provider.faults = [fault]
    queue(store, clock)
    send(workspace, store, clock, provider)
    assert states(store) == ["in_doubt"]
    clock.advance(seconds=30)
    send(workspace, store, clock, provider)
    assert states(store) == ["in_doubt"], "an empty look-up proves nothing before the lag"
    for _ in range(12):
        clock.advance(minutes=1)
        send(workspace, store, clock, provider)
    assert states(store) == ["accepted"]
    assert provider.received == {"editor@glow.example": 1}
    assert len(provider.requests) == requests


def test_a_doubt_that_nothing_can_settle_is_not_sent_again(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    provider = make_provider(clock, idempotency=None, lookup=False)
    provider.faults = [lost_after]
    queue(store, clock)
    for _ in range(20):
        send(workspace, store, clock, provider)
        clock.advance(minutes=30)
    assert states(store) == ["failed"]
    assert provider.received == {"editor@glow.example": 1}


def test_a_refusal_of_the_repeat_does_not_decide_the_first_request(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    provider = make_provider(clock)
    provider.faults = [lost_after, lambda _p, _r: Denied("unauthorised")]
    queue(store, clock)
    for _ in range(4):
        send(workspace, store, clock, provider)
        clock.advance(minutes=1)
    assert states(store) == ["accepted"]


def test_a_process_that_vanished_during_its_request_leaves_a_doubt(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    class Killed(BaseException):
        pass

    def die(provider: RecordingProvider, prepared: Prepared) -> Outcome:
        provider.accept(prepared)
        raise Killed

    provider = make_provider(clock)
    provider.faults = [die]
    queue(store, clock)
    with pytest.raises(Killed):
        send(workspace, store, clock, provider)
    assert states(store) == ["sending"]
    with store.read() as connection:
        assert next_due(connection, workspace) == clock.now() + timedelta(minutes=2)
    clock.advance(seconds=60)
    send(workspace, store, clock, provider)
    assert states(store) == ["sending"], "it might still be under way"
    clock.advance(minutes=10)
    send(workspace, store, clock, provider)
    assert states(store) == ["accepted"]
    assert provider.received == {"editor@glow.example": 1}


def test_what_was_surely_not_accepted_is_tried_again_later_and_in_the_end_given_up(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    provider = make_provider(clock)
    later = Deferred("throttled", timedelta(minutes=7))
    provider.faults = [lambda _p, _r: later]
    queue(store, clock)
    send(workspace, store, clock, provider)
    with store.read() as connection:
        assert next_due(connection, workspace) == clock.now() + timedelta(minutes=7)
    assert send(workspace, store, clock, provider) == 0
    clock.advance(minutes=8)
    assert send(workspace, store, clock, provider) == 1

    provider.faults = [lambda _p, _r: later] * 100
    queue(store, clock, "two")
    for _ in range(MOST_TRIES + 5):
        send(workspace, store, clock, provider)
        clock.advance(hours=2)
    assert states(store) == ["accepted", "failed"]
    assert wait_after(1) < wait_after(2) < wait_after(9)


def test_a_refused_message_fails_with_its_reason_and_is_not_repeated(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    provider = make_provider(clock)
    provider.refuse = {"editor@glow.example"}
    queue(store, clock)
    queue(store, clock, "two", to="other@glow.example")
    send(workspace, store, clock, provider)
    assert states(store) == ["failed", "accepted"]
    assert rows(store)[0].reason == "the recipient is inactive"


def test_wrong_credentials_lose_no_message(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    provider = make_provider(clock)
    provider.faults = [lambda _p, _r: Denied("unauthorised")] * 3
    queue(store, clock)
    for _ in range(4):
        send(workspace, store, clock, provider)
        clock.advance(hours=1)
    assert states(store) == ["accepted"]


def test_a_provider_in_trouble_is_not_asked_for_every_message(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    provider = make_provider(clock)
    provider.faults = [lambda _p, _r: Unknown("a time-out")] * 10
    for number in range(10):
        queue(store, clock, str(number))
    send(workspace, store, clock, provider)
    assert len(provider.requests) == 1


def test_two_processes_send_a_row_once(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    provider = make_provider(clock)
    for number in range(20):
        queue(store, clock, str(number), to=f"e{number}@glow.example")

    async def both() -> None:
        flushes = [flush(workspace, store, clock, lambda _name: provider) for _ in range(3)]
        await asyncio.gather(*flushes)

    asyncio.run(both())
    assert set(provider.received.values()) == {1}
    assert len(provider.received) == 20


def test_the_link_of_a_confirmation_is_forgotten_once_it_left(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    queue(store, clock, kind="confirmation", html="<a href=secret>", text="secret")
    send(workspace, store, clock, make_provider(clock))
    assert (rows(store)[0].html, rows(store)[0].text) == ("", "")


# --- editors --------------------------------------------------------------------------------------


def test_every_editor_gets_the_notice_with_the_issue_beneath_it(
    make_workspace: Callable[..., Workspace], sqlite_store: Store, clock: FakeClock
) -> None:
    from support.site import SETTINGS

    settings = SETTINGS.replace('["editor@glow.example"]', '["a@glow.example", "b@glow.example"]')
    workspace = make_workspace(settings=settings)
    with sqlite_store.begin() as connection:
        told = [
            notify_editors(
                connection,
                workspace,
                clock.now(),
                cause="held",
                subject="A send is held",
                text="See **why** <b>now</b>",
                issue_html="<html><head></head><body class=x><p>The issue</p></body></html>",
            )
            for _ in range(2)
        ]
    assert told == [True, False]
    found = rows(sqlite_store)
    assert [row.to_email for row in found] == ["a@glow.example", "b@glow.example"]
    html = found[0].html
    assert html.index("why") < html.index("The issue")
    assert html.lower().count("<body") == 1
    assert "<b>now" not in html
    assert "why" in found[0].text


def test_a_faulty_template_of_the_workspace_keeps_no_notice_back(
    workspace: Workspace, store: Store, clock: FakeClock
) -> None:
    (workspace.templates / "_notice.mjml.j2").write_text("{% if %}", encoding="utf-8")
    with store.begin() as connection:
        notify_editors(connection, workspace, clock.now(), cause="x", subject="S", text="a < *b*")
    (row,) = rows(store)
    assert row.text == "a < *b*"
    assert "a &lt; *b*" in row.html


def test_without_editors_a_cause_is_logged_once(
    make_workspace: Callable[..., Workspace],
    sqlite_store: Store,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from support.site import SETTINGS

    workspace = make_workspace(settings=SETTINGS.replace('["editor@glow.example"]', "[]"))
    for _ in range(3):
        with sqlite_store.begin() as connection:
            notify_editors(connection, workspace, clock.now(), cause="c", subject="Odd", text="T")
    assert [record.message for record in caplog.records] == ["Odd (c)"]
    provider = make_provider(clock)
    assert send(workspace, sqlite_store, clock, provider) == 0


class Receiver:
    def __init__(self) -> None:
        self.answers: list[int] = []
        self.bodies: list[dict[str, Any]] = []


@contextmanager
def receiving() -> Iterator[tuple[str, Receiver]]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            receiver.bodies.append(json.loads(self.rfile.read(length)))
            self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", receiver
    finally:
        server.shutdown()
        server.server_close()


def test_the_webhook_is_posted_even_when_the_provider_fails_and_is_tried_again(
    make_workspace: Callable[..., Workspace], sqlite_store: Store, clock: FakeClock
) -> None:
    from support.site import SETTINGS

    with receiving() as (url, receiver):
        settings = SETTINGS.replace("[editors]", f'[editors]\nwebhook = "{url}"')
        workspace = make_workspace(settings=settings)
        provider = make_provider(clock)
        provider.faults = [lambda _p, _r: Denied("unauthorised")]
        with sqlite_store.begin() as connection:
            notify_editors(
                connection, workspace, clock.now(), cause="held:1", subject="Held", text="Why"
            )
        receiver.answers = [500]
        send(workspace, sqlite_store, clock, provider)
        assert states(sqlite_store) == ["pending", "pending"]
        provider.faults = [lambda _p, _r: Denied("unauthorised")]
        clock.advance(minutes=1)
        send(workspace, sqlite_store, clock, provider)
        assert states(sqlite_store) == ["pending", "accepted"]
    assert receiver.bodies == 2 * [
        {"cause": "held:1", "subject": "Held", "text": "Why", "at": "2026-11-24T09:00:00Z"}
    ]


def test_a_webhook_whose_process_vanished_is_posted_again(
    make_workspace: Callable[..., Workspace], sqlite_store: Store, clock: FakeClock
) -> None:
    from support.site import SETTINGS

    with receiving() as (url, receiver):
        settings = SETTINGS.replace("[editors]", f'[editors]\nwebhook = "{url}"')
        workspace = make_workspace(settings=settings)
        with sqlite_store.begin() as connection:
            notify_editors(connection, workspace, clock.now(), cause="c", subject="S", text="T")
            hook = outbox.c.kind == "webhook"
            values = {"state": "sending", "attempted_at": clock.now(), "attempts": 1}
            connection.execute(update(outbox).where(hook).values(values))
        clock.advance(minutes=10)
        send(workspace, sqlite_store, clock, make_provider(clock))
    assert len(receiver.bodies) == 1
    assert states(sqlite_store) == ["accepted", "accepted"]
