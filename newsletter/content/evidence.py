"""What speaks for each heading of a text as an article's title, by itself and by its neighbours.

It judges no article as a whole and decides nothing: `boundaries` weighs the sums it gives.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from newsletter.content import cues
from newsletter.content.blocks import Block
from newsletter.content.openings import opens_article, orders
from newsletter.content.sentences import words_of
from newsletter.content.subjects import SectionWords

_CERTAIN = 30.0  # more than all that can speak against a start
_WHOLE_ARTICLE = 90  # words; a text as long can stand by itself


@dataclass
class Section:
    """A heading (none at the top or after a rule) with all until the next one."""

    heading: Block | None
    blocks: list[Block] = field(default_factory=list)
    ruled: bool = False  # a separator stands before it
    called: bool = False  # a call to action stands before it

    @property
    def title(self) -> str:
        return self.heading.text if self.heading else ""

    @property
    def line(self) -> int:
        """The first physical line, from 1."""
        first = self.heading.first if self.heading else self.blocks[0].first
        return min(first, self.blocks[0].first) if self.blocks else first

    @property
    def paragraphs(self) -> list[str]:
        return [block.text for block in self.blocks if block.kind in {"paragraph", "item"}]


class Evidence:
    """What speaks for a heading as an article's title, by itself and by its neighbours."""

    def __init__(self, sections: list[Section]) -> None:
        self._sections = sections
        titled = [section for section in sections if section.heading]
        self._levels = Counter(
            section.heading.level for section in titled if section.heading and section.heading.level
        )
        self._caps = [section.title.isupper() for section in titled]
        gaps = sorted(section.heading.gap for section in titled[1:] if section.heading)
        self._usual_gap = gaps[len(gaps) // 2] if gaps else 0
        self._ruled = sum(section.ruled for section in sections)
        # Where the first article has a by-line, the others have too.
        bylines = any(_has_meta(section) for section in sections)
        self._byline_custom = 2.0 if _has_meta(sections[0]) else 0.5 if bylines else 0.0
        # Where one article of a file has a conclusion, the others often have too.
        closings = any(_after_closing(section) > 4.0 for section in sections)
        self._closing_custom = 1.0 if closings else 0.0
        firsts = sorted(_first_length(section) for section in sections if section.paragraphs)
        self._usual_first = firsts[len(firsts) // 2] if firsts else 0
        self._whole_articles = _is_whole(sections[0])
        self._words = [SectionWords(section.title, section.paragraphs) for section in sections]
        self._mean_length = sum(len(s.title.split()) for s in titled) / max(len(titled), 1)
        first = sections[0]
        cases = [cues.is_title_case(section.title) for section in titled]
        self._mixed_cases = bool(
            first.heading and cues.is_title_case(first.title) and False in cases
        )
        self._first_words = words_of(first.title)
        self._first_is_caps = bool(first.heading and first.title.isupper())
        self._first_is_title = first.heading is not None

    def of(self, number: int) -> float:
        """The sum for section `number` (1 or more); START_COST is not yet taken off."""
        section, before = self._sections[number], self._sections[number - 1]
        closing = _after_closing(before)
        score = closing - self._closing_custom * max(0.0, 1.0 - max(closing, 0.0) / 3.0)
        score += 5.0 if _has_meta(section) else -self._byline_custom
        score += self._by_rule(section)
        score += 3.0 if section.called else 0.0
        if section.heading is None:
            return score - 1.0
        score += cues.title_likeness(section.title) + cues.newness(section.title)
        score -= 1.5 if orders(section.title) else 0.0
        score += self._by_style(section.heading)
        score += self._by_gap(section.heading)
        score += self._by_opening(number)
        score += self._by_subject(number)
        return score

    def _by_rule(self, section: Section) -> float:
        """A separator before few of the headings divides articles; before all, it is ornament."""
        if not section.ruled:
            return -1.5 if self._ruled else 0.0
        return 7.0 if self._ruled <= len(self._sections) * 0.6 or self._ruled < 4 else 1.5

    def _by_style(self, heading: Block) -> float:
        score = 0.0
        if self._levels:
            score += self._by_level(heading)
        if any(self._caps) and not all(self._caps):
            caps = heading.text.isupper()
            if self._first_is_title:
                score += 2.5 if caps == self._first_is_caps else -4.0
            elif caps:
                score += 2.0
            else:
                score -= 1.0
        if self._mixed_cases and (titled := cues.is_title_case(heading.text)) is not None:
            score += 0.75 if titled else -1.5
        return score

    def _by_level(self, heading: Block) -> float:
        """Markdown that repeats its top level over deeper ones says what its articles are."""
        level, levels = heading.level, sorted(self._levels)
        if level == 0:
            return -2.0
        if len(levels) == 1:
            return (1.25 if self._whole_articles else 0.25) if level == 1 else 0.0
        if level > levels[0]:
            return -10.0
        if cues.title_likeness(heading.text) < -5.0:  # "# Conclusion", "# References"
            return 2.0
        if self._levels[level] > 1 or not self._first_is_title:
            return _CERTAIN if level == 1 else 6.0 if self._first_is_title else 2.0
        return 9.0 if level == 1 else 2.0

    def _by_gap(self, heading: Block) -> float:
        if heading.gap > self._usual_gap and heading.gap > 1:
            return 2.5
        return -1.0 if heading.gap < self._usual_gap else 0.0

    def _by_opening(self, number: int) -> float:
        """How the text under a heading begins: as an article, or in mid-subject."""
        section = self._sections[number]
        if not section.paragraphs:
            following = number + 1 < len(self._sections)
            return 1.5 if following and not section.blocks else 0.0
        score = 0.0
        opening = section.paragraphs[0]
        if cues.introduces(opening):
            score += 1.0
        words = self._words[number]
        if cues.defines(opening):  # the heading's own subject; or else something in passing
            score += 0.75 if words.heading & words.subject else 0.25
        score = min(score + opens_article(opening), 1.75)  # the signs overlap
        score += 2.0 if self._whole_articles and _is_whole(section) else 0.0
        # An article's first sentence is longer than those that its sections begin with.
        longer = _first_length(section) - self._usual_first
        return score + max(-0.75, min(0.1 * longer, 0.75))

    def _by_subject(self, number: int) -> float:
        """Whether a heading brings a subject that is new and stays: titles do, sections rarely."""
        words = self._words[number]
        before = self._words[max(0, number - 6) : number]
        new = {stem for stem in words.heading if not any(each.says(stem) for each in before)}
        score = 1.25 if any(stem in words.subject for stem in new) else 0.0
        if score and len(words_of(self._sections[number].title)) > 2:
            score += 0.5 if cues.states(self._sections[number].paragraphs[0]) else 0.0
        if not score and words.paragraphs_with_first(new):
            score = 0.6
        after = self._words[number + 1 : number + 6]
        stays = sum(any(each.says(stem) for stem in new) for each in after)
        own = max((words.paragraphs_with(stem) for stem in new), default=0)
        score += min(0.5 * stays, 1.5) if stays else 0.5 * (own > 2)
        score += 3.0 if new and self._asks_as_first(number) else 0.0
        length = self._by_length(len(words_of(self._sections[number].title)))
        return score + (length if new else min(length, 0.25))

    def _by_length(self, words: int) -> float:
        """Titles are longer than the headings inside an article, in general and in this text."""
        score = 0.5 if words > self._mean_length + 1 else 0.0
        score += 0.75 if words > 4 else 0.25 if words > 3 else 0.0
        if words < 3 and len(self._first_words) > 2:
            score -= 2.0 if words == 1 else 1.5
        return score

    def _asks_as_first(self, number: int) -> bool:
        """Whether a heading asks what the first title does, of its text's own subject.

        "What Is Retinol?", and later "What Is Niacinamide?".
        """
        words, first = words_of(self._sections[number].title), self._first_words
        if len(words) < 3 or words[:2] != first[:2] or words[2:] == first[2:]:
            return False
        own = self._words[number]
        return any(stem in own.subject for stem in own.heading - self._words[0].heading)


def _first_length(section: Section) -> int:
    """The words of the first sentence."""
    if not section.paragraphs:
        return 0
    return len(re.split(r"(?<=[.!?])\s", section.paragraphs[0][:600], maxsplit=1)[0].split())


def _is_whole(section: Section) -> bool:
    """Whether it is as long as an article without sub-headings: paragraphs, not one."""
    texts = section.paragraphs
    return len(texts) > 1 and sum(len(text.split()) for text in texts) >= _WHOLE_ARTICLE


def _has_meta(section: Section) -> bool:
    return any(block.kind == "meta" for block in section.blocks[:2])


def _after_closing(before: Section) -> float:
    """What the end of the section before says: 5 for a conclusion's, 0 for none."""
    if before.heading and cues.is_conclusion_heading(before.title):
        return 5.0
    if not before.paragraphs:
        return -2.0 if before.heading and not before.blocks else 0.0
    strength = max(cues.closing_strength(text) for text in before.paragraphs[-2:])
    last = cues.closing_strength(before.paragraphs[-1])
    return 4.5 if strength == 2.0 else 1.75 * last
