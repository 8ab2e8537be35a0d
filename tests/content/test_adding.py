"""Adding content: files, folders and pages become items once, whole, with what is like them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from article_corpus import ENGLISH, GROUPS, Style, typed

from newsletter.content.adding import Added, add_content, remove_content
from newsletter.content.library import load_item, load_items, slug
from newsletter.content.model import ContentItem, is_blocked
from newsletter.errors import BadInput, Conflict, NotFound, Where
from newsletter.fetching import Fetcher
from newsletter.store import Store
from newsletter.workspace import Workspace

SEED = Path(__file__).parent.parent / "data" / "seed.txt"
Add = Callable[..., Added]


@pytest.fixture
def add(workspace: Workspace, sqlite_store: Store, clock: object) -> Add:
    def run(*sources: object, to: Store = sqlite_store, **options: object) -> Added:
        fetcher = Fetcher(workspace.settings.fetch)
        return add_content(
            workspace, to, clock, [str(each) for each in sources], fetcher=fetcher, **options
        )

    return run


@pytest.fixture
def file(workspace: Workspace) -> Callable[..., Path]:
    def write(name: str, content: str | bytes) -> Path:
        path = workspace.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_the_sample_becomes_four_files_and_its_overlaps_are_named(
    add: Add, workspace: Workspace, store: Store
) -> None:
    added = add(SEED, to=store)
    assert [item.source.rpartition("#")[2] for item in added.added] == [
        "L1-L4",
        "L5-L15",
        "L16-L27",
        "L28-L40",
    ]
    assert len({item.id for item in added.added}) == 4
    assert all(item.path.is_file() for item in added.added)
    similar = {each.id for each in added.duplicates}
    assert similar == {item.id for item in added.added[1:]}
    assert all(0 < each.similarity < 0.5 and each.passages for each in added.duplicates)
    for each in added.duplicates:
        body = load_item(workspace, each.id).body
        assert all(passage in body for passage in each.passages)
    assert [call["line"] for call in added.calls_to_action] == [41]


def test_the_same_again_adds_nothing(add: Add, workspace: Workspace, file: object) -> None:
    first = add(SEED)
    before = {path: path.read_bytes() for path in workspace.content.rglob("*.md")}
    again = add(SEED)
    assert again.added == []
    assert again.unchanged == [item.id for item in first.added]
    windows = file("windows.txt", SEED.read_text().replace("\n", "\r\n"))
    assert add(windows).added == []
    assert {path: path.read_bytes() for path in workspace.content.rglob("*.md")} == before


def test_an_edited_article_is_still_the_same(add: Add, workspace: Workspace) -> None:
    item = add(SEED).added[1]
    item.path.write_text(item.path.read_text().replace("Clinical studies", "Some studies"))
    assert item.id in add(SEED).unchanged
    assert "Some studies" in load_item(workspace, item.id).body


def test_unrelated_articles_are_no_duplicates(add: Add, file: Callable[..., Path]) -> None:
    text = typed([*ENGLISH, *GROUPS["held-english"]], Style(blank=""))
    assert add(file("many.txt", text)).duplicates == []


def test_split_at_replaces_what_no_issue_uses(
    add: Add, workspace: Workspace, file: Callable[..., Path]
) -> None:
    text = typed([each.flat() for each in ENGLISH[:3]], Style(blank=""))
    path = file("three.txt", text)
    lines = text.split("\n")
    first = add(path)
    assert len(first.added) == 3
    file(
        "issues/one/issue.md", f"---\nsubject: x\n---\n::: tip {{from={first.added[0].id}}}\n:::\n"
    )
    line = lines.index(ENGLISH[2].title) + 1
    second = add(path, split_at=[line])
    assert [item.source for item in second.added] == [f"three.txt#L1-L{line - 1}"]
    assert second.unchanged == [first.added[2].id]
    ids = {item.id for item in load_items(workspace)}
    assert first.added[0].id in ids  # an issue uses it
    assert first.added[1].id not in ids
    assert any(first.added[0].id in each["reason"] for each in second.uncertain)


def test_a_division_by_hand_is_kept_when_the_file_comes_again(
    add: Add, file: Callable[..., Path]
) -> None:
    text = typed([ENGLISH[0]], Style(blank=""))
    path = file("one.txt", text)
    assert len(add(path).added) == 1
    line = text.split("\n").index(ENGLISH[0].headings[1]) + 1
    by_hand = add(path, split_at=[line])
    assert len(by_hand.added) == 2
    again = add(path)
    assert (again.added, again.unchanged) == ([], [item.id for item in by_hand.added])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b" \n\t\n", "empty"),
        (b"-----\n...", "no words"),
        (b"caf\xe9 au lait", "UTF-8"),
        (b"\x00\x01\x02\xff binary", "binary"),
        (b"---\ntitel: X\n---\nText.\n", "title"),
        (b"---\ntitle: [1\n---\nText.\n", ":2"),
        (b"---\na: &a 1\nb: *a\n---\nText.\n", ":2"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_the_reason(
    add: Add, file: Callable[..., Path], content: bytes, reason: str
) -> None:
    good = file("good.txt", "A title\nA sentence about roses that is long enough to be one.\n")
    added = add(file("bad.txt", content), good)
    assert [each.source for each in added.rejected] == ["bad.txt"]
    assert reason in added.rejected[0].reason
    assert len(added.added) == 1


def test_missing_large_and_odd_files_are_rejected(
    add: Add, workspace: Workspace, file: Callable[..., Path]
) -> None:
    import os

    os.mkfifo(workspace.root / "pipe")
    (workspace.root / "empty-folder").mkdir()
    large = file("large.txt", b"word " * 1_200_000)
    added = add("no/such.txt", workspace.root / "pipe", workspace.root / "empty-folder", large)
    assert len(added.rejected) == 4
    assert added.nothing_read
    assert "5,000,000" in added.rejected[3].reason


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_understood(
    add: Add, file: Callable[..., Path], encoding: str
) -> None:
    path = file("bom.txt", "Äpfel lagern\nÄpfel mögen es kühl und dunkel.\n".encode(encoding))
    (item,) = add(path).added
    assert (item.id, item.title) == ("articles/aepfel-lagern", "Äpfel lagern")


def test_a_folder_gives_all_its_texts(add: Add, file: Callable[..., Path]) -> None:
    file("in/a.txt", "First title\nFirst text about apples and their storage.\n")
    file("in/deep/b.md", "# Second title\n\nSecond text about pears and how to dry them.\n")
    file("in/c.html", PAGE)
    file("in/.hidden.txt", "Hidden")
    file("in/d.bin", b"\x00\x01")
    added = add(file("in/a.txt", "First title\nFirst text about apples.\n").parent)
    assert {item.title for item in added.added} == {"First title", "Second title", "Rose Water"}
    assert [each.source for each in added.rejected] == ["in/d.bin"]


PAGE = """<!doctype html><html><head><title>Rose Water</title></head><body>
<nav><a href="/">Home</a> <a href="/shop">Shop</a></nav>
<article><h1>Rose Water</h1>
<p>Rose water is distilled from petals and has been used for centuries in kitchens and baths.</p>
<h2>How to use it</h2>
<p>Dab it on the face after cleansing. It may irritate very sensitive skin, so test it first.</p>
<script>alert(1)</script></article><footer>Copyright</footer></body></html>"""


def test_a_page_gives_its_article_only(add: Add, file: Callable[..., Path]) -> None:
    (item,) = add(file("page.html", PAGE)).added
    assert item.title == "Rose Water"
    assert "## How to use it" in item.body
    assert "Home" not in item.body
    assert "alert" not in item.body
    assert item.source == "page.html"


@pytest.mark.parametrize(
    "page", ["{}", "<!-- saved from a page -->\n<!doctype html><html><body>{}</body></html>"]
)
def test_a_part_of_a_page_and_one_under_a_comment_are_pages(
    add: Add, file: Callable[..., Path], page: str
) -> None:
    body = "<h1>Sun care</h1>\n<p>Wear a hat. It helps.</p>\n<p>Drink water at noon.</p>"
    (item,) = add(file("saved.html", page.format(body))).added
    assert item.title == "Sun care"
    assert item.body == "Wear a hat. It helps.\n\nDrink water at noon."


def test_front_matter_of_a_source_is_kept(add: Add, file: Callable[..., Path]) -> None:
    path = file(
        "a.md",
        "---\ntitle: Tea\nauthor: Ann Lee\ndate: 2026-01-02\ntags: [tea, health]\n"
        "review_by: 2026-12-31\nlayout: post\n---\n\nTea is a leaf.\n\n"
        "## Kinds\n\nGreen and black.\n",
    )
    added = add(path)
    (item,) = added.added
    assert (item.title, item.author, item.topics) == ("Tea", "Ann Lee", ("tea", "health"))
    assert item.published is not None
    assert item.published.isoformat() == "2026-01-02"
    assert "## Kinds" in item.body
    assert [(each["line"]) for each in added.uncertain] == [7]
    today = item.published
    assert is_blocked(item, today) is None
    assert "2026-12-31" in (is_blocked(item, today.replace(year=2027)) or "")


def test_tips_come_from_a_list_or_an_article(
    add: Add, workspace: Workspace, file: Callable[..., Path]
) -> None:
    path = file(
        "tips.txt", "- Wear SPF 30 every day.\n- Drink water.\n\n- Sleep on a clean pillow.\n"
    )
    added = add(path, kind="tip")
    assert [item.body for item in added.added] == [
        "Wear SPF 30 every day.",
        "Drink water.",
        "Sleep on a clean pillow.",
    ]
    assert all(item.kind == "tip" and item.id.startswith("tips/") for item in added.added)
    assert add(path, kind="tip").added == []
    article = add(SEED).added[3]
    found = add(article.path, kind="tip")
    assert [item.source for item in found.added] == [article.id]
    assert found.added[0].body.startswith("Always prioritize professional advice")


def test_tips_of_a_file_of_prose_are_its_instructions(add: Add) -> None:
    found = add(SEED, kind="tip").added
    assert [item.source.rpartition("#")[2] for item in found] == ["L16-L27", "L28-L40"]
    assert all(item.body.startswith("Always prioritize") for item in found)


def test_titled_tips(add: Add, file: Callable[..., Path]) -> None:
    path = file(
        "t.md", "# Less is more\n\nUse a pea-sized amount.\n\n# Patience\n\nWait a minute.\n"
    )
    assert [(i.title, i.body) for i in add(path, kind="tip").added] == [
        ("Less is more", "Use a pea-sized amount."),
        ("Patience", "Wait a minute."),
    ]


def test_removing(
    add: Add, workspace: Workspace, sqlite_store: Store, file: Callable[..., Path]
) -> None:
    store = sqlite_store
    item = add(SEED).added[0]
    file("issues/x/issue.md", f'::: excerpt {{from="{item.id}"}}\n:::\n')
    with pytest.raises(Conflict, match="x"):
        remove_content(workspace, store, item.id)
    (workspace.issues / "x" / "issue.md").unlink()
    remove_content(workspace, store, item.id)
    assert not item.path.exists()
    with pytest.raises(NotFound):
        remove_content(workspace, store, item.id)
    assert [again.id for again in add(SEED).added] == [item.id]


@pytest.mark.parametrize(
    "id", ["../newsletter", "articles/../../newsletter", "/etc/passwd", "articles/", "x", "tips/.x"]
)
def test_ids_lead_nowhere_else(workspace: Workspace, sqlite_store: Store, id: str) -> None:
    with pytest.raises((BadInput, NotFound)):
        remove_content(workspace, sqlite_store, id)
    assert (workspace.root / "newsletter.toml").exists()


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("no front matter\n", 1, "front matter"),
        ("---\ntitle: A\n", 1, "front matter"),
        ("---\ntitle: A\nauthr: B\n---\nText\n", 3, "author"),
        ("---\nauthor: B\n---\nText\n", 1, "title"),
        ("---\ntitle: A\npublished: soon\n---\nText\n", 3, "date"),
        ("---\ntitle: A\ntopics: {a: b}\n---\nText\n", 3, "list"),
        ("---\ntitle: A\nwords: many\n---\nText\n", 3, "number"),
        ("---\ntitle: A\ntitle: B\n---\nText\n", 3, "twice"),
        ("---\ntitle: A: B\n---\nText\n", 2, "YAML"),
        ("---\ntitle: " + "[" * 60 + "\n---\n", 2, "nested"),
        ("---\ntitle: !!python/object:os.system x\n---\n", 2, "tag"),
        ("---\ntitle: A\nauthor: " + "x" * 70_000 + "\n---\n", 1, "64 KB"),
    ],
)
def test_a_faulty_file_is_named_with_its_line(
    workspace: Workspace, text: str, line: int, word: str
) -> None:
    path = workspace.content / "articles" / "a.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        load_items(workspace)
    assert caught.value.where == Where("content/articles/a.md", line)
    assert word in str(caught.value) or word == "twice"


def test_a_missing_item_is_not_found_or_bad_input_at_its_place(workspace: Workspace) -> None:
    with pytest.raises(NotFound):
        load_item(workspace, "articles/none")
    with pytest.raises(BadInput) as caught:
        load_item(workspace, "articles/none", where=Where("issues/a/issue.md", 7))
    assert str(caught.value).startswith("issues/a/issue.md:7")


def test_slugs() -> None:
    assert slug("What's New? Crème Brûlée & Öl") == "whats-new-creme-brulee-oel"
    assert slug("Уход за кожей") == "уход-за-кожеи"
    assert slug("?!") == "untitled"
    assert len(slug("word " * 60)) <= 80
    assert "/" not in slug("../../etc/passwd")


@pytest.mark.slow
def test_looking_for_forerunners_stays_fast(
    workspace: Workspace, sqlite_store: Store, clock: object
) -> None:
    import random

    from newsletter.content import duplicates

    chance = random.Random(7)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(3000)]
    path = workspace.content / "articles" / "x.md"
    path.write_text("---\ntitle: X\n---\nText\n")
    with sqlite_store.begin() as connection:
        for number in range(3000):
            body = " ".join(chance.choices(words, k=300))
            item = ContentItem(f"articles/{number}", "article", "t", body, path, "x", sha256="0")
            duplicates.add(connection, item)
        started = time.perf_counter()
        for _ in range(20):
            assert duplicates.find(connection, workspace, item) == []
        assert (time.perf_counter() - started) / 20 < 0.05
