"""The mailbox's API in a process of its own: keys, look-ups, refusals, faults, events, endings."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from newsletter.mailbox.faults import Fault, Faults, parse_fault
from support.mailboxes import ROOT, TOKEN, RunningMailbox, running_mailbox


def message(to: str = "ada@readers.example", **changes: Any) -> dict[str, Any]:
    return {
        "to": to,
        "from": "Glow Letter <hello@glow.example>",
        "subject": "Crème brûlée for your skin",
        "html": "<p>Hello</p>",
        "text": "Hello",
        "headers": {"List-Id": "<glow.example>", "Date": "Thu, 26 Nov 2026 09:00:00 +0000"},
        "metadata": {"attempt": "a1", "delivery": "d1"},
        **changes,
    }


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMailbox]:
    with running_mailbox(tmp_path_factory.mktemp("mailbox")) as running:
        yield running


@pytest.fixture
def http(mailbox: RunningMailbox) -> Iterator[httpx.Client]:
    mailbox.set_faults()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=mailbox.url, headers=headers, trust_env=False) as client:
        yield client


def post(http: httpx.Client, key: str, *messages: dict[str, Any]) -> httpx.Response:
    return http.post(
        "/v1/batches", headers={"Idempotency-Key": key}, json={"messages": list(messages)}
    )


def count(http: httpx.Client, to: str) -> int:
    total: int = http.get("/v1/messages", params={"to": to}).json()["total"]
    return total


def test_a_batch_is_answered_in_order_with_ids_and_errors(http: httpx.Client) -> None:
    answer = post(
        http, "order", message("one@o.example"), message("nonsense"), message("inactive@o.example")
    ).json()
    assert answer["batch"] == "order"
    first, second, third = answer["results"]
    assert (first["to"], set(first)) == ("one@o.example", {"to", "id"})
    assert second["to"] == "nonsense"
    assert "no email address" in second["error"]
    assert third["code"] == "inactive"
    assert http.get("/v1/batches/order").json() == answer


def test_a_repeat_under_its_key_replays_the_first_answer(http: httpx.Client) -> None:
    first = post(http, "again", message("again@o.example")).json()
    assert post(http, "again", message("again@o.example")).json() == first
    assert count(http, "again@o.example") == 1
    assert post(http, "again", message("other@o.example")).status_code == 409
    assert count(http, "other@o.example") == 0


def test_two_at_once_under_one_key_are_accepted_once(http: httpx.Client) -> None:
    http.put("/v1/faults", json={"latency": {"times": 1, "seconds": 0.5}})
    statuses: list[int] = []

    def work() -> None:
        statuses.append(post(http, "twins", message("twins@o.example")).status_code)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.15)
    assert http.get("/v1/batches/twins").status_code == 409  # neither unknown nor accepted yet
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 409]
    assert count(http, "twins@o.example") == 1


def test_an_unknown_key_is_404_and_what_is_wrong_is_said(http: httpx.Client) -> None:
    assert http.get("/v1/batches/never").json()["code"] == "no_such_batch"
    assert http.post("/v1/batches", json={"messages": [message()]}).status_code == 400
    assert post(http, "none").status_code == 422
    assert post(http, "many", *[message("many@o.example")] * 501).status_code == 413
    assert count(http, "many@o.example") == 0
    bad = http.get("/v1/batches/x", headers={"Authorization": "Bearer no"})
    assert bad.status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "a\r\nBcc: b@c.example"},
        {"headers": {"X": "a\nb"}},
        {"html": "", "text": ""},
        {"metadata": {"a": 1}},
        {"from": None},
    ],
)
def test_a_malformed_message_is_refused_alone(http: httpx.Client, change: dict[str, Any]) -> None:
    key = json.dumps(change)
    results = post(http, key, message(**change), message("fine@o.example")).json()["results"]
    assert results[0]["code"] == "invalid"
    assert "id" in results[1]


def test_a_message_is_listed_read_and_raw(http: httpx.Client) -> None:
    sent = message("Raw@o.example", to_name="Rå", reply_to="editors@glow.example")
    found = post(http, "raw", sent).json()["results"][0]
    listed = http.get("/v1/messages", params={"to": "raw@o.example"}).json()
    assert [m["id"] for m in listed["messages"]] == [found["id"]]
    whole = http.get(f"/v1/messages/{found['id']}").json()
    assert {name: whole[name] for name in sent} == sent
    raw = http.get(f"/v1/messages/{found['id']}/raw")
    assert raw.headers["content-type"].startswith("message/rfc822")
    for line in (b"List-Id: <glow.example>", b"Date: Thu, 26 Nov 2026 09:00:00 +0000"):
        assert line in raw.content
    assert http.get("/v1/messages/none").status_code == 404
    assert http.get("/v1/messages", params={"limit": "x"}).status_code == 400


@pytest.mark.parametrize(("fault", "accepted"), [("drop_before", 0), ("drop_after", 1)])
def test_a_dropped_connection_is_dropped(http: httpx.Client, fault: str, accepted: int) -> None:
    http.put("/v1/faults", json={fault: {"times": 1}})
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        post(http, fault, message(f"{fault}@o.example"))
    assert count(http, f"{fault}@o.example") == accepted
    assert post(http, fault, message(f"{fault}@o.example")).status_code == 200
    assert count(http, f"{fault}@o.example") == 1


def test_other_faults_answer_as_they_say(http: httpx.Client) -> None:
    for fault, status, accepted in (
        ("error_before", 500, 0),
        ("error_after", 500, 1),
        ("rate_limit", 429, 0),
        ("html", 200, 1),
    ):
        http.put("/v1/faults", json={fault: {"times": 1, "seconds": 3}})
        answer = post(http, fault, message(f"{fault}@o.example"))
        assert answer.status_code == status
        assert count(http, f"{fault}@o.example") == accepted
        assert answer.headers.get("retry-after") == ("3" if fault == "rate_limit" else None)
    http.put("/v1/faults", json={"refuse": {"times": 1}})
    refused = post(http, "part", message("p1@o.example"), message("p2@o.example")).json()
    assert [("error" in result) for result in refused["results"]] == [True, False]
    assert http.put("/v1/faults", json={"nonsense": 1}).status_code == 422


def test_the_switches_are_set_back_as_they_were_shown(http: httpx.Client) -> None:
    http.put("/v1/faults", json={"seed": 3, "drop_after": 0.05})
    shown = http.get("/v1/faults").json()
    http.put("/v1/faults", json={"seed": 4, "drop_after": None})
    assert http.put("/v1/faults", json=shown).json() == shown
    assert http.put("/v1/faults", json={"faults": 1}).status_code == 422


def test_a_seed_repeats_its_faults() -> None:
    def run(seed: int) -> list[bool]:
        faults = Faults({"refuse": Fault(0.3)}, seed)
        return [faults.strikes("refuse") is not None for _ in range(200)]

    assert run(7) == run(7)
    assert run(7) != run(8)
    assert 30 < sum(run(7)) < 90
    assert parse_fault("drop-after=0.05") == ("drop_after", Fault(0.05))
    assert parse_fault("latency=1:0.2s*3") == ("latency", Fault(1.0, 3, 0.2))


# --- events ---------------------------------------------------------------------------------------


class Hook:
    """A webhook that takes events, or answers another status."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.authorizations: set[str | None] = set()
        self.status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.authorizations.add(self.headers["Authorization"])
                if hook.status == 200:
                    hook.events += json.loads(body)["events"]
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/webhooks/main"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, self.events
            time.sleep(0.02)


