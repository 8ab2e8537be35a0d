"""The fixed words of the public pages in English, German and French; words only, no layout."""

from __future__ import annotations

from newsletter.languages import in_language
from newsletter.web.words.english import ENGLISH
from newsletter.web.words.french import FRENCH
from newsletter.web.words.german import GERMAN
from newsletter.web.words.shape import Notice, PageWords, SignUp

LANGUAGES = {words.language: words for words in (ENGLISH, GERMAN, FRENCH)}


def page_words(language: str) -> PageWords:
    """The words for a language such as `de` or `de-AT`; the English ones where there are none."""
    return in_language(LANGUAGES, language)


__all__ = ["LANGUAGES", "Notice", "PageWords", "SignUp", "page_words"]
