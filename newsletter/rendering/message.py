"""From a compiled issue to one person's whole message, and to the bytes of an `.eml` file.

No value can add a header or end one: names and addresses are checked, everything else is encoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime
from functools import lru_cache

import idna

from newsletter.compiled import CompiledIssue, People, Recipient, Slot, escape_text, fill_all
from newsletter.errors import BadInput, Where
from newsletter.providers.base import Attachment, Form, Message, Personal
from newsletter.providers.columns import Columns

#: `Date` of a message that is not scheduled yet: fixed, so that the same input is the same bytes.
UNSCHEDULED = datetime(2000, 1, 1, tzinfo=UTC)

_NAME = Slot("name", (), "header")  # the name beside an address


def compose(
    compiled: CompiledIssue,
    recipient: Recipient,
    *,
    variant: str = "",
    at: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
    media: Callable[[str], bytes] | None = None,
) -> Message:
    """One person's message. `at` is the send's scheduled time, `None` while it has none.

    `variant` names one of the compiled variants; `media` gives the bytes of an image by its
    SHA-256, and is asked only for images that are embedded.
    """
    form = make_form(compiled, variant, at=at, media=media)
    return form.message(personal(compiled, recipient, variant=variant, metadata=metadata))


def make_form(
    compiled: CompiledIssue,
    variant: str = "",
    *,
    name: str = "",
    at: datetime | None = None,
    media: Callable[[str], bytes] | None = None,
) -> Form:
    """What a variant says to everybody; its last slot is the recipient's part of `Message-ID`."""
    content = compiled.variants[variant]
    domain = _ascii_domain(compiled.sender_email.rpartition("@")[2])
    return Form(
        name=name,
        contexts=(*(slot.context for slot in content.slots), "header"),
        sender=(compiled.sender_name, compiled.sender_email),
        reply_to=compiled.reply_to,
        subject=content.subject,
        html=content.html,
        text=content.text,
        headers=(
            ("Date", (_date(at or UNSCHEDULED),)),
            ("Message-ID", ("<", len(content.slots), f"@{domain}>")),
            *content.headers,
        ),
        attachments=_attachments(compiled, media),
    )


def personal(
    compiled: CompiledIssue,
    recipient: Recipient,
    *,
    variant: str = "",
    metadata: Mapping[str, str] | None = None,
) -> Personal:
    """One recipient of the form that `make_form` makes of the same variant."""
    name = " ".join(part for part in (recipient.first_name, recipient.last_name) if part)
    values = compiled.variants[variant].values(recipient)
    return Personal(
        to=(escape_text(name).strip(), recipient.email or compiled.sender_email),
        values=(*values, _message_hash(compiled.issue, recipient.subscriber)),
        metadata=metadata or {},
    )


def personals(
    compiled: CompiledIssue,
    people: People,
    *,
    variant: str = "",
    metadata: Mapping[str, Sequence[str]],
) -> Columns:
    """What `personal` makes of each of them, in bulk. Every recipient has an address.

    `metadata` has a column for each name.
    """
    names = [
        f"{first} {last}" if first and last else first or last
        for first, last in zip(people.first_names, people.last_names, strict=True)
    ]
    values = compiled.variants[variant].columns(people)
    values.append(_message_hashes(compiled.issue, people.subscribers))
    shown = list(map(str.strip, fill_all(_NAME, names)))
    return Columns(shown, people.emails, values, metadata)


def message_id(compiled: CompiledIssue, recipient: Recipient) -> str:
    """A hash of issue and subscriber, under the sender's domain."""
    digest = _message_hash(compiled.issue, recipient.subscriber)
    return f"<{digest}@{_ascii_domain(compiled.sender_email.rpartition('@')[2])}>"


def _message_hash(issue: str, subscriber: int) -> str:
    return _message_hashes(issue, [subscriber])[0]


