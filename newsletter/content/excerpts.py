"""Excerpts: whole sentences of an article, in order and verbatim, with the cautions they need.

Extractive only: no word is written here but the `…` that marks a gap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from newsletter.content import cautions
from newsletter.content.body import passages
from newsletter.content.model import ContentItem, Excerpt

_FILLER = re.compile(
    r"(?:in this (?:article|guide|post|piece|blog)|welcome\b|have you ever|are you\b|do you\b"
    r"|let['’]s|read on|this (?:article|guide|post)|in diesem (?:artikel|beitrag|ratgeber)"
    r"|willkommen|haben sie|kennen sie|hast du|kennst du|dans cet article|bienvenue|avez-vous)",
    re.IGNORECASE,
)
_LEANING = re.compile(  # a sentence that needs the one before it
    r"(?:this|these|those|that|it|they|he|she|such|also|additionally|moreover|furthermore"
    r"|dies\w*|er|es|außerdem|zudem|auch|darüber|cela|ce|cette|ces|ceci|il|ils|elles?|de plus"
    r"|en outre)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence with its place: passage and section number; `marker` if it opens a list item."""

    text: str
    passage: int
    section: int
    heading: str
    marker: str
    in_list: bool
    caution: bool


def excerpt(item: ContentItem, words: int = 60) -> Excerpt:
    """About `words` words from the article's opening, and every caution that qualifies them.

    Later cautions of a shown paragraph, and those that open the next one, are shown beyond the
    length if need be. `…` stands between sentences that did not stand together.
    """
    units = _units(item)
    if not units:
        return Excerpt("", ())
    chosen = _opening(units, words)
    chosen |= _qualifying(units, chosen, item.language)
    order = sorted(chosen)
    return Excerpt(_compose(units, order), tuple(units[place].text for place in order))


def with_cautions(item: ContentItem, sentences: set[str]) -> list[tuple[str, str]]:
    """Each of the sentences with the cautions that qualify it: (sentence, shown text)."""
    units = _units(item)
    found = []
    for place, unit in enumerate(units):
        if unit.text in sentences:
            chosen = {place} | _qualifying(units, {place}, item.language)
            found.append((unit.text, _compose(units, sorted(chosen), bare=True)))
    return found


def _units(item: ContentItem) -> list[_Unit]:
    units = []
    for number, passage in enumerate(passages(item.body)):
        for place, sentence in enumerate(passage.sentences(item.language)):
            units.append(
                _Unit(
                    sentence.text,
                    number,
                    passage.section,
                    passage.heading,
                    passage.marker if place == 0 else "",
                    bool(passage.marker),
                    cautions.is_caution(sentence.text, item.language),
                )
            )
    return units


def _opening(units: list[_Unit], words: int) -> set[int]:
    """A run of sentences from the first informative one on; lists only where there is no prose."""
    prose = [
        place
        for place, unit in enumerate(units)
        if not unit.in_list and not unit.text.endswith(":")
    ]
    candidates = prose or list(range(len(units)))
    first = next((place for place in candidates[:4] if _informs(units, place)), candidates[0])
    chosen: set[int] = set()
    total = 0
    for place in candidates[candidates.index(first) :]:
        length = len(units[place].text.split())
        if chosen and total + length / 2 > words:
            break
        chosen.add(place)
        total += length
        if total >= words:
            break
    return chosen


def _informs(units: list[_Unit], place: int) -> bool:
    text = units[place].text
    if text.endswith("?") or _FILLER.match(text):
        return False
    return place == 0 or not (_LEANING.match(text) or units[place].caution)


def _qualifying(units: list[_Unit], chosen: set[int], language: str) -> set[int]:
    """The cautions after a chosen sentence: in its passage, and those that open the next one."""
    needed: set[int] = set()
    for place in sorted(chosen):
        needed.update(_cautions_after(units, place, language))
    return needed


def _cautions_after(units: list[_Unit], place: int, language: str) -> list[int]:
    found = []
    here = units[place]
    after = place + 1
    while after < len(units) and units[after].passage == here.passage:
        if units[after].caution:
            found.append(after)
        after += 1
    # What opens the next passage, as long as it goes on warning; a list is one passage to us.
    while after < len(units) and units[after].caution and _reaches(here, units[after], language):
        found.append(after)
        after += 1
    return found


def _reaches(claim: _Unit, caution: _Unit, language: str) -> bool:
    if caution.section == claim.section:
        return True
    return caution.section == claim.section + 1 and (
        cautions.opens_with_contrast(caution.text, language)
        or cautions.is_cautious_heading(caution.heading)
    )


def _compose(units: list[_Unit], order: list[int], *, bare: bool = False) -> str:
    """Markdown of the units at `order`; `bare` leaves list markers out."""
    text = ""
    for index, place in enumerate(order):
        unit = units[place]
        marker = f"{unit.marker} " if unit.marker and not bare else ""
        if index == 0:
            text = marker + unit.text
            continue
        before = units[order[index - 1]]
        together = place == order[index - 1] + 1 and unit.section == before.section
        if unit.passage == before.passage:
            text += " " if together else " … "
        else:
            lists = before.in_list and unit.in_list
            text += ("" if together else " …") + ("\n" if lists and not bare else "\n\n")
        text += marker + unit.text
    return text
