"""Several articles in one text: found by their headings alone, nothing lost, nothing doubled."""

from __future__ import annotations

import textwrap
import time
from datetime import date
from pathlib import Path

import pytest
from article_corpus import ENGLISH, FRENCH, GERMAN, GROUPS, LONG, RIVALS, Style, Written, typed

from newsletter.content.splitting import Division, divide
from newsletter.errors import BadInput

SEED = Path(__file__).parent.parent / "data" / "seed.txt"
HELD = GROUPS["held-english"]

FILES: dict[str, list[Written]] = {
    "two": ENGLISH[:2],
    "two on one field": [ENGLISH[0], ENGLISH[5]],
    "three": HELD[:3],
    "five": HELD,
    "eight": ENGLISH,
    "german": GERMAN,
    "german two": GROUPS["held-german"],
    "french": FRENCH,
    "french two": GROUPS["held-french"],
    "same title": RIVALS,
    "one": [HELD[3]],
    "one with many sections": [LONG],
    "a long one between": [ENGLISH[1], LONG, ENGLISH[2]],
}
STYLES = {
    "no blank lines": Style(blank=""),
    "blank lines": Style(),
    "windows": Style(blank="", ends="\r\n"),
    "old mac": Style(blank="", ends="\r"),
    "no first title": Style(blank="", first_title=False),
    "capitals": Style(caps="all"),
    "titles in capitals": Style(caps="titles", blank=""),
    "by-lines": Style(byline="By Jane Doe"),
    "dates": Style(byline="March {}, 2024", blank=""),
    "markdown": Style(title="# {}", heading="## {}"),
    "markdown of one level": Style(title="# {}", heading="# {}", blank=""),
    "deeper markdown": Style(title="## {}", heading="### {}"),
    "bold": Style(title="**{}**", heading="**{}**"),
    "rules": Style(between="---"),
    "gaps": Style(between="\n"),
    "numbered sections": Style(numbered=True),
    "a call at the end": Style(blank="", call="Subscribe to our newsletter for more tips"),
}


def titles(division: Division) -> list[str]:
    return [part.title for part in division.parts]


def check(articles: list[Written], style: Style) -> None:
    division = divide(typed(articles, style))
    capitals = style.caps in {"titles", "all"}
    wanted = [each.title.upper() if capitals else each.title for each in articles]
    found = titles(division)
    assert len(found) == len(wanted), found
    assert found[1:] == wanted[1:]
    if style.first_title:
        assert found[0] == wanted[0]
    for part, article in zip(division.parts, articles, strict=True):
        for paragraph in article.paragraphs:
            assert part.body.count(paragraph) == 1
        heads = [line for line in part.body.split("\n") if line.startswith("#")]
        assert len(heads) == len(article.headings)
    assert [call.text for call in division.calls] == ([style.call] if style.call else [])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", FILES)
def test_articles_are_told_from_sections(name: str, style: str) -> None:
    check(FILES[name], STYLES[style])


@pytest.mark.parametrize("name", ["two", "eight", "five", "one", "one with many sections"])
def test_headings_as_questions(name: str) -> None:
    asked = [
        Written(a.title + "?", a.lead, tuple((h + "?", t) for h, t in a.sections))
        for a in FILES[name]
    ]
    check(asked, Style(blank=""))


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("two", "In conclusion, "),
        ("eight", "To sum up, "),
        ("german", "Zusammenfassend lässt sich sagen: "),
        ("french", "En résumé, "),
        ("same title", "All in all, "),
        ("one with many sections", "In summary, "),
    ],
)
def test_a_conclusion_may_be_a_paragraph(name: str, opening: str) -> None:
    check([each.inline_conclusion(opening) for each in FILES[name]], Style(blank=""))


@pytest.mark.parametrize("name", ["two", "two on one field", "eight", "german", "french", "one"])
def test_there_may_be_no_conclusion(name: str) -> None:
    check([each.without_conclusion() for each in FILES[name]], Style(blank=""))


@pytest.mark.parametrize("name", ["two", "eight", "five", "german two", "french"])
def test_articles_may_have_no_sections(name: str) -> None:
    check([each.flat() for each in FILES[name]], Style())


def test_the_sample_is_four_articles_with_their_sections() -> None:
    lines = SEED.read_text(encoding="utf-8").split("\n")
    division = divide(SEED.read_text(encoding="utf-8"))
    assert [(part.first, part.last) for part in division.parts] == [
        (1, 4),
        (5, 15),
        (16, 27),
        (28, 40),
    ]
    assert titles(division)[1:] == [lines[4], lines[15], lines[27]]
    assert 0 < len(titles(division)[0]) <= 80
    assert lines[0].startswith(titles(division)[0])
    bodies = "\n\n".join(part.body for part in division.parts).replace("## ", "").split("\n\n")
    assert bodies == [line for at, line in enumerate(lines[:40]) if at not in {4, 15, 27}]
    assert [(call.line, call.text) for call in division.calls] == [(41, lines[40])]
    assert division.uncertain == []


