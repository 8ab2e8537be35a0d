"""The form path in a real browser: without JavaScript, by keyboard, on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.browser


def test_a_reader_signs_up_confirms_and_leaves_without_javascript(live: Any, browser: Any) -> None:
    context = browser.new_context(
        java_script_enabled=False, viewport={"width": 375, "height": 760}, base_url=live.url
    )
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Email address").fill("rosa@example.com")
    page.get_by_label("First name").fill("Rosa")
    page.get_by_label("Yes, please send me").check()
    page.get_by_role("button", name="Subscribe").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Please check your inbox"
    found = re.search(r"/confirm/[\w.-]+", live.outbox()[0].text)
    assert found
    page.goto(found[0])
    page.get_by_role("button", name="Confirm my subscription").click()
    assert live.row(1).state == "active"
    page.get_by_role("link", name="Your preferences").click()
    page.get_by_label("At most one issue a month").check()
    page.get_by_role("button", name="Save").click()
    assert page.get_by_role("status").inner_text().startswith("Saved.")
    assert live.row(1).frequency == "monthly"
    page.goto(f"/unsubscribe/{live.token(1)}")
    page.get_by_role("button", name="Unsubscribe").click()
    assert live.row(1).state == "unsubscribed"
    context.close()


@pytest.mark.parametrize("language", ["en", "de", "fr"])
def test_the_pages_fit_a_small_phone_and_need_nothing_from_elsewhere(
    make_site: Callable[..., Any], browser: Any, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    monkeypatch.setenv("NEWSLETTER_SITE__LANGUAGE", language)
    live = make_site()
    live.issue("one", title="A title that is rather long and has averyveryveryverylongword in it")
    person = live.person("a.very.long.address.indeed@subdomain.of.a.long.example.com")
    context = browser.new_context(viewport={"width": 320, "height": 640}, base_url=live.url)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("request", lambda asked: asked.url.startswith(live.url) or problems.append(asked.url))
    token = live.token(person)
    for path in ("/", "/archive", f"/unsubscribe/{token}", f"/preferences/{token}"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
        small = page.evaluate(
            "[...document.querySelectorAll('button, input:not([type=hidden]):not([tabindex]),"
            " .choices .choice')].filter(e => Math.max(e.offsetHeight,"
            " e.closest('label')?.offsetHeight ?? 0) < 24).length"
        )
        assert small == 0, path
        unnamed = page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden])')]"
            ".filter(e => !e.labels.length).length"
        )
        assert unnamed == 0, path
    assert problems == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_its_contrast_in_both_schemes(live: Any, browser: Any, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, base_url=live.url)
    page = context.new_page()
    page.goto(f"/preferences/{live.token(live.person())}")
    pairs = page.evaluate(
        """() => {
          const ground = e => {
            for (; e; e = e.parentElement) {
              const c = getComputedStyle(e).backgroundColor;
              if (!/, 0\\)$/.test(c)) return c;
            }
          };
          return [...document.querySelectorAll('h1,h2,p,label,legend,a,button,span')]
            .filter(e => e.innerText?.trim() && !e.classList.contains('skip'))
            .map(e => [getComputedStyle(e).color, ground(e), e.innerText.slice(0, 30)]);
        }"""
    )
    assert pairs
    for colour, ground, words in pairs:
        assert _contrast(colour, ground) >= 4.5, (words, colour, ground)
    context.close()


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    values = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
