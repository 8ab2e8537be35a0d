"""A machine that fails (disk, database, provider, pipe) and signals, through the command line."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from newsletter.workspace import Workspace

Cli = Callable[..., Any]
ROOT = Path(__file__).parent.parent.parent

# --- the database -----------------------------------------------------------------------------


def test_a_damaged_database_is_named_and_left_as_it_is(cli: Cli, workspace: Workspace) -> None:
    file = workspace.var / "newsletter.db"
    file.write_bytes(b"no database at all. " * 500)
    before = file.read_bytes()
    for command in (["status"], ["audience", "add", "a@b.example"], ["scheduler", "--until-idle"]):
        ran = cli(*command, cwd=workspace)
        assert (ran.code, ran.out) == (5, "")
        assert "the database file is damaged" in ran.err
        assert "backup" in ran.err
    assert file.read_bytes() == before


def test_a_database_of_a_newer_version_is_left_alone(cli: Cli, workspace: Workspace) -> None:
    with contextlib.closing(sqlite3.connect(workspace.var / "newsletter.db")) as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")
        database.commit()
    ran = cli("status", cwd=workspace)
    assert ran.code == 5
    assert "newer newsletter" in ran.err


ADDRESSES = {
    "nonsense": (2, "not a database address"),
    "mysql://a/b": (2, "mysql is not supported"),
    "postgresql+psycopg://127.0.0.1:abc/x": (2, "not a database address"),
    "postgresql+psycopg://127.0.0.1/x?foo=bar": (2, 'option "foo"'),
    "sqlite:///var/x.db?foo=bar": (2, "takes no options"),
    "sqlite:////proc/none/x.db": (5, "folder cannot be made"),
    "sqlite:////tmp": (5, "unable to open"),
    "postgresql+psycopg://me:hidden@127.0.0.1:9/x": (5, "does not answer"),
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_database_address_that_is_wrong_or_dead_says_which(
    cli: Cli, workspace: Workspace, address: str
) -> None:
    code, words = ADDRESSES[address]
    ran = cli("status", "--json", cwd=workspace, env={"NEWSLETTER_DATABASE__URL": address})
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert "hidden" not in ran.err
    if code == 2:
        assert "database.url" in ran.err


@pytest.mark.slow
def test_a_locked_database_is_waited_for_and_then_told(cli: Cli, workspace: Workspace) -> None:
    assert cli("audience", "add", "a@b.example", cwd=workspace).code == 0
    database = sqlite3.connect(workspace.var / "newsletter.db", isolation_level=None)
    with contextlib.closing(database):
        database.execute("BEGIN IMMEDIATE")
        assert cli("status", "--json", cwd=workspace).code == 0  # who only reads is not held up
        ran = cli("audience", "add", "late@b.example", cwd=workspace, timeout=60)
    assert ran.code == 5
    assert "locked" in ran.err
    assert cli("audience", "show", "late@b.example", cwd=workspace).code == 3


def test_a_key_that_is_damaged_is_not_replaced(cli: Cli, workspace: Workspace) -> None:
    key = workspace.var / "secret.key"
    for content in (b"short", b"\xff" * 64):
        key.write_bytes(content)
        ran = cli("audience", "suppress", "a@b.example", "--reason", "x", cwd=workspace)
        assert ran.code == 2
        assert "var/secret.key: " in ran.err
        assert key.read_bytes() == content


# --- the disk ---------------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small disk of the test's own; only root may, so that others skip."""
    folders: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if folders:
            command = ["mount", "-o", options, str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.xfail("only root may mount a disk")
        folders.append(folder)
        return folder

    yield mount
    if folders:
        subprocess.run(["umount", "-l", str(folders[0])], check=True)


WRITING = (
    ["content", "add", "notes.txt"],
    ["draft", "next", "--subject", "S"],
    ["render", "milia"],
    ["audience", "add", "a@b.example"],
    ["audience", "export", "--out", "people.csv"],
    ["schedule", "milia", "--at", "2090-01-05 10:00", "--offline"],
    ["init", "other"],
)


def on_a_disk(cli: Cli, workspace: Workspace, folder: Path) -> Path:
    root = folder / "site"
    assert cli("init", root, cwd=folder).code == 0
    (root / "newsletter.toml").write_bytes((workspace.root / "newsletter.toml").read_bytes())
    (root / "notes.txt").write_text("A Title\n\nSome words stand here.\n")
    assert cli("draft", "milia", "--subject", "S", cwd=root).code == 0
    issue = root / "issues" / "milia" / "issue.md"
    issue.write_text(issue.read_text() + "\nHello\n")
    assert cli("render", "milia", cwd=root).code == 0
    return root


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
        and not path.name.startswith("newsletter.db-")
        and "other" not in path.parts
    }


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_disk_that_takes_nothing_loses_nothing(
    cli: Cli, workspace: Workspace, mounted: Callable[[str], Path], trouble: str
) -> None:
    disk = mounted("size=1m")
    root = on_a_disk(cli, workspace, disk)
    before = files(root)
    if trouble == "full":
        with (disk / "fill").open("wb", buffering=0) as fill, contextlib.suppress(OSError):
            while fill.write(bytes(1024)):
                pass
    else:
        mounted("remount,ro")
    for command in WRITING:
        ran = cli(*command, cwd=root, timeout=40)
        assert ran.code in (2, 5), (command, ran)
        assert ran.err.startswith("newsletter: ")
        assert "\n  " in ran.err or "cannot be written" in ran.err, ran.err
    assert files(root) == before
    if trouble == "full":
        (disk / "fill").unlink()
        assert cli("draft", "next", "--subject", "S", cwd=root).code == 0
        assert cli("init", "other", cwd=root).code == 0


