"""SendGrid: `/v3/mail/send` with one body for up to 1,000 people, look-up by category.

Written from https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send, …/errors and
…/limitations, and https://www.twilio.com/docs/sendgrid/api-reference/email-logs. The body is made
in `sendgrid_body`, webhooks are read in `sendgrid_events`. A request is taken or refused as a
whole, and there is no idempotency key: a doubt is settled by look-up alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from newsletter.errors import BadInput
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
    Message,
    Outcome,
    Personal,
    Prepared,
    Rejected,
    Unknown,
    WebhookRequest,
)
from newsletter.providers.columns import columns_of
from newsletter.providers.sendgrid_body import SUBSTITUTION_BYTES, TAG_BYTES, request_body
from newsletter.providers.sendgrid_events import parse_events, request_id, verify
from newsletter.providers.transport import Response

BASE_URL = "https://api.sendgrid.com"  # https://api.eu.sendgrid.com for subusers in the EU

CAPABILITIES = Capabilities(
    batch_size=1_000,
    max_bytes=29_000_000,  # "less than 30MB"; whether a MB is 10⁶ or 2²⁰ bytes is not said
    idempotency=None,
    lookup=True,
    # "Near real time" say its pages, and no more; others report minutes. This is our caution.
    lookup_lag=timedelta(minutes=10),
    # "You may not override the following headers"
    restricted_headers=frozenset(
        {
            "bcc",
            "cc",
            "content-transfer-encoding",
            "content-type",
            "dkim-signature",
            "from",
            "received",
            "reply-to",
            "subject",
            "to",
            "x-sg-eid",
            "x-sg-id",
        }
    ),
    webhook_auth="signature",
    one_body=True,
    whole_messages=1,
    value_bytes=SUBSTITUTION_BYTES - TAG_BYTES,
)

# https://www.twilio.com/docs/sendgrid/api-reference/email-logs: 1,000 messages, no pages, 30 days
_MOST_FOUND = 1_000
_KEPT = timedelta(days=29)

_PERSON = re.compile(r"personalizations[.\[](\d+)\]?\.to\b.*", re.ASCII)


class SendgridProvider(HttpProvider):
    """One SendGrid account or subuser, by an API key for Mail Send and Email Logs."""

    declared = CAPABILITIES
    base_url = BASE_URL

    @staticmethod
    def authorization(api_key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}

    # --- request --------------------------------------------------------------------------------

    def prepare(self, batch: Batch) -> Prepared:
        """One message: several that differ have no common body, so none can be sent with it."""
        if len(batch.messages) != 1:
            raise BadInput(f"SendGrid takes one whole message a request, not {len(batch.messages)}")
        message = batch.messages[0]
        person = Personal(message.to, (), {**message.metadata, "attempt": batch.key})
        return self.prepare_form(FormBatch(batch.key, _form(message), [person]))

    def prepare_form(self, batch: FormBatch) -> Prepared:
        body, digest = request_body(batch)
        return Prepared(
            key=batch.key,
            path="/v3/mail/send",
            body=body,
            headers={},
            recipients=tuple(columns_of(batch.recipients).addresses),
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
        now = self._clock.now()
        key_field = f"providers.{self.settings.name}.api_key"
        if isinstance(result, Response):
            errors = _errors(result)
            if result.status == 429:
                return Deferred(_told(errors) or "throttled (429)", _wait(result.headers, now))
            if 400 <= result.status < 500 and errors:
                return _refused(result.status, errors, len(prepared.recipients), key_field)
        failed = failure(result, message_field="message", key_field=key_field, now=now)
        if failed is not None:
            return failed
        assert isinstance(result, Response)
        return _taken(result, len(prepared.recipients))

    # --- look-up --------------------------------------------------------------------------------

    async def find(self, key: str, *, since: datetime) -> Found:
        """The attempt is a category of its messages; logs have no custom arguments to search by.

        Whoever is found, the whole request was taken: `whole` is the id that all of it has.
        """
        result = await self._transport.request(
            "POST",
            f"{self._root}/v3/logs",
            headers=self._headers,
            body=orjson.dumps({"query": f"categories IN ('{key}')", "limit": _MOST_FOUND}),
            timeout=self.settings.timeout,
        )
        if not isinstance(result, Response):
            return Found({}, conclusive=False, reason=result.reason)
        messages = _messages(result)
        if messages is None:
            told = _told(_errors(result))
            reason = f"no usable answer to the look-up ({result.status}) {told}".strip()
            return Found({}, conclusive=False, reason=reason)
        found = {message["to_email"]: request_id(message["sg_message_id"]) for message in messages}
        whole = next(iter(found.values()), "")
        if not found and self._clock.now() - since > _KEPT:
            return Found({}, conclusive=False, reason="its logs do not go back that far")
        return Found(found, conclusive=True, whole=whole)

    # --- events ---------------------------------------------------------------------------------

    def events(self, request: WebhookRequest, *, now: datetime) -> list[Event]:
        verify(request, self._secrets, now)
        return parse_events(request.body)


def _form(message: Message) -> Form:
    """A whole message as a form without slots."""
    return Form(
        name="",
        contexts=(),
        sender=message.sender,
        reply_to=message.reply_to,
        subject=(message.subject,),
        html=(message.html,),
        text=(message.text,),
        headers=tuple((name, (value,)) for name, value in message.headers),
        attachments=message.attachments,
    )


# --- answers --------------------------------------------------------------------------------------


def _taken(response: Response, people: int) -> Outcome:
    """202 with its id is for everybody; a 200 without a body is the sandbox, which sends nothing
    (https://www.twilio.com/docs/sendgrid/for-developers/sending-email/sandbox-mode)."""
    message_id = response.headers.get("x-message-id", "").strip()
    if response.status == 202 and message_id:
        return Answered((Accepted(request_id(message_id)),) * people)
    if response.status == 200 and not response.body:
        return Denied("SendGrid's sandbox mode is on: it checked the request and sent nothing")
    return Unknown(f"an answer that is not the API's ({response.status})")


def _refused(
    status: int, errors: Sequence[tuple[str, str]], people: int, key_field: str
) -> Outcome:
    """Nothing was taken. Errors that name people's addresses are theirs, and the others can go
    without them; any other error, and one of everybody, is the request's."""
    told = _told(errors)
    if status in {401, 403}:
        return Denied(
            f"SendGrid refuses the request ({status}): {told}. See the account, and {key_field}"
        )
    named: dict[int, str] = {}
    for message, field in errors:
        person = _PERSON.fullmatch(field)
        if person is None or int(person[1]) >= people:
            return Denied(f"the request is refused ({status}): {told}")
        named.setdefault(int(person[1]), message)
    if len(named) == people > 1:
        return Denied(f"the request is refused ({status}): {told}")
    wait = Deferred("the request was refused for another recipient's address", timedelta(0))
    return Answered(tuple(Rejected(named[n]) if n in named else wait for n in range(people)))


def _errors(response: Response) -> list[tuple[str, str]]:
    """The API's errors as (message, field); none where the answer is not the API's."""
    document = json_body(response)
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list):
        return []
    known = [error for error in errors if isinstance(error, dict) and error.get("message")]
    return [(str(error["message"]), str(error.get("field") or "")) for error in known]


def _told(errors: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{field}: {message}" if field else message for message, field in errors[:3])


def _wait(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """`Retry-After`, else until `X-RateLimit-Reset`, a Unix time, by the answer's own clock
    (https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits)."""
    told = retry_after(headers, now)
    reset = headers.get("x-ratelimit-reset", "").strip()
    if told is not None or not reset.isdecimal() or len(reset) > 11:
        return told
    with suppress(ValueError):
        now = parsedate_to_datetime(headers.get("date", "")).astimezone(UTC)
    return max(datetime.fromtimestamp(int(reset), UTC) - now, timedelta(0))


def _messages(response: Response) -> list[dict[str, Any]] | None:
    document = json_body(response)
    messages = document.get("messages") if isinstance(document, dict) else None
    if response.status != 200 or not isinstance(messages, list):
        return None
    usable = all(
        isinstance(message, dict)
        and isinstance(message.get("to_email"), str)
        and isinstance(message.get("sg_message_id"), str)
        for message in messages
    )
    return messages if usable else None
