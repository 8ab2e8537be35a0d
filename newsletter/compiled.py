"""A compiled issue: literal text and merge slots, so that a recipient costs one substitution.

What is frozen when an issue is scheduled is `CompiledIssue.to_bytes()`; its SHA-256 names it. A
slot is escaped for the place where it stands, so no value can leave that place. Nothing here
knows Markdown, MJML or the database.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache, partial
from typing import Any, Literal
from urllib.parse import quote

import orjson

Context = Literal["html", "attribute", "url", "text", "header"]

#: A literal, or the index of a slot.
Part = str | int

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")
_LINE_BREAKS = re.compile(r"[\r\n\t]+")


@dataclass(frozen=True, slots=True)
class Slot:
    """A merge field with its filters, as (name, argument) in order, and the place it stands in.

    `field` is `subscriber.email`, `.first_name`, `.last_name`, `.fields.<name>`, or `links.token`,
    the recipient's token that every personal address ends in.
    """

    field: str
    filters: tuple[tuple[str, str | None], ...]
    context: Context


@dataclass(frozen=True, slots=True)
class Recipient:
    """One person as a message needs them; `token` is the signed token of their links."""

    subscriber: int
    email: str
    first_name: str = ""
    last_name: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    token: str = ""


@dataclass(frozen=True, slots=True)
class People:
    """Recipients as columns of one length: a batch then costs a few passes, not a call a value.

    `fields` may be empty where no slot of the message asks for any.
    """

    subscribers: Sequence[int]
    emails: Sequence[str]
    first_names: Sequence[str]
    last_names: Sequence[str]
    fields: Sequence[Mapping[str, Any]]
    tokens: Sequence[str]

    def column(self, name: str) -> Sequence[str]:
        """Everybody's value of a merge field."""
        match name:
            case "links.token":
                return self.tokens
            case "subscriber.email":
                return self.emails
            case "subscriber.first_name":
                return self.first_names
            case "subscriber.last_name":
                return self.last_names
        own = name.removeprefix("subscriber.fields.")
        return [str(fields.get(own, "")) for fields in self.fields]


@dataclass(frozen=True, slots=True)
class Content:
    """What one recipient reads."""

    subject: str
    html: str
    text: str
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CompiledMessage:
    """One variant of an issue. `headers` include those that differ between recipients."""

    slots: tuple[Slot, ...]
    subject: tuple[Part, ...]
    html: tuple[Part, ...]
    text: tuple[Part, ...]
    headers: tuple[tuple[str, tuple[Part, ...]], ...]

    def literals(self) -> Iterator[str]:
        """The text that is the same for everybody."""
        headers = [parts for _, parts in self.headers]
        for parts in (self.subject, self.html, self.text, *headers):
            yield from (part for part in parts if isinstance(part, str))

    def values(self, recipient: Recipient) -> tuple[str, ...]:
        """The recipient's merge values, one a slot, each escaped for its place."""
        return tuple(fill(slot, recipient) for slot in self.slots)

    def columns(self, people: People) -> list[Sequence[str]]:
        """What `values` gives for each of them, a column a slot."""
        return [fill_all(slot, people.column(slot.field)) for slot in self.slots]

    @property
    def uses_fields(self) -> bool:
        """Whether a slot asks for a subscriber's own fields."""
        return any(slot.field.startswith("subscriber.fields.") for slot in self.slots)

    def render(self, recipient: Recipient) -> Content:
        values = self.values(recipient)
        return Content(
            subject=join(self.subject, values),
            html=join(self.html, values),
            text=join(self.text, values),
            headers=tuple((name, join(parts, values)) for name, parts in self.headers),
        )


@dataclass(frozen=True, slots=True)
class Asset:
    """An image: by SHA-256 in the media table; `cid` where it is embedded instead of linked."""

    sha256: str
    extension: str
    content_type: str
    cid: str = ""


@dataclass(frozen=True, slots=True)
class TrackedLink:
    """A link that was rewritten: `link` is the hex of the 8 bytes in its token."""

    link: str
    position: int
    url: str


