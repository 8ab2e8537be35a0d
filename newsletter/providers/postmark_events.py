"""Postmark's webhooks: one JSON object an event, told apart by `RecordType`.

Written from https://postmarkapp.com/developer/webhooks/webhooks-overview and the bounce types of
https://postmarkapp.com/developer/api/bounce-api#bounce-types. It verifies nothing: basic auth is
checked before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from newsletter.errors import BadInput
from newsletter.providers.base import Event, EventType
from newsletter.providers.machines import is_machine
from newsletter.providers.webhooks import moment, text, text_map

_Document = Mapping[str, Any]

# Postmark delivers no more to these; any other type it deactivates says so by `Inactive`.
_HARD = frozenset({"HardBounce", "BadEmailAddress", "ManuallyDeactivated"})
# It goes on trying: a failure for good comes as another event.
_DELAYED = frozenset({"Transient", "DnsError"})
# A reply of a machine or a person: the message is there.
_ARRIVED = frozenset(
    {"AutoResponder", "ChallengeVerification", "AddressChange", "Subscribe", "OpenRelayTest"}
)


def parse_event(document: _Document) -> list[Event]:
    """The event of one webhook; none for a record that says nothing about a message's fate.

    Raises `BadInput` naming the field that cannot be read.
    """
    record = document.get("RecordType")
    if not isinstance(record, str):
        raise BadInput("RecordType: missing; this is no webhook of Postmark's")
    parse = _PARSERS.get(record)
    event = parse(document) if parse else None
    return [event] if event else []


def _event(document: _Document, kind: EventType, to: str, at: str, **more: Any) -> Event:
    tag = text(document, "Tag")
    return Event(
        type=kind,
        recipient=text(document, to),
        provider_message_id=text(document, "MessageID"),
        at=moment(document, at),
        metadata=text_map(document, "Metadata"),
        tags=(tag,) if tag else (),
        **more,
    )


def _delivery(document: _Document) -> Event:
    details = text(document, "Details")
    return _event(document, EventType.DELIVERED, "Recipient", "DeliveredAt", response=details)


def _bounce(document: _Document) -> Event:
    name = text(document, "Type")
    kind, bounce = _fate(name, document.get("Inactive") is True)
    return _event(
        document,
        kind,
        "Email",
        "BouncedAt",
        provider_event_id=text(document, "ID"),
        bounce=bounce,
        reason=": ".join(filter(None, (name, text(document, "Description")))),
        response=text(document, "Details"),
    )


def _fate(name: str, inactive: bool) -> tuple[EventType, Literal["", "hard", "soft"]]:
    if name == "SpamComplaint":
        return EventType.COMPLAINED, ""
    if name == "Unsubscribe":
        return EventType.UNSUBSCRIBED, ""
    if name in _HARD or inactive:
        return EventType.BOUNCED, "hard"
    if name in _DELAYED:
        return EventType.DEFERRED, ""
    if name in _ARRIVED:
        return EventType.DELIVERED, ""
    return EventType.BOUNCED, "soft"


def _complaint(document: _Document) -> Event:
    return _bounce({**document, "Type": "SpamComplaint"})


def _open(document: _Document) -> Event:
    agent = text(document, "UserAgent")
    return _event(
        document,
        EventType.OPENED,
        "Recipient",
        "ReceivedAt",
        user_agent=agent,
        machine=bool(agent) and is_machine(agent),
    )


def _click(document: _Document) -> Event:
    agent = text(document, "UserAgent")
    return _event(
        document,
        EventType.CLICKED,
        "Recipient",
        "ReceivedAt",
        url=text(document, "OriginalLink"),
        user_agent=agent,
        machine=bool(agent) and is_machine(agent),
    )


def _subscription_change(document: _Document) -> Event | None:
    """A suppression. A reactivation (`SuppressSending` false) is no consent: nothing follows."""
    if document.get("SuppressSending") is not True:
        return None
    reason = text(document, "SuppressionReason")
    kind, bounce = {
        "HardBounce": (EventType.BOUNCED, "hard"),
        "SpamComplaint": (EventType.COMPLAINED, ""),
    }.get(reason, (EventType.UNSUBSCRIBED, ""))
    told = ", ".join(filter(None, (reason, text(document, "Origin"))))
    return _event(document, kind, "Recipient", "ChangedAt", bounce=bounce, reason=told)


_PARSERS: Mapping[str, Callable[[_Document], Event | None]] = {
    "Delivery": _delivery,
    "Bounce": _bounce,
    "SpamComplaint": _complaint,
    "Open": _open,
    "Click": _click,
    "SubscriptionChange": _subscription_change,
}
