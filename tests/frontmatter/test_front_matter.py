"""Front matter: strict for content and issues alike, and the short way gives what YAML would."""

from __future__ import annotations

from datetime import date

import pytest

from newsletter import frontmatter
from newsletter.errors import BadInput, Where

TEXTS = [
    "title: Tea and Herbs\nsource: a/b.txt#L5-L15\nwords: 12\nsha256: " + "0e1" * 21 + "f\n",
    "title: Über Öl (und mehr), Teil 2\nauthor: Ann-Marie O’Neil\n",
    "title: yes\nauthor: Null\n",
    "title: 12:30\n",
    "title: A - b\n",
    "title: 1e5\nwords: 007\n",
    "title: a, b\ntopics:\n- x\n",
    "title: A #1\n",
    "title: A # comment\n",
    "title: it's\n",
    "title: x  y\n",
    "published: 2026-01-02\n",
    "recalled: true\n",
    "words: 1_000\n",
    "title: |\n  block\n",
    "title: a\n  continued\n",
    "title: inf\n",
    "title: .inf\nsource: http://a.example/x\n",
]


@pytest.mark.parametrize("source", TEXTS)
def test_the_short_way_agrees_with_yaml(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"---\n{source}---\nBody\n"
    short = frontmatter.read_typed(text, "a.md")
    monkeypatch.setattr(frontmatter, "_plain", lambda _: None)
    long = frontmatter.read_typed(text, "a.md")
    assert short is not None
    assert long is not None
    assert {key: (str(v), type(v) is bool) for key, v in short.values.items()} == {
        key: (str(v), type(v) is bool) for key, v in long.values.items()
    }
    assert (short.lines, short.body, short.body_line) == (long.lines, long.body, long.body_line)


@pytest.mark.parametrize(
    "values",
    [
        {"title": "A: b # c", "words": 3, "published": date(2026, 1, 2)},
        {"title": "'quoted' \"twice\"", "topics": ["a", "b: c", "- d"]},
        {"title": "no", "author": "12:30", "sha256": "1" * 64},
        {"title": "ends in a colon:", "recalled": "true"},
        {"title": "…" * 200, "source": "ö/ä.txt#L1-L2"},
    ],
)
def test_what_is_written_reads_back(values: dict[str, object]) -> None:
    parsed = frontmatter.read_typed(frontmatter.compose(values) + "\nBody\n", "a.md")
    assert parsed is not None
    assert {key: str(value) for key, value in parsed.values.items()} == {
        key: str(value) for key, value in values.items()
    }


def test_a_bomb_is_refused_before_it_is_built() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]" for n in range(20)]
    with pytest.raises(BadInput, match="anchor"):
        frontmatter.read_typed("---\n" + "\n".join(lines) + "\n---\n", "a.md")


READERS = {
    "typed": lambda text: frontmatter.read_typed(text, "a.md", ("title", "words", "topics")),
    "texts": lambda text: frontmatter.read_texts(text, "a.md", ("title", "words", "topics")),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("front", "line", "words"),
    [
        ("title: A\nwodrs: 3", 3, ["unknown key 'wodrs'", "'words'"]),
        ("title: A: b\nwodrs: 3", 2, ["not YAML", "column 9"]),
        ("title: A\nwords: 3\ntitle: B", 4, ["title is given twice", "line 2"]),
        ("{title: A,\n title: B}", 3, ["title is given twice", "line 2"]),
        ("title: &x A\nwords: *x", 2, ["anchor"]),
        ("title: A\nwords: *x", 3, ["alias"]),
        ("title: A\nwords: !!int 3", 3, ["tag"]),
        ("<<: 3", 2, ["a key", "not a word"]),
        ('title: "A\nwords: 3\n', 2, ["not YAML", "end of stream"]),
        ("title: A\n--- b", 3, ["document"]),
        ("just words", 2, ["no key", "just words"]),
        ("- title", 2, ["not a list"]),
        ("title: A\nwords: " + "[" * 60, 3, ["Put a value that starts with ["]),
        ("title: A\nwords: " + "x" * 70_000, 1, ["64 KB", "---"]),
    ],
)
def test_both_readers_refuse_the_same_with_its_line(
    reader: str, front: str, line: int, words: list[str]
) -> None:
    with pytest.raises(BadInput) as caught:
        READERS[reader](f"---\n{front}\n---\nBody\n")
    assert caught.value.where == Where("a.md", line)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
def test_the_text_after_it_and_its_first_line_are_kept(reader: str) -> None:
    front = READERS[reader]('---\ntitle: "A: b"\n\n# a remark\nwords: 3\n---\n\nOne\n---\nTwo')
    assert front is not None
    assert (front.lines, front.body_line) == ({"title": 2, "words": 5}, 7)
    assert front.body == "\nOne\n---\nTwo"
    assert front.values == {"title": "A: b", "words": 3 if reader == "typed" else "3"}


@pytest.mark.parametrize("text", ["", "Words\n", "---\ntitle: A\n", "\n---\ntitle: A\n---\n"])
def test_a_text_without_it_is_only_a_text_unless_it_is_asked_for(text: str) -> None:
    assert READERS["typed"](text) is None
    with pytest.raises(BadInput):
        READERS["texts"](text)


def test_types_are_yaml_1_2_for_content() -> None:
    front = frontmatter.read_typed(
        "---\npublished: 2026-01-02\nrecalled: true\ntopics: [a, no]\nwords: 0x10\n---\n", "a.md"
    )
    assert front is not None
    assert front.values == {
        "published": date(2026, 1, 2),
        "recalled": True,
        "topics": ["a", "no"],
        "words": 16,
    }
