"""The text part: everything a reader of text needs, from the same blocks, in 76 columns."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from newsletter.compiled import Recipient
from newsletter.rendering import Rendered, neutral_recipient

LONG = "word " * 60
URL = "https://example.com/" + "a" * 120


def body(render: Callable[..., Rendered], source: str) -> str:
    """The text between the heading and the footer."""
    text = render(source, front="").compiled.variants[""].render(neutral_recipient()).text
    return text.split("\n\n", 1)[1].split("\n\n-----", 1)[0]


def test_links_are_footnotes_and_never_broken(render: Callable[..., Rendered]) -> None:
    text = body(render, f"See [the study](mailto:{'b' * 90}@example.com) and {URL} now.")
    assert f"See the study [1] and\n{URL}\nnow." in text
    assert f"[1] mailto:{'b' * 90}@example.com" in text


def test_lines_are_wrapped_and_no_word_is_lost(render: Callable[..., Rendered]) -> None:
    text = body(render, f"{LONG}\n\n- {LONG}\n\n> {LONG}")
    assert all(len(line) <= 78 for line in text.splitlines())
    assert text.count("word") == 180


def test_lists_quotes_headings_code_and_tables_keep_their_form(
    render: Callable[..., Rendered],
) -> None:
    text = body(
        render,
        "## Two\n\n3. three\n4. four\n   - inner\n\n> said\n>\n> twice\n\n```\n  code <b>\n```\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\nline\\\nbreak *em* **strong** `x` ![Alt](https://i.example/x.png)",
    )
    assert "Two\n---\n\n3. three\n4. four\n   - inner\n\n> said\n>\n> twice" in text
    assert "      code <b>" in text
    assert "a | b\n1 | 2" in text
    assert "line\nbreak _em_ *strong* x [Alt]" in text


def test_a_loose_list_keeps_its_paragraphs(render: Callable[..., Rendered]) -> None:
    assert "- one\n\n  more\n\n- two" in body(render, "- one\n\n  more\n\n- two")


def test_blocks_say_what_they_are(render: Callable[..., Rendered]) -> None:
    text = body(
        render,
        '::: tip {title="Sun"}\nWear it.\n:::\n\n::: quote {by="Rosa"}\nQuiet.\n:::\n\n'
        '::: image {src="https://i.example/x.png" alt="A towel" href="mailto:x@y.example"}\n:::\n\n'
        '::: divider\n:::\n\n::: button {href="mailto:x@y.example"}\nWrite\n:::\n\n'
        '::: excerpt {title="Closer look" href="mailto:z@y.example"}\nIt varies.\n:::\n\n'
        "::::: columns\n:::: column\nLeft\n::::\n:::: column\nRight\n::::\n:::::",
    )
    assert "* TIP: Sun\n  Wear it." in text
    assert "> Quiet.\n>\n> -- Rosa" in text
    assert "[A towel]\nmailto:x@y.example" in text
    assert "* * *" in text
    assert "Write:\nmailto:x@y.example" in text
    assert "Closer look\n-----------\n\nIt varies.\n\nRead on: mailto:z@y.example" in text
    assert text.index("Left") < text.index("Right")


@pytest.mark.parametrize(
    ("language", "label", "shown"),
    [("en", "Write", "Write:"), ("en", "Ready?", "Ready?"), ("fr", "Lire", "Lire\u00a0:")],
)
def test_a_buttons_label_ends_as_its_language_has_it(
    render: Callable[..., Rendered], language: str, label: str, shown: str
) -> None:
    button = f'::: button {{href="mailto:x@y.example"}}\n{label}\n:::'
    text = render(button, front=f"language: {language}\n").compiled.variants[""]
    assert f"\n{shown}\nmailto:x@y.example\n" in text.render(neutral_recipient()).text


def test_a_value_stays_on_its_line(render: Callable[..., Rendered]) -> None:
    message = render("Hi {{ subscriber.first_name }}!").compiled.variants[""]
    text = message.render(Recipient(1, "a@b.example", "A\n\nB\r\nC")).text
    assert "Hi A B C!" in text
