"""A form as SendGrid's one body: tags where the values go, and a personalization for each person.

What is the same for everybody is encoded once. It makes JSON and knows neither HTTP nor answers.
Written from https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send and
…/for-developers/sending-email/substitution-tags.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, repeat
from typing import Any

import idna
import orjson

from newsletter.compiled import Part, join
from newsletter.errors import BadInput
from newsletter.providers.base import Form, FormBatch
from newsletter.providers.columns import Columns, columns_of, escaped, quoted
from newsletter.providers.fields import content, header_text

#: Substitutions of one recipient, names and values together, in bytes.
SUBSTITUTION_BYTES = 10_000
#: Of them for the tags' names; the values have the rest.
TAG_BYTES = 2_000

# custom_args come back in events as fields among SendGrid's own, and a deferral has an `attempt`
# that is a number; so ours have a prefix.
ARGUMENT = "nl_"

_TAG_LENGTH = 20
# The tracking, footers and list handling that are SendGrid's own, off in every message.
_SETTINGS: Mapping[str, Any] = {
    "tracking_settings": {
        "click_tracking": {"enable": False, "enable_text": False},
        "open_tracking": {"enable": False},
        "subscription_tracking": {"enable": False},
        "ganalytics": {"enable": False},
    },
    "mail_settings": {
        "bypass_list_management": {"enable": False},
        "footer": {"enable": False},
        "sandbox_mode": {"enable": False},
    },
}
# "personalizations cannot include either the ; or , characters" in `to.name`:
# https://www.twilio.com/docs/sendgrid/api-reference/mail-send/limitations
_NOT_IN_NAMES = str.maketrans(";,", "  ")


def request_body(batch: FormBatch) -> tuple[bytes, str]:
    """The JSON of `/v3/mail/send`, and its digest: of what is the same for all and the values, so
    that it is another one whenever they are. The same batch gives the same bytes.

    Raises `BadInput` for an address that is in it twice and for more merge fields than it takes.
    """
    people = columns_of(batch.recipients)
    _refuse_repeats(people.addresses)
    salt = 0
    while True:
        shape = _shape(batch.form, salt)
        pieces = _personalizations(batch.key, people, shape)
        if pieces is not None:
            break
        salt += 1  # somebody's value holds what the tags begin with
    send = people.metadata["send"][0] if "send" in people.metadata else ""
    categories = [batch.key, send] if send else [batch.key]
    columns = [repeat(piece) if isinstance(piece, str) else piece for piece in pieces]
    body = (
        b'{"personalizations":[',
        ",".join(map("".join, zip(*columns, strict=False))).encode(),
        b'],"categories":',
        orjson.dumps(categories),
        b",",
        shape.constant,
    )
    # A line break is in none of them: it is escaped.
    told = [shape.digest, *categories, str(len(people))]
    told += [piece if isinstance(piece, str) else "\n".join(piece) for piece in pieces]
    return b"".join(body), hashlib.sha256("\n".join(told).encode()).hexdigest()


def _refuse_repeats(addresses: Sequence[str]) -> None:
    """SendGrid refuses the whole request for an address that is in it twice."""
    lowered = list(map(str.lower, addresses))
    if len(set(lowered)) != len(lowered):
        twice = next(address for address, count in Counter(lowered).items() if count > 1)
        raise BadInput(f"the address {twice} is in one request twice")


# --- what is the same for everybody -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shape:
    """What follows from a form alone. `headers` are empty where none differs between people."""

    constant: bytes  # the document's members after personalizations and categories, and its end
    digest: str
    prefix: str  # what all tags begin with, and nothing else holds
    tags: tuple[tuple[int, str], ...]  # slot → tag
    headers: tuple[tuple[str, tuple[Part, ...]], ...]


@lru_cache(maxsize=8)
def _shape(form: Form, salt: int) -> _Shape:
    bodies = (form.subject, form.html, form.text)
    slots = sorted({part for parts in bodies for part in parts if isinstance(part, int)})
    if len(slots) * _TAG_LENGTH > TAG_BYTES:
        most = TAG_BYTES // _TAG_LENGTH
        raise BadInput(f"this issue has {len(slots)} merge fields, and SendGrid takes {most}")
    literals = [part for parts in bodies for part in parts if isinstance(part, str)]
    prefix = _prefix(form.name, [*literals, form.reply_to], salt)
    tags = {slot: f"{prefix}{slots.index(slot):04d}" for slot in slots}
    named = tuple(tags.get(slot, "") for slot in range(len(form.contexts)))
    personal = any(isinstance(part, int) for _, parts in form.headers for part in parts)
    constant = orjson.dumps(_document(form, named, with_headers=not personal))[1:]
    return _Shape(
        constant=constant,
        digest=hashlib.sha256(constant).hexdigest(),
        prefix=prefix,
        tags=tuple(tags.items()),
        # A personalization's fields override the message's of that name, and whether headers are
        # then merged is not said: where one differs, all of them go with each person.
        headers=form.headers if personal else (),
    )


def _prefix(name: str, literals: Sequence[str], salt: int) -> str:
    """Sixteen letters and digits that are in no literal.

    No character has a meaning in HTML, in an address or to SendGrid, none of whose tags looks like
    that; and who can write values, a subscriber, never sees the form's name.
    """
    while True:
        digest = hashlib.sha256(f"tag\0{name}\0{salt}".encode()).hexdigest()
        prefix = f"nl{digest[:14]}"
        if not any(prefix in literal for literal in literals):
            return prefix
        salt += 1


def _document(form: Form, tags: tuple[str, ...], *, with_headers: bool) -> dict[str, Any]:
    name, email = form.sender
    parts = (("text/plain", form.text), ("text/html", form.html))
    texts = [(kind, join(parts, tags)) for kind, parts in parts]
    document: dict[str, Any] = {
        "from": {"email": email, "name": name} if name else {"email": email},
        "subject": join(form.subject, tags),
        "content": [{"type": kind, "value": text} for kind, text in texts if text],
        **_SETTINGS,
    }
    if form.reply_to:
        document["reply_to"] = {"email": form.reply_to}
    if with_headers and form.headers:
        document["headers"] = {key: header_text(join(parts, ())) for key, parts in form.headers}
    if form.attachments:
        document["attachments"] = [
            {
                "content": content(part),
                "type": part.content_type,
                "filename": part.filename,
                "disposition": "inline",
                "content_id": part.cid,
            }
            for part in form.attachments
        ]
    return document


# --- what differs -------------------------------------------------------------------------------

# A personalization in pieces: a text is the same in each, a column has one text for each person.
# Made by columns: one that needs no escaping, as most, is not looked at value by value.
_Piece = str | Sequence[str]


def _personalizations(key: str, people: Columns, shape: _Shape) -> list[_Piece] | None:
    """What a personalization is; None where a value holds the tags' prefix."""
    values = people.values
    if any(shape.prefix in "".join(values[slot]) for slot, _ in shape.tags):
        return None
    pieces: list[_Piece] = ['{"to":[{"email":"', *escaped([_ascii_addresses(people.addresses)])]
    pieces += ['"', _named(people.names), "}]"]
    if shape.headers:
        pieces += _object("headers", [(n, _header(parts, values)) for n, parts in shape.headers])
    if shape.tags:
        filled = escaped([values[slot] for slot, _ in shape.tags])
        tags = [tag for _, tag in shape.tags]
        pieces += _object("substitutions", [(t, [c]) for t, c in zip(tags, filled, strict=True)])
    metadata = {name: told for name, told in people.metadata.items() if name != "attempt"}
    arguments: list[tuple[str, Sequence[_Piece]]] = [(f"{ARGUMENT}attempt", [quoted(key)])]
    for name, told in zip(metadata, escaped(list(metadata.values())), strict=True):
        arguments.append((ARGUMENT + name, [told]))
    pieces += [*_object("custom_args", arguments), "}"]
    return list(_merged(pieces))