def test_a_section_that_comes_again_shows_a_new_article() -> None:
    text = (
        "GROWING ROSES\nRoses need sun. They like it.\nPRUNING\nCut in March.\n"
        "GROWING LILIES\nLilies need shade. They like it.\nPRUNING\nDo not cut.\n"
    )
    assert titles(divide(text)) == ["GROWING ROSES", "GROWING LILIES"]


def test_byline_and_date_leave_the_body() -> None:
    text = """\
Growing Basil Indoors
By Jane Doe, Garden Editor
Published on March 3, 2024
Basil is a tender herb. It likes warmth.
Light
A south window suits basil best.
Growing Mint
3. April 2024 – Anna Müller
Mint is a hardy herb. It likes shade.
Water
Mint needs more water than basil.
"""
    first, second = divide(text).parts
    assert (first.title, first.author) == ("Growing Basil Indoors", "Jane Doe, Garden Editor")
    assert first.published == date(2024, 3, 3)
    assert (second.title, second.author) == ("Growing Mint", "Anna Müller")
    assert second.published == date(2024, 4, 3)
    assert "Doe" not in first.body
    assert "2024" not in first.body + second.body


def test_a_date_may_stand_over_the_title() -> None:
    text = "12 May 2024\nA Walk in the Dunes\nDunes are hills of sand. They move with the wind.\n"
    (part,) = divide(text).parts
    assert (part.title, part.published) == ("A Walk in the Dunes", date(2024, 5, 12))


def test_lists_stay_lists() -> None:
    text = """\
How to Repot a Cactus
Repotting a cactus takes ten minutes. You will need:
- gloves
- a clay pot
- Gritty soil
Step by Step
1. Loosen the soil.
2. Lift the cactus with folded paper.
3. Fill in new soil.
Conclusion
A cactus likes a tight pot. Water it after a week.
"""
    (part,) = divide(text).parts
    assert "- gloves\n- a clay pot\n- Gritty soil" in part.body
    assert "1. Loosen the soil.\n2. Lift the cactus" in part.body
    assert [line for line in part.body.split("\n") if line[:1] == "#"] == [
        "## Step by Step",
        "## Conclusion",
    ]


def test_unmarked_lists_are_no_headings() -> None:
    text = """\
A Simple Toolkit for the Balcony
Balcony gardeners need few tools. These are enough:
Trowel
Gloves
Watering can
All of them fit into a bucket. Keep the bucket dry.
"""
    (part,) = divide(text).parts
    assert "#" not in part.body


def test_wrapped_lines_are_put_together() -> None:
    articles = ENGLISH[:3]
    wrapped = "\n\n".join(
        textwrap.fill(block, 72) for block in typed(articles, Style()).strip().split("\n\n")
    )
    division = divide(wrapped)
    assert titles(division) == [each.title for each in articles]
    for part, article in zip(division.parts, articles, strict=True):
        for paragraph in article.paragraphs:
            assert paragraph in part.body


@pytest.mark.parametrize(
    "call",
    [
        "Get updated with beauty resources, tips, and news",
        "Subscribe to our newsletter!",
        "Sign up for weekly garden tips.",
        "Jetzt anmelden und keinen Beitrag verpassen",
        "Melden Sie sich für unseren Newsletter an.",
        "Abonnez-vous à notre infolettre",
        "Inscrivez-vous pour recevoir nos conseils",
        "# Subscribe",
    ],
)
def test_calls_to_action_belong_to_no_article(call: str) -> None:
    text = typed(ENGLISH[:2], Style(blank="")) + call + "\n"
    division = divide(text)
    assert [each.line for each in division.calls] == [len(text.split("\n")) - 1]
    assert call not in "".join(part.body for part in division.parts)
    assert len(division.parts) == 2


def test_a_call_between_articles_is_taken_out() -> None:
    call = "Follow us for more stories"
    text = typed(HELD[:1], Style(blank="")) + call + "\n" + typed(HELD[1:2], Style(blank=""))
    division = divide(text)
    assert titles(division) == [each.title for each in HELD[:2]]
    assert [each.text for each in division.calls] == [call]


def test_a_heading_like_a_call_stays_in_its_article() -> None:
    text = (
        "Eating With the Seasons\nSeasonal food tastes better and costs less than imports do.\n"
        "Join the Farmers at the Market\nMarkets are open on Saturdays. Go early for eggs.\n"
    )
    division = divide(text)
    assert division.calls == []
    assert len(division.parts) == 1


