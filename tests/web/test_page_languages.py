"""The public pages in the site's language: whole in each, and nothing of another."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from string import Formatter
from typing import Any

import pytest
from sqlalchemy import select

from newsletter import audience
from newsletter.store.schema import consents
from newsletter.tokens import timed_token
from newsletter.web.words import LANGUAGES, page_words
from support.site import ROOT

TEMPLATES = sorted((ROOT / "newsletter" / "web" / "templates").glob("*.html.j2"))
FOR_EDITORS = "preview.html.j2"  # who are spoken to in English
GOOD = {"email": "rosa@example.com", "consent": "yes"}
GIVEN = (  # what pages show besides their fixed words
    "Glow Letter Ltd, 1 Rose Lane, London E1 6AN",
    "Glow Letter",
    "ro…@example.com",
    "What is in it & why",
    "Hautpflege",
)


def entries(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a language's words, with its place among them."""
    if isinstance(value, str):
        yield path, value
    elif is_dataclass(value):
        for field in fields(value):
            yield from entries(getattr(value, field.name), f"{path}.{field.name}")
    else:
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in pairs:
            yield from entries(item, f"{path}.{key}")


def marks(text: str) -> set[str]:
    """The places to fill in; name and title are one, as languages differ in where they stand."""
    found = {name for _, name, _, _ in Formatter().parse(text) if name}
    return {"name" if name == "title" else name for name in found} | set(re.findall(r"[][]", text))


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_every_language_has_every_word(language: str) -> None:
    english, own = dict(entries(LANGUAGES["en"])), dict(entries(LANGUAGES[language]))
    assert english.keys() == own.keys()
    assert all(text.strip() for text in own.values())
    for path, text in own.items():
        if path != ".erase.done.links.0":  # in English it names the site, elsewhere its first page
            assert marks(text) == marks(english[path]), path
    assert set(LANGUAGES[language].preferences.frequencies) == set(audience.FREQUENCIES)


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_hardly_a_word_is_as_in_english(language: str) -> None:
    english, own = dict(entries(LANGUAGES["en"])), dict(entries(LANGUAGES[language]))
    same = {text for path, text in own.items() if text == english[path]}
    cognates = {"Newsletter", "Pages", "{day} {month} {year}", "1"}
    assert same <= cognates | {"April", "August", "September", "November"}


def test_a_language_without_words_is_served_in_english() -> None:
    assert page_words("pt-BR").language == "en"
    assert page_words("de-AT").language == "de"
    assert page_words("FR").language == "fr"


@pytest.mark.parametrize(
    ("language", "first", "later"),
    [
        ("en", "1 March 2026", "24 November 2026"),
        ("de", "1. März 2026", "24. November 2026"),
        ("fr", "1er mars 2026", "24 novembre 2026"),
    ],
)
def test_days_are_written_as_the_language_does(language: str, first: str, later: str) -> None:
    write = page_words(language).dates.write
    assert write(date(2026, 3, 1)) == first
    assert write(date(2026, 11, 24)) == later


@pytest.mark.parametrize(
    "template", [path for path in TEMPLATES if path.name != FOR_EDITORS], ids=lambda path: path.name
)
def test_no_template_has_words_of_its_own(template: Any) -> None:
    text = re.sub(r"{#.*?#}|{%.*?%}|{{.*?}}", "", template.read_text("utf-8"), flags=re.DOTALL)
    said = re.findall(r'(?:aria-label|title|alt|placeholder)="([^"]+)"', text)
    said += re.sub(r"<[^>]*>", "", text, flags=re.DOTALL).split()
    assert [words for words in said if re.search(r"\w", words)] == []


@pytest.mark.slow
def test_a_german_sites_pages_speak_german_alone(german: Any) -> None:
    for name, page in pages(german):
        assert re.findall(r'<html lang="([^"]*)"', page) == ["de"], name
        assert unknown_words(page) == "", name