def _message_hashes(issue: str, subscribers: Iterable[int]) -> list[str]:
    started = hashlib.sha256(f"{issue}\0".encode())
    hashes = []
    for subscriber in subscribers:
        digest = started.copy()
        digest.update(b"%d" % subscriber)
        hashes.append(digest.hexdigest()[:32])
    return hashes


def eml_bytes(message: Message) -> bytes:
    """A complete message as a file (RFC 5322): the same message, the same bytes.

    Raises `BadInput` for a sender or recipient that is no address.
    """
    mail = EmailMessage(policy=_policy(message))
    mail["From"] = _address(*message.sender, field="sender.email")
    mail["To"] = _address(*message.to, field="the recipient")
    if message.reply_to:
        mail["Reply-To"] = _address("", message.reply_to, field="sender.reply_to")
    mail["Subject"] = escape_text(message.subject)
    for name, value in message.headers:
        if name.lower() not in {"message-id", "list-unsubscribe"}:
            mail[name] = escape_text(value)
    mail.set_content(message.text, cte="quoted-printable")
    mail.add_alternative(message.html, subtype="html", cte="quoted-printable")
    for attachment in message.attachments:
        _embed(mail, attachment)
    _fix_boundaries(mail)
    return _unfolded(message) + mail.as_bytes()


def _unfolded(message: Message) -> bytes:
    """Headers whose value Python's folding would break or encode: addresses in angle brackets."""
    lines = [
        f"{name}: {escape_text(value).replace('>, <', '>,' + chr(13) + chr(10) + ' <')}"
        for name, value in message.headers
        if name.lower() in {"message-id", "list-unsubscribe"}
    ]
    return "".join(line + "\r\n" for line in lines).encode()


def _embed(mail: EmailMessage, attachment: Attachment) -> None:
    page = mail.get_body(("html",))
    assert isinstance(page, MIMEPart)
    maintype, _, subtype = attachment.content_type.partition("/")
    page.add_related(
        attachment.content,
        maintype=maintype,
        subtype=subtype,
        cid=f"<{attachment.cid}>",
        filename=attachment.filename,
        disposition="inline",
    )


def _fix_boundaries(mail: EmailMessage) -> None:
    """Boundaries by content instead of by chance."""
    for number, part in enumerate(mail.walk()):
        if part.is_multipart():
            seed = f"{mail['Subject']}\0{mail['To']}\0{number}"
            part.set_boundary(f"=_{hashlib.sha256(seed.encode()).hexdigest()[:40]}")


def _policy(message: Message) -> EmailPolicy[EmailMessage]:
    """Headers in ASCII, save where a mailbox itself is not (RFC 6532)."""
    local_parts = (message.sender[1], message.to[1], message.reply_to)
    return SMTP.clone(utf8=not all(part.rpartition("@")[0].isascii() for part in local_parts))


def _address(name: str, email: str, *, field: str) -> Address:
    local, _, domain = email.rpartition("@")
    try:
        if not local or not domain:
            raise ValueError("a part is missing")
        return Address(escape_text(name), local, _ascii_domain(domain))
    except (ValueError, IndexError) as error:
        raise BadInput(
            f"{field} is no mail address: {email!r}",
            where=Where("newsletter.toml") if field.startswith("sender") else None,
            hint="Write for example news@example.com.",
        ) from error


@lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str:
    """The domain as mail carries it: an international one in its `xn--` form."""
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"no such domain can be: {domain!r}") from error


@lru_cache(maxsize=64)
def _date(at: datetime) -> str:
    return format_datetime(at.astimezone(UTC))


def _attachments(
    compiled: CompiledIssue, media: Callable[[str], bytes] | None
) -> tuple[Attachment, ...]:
    embedded = [asset for asset in compiled.assets if asset.cid]
    if not embedded:
        return ()
    if media is None:
        raise ValueError("an issue with embedded images needs `media`")
    return tuple(
        Attachment(
            asset.cid,
            asset.content_type,
            f"{asset.sha256[:12]}.{asset.extension}",
            media(asset.sha256),
        )
        for asset in embedded
    )
