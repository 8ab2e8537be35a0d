"""What a section of a text is about, by its words alone: English, German and French.

It knows nothing of articles; `boundaries` compares the sections of one text.
"""

from __future__ import annotations

import itertools
from collections import Counter

from newsletter.content.sentences import word_set, words_of

_STOP = word_set(
    "the and for with that this from your are can not you have has will its into how what why"
    " when where who which does should more most than then them they their there these those"
    " about best guide understanding complete ultimate essential everything know need tips"
    " ways things benefits effects introduction closer look works work working truth beginners"
    " simple easy quick steps using use make makes choosing right better good great new art"
    " science way part time people help helps also often many much very such over other each"
    " every only just like between after before during without while however could would may"
    " might must been being was were it's der die das den dem des ein eine einen einem einer"
    " eines und oder aber mit von für auf aus bei nach vor wie wer wann warum ist sind wird"
    " werden kann können nicht sich auch als zum zur über unter ihre ihr ihren ihrer sie man"
    " alles ratgeber leitfaden richtig tipps gut beste besten durch wenn dass sein haben hat"
    " noch nur mehr sehr diese dieser dieses einfach schritt schritte les une aux est sont"
    " pour par sur dans avec sans que qui quoi comment pourquoi quand quel quelle votre vos"
    " notre nos leur leurs plus moins tout tous toute toutes savoir conseils bien faire cette"
    " ces ses mais peut peuvent être ont pas comme entre elle ils elles"
)


class SectionWords:
    """The content words of a section, shortened to what forms of a word share.

    `topic` is what the article would be about if the section were its first: the words of its
    title that its opening takes up; of a text without a title, what it repeats. `subject` are the
    first words of its text.
    """

    def __init__(self, title: str, paragraphs: list[str]) -> None:
        self.heading = frozenset(_stems(title))
        self._paragraphs = [frozenset(_stems(text)) for text in paragraphs]
        self.all = self.heading.union(*self._paragraphs)
        self.subject: frozenset[str] = frozenset()
        opening: frozenset[str] = frozenset()
        if paragraphs:
            opening = self._paragraphs[0]
            self.subject = frozenset(_stems(" ".join(paragraphs[0].split()[:5])))
        counts = Counter(itertools.chain.from_iterable(_stems(text) for text in paragraphs[:4]))
        common = [stem for stem, count in counts.most_common(4) if count > 1]
        taken_up = frozenset(stem for stem in self.heading if _has(opening, stem))
        self.topic = taken_up or self.heading or frozenset(common) or self.subject or opening

    def mentions(self, topic: frozenset[str], paragraph: int) -> bool:
        return any(_has(self._paragraphs[paragraph], stem) for stem in topic)

    def heading_mentions(self, topic: frozenset[str]) -> bool:
        return any(_has(self.heading, stem) for stem in topic)

    def says(self, stem: str) -> bool:
        return _has(self.all, stem)

    def paragraphs_with_first(self, stems: set[str]) -> bool:
        return bool(self._paragraphs) and any(_has(self._paragraphs[0], stem) for stem in stems)

    def paragraphs_with(self, stem: str) -> int:
        return sum(_has(words, stem) for words in self._paragraphs)


def _has(words: frozenset[str], stem: str) -> bool:
    """Whether the words have the stem or one that begins with it ("skin" in "skincare")."""
    return stem in words or (
        len(stem) >= 4 and any(word.startswith(stem) or stem.startswith(word) for word in words)
    )


def _stems(text: str) -> list[str]:
    found = []
    for word in words_of(text):
        if len(word) < 3 or word in _STOP or word.isdigit():
            continue
        for ending in ("ies", "ing", "es", "en", "s", "n", "e", "y"):
            if word.endswith(ending) and len(word) - len(ending) >= 4:
                word = word[: -len(ending)]
                break
        found.append(word[:9])
    return found
