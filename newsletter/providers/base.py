"""What a provider is to the rest: capabilities as data; `prepare`, `send`, `find`, `events`.

A provider translates; it keeps no state, never retries and knows nothing of the ledger. The one
question that it must answer honestly is whether a request was accepted: an `Unknown` is settled by
the delivery engine, and never by a guess here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from newsletter.compiled import Context, Part, join
from newsletter.errors import NewsletterError
from newsletter.providers.pieces import Body
from newsletter.settings import ProviderSettings


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an API can do, from its documentation; the provider's module cites the page."""

    batch_size: int  # recipients in one request
    max_bytes: int  # of one request's body
    idempotency: timedelta | None  # how long a repeat under its key is answered as the first was
    lookup: bool  # whether `find` can tell what an attempt led to
    lookup_lag: timedelta  # how long after the request an empty look-up proves nothing
    restricted_headers: frozenset[str] = frozenset()  # lower case; the API refuses or rewrites them
    webhook_auth: Literal["basic", "bearer", "signature", "none"] = "none"
    switches_tracking_off: bool = True  # its own tracking and footers, per message
    # A form's literals go into a request once, and each recipient's values beside them.
    one_body: bool = False
    whole_messages: int | None = None  # different messages in one request, where fewer can be
    value_bytes: int | None = None  # of one recipient's values together, where there is a limit
    keeps_forms: bool = False  # a form can be left there before the requests: `KeepsForms`


@dataclass(frozen=True, slots=True)
class Attachment:
    """An image embedded by Content-ID."""

    cid: str
    content_type: str
    filename: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message to one person. `sender` and `to` are (name, address); name may be empty.

    `headers` are the contract's, `Date` and `Message-ID` among them; `metadata` goes through the
    provider with the message and comes back in look-ups and events (`attempt`, `delivery`).
    """

    to: tuple[str, str]
    sender: tuple[str, str]
    reply_to: str
    subject: str
    html: str
    text: str
    headers: tuple[tuple[str, str], ...]
    metadata: Mapping[str, str]
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages for one request. `key` is the attempt's id and the idempotency key."""

    key: str
    messages: Sequence[Message]
    kind: Literal["broadcast", "transactional"] = "broadcast"


@dataclass(frozen=True, slots=True)
class Form:
    """What one variant of a send says to everybody: literals, and slots that index the values.

    `contexts` are the places of the values, one each: a value is escaped for its place already and
    goes there as it is. `name` is stable and unique within the provider's account, 32 hex digits:
    what a provider keeps of the form is kept under it.
    """

    name: str
    contexts: tuple[Context, ...]
    sender: tuple[str, str]
    reply_to: str
    subject: tuple[Part, ...]
    html: tuple[Part, ...]
    text: tuple[Part, ...]
    headers: tuple[tuple[str, tuple[Part, ...]], ...]
    attachments: tuple[Attachment, ...] = ()

    @property
    def size(self) -> int:
        """About how many bytes its literals are, without attachments."""
        return sum(len(p) for p in (*self.subject, *self.html, *self.text) if isinstance(p, str))

    def message(self, personal: Personal) -> Message:
        """One recipient's whole message."""
        values = personal.values
        return Message(
            to=personal.to,
            sender=self.sender,
            reply_to=self.reply_to,
            subject=join(self.subject, values),
            html=join(self.html, values),
            text=join(self.text, values),
            headers=tuple((name, join(parts, values)) for name, parts in self.headers),
            metadata=personal.metadata,
            attachments=self.attachments,
        )


