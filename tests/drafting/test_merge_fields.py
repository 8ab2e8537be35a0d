"""Merge fields: a few fields and filters, and nothing else that Jinja knows."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newsletter.drafting import MergeField, merge_fields, parse_merge
from newsletter.errors import BadInput, Where

AT = Where("issues/spring/issue.md", 10)


def test_text_stays_as_it_is_and_fields_have_their_lines() -> None:
    source = (
        "a\r\n\n {{ subscriber.fields.skin | default('}}') | upper }} \n{{links.unsubscribe}}\n"
    )
    assert parse_merge(source, where=AT) == (
        "a\r\n\n ",
        MergeField("subscriber.fields.skin", (("default", "}}"), ("upper", None)), 12),
        " \n",
        MergeField("links.unsubscribe", (), 13),
        "\n",
    )


def test_a_field_over_several_lines_has_its_first_and_later_ones_theirs() -> None:
    fields = merge_fields("\n{{ subscriber.email\n\n}}\n{{ subscriber.email }}", where=AT)
    assert [field.line for field in fields] == [11, 14]


@pytest.mark.parametrize(
    ("expression", "has_default"),
    [
        ("{{ subscriber.first_name }}", False),
        ("{{ subscriber.first_name | default('') }}", True),
        ("{{ subscriber.first_name | title | default('you') }}", True),
        ("{{ subscriber.fields.since | date('%-d %B %Y') }}", False),
        ("{{ links.web_version }}", True),
    ],
)
def test_a_field_knows_whether_it_says_what_stands_for_nothing(
    expression: str, has_default: bool
) -> None:
    (field,) = merge_fields(expression, where=AT)
    assert field.has_default is has_default


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("{{ ''.__class__ }}", "only a field"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "only a field"),
        ('{{ "a" * 10**9 }}', "only a field"),
        ('{{ "a" }}', "only a field"),
        ("{{ 7 }}", "only a field"),
        ("{{ range(10**9) }}", "only a field"),
        ("{{ lipsum(n=100000) }}", "only a field"),
        ("{{ subscriber.email() }}", "only a field"),
        ("{{ subscriber['email'] }}", "only a field"),
        ("{{ subscriber.email ~ 'x' }}", "only a field"),
        ("{{ subscriber.email if subscriber else 1 }}", "only a field"),
        ("{{ subscriber.email, 1 }}", "only a field"),
        ("{{ [subscriber.email] }}", "only a field"),
        ("{{ subscriber.email is defined }}", "only a field"),
        ("{{ subscriber }}", "unknown merge field"),
        ("{{ subscriber.emial }}", "Did you mean 'subscriber.email'?"),
        ("{{ first_name }}", "Did you mean 'subscriber.first_name'?"),
        ("{{ subscriber.fields }}", "unknown merge field"),
        ("{{ subscriber.fields.__class__ }}", "unknown merge field"),
        ("{{ subscriber.fields.a.b }}", "unknown merge field"),
        ("{{ self }}", "unknown merge field"),
        ("{{ subscriber.email | defualt('x') }}", "Did you mean 'default'?"),
        ("{{ subscriber.email | safe }}", "unknown filter 'safe'"),
        ("{{ subscriber.email | format }}", "unknown filter"),
        ("{{ subscriber.email | default }}", "exactly one text"),
        ("{{ subscriber.email | default('a', true) }}", "text in quotes"),
        ("{{ subscriber.email | default(7) }}", "text in quotes"),
        ("{{ subscriber.email | default(subscriber.email) }}", "text in quotes"),
        ("{{ subscriber.email | default('a\\nb') }}", "text in quotes"),
        ("{{ subscriber.email | default('\\ud800') }}", "text in quotes"),
        ("{{ subscriber.email | default(default_value='a') }}", "only a field"),
        ("{{ subscriber.email | default(*subscriber) }}", "only a field"),
        ("{{ subscriber.email | upper('x') }}", "no argument"),
        ("{{ subscriber.fields.day | date('%999999999d') }}", "not a format"),
        ("{{ subscriber.fields.day | date('%') }}", "not a format"),
        ("{{ links.unsubscribe | upper }}", "takes no filter"),
        ("{{- subscriber.email }}", "minus"),
        ("{{ subscriber.email -}}", "minus"),
        ("{{ }}", "not a merge field"),
        ("{{ subscriber.email", "not closed"),
        ("{{ {{ subscriber.email }} }}", "not a merge field"),
        ("{% for i in range(10**9) %}x{% endfor %}", "no Jinja code"),
        ("{% raw %}{{ x }}{% endraw %}", "no Jinja code"),
        ("{# hidden #}", "no Jinja code"),
        ("{{ " + "(" * 100 + ")" * 100 + " }}", "only a field"),
        ("{{ " + "subscriber." * 50 + "}}", "at most 300"),
        ("{{ subscriber.email" + " | upper" * 60 + " }}", "at most 300"),
    ],
)
def test_everything_else_is_refused_with_its_line(expression: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_merge(f"one\ntwo {expression} three", where=AT)
    assert caught.value.where == Where(AT.file, 11)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text", ["}} and }", "{ {x} }", "{ { x } }", "a {b} c", "&#123;&#123; x }}"]
)
def test_braces_that_open_nothing_are_text(text: str) -> None:
    assert parse_merge(text, where=AT) == (text,)


_ALPHABET = st.sampled_from(
    [
        *("{{", "}}", "{%", "%}", "{#", "'", '"', "\\", "|", ".", "(", ")", "-", "\n", " "),
        *(
            "subscriber",
            "email",
            "default",
            "x",
            "links",
            "fields",
            "raw",
            "7",
            "é",
            "\0",
            "\u2028",
        ),
    ]
)


@settings(deadline=None)
@given(st.lists(_ALPHABET, max_size=40).map("".join) | st.text(max_size=200))
def test_any_text_is_split_without_loss_or_refused(text: str) -> None:
    try:
        parts = parse_merge(text, where=AT)
    except BadInput:
        return
    rest = text
    for part in parts:  # the texts stand in the source in their order, with only fields between
        if isinstance(part, str):
            at = rest.index(part)
            assert at == 0 or rest.startswith("{{")
            rest = rest[at + len(part) :]
    assert rest == "" or rest.startswith("{{")


def test_hostile_texts_are_read_quickly() -> None:
    started = time.process_time()
    for text in ("{" * 50_000, "{{" * 50_000, "{{ '" * 20_000, "}}" * 50_000, "{{ \\" * 20_000):
        with pytest.raises(BadInput) if "{{" in text else pytest.MonkeyPatch.context():
            parse_merge(text, where=AT)
    parse_merge("{{ subscriber.email }}\n" * 5_000, where=AT)
    assert time.process_time() - started < 5
