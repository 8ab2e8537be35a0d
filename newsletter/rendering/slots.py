"""Merge fields as single private characters, from the Markdown to the finished HTML.

Each distinct field is one character of a private-use plane, so that nothing on the way can break,
wrap or translate it. Text from outside never holds such a character: `neutralise` takes them out,
also those that an entity would become. At the end the HTML is cut at them, and where each stands
decides how its values are escaped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from newsletter.compiled import Context, Part, Slot, escape_html
from newsletter.drafting import MergeField, parse_merge
from newsletter.errors import BadInput, Where

_FIRST = 0xF0000  # plane 15: fields where the place decides
_FIRST_IN_URL = 0xF8000  # the same field in an address of the text part
_MOST = 0x7000

_PRIVATE = re.compile("[\U000f0000-\U0010ffff]")
_FIELD = re.compile("[\U000f0000-\U000fffff]")
_REFERENCE = re.compile(r"&#(?:[xX]([0-9a-fA-F]{1,9})|([0-9]{1,9}));?")

_TAG = re.compile(r"""<[A-Za-z/!](?:[^"'<>]|"[^"]*"|'[^']*')*>""")
_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]+)\s*=\s*("[^"]*"|'[^']*')""")
_URL_ATTRIBUTES = frozenset({"href", "src", "srcset", "background", "action", "poster", "cite"})
_REFUSED_ATTRIBUTES = re.compile(r"style|srcdoc|on.*", re.IGNORECASE)
_RAW_ELEMENT = re.compile(r"<(style|script)\b.*?</\1", re.IGNORECASE | re.DOTALL)


def neutralise(text: str) -> str:
    """`text` without private characters of planes 15 and 16, and without references to them."""
    return _PRIVATE.sub("�", _REFERENCE.sub(_harmless, text))


def _harmless(match: re.Match[str]) -> str:
    code = int(match[1], 16) if match[1] else int(match[2])
    return "�" if code >= _FIRST else match[0]


@dataclass
class MergeTable:
    """The fields of one issue, each with its character. `base` and `slug` make its own links.

    `public`: for a page that is nobody's; personal links then lead to the sign-up page.
    """

    base: str
    slug: str
    public: bool = False
    fields: list[tuple[str, tuple[tuple[str, str | None], ...]]] = field(default_factory=list)

    def mark(self, source: str, where: Where) -> str:
        """`source` with each merge expression as a character. Raises as `parse_merge` does."""
        return "".join(
            part if isinstance(part, str) else self.character(part)
            for part in parse_merge(neutralise(source), where=where)
        )

    def character(self, merge: MergeField) -> str:
        return self._character(merge.field, merge.filters)

    def link(self, name: str) -> str:
        """The character of `links.<name>`: unsubscribe, preferences, web_version or token."""
        return self._character(f"links.{name}", ())

    def _character(self, name: str, filters: tuple[tuple[str, str | None], ...]) -> str:
        key = (name, filters)
        if key not in self.fields:
            if len(self.fields) >= _MOST:
                raise BadInput(f"more than {_MOST} different merge fields in one issue")
            self.fields.append(key)
        return chr(_FIRST + self.fields.index(key))

    def look_up(self, character: str) -> tuple[str, tuple[tuple[str, str | None], ...]]:
        code = ord(character)
        return self.fields[code - (_FIRST_IN_URL if code >= _FIRST_IN_URL else _FIRST)]

    def address(self, kind: str) -> str:
        """The address of `links.<kind>`; unless it is the same for all, the token follows."""
        if kind == "web_version":
            return f"{self.base}/archive/{self.slug}"
        return f"{self.base}/" if self.public else f"{self.base}/{kind}/"


def has_field(text: str) -> bool:
    """Whether a merge field stands in `text`."""
    return _FIELD.search(text) is not None


def in_url(address: str) -> str:
    """An address for the text part: its fields are percent-encoded there."""
    return _FIELD.sub(
        lambda m: chr(_FIRST_IN_URL + ord(m[0]) - _FIRST) if ord(m[0]) < _FIRST_IN_URL else m[0],
        address,
    )


