"""A kept message as a mail server would pass it on."""

from __future__ import annotations

import base64
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import cast

from newsletter.mailbox.mime import as_eml


def test_an_embedded_image_is_part_of_the_page_and_no_attachment() -> None:
    image = {
        "cid": "roller@glow.example",
        "content_type": "image/png",
        "filename": "roller.png",
        "content": base64.b64encode(b"\x89PNG").decode(),
    }
    message = {
        "from": "Glow <hello@glow.example>",
        "to": "ada@example.com",
        "subject": "Hello",
        "text": "Hello",
        "html": '<img src="cid:roller@glow.example" alt="A roller">',
        "attachments": [image],
    }
    mail = cast(EmailMessage, message_from_bytes(as_eml(message), policy=default))
    (part,) = [part for part in mail.walk() if part.get_content_type() == "image/png"]
    assert part["Content-ID"] == "<roller@glow.example>"
    assert part.get_content_disposition() == "inline"
    assert list(mail.iter_attachments()) == []
