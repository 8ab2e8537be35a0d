"""The main job in view: the sample articles become a scheduled issue that lands in every inbox.

It drives the real commands in processes of their own, in a workspace that it makes anew under
`var/`, and prints each so that it can be typed again. It asserts what it claims and ends with 1
when something does not hold.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
from rich.console import Console
from rich.markup import escape

from newsletter.errors import DoesNotHold
from newsletter.settings import FILE_NAME
from newsletter.workspace import bundled

ISSUE = "does-microneedling-help-milia"
SEED = "content/sources/microneedling-and-milia.txt"
SUBSCRIBERS = 100
VISITOR = "ada.visitor@readers.example"
_API_KEY = "local-key"
_WAIT_SECONDS = 60.0
_FIRST_NAMES = ("Amara", "Bea", "Chloé", "Dana", "Elif", "Freya", "Grace", "Hana", "Inès", "Jon")
_LAST_NAMES = ("Adeyemi", "Brontë", "Costa", "Evans", "García", "Hall", "Ito", "Jain", "Ko", "Li")

_T = TypeVar("_T")


def run_demo(folder: Path, *, once: bool) -> None:
    """Do the main job in `folder`, which is made anew; then serve, unless `once`, until Ctrl-C.

    Raises `DoesNotHold` when a count is not what it must be.
    """
    console = Console(highlight=False)
    demo = _Demo(folder, console)
    try:
        demo.prepare()
        demo.content()
        demo.audience()
        demo.issue()
        demo.send()
        demo.unsubscribe()
        demo.edition()
        demo.proof()
        if not once:
            demo.serve()
    finally:
        demo.stop()


class _Demo:
    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.web_port, self.mailbox_port, self.preview_port = _free_ports(3)
        self.web = f"http://127.0.0.1:{self.web_port}"
        self.mailbox = f"http://127.0.0.1:{self.mailbox_port}"
        self.http = httpx.Client(trust_env=False, timeout=30)
        self.send_name = ""

    # --- the steps --------------------------------------------------------------------------------

    def prepare(self) -> None:
        self.title("A workspace of its own, a mailbox and the web app")
        _copy_sample(self.folder, self.web, self.mailbox)
        self.say(f"workspace [bold]{escape(_shown(self.folder))}[/bold]")
        self.start("mailbox", "--port", str(self.mailbox_port))
        self.start("web", "--port", str(self.web_port))
        self.start("scheduler")
        self.wait_for_answer(f"{self.web}/readyz")
        self.wait_for_answer(f"{self.mailbox}/")

    def content(self) -> None:
        self.title("The articles: one text file, four articles, no separator")
        added = self.run("content", "add", SEED)
        for item in added["added"]:
            self.say(f"added [bold]{escape(item['title'])}[/bold] ({item['words']} words)")
        for pair in added["duplicates"]:
            self.say(
                f"[yellow]overlaps[/yellow] {pair['id']} with {pair['of']}:"
                f" {pair['similarity']:.0%}, {len(pair['passages'])} passages shared"
            )
        for call in added["calls_to_action"]:
            self.say(f"left out, a call to action: {escape(call['text'])}")
        self.expect(len(added["added"]) == 4, "four articles come out of the file")

    def audience(self) -> None:
        self.title(f"{SUBSCRIBERS} subscribers, and one who signs up on the page")
        _write_subscribers(self.folder / "subscribers.csv")
        imported = self.run(
            "audience", "import", "subscribers.csv", "--consent", "Sample list of the demo"
        )
        self.expect(imported["added"] == SUBSCRIBERS, f"{SUBSCRIBERS} people are imported")
        answer = self.http.post(
            f"{self.web}/subscribe",
            data={"email": VISITOR, "first_name": "Ada", "consent": "yes"},
            headers={"Origin": self.web},
        )
        self.expect(answer.status_code == 200, "the sign-up form is accepted")
        self.wait_until("the confirmation mail", lambda: any(self.messages(to=VISITOR)))
        mail = self.newest_mail(VISITOR)
        confirm = _first_link(mail["text"], "/confirm/")
        self.say(f"[dim]she opens {escape(_shortened(confirm))} and presses the button[/dim]")
        self.expect(self.http.get(confirm).status_code == 200, "the page of the mail's link opens")
        self.expect(
            self.http.post(confirm, headers={"Origin": self.web}).status_code == 200,
            "she confirms her address",
        )
        state = self.run("audience", "show", VISITOR)["state"]
        self.expect(state == "active", f"{VISITOR} is active")

    def issue(self) -> None:
        self.title("The sample issue: checked and rendered")
        checked = self.run("check", ISSUE, "--offline")
        for finding in checked["findings"]:
            self.say(f"{finding['severity']}: {escape(finding['message'])}")
        self.expect(checked["ok"], "no finding blocks it")
        rendered = self.run("render", ISSUE)
        self.say(f"HTML {rendered['html']['bytes']:,} bytes: {escape(rendered['html']['path'])}")

    def send(self) -> None:
        self.title("Scheduled a few seconds ahead, and one answer that gets lost on the way")
        self.http.put(
            f"{self.mailbox}/v1/faults",
            json={"drop_after": {"times": 1}},
            headers={"Authorization": f"Bearer {_API_KEY}"},
        ).raise_for_status()
        self.say("[dim]the mailbox will accept one request and drop the connection[/dim]")
        at = (datetime.now(UTC) + timedelta(seconds=4)).isoformat(timespec="seconds")
        scheduled = self.run("schedule", ISSUE, "--at", at, "--offline")
        self.send_name = scheduled["send"]
        self.say(f"frozen as {scheduled['frozen'][:16]}…, {scheduled['recipients']} recipients")
        self.watch()

    def watch(self) -> None:
        doubted = False
        last: dict[str, Any] = {}

        def over() -> dict[str, Any] | None:
            nonlocal doubted, last
            status = self.query("status", self.send_name)
            counts = {name: n for name, n in status["counts"].items() if n}
            doubted = doubted or bool(counts.get("in_doubt"))
            if counts != last:
                self.say(f"[cyan]{status['state']}[/cyan] {counts}")
                last = counts
            return status if status["state"] in {"sent", "held"} else None

        status = self.wait_until("the end of the send", over)
        self.expect(status["state"] == "sent", "the send ended by itself")
        doubts = self.doubts_settled()
        self.expect(doubts >= 1, f"{doubts} request of unknown outcome was settled by its key")

    def unsubscribe(self) -> None:
        self.title("One reader leaves, by the button of her mail program (RFC 8058)")
        reader = _subscriber(0)["email"]
        mail = self.newest_mail(reader)
        link = mail["headers"]["List-Unsubscribe"].strip("<>").split(">")[0]
        answer = self.http.post(link, data={"List-Unsubscribe": "One-Click"})
        self.expect(answer.status_code == 200, "the one-click request is accepted")
        state = self.run("audience", "show", reader)["state"]
        self.expect(state == "unsubscribed", f"{reader} is unsubscribed")

    def edition(self) -> None:
        self.title("The weekly edition: assembled from what is unsent, waiting for approval")
        drafted = self.wait_until("the draft of the edition", self.drafted_edition)
        self.say(f"[bold]{drafted['issue']}[/bold] goes out at {drafted['next_send_at']}")
        self.say(f"approve it with: newsletter approve {drafted['issue']}")

    def proof(self) -> None:
        self.title("The proof: the ledger, and the mailbox's own record")
        counts = self.query("status", self.send_name)["counts"]
        verified = self.run("ledger", "verify", self.send_name)
        self.expect(verified["ok"], "ledger verify finds no violation")
        copies = self.copies_by_recipient()
        everybody = SUBSCRIBERS + 1
        self.expect(len(copies) == everybody, f"{everybody} inboxes hold the issue")
        self.expect(set(copies.values()) == {1}, "each holds it exactly once")
        self.expect(counts["total"] == everybody, f"the ledger has {everybody} rows")

    def serve(self) -> None:
        self.start("preview", ISSUE, "--port", str(self.preview_port))
        self.title("It stays up until Ctrl-C")
        self.say(f"inbox     {self.mailbox}/")
        self.say(f"sign-up   {self.web}/")
        self.say(f"archive   {self.web}/archive")
        self.say(f"preview   http://127.0.0.1:{self.preview_port}/")
        self.say(f"[dim]its commands run in {escape(_shown(self.folder))}[/dim]")
        while all(process.poll() is None for _, process in self.processes):
            time.sleep(0.5)
        raise DoesNotHold("a part of the demo ended by itself", hint=self.logs_hint())

    # --- what they are made of --------------------------------------------------------------------

    def drafted_edition(self) -> dict[str, Any] | None:
        editions: list[dict[str, Any]] = self.query("editions")
        return next((e for e in editions if e["state"] == "drafted"), None)

    def doubts_settled(self) -> int:
        """Attempts of the send that were in doubt once, from the ledger itself."""
        from newsletter.delivery import attempts_once_in_doubt
        from newsletter.store import open_store

        store = open_store("sqlite:///var/newsletter.db", self.folder)
        try:
            with store.read() as connection:
                return attempts_once_in_doubt(connection, self.send_name)
        finally:
            store.close()

    def copies_by_recipient(self) -> Counter[str]:
        copies: Counter[str] = Counter()
        for message in self.messages():
            if message["metadata"].get("send") == self.send_name:
                copies[message["to"]] += 1
        return copies

    def messages(self, **query: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = self.http.get(
                f"{self.mailbox}/v1/messages",
                params={"limit": "100", "offset": str(offset), **query},
                headers={"Authorization": f"Bearer {_API_KEY}"},
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
            headers={"Authorization": f"Bearer {_API_KEY}"},
        ).json()
        return whole

    def run(self, *arguments: str) -> Any:
        """Run a command of the workspace, shown, and return its JSON."""
        self.console.print(f"[green]$[/green] newsletter {escape(' '.join(arguments))}")
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
        return f"The logs are in {_shown(self.folder / 'var')}."

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            raise DoesNotHold(f"does not hold: {what}", hint=self.logs_hint())
        self.say(f"[green]✓[/green] {escape(what)}")

    def title(self, text: str) -> None:
        self.console.print(f"\n[bold magenta]{escape(text)}[/bold magenta]")

    def say(self, text: str) -> None:
        self.console.print(f"  {text}", soft_wrap=True)


def _copy_sample(folder: Path, web: str, mailbox: str) -> None:
    """The sample workspace without its articles, which the demo adds from their source."""
    if folder.exists():
        shutil.rmtree(folder)
    (folder / "var").mkdir(parents=True)
    (folder / "content" / "articles").mkdir(parents=True)
    shutil.copytree(bundled("content") / "sources", folder / "content" / "sources")
    shutil.copytree(bundled("content") / "tips", folder / "content" / "tips")
    shutil.copytree(bundled("issues"), folder / "issues")
    settings = bundled(FILE_NAME).read_text(encoding="utf-8")
    settings = settings.replace("http://127.0.0.1:8000", web)
    settings = settings.replace("http://127.0.0.1:8025", mailbox)
    (folder / FILE_NAME).write_text(settings, encoding="utf-8")


def _subscriber(number: int) -> dict[str, str]:
    first, last = _FIRST_NAMES[number % 10], _LAST_NAMES[number // 10]
    return {
        "email": f"reader{number:03}@readers.example",
        "first_name": "" if number % 7 == 6 else first,  # some never gave a name
        "last_name": last,
    }


def _write_subscribers(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["email", "first_name", "last_name"])
        writer.writeheader()
        writer.writerows(_subscriber(number) for number in range(SUBSCRIBERS))


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


def _first_link(text: str, path: str) -> str:
    found = re.search(rf"https?://\S*{re.escape(path)}[^\s)>\]]+", text)
    if not found:
        raise DoesNotHold(f"the mail has no link to {path}")
    return found[0]


def _shortened(url: str) -> str:
    return url if len(url) < 60 else f"{url[:57]}…"


def _shown(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
