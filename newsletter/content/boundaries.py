"""Decides which headings of a text start an article and which are an article's own sections.

Every heading gets evidence of its own (what ended before it, how it is worded, what follows), and
every article that could be is judged as a whole (headings that repeat, sections that leave its
subject, text after its conclusion). The division with the best total wins, by dynamic programming
over all of them; how much it wins by at each heading says what is uncertain.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from newsletter.content import cues
from newsletter.content.blocks import Block
from newsletter.content.openings import opens_article, orders
from newsletter.content.sentences import words_of
from newsletter.content.subjects import SectionWords

START_COST = 3.0  # what evidence must outweigh, in the units of the scores below
UNCERTAIN = 2.0  # a margin below this is reported
_PLAIN_SECTION = -3.5  # evidence below this is a section's, whatever the margin
_CERTAIN = 30.0  # more than all that can speak against a start
_SHORT_ARTICLE = 40  # words; a text as short is rather a section
_WINDOW = 3  # sections before one that it may take up the words of
_WHOLE_ARTICLE = 90  # words; a text as long can stand by itself
_MOST_SECTIONS = 700  # beyond it, the text is judged heading by heading


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


@dataclass(frozen=True, slots=True)
class Doubt:
    """A heading whose reading could be the other one: `starts` is how it was read."""

    section: int
    starts: bool
    margin: float


def sections_of(blocks: Sequence[Block]) -> list[Section]:
    """The blocks by heading, in order; a rule with text and no heading after it opens one too."""
    sections: list[Section] = []
    ruled = called = False
    for block in blocks:
        if block.kind == "call":
            called = True
        elif block.kind == "rule":
            ruled = True
            continue
        opens = block.kind == "heading" or not sections or (ruled and block.kind == "paragraph")
        if opens and block.kind != "call":
            heading = block if block.kind == "heading" else None
            above = _meta_above(sections) if heading else []
            sections.append(Section(heading, above, ruled and bool(sections), called))
            called = False
        if block.kind not in {"heading", "call"} and sections:
            sections[-1].blocks.append(block)
        if block.kind != "call":
            ruled = False
    return sections


def _meta_above(sections: list[Section]) -> list[Block]:
    """Takes a date or by-line that stands over a heading from the section before it."""
    taken: list[Block] = []
    if sections:
        before = sections[-1].blocks
        while before and before[-1].kind == "meta" and (len(before) > 1 or len(sections) == 1):
            if len(before) == 1 and sections[-1].heading is not None:
                break
            taken.insert(0, before.pop())
        if not before and sections[-1].heading is None:
            sections.pop()
    return taken


def find_starts(sections: list[Section]) -> tuple[list[int], list[Doubt]]:
    """The numbers of the sections that start an article (0 always does), and what is doubtful."""
    if len(sections) < 2:
        return [0] if sections else [], []
    evidence = _Evidence(sections)
    own = [0.0] + [evidence.of(number) - START_COST for number in range(1, len(sections))]
    if len(sections) > _MOST_SECTIONS:
        return [0, *(number for number, score in enumerate(own) if number and score > 0)], []
    table = _article_scores(sections, own)
    starts, doubts = _best(table)
    return starts, [doubt for doubt in doubts if _is_doubtful(doubt, own[doubt.section])]


def _is_doubtful(doubt: Doubt, own: float) -> bool:
    """A heading that is by itself a section's is none for its neighbours' sake."""
    return doubt.margin < UNCERTAIN and (doubt.starts or own > _PLAIN_SECTION)


class _Evidence:
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
        if cues.defines(opening):
            score += 0.75
        if self._whole_articles and _is_whole(section):
            score += 2.0
        # An article's first sentence is longer than those that its sections begin with.
        longer = _first_length(section) - self._usual_first
        return score + opens_article(opening) + max(-0.75, min(0.1 * longer, 0.75))

    def _by_subject(self, number: int) -> float:
        """Whether a heading brings a subject that is new and stays: titles do, sections rarely."""
        words = self._words[number]
        before = self._words[max(0, number - 6) : number]
        new = {stem for stem in words.heading if not any(each.says(stem) for each in before)}
        score = 1.25 if any(stem in words.subject for stem in new) else 0.0
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


# --- articles as a whole ------------------------------------------------------------------------


def _article_scores(sections: list[Section], own: list[float]) -> list[list[float]]:
    """score[i][j - i - 1] of an article made of the sections i to j (excluded)."""
    vocabulary = [SectionWords(section.title, section.paragraphs) for section in sections]
    titles = [_key(section.title) for section in sections]
    table = []
    for start in range(len(sections)):
        topic = vocabulary[start].topic
        total = own[start]
        row = [total - (_loneliness(sections[start]) if sections[start].heading else 0.0)]
        promised = start
        if start == 0 or own[start] > -1.5:
            promised += _promised(sections[start])
        seen: set[str] = set()
        for number in range(start + 1, len(sections)):
            if number > promised:
                strain = _strain(sections[number], vocabulary[number], topic)
                if strain:
                    strain *= _strangeness(vocabulary, start, number)
                total -= strain
            total -= _repetition(sections[number], titles[number], titles[start], seen)
            seen.add(titles[number])
            row.append(total)
        table.append(row)
    return table


def _promised(section: Section) -> int:
    """How many sections may follow a title that counts them, unless a list keeps its word."""
    listed = sum(block.kind == "item" for block in section.blocks)
    return 0 if listed > 1 else cues.promised_sections(section.title)


def _loneliness(section: Section) -> float:
    """What it costs a section to be an article by itself."""
    if sum(len(block.text.split()) for block in section.blocks) < _SHORT_ARTICLE:
        return 1.5
    return 0.75 if len(section.blocks) < 2 else 0.0


def _strangeness(vocabulary: list[SectionWords], start: int, number: int) -> float:
    """0.6 for a section that speaks in the article's words, up to 1.4 for one that shares none.

    Of what was said, the first section and the latest count: else the longer an article is, the
    better everything fits into it.
    """
    words = vocabulary[number].all
    latest = range(max(start + 1, number - _WINDOW), number)
    said = vocabulary[start].all.union(*(vocabulary[each].all for each in latest))
    shared = len(words & said) / len(words) if words else 0.25
    return max(0.6, 1.4 - 4.0 * shared)


def _repetition(section: Section, title: str, article: str, seen: set[str]) -> float:
    """What it costs an article to have a heading twice, or its own title as a heading."""
    if not title:
        return 0.0
    if title == article:
        return 6.0
    if title not in seen:
        return 0.0
    if cues.is_conclusion_heading(section.title):
        return 5.0
    if cues.is_generic(section.title):
        return 1.0
    return 4.0 if " " in title else 2.0


def _strain(section: Section, words: SectionWords, topic: frozenset[str]) -> float:
    """What it costs to count a section to an article whose subject it does not mention."""
    if not topic or not section.paragraphs:
        return 0.0
    if cues.is_back_matter(section.title) or cues.is_conclusion_heading(section.title):
        return 0.0
    missed = sum(not words.mentions(topic, place) for place in range(len(section.paragraphs)))
    if missed < len(section.paragraphs):
        return 0.0 if words.heading_mentions(topic) else 0.2 * missed
    return 0.4 if words.heading_mentions(topic) else min(1.2 + 0.6 * (missed - 1), 3.6)


def _key(title: str) -> str:
    return " ".join(words_of(title))


# --- the best division --------------------------------------------------------------------------


def _best(table: list[list[float]]) -> tuple[list[int], list[Doubt]]:
    """The division with the highest total, and by how much it wins at each section."""
    count = len(table)
    ahead = [float("-inf")] * count + [0.0]  # best total of everything from a start on
    choice = [0] * count
    for start in range(count - 1, -1, -1):
        for length, score in enumerate(table[start], start=1):
            total = score + ahead[start + length]
            if total > ahead[start]:
                ahead[start], choice[start] = total, start + length
    behind = [0.0] + [float("-inf")] * count  # best total of everything before a start
    for start in range(count):
        for length, score in enumerate(table[start], start=1):
            behind[start + length] = max(behind[start + length], behind[start] + score)
    starts = [0]
    while choice[starts[-1]] < count:
        starts.append(choice[starts[-1]])
    without = _best_without(table, behind, ahead)
    doubts = []
    for number in range(1, count):
        margin = behind[number] + ahead[number] - without[number]
        doubts.append(Doubt(number, number in starts, abs(margin)))
    return starts, doubts


def _best_without(table: list[list[float]], behind: list[float], ahead: list[float]) -> list[float]:
    """For each section, the best total of a division in which it starts no article."""
    count = len(table)
    best = [float("-inf")] * count
    for start in range(count):
        reach = float("-inf")
        for end in range(count, start + 1, -1):
            reach = max(reach, behind[start] + table[start][end - start - 1] + ahead[end])
            best[end - 1] = max(best[end - 1], reach)
    return best