def test_questions_and_sources_after_the_conclusion_start_nothing() -> None:
    article = HELD[1]
    more = (
        ("Frequently Asked Questions", ("Is matcha stronger? It is, as the whole leaf is drunk.",)),
        ("References", ("Smith, J. (2019). Tea and weight. Journal of Tea, 4, 1-9.",)),
    )
    check([Written(article.title, article.lead, article.sections + more)], Style(blank=""))


def test_underlined_headings() -> None:
    text = ""
    for each in HELD[:3]:
        text += f"{each.title}\n=========\n\n{each.lead[0]}\n\n"
        text += f"{each.headings[0]}\n-----\n\n{each.sections[0][1][0]}\n\n"
    assert titles(divide(text)) == [each.title for each in HELD[:3]]


def test_what_is_uncertain_is_said_with_its_line() -> None:
    text = typed([each.without_conclusion() for each in HELD[3:]], Style(blank=""))
    division = divide(text)
    line = text.split("\n").index(HELD[4].title) + 1
    assert line in [noted.line for noted in division.uncertain]


def test_split_at_decides() -> None:
    text = typed(HELD[3:], Style(blank=""))
    line = text.split("\n").index(HELD[4].title) + 1
    division = divide(text, split_at=[line])
    assert titles(division) == [HELD[3].title, HELD[4].title]
    assert division.parts[1].first == line
    assert division.uncertain == []
    (whole,) = divide(text, split_at=[], whole=True).parts
    assert whole.body.count("## ") == len(HELD[3].headings) + len(HELD[4].headings) + 1


@pytest.mark.parametrize("line", [0, 1, -3, 500])
def test_split_at_must_be_a_line_of_the_text(line: int) -> None:
    with pytest.raises(BadInput, match="split-at"):
        divide(typed(HELD[:1], Style()), split_at=[line])


@pytest.mark.parametrize(
    "text",
    [
        "a " * 400_000,
        "A" * 500_000,
        "By " * 200_000,
        "#" * 300_000,
        "-" * 300_000,
        "1. " * 100_000,
        "Heading\n" * 20_000,
        "Heading One Two\nSome text that ends in a stop.\n" * 3_000,
        "\n" * 500_000 + "x",
    ],
    ids=["words", "one word", "by", "hashes", "dashes", "numbers", "lines", "sections", "blank"],
)
def test_hostile_texts_take_little_time(text: str) -> None:
    started = time.perf_counter()
    divide(text)
    assert time.perf_counter() - started < 8


QUESTIONS = """\
What Is Retinol?
Retinol is a form of vitamin A that speeds up the renewal of skin cells. It is well studied.
How does it work?
It binds to receptors in the cell and tells it to make more collagen.
Who should not use it?
Pregnant women should avoid retinol. Ask your doctor if you are unsure.
What Is Niacinamide?
Niacinamide is vitamin B3. It calms redness and strengthens the skin's barrier.
Can I combine it with retinol?
Yes, the two work well together, and niacinamide makes retinol easier to tolerate.
What concentration is right?
Between two and five per cent is enough for most people.
What Is Hyaluronic Acid?
Hyaluronic acid is a sugar that holds water. The body makes less of it with every year.
Does molecule size matter?
Small molecules go deeper, large ones sit on the surface and smooth it.
"""


def test_titles_that_ask_the_same_of_other_subjects_start_articles() -> None:
    found = titles(divide(QUESTIONS))
    assert found == ["What Is Retinol?", "What Is Niacinamide?", "What Is Hyaluronic Acid?"]


HOUSE = """\
5 Ways to Save Water at Home
Water bills rise every year. These five habits cost nothing.
1. Take shorter showers.
2. Fix dripping taps.
3. Run the dishwasher only when it is full.
None of them hurts, and together they save a family about 200 pounds a year.
How to Insulate a Loft
An uninsulated loft loses a quarter of a house's heat. Two layers of wool stop most of it.
What you need
- Mineral wool, 100 mm and 170 mm
- A mask and gloves
Laying the first layer
Roll the wool between the joists, without squeezing it.
Is It Worth It?
In most houses the material pays for itself within three winters.
Heat Pumps Explained
A heat pump moves heat instead of making it, three units for every unit of electricity.
Air or ground?
Air pumps are cheaper to install. Ground pumps need a garden.
"""


def test_titles_in_title_case_stand_out_from_sections_in_sentence_case() -> None:
    division = divide(HOUSE)
    assert titles(division) == [
        "5 Ways to Save Water at Home",
        "How to Insulate a Loft",
        "Heat Pumps Explained",
    ]
    assert "## What you need" in division.parts[1].body


