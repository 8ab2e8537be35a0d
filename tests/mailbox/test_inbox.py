"""The web inbox: escaped, sandboxed, searchable, and able to do what a mail client does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.mailboxes import TOKEN, RunningMailbox, running_mailbox

HOSTILE = "<script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMailbox]:
    with running_mailbox(tmp_path_factory.mktemp("inbox")) as running:
        yield running


@pytest.fixture
def http(mailbox: RunningMailbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=mailbox.url, trust_env=False, follow_redirects=True) as client:
        yield client


def deliver(mailbox: RunningMailbox, key: str, **changes: Any) -> str:
    message = {
        "to": f"{key}@readers.example",
        "from": "Glow <hello@glow.example>",
        "subject": "Hello",
        "html": "<p>Hello</p>",
        "text": "Hello",
        "headers": {},
        "metadata": {},
        **changes,
    }
    answer = httpx.post(
        f"{mailbox.url}/v1/batches",
        headers={"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": key},
        json={"messages": [message]},
        trust_env=False,
    )
    message_id: str = answer.json()["results"][0]["id"]
    return message_id


class Sender:
    """The sender's own site: remembers the one-click requests that reach it."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        sender = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sender.bodies.append((self.path, body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def link(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/unsubscribe/abc?x=1"


@pytest.fixture
def sender() -> Iterator[Sender]:
    running = Sender()
    yield running
    running.server.shutdown()


def test_values_are_escaped_on_every_tab(mailbox: RunningMailbox, http: httpx.Client) -> None:
    headers, metadata = {"X-A": HOSTILE}, {"m": HOSTILE}
    changes = {"subject": HOSTILE, "text": HOSTILE, "headers": headers, "metadata": metadata}
    found = deliver(mailbox, "hostile", **changes)
    for tab in ("html", "text", "headers", "raw"):
        page = http.get(f"/inbox/{found}", params={"tab": tab, "q": HOSTILE, "to": '"><b>'})
        assert "<script" not in page.text
        assert "&lt;script&gt;" in page.text
        assert '"><b>' not in page.text
        assert "script-src" not in page.headers["content-security-policy"]


def test_a_messages_html_runs_nothing(mailbox: RunningMailbox, http: httpx.Client) -> None:
    found = deliver(mailbox, "html", html=f"<h1>Hi</h1>{HOSTILE}")
    page = http.get(f"/inbox/{found}/html")
    policy = page.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert "default-src 'none'" in policy
    assert (
        'sandbox="allow-popups allow-popups-to-escape-sandbox"' in http.get(f"/inbox/{found}").text
    )


@pytest.mark.browser
def test_a_browser_runs_no_script_of_a_message(mailbox: RunningMailbox, browser: Any) -> None:
    found = deliver(mailbox, "browser", html=f"<h1 id=h>Hi</h1>{HOSTILE}")
    page = browser.new_page()
    page.goto(f"{mailbox.url}/inbox/{found}")
    frame = page.frame_locator("iframe.mail")
    frame.locator("h1").wait_for()
    assert page.title() == "Hello · Mailbox"
    assert page.frames[1].title() != "owned"
    page.close()


def test_the_list_is_searched_and_narrowed_to_a_person(
    mailbox: RunningMailbox, http: httpx.Client
) -> None:
    deliver(mailbox, "search_one", subject="Winter skin")
    deliver(mailbox, "searchxone", subject="Summer skin")
    assert "searchxone" not in http.get("/", params={"q": "search_one"}).text
    assert "search_one" in http.get("/", params={"q": "winter"}).text
    narrowed = http.get("/", params={"to": "searchxone@readers.example"}).text
    assert "Winter skin" not in narrowed
    assert "1 message<" in narrowed
    for odd in ({"page": "0"}, {"page": "x"}, {"page": "999"}, {"q": "%"}, {"tab": "no"}):
        assert http.get("/", params=odd).status_code == 200
    assert http.get("/inbox/none").status_code == 404


def test_unsubscribe_sends_the_one_click_request(
    mailbox: RunningMailbox, http: httpx.Client, sender: Sender
) -> None:
    headers = {
        "List-Unsubscribe": f"<mailto:a@b.example>, <{sender.link}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    found = deliver(mailbox, "leaves", headers=headers)
    page = http.post(f"/inbox/{found}/unsubscribe")
    assert "Unsubscribed: the sender answered 200." in page.text
    assert sender.bodies == [("/unsubscribe/abc?x=1", b"List-Unsubscribe=One-Click")]


def test_unsubscribe_asks_no_other_machine_and_no_page_of_another_site(
    mailbox: RunningMailbox, http: httpx.Client, sender: Sender
) -> None:
    one_click = {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    away = deliver(
        mailbox, "away", headers={"List-Unsubscribe": "<https://glow.example/u>", **one_click}
    )
    assert "not on this machine" in http.post(f"/inbox/{away}/unsubscribe").text
    without = deliver(mailbox, "without", headers={"List-Unsubscribe": f"<{sender.link}>"})
    assert "no one-click" in http.post(f"/inbox/{without}/unsubscribe").text
    foreign = http.post(f"/inbox/{without}/unsubscribe", headers={"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403
    assert sender.bodies == []


def test_viewing_opens_and_buttons_report(tmp_path: Path, sender: Sender) -> None:
    events: list[dict[str, Any]] = []
    with running_mailbox(tmp_path, "--webhook-url", sender.link) as running:
        found = deliver(running, "reader", html='<a href="https://glow.example/guide">x</a>')
        with httpx.Client(base_url=running.url, trust_env=False) as client:
            for _ in range(2):  # the second look is no second opening
                assert client.get(f"/inbox/{found}/html").status_code == 200
            for kind in ("clicked", "complained", "bounced"):
                assert client.post(f"/inbox/{found}/event/{kind}").status_code == 303
            assert client.post(f"/inbox/{found}/event/exploded").status_code == 404
        end = time.monotonic() + 10
        while len(events) < 5 and time.monotonic() < end:
            time.sleep(0.05)
            events = [e for _, body in sender.bodies for e in json.loads(body)["events"]]
    kinds = [event["type"] for event in events]
    assert sorted(kinds) == ["bounced", "clicked", "complained", "delivered", "opened"]
    clicked = next(event for event in events if event["type"] == "clicked")
    assert clicked["url"] == "https://glow.example/guide"
