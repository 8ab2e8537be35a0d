"""Fields that several providers' requests share: addresses, headers, embedded images. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from email.header import Header

from newsletter.providers.base import Attachment

# RFC 5322: an atom's characters, spaces between them; anything else needs quotes. Beyond ASCII a
# JSON API takes names as they are and encodes them itself.
_PLAIN_NAME = re.compile(r"[\w!#$%&'*+\-/=?^`{|}~ ]+")
_NAMED = re.compile(r"([^<>]*)(<[\x21-\x7e]+>)")


def address(name: str, email: str) -> str:
    """`Name <email>`, the name quoted where it must be; the bare address without a name."""
    if not name:
        return email
    if not _PLAIN_NAME.fullmatch(name):
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        name = f'"{escaped}"'
    return f"{name} <{email}>"


def addresses(names: Sequence[str], emails: Sequence[str]) -> Sequence[str]:
    """`address` of each of them."""
    if all(names) and _PLAIN_NAME.fullmatch("".join(names)):
        return [f"{name} <{email}>" for name, email in zip(names, emails, strict=True)]
    return list(map(address, names, emails))


def content(attachment: Attachment) -> str:
    """The attachment's bytes in base64."""
    return base64.b64encode(attachment.content).decode("ascii")


def header_text(value: str) -> str:
    """A header's value in ASCII, for an API that takes no other: encoded words (RFC 2047).

    The addresses in angle brackets that follow a name, as in `List-Id`, stay as they are.
    """
    if value.isascii():
        return value
    named = _NAMED.fullmatch(value)
    text, addresses = (named[1].strip(' "'), f" {named[2]}") if named else (value, "")
    # An encoded word has 75 characters at most; between two of them the space is not shown.
    return Header(text, "utf-8", maxlinelen=75).encode(linesep="") + addresses
