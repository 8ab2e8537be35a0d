"""Which of several languages' words to use; it knows none of the words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Words = TypeVar("Words")

FALLBACK = "en"

_RIGHT_TO_LEFT = frozenset({"ar", "he", "fa", "ur"})


def in_language(table: Mapping[str, Words], language: str) -> Words:
    """The entry for a language such as `de` or `de-AT`; the English one where there is none."""
    return table.get(_primary(language), table[FALLBACK])


def direction(language: str) -> str:
    """`rtl` for Arabic, Hebrew, Persian and Urdu."""
    return "rtl" if _primary(language) in _RIGHT_TO_LEFT else "ltr"


def _primary(language: str) -> str:
    return language.split("-")[0].lower()
