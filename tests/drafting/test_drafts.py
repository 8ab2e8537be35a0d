"""Drafts made from content, the choice of content, and the list of issues."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from newsletter.clock import Clock
from newsletter.content import excerpt, load_item
from newsletter.drafting import (
    choose_content,
    draft_issue,
    issue_digest,
    load_issue,
    merge_fields,
    merge_sources,
    parse_issue,
    read_issue,
)
from newsletter.drafting.listing import list_states
from newsletter.drafting.wording import as_markdown, as_value, defused, quoted, yaml_line
from newsletter.errors import BadInput, Conflict, DoesNotHold, NotFound
from newsletter.store import Store
from newsletter.store.schema import (
    approvals,
    attempts,
    edition_items,
    editions,
    frozen_issues,
    send_sources,
    sends,
)
from newsletter.workspace import Workspace

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def write_content(workspace: Workspace, item: str, body: str, **front: Any) -> str:
    lines = [f"{key}: {json.dumps(value, default=str)}" for key, value in front.items()]
    path = workspace.content / f"{item}.md"
    path.write_text("\n".join(["---", *lines, "---", body]) + "\n", encoding="utf-8")
    return item


def write_article(
    workspace: Workspace, name: str, body: str = "", *, title: str = "", **values: Any
) -> str:
    text = body or f"All about {name}: {name} helps some people. However, {name} is not for all."
    return write_content(workspace, f"articles/{name}", text, title=title or f"On {name}", **values)


def write_tip(workspace: Workspace, name: str, body: str, **values: Any) -> str:
    return write_content(workspace, f"tips/{name}", body, title=f"Tip {name}", **values)


def write_draft(workspace: Workspace, slug: str, *sources: str) -> Path:
    folder = workspace.issues / slug
    folder.mkdir()
    blocks = "".join(f"::: excerpt {{from={source}}}\nx\n:::\n" for source in sources)
    (folder / "issue.md").write_text(f'---\nsubject: "S"\n---\n{blocks}', encoding="utf-8")
    return folder / "issue.md"


def send(store: Store, issue: str, sources: Sequence[str], state: str, at: datetime) -> int:
    with store.begin() as connection:
        if not connection.execute(frozen_issues.select()).first():
            frozen = {"sha256": "f", "issue": issue, "compiled": b"{}", "source_sha256": "s"}
            connection.execute(insert(frozen_issues).values(**frozen, created_at=NOW))
        row = {"send": f"{issue}.{state}", "issue": issue, "frozen": "f", "segment": "all"}
        added = connection.execute(
            insert(sends).values(**row, provider="main", state=state, at=at, created_at=at)
        )
        (key,) = added.inserted_primary_key or (0,)
        for source in sources:
            connection.execute(insert(send_sources).values(send_id=key, content=source))
    return int(key)


def edition(store: Store, issue: str, source: str, state: str) -> None:
    with store.begin() as connection:
        row = {"name": "weekly", "date": "2026-11-26T09", "send_at": NOW, "issue": issue}
        connection.execute(insert(editions).values(**row, state=state, updated_at=NOW))
        item = {"name": "weekly", "date": "2026-11-26T09", "content": source}
        connection.execute(insert(edition_items).values(**item))


def unsent(workspace: Workspace, store: Store, clock: Clock, **options: Any) -> tuple[str, ...]:
    return choose_content(workspace, store, clock, **options).unsent


def test_a_draft_of_named_content_reads_back_as_its_excerpts(
    workspace: Workspace, sqlite_store: Store, clock: Clock
) -> None:
    title = 'Do "needles" {{ help }}? 100 *stars* & <more>'
    body = (
        "Some *say* it helps &amp; soothes {{ self }}. However, it is not guaranteed {% here %}."
        "\n\n::: tip\n\nConsult a dermatologist."
    )
    article = write_article(workspace, "needles", body, title=title, source="https://a.example/x")
    tip = write_tip(workspace, "spf", "Wear **SPF 30+** every day.")
    drafted = draft_issue(workspace, sqlite_store, clock, "spring", sources=[tip, article])
    assert drafted.path == "issues/spring/issue.md"
    assert drafted.blocks == (("excerpt", article), ("tip", tip))
    issue = load_issue(workspace, "spring")
    assert issue.subject == 'Do "needles" { { help }}? 100 *stars* & <more>'
    shown = next(block for block in issue.blocks if block.type == "excerpt")
    assert shown.attributes["title"] == issue.subject
    assert shown.attributes["href"] == "https://a.example/x"
    wanted = excerpt(load_item(workspace, article, where=None)).text
    assert "not guaranteed" in wanted
    assert shown.body.replace("&#123;", "{").replace("\\:::", ":::") == wanted
    assert "default(" in issue.blocks[0].body
    button = next(block for block in issue.blocks if block.type == "button")
    assert button.attributes["href"] == "http://127.0.0.1:8000/"


_WILD = st.lists(
    st.sampled_from(
        [
            "{{",
            "{%",
            "}}",
            "```",
            "~~~",
            ":::",
            "\n",
            "\n\n",
            "> ",
            "- ",
            " ",
            "a",
            "\0",
            "\\",
            "{#",
        ]
    ),
    max_size=16,
).map("".join) | st.text(st.characters(codec="utf-8"))


@settings(deadline=None)
@given(_WILD)
def test_no_text_of_an_article_breaks_out_of_its_block(text: str) -> None:
    line = " ".join(text.split())
    source = (
        f"---\n{yaml_line('subject', as_value(line))}\n---\n{as_markdown(line)}\n\n"
        f"::: tip {{title={quoted(line)}}}\n{defused(text)}\n:::\n\nAfter.\n"
    )
    issue = parse_issue(source, "x", Path("x"), "x")
    assert [block.type for block in issue.blocks if block.type != "text"] == ["tip"]
    assert issue.blocks[-1].body == "After."
    assert not any(merge_fields(part, where=where) for part, where in merge_sources(issue))
    assert issue.subject == as_value(line)


def test_the_words_of_a_draft_follow_the_sites_language(
    make_workspace: Callable[..., Workspace], sqlite_store: Store, clock: Clock
) -> None:
    from support.site import SETTINGS

    german = make_workspace(settings=SETTINGS.replace("[sender]", 'language = "de"\n[sender]'))
    write_article(german, "eins")
    draft_issue(german, sqlite_store, clock, "heft", auto=True)
    assert load_issue(german, "heft").blocks[0].body.startswith("Hallo {{")


def test_auto_takes_the_newest_and_most_different_once_each(
    workspace: Workspace, sqlite_store: Store, clock: Clock
) -> None:
    milia = "Milia cysts beneath skin surface trouble needles collagen healing treatment. " * 3
    garden = "Compost beetroot tomatoes watering mulching seedlings greenhouse harvest. " * 3
    write_article(workspace, "milia-new", milia, published=date(2026, 11, 20))
    write_article(workspace, "milia-older", milia + "More.", published=date(2026, 11, 19))
    write_article(workspace, "garden", garden, published=date(2026, 11, 1))
    chosen = choose_content(workspace, sqlite_store, clock, excerpts=2, tips=0)
    assert [item.id for item in chosen.articles] == ["articles/milia-new", "articles/garden"]
    assert chosen.unsent == ("articles/milia-new", "articles/milia-older", "articles/garden")
    drafted = draft_issue(workspace, sqlite_store, clock, "a", auto=True, excerpts=2, tips=0)
    assert drafted.sources == ("articles/milia-new", "articles/garden")
    after = draft_issue(workspace, sqlite_store, clock, "b", auto=True, excerpts=2, tips=0)
    assert after.sources == ("articles/milia-older",)
    with pytest.raises(DoesNotHold, match="no unsent content"):
        draft_issue(workspace, sqlite_store, clock, "c", auto=True)
    assert not (workspace.issues / "c").exists()


def test_tips_come_from_tips_first_then_from_the_chosen_articles(
    workspace: Workspace, sqlite_store: Store, clock: Clock
) -> None:
    body = "Needles make holes in the skin surface. " * 14 + "\n\nAlways wear sunscreen afterwards."
    article = write_article(workspace, "needles", body)
    tip = write_tip(workspace, "water", "Drink some water in the morning.")
    drafted = draft_issue(workspace, sqlite_store, clock, "spring", auto=True)
    assert drafted.blocks == (("excerpt", article), ("tip", tip), ("tip", article))


def test_content_is_used_again_only_after_its_time(
    workspace: Workspace, sqlite_store: Store, clock: Clock
) -> None:
    names = ("sent", "old", "planned", "cancelled", "stopped")
    sent, old, planned, cancelled, stopped = (write_article(workspace, name) for name in names)
    for issue, source, state, at in (
        ("one", sent, "sent", NOW - timedelta(days=10)),
        ("two", old, "sent", NOW - timedelta(days=200)),
        ("three", planned, "scheduled", NOW + timedelta(days=3)),
        ("four", cancelled, "cancelled", NOW - timedelta(days=1)),
        ("five", stopped, "cancelled", NOW - timedelta(days=6)),
    ):
        write_draft(workspace, issue, source)
        key = send(sqlite_store, issue, [source], state, at)
    with sqlite_store.begin() as connection:  # a part of the last one had left
        row = {"id": "a", "send_id": key, "batch": 1, "number": 1, "provider": "main"}
        row |= {"positions": [[1, 1]], "body_sha256": "b", "state": "answered", "started_at": NOW}
        connection.execute(insert(attempts).values(**row))
    assert set(unsent(workspace, sqlite_store, clock)) == {old, cancelled}
    short = unsent(workspace, sqlite_store, clock, repeat_after=timedelta(days=5))
    assert set(short) == {sent, old, cancelled, stopped}


def test_drafts_and_editions_keep_their_content_until_they_are_skipped(
    workspace: Workspace, sqlite_store: Store, clock: Clock
) -> None:
    mine, theirs = write_article(workspace, "mine"), write_article(workspace, "theirs")
    write_draft(workspace, "manual", mine)
    write_draft(workspace, "weekly-2026-11-26", theirs)
    edition(sqlite_store, "weekly-2026-11-26", theirs, "drafted")
    assert unsent(workspace, sqlite_store, clock) == ()
    with sqlite_store.begin() as connection:
        connection.execute(editions.update().values(state="skipped"))
    assert unsent(workspace, sqlite_store, clock) == (theirs,)


def test_recalled_expired_excluded_and_other_topics_are_left_out(
    workspace: Workspace, sqlite_store: Store, clock: Clock
) -> None:
    good = write_article(workspace, "good", topics=["Skin"], review_by=date(2026, 11, 24))
    write_article(workspace, "late", topics=["skin"], review_by=date(2026, 11, 23))
    write_article(workspace, "recalled", topics=["skin"], recalled="wrong dose")
    other = write_article(workspace, "other", topics=["hair"])
    assert unsent(workspace, sqlite_store, clock, topics=["skin"]) == (good,)
    assert set(unsent(workspace, sqlite_store, clock)) == {good, other}
    assert unsent(workspace, sqlite_store, clock, exclude=[good]) == (other,)
    with pytest.raises(DoesNotHold, match="wrong dose"):
        draft_issue(workspace, sqlite_store, clock, "x", sources=["articles/recalled"])


def test_a_draft_that_cannot_be_made_leaves_nothing(
    workspace: Workspace, sqlite_store: Store, clock: Clock
) -> None:
    article = write_article(workspace, "one")

    def draft(slug: str, **options: Any) -> None:
        draft_issue(workspace, sqlite_store, clock, slug, **options)

    with pytest.raises(NotFound):
        draft("a", sources=["articles/none"])
    for slug in ("../x", "", "A", "a" * 101, "a/b", "-a"):
        with pytest.raises(BadInput):
            draft(slug, sources=[article])
    for subject in ("two\nlines", "{{ subscriber.emial }}", "a\x07b"):
        with pytest.raises(BadInput):
            draft("a", sources=[article], subject=subject)
    with pytest.raises(BadInput, match="made from content"):
        draft("a")
    assert list(workspace.issues.iterdir()) == []
    draft("a", sources=[article])
    before = (workspace.issues / "a" / "issue.md").read_bytes()
    with pytest.raises(Conflict):
        draft("a", sources=[article], subject="other")
    assert (workspace.issues / "a" / "issue.md").read_bytes() == before
    assert [path.name for path in (workspace.issues / "a").iterdir()] == ["issue.md"]


def test_loading_names_the_line_of_a_source_that_does_not_exist(workspace: Workspace) -> None:
    article = write_article(workspace, "one")
    write_draft(workspace, "spring", article, "articles/onee")
    with pytest.raises(BadInput, match=r"issues/spring/issue.md:7: .*articles/onee") as caught:
        load_issue(workspace, "spring")
    assert "articles/one" in caught.value.hint
    with pytest.raises(NotFound):
        load_issue(workspace, "autumn")


def test_an_issue_in_another_encoding_is_refused_with_its_line(workspace: Workspace) -> None:
    path = write_draft(workspace, "spring")
    path.write_bytes('---\nsubject: "x"\n---\nfür\n'.encode("latin-1"))
    with pytest.raises(BadInput, match=r"issues/spring/issue.md:4: .*UTF-8"):
        read_issue(workspace, "spring")


def test_the_digest_changes_with_the_text_and_with_an_image_but_not_with_a_swap_file(
    workspace: Workspace,
) -> None:
    path = write_draft(workspace, "spring")
    first = issue_digest(read_issue(workspace, "spring"))
    (path.parent / ".issue.md.swp").write_bytes(b"x")
    (path.parent / "issue.md~").write_bytes(b"x")
    assert issue_digest(read_issue(workspace, "spring")) == first
    (path.parent / "a.png").write_bytes(b"x")
    second = issue_digest(read_issue(workspace, "spring"))
    (path.parent / "a.png").write_bytes(b"y")
    third = issue_digest(read_issue(workspace, "spring"))
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    fourth = issue_digest(read_issue(workspace, "spring"))
    assert len({first, second, third, fourth}) == 4


def test_issues_are_listed_with_their_state_and_broken_ones_with_their_error(
    workspace: Workspace, sqlite_store: Store
) -> None:
    for slug in ("a-draft", "b-sent", "c-approved"):
        write_draft(workspace, slug)
    write_draft(workspace, "My issue")
    write_draft(workspace, "d-broken").write_text("---\nsubjekt: x\n---\n", encoding="utf-8")
    send(sqlite_store, "b-sent", [], "sent", NOW)
    with sqlite_store.begin() as connection:
        digest = issue_digest(read_issue(workspace, "c-approved"))
        frozen = {"issue": "c-approved", "compiled": b"{}", "source_sha256": digest}
        connection.execute(insert(frozen_issues).values(sha256="g", **frozen, created_at=NOW))
        approval = {"issue": "c-approved", "frozen": "g", "approved_by": "me", "at": NOW}
        connection.execute(insert(approvals).values(**approval))
    misnamed, *listed = list_states(workspace, sqlite_store)
    assert (misnamed.issue, misnamed.state) == ("My issue", "broken")
    assert "not a name for an issue" in (misnamed.error or "")
    assert [entry.state for entry in listed] == ["draft", "sent", "approved", "broken"]
    assert listed[1].send == "b-sent.sent"
    assert "issues/d-broken/issue.md:2: unknown key 'subjekt'" in (listed[3].error or "")
    path = workspace.issues / "c-approved" / "issue.md"
    path.write_text(path.read_text(encoding="utf-8") + "More.\n", encoding="utf-8")
    assert list_states(workspace, sqlite_store)[3].state == "draft"


def test_the_commands_print_the_contracts_json_and_exit_codes(
    workspace: Workspace, cli: Callable[..., Any]
) -> None:
    article = write_article(workspace, "one")
    made = cli("draft", "spring", "--from", article, "--json", cwd=workspace)
    assert (made.code, made.json) == (
        0,
        {
            "issue": "spring",
            "path": "issues/spring/issue.md",
            "blocks": [{"type": "excerpt", "from": article}],
        },
    )
    again = cli("draft", "spring", "--auto", "--json", cwd=workspace)
    assert (again.code, again.out) == (4, "")
    assert cli("draft", "../x", "--auto", cwd=workspace).code == 2
    (listed,) = cli("issues", "--json", cwd=workspace).json
    assert {"issue", "subject", "state", "audience", "path", "changed_at", "send"} <= set(listed)
    assert listed["changed_at"].endswith("Z")
    os.utime(workspace.root / made.json["path"], (0, 0))
    (listed,) = cli("issues", "--json", cwd=workspace).json
    assert listed["changed_at"] == "1970-01-01T00:00:00Z"
