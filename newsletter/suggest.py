"""The nearest known word to a misspelt one, for the hint of an error."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

_LONGEST = 60  # of a word worth comparing: the comparison is quadratic


def suggest(word: str, known: Collection[str]) -> str:
    """`Did you mean …?`, or the list of what there is when nothing is near."""
    near = get_close_matches(word[:_LONGEST].lower(), sorted(known), n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"There are: {', '.join(sorted(known))}."


def shorten(text: str, width: int = 60) -> str:
    """`text` on one line and no longer than `width`, as a message quotes it."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
