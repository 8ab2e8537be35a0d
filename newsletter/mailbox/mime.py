"""A kept message as the .eml that a mail server would have passed on. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formataddr, parseaddr
from typing import Any

# Set by the message itself; what a request says of them would make a second one.
_OWN = frozenset(
    {"from", "to", "subject", "reply-to", "mime-version", "content-type"}
    | {"content-transfer-encoding"}
)


def as_eml(message: dict[str, Any]) -> bytes:
    """The message with its headers, text, HTML and embedded images, in SMTP's line ends."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = _mailbox(message["from"])
    mail["To"] = _mailbox(formataddr((message.get("to_name") or "", message["to"]), "utf-8"))
    if message.get("reply_to"):
        mail["Reply-To"] = _mailbox(message["reply_to"])
    mail["Subject"] = message["subject"]
    for name, value in (message.get("headers") or {}).items():
        if name.lower() not in _OWN:
            mail[name] = value
    html = message.get("html") or ""
    mail.set_content(message.get("text") or "", charset="utf-8")
    if html:
        mail.add_alternative(html, subtype="html", charset="utf-8")
        related = mail.get_body(("html",))
        assert isinstance(related, EmailMessage)
        for cid, kind, name, content in attachments(message):
            main, _, sub = kind.partition("/")
            related.add_related(
                content,
                maintype=main,
                subtype=sub or "octet-stream",
                disposition="inline",
                cid=f"<{cid}>",
                filename=name,
            )
    return mail.as_bytes()


def attachments(message: dict[str, Any]) -> Iterator[tuple[str, str, str, bytes]]:
    """(Content-ID, content type, file name, content) of each embedded image that can be read."""
    for part in message.get("attachments") or []:
        try:
            content = base64.b64decode(part["content"], validate=True)
            yield str(part["cid"]), str(part["content_type"]), str(part["filename"]), content
        except (KeyError, TypeError, binascii.Error, ValueError):
            continue


def _mailbox(text: str) -> Address | str:
    """An address header; as it is where it cannot be taken apart (a local part in Unicode)."""
    name, address = parseaddr(text)
    try:
        return Address(name, addr_spec=address)
    except (ValueError, IndexError):
        return text
