"""What people type about themselves and others: names, topics, fields, each with its limit."""

from __future__ import annotations

import re
import unicodedata

from newsletter.errors import BadInput

NAME_LIMIT = 200
FIELD_LIMIT = 4_000
FIELD_NAME_LIMIT = 100
TOPIC_LIMIT = 100
TOPICS_LIMIT = 50
FREQUENCIES = ("every", "monthly")

_NOT_IN_A_NAME = re.compile(r"\W+")
_TOPIC_SEPARATORS = re.compile(r"[;|,]")
_BAD_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class BadValue(BadInput):
    """A value that is too long or holds characters that no text has."""


def clean_name(text: str, what: str) -> str:
    """A person's name on one line, without white space around and doubled. Raises `BadValue`."""
    return _checked(" ".join(text.split()), what, NAME_LIMIT)


def clean_field(text: str, what: str) -> str:
    """The value of a field, without white space around it. Raises `BadValue`."""
    return _checked(text.strip(), what, FIELD_LIMIT)


def clean_topics(text: str) -> list[str]:
    """Topics written in one cell, separated by `;`, `|` or `,`. Raises `BadValue`."""
    return clean_topic_list(_TOPIC_SEPARATORS.split(text))


def clean_topic_list(topics: list[str]) -> list[str]:
    """Topics in small letters, each once, in their order. Raises `BadValue`."""
    cleaned = (_checked(" ".join(topic.split()).lower(), "topics", TOPIC_LIMIT) for topic in topics)
    found = list(dict.fromkeys(topic for topic in cleaned if topic))
    if len(found) > TOPICS_LIMIT:
        raise BadValue(f"topics: {len(found)} of them, at most {TOPICS_LIMIT} are kept")
    return found


def field_name(text: str) -> str:
    """The name under which a column's values become `subscriber.fields.<name>`.

    Small letters; what cannot stand in a name becomes `_`: "Skin type" is `skin_type`. '' if
    nothing is left.
    """
    text = unicodedata.normalize("NFKC", text).strip().lower().removeprefix("fields.")
    name = _NOT_IN_A_NAME.sub("_", text).strip("_")[:FIELD_NAME_LIMIT]
    return f"_{name}" if name[:1].isdigit() else name


def _checked(text: str, what: str, limit: int) -> str:
    if len(text) > limit:
        raise BadValue(f"{what} has {len(text)} characters, at most {limit} are kept")
    if _BAD_CHARACTERS.search(text):
        raise BadValue(f"{what} holds a control character")
    return text
