"""Bad sources, lists of people, times and settings, through the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from newsletter.workspace import Workspace

Cli = Callable[..., Any]


def loop(path: Path) -> None:
    path.symlink_to(path.name)


SOURCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "empty": (lambda path: path.touch(), "empty"),
    "binary": (lambda path: path.write_bytes(b"\x00\x01" * 900), "binary"),
    "Latin-1": (lambda path: path.write_bytes("One line.\ncafé\n".encode("latin-1")), "line 2"),
    "an empty folder": (lambda path: path.mkdir(), "folder is empty"),
    "a pipe": (lambda path: os.mkfifo(path), "not a regular file"),
    "a link to itself": (loop, "no such file"),
    "too large": (lambda path: path.write_text("word " * 1_100_000), "fetch.max_bytes"),
    "broken YAML": (lambda path: path.write_text("---\ntitle: [\n---\nx\n"), "source.md:2"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_a_source_that_cannot_be_read_adds_nothing(
    cli: Cli, workspace: Workspace, case: str
) -> None:
    make, words = SOURCES[case]
    make(workspace.root / "source.md")
    ran = cli("content", "add", "source.md", "--json", cwd=workspace, timeout=30)
    assert (ran.code, ran.out) == (2, "")
    assert "source.md" in ran.err
    assert words in ran.err
    assert not list(workspace.content.rglob("*.md"))


def test_a_source_without_a_name_is_not_the_folder_one_stands_in(
    cli: Cli, workspace: Workspace
) -> None:
    (workspace.root / "notes.txt").write_text("A Title\n\nSome words stand here.\n")
    assert cli("content", "add", "", cwd=workspace).code == 2
    assert not list(workspace.content.rglob("*.md"))


LISTS = {
    "empty": (b"", ":1: the file is empty"),
    "no header": (b"a@b.example,Ann\n", ":1: no column `email`"),
    "a column twice": (b"email,x,x\na@b.example,1,2\n", ":1: the column `x` is there twice"),
    "the address twice": (b"email,Email\na@b.example,b@b.example\n", "is there twice"),
    "wrong encoding": ("email,first_name\na@b.example,René\n".encode("latin-1"), ":2: byte 33"),
    "half a UTF-16 file": (b"\xff\xfee\x00m", "UTF-16"),
    "no CSV at all": (bytes(range(256)) * 40, ":"),
    "far too many columns": (b"email" + b",c" * 2_000 + b"\n", ":1: 2001 columns"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_that_cannot_be_read_imports_nobody(
    cli: Cli, workspace: Workspace, case: str
) -> None:
    content, words = LISTS[case]
    (workspace.root / "people.csv").write_bytes(content)
    ran = cli("audience", "import", "people.csv", "--consent", "x", "--json", cwd=workspace)
    assert (ran.code, ran.out) == (2, "")
    assert "people.csv" in ran.err
    assert words in ran.err
    assert "Nothing was imported" in ran.err
    assert cli("audience", "export", cwd=workspace).out.count("@") == 0


@pytest.mark.parametrize("file", [".", "missing.csv", "/dev/zero"])
def test_what_is_no_file_is_not_read_as_a_list(cli: Cli, workspace: Workspace, file: str) -> None:
    ran = cli("audience", "import", file, cwd=workspace, timeout=30)
    assert ran.code == 2
    assert f"{file}: cannot be read" in ran.err


@pytest.mark.parametrize("command", ["add", "show", "forget", "suppress"])
def test_an_argument_that_is_no_address_is_quoted(
    cli: Cli, workspace: Workspace, command: str
) -> None:
    reason = ["--reason", "x"] if command == "suppress" else []
    for text in ("", "ann", "a" * 5_000 + "@b.example"):
        ran = cli("audience", command, text, *reason, "--json", cwd=workspace)
        assert (ran.code, ran.out) == (2, "")
        assert f"EMAIL: '{text[:20]}" in ran.err
        assert len(ran.err) < 400
    assert not (workspace.var / "newsletter.db").exists()


def test_lists_of_other_makes_are_read(cli: Cli, workspace: Workspace) -> None:
    wide = ",".join(["email", *(f"c{number}" for number in range(199))])
    for content in (
        b"\xef\xbb\xbfemail;first_name\none@b.example;Ann\n",
        b"email\tfirst_name\ntwo@b.example\tAnn\n",
        "email,first_name\nthree@b.example,René\n".encode("utf-16"),
        b"email\rfour@b.example\r",
        f"{wide}\nfive@b.example{',v' * 199}\n".encode(),
    ):
        (workspace.root / "people.csv").write_bytes(content)
        ran = cli("audience", "import", "people.csv", "--consent", "x", "--json", cwd=workspace)
        assert (ran.code, ran.json["added"], ran.json["rejected"]) == (0, 1, [])


def test_a_quote_gone_wrong_loses_its_own_row_alone(cli: Cli, workspace: Workspace) -> None:
    (workspace.root / "people.csv").write_text(
        'email,first_name\none@b.example,"Ann\ntwo@b.example,Bo\nthree@b.example,"C"\n'
        'four@b.example,""D"\nnobody,x\nfive@b.example\nsix@b.example,\x00\n'
    )
    ran = cli("audience", "import", "people.csv", "--consent", "x", "--json", cwd=workspace)
    assert (ran.code, ran.json["added"]) == (0, 2)
    assert [row["line"] for row in ran.json["rejected"]] == [2, 5, 6, 7, 8]
    assert all(row["reason"] for row in ran.json["rejected"])


TIMES = {
    "2026-02-28 10:00": "is in the past",
    "2026-03-29 01:30": "does not exist in Europe/London",
    "2026-10-25 01:30": "comes twice in Europe/London",
    "soon": "not a time",
    "": "not a time",
    "2026-02-30 10:00": "not a time",
    "2026-03-05": "a time of day is missing",
    "9999-12-31T23:59-12:00": "reckoned with",
}


def test_a_time_that_cannot_be_meant_schedules_nothing(cli: Cli, workspace: Workspace) -> None:
    now = {"NEWSLETTER_NOW": "2026-03-01T09:00:00Z"}
    assert cli("draft", "milia", "--subject", "S", cwd=workspace).code == 0
    for time, words in TIMES.items():
        ran = cli("schedule", "milia", "--at", time, "--offline", cwd=workspace, env=now)
        assert (ran.code, ran.out) == (2, ""), (time, ran)
        assert words in ran.err
        assert "\n  " in ran.err  # what to do
    assert cli("status", "--json", cwd=workspace).json == []


def test_scheduling_twice_is_a_conflict_and_keeps_the_first(cli: Cli, workspace: Workspace) -> None:
    assert cli("draft", "milia", "--subject", "S", cwd=workspace).code == 0
    issue = workspace.issues / "milia" / "issue.md"
    issue.write_text(issue.read_text() + "\nHello\n")
    first = cli("schedule", "milia", "--at", "2090-01-05 10:00", "--offline", cwd=workspace)
    assert first.code == 0, first
    for command in (["schedule", "milia", "--at", "2091-01-05 10:00"], ["send", "milia"]):
        ran = cli(*command, "--offline", "--json", cwd=workspace)
        assert (ran.code, ran.out) == (4, "")
        assert "scheduled already, as milia.1" in ran.err
    [send] = cli("status", "--json", cwd=workspace).json
    assert (send["state"], send["at"]) == ("scheduled", "2090-01-05T10:00:00Z")


SETTINGS = {
    "unknown section": ("[sitee]\nx = 1\n", "sitee: unknown key"),
    "unknown key": ("[delivery]\ngrce = '1h'\n", "delivery.grce: unknown key"),
    "wrong type": ("[delivery]\ngrace = 6\n", "delivery.grace: write a duration"),
    "endless duration": ("[delivery]\ngrace = '99999999999999w'\n", "delivery.grace: "),
    "no duration": ("[delivery]\nlease = '0s'\n", "delivery.lease: "),
    "port": ("[web]\nport = 99999\n", "web.port: "),
    "broken TOML": ("[broken\n", "at line 18"),
    "nested 10,000 deep": ("a = " + "[" * 10_000 + "]" * 10_000, "nested too deeply"),
    "a secret written out": (
        "[[providers]]\nname = 'p'\nkind = 'postmark'\napi_key = 'literal-secret'\n",
        "providers.1: api_key: a secret is not written here",
    ),
    "a provider twice": ("[[providers]]\nname = 'main'\nkind = 'mailbox'\n", "given twice"),
    "a feed's address": ("[[feeds]]\nurl = 'http://a:99999999'\n", "feeds.0.url: write a whole"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_are_wrong_name_the_key(cli: Cli, workspace: Workspace, case: str) -> None:
    text, words = SETTINGS[case]
    with (workspace.root / "newsletter.toml").open("a", encoding="utf-8") as file:
        file.write(text)
    ran = cli("status", "--json", cwd=workspace)
    assert (ran.code, ran.out) == (2, "")
    assert "newsletter.toml: " in ran.err
    assert words in ran.err
    assert "literal-secret" not in ran.err
    assert not (workspace.var / "newsletter.db").exists()


VARIABLES = {
    ("NEWSLETTER_SITEE__NAME", "x"): "NEWSLETTER_SITEE__NAME: the settings have no section",
    ("newsletter_sitee__name", "x"): "the settings have no section 'sitee'",
    ("NEWSLETTER_SITE__NAM", "x"): "site.nam: unknown key",
    ("NEWSLETTER_WEB__PORT", "abc"): "(from NEWSLETTER_WEB__PORT in the environment)",
    ("NEWSLETTER_SITE", "x"): "in the environment",
    ("NEWSLETTER_SITE__TIMEZONE", "Mars"): "site.timezone: no such time zone",
    ("NEWSLETTER_SENDER__NAME", "a\nb"): "sender.name: must be one line",
    ("NEWSLETTER_NOW", "soon"): "NEWSLETTER_NOW is not an ISO 8601 time",
    ("NEWSLETTER_WORKSPACE", "/nowhere"): "/nowhere is no workspace",
}


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_that_is_wrong_is_named(
    cli: Cli, workspace: Workspace, variable: tuple[str, str]
) -> None:
    name, value = variable
    ran = cli("status", "--json", cwd=workspace, env={name: value})
    assert (ran.code, ran.out) == (2, "")
    assert VARIABLES[variable] in ran.err


def test_an_edition_that_never_comes_is_named(cli: Cli, workspace: Workspace) -> None:
    with (workspace.root / "newsletter.toml").open("a", encoding="utf-8") as file:
        file.write('[[editions]]\nname = "weekly"\ncron = "0 9 * * foo"\n')
    for command in (["editions"], ["scheduler", "--until-idle"]):
        ran = cli(*command, cwd=workspace)
        assert ran.code == 2
        assert "newsletter.toml: editions.weekly.cron" in ran.err


def test_settings_saved_with_a_byte_order_mark_are_read(cli: Cli, workspace: Workspace) -> None:
    path = workspace.root / "newsletter.toml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert cli("status", "--json", cwd=workspace).json == []
