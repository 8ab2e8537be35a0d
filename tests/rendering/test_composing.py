"""Messages and `.eml` files: complete, exact, and closed to whatever a value holds."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest

from newsletter.compiled import Recipient
from newsletter.errors import BadInput
from newsletter.rendering import Rendered, compose, eml_bytes, neutral_recipient
from newsletter.rendering.notice import render_notice
from newsletter.workspace import Workspace

AT = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
ANA = Recipient(7, "ana@example.com", "Ana", "Lund", token="TOKEN")
Render = Callable[..., Rendered]


def read(content: bytes) -> EmailMessage:
    parsed = email.message_from_bytes(content, policy=email.policy.SMTP)
    assert isinstance(parsed, EmailMessage)
    return parsed


def test_a_file_has_the_contracts_headers_and_both_parts(render: Render) -> None:
    message = compose(render("Hi {{ subscriber.first_name }}").compiled, ANA, at=AT)
    mail = read(eml_bytes(message))
    assert mail["From"] == "Glow Letter <hello@glow.example>"
    assert mail["To"] == "Ana Lund <ana@example.com>"
    assert mail["Reply-To"] == "editors@glow.example"
    assert mail["Subject"] == "Hello"
    assert mail["Date"] == "Thu, 26 Nov 2026 09:00:00 +0000"
    assert mail["List-Id"] == '"Glow Letter" <newsletter.glow.example>'
    assert mail["List-Unsubscribe"] == "<http://127.0.0.1:8000/unsubscribe/TOKEN>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["Message-ID"].endswith("@glow.example>")
    assert mail.get_content_type() == "multipart/alternative"
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert "Hi Ana" in plain.get_content()
    assert html.get_content().replace("\r\n", "\n").strip() == message.html.strip()
    assert plain.get_content().replace("\r\n", "\n").strip() == message.text.strip()


def test_the_same_message_is_the_same_bytes_and_people_differ(render: Render) -> None:
    compiled = render("Text").compiled
    assert eml_bytes(compose(compiled, ANA, at=AT)) == eml_bytes(compose(compiled, ANA, at=AT))
    other = compose(compiled, replace(ANA, subscriber=8), at=AT)
    assert (
        dict(other.headers)["Message-ID"]
        != dict(compose(compiled, ANA, at=AT).headers)["Message-ID"]
    )
    unscheduled = compose(compiled, ANA)
    assert dict(unscheduled.headers)["Date"] == "Sat, 01 Jan 2000 00:00:00 +0000"


def test_values_cannot_add_a_header(render: Render) -> None:
    compiled = render("Text", subject="For {{ subscriber.first_name }}").compiled
    evil = replace(
        ANA, first_name="Ana\r\nBcc: all@example.com\r\n\r\nBody", last_name="\x00\u2028"
    )
    mail = read(eml_bytes(compose(compiled, evil, at=AT)))
    assert mail["Bcc"] is None
    assert mail["Subject"] == "For Ana Bcc: all@example.com Body"
    assert len(mail.get_all("To")) == 1
    assert mail["To"].addresses[0].addr_spec == "ana@example.com"


def test_other_scripts_and_domains_are_encoded(render: Render) -> None:
    compiled = render("Grüße 🌸", subject="Schöne Grüße an {{ subscriber.first_name }} 🌸").compiled
    person = Recipient(7, "ana@bücher.example", "Žofie", "أمل")
    compiled = replace(
        compiled, sender_name="Die Müller, Söhne", sender_email="hallo@müller.example"
    )
    content = eml_bytes(compose(compiled, person, at=AT))
    assert content.isascii()
    mail = read(content)
    assert mail["Subject"] == "Schöne Grüße an Žofie 🌸"
    assert mail["To"].addresses[0].addr_spec == "ana@xn--bcher-kva.example"
    assert mail["To"].addresses[0].display_name == "Žofie أمل"
    assert mail["From"].addresses[0].display_name == "Die Müller, Söhne"
    assert mail["Message-ID"].endswith("@xn--mller-kva.example>")


def test_an_international_mailbox_is_written_as_utf8(render: Render) -> None:
    content = eml_bytes(compose(render("Text").compiled, Recipient(7, "žofie@example.com"), at=AT))
    assert "žofie@example.com".encode() in content


def test_long_headers_stay_readable(render: Render) -> None:
    compiled = render("Text", subject="Wörter " * 30).compiled
    mail = eml_bytes(compose(compiled, replace(ANA, token="T" * 34), at=AT))
    head = mail.partition(b"\r\n\r\n")[0]
    assert all(len(line) <= 998 for line in mail.split(b"\r\n"))
    assert b"List-Unsubscribe: <http://127.0.0.1:8000/unsubscribe/" + b"T" * 34 + b">\r\n" in head
    assert read(mail)["Subject"] == ("Wörter " * 30).strip()


@pytest.mark.parametrize("address", ["", "nobody", "nobody@", "a@b@c.example\r\nBcc: x@y.z"])
def test_a_sender_that_is_no_address_is_named(render: Render, address: str) -> None:
    compiled = replace(render("Text").compiled, sender_email=address)
    with pytest.raises(BadInput, match=r"sender\.email is no mail address"):
        eml_bytes(compose(compiled, ANA, at=AT))


def test_nobodys_message_goes_to_the_sender(render: Render) -> None:
    mail = read(eml_bytes(compose(render("Text").compiled, neutral_recipient())))
    assert mail["To"] == "hello@glow.example"


def test_a_notice_has_html_and_text_and_nothing_typed_becomes_markup(workspace: Workspace) -> None:
    html, text = render_notice(
        workspace,
        "Please <confirm>",
        "Press [this link](http://127.0.0.1:8000/confirm/abc) <b>now</b> {{ subscriber.email }}",
    )
    assert 'href="http://127.0.0.1:8000/confirm/abc"' in html
    assert "Please &lt;confirm&gt;" in html
    assert "&lt;b&gt;now&lt;/b&gt; {{ subscriber.email }}" in html
    assert "[1] http://127.0.0.1:8000/confirm/abc" in text
    assert "1 Rose Lane" in html
    assert "1 Rose Lane" in text
    assert "/unsubscribe/" not in html