@dataclass
class Cutter:
    """Cuts the texts of one message at their fields; the slots are shared by all its texts."""

    table: MergeTable
    slots: list[Slot] = field(default_factory=list)

    def text(self, text: str, context: Context) -> tuple[Part, ...]:
        """Cut a plain text, all in one context, save for fields marked by `in_url`."""
        parts: list[Part] = []
        end = 0
        for match in _FIELD.finditer(text):
            parts.append(text[end : match.start()])
            url = ord(match[0]) >= _FIRST_IN_URL
            starts = match.start() == 0 or text[match.start() - 1].isspace()
            parts += self._expand(match[0], "url" if url else context, whole=starts or not url)
            end = match.end()
        parts.append(text[end:])
        return _joined(parts)

    def html(self, page: str, where: Where) -> tuple[Part, ...]:
        """Cut HTML; raises `BadInput` where a field stands in a style, a script or a tag's name."""
        parts: list[Part] = []
        end = 0
        for start, character, context, whole in _places(page, where):
            parts.append(page[end:start])
            parts += self._expand(character, context, whole=whole)
            end = start + len(character)
        parts.append(page[end:])
        return _joined(parts)

    def _expand(self, character: str, context: Context, *, whole: bool) -> list[Part]:
        """`whole`: the field is an address of its own, or stands in a text, not within another."""
        name, filters = self.table.look_up(character)
        if not name.startswith("links.") or name == "links.token":
            return [self._slot(Slot(name, filters, context))]
        kind = name.removeprefix("links.")
        address = self.table.address(kind)
        if context == "url" and not whole:
            address = quote(address, safe="")
        elif context in ("html", "attribute", "url"):
            address = escape_html(address)
        if kind == "web_version" or self.table.public:
            return [address]
        return [address, self._slot(Slot("links.token", (), "url"))]

    def _slot(self, slot: Slot) -> int:
        if slot not in self.slots:
            self.slots.append(slot)
        return self.slots.index(slot)


def _joined(parts: list[Part]) -> tuple[Part, ...]:
    """Neighbouring literals as one, empty ones left out."""
    joined: list[Part] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return tuple(joined)


def _places(page: str, where: Where) -> Iterator[tuple[int, str, Context, bool]]:
    """Every field in HTML: position, character, context, and whether it begins an address."""
    if not has_field(page):
        return
    if raw := next((m for m in _RAW_ELEMENT.finditer(page) if has_field(m[0])), None):
        raise _refused(f"in <{raw[1]}>", where)
    end = 0
    for tag in _TAG.finditer(page):
        yield from (
            (match.start(), match[0], "html", True)
            for match in _FIELD.finditer(page, end, tag.start())
        )
        if has_field(tag[0]):
            yield from _places_in_tag(page, tag, where)
        end = tag.end()
    yield from ((match.start(), match[0], "html", True) for match in _FIELD.finditer(page, end))


def check_tag(tag: str, where: Where) -> None:
    """Raises `BadInput` where a field in this tag is not in an attribute that may hold one."""
    if has_field(tag) and (match := _TAG.fullmatch(tag)):
        list(_places_in_tag(tag, match, where))


def _places_in_tag(
    page: str, tag: re.Match[str], where: Where
) -> Iterator[tuple[int, str, Context, bool]]:
    found = 0
    for attribute in _ATTRIBUTE.finditer(page, tag.start(), tag.end()):
        for match in _FIELD.finditer(page, attribute.start(2), attribute.end(2)):
            found += 1
            name = attribute[1].lower()
            if _REFUSED_ATTRIBUTES.fullmatch(name):
                raise _refused(f"in the attribute {name!r}", where)
            url = name in _URL_ATTRIBUTES
            starts = match.start() == attribute.start(2) + 1
            yield match.start(), match[0], "url" if url else "attribute", starts
    if found != len(_FIELD.findall(tag[0])):
        raise _refused("in a tag, outside an attribute's quotes", where)


def _refused(place: str, where: Where) -> BadInput:
    return BadInput(
        f"a merge field stands {place}",
        where=where,
        hint="Merge fields may stand in text and in quoted attributes such as href and alt.",
    )


def plain(text: str) -> str:
    """HTML text as plain text: entities resolved, tags gone. For titles and alt texts."""
    return html.unescape(re.sub(r"<[^>]*>", "", text))
