"""Sentences in English, German and French, with their places, and the words of a text.

sentencex cuts; a join pass mends what it cuts too much. No character is lost: the pieces of a
paragraph, put together, are the paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import sentencex

_WORD = re.compile(r"\w+(?:['’\-]\w+)*")


def word_set(words: str) -> frozenset[str]:
    """A list of words, written as a line of them."""
    return frozenset(words.split())


# What ends in a full stop without ending a sentence, in lower case and without its last stop.
_ABBREVIATIONS = word_set(
    "approx min max dr mr mrs ms prof st no nr vs etc e.g i.e a.m p.m fig vol inc jr sr dept est"
    " ca bzw usw z.b d.h u.a o.ä evtl ggf inkl exkl bspw vgl s.o s.u abs art std sog zzgl mind"
    " mme mlle m mm p.ex env av apr cf n.b hr fr str z b tel tbsp tsp oz sec el tl"
)
# These end a sentence as often as not: joined only where the next piece goes on in lower case
# or with a digit.
_MAY_END = word_set("etc usw a.m p.m inc jr sr mm min std sec oz m st no art")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a paragraph: `text` is trimmed, `paragraph[start:end]` is the same."""

    text: str
    start: int
    end: int


def split_sentences(paragraph: str, language: str = "en") -> list[Sentence]:
    """The sentences of one paragraph, in order; white space between them belongs to none."""
    sentences = []
    start = 0
    for piece in _joined(sentencex.segment(language, paragraph), language):
        end = start + len(piece)
        text = piece.strip()
        if text:
            first = start + len(piece) - len(piece.lstrip())
            sentences.append(Sentence(text, first, first + len(text)))
        start = end
    return sentences


def _joined(pieces: list[str], language: str) -> Iterator[str]:
    held = ""
    for piece in pieces:
        if held.strip() and not _belongs_together(held, piece, language):
            yield held
            held = piece
        else:
            held += piece
    if held:
        yield held


def _belongs_together(before: str, after: str, language: str) -> bool:
    following = after.lstrip()
    if not following:
        return True
    starts_low = following[0].islower()
    if starts_low or following[0] in ",;:)":
        return True
    last = before.rstrip().rsplit(None, 1)[-1].lstrip("([\"'“„«")
    if not last.endswith("."):
        return False
    if last == "M." and language == "fr":  # Monsieur
        return True
    word = last[:-1].casefold()
    if word in _ABBREVIATIONS:
        return word not in _MAY_END or following[0].isdigit()
    return word.isdigit() and len(word) <= 2 and _is_month(following)


_MONTHS = word_set(
    "januar februar märz april mai juni juli august september oktober november dezember jänner"
)


def _is_month(text: str) -> bool:
    """German writes "am 3. März": the stop is of the number."""
    return text.split(None, 1)[0].casefold().rstrip(".,") in _MONTHS


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return _WORD.findall(text.casefold())


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words of a text stand: (start, end)."""
    return [match.span() for match in _WORD.finditer(text)]


def count_words(text: str) -> int:
    return len(_WORD.findall(text))


_FUNCTION_WORDS = {
    "en": word_set("the and of to is are in that for with it can your you this as be not"),
    "de": word_set(
        "der die das und ist sind nicht mit ein eine für auf zu den dem von sich auch wird bei"
        " sie es oder als im werden kann nach wie"
    ),
    "fr": word_set(
        "le la les et est sont des une un pour dans que qui pas avec sur du en vous ce il plus"
        " votre peut ou au aux"
    ),
}


def guess_language(text: str) -> str:
    """ "en", "de" or "fr", by the commonest function words; "en" where nothing tells."""
    counts = dict.fromkeys(_FUNCTION_WORDS, 0)
    for word in words_of(text[:1500]):
        for language, known in _FUNCTION_WORDS.items():
            counts[language] += word in known
    return max(counts, key=lambda language: counts[language])