@pytest.fixture
def hook() -> Iterator[Hook]:
    running = Hook()
    yield running
    running.server.shutdown()


def _client(running: RunningMailbox) -> httpx.Client:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.Client(base_url=running.url, headers=headers, trust_env=False)


@pytest.mark.slow
def test_events_are_posted_and_outlive_the_process(tmp_path: Path, hook: Hook) -> None:
    options = ("--webhook-url", hook.url, "--webhook-secret", "s3cret")
    addresses = ["a@x.example", "bounce+1@x.example", "softbounce@x.example", "complain@x.example"]
    hook.status = 503
    with running_mailbox(tmp_path, *options) as running, _client(running) as http:
        post(http, "k", *map(message, addresses))
        hook.wait_for(lambda: bool(hook.authorizations))
    assert hook.events == []
    hook.status = 200
    with running_mailbox(tmp_path, *options):
        hook.wait_for(lambda: len(hook.events) == 4)
    fates = {event["recipient"]: (event["type"], event.get("bounce")) for event in hook.events}
    assert list(map(fates.__getitem__, addresses)) == [
        ("delivered", None),
        ("bounced", "hard"),
        ("bounced", "soft"),
        ("complained", None),
    ]
    assert hook.authorizations == {"Bearer s3cret"}
    assert all(event["metadata"] == {"attempt": "a1", "delivery": "d1"} for event in hook.events)


def test_events_can_be_lost_and_repeated(tmp_path: Path, hook: Hook) -> None:
    options = ("--webhook-url", hook.url, "--fault", "webhook-lost=1*1")
    options += ("--fault", "webhook-repeated=1*1")
    with running_mailbox(tmp_path, *options) as running, _client(running) as http:
        post(http, "k", *(message(f"e{n}@x.example") for n in range(3)))
        hook.wait_for(lambda: len(hook.events) >= 3)
    assert [event["recipient"] for event in hook.events] == [
        "e1@x.example",
        "e1@x.example",
        "e2@x.example",
    ]
    assert hook.events[0]["id"] == hook.events[1]["id"]


# --- the process ----------------------------------------------------------------------------------


def test_without_keys_a_repeat_is_another_message_and_without_look_up_nothing_is_told(
    tmp_path: Path,
) -> None:
    with (
        running_mailbox(tmp_path, "--no-idempotency", "--no-lookup") as running,
        _client(running) as http,
    ):
        for _ in range(2):
            assert post(http, "k", message("twice@x.example")).status_code == 200
        assert count(http, "twice@x.example") == 2
        assert http.get("/v1/batches/k").json()["code"] == "lookup_off"


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    with running_mailbox(tmp_path) as running, _client(running) as http:
        answer = post(http, "k", message("kept@x.example")).json()
        running.process.kill()
    with running_mailbox(tmp_path) as running, _client(running) as http:
        assert http.get("/v1/batches/k").json() == answer
        assert count(http, "kept@x.example") == 1


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_end_it_in_order(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    with running_mailbox(tmp_path) as running, _client(running) as http:
        post(http, "k", message())
        running.process.send_signal(sent)
        assert running.process.wait(10) == code


def test_a_port_in_use_is_exit_5_and_names_it(mailbox: RunningMailbox, tmp_path: Path) -> None:
    port = mailbox.url.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "newsletter", "mailbox", "--port", port, "--storage", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 5
    assert port in done.stderr
