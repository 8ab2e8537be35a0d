"""Excerpts and tips: whole sentences, in order, verbatim, never without their cautions."""

from __future__ import annotations

from pathlib import Path

import pytest
from article_corpus import ENGLISH, FRENCH, GERMAN

from newsletter.content import excerpt, find_tips, most_different
from newsletter.content.model import ContentItem
from newsletter.content.sentences import guess_language, split_sentences
from newsletter.content.splitting import divide

SEED = Path(__file__).parent.parent / "data" / "seed.txt"


def item(body: str, id: str = "articles/a") -> ContentItem:
    return ContentItem(
        id, "article", "T", body, Path("a.md"), "a.md", language=guess_language(body)
    )


SAMPLE = [item(p.body, f"articles/{n}") for n, p in enumerate(divide(SEED.read_text()).parts)]


@pytest.mark.parametrize("words", [1, 10, 30, 60, 120, 500])
@pytest.mark.parametrize("article", SAMPLE, ids=lambda each: each.id)
def test_sentences_are_verbatim_whole_and_in_order(article: ContentItem, words: int) -> None:
    found = excerpt(article, words)
    assert found.sentences
    places = [article.body.index(sentence) for sentence in found.sentences]
    assert places == sorted(places)
    assert found.text.replace(" …", "").split() == " ".join(found.sentences).split()
    assert "#" not in found.text


def test_the_length_is_kept_where_no_caution_is_needed() -> None:
    body = " ".join(f"Sentence number {n} has exactly these seven words." for n in range(40))
    assert 50 <= excerpt(item(body), 60).words <= 70
    assert 110 <= excerpt(item(body), 120).words <= 130


@pytest.mark.parametrize(
    ("claim", "between", "caution"),
    [
        ("Needling can smooth scars.", "", "However, it's not guaranteed to work."),
        ("Needling can smooth scars.", " It is done in an hour.", "It is not suitable for all."),
        ("Needling can smooth scars.", "\n\n", "Consult a dermatologist before you begin."),
        ("Shares rise over time.", "\n\n", "But you may lose money."),
        ("The oil calms the skin.", "\n\n", "See a dermatologist first."),
        ("The oil calms the skin.", "\n\n", "Check with your doctor before use."),
        ("The oil calms the skin.", " It smells good.", "Seek medical attention if it burns."),
        ("The oil calms the skin.", "\n\n", "Stop using it when your skin turns red."),
        ("The oil calms the skin.", "\n\n", "This hasn't been tested."),
        ("The oil calms the skin.", "\n\n", "Few studies support this."),
        ("The oil calms the skin.", " It smells good.", "It may cause pain."),
        ("The oil calms the skin.", "\n\n", "It can burn in the sun."),
        ("The oil calms the skin.", "\n\n", "Although rare, side effects do happen."),
        ("Das Öl hilft der Haut und ist mild.", " Es riecht gut.", "Allerdings ist es teuer."),
        ("Das Öl hilft der Haut und ist mild.", "\n\n", "Bei Reizungen ist ärztlicher Rat nötig."),
        ("Cette huile est bonne pour la peau.", "\n\n", "Cependant, elle ne convient pas à tous."),
        ("Cette huile est bonne pour la peau.", " Elle sent bon.", "Consultez un médecin."),
    ],
)
def test_a_caution_stays_with_its_claim(claim: str, between: str, caution: str) -> None:
    gap = between if between == "\n\n" else f"{between} "
    found = excerpt(item(f"{claim}{gap}{caution}\n\nSomething else is said here."), 3)
    assert found.sentences == (claim, caution)
    assert ("…" in found.text) == bool(between.strip())


def test_a_caution_under_a_heading_about_risks_is_shown() -> None:
    body = (
        "Peels make the skin glow.\n\n## Risks and Considerations\n\nPeople with rosacea should"
        " talk to a doctor first.\n\n## Prices\n\nA peel costs fifty."
    )
    assert excerpt(item(body), 5).sentences[1].startswith("People with rosacea")


def test_the_opening_that_informs_is_preferred() -> None:
    body = "Have you ever wondered about milk? In this article we tell you. Milk is white."
    assert excerpt(item(body), 4).sentences == ("Milk is white.",)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Mix approx. 5 ml. Then wait.", ["Mix approx. 5 ml.", "Then wait."]),
        ("en", "Ask Dr. Lee. She knows.", ["Ask Dr. Lee.", "She knows."]),
        ("en", "Take vitamin C. Then rest.", ["Take vitamin C.", "Then rest."]),
        ("de", "Am 3. März ist Schluss. Gut so.", ["Am 3. März ist Schluss.", "Gut so."]),
        ("de", "Obst, z. B. Äpfel, hilft. Ja.", ["Obst, z. B. Äpfel, hilft.", "Ja."]),
        ("fr", "Mme Roy et M. Dupont rient. Oui.", ["Mme Roy et M. Dupont rient.", "Oui."]),
    ],
)
def test_sentences(language: str, text: str, expected: list[str]) -> None:
    found = split_sentences(text, language)
    assert [each.text for each in found] == expected
    assert all(text[each.start : each.end] == each.text for each in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Avoid hot water. It dries the skin.", ["Avoid hot water."]),
        ("Always patch test a new product first.", ["Always patch test a new product first."]),
        ("Never pick at milia yourself. It hurts.", ["Never pick at milia yourself."]),
        ("Don't skip the sunscreen in winter.", ["Don't skip the sunscreen in winter."]),
        ("Water is essential. Plant roots need air.", []),
        ("Use it twice a day. Rinse them off.", []),
        ("Do you water in the morning? Subscribe to our newsletter.", []),
        ("Vermeiden Sie heißes Wasser, denn es trocknet die Haut aus.", ["Vermeiden Sie heißes"]),
        ("Haben Sie trockene Haut, so ist das nicht schlimm für die Haut.", []),
        ("Appliquez la crème le soir sur une peau propre et sèche.", ["Appliquez la crème"]),
        ("Évitez le soleil entre midi et deux pour la peau.", ["Évitez le soleil"]),
        ("Vous avez une peau sèche et les soins sont chers.", []),
    ],
)
def test_tips_are_instructions(text: str, expected: list[str]) -> None:
    tips = find_tips(item(text))
    assert [tip.text.startswith(start) for tip, start in zip(tips, expected, strict=True)] == [
        True
    ] * len(expected)
    assert all(tip.source == "articles/a" and tip.title for tip in tips)


def test_a_tip_keeps_its_caution() -> None:
    (tip,) = find_tips(item("Apply the acid at night. However, it may irritate dry skin."))
    assert tip.text == "Apply the acid at night. However, it may irritate dry skin."


def test_every_language_of_the_corpus_gives_tips() -> None:
    for group in (ENGLISH, GERMAN, FRENCH):
        bodies = ["\n\n".join(each.paragraphs) for each in group]
        assert any(find_tips(item(body)) for body in bodies)


def test_the_most_different_come_first() -> None:
    others = [item("\n\n".join(e.paragraphs), f"articles/o{n}") for n, e in enumerate(ENGLISH[:2])]
    chosen = most_different([*SAMPLE, *others], 3)
    assert {each.id for each in chosen[1:]} == {each.id for each in others}
