"""The input of every figure: a workspace with a 50 KB issue and an audience of any size."""

from __future__ import annotations

import csv
from pathlib import Path

from newsletter.audience.importing import import_csv
from newsletter.clock import SystemClock
from newsletter.settings import load_settings
from newsletter.store import Store, open_store
from newsletter.workspace import Workspace

ISSUE = "bench"
HTML_BYTES = 50_000

_SETTINGS = """\
[site]
name = "Bench"
base_url = "http://127.0.0.1:9"
postal_address = "1 Bench Lane, London"
[sender]
name = "Bench"
email = "bench@bench.example"
[database]
url = "{database}"
[[providers]]
name = "main"
kind = "{kind}"
base_url = "{sink}"
api_key = "bench"
webhook_secret = "bench:bench"
in_flight = 4
"""
_PARAGRAPH = (
    "Microneedling creates micro-injuries in the skin, which triggers the natural healing process."
    " It is *not* a one-size-fits-all solution; ask a [dermatologist](https://example.com/ask/{n})"
    " before you try it, and give your skin time.\n\n"
)


def make_workspace(root: Path, kind: str, database: str, sink: str) -> tuple[Workspace, Store]:
    """A workspace whose provider is the sink, with an issue of about 50 KB of HTML."""
    for folder in ("content/articles", "content/tips", f"issues/{ISSUE}", "templates", "var"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    settings = _SETTINGS.format(kind=kind, database=database, sink=sink)
    (root / "newsletter.toml").write_text(settings, encoding="utf-8")
    workspace = Workspace(root, load_settings(root / "newsletter.toml"))
    (root / "issues" / ISSUE / "issue.md").write_text(_issue(workspace), encoding="utf-8")
    return workspace, open_store(database, root)


def _issue(workspace: Workspace) -> str:
    """Paragraphs until the HTML has its size, found by compiling twice."""
    from newsletter.drafting import parse_issue
    from newsletter.rendering import compile_issue

    def text(paragraphs: int) -> str:
        head = '---\nsubject: "Bench"\npreheader: "Fifty kilobytes"\n---\n'
        hello = 'Hello {{ subscriber.first_name | default("there") }},\n\n'
        return head + hello + "".join(_PARAGRAPH.format(n=n) for n in range(paragraphs))

    def size(paragraphs: int) -> int:
        path = workspace.issues / ISSUE / "issue.md"
        issue = parse_issue(text(paragraphs), ISSUE, path, "issue.md")
        compiled = compile_issue(workspace, issue, segments=()).compiled
        return sum(len(part) for part in compiled.variants[""].html if isinstance(part, str))

    few, many = size(10), size(60)
    each = (many - few) / 50
    return text(round(10 + (HTML_BYTES - few) / each))


def add_audience(workspace: Workspace, store: Store, people: int) -> None:
    """`people` active subscribers, by the import that everybody uses."""
    path = workspace.var / "people.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["email", "first_name", "last_name"])
        writer.writerows(
            (f"reader{n}@inbox.example", f"First{n % 97}", f"Last{n % 89}") for n in range(people)
        )
    import_csv(store, workspace, SystemClock(), path, consent="bench")
