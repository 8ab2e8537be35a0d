"""Issues as files: what is read, where errors point, and that nothing is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from newsletter.drafting import Issue, parse_issue, write_issue
from newsletter.errors import BadInput, NewsletterError

FILE = "issues/spring/issue.md"

WHOLE = """\
---
subject: "Does microneedling help milia?"   # a comment stays
preheader: 'Four articles: what they say'
audience: all
---
Hello {{ subscriber.first_name | default("there") }},

::: tip {from=tips/wear-spf}
Wear **SPF 30+**.

For a week.
:::

::: image {src=roller.jpg alt="For {{ subscriber.first_name | default("you") }}" href='https://a.b/?c=d'}
:::

::::: columns
:::: column
Left
::::
:::: column
::: tip
Right
:::
::::
:::::

Bye.
"""


def parse(text: str) -> Issue:
    return parse_issue(text, "spring", Path(FILE), FILE)


def body(text: str) -> Issue:
    """An issue whose body starts at line 4."""
    return parse(f'---\nsubject: "S"\n---\n{text}')


def refused(text: str) -> BadInput:
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert caught.value.where is not None
    assert caught.value.where.file == FILE
    assert caught.value.where.line is not None
    return caught.value


def parsed_or_refused(text: str) -> Issue | None:
    """The issue, or None if it was refused as every issue must be: with a line of the file."""
    error: NewsletterError
    try:
        return parse(text)
    except NewsletterError as caught:
        error = caught
    assert isinstance(error, BadInput)
    assert str(error).startswith(FILE)
    assert error.where is not None
    assert error.where.line is not None
    assert 1 <= error.where.line <= len(text.splitlines()) + 1
    return None


def refused_body(text: str) -> BadInput:
    return refused(f'---\nsubject: "S"\n---\n{text}')


def line_of(error: BadInput) -> int | None:
    assert error.where is not None
    return error.where.line


def test_an_issue_is_read_into_blocks_with_their_lines() -> None:
    issue = parse(WHOLE)
    assert issue.subject == "Does microneedling help milia?"
    assert issue.preheader == "Four articles: what they say"
    assert (issue.template, issue.audience, issue.language) == ("default", "all", "")
    assert issue.lines == {"subject": 2, "preheader": 3, "audience": 4}
    assert [(block.type, block.line) for block in issue.blocks] == [
        ("text", 6),
        ("tip", 8),
        ("image", 14),
        ("columns", 17),
        ("text", 28),
    ]
    tip, image, columns = issue.blocks[1:4]
    assert (tip.body, tip.body_line) == ("Wear **SPF 30+**.\n\nFor a week.", 9)
    assert dict(image.attributes) == {
        "src": "roller.jpg",
        "alt": 'For {{ subscriber.first_name | default("you") }}',
        "href": "https://a.b/?c=d",
    }
    right = columns.children[1].children[0]
    assert (right.type, right.body, right.line) == ("tip", "Right", 22)
    assert issue.sources == ("tips/wear-spf",)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_marks_and_a_missing_last_newline_change_nothing_and_are_kept(
    ending: str, mark: str, last: bool
) -> None:
    text = mark + (WHOLE if last else WHOLE[:-1]).replace("\n", ending)
    issue = parse(text)
    assert write_issue(issue) == text.encode()
    assert issue.blocks == parse(WHOLE).blocks
    assert issue.lines == parse(WHOLE).lines


@settings(deadline=None)
@given(st.text())
@example("---\nsubject: &a x\n---\n")
@example("---\nsubject: \ud800\n---\n")
@example('---\nsubject: "\\UFFFFFFFF"\n---\n')
@example('---\nsubject: "\\ud800"\n---\n')
@example("---\n%YAML 9.9\nsubject: x\n---\n")
@example("---\n? x\n---\n")
@example("---\nsubject: x\n...\nsubject: x\n---\n")
def test_any_text_is_read_or_refused_with_a_message(text: str) -> None:
    for whole in (text, f"---\n{text}\n---\n", f"---\nsubject: S\n---\n{text}"):
        issue = parsed_or_refused(whole)
        assert issue is None or write_issue(issue) == whole.encode()


_PIECES = [
    *("::: tip", "::: image {src=a}", ":::: columns", "::: column", ":::: only {segment=x}"),
    *(":::", "::::", ":::::", "```", "~~~", "> ```", "text", "", "    :::", "::: tip {"),
    *("{{ subscriber.email }}", "{{", "}}", "{%", "\ufeff", "- a", "--- "),
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=14), st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_order_of_fences_is_read_without_losing_a_line_or_refused(
    pieces: list[str], ending: str
) -> None:
    whole = ending.join(["---", "subject: S", "---", *pieces])
    issue = parsed_or_refused(whole)
    if issue is None:
        return
    assert write_issue(issue) == whole.encode()
    shown = "\n".join(_texts(issue.blocks))
    for word in ("text", "{{ subscriber.email }}", "- a"):
        assert shown.count(word) == sum(piece.count(word) for piece in pieces)


def _texts(blocks: tuple) -> list[str]:  # type: ignore[type-arg]
    return [text for block in blocks for text in (block.body, *_texts(block.children))]


@pytest.mark.parametrize(
    ("front", "line", "words"),
    [
        ("preheader: x", 1, ["'subject' is missing"]),
        ("subject: x\npreheeder: y", 3, ["unknown key 'preheeder'", "Did you mean 'preheader'?"]),
        ("subject: x\nsubject: y", 3, ["twice", "line 2"]),
        ('subject: "x', 2, ["not YAML"]),
        ("subject: a: b", 2, ["not YAML", "column"]),
        ("subject: x\n\n\tpreheader: y", 4, ["not YAML"]),
        ("subject: |\n  one\n  two", 2, ["subject has a line break"]),
        ('subject: "a\\nb"', 2, ["subject has a line break"]),
        ('subject: x\npreheader: "a\\rBcc: b"', 3, ["preheader has a line break"]),
        ('subject: "a\\u2028b"', 2, ["line break"]),
        ('subject: "a\\x07b"', 2, ["control character"]),
        ("subject: &a x", 2, ["anchor"]),
        ("subject: x\npreheader: *a", 3, ["alias"]),
        ("subject: !!python/object:os.system x", 2, ["tag"]),
        ("subject: [a, b]", 2, ["not a list"]),
        ("subject: {a: b}", 2, ["not a list or a table"]),
        ("- subject", 2, ["not a list"]),
        ("subject", 2, ["no key"]),
        ("subject: x\nlanguage: not a code", 3, ["not a language"]),
        ("subject: x\ntemplate: ../../etc/passwd", 3, ["not a template's name"]),
        ("subject: {{ subscriber.emial }}", 2, ["not a list or a table"]),
        ('subject: "{{ subscriber.emial }}"', 2, ["subscriber.email"]),
        ('subject: x\npreheader: "{% raw %}"', 3, ["no Jinja code"]),
    ],
)
def test_wrong_front_matter_names_its_line(front: str, line: int, words: list[str]) -> None:
    error = refused(f"---\n{front}\n---\nHello\n")
    assert line_of(error) == line
    for word in words:
        assert word in str(error)


@pytest.mark.parametrize("text", ["", "Hello", "---\nsubject: x\n", "\n---\nsubject: x\n---\n"])
def test_front_matter_that_is_missing_or_open_is_refused(text: str) -> None:
    assert line_of(refused(text)) == 1


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        ("no", "no"),
        ("12:30", "12:30"),
        ("2026-11-26", "2026-11-26"),
        ("'it''s'", "it's"),
        ("|\n  one line\n", "one line"),
        (">\n  folded\n  together", "folded together"),
        ("", ""),
    ],
)
def test_a_value_is_the_text_that_was_written(value: str, subject: str) -> None:
    assert parse(f"---\nsubject: {value}\n---\n").subject == subject


def test_front_matter_that_would_be_slow_is_refused_quickly() -> None:
    started = time.process_time()
    for hostile in ("[" * 60_000, "{a: " * 15_000, "- " * 30_000, "a: " * 20_000, "x" * 70_000):
        refused(f"---\nsubject: {hostile}\n---\n")
        refused(f"---\n{hostile}\n---\n")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a\n\n::: tipp\nx\n:::\n", 6, ["unknown block 'tipp'", "Did you mean 'tip'?"]),
        ("::: Tip\nx\n:::\n", 4, ["Did you mean 'tip'?"]),
        ("::: tip\nx\n", 4, ["'tip' is never closed", ":::"]),
        ("x\n:::\n", 5, ["closes nothing"]),
        ("::: tip\nx\n:::\n:::\n", 7, ["closes nothing"]),
        (":::: tip\nx\n:::\n::::\n", 6, ["opened with 4 colons"]),
        ("::: tip\n::: excerpt\nx\n:::\n:::\n", 5, ["inside 'tip' of line 4"]),
        ("::: columns\n::: column\nx\n:::\n:::\n", 5, ["more colons", "at least 4"]),
        ("::: column\nx\n:::\n", 4, ["'columns' only"]),
        (":::: columns\ntext\n::: column\nx\n:::\n::::\n", 5, ["text between columns"]),
        (":::: columns\n::: tip\nx\n:::\n::::\n", 5, ["between columns"]),
        (":::: columns\n::::\n", 4, ["columns with 0"]),
        (":::: only {segment=vip}\n::: tipp\n:::\n::::\n", 5, ["unknown block"]),
        ("::: only\nx\n:::\n", 4, ["'segment' is missing"]),
        ("::: button\nGo\n:::\n", 4, ["'href' is missing"]),
        ('::: button {href=""}\nGo\n:::\n', 4, ["'href' is missing"]),
        ("::: button {href=https://a.b}\n:::\n", 4, ["without a label"]),
        ("::: image\n:::\n", 4, ["'src' is missing"]),
        ("::: divider\n\nx\n:::\n", 6, ["holds no text"]),
        ("::: tip {form=tips/a}\nx\n:::\n", 4, ["unknown attribute 'form'", "'from'"]),
        ("::: divider {from=x}\n:::\n", 4, ["takes no attribute"]),
        ("::: tip {from=a from=b}\nx\n:::\n", 4, ["given twice"]),
        ("::: tip {from}\nx\n:::\n", 4, ["cannot be read"]),
        ("::: tip {from=}\nx\n:::\n", 4, ["no value"]),
        ('::: tip {title="x}\nx\n:::\n', 4, ["not closed"]),
        ('::: tip {title="x"from=y}\nx\n:::\n', 4, ["no space"]),
        ("::: tip {title=x\nx\n:::\n", 4, ["cannot be read"]),
        ("::: tip and more\nx\n:::\n", 4, ["cannot be read"]),
        ("::: image {src={{ subscriber.email }}}\n:::\n", 4, ["no value"]),
        ('::: image {src="{{ subscriber.email }}"}\n:::\n', 4, ["no merge field"]),
        ('::: image {src=a alt="{{ subscriber.x }}"}\n:::\n', 4, ["unknown merge field"]),
        ("::: tip\nx\n{{ subscriber.x }}\n:::\n", 6, ["unknown merge field"]),
        ("a\n\nb {{\n", 6, ["not closed"]),
        ("::: tip\n```\n:::\n", 5, ["never closed"]),
        ("a\n  ```\n  x\n\n::: tip\nx\n:::\n", 5, ["never closed"]),
    ],
)
def test_a_wrong_block_names_its_line(text: str, line: int, words: list[str]) -> None:
    error = refused_body(text)
    for word in words:
        assert word in str(error)
    assert line_of(error) == line


def test_fences_inside_code_are_text() -> None:
    issue = body("```\n::: tip\n{{ subscriber.email }}\n:::\n```\n\n~~~~\n:::\n```\n~~~~\n")
    assert [block.type for block in issue.blocks] == ["text"]


def test_code_inside_a_block_may_show_fences() -> None:
    issue = body("::: tip\n```\n:::\n```\n:::\n")
    assert [(block.type, block.body) for block in issue.blocks] == [("tip", "```\n:::\n```")]


@pytest.mark.parametrize("code", ["- ```\n  x", "> ~~~\n> x", "1. ```\n   x\n\n   ::: tip"])
def test_code_in_a_list_or_quotation_ends_with_it(code: str) -> None:
    issue = body(f"{code}\n\n::: tip\nx\n:::\n")
    assert [block.type for block in issue.blocks] == ["text", "tip"]


def test_an_inline_run_of_backticks_opens_no_code() -> None:
    issue = body("```not a fence```\n\n::: divider\n:::\n")
    assert [block.type for block in issue.blocks] == ["text", "divider"]


def test_quotes_and_backslashes_in_an_attribute() -> None:
    text = r"""::: image {src=a.jpg alt="say \"hi\" \\ there" href='x"y'}""" + "\n:::\n"
    assert dict(body(text).blocks[0].attributes) == {
        "src": "a.jpg",
        "alt": 'say "hi" \\ there',
        "href": 'x"y',
    }


def test_ten_thousand_nested_blocks_are_refused_quickly() -> None:
    started = time.process_time()
    same = "::: only {segment=a}\n" * 10_000 + ":::\n" * 10_000
    assert line_of(refused_body(same)) == 5
    growing = "".join(f"{':' * (100 - n)} only {{segment=a}}\n" for n in range(90))
    assert "16 blocks" in str(refused_body(growing))
    body("> " * 10_000 + "x")
    body("- " * 10_000 + "x")
    assert time.process_time() - started < 5


def test_a_file_of_many_megabytes_is_refused() -> None:
    with pytest.raises(BadInput, match="longer than"):
        body("x" * 2_000_000)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- a\n" * 70_000, 5_004),
        ("Words\n\n::: tip\n" + "a\n" * 6_000 + ":::\n", 5_006),
        ("![" * 40_000, 4),
        ("[a\n" * 20_000, 5_004),
        ("[a [b\n" * 9_000, 4 + 5_000),
        ("{{ subscriber.email }}\n\n" * 6_000, 10_004),
        ("a|" * 100 + "\n" + "-|" * 100 + "\n" + "a\n" * 4_000, 104),
    ],
)
def test_markdown_that_would_take_long_is_refused_where_it_is_too_much(
    text: str, line: int
) -> None:
    started = time.process_time()
    error = refused_body(text)
    assert "Markdown" in str(error)
    assert line_of(error) == line
    assert time.process_time() - started < 2
