"""By-lines and dates as they stand over or under a title, in English, German and French."""

from __future__ import annotations

import re
from datetime import date

from newsletter.content.sentences import word_set

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar jänner janvier janv",
            "february feb februar février fevrier févr",
            "march mar märz mars",
            "april apr avril avr",
            "may mai",
            "june jun juni juin",
            "july jul juli juillet juil",
            "august aug août aout",
            "september sep sept septembre",
            "october oct oktober okt octobre",
            "november nov novembre",
            "december dec dezember dez décembre decembre déc",
        ),
        start=1,
    )
    for name in names.split()
}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATES = (
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})\b"),
    re.compile(r"\b(?P<d>\d{1,2})\.\s?(?P<m>\d{1,2})\.\s?(?P<y>\d{4})\b"),
    re.compile(r"\b(?P<d>\d{1,2})/(?P<m>\d{1,2})/(?P<y>\d{4})\b"),
    re.compile(
        rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th|er|\.)?\s(?:of\s)?(?P<n>{_MONTH})\.?,?\s(?P<y>\d{{4}})\b",
        re.I,
    ),
    re.compile(
        rf"\b(?P<n>{_MONTH})\.?\s(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s(?P<y>\d{{4}})\b", re.I
    ),
    re.compile(rf"\b(?P<n>{_MONTH})\.?\s(?P<y>\d{{4}})\b", re.I),
)
_DATE_PREFIX = re.compile(
    r"(?:(?:first )?published(?: on)?|posted(?: on)?|(?:last )?updated(?: on)?|date|on"
    r"|veröffentlicht(?: am)?|aktualisiert(?: am)?|stand|datum|vom|am|erschienen am"
    r"|publié(?:e)? le|mis(?:e)? à jour(?: le)?|le|"
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:mon|diens|donners|frei|sams|sonn)tag|mittwoch"
    r"|lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche)\b\s*[:,]?\s*",
    re.IGNORECASE,
)
_BY = re.compile(
    r"(?P<sure>written by|words by|text by|story by|author|autor(?:in)?|verfasst von"
    r"|geschrieben von|écrit par|rédigé par|auteure?|text|texte)\s*:?\s+"
    r"|(?P<maybe>by|von|par)\s*:?\s+",
    re.IGNORECASE,
)
_PARTICLES = word_set("von van de der den du la le del da di of und and et zu ter dos y bin al &")
_NO_NAME = word_set(
    "the this these those your our my hand hands following using law nature default day night"
    " choosing making taking keeping anfang natur haus jour nuit nature exemple conséquent ailleurs"
    " contre rapport hard soft now design"
)
_EDGES = " \t,|·•–—-/:;()*_"


def parse_meta(text: str) -> tuple[str, date | None] | None:
    """Author and date of a line that is only a by-line, a date or both; else None."""
    line = text.strip().strip("*_ ")
    if not line or len(line) > 120:
        return None
    found = _find_date(line)
    day, rest = None, line
    if found is not None:
        day, start, end = found
        rest = f"{line[:start].rstrip(_EDGES)} | {line[end:].lstrip(_EDGES)}".strip(_EDGES)
        rest = _strip_date_words(rest)
    if not rest:
        return ("", day) if found else None
    author = _author(rest, alone=day is not None)
    return None if author is None else (author, day)


def _strip_date_words(rest: str) -> str:
    """What is left of a line beside its date, without "Published on" and the weekday."""
    parts = []
    for part in rest.split("|"):
        plain = part.strip(_EDGES)
        for _ in range(3):
            plain = _DATE_PREFIX.sub("", plain, count=1) if _DATE_PREFIX.match(plain) else plain
        for word in (" published", " posted", " updated", " on", " am", " le"):
            plain = plain.removesuffix(word)
        if plain.strip(_EDGES):
            parts.append(plain.strip(_EDGES))
    return " | ".join(parts)


def _find_date(line: str) -> tuple[date | None, int, int] | None:
    for pattern in _DATES:
        match = pattern.search(line)
        if match is None:
            continue
        parts = match.groupdict()
        month = _MONTHS[parts["n"].casefold()] if parts.get("n") else int(parts["m"])
        day = int(parts.get("d") or 1)
        if month > 12 and "/" in match[0]:
            month, day = day, month
        try:
            return date(int(parts["y"]), month, day), match.start(), match.end()
        except ValueError:
            continue
    return None


def _author(rest: str, *, alone: bool) -> str | None:
    match = _BY.match(rest)
    name = rest[match.end() :] if match else rest
    if match is None and not alone:
        return None
    if name.rstrip().endswith((".", "?", "!")) and not re.search(r"\b[A-Z]\.$", name.rstrip()):
        return None
    head = re.split(r"\s[|·•–—-]\s|,|\|", name, maxsplit=1)[0].split()
    if not head or len(head) > 6 or len(name.split()) > 10:
        return None
    real = [word for word in head if word.casefold() not in _PARTICLES]
    if not real or any(not word[0].isupper() for word in real) or head[0].casefold() in _NO_NAME:
        return None
    if any(word.casefold() in _NO_NAME for word in real):
        return None
    sure = match is not None and match["sure"] is not None
    if len(real) < 2 and not sure and not (alone and match):
        return None
    return re.sub(r"\s*[|·•]\s*", ", ", " ".join(name.split())).strip(_EDGES)
