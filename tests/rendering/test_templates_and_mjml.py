"""Faulty templates: each is a message with template and line, and none ends the process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from mjml import mjml2html

from newsletter.drafting import Issue
from newsletter.errors import BadInput
from newsletter.rendering import compile_issue
from newsletter.rendering.components import components
from newsletter.rendering.theme import Palette
from newsletter.rendering.views import View
from newsletter.workspace import Workspace

ROOT = Path(__file__).parents[2]

START = "<mjml>\n<mj-body>\n<mj-section>\n<mj-column>\n"  # what is put in stands in line 5
END = "\n</mj-column>\n</mj-section>\n</mj-body>\n</mjml>\n"


@pytest.fixture
def compile_with(workspace: Workspace, write_issue: Callable[..., Issue]) -> Callable[..., str]:
    """Compile an issue whose template is `source`; returns the HTML."""

    def run(source: str, body: str = "Text", **files: str) -> str:
        (workspace.templates / "own.mjml.j2").write_text(source, encoding="utf-8")
        for name, content in files.items():
            (workspace.templates / f"{name}.mjml.j2").write_text(content, encoding="utf-8")
        issue = write_issue(body, front="template: own\n")
        return "".join(
            part
            for part in compile_issue(workspace, issue).compiled.variants[""].html
            if isinstance(part, str)
        )

    return run


def fault(compile_with: Callable[..., str], source: str, **files: str) -> str:
    with pytest.raises(BadInput) as caught:
        compile_with(source, **files)
    return str(caught.value)


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("<mj-txt>a</mj-txt>", "unknown component <mj-txt>\n  Did you mean <mj-text>?"),
        ('<mj-text colour="#fff">a</mj-text>', "<mj-text> has no attribute 'colour'"),
        ('<mj-text color="12px">a</mj-text>', "color='12px' is no such value"),
        ('<mj-text font-size="big">a</mj-text>', "font-size='big' is no such value"),
        ('<mj-text align="middle">a</mj-text>', "Write one of: left, right, center, justify."),
        ('<mj-image src="a" fluid-on-mobile="yes" />', "Write true or false."),
        ("<mj-section></mj-section>", "<mj-section> cannot stand in <mj-column>"),
        ("<mj-text><mj-text>a</mj-text></mj-text>", "<mj-text> cannot stand in <mj-text>"),
        ("<mj-spacer />stray", "text 'stray' stands directly in <mj-column>"),
        ("<mj-spacer />{{ blocks[0].html }}", "a block's HTML stands directly in <mj-column>"),
        ("<p>a</p>", "<p> directly in <mj-column>"),
        ("<mj-text><p>a</mj-text>", "</mj-text> where </p> is due"),
        ("<mj-text>a</p></mj-text>", "</p> where </mj-text> is due"),
        ("<mj-text>a", "</mj-column> where </mj-text> is due"),
        ("<mj-text>1 <a</mj-text>", "a tag that cannot be read"),
        ('<mj-text align="left>a</mj-text>', "a tag that cannot be read"),
        ("<mj-text align=left>a</mj-text>", "that cannot be read"),
        ('<mj-text align="left" align="right">a</mj-text>', "align is given twice"),
        ('<mj-include path="x.mjml" />', "mj-include is not used here"),
        ('<mj-html-attributes />', "unknown component"),
        ("{{ nothing }}", "'nothing' is undefined"),
        ("{{ site.nothing }}", "has no attribute 'nothing'"),
        ("{% for %}", "Expected"),
        ("{{ 'a' * 1000000000 }}", "'*' is not allowed"),
        ("{{ 10 ** 10 ** 10 }}", "'**' is not allowed"),
        ("{{ 'a'.ljust(1000000000) }}", "not safely callable"),
        ("{{ ''.__class__ }}", "unsafe"),
        ("{{ range(10) }}", "'range' is undefined"),
        ("{% include 'nowhere.mjml.j2' %}", "no such template to include: 'nowhere.mjml.j2'"),
        ("{% include '../../newsletter.toml' %}", "no such template to include"),
        ("{{ 1 / 0 }}", "division by zero"),
        ('<mj-text><p style="color">a</p></mj-text>', "the style of <p> cannot be read: 'color'"),
        ('<mj-text><p title="{{ blocks[0].html }}">a</p></mj-text>', "stands within a tag"),
        ('<mj-text><p style="a: {{ links.preferences }}">a</p></mj-text>', "attribute 'style'"),
        ("<mj-text><p {{ links.preferences }}>a</p></mj-text>", "outside an attribute's quotes"),
        ("{{ 'x' | truncate(-1) }}", "expected length"),
    ],
)  # fmt: skip
def test_a_fault_names_template_and_line(
    compile_with: Callable[..., str], inside: str, message: str
) -> None:
    told = fault(compile_with, START + inside + END)
    assert message in told
    line = 6 if "is due" in message and "mj-column" in message.split(" where")[0] else 5
    assert told.startswith(f"templates/own.mjml.j2:{line}: ")


def test_a_fault_in_an_included_template_names_that_one(
    compile_with: Callable[..., str],
) -> None:
    source = START + '{% include "part.mjml.j2" %}' + END
    told = fault(compile_with, source, part="<mj-text>ok</mj-text>\n\n<mj-txt />")
    assert told.startswith("templates/part.mjml.j2:3: unknown component")


def test_an_include_of_itself_ends_with_a_message(compile_with: Callable[..., str]) -> None:
    told = fault(compile_with, START + '{% include "own.mjml.j2" %}' + END)
    assert told.startswith("templates/own.mjml.j2:5: ")
    assert "without end" in told


def test_a_macro_that_calls_itself_ends_with_a_message(compile_with: Callable[..., str]) -> None:
    told = fault(compile_with, "{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}")
    assert "without end" in told


def test_a_tag_within_a_text_of_jinja_is_a_text(compile_with: Callable[..., str]) -> None:
    inside = (
        '{# a <b> in a\nremark #}{% set sep = "<br>" %}\n<mj-text>{{ "x <hr> " ~ sep }}</mj-text>'
    )
    assert "x &lt;hr&gt; &lt;br&gt;" in compile_with(f"{START}{inside}{END}")
    faulty = f"{START}{inside}\n<mj-txt>a</mj-txt>{END}"
    assert "own.mjml.j2:8: unknown component <mj-txt>" in fault(compile_with, faulty)


def test_output_and_values_are_limited(compile_with: Callable[..., str]) -> None:
    doubled = "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x ~ x %}" * 40
    assert "too long" in fault(compile_with, START + doubled + END)
    blocks = "{% set x %}aaaaaaaaaa{% endset %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40
    assert "too long" in fault(compile_with, START + blocks + END)
    numbers = "{% set x = 99 %}" + "{% set x = x * x %}" * 40
    assert "too large" in fault(compile_with, START + numbers + END)
    loops = "{% for a in 'abcdefghij' %}" * 7 + "<mj-text>x</mj-text>" + "{% endfor %}" * 7
    assert "characters" in fault(compile_with, START + loops + END)


def test_nesting_10000_deep_is_refused_and_the_process_survives(
    workspace: Workspace, write_issue: Callable[..., Issue]
) -> None:
    (workspace.templates / "deep.mjml.j2").write_text(
        START + "<mj-text>" + "<b>" * 10_000 + "x" + "</b>" * 10_000 + "</mj-text>" + END
    )
    write_issue("Text", front="template: deep\n")
    done = subprocess.run(
        [sys.executable, "-m", "newsletter", "render", "one"],
        cwd=workspace.root,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "templates/deep.mjml.j2:5: elements nested more than 100 deep" in done.stderr


def test_an_unknown_template_names_the_issue(
    workspace: Workspace, write_issue: Callable[..., Issue]
) -> None:
    with pytest.raises(BadInput, match="no such template: 'nope'") as caught:
        compile_issue(workspace, write_issue("Text", front="template: nope\n"))
    assert str(caught.value.where) == "issues/one/issue.md:4"
    assert "default, plain" in caught.value.hint


def test_a_template_that_is_a_link_to_elsewhere_is_not_read(
    workspace: Workspace, write_issue: Callable[..., Issue]
) -> None:
    secret = workspace.root / "secret.mjml.j2"
    secret.write_text("secret")
    (workspace.templates / "own.mjml.j2").symlink_to(secret)
    with pytest.raises(BadInput, match="no such template"):
        compile_issue(workspace, write_issue("Text", front="template: own\n"))


def test_a_workspaces_template_overrides_a_part_of_the_built_in_one(
    workspace: Workspace, write_issue: Callable[..., Issue]
) -> None:
    (workspace.templates / "_footer.mjml.j2").write_text(
        "<mj-section><mj-column><mj-text>Our own footer</mj-text></mj-column></mj-section>"
    )
    page = compile_issue(workspace, write_issue("Text")).compiled.web
    assert "Our own footer" in page
    assert "GLOW LETTER" in page.upper()


def test_words_are_not_glued_across_line_breaks(compile_with: Callable[..., str]) -> None:
    source = START + "<mj-text><b>one</b>\n<i>two</i></mj-text>" + END
    assert "<b>one</b><i>two</i>" in mjml2html(source, fonts={})  # what mrml does by itself
    assert "<b>one</b>\n<i>two</i>" in compile_with(source)


def test_attributes_keep_characters_that_do_not_print(compile_with: Callable[..., str]) -> None:
    odd = "a\u200db \\ \u00e9"
    source = START + f'<mj-image src="x.png" alt="{odd}" />' + END
    assert r"\u{200d}" in mjml2html(source, fonts={})  # what mrml does by itself
    assert f'alt="{odd}"' in compile_with(source)


def test_inline_styles_are_inlined_and_media_queries_and_outlook_kept(
    compile_with: Callable[..., str],
) -> None:
    head = (
        '<mj-head><mj-style inline="inline">.x p { color: #123456; }</mj-style>'
        "<mj-style>@media print { .x > p { color: #654321; } }</mj-style></mj-head>"
    )
    source = START.replace("<mjml>", f"<mjml>{head}")
    html = compile_with(
        source
        + '<mj-text css-class="x">{% for b in blocks %}{{ b.html }}{% endfor %}</mj-text>'
        + END
    )
    assert '<p style="color: #123456;">Text</p>' in html
    assert "@media print { .x > p { color: #654321; } }" in html
    assert "<!--[if mso" in html


def test_a_field_does_not_stand_in_a_style(compile_with: Callable[..., str]) -> None:
    style = '<p style="color: {{ links.unsubscribe }}">x</p>'
    told = fault(compile_with, START + f"<mj-text>{style}</mj-text>" + END)
    assert "in the attribute 'style'" in told
    told = fault(
        compile_with, START + "<mj-raw><style>{{ links.unsubscribe }}</style></mj-raw>" + END
    )
    assert "in <style>" in told


def test_links_of_the_template_itself_are_counted_too(
    workspace: Workspace, compile_with: Callable[..., str]
) -> None:
    inside = (
        '<mj-text><a href="https://social.example/?a=1&amp;b=2">s</a>'
        '<a href="https://social.example/?a=1&amp;b=2">s</a>'
        '<a href="{{ site.base_url }}/x">o</a></mj-text>'
    )
    html = compile_with(START + inside + END, "::: divider\n:::")
    assert html.count("/r/") == 2
    assert "social.example" not in html
    assert 'href="http://127.0.0.1:8000/x"' in html


def test_the_table_knows_every_component_that_mrml_draws() -> None:
    names = set(components())
    assert len(names) > 30
    for component in components().values():
        assert set(component.parents) <= names


def test_the_documentation_names_everything_a_template_sees() -> None:
    told = (ROOT / "docs" / "templates.md").read_text(encoding="utf-8")
    names = [*(item.name for item in fields(View)), *(item.name for item in fields(Palette))]
    for name in set(names) - {"tokens", "segment", "label"}:
        assert f"`{name}`" in told, name
