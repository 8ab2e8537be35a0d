"""What a compiled issue is: places, escapes, variants, links, the web version, the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from newsletter.compiled import CompiledIssue, Recipient
from newsletter.drafting import Issue
from newsletter.errors import BadInput
from newsletter.rendering import Rendered, compile_issue, neutral_recipient
from newsletter.tokens import link_token
from newsletter.workspace import Workspace

ANA = Recipient(7, "ana+x@example.com", "Ana", "Lund", {"city": "Köln & Bonn"}, "TOKEN")
Render = Callable[..., Rendered]


def page(rendered: Rendered, recipient: Recipient = ANA, variant: str = "") -> str:
    return rendered.compiled.variants[variant].render(recipient).html


def text(rendered: Rendered, recipient: Recipient = ANA, variant: str = "") -> str:
    return rendered.compiled.variants[variant].render(recipient).text


def test_values_are_escaped_for_the_place_where_they_stand(render: Render) -> None:
    rendered = render(
        "In {{ subscriber.fields.city }},"
        " [see](https://x.example/?q={{ subscriber.fields.city }}).",
        subject="For {{ subscriber.fields.city }}",
    )
    content = rendered.compiled.variants[""].render(ANA)
    assert "In Köln &amp; Bonn," in content.html
    assert 'href="https://x.example/?q=K%C3%B6ln%20%26%20Bonn"' in content.html
    assert "In Köln & Bonn, see [1]." in content.text
    assert "[1] https://x.example/?q=K%C3%B6ln%20%26%20Bonn" in content.text
    assert content.subject == "For Köln & Bonn"


def test_a_default_stands_for_missing_and_empty(render: Render) -> None:
    rendered = render("Dear {{ subscriber.first_name | default('friend') | upper }}")
    assert "Dear ANA" in page(rendered)
    assert "Dear FRIEND" in page(rendered, Recipient(1, "a@b.example", first_name="  "))
    assert "Dear FRIEND" in rendered.compiled.web


@pytest.mark.parametrize(
    "hidden",
    ["&#123;&#123; subscriber.email }}", "&#xF0000;", "&#983040;", "\U000f0000", "&amp;#xF0000;"],
)
def test_text_that_becomes_a_field_is_never_evaluated(render: Render, hidden: str) -> None:
    rendered = render(f"{{{{ subscriber.email }}}} then {hidden}")
    assert page(rendered).count("ana+x@example.com") == 1
    assert text(rendered).count("ana+x@example.com") == 1


def test_a_value_with_braces_is_never_evaluated(render: Render) -> None:
    odd = Recipient(1, "a@b.example", first_name="{{ subscriber.email }}\U000f0000")
    assert "Hi {{ subscriber.email }}" in page(render("Hi {{ subscriber.first_name }}"), odd)


def test_raw_html_is_shown_and_dangerous_addresses_are_not_linked(render: Render) -> None:
    rendered = render(
        "<script>alert(1)</script> [a](javascript:alert(1)) [b](JaVa&#x0a;script:alert(1))"
        " [c](data:text/html,x) ![d](vbscript:x)"
    )
    html = page(rendered)
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    for scheme in ("javascript:", "vbscript:", "data:"):
        assert f'"{scheme}' not in html.lower()


def test_an_address_in_a_block_must_be_allowed(render: Render) -> None:
    with pytest.raises(BadInput, match="must not link") as caught:
        render('Text\n\n::: button {href="javascript:alert(1)"}\nGo\n:::')
    assert str(caught.value.where) == "issues/one/issue.md:7"


def test_an_address_does_not_begin_with_a_field(render: Render) -> None:
    with pytest.raises(BadInput, match="begins with a merge field"):
        render("[x]({{ subscriber.fields.site }})")


def test_links_are_rewritten_once_and_alike_in_html_and_text(
    workspace: Workspace, render: Render
) -> None:
    rendered = render(
        '[a](https://a.example/1?x=1&y=2)\n\n::: button {href="https://b.example/"}\nGo\n:::\n\n'
        "[mail](mailto:x@y.example) [own](https://c.example/{{ subscriber.email }})"
        " [stop]({{ links.unsubscribe }})"
    )
    links = rendered.compiled.links
    assert [(link.position, link.url) for link in links] == [
        (1, "https://a.example/1?x=1&y=2"),
        (2, "https://b.example/"),
    ]
    html, plain = page(rendered), text(rendered)
    for link in links:
        address = f"http://127.0.0.1:8000/r/{link_token(workspace.key, bytes.fromhex(link.link))}"
        assert html.count(f'href="{address}"') == 1
        assert plain.count(address) == 1
    assert 'href="mailto:x@y.example"' in html
    assert 'href="https://c.example/ana%2Bx%40example.com"' in html
    assert 'href="http://127.0.0.1:8000/unsubscribe/TOKEN"' in html
    assert "a.example" not in html


@pytest.mark.parametrize("clicks", ["none", "individual"])
def test_tracking_follows_the_settings(
    make_workspace: Callable[..., Workspace], write_issue: Callable[..., Issue], clicks: str
) -> None:
    issue = write_issue("[a](https://a.example/)")
    workspace = make_workspace(f'[tracking]\nclicks = "{clicks}"\nopens = "{clicks}"\n')
    rendered = compile_issue(workspace, issue)
    html = page(rendered)
    if clicks == "none":
        assert 'href="https://a.example/"' in html
        assert "/o/" not in html
    else:
        assert ".TOKEN" in html
        assert 'src="http://127.0.0.1:8000/o/TOKEN.gif"' in html
    untracked = compile_issue(workspace, issue, tracked=False)
    assert 'href="https://a.example/"' in page(untracked)
    assert "/o/" not in page(untracked)
    assert "TOKEN" not in rendered.compiled.web
    assert "/o/" not in rendered.compiled.web
    assert 'href="https://a.example/"' in rendered.compiled.web


def test_the_web_version_is_nobodys(render: Render) -> None:
    rendered = render(
        "Hi {{ subscriber.first_name | default('you') }} [stop]({{ links.unsubscribe }})"
        " {{ links.preferences }}\n\n:::: only {segment=vip}\nSecret\n::::"
    )
    web = rendered.compiled.web
    assert "Hi you" in web
    assert "Secret" not in web
    assert "/unsubscribe/" not in web
    assert "/preferences/" not in web
    assert "Get updated" in web


def test_only_blocks_make_variants(render: Render) -> None:
    rendered = render(
        ":::: only {segment=vip}\nFor VIPs\n::::\n\n:::: only {segment=new}\nFor the new\n::::"
    )
    variants = rendered.compiled.variants
    assert sorted(variants) == ["", "new", "new,vip", "vip"]
    assert rendered.compiled.segments == ("new", "vip")
    for name in variants:
        for segment, words in (("vip", "For VIPs"), ("new", "For the new")):
            shown = segment in name.split(",")
            assert (words in page(rendered, variant=name)) is shown
            assert (words in text(rendered, variant=name)) is shown


def test_too_many_and_unknown_segments_are_refused(
    workspace: Workspace, write_issue: Callable[..., Issue]
) -> None:
    body = "\n".join(f":::: only {{segment=s{n}}}\nText\n::::\n" for n in range(5))
    with pytest.raises(BadInput, match="may have 4"):
        compile_issue(workspace, write_issue(body))
    with pytest.raises(BadInput, match="no such segment: 's0'") as caught:
        compile_issue(workspace, write_issue(body), segments=["all"])
    assert str(caught.value.where) == "issues/one/issue.md:5"


def test_headers_are_the_contracts(
    make_workspace: Callable[..., Workspace], write_issue: Callable[..., Issue]
) -> None:
    issue = write_issue("Text")
    plain = dict(compile_issue(make_workspace(), issue).compiled.variants[""].render(ANA).headers)
    assert plain == {
        "List-Id": '"Glow Letter" <newsletter.glow.example>',
        "List-Unsubscribe": "<http://127.0.0.1:8000/unsubscribe/TOKEN>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    os.environ["NEWSLETTER_SENDER__UNSUBSCRIBE_MAILBOX"] = "stop@glow.example"
    try:
        workspace = make_workspace()
    finally:
        del os.environ["NEWSLETTER_SENDER__UNSUBSCRIBE_MAILBOX"]
    headers = dict(compile_issue(workspace, issue).compiled.variants[""].render(ANA).headers)
    assert headers["List-Unsubscribe"] == (
        "<http://127.0.0.1:8000/unsubscribe/TOKEN>,"
        " <mailto:stop@glow.example?subject=unsubscribe%20TOKEN>"
    )


def test_every_message_has_what_the_law_asks_for(render: Render) -> None:
    rendered = render("Text")
    for part in (page(rendered), text(rendered)):
        assert "1 Rose Lane, London E1 6AN" in part
        assert "http://127.0.0.1:8000/unsubscribe/TOKEN" in part
        assert "http://127.0.0.1:8000/preferences/TOKEN" in part
        assert "http://127.0.0.1:8000/archive/one" in part
        assert "You get this because" in part


EVERYTHING = (
    "::: excerpt {from=articles/web}\nOne\n:::\n\n::: tip {title=T from=articles/web}\nTwo\n:::"
    "\n\n::: feature {title=F href=https://a.example/f}\nThree [a](https://a.example/a)\n:::"
)


@pytest.mark.parametrize(
    ("language", "spoken"),
    [
        ("de", ["Von Rosa", "Tipp", "Weiterlesen", "Abmelden", "Einstellungen", "Im Browser"]),
        ("fr-CA", ["Par Rosa", "Conseil", "Lire la suite", "Se désinscrire", "Préférences"]),
        ("ar", ["By Rosa", "Tip", "Read on", "Unsubscribe", "Preferences", "Read on the web"]),
    ],
)
def test_the_fixed_words_are_in_the_issues_language_or_else_english(
    workspace: Workspace, render: Render, language: str, spoken: list[str]
) -> None:
    (workspace.content / "articles" / "web.md").write_text(
        ARTICLE.format(source="https://a.example/x")
    )
    rendered = render(EVERYTHING, front=f"language: {language}\n")
    english = ("Read on", "Unsubscribe", "Preferences", "Get updated", "signed up", "Forwarded")
    html, plain = unescape(page(rendered)), text(rendered)
    for shown in (html, plain, rendered.compiled.web):
        assert any(word in shown for word in english) is (language == "ar")
    for words in spoken[1:]:
        assert words in html
        assert words.lower() in plain.lower()
    assert spoken[0] in html
    assert f'lang="{language[:2] if language != "ar" else "en"}" dir="ltr"' in html


@pytest.mark.parametrize(
    ("language", "expected"), [("ar", "rtl"), ("he", "rtl"), ("fa-IR", "rtl"), ("de", "ltr")]
)
def test_the_language_sets_the_direction(render: Render, language: str, expected: str) -> None:
    html = page(render("Text", front=f"language: {language}\n"))
    assert f'<html lang="{language}" dir="{expected}"' in html
    assert f"text-align:{'right' if expected == 'rtl' else 'left'}" in html


def test_deep_nesting_in_markdown_is_refused_with_its_line(render: Render) -> None:
    with pytest.raises(BadInput, match="nested more than") as caught:
        render("Text\n\n" + ">" * 10_000 + " deep")
    assert caught.value.where is not None
    assert caught.value.where.file == "issues/one/issue.md"


def test_a_compiled_issue_survives_its_bytes(render: Render) -> None:
    compiled = render("Hi {{ subscriber.first_name }} [a](https://a.example)").compiled
    assert CompiledIssue.from_bytes(compiled.to_bytes()) == compiled


SCRIPT = """
import sys
from html import unescape
from pathlib import Path
from newsletter.drafting import load_issue
from newsletter.rendering import compile_issue, compose, eml_bytes, neutral_recipient
from newsletter.workspace import find_workspace
workspace = find_workspace(Path(sys.argv[1]))
rendered = compile_issue(workspace, load_issue(workspace, "one"))
message = compose(rendered.compiled, neutral_recipient())
import hashlib
print(rendered.compiled.sha256, hashlib.sha256(eml_bytes(message)).hexdigest())
"""


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes_in_every_process(
    workspace: Workspace, write_issue: Callable[..., Issue], make_image: Callable[..., None]
) -> None:
    make_image("a.jpg")
    write_issue(
        '::: image {src=a.jpg alt="A"}\n:::\n\n:::: only {segment=vip}\n{{ subscriber.email }}\n'
        "::::\n\n[a](https://a.example) {{ subscriber.fields.b }}{{ subscriber.fields.a }}"
    )
    root = Path(__file__).parents[2]
    seen = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(workspace.root)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "77")
    }
    assert len(seen) == 1


def test_neutral_links_lead_nowhere(render: Render) -> None:
    assert "/unsubscribe/preview" in page(render("Text"), neutral_recipient())


ARTICLE = """---
title: "A <b>title</b> \U000f0000"
source: {source}
author: "Rosa &#xF0000;"
---
Text.
"""


def test_a_source_gives_title_author_and_where_to_read_on(
    workspace: Workspace, render: Render
) -> None:
    folder = workspace.content / "articles"
    (folder / "web.md").write_text(ARTICLE.format(source="https://a.example/x?y=1#L5-L9"))
    (folder / "file.md").write_text(ARTICLE.format(source="seed.txt#L1-L4"))
    (workspace.content / "tips" / "t.md").write_text(ARTICLE.format(source="articles/web"))
    (workspace.content / "tips" / "gone.md").write_text(ARTICLE.format(source="articles/gone"))
    rendered = render(
        "{{ subscriber.email }}\n\n::: excerpt {from=articles/web}\nOne\n:::\n\n"
        "::: excerpt {from=articles/file}\nTwo\n:::\n\n::: tip {from=tips/t}\nThree\n:::\n\n"
        "::: tip {from=tips/gone}\nFour\n:::"
    )
    assert rendered.compiled.sources == ("articles/web", "articles/file", "tips/t", "tips/gone")
    assert [link.url for link in rendered.compiled.links] == ["https://a.example/x?y=1"] * 2
    html = page(rendered)
    assert html.count("ana+x@example.com") == 1
    assert html.count("A &lt;b&gt;title&lt;/b&gt;") == 2
    assert "By Rosa" in html
    assert "\n\nBy Rosa" in text(rendered)
    assert html.count("Read on&nbsp;→") == 2
    told = render(
        "::: excerpt {from=articles/file title=Own}\nOne\n:::\n\n"
        "::: quote {from=articles/file}\nTwo\n:::"
    )
    told_to_read_on = "Read on&nbsp;→" in page(told) or "Read on:" in text(told)
    assert not told_to_read_on, "only where there is a page to read on"
    assert "From" not in page(told)
    assert "> -- Rosa" in text(told)
    with pytest.raises(BadInput) as caught:
        render("Text\n\n::: excerpt {from=articles/none}\nOne\n:::")
    assert str(caught.value.where) == "issues/one/issue.md:7"
