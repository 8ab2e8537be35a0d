"""Fields that several providers' requests share: address headers, embedded images. Pure."""

from __future__ import annotations

import base64
import re

from newsletter.providers.base import Attachment

# RFC 5322: an atom's characters, spaces between them; anything else needs quotes. Beyond ASCII a
# JSON API takes names as they are and encodes them itself.
_PLAIN_NAME = re.compile(r"[\w!#$%&'*+\-/=?^`{|}~ ]+")


def address(name: str, email: str) -> str:
    """`Name <email>`, the name quoted where it must be; the bare address without a name."""
    if not name:
        return email
    if not _PLAIN_NAME.fullmatch(name):
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        name = f'"{escaped}"'
    return f"{name} <{email}>"


def content(attachment: Attachment) -> str:
    """The attachment's bytes in base64."""
    return base64.b64encode(attachment.content).decode("ascii")