class Personal(NamedTuple):
    """One recipient of a form: (name, address), a value for each slot, metadata.

    A tuple, as a send makes millions of them.
    """

    to: tuple[str, str]
    values: tuple[str, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FormBatch:
    """Recipients of one form for one request, so that what is the same is encoded once.

    Their metadata have the same names in the same order. `kept` says that the provider keeps the
    form: then the request need not bring it.
    """

    key: str
    form: Form
    recipients: Sequence[Personal]
    kept: bool = False

    def whole(self) -> Batch:
        """The same as whole messages, for a provider that knows nothing cheaper."""
        return Batch(self.key, [self.form.message(person) for person in self.recipients])


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request ready to leave: a repeat of it under its key has the same bytes.

    `digest` stands for the body where its bytes would be costly to hash: it is another one whenever
    they are.
    """

    key: str
    path: str
    body: Body = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    recipients: tuple[str, ...] = field(repr=False)  # addresses, in the order of the answer

    digest: str = ""

    @property
    def sha256(self) -> str:
        return self.digest or hashlib.sha256(bytes(self.body)).hexdigest()


# --- what a request led to ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took this message."""

    provider_message_id: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider refused this recipient for good. `suppress` where it will refuse them again."""

    reason: str
    suppress: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """One outcome a message, in the request's order; `Deferred` ones were surely not accepted."""

    outcomes: tuple[Accepted | Rejected | Deferred, ...]


@dataclass(frozen=True, slots=True)
class Deferred:
    """Surely not accepted, and worth another try: never left, throttled, or refused for now.

    `form_gone` where the provider was to keep the form and does not.
    """

    reason: str
    retry_after: timedelta | None = None
    form_gone: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """Surely not accepted, and useless to repeat until a person acts: credentials, bad request."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been accepted: a time-out, a dropped connection, an answer not the API's."""

    reason: str


Outcome = Answered | Deferred | Denied | Unknown


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up of one attempt found: address as sent → provider message id.

    `conclusive` is false when the look-up failed or could not be read: then it proves nothing.
    `whole` is the message id that all of the request have, where it was taken as a whole: it then
    speaks also for those whom the look-up does not show.
    """

    messages: Mapping[str, str]
    conclusive: bool
    reason: str = ""
    whole: str = ""


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message that the provider accepted: to whom as sent, its id there, and its attempt."""

    recipient: str
    provider_message_id: str
    attempt: str


@dataclass(frozen=True, slots=True)
class FoundSend:
    """What the provider has of a whole send, by its public name.

    `total` is how many messages it counts, None when it could not be asked; `messages` are all of
    them, or none where it lists no more than so many.
    """

    messages: Sequence[SentMessage]
    total: int | None
    reason: str = ""

    @property
    def complete(self) -> bool:
        return self.total is not None and len(self.messages) >= self.total


# --- events ---------------------------------------------------------------------------------------


class EventType(StrEnum):
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    REJECTED = "rejected"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    OPENED = "opened"
    CLICKED = "clicked"


@dataclass(frozen=True, slots=True)
class Event:
    """One provider event in the one vocabulary that all providers are mapped to."""

    type: EventType
    recipient: str
    provider_message_id: str
    at: datetime
    provider_event_id: str = ""  # empty where the provider has none
    bounce: Literal["", "hard", "soft"] = ""
    reason: str = ""
    response: str = ""
    url: str = ""
    user_agent: str = ""
    machine: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A webhook as it came in; header names in lower case."""

    method: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    query: Mapping[str, str] = field(default_factory=dict)


def _always() -> bool:
    return True


#: Asked right before the body of a request leaves: if false, no byte of it does, and the other side
#: has no complete request.
#: Who makes a request under a lease sets it for that request.
may_leave: ContextVar[Callable[[], bool]] = ContextVar("may_leave", default=_always)


class VerificationError(NewsletterError):
    """The webhook does not prove that it comes from the provider."""


class Provider(Protocol):
    """One provider account. Made once from its settings, with its secrets already read."""

    settings: ProviderSettings
    capabilities: Capabilities

    def prepare(self, batch: Batch) -> Prepared:
        """The request for a batch of whole messages. Pure: no I/O, no clock, no chance."""
        ...

    def prepare_form(self, batch: FormBatch) -> Prepared:
        """The request for recipients of one form, in the cheapest way the API has. As pure."""
        ...

    async def send(self, prepared: Prepared) -> Outcome:
        """Make the request once. Raises nothing that the outside world causes."""
        ...

    async def find(self, key: str, *, since: datetime) -> Found:
        """What the provider knows of an attempt that was started at `since`."""
        ...

    def events(self, request: WebhookRequest, *, now: datetime) -> list[Event]:
        """Verify, then parse. Raises `VerificationError`; `BadInput` for what cannot be read."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """The provider has the form, word for word, under its name."""


@runtime_checkable
class KeepsForms(Protocol):
    """A provider that can be left a form before the requests that use it."""

    async def keep(self, form: Form) -> Kept | Deferred | Denied | Unknown:
        """See to it that the form is there. Repeating it is harmless; raises nothing."""
        ...

    async def drop(self, name: str) -> bool:
        """Remove the form of that name; whether it is surely not there any more."""
        ...


@runtime_checkable
class FindsSends(Protocol):
    """A provider that can also be asked for all messages of a send."""

    settings: ProviderSettings
    capabilities: Capabilities

    async def find_send(self, send: str, *, since: datetime) -> FoundSend:
        """What it has accepted of the send of that public name; raises nothing, as `find`."""
        ...


def lag_of(provider: Provider) -> timedelta:
    """How long after a request an empty look-up proves nothing: as set, else as declared."""
    told = provider.settings.lookup_lag
    return provider.capabilities.lookup_lag if told is None else told
