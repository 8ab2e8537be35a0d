"""`preview`, `test` and `web` as commands: what they show, send and end with."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from newsletter.workspace import Workspace

ROOT = Path(__file__).parent.parent.parent
ISSUE = """---
subject: 'Hello {{ subscriber.first_name | default("you") }}'
preheader: "A test"
---
Some **words** and [a link](https://example.com/).
"""


def write(workspace: Workspace, text: str = ISSUE) -> Path:
    path = workspace.issues / "one" / "issue.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@contextmanager
def running(
    workspace: Workspace, *arguments: str
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A long-running command, once it says where it is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "newsletter", *arguments],
        cwd=workspace.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = ""
        while not (found := re.search(r"http://\S+", line)):
            line = process.stderr.readline()
            assert line, "it ended before it said where it is"
        with httpx.Client(base_url=found[0], trust_env=False, timeout=20) as client:
            yield process, client
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.slow
def test_the_preview_follows_edits_and_names_mistakes(workspace: Workspace) -> None:
    path = write(workspace)
    with running(workspace, "preview", "one") as (process, client):
        page = client.get("/")
        assert "Hello you" in page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert "<strong>words</strong>" in client.get("/message/desktop").text
        assert "prefers-color-scheme" not in client.get("/message/dark").text
        assert client.get("/message/text").headers["content-type"].startswith("text/plain")
        assert client.get("/message/nonsense").status_code == 404
        rebound = client.get("/message/text", headers={"Host": "elsewhere.example"})
        assert rebound.status_code == 400
        assert "words" not in rebound.text
        before = client.get("/version").text
        write(workspace, ISSUE + "\n::: nonsense\nx\n:::\n")
        assert client.get("/version").text != before
        assert f"{workspace.relative(path)}:7" in client.get("/").text
        write(workspace, ISSUE.replace("words", "better words"))
        assert "better words" in client.get("/message/phone").text
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 130


def test_the_preview_of_nothing_and_on_a_taken_port(
    workspace: Workspace, cli: Callable[..., Any]
) -> None:
    assert cli("preview", "none", cwd=workspace).code == 3
    assert cli("preview", "../x", cwd=workspace).code == 2
    write(workspace)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli("preview", "one", "--port", port, cwd=workspace).code == 5
        assert cli("web", "--port", port, cwd=workspace).code == 5


@pytest.mark.slow
def test_the_site_ends_in_order_on_sigterm_and_with_130_on_ctrl_c(workspace: Workspace) -> None:
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        with running(workspace, "web", "--port", "0") as (process, client):
            assert client.get("/readyz").status_code == 200
            process.send_signal(number)
            assert process.wait(15) == code


@pytest.fixture
def inbox(make_workspace: Callable[..., Workspace]) -> Iterator[tuple[Workspace, httpx.Client]]:
    """A workspace with its local provider running."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = make_workspace().root / "newsletter.toml"
    text = settings.read_text(encoding="utf-8").replace(":8025", f":{port}")
    workspace = make_workspace(settings=text)
    process = subprocess.Popen(
        [sys.executable, "-m", "newsletter", "mailbox", "--port", str(port)],
        cwd=workspace.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    headers = {"Authorization": "Bearer local-key"}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", trust_env=False, headers=headers, timeout=20
    ) as client:
        for _ in range(100):
            try:
                client.get("/v1/messages")
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        yield workspace, client
    process.terminate()
    process.wait(15)


def test_a_test_message_is_marked_and_its_links_work(
    inbox: tuple[Workspace, httpx.Client], cli: Callable[..., Any]
) -> None:
    workspace, mailbox = inbox
    base = workspace.settings.site.base_url
    other = f"{base}/archive/one-two"
    write(workspace, f"{ISSUE}\n[An earlier one]({other})\n")
    emails = ("editor@glow.example", "second@glow.example")
    done = cli("test", "one", "--to", *emails, "--json", cwd=workspace)
    assert done.code == 0, done.err
    assert done.json == {"issue": "one", "accepted": list(emails), "rejected": []}
    listed = mailbox.get("/v1/messages", params={"to": emails[0]}).json()["messages"]
    message = mailbox.get(f"/v1/messages/{listed[0]['id']}").json()
    assert message["subject"] == "[Test] Hello you"
    assert message["headers"]["X-Newsletter-Test"] == "1"
    assert "https://example.com/" in message["html"], "a test is not tracked"
    assert f'"{other}"' in message["html"], "another issue's address stays as it is"
    links = set(
        re.findall(rf"{re.escape(base)}(/(?:unsubscribe|archive)/[^\s\"&<>]+)", message["html"])
    )
    links.remove("/archive/one-two")
    assert len(links) == 2
    with running(workspace, "web", "--port", "0") as (_, site):
        for link in links:
            assert site.get(link).status_code == 200, link
    assert cli("status", "--json", cwd=workspace).json == []


def test_a_test_that_cannot_be_sent(workspace: Workspace, cli: Callable[..., Any]) -> None:
    write(workspace)
    assert cli("test", "one", "--to", "no address", cwd=workspace).code == 2
    assert cli("test", "none", "--to", "a@glow.example", cwd=workspace).code == 3
    text = (workspace.root / "newsletter.toml").read_text(encoding="utf-8")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        (workspace.root / "newsletter.toml").write_text(text.replace(":8025", f":{port}"))
        done = cli("test", "one", "--to", "a@glow.example", "--json", cwd=workspace)
    assert (done.code, done.out) == (5, "")
