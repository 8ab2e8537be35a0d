"""Decides which headings of a text start an article and which are an article's own sections.

Every heading gets evidence of its own (what ended before it, how it is worded, what follows), and
every article that could be is judged as a whole (headings that repeat, sections that leave its
subject, text after its conclusion). The division with the best total wins, by dynamic programming
over all of them; how much it wins by at each heading says what is uncertain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from newsletter.content import cues
from newsletter.content.blocks import Block
from newsletter.content.evidence import Evidence, Section
from newsletter.content.sentences import words_of
from newsletter.content.subjects import SectionWords

START_COST = 3.0  # what evidence must outweigh, in the units of the scores below
UNCERTAIN = 2.0  # a margin below this is reported
_PLAIN_SECTION = -3.5  # evidence below this is a section's, whatever the margin
_SHORT_ARTICLE = 40  # words; a text as short is rather a section
_WINDOW = 3  # sections before one that it may take up the words of
_MOST_SECTIONS = 700  # beyond it, the text is judged heading by heading


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
    evidence = Evidence(sections)
    own = [0.0] + [evidence.of(number) - START_COST for number in range(1, len(sections))]
    if len(sections) > _MOST_SECTIONS:
        return [0, *(number for number, score in enumerate(own) if number and score > 0)], []
    table = _article_scores(sections, own)
    starts, doubts = _best(table)
    return starts, [doubt for doubt in doubts if _is_doubtful(doubt, own[doubt.section])]


def _is_doubtful(doubt: Doubt, own: float) -> bool:
    """A heading that is by itself a section's is none for its neighbours' sake."""
    return doubt.margin < UNCERTAIN and (doubt.starts or own > _PLAIN_SECTION)


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
