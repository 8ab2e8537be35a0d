"""`newsletter render`: three files, JSON of the contract, and nobody's or somebody's version."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from newsletter import audience
from newsletter.drafting import Issue
from newsletter.store import Store
from newsletter.tokens import recipient_token
from newsletter.workspace import Workspace

Cli = Callable[..., Any]
BODY = (
    "Dear {{ subscriber.first_name | default('reader') }}, [a](https://a.example/)"
    " {{ subscriber.fields.city }}"
)


def test_without_a_subscriber_defaults_and_neutral_links(
    workspace: Workspace, write_issue: Callable[..., Issue], cli: Cli
) -> None:
    write_issue(BODY)
    ran = cli("render", "one", "--json", cwd=workspace)
    assert ran.code == 0
    assert set(ran.json) == {"issue", "html", "text", "eml", "merge_fields"}
    assert ran.json["issue"] == "one"
    assert ran.json["merge_fields"] == ["subscriber.fields.city", "subscriber.first_name"]
    for kind, name in (("html", "one.html"), ("text", "one.txt"), ("eml", "one.eml")):
        entry = ran.json[kind]
        content = (workspace.root / entry["path"]).read_bytes()
        assert entry["path"] == f"var/render/{name}"
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    html = (workspace.root / ran.json["html"]["path"]).read_text()
    assert "Dear reader" in html
    assert 'href="https://a.example/"' in html
    again = cli("render", "one", "--json", "--out", workspace.root / "x", cwd=workspace)
    assert again.json["eml"]["sha256"] == ran.json["eml"]["sha256"]
    assert again.json["eml"]["path"] == "x/one.eml"


def test_fields_of_links_are_among_the_merge_fields(
    workspace: Workspace, write_issue: Callable[..., Issue], cli: Cli
) -> None:
    write_issue("[Leave]({{ links.unsubscribe }}) or [read on]({{ links.web_version }})")
    ran = cli("render", "one", "--json", cwd=workspace)
    assert ran.json["merge_fields"] == ["links.unsubscribe", "links.web_version"]


def test_for_a_subscriber_their_values_and_the_tracked_form(
    workspace: Workspace,
    write_issue: Callable[..., Issue],
    sqlite_store: Store,
    cli: Cli,
    clock: Any,
) -> None:
    write_issue(BODY + "\n\n:::: only {segment=vip}\nFor VIPs\n::::")
    with sqlite_store.begin() as connection:
        audience.add(
            connection,
            workspace.key,
            "ana@example.com",
            now=clock.now(),
            first_name="Ana <3",
            fields={"city": "Köln"},
            segment="vip",
        )
        subscriber = audience.find(connection, "ana@example.com")
    ran = cli("render", "one", "--for", "Ana@EXAMPLE.com".replace("A", "a", 1), cwd=workspace)
    assert ran.code == 0, ran.err
    html = (workspace.var / "render" / "one.html").read_text()
    assert "Dear Ana &lt;3" in html
    assert "Köln" in html
    assert "For VIPs" in html
    assert "https://a.example/" not in html
    assert "http://127.0.0.1:8000/r/" in html
    token = recipient_token(workspace.key, 0, subscriber)
    assert f"http://127.0.0.1:8000/unsubscribe/{token}" in html
    assert "To: =?utf-8?q?Ana?=" in (workspace.var / "render" / "one.eml").read_text() or (
        b'"Ana <3"' in (workspace.var / "render" / "one.eml").read_bytes()
    )


def test_what_is_not_there_is_3_and_nothing_is_written(
    workspace: Workspace, write_issue: Callable[..., Issue], cli: Cli
) -> None:
    assert cli("render", "nope", "--json", cwd=workspace).code == 3
    write_issue("Text")
    ran = cli("render", "one", "--for", "no@body.example", "--json", cwd=workspace)
    assert (ran.code, ran.out) == (3, "")
    assert not (workspace.var / "render").exists()


def test_an_unknown_segment_and_a_folder_that_cannot_be_are_2(
    workspace: Workspace, write_issue: Callable[..., Issue], cli: Cli
) -> None:
    write_issue(":::: only {segment=nope}\nText\n::::")
    ran = cli("render", "one", cwd=workspace)
    assert ran.code == 2
    assert "issues/one/issue.md:5: no such segment: 'nope'" in ran.err
    write_issue("Text")
    ran = cli("render", "one", "--out", workspace.root / "newsletter.toml" / "x", cwd=workspace)
    assert ran.code == 2
    assert "--out" in ran.err
