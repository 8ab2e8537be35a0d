"""`content add`, `list` and `remove` as a script sees them: JSON, messages, exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from newsletter.workspace import Workspace

SEED = Path(__file__).parent.parent / "data" / "seed.txt"


def test_add_list_and_remove(cli: Any, workspace: Workspace) -> None:
    (workspace.root / "seed.txt").write_bytes(SEED.read_bytes())
    ran = cli("content", "add", "seed.txt", "--json", cwd=workspace)
    assert ran.code == 0, ran.err
    added = ran.json
    assert set(added) == {
        "added",
        "unchanged",
        "duplicates",
        "calls_to_action",
        "uncertain",
        "rejected",
    }
    first = added["added"][0]
    assert set(first) == {"id", "kind", "title", "words", "source", "path"}
    assert first["source"] == "seed.txt#L1-L4"
    assert (workspace.root / first["path"]).is_file()
    assert {"id", "of", "similarity", "passages"} == set(added["duplicates"][0])
    issue = workspace.issues / "one" / "issue.md"
    issue.parent.mkdir()
    issue.write_text(f"::: excerpt {{from={first['id']}}}\n:::\n")
    listed = cli("content", "list", "--json", cwd=workspace).json
    assert [row["used_in"] for row in listed if row["id"] == first["id"]] == [["one"]]
    assert len(listed) == 4
    assert cli("content", "remove", first["id"], cwd=workspace).code == 4
    assert cli("content", "remove", listed[-1]["id"], "--json", cwd=workspace).code == 0
    assert cli("content", "remove", listed[-1]["id"], cwd=workspace).code == 3
    assert cli("content", "remove", "../newsletter", cwd=workspace).code == 2


def test_people_are_told_too(cli: Any, workspace: Workspace) -> None:
    ran = cli("content", "add", SEED, cwd=workspace)
    assert ran.code == 0
    assert "Get updated with beauty resources" in ran.out
    assert "understanding-microneedling" in cli("content", "list", cwd=workspace).out


def test_nothing_readable_is_bad_input(cli: Any, workspace: Workspace) -> None:
    ran = cli("content", "add", "none.txt", "--json", cwd=workspace)
    assert (ran.code, ran.out) == (2, "")
    assert "none.txt" in ran.err
    ran = cli("content", "add", "none.txt", SEED, "--json", cwd=workspace)
    assert ran.code == 0
    assert ran.json["rejected"] == [{"source": "none.txt", "reason": "there is no such file"}]
    assert cli("content", "add", SEED, "--split-at", "5,x", cwd=workspace).code == 2
    assert cli("content", "add", SEED, "--split-at", "999", cwd=workspace).code == 2


def test_a_faulty_file_is_named(cli: Any, workspace: Workspace) -> None:
    (workspace.content / "tips" / "bad.md").write_text("---\ntitel: x\n---\nText\n")
    ran = cli("content", "list", "--json", cwd=workspace)
    assert (ran.code, ran.out) == (2, "")
    assert "content/tips/bad.md:2" in ran.err
    assert "title" in ran.err


def test_no_name_is_cut_or_broken_on_a_narrow_terminal(cli: Any, workspace: Workspace) -> None:
    slug = "-".join(["a-very-long-name-that-somebody-wants-to-copy"] * 2)
    item = workspace.content / "articles" / f"{slug}.md"
    item.write_text(f"---\ntitle: {'A title of many words ' * 6}\n---\nText.\n")
    issue = workspace.issues / slug / "issue.md"
    issue.parent.mkdir()
    issue.write_text("---\nsubject: S\n---\nText.\n")
    assert f"articles/{slug}\n" in cli("content", "list", cwd=workspace).out
    listed = cli("issues", cwd=workspace).out
    assert f"{slug}\n" in listed
    assert "draft" in listed
    drafted = cli("draft", "b", "--from", f"articles/{slug}", cwd=workspace).out
    assert f"articles/{slug}\n" in drafted
