"""The input of every figure: a workspace with a 50 KB issue and an audience of any size."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import insert, literal, select, text

from newsletter.clock import SystemClock
from newsletter.settings import load_settings
from newsletter.store import Store, open_store
from newsletter.store.schema import segment_members, subscribers
from newsletter.workspace import Workspace

ISSUE = "bench"
#: An issue for a few of the audience, which goes first: a worker has sent others before.
EARLIER = "earlier"
_FEW = 20
HTML_BYTES = 50_000
_ROWS = 20_000  # written at once

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
in_flight = 4
{more}
"""
#: How each form is asked for: the provider's kind, and its further settings.
FORMS = {
    "sendgrid": ("sendgrid", ""),
    "postmark": ("postmark", ""),
    "postmark-whole": ("postmark", 'templates = "never"'),
    "mailbox": ("mailbox", ""),
}
_PARAGRAPH = (
    "Microneedling creates micro-injuries in the skin, which triggers the natural healing process."
    " It is *not* a one-size-fits-all solution; ask a [dermatologist](https://example.com/ask/{n})"
    " before you try it, and give your skin time.\n\n"
)


def make_workspace(root: Path, form: str, database: str, sink: str) -> tuple[Workspace, Store]:
    """A workspace whose provider is the sink, with an issue of about 50 KB of HTML."""
    kind, more = FORMS[form]
    issues = (f"issues/{ISSUE}", f"issues/{EARLIER}")
    for folder in ("content/articles", "content/tips", *issues, "templates", "var"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    settings = _SETTINGS.format(kind=kind, database=database, sink=sink, more=more)
    (root / "newsletter.toml").write_text(settings, encoding="utf-8")
    workspace = Workspace(root, load_settings(root / "newsletter.toml"))
    issue = _issue(workspace)
    (root / "issues" / ISSUE / "issue.md").write_text(issue, encoding="utf-8")
    (root / "issues" / EARLIER / "issue.md").write_text(
        issue.replace("---\n", "---\naudience: few\n", 1), encoding="utf-8"
    )
    return workspace, open_store(database, root)


def _issue(workspace: Workspace) -> str:
    """Paragraphs until the HTML has its size, found by compiling twice."""
    from newsletter.drafting import parse_issue
    from newsletter.rendering import compile_issue

    def written(paragraphs: int) -> str:
        head = '---\nsubject: "Bench"\npreheader: "Fifty kilobytes"\n---\n'
        hello = 'Hello {{ subscriber.first_name | default("there") }},\n\n'
        return head + hello + "".join(_PARAGRAPH.format(n=n) for n in range(paragraphs))

    def size(paragraphs: int) -> int:
        path = workspace.issues / ISSUE / "issue.md"
        issue = parse_issue(written(paragraphs), ISSUE, path, "issue.md")
        compiled = compile_issue(workspace, issue, segments=()).compiled
        return sum(len(part) for part in compiled.variants[""].html if isinstance(part, str))

    few, many = size(10), size(60)
    each = (many - few) / 50
    return written(round(10 + (HTML_BYTES - few) / each))


def literals(workspace: Workspace) -> tuple[str, str]:
    """HTML and text of the issue without its merge values: what a baseline sends."""
    from newsletter.drafting import load_issue
    from newsletter.rendering import compile_issue

    compiled = compile_issue(workspace, load_issue(workspace, ISSUE), segments=()).compiled
    message = compiled.variants[""]
    html, text = ("".join(str(part) for part in parts) for parts in (message.html, message.text))
    return html, text


def add_audience(store: Store, people: int) -> None:
    """`people` active subscribers, written straight into the table: the import is not measured."""
    now = SystemClock().now()
    with store.begin() as connection:
        for start in range(0, people, _ROWS):
            rows = [
                {
                    "email": f"reader{n}@inbox.example",
                    "email_key": f"reader{n}@inbox.example",
                    "first_name": f"First{n % 97}",
                    "last_name": f"Last{n % 89}",
                    "state": "active",
                    "created_at": now,
                    "updated_at": now,
                }
                for n in range(start, min(start + _ROWS, people))
            ]
            connection.execute(insert(subscribers), rows)
        few = select(literal("few"), subscribers.c.id).where(subscribers.c.id <= _FEW)
        listed = insert(segment_members).from_select(["segment", "subscriber_id"], few)
        connection.execute(listed)
        if not store.is_sqlite:
            connection.execute(text("ANALYZE subscribers"))
