"""The audience commands as the contract has them: JSON, exit codes, nothing half done."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from newsletter.settings import load_settings
from newsletter.store import open_store
from newsletter.workspace import Workspace
from support.site import ROOT

Cli = Callable[..., Any]

HOSTILE = ["=1+1", "+44 20", "-5", "@cmd", "\tx", "'=1+1", "''", "plain", "O'Neill"]


def imported(cli: Cli, workspace: Workspace, content: str, *options: str) -> Any:
    (workspace.root / "people.csv").write_bytes(content.encode())
    return cli("audience", "import", "people.csv", *options, "--json", cwd=workspace)


def test_import_reports_exactly_the_contracts_counts(cli: Cli, workspace: Workspace) -> None:
    ran = imported(cli, workspace, "email\nann@example.com\nnobody\n", "--consent", "fair")
    assert ran.code == 0
    assert list(ran.json) == ["read", "added", "updated", "unchanged", "suppressed", "rejected"]
    assert ran.json["rejected"][0]["line"] == 3
    assert set(ran.json["rejected"][0]) == {"line", "email", "reason"}
    assert (ran.json["read"], ran.json["added"]) == (2, 1)
    assert ran.err == ""


def test_a_file_that_cannot_be_imported_is_2_and_names_the_line(
    cli: Cli, workspace: Workspace
) -> None:
    ran = imported(cli, workspace, "email,Email\na@example.com,b@example.com\n")
    assert (ran.code, ran.out) == (2, "")
    assert "people.csv:1" in ran.err
    missing = cli("audience", "import", "nothing.csv", "--json", cwd=workspace)
    assert (missing.code, missing.out) == (2, "")
    reserved = imported(cli, workspace, "email\na@example.com\n", "--segment", "all")
    assert (reserved.code, reserved.out) == (2, "")


def test_one_person_is_added_shown_suppressed_and_forgotten(cli: Cli, workspace: Workspace) -> None:
    added = cli(
        *("audience", "add", "Ann@EXAMPLE.com", "--first-name", "Ann", "--field", "Shoe size=38"),
        *("--consent", "by phone", "--segment", "vip", "--json"),
        cwd=workspace,
    )
    assert added.code == 0
    shown = cli("audience", "show", "ANN@example.com", "--json", cwd=workspace)
    assert shown.json == added.json
    assert shown.json["email"] == "Ann@example.com"
    assert (shown.json["state"], shown.json["segments"]) == ("active", ["vip"])
    assert shown.json["fields"] == {"shoe_size": "38"}
    assert shown.json["consent"][0] | {"at": ""} == {
        "at": "",
        "how": "editor",
        "text": "by phone",
        "details": {},
    }
    assert cli("audience", "add", "ann@example.com", "--json", cwd=workspace).code == 4
    assert cli("audience", "segments", "--json", cwd=workspace).json == [
        {"name": "all", "size": 1},
        {"name": "vip", "size": 1},
    ]
    suppress = ("audience", "suppress", "ann@example.com", "--reason", "asked", "--json")
    assert cli(*suppress, cwd=workspace).code == 0
    assert cli("audience", "show", "ann@example.com", "--json", cwd=workspace).json[
        "suppressed"
    ] == ("asked")
    assert cli("audience", "segments", "--json", cwd=workspace).json[0]["size"] == 0
    assert cli("audience", "forget", "ann@example.com", "--json", cwd=workspace).code == 0
    for command in ("show", "forget"):
        gone = cli("audience", command, "ann@example.com", "--json", cwd=workspace)
        assert (gone.code, gone.out) == (3, "")


def test_a_stranger_can_be_suppressed_and_is_not_added_later(
    cli: Cli, workspace: Workspace
) -> None:
    stranger = "stranger@example.com"
    suppress = ("audience", "suppress", stranger, "--reason", "a judge said so", "--json")
    assert cli(*suppress, cwd=workspace).code == 0
    assert imported(cli, workspace, f"email\n{stranger.upper()}\n").json["suppressed"] == 1
    assert cli("audience", "add", stranger, cwd=workspace).code == 4
    assert cli("audience", "show", stranger, cwd=workspace).code == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "nobody"),
        ("add", "ann@example.com", "--field", "novalue"),
        ("show", "nobody@"),
        ("suppress", "ann@example.com"),
        ("import",),
    ],
)
def test_bad_usage_is_2_and_prints_no_json(
    cli: Cli, workspace: Workspace, arguments: tuple[str, ...]
) -> None:
    ran = cli("audience", *arguments, "--json", cwd=workspace)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err


def test_exported_cells_are_defused_and_come_back_as_they_were(
    cli: Cli, workspace: Workspace, make_workspace: Callable[..., Workspace]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["email", "first_name", "topics", "state", "Note"])
    for number, value in enumerate(HOSTILE):
        writer.writerow([f"+r{number}@example.com", f"N{value}", "a;b", "Ohio", f"x{value}"])
        writer.writerow([f"s{number}@example.com", value, "", "", value])
    imported(cli, workspace, text.getvalue(), "--consent", "fair", "--segment", "vip")
    first = cli("audience", "export", cwd=workspace)
    assert first.code == 0
    rows = list(csv.reader(io.StringIO(first.out, newline="")))
    assert len(rows) == 2 * len(HOSTILE) + 1
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t"))]
    record = dict(zip(rows[0], rows[1], strict=True))
    assert record["email"] == "'+r0@example.com"
    assert (record["state"], record["fields.state"], record["segments"]) == (
        "active",
        "Ohio",
        "vip",
    )

    again = imported(cli, workspace, first.out)
    assert again.json["unchanged"] == 2 * len(HOSTILE)
    other = make_workspace(name="other")
    assert imported(cli, other, first.out, "--consent", "moved").json["added"] == 2 * len(HOSTILE)
    second = cli("audience", "export", cwd=other)
    assert people_of(second.out) == people_of(first.out)


def people_of(exported: str) -> list[dict[str, str]]:
    """The exported rows without what an import does not take over."""
    rows = list(csv.DictReader(io.StringIO(exported, newline="")))
    for row in rows:
        del row["segments"], row["created_at"]
    return rows


def test_an_export_to_a_file_is_whole_or_not_there(cli: Cli, workspace: Workspace) -> None:
    imported(cli, workspace, "email\nann@example.com\n")
    ran = cli("audience", "export", "--out", "out.csv", cwd=workspace)
    assert (ran.code, ran.out) == (0, "")
    assert (workspace.root / "out.csv").read_bytes().startswith(b"email,first_name,last_name,")
    bad = cli("audience", "export", "--out", "no/such/folder/out.csv", cwd=workspace)
    assert bad.code == 2
    assert [path.name for path in workspace.root.glob("*out.csv*")] == ["out.csv"]


def test_an_export_as_json_is_one_document(cli: Cli, workspace: Workspace) -> None:
    assert cli("audience", "export", "--json", cwd=workspace).json == []
    imported(cli, workspace, "email,city\nann@example.com,=1+1\nbob@example.com,Köln\n")
    people = cli("audience", "export", "--json", cwd=workspace).json
    assert [(p["email"], p["fields"]) for p in people] == [
        ("ann@example.com", {"city": "=1+1"}),
        ("bob@example.com", {"city": "Köln"}),
    ]


@pytest.mark.slow
def test_a_hundred_thousand_rows_go_in_and_out_in_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "newsletter.toml").write_text('[site]\nname = "x"\n')
    with (tmp_path / "big.csv").open("w") as file:
        file.write("email,first_name,last_name,topics,Skin type\n")
        for number in range(100_000):
            file.write(f"reader{number}@example{number % 50}.com,Name,Last{number},spf;oil,dry\n")
    assert load_settings(tmp_path / "newsletter.toml")
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'newsletter', *sys.argv[1:]], check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\n"
    )

    def run(*arguments: str) -> tuple[str, int]:
        """What the command printed, and its peak memory in MB."""
        done = subprocess.run(
            [sys.executable, "-c", script, "audience", *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True,
            check=True,
            text=True,
        )
        return done.stdout, int(done.stderr.split()[-1]) // 1024

    out, peak = run("import", "big.csv", "--consent", "fair", "--json")
    assert json.loads(out)["added"] == 100_000
    assert peak < 200
    _, peak = run("export", "--out", "out.csv")
    assert peak < 200
    with (tmp_path / "out.csv").open() as file:
        assert sum(1 for _ in file) == 100_001
    store = open_store("sqlite:///var/newsletter.db", tmp_path)
    store.close()
