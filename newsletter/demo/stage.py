"""What the demo's steps stand on: the real commands in processes of their own, and what is printed.

It asserts what the steps claim; what a long-running command logs is kept in the workspace's var/.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
from rich.console import Console
from rich.markup import escape

from newsletter.errors import DoesNotHold

API_KEY = "local-key"
_WAIT_SECONDS = 60.0

_T = TypeVar("_T")


class Stage:
    """A workspace with its mailbox, web app and scheduler, and the console of who watches."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.web_port, self.mailbox_port, self.preview_port = _free_ports(3)
        self.web = f"http://127.0.0.1:{self.web_port}"
        self.mailbox = f"http://127.0.0.1:{self.mailbox_port}"
        self.http = httpx.Client(trust_env=False, timeout=30)

    def messages(self, **query: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = self.http.get(
                f"{self.mailbox}/v1/messages",
                params={"limit": "100", "offset": str(offset), **query},
                headers={"Authorization": f"Bearer {API_KEY}"},
            ).json()["messages"]
            yield from page
            if len(page) < 100:
                return
            offset += len(page)

    def newest_mail(self, address: str) -> dict[str, Any]:
        """The newest message to an address, whole."""
        found = next(self.messages(to=address))
        whole: dict[str, Any] = self.http.get(
            f"{self.mailbox}/v1/messages/{found['id']}",
            headers={"Authorization": f"Bearer {API_KEY}"},
        ).json()
        return whole

    def run(self, *arguments: str) -> Any:
        """Run a command of the workspace, shown, and return its JSON."""
        line = escape(shlex.join(arguments))
        self.console.print(f"[green]$[/green] newsletter {line}", soft_wrap=True)
        return self.query(*arguments)

    def query(self, *arguments: str) -> Any:
        done = subprocess.run(  # noqa: S603 (our own command line)
            [sys.executable, "-m", "newsletter", *arguments, "--json"],
            cwd=self.folder,
            env=_environment(),
            capture_output=True,
            check=False,
        )
        if not done.stdout:
            raise DoesNotHold(
                f"newsletter {' '.join(arguments)} ended with {done.returncode}:"
                f" {done.stderr.decode(errors='replace').strip()}"
            )
        return json.loads(done.stdout)

    def start(self, *arguments: str) -> None:
        """Start a long-running command; what it logs is kept in the workspace's var/."""
        self.console.print(f"[green]$[/green] newsletter {' '.join(arguments)} [dim]&[/dim]")
        with (self.folder / "var" / f"{arguments[0]}.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 (our own command line)
                [sys.executable, "-m", "newsletter", *arguments],
                cwd=self.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is ours: we end them in order
            )
        self.processes.append((arguments[0], process))

    def stop(self) -> None:
        self.http.close()
        for _, process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for _, process in self.processes:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()

    def wait_for_answer(self, url: str) -> None:
        def answers() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return self.http.get(url).status_code == 200
            return False

        self.wait_until(url, answers)

    def wait_until(self, what: str, ask: Callable[[], _T | None]) -> _T:
        """Ask until the answer is true. A part that ended, or a minute without one, is the end."""
        end = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < end:
            if answer := ask():
                return answer
            for name, process in self.processes:
                if process.poll() is not None:
                    raise DoesNotHold(f"{name} ended by itself", hint=self.logs_hint())
            time.sleep(0.2)
        raise DoesNotHold(f"waited in vain for {what}", hint=self.logs_hint())

    def logs_hint(self) -> str:
        return f"The logs are in {shown(self.folder / 'var')}."

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            raise DoesNotHold(f"does not hold: {what}", hint=self.logs_hint())
        self.say(f"[green]✓[/green] {escape(what)}")

    def title(self, text: str) -> None:
        self.console.print(f"\n[bold magenta]{escape(text)}[/bold magenta]")

    def say(self, text: str) -> None:
        self.console.print(f"  {text}", soft_wrap=True)


def _environment() -> dict[str, str]:
    """The commands' surroundings: no setting of another workspace reaches them."""
    return {k: v for k, v in os.environ.items() if not k.startswith("NEWSLETTER_")}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def shown(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
