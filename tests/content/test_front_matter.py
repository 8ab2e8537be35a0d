"""Front matter: what is simple is read the short way, with the same result as by YAML."""

from __future__ import annotations

from datetime import date

import pytest

from newsletter.content import frontmatter
from newsletter.errors import BadInput

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
    short = frontmatter.parse(text, "a.md")
    monkeypatch.setattr(frontmatter, "_plain", lambda _: None)
    long = frontmatter.parse(text, "a.md")
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
    parsed = frontmatter.parse(frontmatter.compose(values) + "\nBody\n", "a.md")
    assert parsed is not None
    assert {key: str(value) for key, value in parsed.values.items()} == {
        key: str(value) for key, value in values.items()
    }


def test_a_bomb_is_refused_before_it_is_built() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]" for n in range(20)]
    with pytest.raises(BadInput, match="anchor"):
        frontmatter.parse("---\n" + "\n".join(lines) + "\n---\n", "a.md")
