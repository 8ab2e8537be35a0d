"""The main job in view: the sample articles become a scheduled issue that lands in every inbox.

It drives the real commands in processes of their own, in a workspace that it makes anew under
`var/`, and prints each so that it can be typed again. It asserts what it claims and ends with 1
when something does not hold.
"""

from __future__ import annotations

import csv
import re
import shutil
import signal
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from newsletter.demo.stage import API_KEY, Stage, shown
from newsletter.errors import DoesNotHold
from newsletter.settings import FILE_NAME
from newsletter.workspace import bundled

ISSUE = "does-microneedling-help-milia"
SEED = "content/sources/microneedling-and-milia.txt"
SUBSCRIBERS = 100
VISITOR = "ada.visitor@readers.example"
_FIRST_NAMES = ("Amara", "Bea", "Chloé", "Dana", "Elif", "Freya", "Grace", "Hana", "Inès", "Jon")
_LAST_NAMES = ("Adeyemi", "Brontë", "Costa", "Evans", "García", "Hall", "Ito", "Jain", "Ko", "Li")


def run_demo(folder: Path, *, once: bool) -> None:
    """Do the main job in `folder`, which is made anew; then serve, unless `once`, until Ctrl-C.

    Raises `DoesNotHold` when a count is not what it must be. SIGTERM, and a terminal that is
    closed, end it in order with 0.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)  # the processes on the stage would outlive us
    stage = Stage(folder, Console(highlight=False))
    demo = _Demo(stage)
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
        stage.stop()


def _end(*_: object) -> None:
    raise SystemExit(0)


class _Demo:
    """The steps, in their order; each asserts what it claims."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.send_name = ""
        self.command_seconds = 0.0  # what one command takes on this machine

    def prepare(self) -> None:
        self.stage.title("A workspace of its own, a mailbox and the web app")
        _copy_sample(self.stage.folder, self.stage.web, self.stage.mailbox)
        self.stage.say(f"workspace [bold]{escape(shown(self.stage.folder))}[/bold]")
        self.stage.start("mailbox", "--port", str(self.stage.mailbox_port))
        self.stage.start("web", "--port", str(self.stage.web_port))
        self.stage.start("scheduler")
        self.stage.wait_for_answer(f"{self.stage.web}/readyz")
        self.stage.wait_for_answer(f"{self.stage.mailbox}/")

    def content(self) -> None:
        self.stage.title("The articles: one text file, four articles, no separator")
        added = self.stage.run("content", "add", SEED)
        for item in added["added"]:
            self.stage.say(f"added [bold]{escape(item['title'])}[/bold] ({item['words']} words)")
        for pair in added["duplicates"]:
            self.stage.say(
                f"[yellow]overlaps[/yellow] {pair['id']} with {pair['of']}:"
                f" {pair['similarity']:.0%}, {len(pair['passages'])} passages shared"
            )
        for call in added["calls_to_action"]:
            self.stage.say(f"left out, a call to action: {escape(call['text'])}")
        self.stage.expect(len(added["added"]) == 4, "four articles come out of the file")

    def audience(self) -> None:
        self.stage.title(f"{SUBSCRIBERS} subscribers, and one who signs up on the page")
        _write_subscribers(self.stage.folder / "subscribers.csv")
        imported = self.stage.run(
            "audience", "import", "subscribers.csv", "--consent", "Sample list of the demo"
        )
        self.stage.expect(imported["added"] == SUBSCRIBERS, f"{SUBSCRIBERS} people are imported")
        answer = self.stage.http.post(
            f"{self.stage.web}/subscribe",
            data={"email": VISITOR, "first_name": "Ada", "consent": "yes"},
            headers={"Origin": self.stage.web},
        )
        self.stage.expect(answer.status_code == 200, "the sign-up form is accepted")
        self.stage.wait_until("the confirmation mail", lambda: any(self.stage.messages(to=VISITOR)))
        mail = self.stage.newest_mail(VISITOR)
        confirm = _first_link(mail["text"], "/confirm/")
        self.stage.say(f"[dim]she opens {escape(_shortened(confirm))} and presses the button[/dim]")
        self.stage.expect(
            self.stage.http.get(confirm).status_code == 200, "the page of the mail's link opens"
        )
        self.stage.expect(
            self.stage.http.post(confirm, headers={"Origin": self.stage.web}).status_code == 200,
            "she confirms her address",
        )
        state = self.stage.run("audience", "show", VISITOR)["state"]
        self.stage.expect(state == "active", f"{VISITOR} is active")

    def issue(self) -> None:
        self.stage.title("The sample issue: checked and rendered")
        checked = self.stage.run("check", ISSUE, "--offline")
        for finding in checked["findings"]:
            self.stage.say(f"{finding['severity']}: {escape(finding['message'])}")
        self.stage.expect(checked["ok"], "no finding blocks it")
        started = time.monotonic()
        rendered = self.stage.run("render", ISSUE)
        self.command_seconds = time.monotonic() - started
        self.stage.say(
            f"HTML {rendered['html']['bytes']:,} bytes: {escape(rendered['html']['path'])}"
        )

    def send(self) -> None:
        self.stage.title("Scheduled a few seconds ahead, and one answer that gets lost on the way")
        self.stage.http.put(
            f"{self.stage.mailbox}/v1/faults",
            json={"drop_after": {"times": 1}},
            headers={"Authorization": f"Bearer {API_KEY}"},
        ).raise_for_status()
        self.stage.say("[dim]the mailbox will accept one request and drop the connection[/dim]")
        # Far enough ahead for `schedule` to read it as the future on a machine that is busy, too.
        ahead = timedelta(seconds=max(4.0, 4 * self.command_seconds))
        at = (datetime.now(UTC) + ahead).isoformat(timespec="seconds")
        scheduled = self.stage.run("schedule", ISSUE, "--at", at, "--offline")
        self.send_name = scheduled["send"]
        self.stage.say(
            f"frozen as {scheduled['frozen'][:16]}…, {scheduled['recipients']} recipients"
        )
        self.watch()

    def watch(self) -> None:
        doubted = False
        last: dict[str, Any] = {}

        def over() -> dict[str, Any] | None:
            nonlocal doubted, last
            status = self.stage.query("status", self.send_name)
            counts = {name: n for name, n in status["counts"].items() if n}
            doubted = doubted or bool(counts.get("in_doubt"))
            if counts != last:
                spelt = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items())
                self.stage.say(f"[cyan]{status['state']}[/cyan]  {spelt}")
                last = counts
            return status if status["state"] in {"sent", "held"} else None

        status = self.stage.wait_until("the end of the send", over)
        self.stage.expect(status["state"] == "sent", "the send ended by itself")
        doubts = self.doubts_settled()
        self.stage.expect(
            doubts >= 1, f"{doubts} request of unknown outcome was settled by its key"
        )

    def unsubscribe(self) -> None:
        self.stage.title("One reader leaves, by the button of her mail program (RFC 8058)")
        reader = _subscriber(0)["email"]
        mail = self.stage.newest_mail(reader)
        link = mail["headers"]["List-Unsubscribe"].strip("<>").split(">")[0]
        answer = self.stage.http.post(link, data={"List-Unsubscribe": "One-Click"})
        self.stage.expect(answer.status_code == 200, "the one-click request is accepted")
        state = self.stage.run("audience", "show", reader)["state"]
        self.stage.expect(state == "unsubscribed", f"{reader} is unsubscribed")

    def edition(self) -> None:
        self.stage.title("The weekly edition: assembled from what is unsent, waiting for approval")
        drafted = self.stage.wait_until("the draft of the edition", self.drafted_edition)
        self.stage.say(f"[bold]{drafted['issue']}[/bold] goes out at {drafted['next_send_at']}")
        self.stage.say(f"approve it with: newsletter approve {drafted['issue']}")

    def proof(self) -> None:
        self.stage.title("The proof: the ledger, and the mailbox's own record")
        counts = self.stage.query("status", self.send_name)["counts"]
        verified = self.stage.run("ledger", "verify", self.send_name)
        self.stage.expect(verified["ok"], "ledger verify finds no violation")
        copies = self.copies_by_recipient()
        everybody = SUBSCRIBERS + 1
        self.stage.expect(len(copies) == everybody, f"{everybody} inboxes hold the issue")
        self.stage.expect(set(copies.values()) == {1}, "each holds it exactly once")
        self.stage.expect(counts["total"] == everybody, f"the ledger has {everybody} rows")

    def serve(self) -> None:
        self.stage.start("preview", ISSUE, "--port", str(self.stage.preview_port))
        self.stage.title("It stays up until Ctrl-C")
        self.stage.say(f"inbox     {self.stage.mailbox}/")
        self.stage.say(f"sign-up   {self.stage.web}/")
        self.stage.say(f"archive   {self.stage.web}/archive")
        self.stage.say(f"preview   http://127.0.0.1:{self.stage.preview_port}/")
        self.stage.say(
            f"[dim]to try commands on it: cd {escape(shown(self.stage.folder))}, then"
            f" {escape(str(Path(sys.executable).with_name('newsletter')))} status[/dim]"
        )
        try:
            while all(process.poll() is None for _, process in self.stage.processes):
                time.sleep(0.5)
        except (KeyboardInterrupt, SystemExit):
            self.stage.say("ending …")
            raise
        raise DoesNotHold("a part of the demo ended by itself", hint=self.stage.logs_hint())

    def drafted_edition(self) -> dict[str, Any] | None:
        editions: list[dict[str, Any]] = self.stage.query("editions")
        return next((e for e in editions if e["state"] == "drafted"), None)

    def doubts_settled(self) -> int:
        """Attempts of the send that were in doubt once, from the ledger itself."""
        from newsletter.delivery import attempts_once_in_doubt
        from newsletter.store import open_store

        store = open_store("sqlite:///var/newsletter.db", self.stage.folder)
        try:
            with store.read() as connection:
                return attempts_once_in_doubt(connection, self.send_name)
        finally:
            store.close()

    def copies_by_recipient(self) -> Counter[str]:
        copies: Counter[str] = Counter()
        for message in self.stage.messages():
            if message["metadata"].get("send") == self.send_name:
                copies[message["to"]] += 1
        return copies


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


def _first_link(text: str, path: str) -> str:
    found = re.search(rf"https?://\S*{re.escape(path)}[^\s)>\]]+", text)
    if not found:
        raise DoesNotHold(f"the mail has no link to {path}")
    return found[0]


def _shortened(url: str) -> str:
    return url if len(url) < 60 else f"{url[:57]}…"