@dataclass(frozen=True, slots=True)
class CompiledIssue:
    """Everything a send needs. `variants` by the `only` segments shown, sorted and comma-joined.

    The variant `""` shows no `only` block. `web` is the web version's page: no slot is personal.
    """

    issue: str
    language: str
    title: str  # the subject with the defaults filled in: for the archive and the feed
    summary: str  # the preheader, likewise
    sender_name: str
    sender_email: str
    reply_to: str
    list_id: str
    audience: str
    segments: tuple[str, ...]
    variants: Mapping[str, CompiledMessage]
    web: str
    assets: tuple[Asset, ...]
    links: tuple[TrackedLink, ...]
    sources: tuple[str, ...]  # content ids

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same issue gives the same bytes."""
        return orjson.dumps(self, option=orjson.OPT_SORT_KEYS)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @staticmethod
    def from_bytes(data: bytes) -> CompiledIssue:
        raw = orjson.loads(data)
        return CompiledIssue(
            **{
                **raw,
                "segments": tuple(raw["segments"]),
                "sources": tuple(raw["sources"]),
                "variants": {name: _message(value) for name, value in raw["variants"].items()},
                "assets": tuple(Asset(**value) for value in raw["assets"]),
                "links": tuple(TrackedLink(**value) for value in raw["links"]),
            }
        )


def join(parts: tuple[Part, ...], values: tuple[str, ...]) -> str:
    return "".join([part if isinstance(part, str) else values[part] for part in parts])


def fill(slot: Slot, recipient: Recipient) -> str:
    """The slot's value for a recipient, escaped for its place."""
    return _filled(slot, _lookup(slot.field, recipient))


def fill_all(slot: Slot, column: Sequence[str]) -> Sequence[str]:
    """The slot's values for a column of a merge field's, escaped for their place."""
    # A token is of letters, digits, `-` and `_`: no place escapes any of it.
    if not slot.filters and (
        slot.field == "links.token" or not _UNSAFE[slot.context].search("".join(column))
    ):
        return column
    return list(map(_filler(slot), column))


@lru_cache(maxsize=256)
def _filler(slot: Slot) -> Callable[[str], str]:
    """The same first names come again and again: each is filled in once."""
    return lru_cache(maxsize=4096)(partial(_filled, slot))


def _filled(slot: Slot, value: str) -> str:
    for name, argument in slot.filters:
        value = FILTERS[name](value, argument)
    return ESCAPES[slot.context](value)


def _lookup(name: str, recipient: Recipient) -> str:
    match name:
        case "links.token":
            return recipient.token
        case "subscriber.email":
            return recipient.email
        case "subscriber.first_name":
            return recipient.first_name
        case "subscriber.last_name":
            return recipient.last_name
    return recipient.fields.get(name.removeprefix("subscriber.fields."), "")


def _default(value: str, argument: str | None) -> str:
    return value if value.strip() else (argument or "")


def _date(value: str, argument: str | None) -> str:
    """An ISO 8601 date or time as `strftime` writes it; what is no date stays as it is."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    return f"{moment.day} {moment:%B %Y}" if argument is None else date.strftime(moment, argument)


#: The filters a merge field may have; each takes the value and one argument at most.
FILTERS: Mapping[str, Callable[[str, str | None], str]] = {
    "default": _default,
    "upper": lambda value, _: value.upper(),
    "title": lambda value, _: value.title(),
    "date": _date,
}


def escape_html(value: str) -> str:
    return html.escape(_CONTROLS.sub("", value), quote=True)


def escape_url(value: str) -> str:
    return quote(value, safe="")


def escape_text(value: str) -> str:
    return _LINE_BREAKS.sub(" ", _CONTROLS.sub("", value))


#: A value in a header or in the text part stays on its line; one in HTML cannot open a tag.
ESCAPES: Mapping[Context, Callable[[str], str]] = {
    "html": escape_html,
    "attribute": escape_html,
    "url": escape_url,
    "text": escape_text,
    "header": escape_text,
}

# What the escape of a place changes: without any of it, a value goes there as it is.
_UNSAFE_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNSAFE_HTML = re.compile(r"""[&<>"'\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]""")
_UNSAFE: Mapping[Context, re.Pattern[str]] = {
    "html": _UNSAFE_HTML,
    "attribute": _UNSAFE_HTML,
    "url": re.compile(r"[^A-Za-z0-9_.~-]"),
    "text": _UNSAFE_TEXT,
    "header": _UNSAFE_TEXT,
}


def _message(raw: dict[str, Any]) -> CompiledMessage:
    return CompiledMessage(
        slots=tuple(
            Slot(
                slot["field"],
                tuple((name, argument) for name, argument in slot["filters"]),
                slot["context"],
            )
            for slot in raw["slots"]
        ),
        subject=tuple(raw["subject"]),
        html=tuple(raw["html"]),
        text=tuple(raw["text"]),
        headers=tuple((name, tuple(parts)) for name, parts in raw["headers"]),
    )
