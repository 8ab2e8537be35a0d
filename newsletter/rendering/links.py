"""Links: which addresses may be linked, and the rewriting of those whose clicks are counted.

A link is rewritten once, when the issue is compiled: what leads where is frozen with it, so there
is no open redirect. An address with a merge field in it is personal and stays direct.
"""

from __future__ import annotations

import hashlib
import html
import re
from dataclasses import dataclass, field
from typing import Literal

from newsletter.compiled import TrackedLink
from newsletter.errors import BadInput, Where
from newsletter.rendering.slots import MergeTable, has_field
from newsletter.tokens import link_token

_SCHEME = re.compile(r"[a-z][a-z0-9+.\-]*(?=:)", re.IGNORECASE)
_BLANKS = re.compile(r"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028\u2029\ufeff]")
_ANCHOR = re.compile(r"""(<a\s(?:[^"'<>]|"[^"]*"|'[^']*')*?\bhref=")([^"]*)""", re.IGNORECASE)
_ALLOWED = frozenset({"http", "https", "mailto", "tel"})


def is_allowed(address: str) -> bool:
    """Whether an address may be linked: http, https, mailto, tel, or without a scheme.

    Browsers skip blanks and control characters in a scheme, so they are skipped here too.
    """
    scheme = _SCHEME.match(_BLANKS.sub("", address))
    return scheme is None or scheme[0].lower() in _ALLOWED


def require_allowed(address: str, where: Where) -> str:
    """The address of an attribute. Raises `BadInput` for `javascript:`, `data:` and the like."""
    if not is_allowed(address):
        raise BadInput(
            "an address that mail must not link to",
            where=where,
            hint="Write an address that begins with https://, mailto: or tel:.",
        )
    return address.strip()


@dataclass
class Links:
    """The tracked links of one issue, in the order in which they stand in its blocks."""

    mode: Literal["none", "anonymous", "individual"]
    base: str
    slug: str
    key: bytes
    table: MergeTable
    tracked: list[TrackedLink] = field(default_factory=list)
    _in_template: dict[str, str] = field(default_factory=dict)

    def address(self, url: str) -> str:
        """The address to write for a link to `url`; each call is a link of its own."""
        if not self._is_tracked(url):
            return url
        position = len(self.tracked) + 1
        link = hashlib.sha256(f"{self.slug}\0{position}\0{url}".encode()).digest()[:8]
        self.tracked.append(TrackedLink(link.hex(), position, url))
        address = f"{self.base}/r/{link_token(self.key, link)}"
        if self.mode == "individual":
            address += f".{self.table.link('token')}"
        return address

    def page(self, page: str) -> str:
        """HTML with the links that the template itself wrote to other sites rewritten too."""
        return _ANCHOR.sub(self._anchor, page)

    def _anchor(self, match: re.Match[str]) -> str:
        url = html.unescape(match[2])
        if url.startswith(self.base) or not self._is_tracked(url):
            return match[0]
        if url not in self._in_template:  # the same in every variant
            self._in_template[url] = self.address(url)
        return f"{match[1]}{html.escape(self._in_template[url])}"

    def _is_tracked(self, url: str) -> bool:
        if self.mode == "none" or not self.base or has_field(url):
            return False
        own = ("unsubscribe/", "preferences/", "r/", "o/", "archive/" + self.slug)
        if url.startswith(tuple(f"{self.base}/{path}" for path in own)):
            return False
        return url.lower().startswith(("http://", "https://"))
