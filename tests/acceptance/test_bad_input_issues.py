"""Bad issues, images and templates, through the command line: exit 2, the place, and a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from newsletter.workspace import Workspace

Cli = Callable[..., Any]
HEAD = '---\nsubject: "A subject"\n---\n'


def write(workspace: Workspace, text: str, slug: str = "milia") -> Path:
    folder = workspace.issues / slug
    folder.mkdir(exist_ok=True)
    (folder / "issue.md").write_text(text, encoding="utf-8")
    return folder


BAD_ISSUES = {
    "misspelt key": ('---\nsubjct: "x"\n---\nHello\n', 2, "Did you mean 'subject'"),
    "missing key": ("---\npreheader: x\n---\nHello\n", 1, "'subject' is missing"),
    "broken YAML": ('---\nsubject: "x\npreheader: [\n---\nHello\n', 2, "not YAML"),
    "no front matter": ("Hello\n", 1, "does not start with front matter"),
    "front matter left open": ("---\nsubject: x\nHello\n", 1, "is not closed"),
    "line break in the subject": ('---\nsubject: "a\\nb"\n---\nHello\n', 2, "line break"),
    "unknown block": (HEAD + "::: tipp\nx\n:::\n", 4, "Did you mean 'tip'"),
    "unknown source": (HEAD + "::: tip {from=tips/none}\nx\n:::\n", 4, "no content 'tips/none'"),
    "source outside": (HEAD + "::: tip {from=../../etc/passwd}\nx\n:::\n", 4, "no content"),
    "unknown field": (HEAD + "\n{{ subscriber.frist_name }}\n", 5, "subscriber.first_name"),
    "unknown filter": (HEAD + "{{ subscriber.email | uper }}\n", 4, "Did you mean 'upper'"),
    "attribute of a literal": (HEAD + "{{ ''.__class__ }}\n", 4, "only a field"),
    "a loop": (HEAD + "{% for i in range(10**9) %}x{% endfor %}\n", 4, "no Jinja code"),
    "a huge text": (HEAD + '{{ "a"*10**9 }}\n', 4, "only a field"),
    "a field left open": (HEAD + "{{ subscriber.email\n", 4, "not closed"),
    "filters without end": (HEAD + "{{ subscriber.email" + "|upper" * 1_000 + " }}\n", 4, "300"),
    "blocks 10,000 deep": (HEAD + "::: columns\n" * 10_000, 5, "colons"),
    "quotes 10,000 deep": (HEAD + "> " * 10_000 + "x\n", 4, "nested more than 20 deep"),
}


@pytest.mark.parametrize("case", BAD_ISSUES)
def test_an_issue_that_cannot_be_read_names_its_line(
    cli: Cli, workspace: Workspace, case: str
) -> None:
    text, line, words = BAD_ISSUES[case]
    folder = write(workspace, text)
    ran = cli("render", "milia", "--json", cwd=workspace, timeout=30)
    assert (ran.code, ran.out) == (2, "")
    assert f"issues/milia/issue.md:{line}: " in ran.err
    assert words in ran.err
    assert (folder / "issue.md").read_text(encoding="utf-8") == text
    assert not (workspace.var / "render").exists()


@pytest.mark.parametrize("text", [HEAD + "x" * 5_000_000, HEAD + "{{ subscriber.email }}" * 20_000])
def test_an_issue_that_is_far_too_long_is_refused(
    cli: Cli, workspace: Workspace, text: str
) -> None:
    write(workspace, text)
    ran = cli("render", "milia", cwd=workspace, timeout=30)
    assert ran.code == 2
    assert "issues/milia/issue.md: " in ran.err


@pytest.mark.parametrize("slug", ["../x", "", "UPPER", "a/b", ".", "a" * 300, "a\nb", "ä"])
def test_a_slug_that_could_leave_its_folder_is_refused(
    cli: Cli, workspace: Workspace, slug: str
) -> None:
    before = sorted(workspace.root.parent.rglob("*"))
    ran = cli("draft", slug, "--subject", "S", "--json", cwd=workspace)
    assert (ran.code, ran.out) == (2, "")
    assert "small letters, digits and hyphens" in ran.err
    made = set(workspace.root.parent.rglob("*")) - set(before)
    assert all(workspace.var in path.parents for path in made)  # the database, nothing else


def big(path: Path) -> None:
    path.write_bytes(b"\xff\xd8" + bytes(6_000_000))


def bomb(path: Path) -> None:
    from PIL import Image

    Image.new("1", (20_000, 20_000)).save(path, "PNG")


def cut(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (300, 300)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:700])


IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such image"),
    "over 5 MB": (big, "5 MB"),
    "a decompression bomb": (bomb, "million pixels"),
    "cut off": (cut, "no image that can be read"),
    "no image": (lambda path: path.write_text("hello"), "no image that can be read"),
    "empty": (lambda path: path.touch(), "no image that can be read"),
    "a folder": (lambda path: path.mkdir(), "no such image"),
    "a link out": (lambda path: path.symlink_to("/etc/passwd"), "outside the issue's folder"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be read"),
    "a link to no end": (lambda path: path.symlink_to("/dev/zero"), "outside"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_an_image_that_cannot_be_used_is_named_by_render_and_check(
    cli: Cli, workspace: Workspace, case: str
) -> None:
    make, words = IMAGES[case]
    folder = write(workspace, HEAD + '\n::: image {src=roller.jpg alt="A roller"}\n:::\n')
    make(folder / "roller.jpg")
    ran = cli("render", "milia", cwd=workspace, timeout=30)
    assert ran.code == 2
    assert "issues/milia/issue.md:5: " in ran.err
    assert "roller.jpg" in ran.err
    assert words in ran.err
    checked = cli("check", "milia", "--offline", cwd=workspace, timeout=30)
    assert checked.code in (1, 2)
    assert "issues/milia/issue.md:5" in checked.out + checked.err


BODY = "<mjml><mj-body>\n{}\n</mj-body></mjml>"
TEMPLATES = {
    "never closed": ("<mjml><mj-body>", 1, "never closed"),
    "unknown component": (BODY.format("<mj-txt>x</mj-txt>"), 2, "unknown component"),
    "unknown name": (BODY.format("{{ nope.foo }}"), 2, "'nope' is undefined"),
    "syntax error": (BODY.format("{% if %}"), 2, "cannot be rendered"),
    "include of itself": (BODY.format('{% include "own.mjml.j2" %}'), 2, "without end"),
    "child of itself": ('{% extends "own.mjml.j2" %}', 1, "without end"),
    "calls itself": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", 1, "without end"),
    "include outside": (BODY.format('{% include "../../x" %}'), 2, "no such template"),
    "mj-include of itself": (BODY.format('<mj-include path="own.mjml.j2" />'), 2, "mj-include"),
    "a loop of 10^9": ("{% for i in range(1000000000) %}x{% endfor %}", 1, "'range'"),
    "a huge text": ('{{ "a" * 1000000000 }}', 1, "not allowed"),
    "private attribute": ("{{ ''.__class__.__mro__ }}", 1, "unsafe"),
    "elements 10,000 deep": (
        BODY.format(
            f"<mj-section><mj-column><mj-text>{'<div>' * 10_000}{'</div>' * 10_000}"
            "</mj-text></mj-column></mj-section>"
        ),
        2,
        "nested more than 100 deep",
    ),
    "parentheses 10,000 deep": ("{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}", None, "without"),
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_a_template_at_fault_is_named_with_its_line(
    cli: Cli, workspace: Workspace, case: str
) -> None:
    source, line, words = TEMPLATES[case]
    (workspace.templates / "own.mjml.j2").write_text(source, encoding="utf-8")
    write(workspace, HEAD.replace("subject", "template: own\nsubject", 1) + "Hello\n")
    ran = cli("render", "milia", cwd=workspace, timeout=30)
    assert ran.code == 2, ran
    place = "templates/own.mjml.j2" + (f":{line}" if line else "")
    assert f"{place}: " in ran.err
    assert words in ran.err
    assert not (workspace.var / "render").exists()


def test_a_template_that_is_not_there_is_named_with_those_there_are(
    cli: Cli, workspace: Workspace
) -> None:
    write(workspace, HEAD.replace("subject", "template: gone\nsubject", 1) + "Hello\n")
    ran = cli("render", "milia", cwd=workspace)
    assert ran.code == 2
    assert "issues/milia/issue.md:2: no such template: 'gone'" in ran.err
    assert "default, plain" in ran.err