def test_the_consent_is_kept_as_it_was_shown(german: Any) -> None:
    shown = html.unescape(german.client.get("/").text)
    german.client.post("/subscribe", data=GOOD)
    with german.store.read() as connection:
        kept = connection.execute(select(consents.c.text)).scalar_one()
    assert kept.startswith("Ja, bitte senden Sie mir Glow Letter per E-Mail.")
    assert f"<span>{kept}</span>" in shown


def test_an_issue_keeps_its_own_language_in_the_list(german: Any) -> None:
    german.clock.moment = datetime(2026, 2, 28, 23, 30, tzinfo=UTC)
    german.issue("one", title="An English issue")
    page = german.client.get("/archive").text
    assert ">1. März 2026</time>" in page, "the day in the site's zone, in its language"
    assert re.search(r'<div lang="en">\s*<h2><a [^>]*>An English issue', page)


def test_a_site_without_a_name_has_words_for_it(
    make_site: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEWSLETTER_SITE__LANGUAGE", "de")
    monkeypatch.setenv("NEWSLETTER_SITE__NAME", "")
    page = make_site().client.get("/").text
    assert "<h1>Unser Newsletter, direkt in Ihr Postfach</h1>" in page
    assert "bitte senden Sie mir diesen Newsletter per E-Mail" in page


@pytest.fixture
def german(make_site: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NEWSLETTER_SITE__LANGUAGE", "de-AT")
    monkeypatch.setenv("NEWSLETTER_SITE__TIMEZONE", "Europe/Vienna")
    return make_site('[[editions]]\nname = "w"\ncron = "0 9 * * 1"\ntopics = ["hautpflege"]\n')


def pages(site: Any) -> Iterator[tuple[str, str]]:
    """Each public page in each of its states, over HTTP."""

    def get(path: str) -> tuple[str, str]:
        return f"GET {path}", site.client.get(path).text

    def post(path: str, *, headers: dict[str, str] | None = None, **data: str) -> tuple[str, str]:
        return f"POST {path} {data}", site.client.post(path, data=data, headers=headers).text

    yield get("/")
    yield get("/archive")
    site.issue("one", title="Glow Letter")
    yield get("/")
    yield get("/archive")
    yield get("/archive?page=2")
    yield post("/subscribe", email="x")
    yield post("/subscribe", email="x", consent="yes")
    yield post("/subscribe", **GOOD)
    confirm = f"/confirm/{timed_token(site.workspace.key, 'confirm', 1, site.clock.now())}"
    yield get(confirm)
    yield post(confirm)
    preferences, leave = f"/preferences/{site.token(1)}", f"/unsubscribe/{site.token(1)}"
    yield get(preferences)
    yield post(preferences, action="save", frequency="monthly")
    yield post(preferences, action="erase")
    yield post(preferences, action="no such")
    yield get(leave)
    yield post(leave)
    yield get(preferences)
    yield post(confirm)
    yield get(f"/unsubscribe/{site.token(0)}")
    yield post(preferences, action="erase-now")
    yield get(preferences)
    yield get("/nothing")
    yield post("/archive")
    yield post("/subscribe", headers={"Origin": "https://evil.example"}, **GOOD)
    yield post("/subscribe", email="x" * 1_000_001)
    for _ in range(10):
        yield post("/subscribe")


def unknown_words(page: str) -> str:
    """What is left of a page's text without the German words and what the site was given."""
    said = re.findall(r'(?:aria-label|<meta name="description" content)="([^"]*)"', page)
    text = html.unescape(" ".join([*said, re.sub(r"<[^>]*>", " ", page)]))
    text = re.sub(r"\s+", " ", text)
    known = [part for _, words in entries(page_words("de")) for part in parts(words)]
    for words in sorted((*known, *GIVEN), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(words)}(?!\w)", " ", text)
    return " ".join(re.findall(r"[^\W\d_]+", text))


def parts(words: str) -> list[str]:
    """A text as it stands on the page: links apart, and split where something is filled in."""
    named = words.replace("{name}", "Glow Letter").replace("{title}", "Glow Letter")
    pieces = re.split(r"\{\w+\}|[][]", named.replace("\u00a0", " "))
    return [piece.strip(" ,.") for piece in pieces if re.search(r"\w", piece)]
