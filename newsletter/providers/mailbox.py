"""The local provider's API (`newsletter mailbox`): its batches, keys, look-ups and events.

The API is described in docs/contract.md; this module knows only HTTP, not the server's storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from newsletter.errors import BadInput
from newsletter.providers.account import HttpProvider
from newsletter.providers.answers import failure, json_body
from newsletter.providers.base import (
    Accepted,
    Answered,
    Batch,
    Capabilities,
    Deferred,
    Event,
    EventType,
    FormBatch,
    Found,
    FoundSend,
    Message,
    Outcome,
    Prepared,
    Rejected,
    SentMessage,
    Unknown,
    WebhookRequest,
)
from newsletter.providers.columns import columns_of
from newsletter.providers.fields import address, content
from newsletter.providers.transport import Response
from newsletter.providers.webhooks import (
    json_object,
    moment,
    text,
    text_map,
    verify_authorization,
)
from newsletter.providers.whole import message_stencil, strings_of
from newsletter.settings import ProviderSettings

BASE_URL = "http://127.0.0.1:8025"
_PAGE = 500

CAPABILITIES = Capabilities(
    batch_size=500,
    max_bytes=60_000_000,
    idempotency=timedelta(days=30),
    lookup=True,
    # A request still being worked on is reported as such: this covers bytes in the kernel only.
    lookup_lag=timedelta(seconds=2),
    webhook_auth="bearer",
)


class MailboxProvider(HttpProvider):
    """The client of one mailbox server."""

    declared = CAPABILITIES
    base_url = BASE_URL

    def __init__(self, settings: ProviderSettings, **given: Any) -> None:
        super().__init__(settings, **given)
        if not settings.idempotency:
            self.capabilities = replace(self.capabilities, idempotency=None)

    @staticmethod
    def authorization(api_key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {api_key}"}

    # --- request --------------------------------------------------------------------------------

    def prepare(self, batch: Batch) -> Prepared:
        return Prepared(
            key=batch.key,
            path="/v1/batches",
            body=orjson.dumps({"messages": [_message(message) for message in batch.messages]}),
            headers={"Content-Type": "application/json", "Idempotency-Key": batch.key},
            recipients=tuple(message.to[1] for message in batch.messages),
        )

    def prepare_form(self, batch: FormBatch) -> Prepared:
        people = columns_of(batch.recipients)
        names = tuple(people.metadata)
        stencil = self._stencils.get(
            batch.form, names, lambda: message_stencil(batch.form, names, _of_form)
        )
        body, digest = stencil.array(strings_of(people), before=b'{"messages":', after=b"}")
        return Prepared(
            key=batch.key,
            path="/v1/batches",
            body=body,
            headers={"Content-Type": "application/json", "Idempotency-Key": batch.key},
            recipients=tuple(people.addresses),
            digest=digest,
        )

    async def send(self, prepared: Prepared) -> Outcome:
        result = await self._transport.request(
            "POST",
            self._root + prepared.path,
            headers={**prepared.headers, **self._headers},
            body=prepared.body,
            timeout=self.settings.timeout,
        )
        if isinstance(result, Response) and result.status == 409:
            # Its key is being worked on, or was used for other bytes: a look-up will tell.
            return Unknown("a request with this key is or was there (409)")
        failed = failure(
            result,
            message_field="error",
            key_field=f"providers.{self.settings.name}.api_key",
            now=self._clock.now(),
        )
        if failed is not None:
            return failed
        assert isinstance(result, Response)
        return _outcomes(result, prepared.recipients)

    # --- look-up --------------------------------------------------------------------------------

    async def find(self, key: str, *, since: datetime) -> Found:
        result = await self._transport.request(
            "GET",
            f"{self._root}/v1/batches/{quote(key, safe='')}",
            headers=self._headers,
            timeout=self.settings.timeout,
        )
        if not isinstance(result, Response):
            return Found({}, conclusive=False, reason=result.reason)
        document = json_body(result)
        if not isinstance(document, dict):
            return Found({}, conclusive=False, reason=f"no answer of the API ({result.status})")
        if result.status == 404 and document.get("code") == "no_such_batch":
            return Found({}, conclusive=True)
        results = document.get("results")
        if result.status != 200 or document.get("batch") != key or not isinstance(results, list):
            return Found({}, conclusive=False, reason=f"no usable answer ({result.status})")
        items = [item for item in results if isinstance(item, dict) and "id" in item]
        return Found({text(item, "to"): text(item, "id") for item in items}, conclusive=True)

    async def find_send(self, send: str, *, since: datetime) -> FoundSend:
        found: dict[str, SentMessage] = {}
        while True:
            query = urlencode({"send": send, "limit": _PAGE, "offset": len(found)})
            result = await self._transport.request(
                "GET",
                f"{self._root}/v1/messages?{query}",
                headers=self._headers,
                timeout=self.settings.timeout,
            )
            if not isinstance(result, Response):
                return FoundSend((), None, result.reason)
            document = json_body(result)
            total = document.get("total") if isinstance(document, dict) else None
            if result.status != 200 or not isinstance(total, int) or document.get("send") != send:
                return FoundSend((), None, f"no usable answer ({result.status})")
            before = len(found)
            found |= {text(each, "id"): _sent(each) for each in document["messages"]}
            if len(found) >= total or len(found) == before:
                return FoundSend(tuple(found.values()), total)

    # --- events ---------------------------------------------------------------------------------

    def events(self, request: WebhookRequest, *, now: datetime) -> list[Event]:
        verify_authorization(request, self._secrets)
        items = json_object(request.body, "the webhook").get("events")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise BadInput("events: not a list of objects")
        return [_event(item) for item in items]


def _message(message: Message) -> dict[str, Any]:
    document: dict[str, Any] = {
        "to": message.to[1],
        "to_name": message.to[0],
        "from": address(*message.sender),
        "subject": message.subject,
        "html": message.html,
        "text": message.text,
        "headers": dict(message.headers),
        "metadata": dict(message.metadata),
    }
    if message.reply_to:
        document["reply_to"] = message.reply_to
    if message.attachments:
        document["attachments"] = [
            {
                "cid": part.cid,
                "content_type": part.content_type,
                "filename": part.filename,
                "content": content(part),
            }
            for part in message.attachments
        ]
    return document


def _of_form(message: Message, _values: Sequence[str]) -> dict[str, Any]:
    return _message(message)


def _outcomes(response: Response, recipients: Sequence[str]) -> Outcome:
    """The results are believed only if they are one a message, in order, each to its recipient."""
    document = json_body(response)
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or len(results) != len(recipients):
        return Unknown("an answer that is not the API's")
    outcomes: list[Accepted | Rejected | Deferred] = []
    for item, recipient in zip(results, recipients, strict=True):
        if not isinstance(item, dict) or item.get("to") != recipient:
            return Unknown("an answer whose results are not those of the request")
        if isinstance(item.get("id"), str) and item["id"]:
            outcomes.append(Accepted(item["id"]))
        elif isinstance(item.get("error"), str):
            outcomes.append(Rejected(item["error"], suppress=item.get("code") == "inactive"))
        else:
            return Unknown("a result that is neither an id nor an error")
    return Answered(tuple(outcomes))


def _sent(item: dict[str, Any]) -> SentMessage:
    attempt = text_map(item, "metadata").get("attempt", "")
    return SentMessage(text(item, "to"), text(item, "id"), attempt)


def _event(item: dict[str, Any]) -> Event:
    try:
        kind = EventType(text(item, "type"))
    except ValueError as error:
        raise BadInput(f"type: no event type: {item.get('type')!r}") from error
    bounce = text(item, "bounce")
    tags = item.get("tags")
    return Event(
        type=kind,
        recipient=text(item, "recipient"),
        provider_message_id=text(item, "message"),
        at=moment(item, "at"),
        provider_event_id=text(item, "id"),
        bounce="hard" if bounce == "hard" else "soft" if bounce == "soft" else "",
        reason=text(item, "reason"),
        response=text(item, "response"),
        url=text(item, "url"),
        user_agent=text(item, "user_agent"),
        machine=item.get("machine") is True,
        metadata=text_map(item, "metadata"),
        tags=tuple(map(str, tags)) if isinstance(tags, list) else (),
    )