# --- the provider -----------------------------------------------------------------------------

BOMB = gzip.compress(bytes(200_000_000))
PAGE = b"<html>Sign in</html>"
ANSWERS = {
    "HTML": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n" + PAGE,
    "nothing": b"",
    "an empty answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"\x00\x01\x02\r\n\r\n",
    "a gzip bomb": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    % len(BOMB)
    + BOMB,
    "a byte a second": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
}


@contextlib.contextmanager
def answering(answer: bytes, *, slowly: bool = False) -> Iterator[int]:
    """A server that takes a request and gives `answer` to it, then a byte now and then."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                while connection.recv(65536):
                    pass
            connection.settimeout(10)
            connection.sendall(answer)
            while slowly and not over.wait(0.5):
                connection.sendall(b" ")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        over.set()


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_is_not_the_providers_is_told_in_time(
    cli: Cli, make_workspace: Callable[..., Workspace], case: str
) -> None:
    with answering(ANSWERS[case], slowly=case == "a byte a second") as port:
        workspace = sending_to(make_workspace, port)
        assert cli("draft", "milia", "--subject", "S", cwd=workspace).code == 0
        ran = cli("test", "milia", "--to", "a@b.example", "--json", cwd=workspace, timeout=30)
    assert (ran.code, ran.out) == (5, "")
    assert "base_url" in ran.err


def test_a_wrong_key_holds_the_send_and_leaves_everybody_pending(
    cli: Cli, make_workspace: Callable[..., Workspace]
) -> None:
    denied = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}"
    with answering(denied) as port:
        workspace = sending_to(make_workspace, port)
        assert cli("audience", "add", "a@b.example", "--consent", "x", cwd=workspace).code == 0
        assert cli("draft", "milia", "--subject", "S", cwd=workspace).code == 0
        issue = workspace.issues / "milia" / "issue.md"
        issue.write_text(issue.read_text() + "\nHello\n")
        assert cli("send", "milia", "--offline", cwd=workspace).code == 0
        ran = cli("scheduler", "--until-idle", cwd=workspace, timeout=60)
    assert ran.code == 1
    send = cli("status", "milia.1", "--json", cwd=workspace).json
    assert send["state"] == "held"
    assert "providers.main.api_key" in send["reason"]
    assert send["counts"]["pending"] == send["counts"]["total"] == 1


def sending_to(make_workspace: Callable[..., Workspace], port: int) -> Workspace:
    from support.site import SETTINGS

    return make_workspace(settings=SETTINGS.replace(":8025", f":{port}") + 'timeout = "2s"\n')


# --- standard input and output ----------------------------------------------------------------

WEBHOOKS = {
    b"": "not JSON",
    b"garbage": "not JSON",
    b"[" * 100_000: "not JSON",
    b"\xff\xfe": "not JSON",
    b"[]": "a JSON object is needed",
    b'{"method": "POST", "query": {}, "headers": {}, "body": 3}': "body: ",
    b'{"method": "POST", "query": {}, "headers": {}, "body_base64": "%"}': "body_base64: ",
}


@pytest.mark.parametrize("given", WEBHOOKS, ids=range(len(WEBHOOKS)))
def test_a_webhook_that_cannot_be_read_is_told(
    cli: Cli, workspace: Workspace, given: bytes
) -> None:
    command = ("provider", "events", "postmark", "--secret", "a:b")
    ran = cli(*command, cwd=workspace, stdin=given)
    assert (ran.code, ran.out) == (2, "")
    assert WEBHOOKS[given] in ran.err


def test_a_webhook_with_the_wrong_secret_does_not_hold(cli: Cli, workspace: Workspace) -> None:
    request = {"method": "POST", "query": {}, "headers": {}, "body": "{}"}
    command = ("provider", "events", "postmark", "--secret", "a:b")
    ran = cli(*command, cwd=workspace, stdin=json.dumps(request).encode())
    assert (ran.code, ran.out) == (1, "")
    assert cli("provider", "events", "none", cwd=workspace, stdin=b"{}").code == 3


@pytest.mark.parametrize("command", [[], ["none"], ["check"], ["status", "a", "b"], ["pause"]])
def test_usage_that_is_wrong_prints_nothing_to_standard_output(
    cli: Cli, workspace: Workspace, command: list[str]
) -> None:
    ran = cli(*command, cwd=workspace)
    assert ran.code == 2
    assert not command or ran.out == ""


def shell(workspace: Workspace, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line.replace("newsletter", f"{sys.executable} -m newsletter")],
        cwd=workspace.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_reader_that_leaves_or_a_closed_output_makes_no_noise(
    cli: Cli, workspace: Workspace
) -> None:
    lines = "".join(f"p{number}@b.example\n" for number in range(3_000))
    (workspace.root / "people.csv").write_text("email\n" + lines)
    imported = cli("audience", "import", "people.csv", cwd=workspace)
    assert (imported.code, imported.err) == (0, "")  # no progress into a pipe
    assert shell(workspace, "newsletter audience export | head -1").stderr == ""
    assert shell(workspace, "newsletter status --json >&-").stderr == ""
    full = shell(workspace, "newsletter status --json > /dev/full")
    assert full.returncode == 5
    assert "Make room on the disk" in full.stderr


# --- signals ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("command", ["scheduler", "worker", "web", "run", "mailbox", "preview"])
def test_ctrl_c_ends_with_130_and_sigterm_with_0(
    cli: Cli, workspace: Workspace, command: str
) -> None:
    assert cli("draft", "milia", "--subject", "S", cwd=workspace).code == 0
    line = [command, *(["milia"] if command == "preview" else [])]
    line += [] if command in ("scheduler", "worker") else ["--port", "0"]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        process = subprocess.Popen(
            [sys.executable, "-m", "newsletter", *line],
            cwd=workspace.root,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        wait_for_handler(process)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == code, out.decode()
        assert b"Traceback" not in out


def wait_for_handler(process: subprocess.Popen[bytes]) -> None:
    """Until the process catches SIGTERM, as the kernel says; before that it only starts."""
    bit = 1 << (signal.SIGTERM - 1)
    for _ in range(600):
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        if int(caught.split()[1], 16) & bit:
            time.sleep(0.3)
            return
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.05)
    raise AssertionError("it does not start")
