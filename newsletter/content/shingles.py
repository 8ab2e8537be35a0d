"""How alike two texts are: shingles of three words. Pure; `duplicates` keeps the index of them."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from newsletter.content.model import ContentItem
from newsletter.content.sentences import words_of

SIZE = 3


def shingles(text: str) -> frozenset[int]:
    """The text's runs of three words, each as a signed 64-bit hash: the same in every process."""
    words = words_of(text)
    count = max(len(words) - SIZE + 1, min(len(words), 1))
    return frozenset(
        int.from_bytes(
            blake2b(" ".join(words[start : start + SIZE]).encode(), digest_size=8).digest(),
            "big",
            signed=True,
        )
        for start in range(count)
    )


def containment(one: frozenset[int], other: frozenset[int]) -> float:
    """The part (0 to 1) of the smaller text's shingles that the other has too."""
    smaller = min(len(one), len(other))
    return len(one & other) / smaller if smaller else 0.0


def most_different(items: Iterable[ContentItem], count: int) -> list[ContentItem]:
    """`count` of the items, each the least like those chosen before it.

    Likeness is by the longer words that two share, title included: coarser than shingles on
    purpose, as two articles on one subject are alike though they share no phrase. Of equals the
    earlier one is taken, so the order given (newest first, say) decides.
    """
    left = list(items)
    subjects = {item.id: _subject(item) for item in left}
    chosen: list[ContentItem] = []
    nearest = dict.fromkeys(subjects, 0.0)
    while left and len(chosen) < count:
        best = min(left, key=lambda item: nearest[item.id])
        left.remove(best)
        chosen.append(best)
        _approach(nearest, subjects, subjects[best.id])
    return chosen


def _approach(
    nearest: dict[str, float], subjects: dict[str, frozenset[str]], other: frozenset[str]
) -> None:
    for id, subject in subjects.items():
        together = len(subject | other)
        alike = len(subject & other) / together if together else 0.0
        nearest[id] = max(nearest[id], alike)


def _subject(item: ContentItem) -> frozenset[str]:
    return frozenset(word[:7] for word in words_of(f"{item.title} {item.body}") if len(word) > 4)