def test_a_closing_counts_where_it_is_the_last_sentence_of_a_paragraph() -> None:
    text = """\
Lemon drizzle cake forgives almost everything. The crumb stays soft for days.
Be careful with the syrup, as hot sugar burns. All in all, anybody can make this cake.
A Slow-Cooked Ragu for Cold Evenings
A ragu is a patient dish. It asks for four hours of your time.
Building the Sauce
Brown the meat in batches. Then add wine, tomatoes and a bay leaf.
"""
    assert titles(divide(text))[1:] == ["A Slow-Cooked Ragu for Cold Evenings"]


COUNTED = """\
Five Skincare Ingredients Worth Knowing
Labels are long and full of chemistry. These five names are worth remembering.
Retinol
Retinol speeds up cell renewal. It is best used at night.
Niacinamide
Niacinamide is a form of vitamin B3. It calms redness.
Hyaluronic Acid
Hyaluronic acid binds water. It is found in most serums.
Vitamin C
Vitamin C brightens the skin. It does not keep for long once opened.
Salicylic Acid
Salicylic acid unclogs pores. It is a friend of oily skin.
Putting It All Together
Start with one product at a time, and wait two weeks before adding the next.
"""


def test_a_title_that_counts_keeps_its_sections() -> None:
    division = divide(COUNTED)
    assert titles(division) == ["Five Skincare Ingredients Worth Knowing"]
    assert division.uncertain == []


def test_a_call_to_action_between_two_articles_parts_them() -> None:
    text = """\
How to Brew Pour-Over Coffee
Pour-over coffee is clean and bright. It takes four minutes and a little attention.
The Grind
Medium, like sea salt. Finer grinds choke the filter.
The Pour
Bloom first, then pour in slow circles.
Sign up for our newsletter for more coffee recipes
Cold Brew at Home
Cold brew steeps for a night in the fridge. It is low in acid and keeps for a week.
Ratio
One part coffee to eight parts water.
"""
    assert titles(divide(text)) == ["How to Brew Pour-Over Coffee", "Cold Brew at Home"]


@pytest.mark.parametrize("style", ["no blank lines", "blank lines", "windows", "capitals", "bold"])
@pytest.mark.parametrize("name", ["unclosed", "unclosed-german"])
def test_articles_that_end_without_a_closing_are_told_apart(name: str, style: str) -> None:
    check(GROUPS[name], STYLES[style])


PROSE = """\
Why your towels smell

Towels smell when they stay damp. The bacteria that cause it live in the loops of the cotton, and
they multiply each night that a towel hangs folded over a hook.

Wash them at sixty degrees and leave out the softener, which coats the fibres and keeps the water
in. Hang them over a bar afterwards, spread out, with the window open for a quarter of an hour.

A towel that has smelled for months may need two washes, the first with a cup of vinegar.

How to read a wine label in one minute
{byline}
The largest word on a label is often the least useful one. Look for the place instead: the smaller
the region that is named, the stricter are the rules that the wine had to follow.

The vintage tells how old it is, and little else in a warm country. The alcohol tells more, since
ripe grapes give more of it, and a white of fourteen per cent will never taste light.

What no label can tell you is how the bottle was kept. So buy where bottles are sold quickly.

Is a dishwasher worth the money?

A dishwasher uses less water than a tap that runs, and it does so every day of the year. For a
family of four it saves about an hour a week, which is what most people buy it for.

For someone who eats alone it stands half empty, and half a load costs as much as a full one does.
Try to count your plates for a week. If they fill the machine twice, buy it; if not, leave it.
"""


@pytest.mark.parametrize("byline", ["", "\nBy Marta Lindqvist\n"])
@pytest.mark.parametrize("mark", ["", "# "])
def test_articles_without_sections_are_found_without_any_closing(byline: str, mark: str) -> None:
    wanted = [
        "Why your towels smell",
        "How to read a wine label in one minute",
        "Is a dishwasher worth the money?",
    ]
    text = PROSE.format(byline=byline)
    for title in wanted:
        text = text.replace(title, mark + title)
    assert titles(divide(text)) == wanted


def test_a_title_after_a_separator_is_no_uncertainty() -> None:
    text = PROSE.format(byline="")
    for title in ("How to read a wine", "Is a dishwasher"):
        text = text.replace(title, f"---\n\n{title}")
    division = divide(text)
    assert len(division.parts) == 3
    assert division.uncertain == []


def test_a_level_that_repeats_over_deeper_ones_is_the_articles() -> None:
    text = "# Salt\n\nSalt keeps.\n\n## Kinds\n\nFine.\n\n# Its uses\n\nUse it.\n\n"
    text += "# Pepper\n\nIt burns.\n"
    division = divide(text)
    assert titles(division) == ["Salt", "Its uses", "Pepper"]
    assert division.uncertain == []
