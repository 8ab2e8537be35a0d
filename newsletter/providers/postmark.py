"""Postmark: `/email/batch` over message streams, templates for large sends, look-up by metadata.

Written from https://postmarkapp.com/developer/api/email-api, …/api/messages-api and
…/api/overview#error-codes. Its webhooks are in `postmark_events`, a form's template in
`postmark_templates`. There is no idempotency key: a
doubt is settled by look-up alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlencode

import orjson

from newsletter.providers import postmark_templates as templates
from newsletter.providers.account import HttpProvider
from newsletter.providers.answers import failure, json_body, retry_after
from newsletter.providers.base import (
    Accepted,
    Answered,
    Batch,
    Capabilities,
    Deferred,
    Denied,
    Event,
    Form,
    FormBatch,
    Found,
    FoundSend,
    Kept,
    Message,
    Outcome,
    Prepared,
    Rejected,
    SentMessage,
    Unknown,
    WebhookRequest,
)
from newsletter.providers.columns import columns_of
from newsletter.providers.fields import address, addresses, content
from newsletter.providers.postmark_events import parse_event
from newsletter.providers.transport import Response, Result
from newsletter.providers.webhooks import json_object, verify_authorization
from newsletter.providers.whole import Stencil, message_stencil
from newsletter.settings import ProviderSettings

BASE_URL = "https://api.postmarkapp.com"

CAPABILITIES = Capabilities(
    batch_size=500,
    max_bytes=48_000_000,  # 50 MB a request; whether a MB is 10⁶ or 2²⁰ bytes is not said
    idempotency=None,
    lookup=True,
    # Its pages promise no time within which a message can be found; two minutes is our caution.
    lookup_lag=timedelta(minutes=2),
    # It sets `Message-ID` itself, and refuses a message for a `Date` ("Header 'Date' not allowed.",
    # error 300: https://github.com/symfony/symfony/issues/60254).
    restricted_headers=frozenset({"date", "message-id"}),
    webhook_auth="basic",
    keeps_forms=True,
)

_WHOLE = "/email/batch"
_WITH_TEMPLATES = "/email/batchWithTemplates"

# The streams that every server has; a broadcast stream may have another name (settings.stream).
_BROADCAST = "broadcast"
_TRANSACTIONAL = "outbound"

# https://postmarkapp.com/support/article/1125-custom-metadata-faq
_METADATA_FIELDS = 10
_METADATA_NAME = 20
_METADATA_VALUE = 80

# https://postmarkapp.com/developer/api/messages-api: count up to 500, count + offset up to 10,000
_PAGE = 500
_LAST = 10_000

# Error codes of one message. Whatever is not here concerns the account or the request as a whole.
_INVALID = 300
_INACTIVE = 406
_FOR_NOW = frozenset({100, 429})  # maintenance, rate limit


class PostmarkProvider(HttpProvider):
    """One Postmark server, by its server token."""

    declared = CAPABILITIES
    base_url = BASE_URL

    def __init__(self, settings: ProviderSettings, **given: Any) -> None:
        super().__init__(settings, **given)
        if settings.templates == "never":
            self.capabilities = replace(self.capabilities, keeps_forms=False)

    @staticmethod
    def authorization(api_key: str) -> Mapping[str, str]:
        return {"X-Postmark-Server-Token": api_key, "Accept": "application/json"}

    @property
    def _stream(self) -> str:
        return self.settings.stream or _BROADCAST

    # --- request --------------------------------------------------------------------------------

    def prepare(self, batch: Batch) -> Prepared:
        stream = _TRANSACTIONAL if batch.kind == "transactional" else self._stream
        return Prepared(
            key=batch.key,
            path=_WHOLE,
            body=orjson.dumps(
                [
                    _message(replace(m, metadata=_metadata(m.metadata, batch.key)), stream)
                    for m in batch.messages
                ]
            ),
            headers={"Content-Type": "application/json"},
            recipients=tuple(message.to[1] for message in batch.messages),
        )

    def prepare_form(self, batch: FormBatch) -> Prepared:
        people = columns_of(batch.recipients)
        names = _metadata_names(people.metadata)
        stencil = self._stencils.get(
            batch.form, (names, batch.kept), lambda: self._stencil(batch, names)
        )
        strings = [
            *people.values,
            # The name comes with the address, as the two are quoted together.
            [""] * len(people),
            addresses(people.names, people.addresses),
            [batch.key] * len(people),
            *[_cut(people.metadata[name]) for name in names],
        ]
        around = (b'{"Messages":', b"}") if batch.kept else (b"", b"")
        body, digest = stencil.array(strings, before=around[0], after=around[1])
        return Prepared(
            key=batch.key,
            path=_WITH_TEMPLATES if batch.kept else _WHOLE,
            body=body,
            headers={"Content-Type": "application/json"},
            recipients=tuple(people.addresses),
            digest=digest,
        )

    def _stencil(self, batch: FormBatch, names: Sequence[str]) -> Stencil:
        def document(message: Message, values: Sequence[str]) -> dict[str, Any]:
            whole = _message(replace(message, to=("", message.to[1])), self._stream)
            return templates.templated(batch.form, whole, values) if batch.kept else whole

        cut = [name[:_METADATA_NAME] for name in names]
        return message_stencil(batch.form, ("attempt", *cut), document)

    async def send(self, prepared: Prepared) -> Outcome:
        result = await self._transport.request(
            "POST",
            self._root + prepared.path,
            headers={**prepared.headers, **self._headers},
            body=prepared.body,
            timeout=self.settings.timeout,
        )
        outcome = self._outcome(result, prepared)
        if isinstance(outcome, Denied) and prepared.path == _WITH_TEMPLATES:
            # It may be for the template: whole messages will tell.
            return Deferred(outcome.reason, form_gone=True)
        return outcome

    def _outcome(self, result: Result, prepared: Prepared) -> Outcome:
        if isinstance(result, Response) and 400 <= result.status < 500:
            document = json_body(result)
            if isinstance(document, dict) and document.get("ErrorCode") in _FOR_NOW:
                wait = retry_after(result.headers, self._clock.now())
                return Deferred(str(document.get("Message")), wait)
        failed = self._failure(result)
        if failed is not None:
            return failed
        assert isinstance(result, Response)
        return _outcomes(json_body(result), prepared.recipients)

    def _failure(self, result: Result) -> Deferred | Denied | Unknown | None:
        key_field = f"providers.{self.settings.name}.api_key"
        return failure(result, message_field="Message", key_field=key_field, now=self._clock.now())

    # --- templates ------------------------------------------------------------------------------

    async def keep(self, form: Form) -> Kept | Deferred | Denied | Unknown:
        """Make the form's template, unless it is there already."""
        there = await self._template("GET", templates.alias(form.name))
        if not templates.is_missing(there):
            return self._failure(there) or templates.found(there, form)
        made = await self._template("POST", "", orjson.dumps(templates.template(form)))
        failed = self._failure(made)
        if isinstance(failed, Denied):  # another worker may have been faster
            there = await self._template("GET", templates.alias(form.name))
            return failed if self._failure(there) else templates.found(there, form)
        return failed or templates.made(made, form)

    async def drop(self, name: str) -> bool:
        gone = await self._template("DELETE", templates.alias(name))
        return templates.is_missing(gone) or templates.removed(gone)

    async def _template(self, method: str, alias: str, body: bytes = b"") -> Result:
        return await self._transport.request(
            method,
            f"{self._root}/templates/{alias}".rstrip("/"),
            headers={**self._headers, "Content-Type": "application/json"},
            body=body,
            timeout=self.settings.timeout,
        )

    # --- look-up --------------------------------------------------------------------------------

    async def find(self, key: str, *, since: datetime) -> Found:
        """Both streams are searched, as a search without one covers `outbound` alone
        (https://github.com/ActiveCampaign/postmark-dotnet/issues/127)."""
        found: dict[str, str] = {}
        for stream in dict.fromkeys((self._stream, _TRANSACTIONAL)):
            messages, _, reason = await self._search("metadata_attempt", key, stream)
            if reason:
                return Found({}, conclusive=False, reason=reason)
            for message in messages:
                found.setdefault(*_sent_to(message))
            if found:  # an attempt uses one stream
                break
        return Found(found, conclusive=True)

    async def find_send(self, send: str, *, since: datetime) -> FoundSend:
        """Messages of issues go through one stream. It lists no more than 10,000 of them."""
        messages, total, reason = await self._search(
            "metadata_send", send[:_METADATA_VALUE], self._stream
        )
        if total is not None and total > _LAST:
            return FoundSend((), total)
        if reason:
            return FoundSend((), None, reason)
        return FoundSend(tuple(map(_sent, messages)), total)

    async def _search(
        self, name: str, value: str, stream: str
    ) -> tuple[list[dict[str, Any]], int | None, str]:
        """The stream's messages with that metadata, how many it counts, and why they prove
        nothing, if so."""
        counted: int | None = None
        messages: dict[str, dict[str, Any]] = {}
        for offset in range(0, _LAST, _PAGE):
            query = urlencode(
                {
                    "count": _PAGE,
                    "offset": offset,
                    "messagestream": stream,
                    name: value,
                }
            )
            result = await self._transport.request(
                "GET",
                f"{self._root}/messages/outbound?{query}",
                headers=self._headers,
                timeout=self.settings.timeout,
            )
            if not isinstance(result, Response):
                return [], None, result.reason
            page, total = _page(result)
            if page is None:
                return [], None, f"no usable answer to the look-up ({result.status})"
            counted = total
            if total > _LAST:
                return [], total, "there are more than it lists"
            messages |= {message["MessageID"]: message for message in page}
            if offset + _PAGE >= total:
                complete = len(messages) >= total
                return (
                    list(messages.values()),
                    total,
                    "" if complete else "the look-up is incomplete",
                )
            if not page:
                break
        return [], counted, "the look-up is incomplete"

    # --- events ---------------------------------------------------------------------------------

    def events(self, request: WebhookRequest, *, now: datetime) -> list[Event]:
        verify_authorization(request, self._secrets)
        return parse_event(json_object(request.body, "the webhook"))