def _object(name: str, fields: Iterable[tuple[str, Sequence[_Piece]]]) -> list[_Piece]:
    """A member that is an object of texts."""
    pieces: list[_Piece] = []
    for key, value in fields:
        pieces += [f'{"," if pieces else ""}"{quoted(key)}":"', *value, '"']
    return [f',"{name}":{{', *pieces, "}"]


def _merged(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """The pieces, with texts that follow each other made one."""
    for is_text, group in groupby(pieces, lambda piece: isinstance(piece, str)):
        if is_text:
            yield "".join(piece for piece in group if isinstance(piece, str))
        else:
            yield from group


def _header(parts: tuple[Part, ...], values: Sequence[Sequence[str]]) -> Sequence[_Piece]:
    columns: list[_Piece] = [part if isinstance(part, str) else values[part] for part in parts]
    if all("".join(column).isascii() for column in columns):
        return [quoted(c) if isinstance(c, str) else escaped([c])[0] for c in columns]
    if all(isinstance(column, str) for column in columns):
        return [quoted(header_text(join(parts, ())))]
    rows = zip(*[repeat(c) if isinstance(c, str) else c for c in columns], strict=False)
    return escaped([[header_text("".join(row)) for row in rows]])


def _named(names: Sequence[str]) -> Sequence[str]:
    """Each person's name as the rest of their `to` object; nothing where there is none."""
    joined = "".join(names)
    if ";" in joined or "," in joined:
        names = [" ".join(name.translate(_NOT_IN_NAMES).split()) for name in names]
    return [name and f',"name":"{name}"' for name in escaped([names])[0]]


def _ascii_addresses(addresses: Sequence[str]) -> Sequence[str]:
    """International domains in their `xn--` form; what has none is left for SendGrid to refuse."""
    if "".join(addresses).isascii():
        return addresses
    return list(map(_ascii_address, addresses))


def _ascii_address(address: str) -> str:
    local, _, domain = address.rpartition("@")
    try:
        return f"{local}@{idna.encode(domain, uts46=True).decode('ascii')}"
    except idna.IDNAError:
        return address
