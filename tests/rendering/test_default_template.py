"""The default template in a real browser: phones, dark mode, images off, no request to anybody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from newsletter.drafting import Issue
from newsletter.rendering import compile_issue, compose, neutral_recipient
from newsletter.workspace import Workspace

BODY = """
Hello {{ subscriber.first_name | default("there") }}, see [the study](https://a.example/).

::: feature {title="The gold standard" src=a.jpg alt="A towel" href="https://a.example/hero"}
Professional removal remains the most effective method.
:::

::: tip {title="Every day"}
Wear **SPF 30+** for a week, and [keep](https://a.example/k) retinoids away.
:::

::: excerpt {title="A closer look" href="https://a.example/closer"}
It varies. Averyveryveryveryveryveryveryveryveryveryveryveryveryveryveryverylongwordindeed.
:::

::: quote {by="Dr. Rosa Lind"}
Milia are not dirt.
:::

::::: columns
:::: column
::: image {src=a.jpg alt="Cotton pads"}
:::
::::
:::: column
::: tip
Warm water, *not* hot.
:::
::: button {href="https://a.example/more"}
More
:::
::::
:::::

::: divider
:::

| a long heading | another one | and a third one |
|----------------|-------------|-----------------|
| `some code`    | words       | more words      |
"""

CONTRAST = """() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const lum = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const c = parse(getComputedStyle(node).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = walker.nextNode());) {
    const node = text.parentElement;
    if (!text.data.trim() || node.closest('[style*="display:none"], [style*="display: none"]')) continue;
    const [a, b] = [lum(parse(getComputedStyle(node).color)), lum(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([text.data.trim(), ratio]);
  }
  return poor;
}"""  # noqa: E501


@pytest.fixture
def page_file(
    workspace: Workspace,
    write_issue: Callable[..., Issue],
    make_image: Callable[..., None],
    request: pytest.FixtureRequest,
) -> Path:
    """The issue as a file, its images beside it."""
    make_image("a.jpg", (1600, 1000))
    front = f"template: {getattr(request, 'param', 'default')}\n"
    rendered = compile_issue(workspace, write_issue(BODY, front=front))
    folder = workspace.root / "page"
    folder.mkdir()
    for file in rendered.media:
        (folder / f"{file.asset.sha256}.{file.asset.extension}").write_bytes(file.content)
    html = compose(rendered.compiled, neutral_recipient()).html
    assert len(html.encode()) < 102_000
    path = folder / "page.html"
    path.write_text(html.replace("http://127.0.0.1:8000/media/", ""), encoding="utf-8")
    return path


@pytest.mark.browser
@pytest.mark.parametrize("page_file", ["default", "plain"], indirect=True)
@pytest.mark.parametrize(
    ("width", "scheme"),
    [(800, "light"), (375, "light"), (320, "light"), (320, "dark"), (800, "dark")],
)
def test_it_fits_is_readable_and_asks_nobody(
    browser: Any, page_file: Path, width: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=True
    )
    page = context.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(page_file.as_uri())
    assert [url for url in requested if not url.startswith("file:")] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    assert page.get_by_role("link", name="Unsubscribe").is_visible()
    assert page.get_by_text("1 Rose Lane").is_visible()
    for image in page.locator("img").all():
        assert image.get_attribute("alt")
        assert image.evaluate("node => node.naturalWidth") > 0
    context.close()


@pytest.mark.browser
def test_columns_stand_beside_each_other_and_stack_on_a_phone(
    browser: Any, page_file: Path
) -> None:
    for width, stacked in ((800, False), (375, True)):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(page_file.as_uri())
        picture = page.get_by_alt_text("Cotton pads").bounding_box()
        tip = page.get_by_text("Warm water").bounding_box()
        assert (tip["y"] >= picture["y"] + picture["height"]) is stacked
        page.close()


@pytest.mark.browser
def test_with_images_off_it_still_says_everything(browser: Any, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 800, "height": 800})
    page.route("**/*.{jpg,png}", lambda route: route.abort())
    page.goto(page_file.as_uri())
    for words in ("The gold standard", "A closer look", "Read on", "More", "Unsubscribe"):
        assert page.get_by_text(words).first.is_visible()
    alt = page.get_by_alt_text("A towel")
    assert alt.is_visible()
    assert alt.evaluate("node => getComputedStyle(node).fontStyle") == "italic"
    page.close()


PLACEHOLDER = """node => {
  const light = (c) => c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const style = getComputedStyle(node);
  return [light(style.backgroundColor), light(style.color)];
}"""


@pytest.mark.browser
@pytest.mark.parametrize("page_file", ["default", "plain"], indirect=True)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_place_of_an_image_that_is_off_follows_the_mode(
    browser: Any, page_file: Path, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": 800, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.route("**/*.{jpg,png}", lambda route: route.abort())
    page.goto(page_file.as_uri())
    ground, words = page.get_by_alt_text("A towel").evaluate(PLACEHOLDER)
    assert (ground < 0.2) is (scheme == "dark")
    assert (max(ground, words) + 0.05) / (min(ground, words) + 0.05) >= 4.5
    context.close()


@pytest.mark.browser
def test_a_right_to_left_language_runs_that_way(
    browser: Any, workspace: Workspace, write_issue: Callable[..., Issue]
) -> None:
    body = (
        "مرحبا\n\n- واحد\n\n::: tip\nنصيحة\n:::\n\n"
        "::::: columns\n:::: column\nأول\n::::\n:::: column\nثان\n::::\n:::::"
    )
    issue = write_issue(body, front="language: ar\n")
    page = browser.new_page(viewport={"width": 800, "height": 800})
    page.set_content(compile_issue(workspace, issue).compiled.web)
    for words in ("مرحبا", "واحد", "نصيحة"):
        place = page.get_by_text(words, exact=True)
        assert place.evaluate("node => getComputedStyle(node).direction") == "rtl"
        assert place.evaluate("node => getComputedStyle(node).textAlign") == "right"
    first = page.get_by_text("أول", exact=True).bounding_box()
    second = page.get_by_text("ثان", exact=True).bounding_box()
    assert first["x"] > second["x"]
    page.close()
