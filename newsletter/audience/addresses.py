"""Email addresses: what is written to, and the key by which two spellings are one person.

It must not know the database or the network: whether a domain receives mail is never asked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from email_validator import EmailNotValidError, validate_email

from newsletter.errors import BadInput

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)", re.ASCII)
_LOCAL_LIMIT = 64
_ADDRESS_LIMIT = 254
# Pasted with an address, seen by nobody, and no part of it.
_INVISIBLE = " \t\r\n\u00a0\u200b\u200c\u200d\u2060\ufeff"


class BadAddress(BadInput):
    """Not an email address; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Address:
    """`email`: local part as written, Unicode domain. `key`: equal for spellings of one address."""

    email: str
    key: str


def normalise_address(text: str) -> Address:
    """Read an address as a person typed it. Raises `BadAddress`."""
    text = text.strip().strip(_INVISIBLE)
    if not text:
        raise BadAddress("there is no address")
    if len(text) > 2 * _ADDRESS_LIMIT:
        raise BadAddress(f"an address has at most {_ADDRESS_LIMIT} characters")
    plain = _PLAIN.fullmatch(text)
    if plain and len(plain[1]) <= _LOCAL_LIMIT and len(text) <= _ADDRESS_LIMIT:
        shown, ascii_domain = _domain(plain[2].lower())
        return Address(f"{plain[1]}@{shown}", f"{plain[1].lower()}@{ascii_domain}")
    # NFKC: full-width letters and signs are what an Asian keyboard makes of the plain ones.
    local, shown, ascii_domain = _validate(unicodedata.normalize("NFKC", text))
    key = unicodedata.normalize("NFC", local.casefold())
    return Address(f"{local}@{shown}", f"{key}@{ascii_domain}")


def comparison_key(text: str) -> str:
    """The key of an address that somebody else wrote down; of what is none, the text itself."""
    try:
        return normalise_address(text).key
    except BadAddress:
        return text.casefold()


def address_hash(key: bytes, address_key: str) -> str:
    """The keyed hash under which an address is suppressed: 64 hex digits of HMAC-SHA-256."""
    return hmac.digest(key, b"address\0" + address_key.encode(), hashlib.sha256).hex()


@lru_cache(maxsize=10_000)
def _domain(domain: str) -> tuple[str, str]:
    """The Unicode and the ASCII form of a domain. An audience has few: most are remembered."""
    _, shown, ascii_domain = _validate(f"a@{domain}")
    return shown, ascii_domain


def _validate(text: str) -> tuple[str, str, str]:
    try:
        # `test_environment` allows the domain .test, which no real address has; all else stays.
        found = validate_email(text, check_deliverability=False, test_environment=True, strict=True)
    except EmailNotValidError as error:
        raise BadAddress(str(error).rstrip(".")) from error
    return found.local_part, found.domain, (found.ascii_domain or found.domain).lower()