def _message(message: Message, stream: str) -> dict[str, Any]:
    restricted = CAPABILITIES.restricted_headers
    document: dict[str, Any] = {
        "From": address(*message.sender),
        "To": address(*message.to),
        "Subject": message.subject,
        "HtmlBody": message.html,
        "TextBody": message.text,
        "MessageStream": stream,
        "TrackOpens": False,
        "TrackLinks": "None",
        "Metadata": dict(message.metadata),
        "Headers": [
            {"Name": name, "Value": value}
            for name, value in message.headers
            if name.lower() not in restricted
        ],
    }
    if message.reply_to:
        document["ReplyTo"] = message.reply_to
    if message.attachments:
        document["Attachments"] = [
            {
                "Name": part.filename,
                "Content": content(part),
                "ContentType": part.content_type,
                "ContentID": f"cid:{part.cid}",
            }
            for part in message.attachments
        ]
    return document


def _metadata(metadata: Mapping[str, str], key: str) -> dict[str, str]:
    """The attempt first: by it the message is found. What does not fit is left out or cut."""
    told = {name[:_METADATA_NAME]: metadata[name] for name in _metadata_names(metadata)}
    return {"attempt": key, **{name: text[:_METADATA_VALUE] for name, text in told.items()}}


def _metadata_names(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of what goes along beside the attempt."""
    return tuple(name for name in metadata if name != "attempt")[: _METADATA_FIELDS - 1]


def _cut(column: Sequence[str]) -> Sequence[str]:
    """A column of metadata, each of it as long as it may be."""
    if max(map(len, column)) <= _METADATA_VALUE:
        return column
    return [text[:_METADATA_VALUE] for text in column]


def _outcomes(document: Any, recipients: Sequence[str]) -> Outcome:
    """Believed only if there is one item a message, in order, and each accepted one is to whom
    we wrote; an item that was not accepted names nobody."""
    if not isinstance(document, list) or len(document) != len(recipients):
        return Unknown("an answer that is not the API's")
    outcomes: list[Accepted | Rejected | Deferred] = []
    faults: list[str] = []
    for item, recipient in zip(document, recipients, strict=True):
        code = item.get("ErrorCode") if isinstance(item, dict) else None
        if type(code) is not int:
            return Unknown("an item without an ErrorCode")
        if code == 0:
            message_id = item.get("MessageID")
            if not isinstance(message_id, str) or not message_id or not _is_to(item, recipient):
                return Unknown("an item that is not of the message we sent")
            outcomes.append(Accepted(message_id))
            continue
        told = f"{item.get('Message') or 'no reason given'} (Postmark error {code})"
        if code == _INACTIVE:
            outcomes.append(Rejected(told, suppress=True))
        elif code == _INVALID:
            outcomes.append(Rejected(told))
        elif code == templates.NO_TEMPLATE:
            outcomes.append(Deferred(told, form_gone=True))
        else:
            outcomes.append(Deferred(told))
            if code not in _FOR_NOW:
                faults.append(told)
    return _not_the_recipients(outcomes, faults) or Answered(tuple(outcomes))


def _not_the_recipients(
    outcomes: Sequence[Accepted | Rejected | Deferred], faults: Sequence[str]
) -> Denied | None:
    """A fault of the account or the request shows in every item: nobody is to suffer for it.

    Such is an unconfirmed sender, and the same words of error 300 about several recipients.
    """
    if len(faults) == len(outcomes):
        return Denied(faults[0])
    reasons = {
        outcome.reason
        for outcome in outcomes
        if isinstance(outcome, Rejected) and not outcome.suppress
    }
    all_invalid = len(reasons) == 1 and all(
        isinstance(outcome, Rejected) and not outcome.suppress for outcome in outcomes
    )
    return Denied(reasons.pop()) if all_invalid and len(outcomes) > 1 else None


def _is_to(item: Mapping[str, Any], recipient: str) -> bool:
    """The answer repeats `To` as it was given, with a name or without."""
    given = item.get("To")
    if not isinstance(given, str):
        return False
    if given == recipient or given.endswith(f"<{recipient}>"):
        return True  # nearly always; to take an address apart costs as much as all the rest
    return parseaddr(given)[1].lower() == recipient.lower()


def _page(response: Response) -> tuple[list[dict[str, Any]] | None, int]:
    document = json_body(response)
    if response.status != 200 or not isinstance(document, dict):
        return None, 0
    total, messages = document.get("TotalCount"), document.get("Messages")
    if not isinstance(total, int) or not isinstance(messages, list):
        return None, 0
    usable = all(
        isinstance(m, dict) and isinstance(m.get("MessageID"), str) and _sent_to(m)[0]
        for m in messages
    )
    return (messages if usable else None), total


def _sent(message: Mapping[str, Any]) -> SentMessage:
    metadata = message.get("Metadata")
    attempt = metadata.get("attempt") if isinstance(metadata, dict) else None
    return SentMessage(*_sent_to(message), attempt if isinstance(attempt, str) else "")


def _sent_to(message: Mapping[str, Any]) -> tuple[str, str]:
    """(address, message id); the address is empty where it cannot be read."""
    to = message.get("To")
    first = to[0] if isinstance(to, list) and to else None
    email = first.get("Email") if isinstance(first, dict) else None
    return (email if isinstance(email, str) else ""), message["MessageID"]
