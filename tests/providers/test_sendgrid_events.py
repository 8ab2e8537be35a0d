"""SendGrid's webhooks: the signature before anything else, then an array in the one vocabulary."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from newsletter.clock import SystemClock
from newsletter.errors import BadInput, Unreachable
from newsletter.providers.base import Event, VerificationError, WebhookRequest
from newsletter.providers.sendgrid import SendgridProvider
from newsletter.providers.sendgrid_events import request_id
from newsletter.providers.transport import HttpxTransport
from newsletter.settings import ProviderSettings
from support.sendgrid_server import SendgridServer

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
AT = int(NOW.timestamp())


@pytest.fixture(scope="module")
def signer() -> SendgridServer:
    return SendgridServer()


def read(request: WebhookRequest, *keys: str, now: datetime = NOW) -> list[Event]:
    provider = SendgridProvider(
        ProviderSettings(name="sg", kind="sendgrid"),
        api_key="",
        webhook_secrets=keys,
        clock=SystemClock(),
        transport=HttpxTransport(),
    )
    return provider.events(request, now=now)


def webhook(signer: SendgridServer, *documents: Any, at: int = AT) -> WebhookRequest:
    body = json.dumps(documents).encode()
    return WebhookRequest("POST", signer.sign(body, at), body)


def document(event: str, **more: Any) -> dict[str, Any]:
    return {
        "email": "ada@readers.example",
        "timestamp": AT - 60,
        "event": event,
        "sg_event_id": "e1",
        "sg_message_id": "XBg2anf2TqCy6WXKQFhieQ.recvd-65f9fc9bdf-xk2mv-1-6719E3C1-2.0",
        "category": ["k1", "milia.1"],
        "nl_attempt": "k1",
        "nl_delivery": "7.1",
        **more,
    }


@pytest.mark.parametrize(
    ("record", "type_", "bounce"),
    [
        (document("processed"), "accepted", ""),
        # its own `attempt` is a count of tries
        (document("deferred", attempt="5", response="400 later"), "deferred", ""),
        (document("delivered", response="250 OK"), "delivered", ""),
        (document("bounce", type="bounce", status="5.1.1", reason="550"), "bounced", "hard"),
        (document("bounce", reason="550"), "bounced", "hard"),
        (document("bounce", type="blocked", reason="spam"), "bounced", "soft"),
        (document("dropped", reason="Bounced Address"), "rejected", ""),
        (document("spamreport"), "complained", ""),
        (document("unsubscribe"), "unsubscribed", ""),
        (document("group_unsubscribe", asm_group_id=1), "unsubscribed", ""),
        (document("open", useragent="Thunderbird"), "opened", ""),
        (document("click", url="https://a.example/"), "clicked", ""),
    ],
)
def test_an_event_is_read_in_the_one_vocabulary(
    signer: SendgridServer, record: dict[str, Any], type_: str, bounce: str
) -> None:
    (event,) = read(webhook(signer, record), signer.public_key)
    assert (event.type, event.bounce) == (type_, bounce)
    assert event.recipient == "ada@readers.example"
    assert event.provider_message_id == "XBg2anf2TqCy6WXKQFhieQ"
    assert event.provider_event_id == "e1"
    assert event.at == NOW - timedelta(minutes=1)
    assert event.metadata == {"attempt": "k1", "delivery": "7.1"}
    assert event.tags == ("k1", "milia.1")
    assert event.reason == record.get("reason", "")
    assert event.response == record.get("response", record.get("status", ""))
    assert event.url == record.get("url", "")


def test_opens_of_machines_are_told_apart(signer: SendgridServer) -> None:
    opens = [
        document("open", useragent="Thunderbird", sg_machine_open=True),
        document("open", useragent="Mozilla/5.0 (via ggpht.com GoogleImageProxy)"),
        document("click", useragent="python-requests/2", url="https://a.example/"),
        document("open", useragent="Thunderbird", sg_machine_open=False),
    ]
    events = read(webhook(signer, *opens), signer.public_key)
    assert [event.machine for event in events] == [True, True, True, False]


def test_many_events_come_in_one_webhook_and_others_say_nothing(signer: SendgridServer) -> None:
    others = [document("group_resubscribe"), {"event": "account_status_change", "type": "banned"}]
    mine = [document("delivered", category="k1"), document("open"), document("delivered")]
    events = read(webhook(signer, *mine, *others), signer.public_key)
    assert [event.type for event in events] == ["delivered", "opened", "delivered"]
    assert events[0].tags == ("k1",)


def test_custom_arguments_are_metadata_and_sendgrids_own_fields_are_not(
    signer: SendgridServer,
) -> None:
    record = document("deferred", attempt="5", pool={"name": "p"}, delivery="x", shop="7", tls=1)
    (event,) = read(webhook(signer, record), signer.public_key)
    assert event.metadata == {"attempt": "k1", "delivery": "7.1", "shop": "7"}


def test_the_requests_id_begins_the_messages() -> None:
    old = "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0"
    assert request_id(old) == "14c5d75ce93.dfd.64b469"
    assert request_id("XBg2anf2TqCy6WXKQFhieQ.filter0905p1mdw1-4434-59E0C6FF-3.0") == (
        "XBg2anf2TqCy6WXKQFhieQ"
    )
    assert request_id("XBg2anf2TqCy6WXKQFhieQ") == "XBg2anf2TqCy6WXKQFhieQ"
    assert request_id("") == ""


# --- verification ---------------------------------------------------------------------------------


def test_a_changed_body_timestamp_signature_or_key_is_not_believed(
    signer: SendgridServer,
) -> None:
    request = webhook(signer, document("delivered"))
    assert read(request, signer.public_key)
    timestamp, signature = list(request.headers)
    forged = [
        replace(request, body=request.body + b" "),
        replace(request, headers={**request.headers, timestamp: str(AT + 1)}),
        replace(request, headers={**request.headers, signature: "AAAA"}),
        replace(request, headers={**request.headers, signature: "not base64"}),
        replace(request, headers={timestamp: request.headers[timestamp]}),
        replace(request, headers={signature: request.headers[signature]}),
        replace(request, headers={}),
    ]
    for request in forged:
        with pytest.raises(VerificationError):
            read(request, signer.public_key)
    with pytest.raises(VerificationError):
        read(webhook(signer, document("delivered")), SendgridServer().public_key)


def test_an_old_webhook_and_one_from_the_future_are_not_believed(signer: SendgridServer) -> None:
    request = webhook(signer, document("delivered"))
    assert read(request, signer.public_key, now=NOW + timedelta(minutes=29))
    for shift in (timedelta(minutes=31), timedelta(days=1), timedelta(minutes=-31)):
        with pytest.raises(VerificationError):
            read(request, signer.public_key, now=NOW + shift)


def test_it_is_verified_before_it_is_read(signer: SendgridServer) -> None:
    request = WebhookRequest("POST", {}, b"{ no JSON")
    with pytest.raises(VerificationError):
        read(request, signer.public_key)


def test_both_keys_are_believed_while_they_are_changed(signer: SendgridServer) -> None:
    request = webhook(signer, document("delivered"))
    other = SendgridServer().public_key
    assert read(request, other, signer.public_key)
    assert read(request, "no key", signer.public_key, other)


def test_a_key_in_pem_is_the_same_key(signer: SendgridServer) -> None:
    lines = [signer.public_key[start : start + 64] for start in range(0, 200, 64)]
    pem = "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])
    assert read(webhook(signer, document("delivered")), pem)


def _public(key: Any) -> str:
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


@pytest.mark.parametrize("key", ["", "user:password", "AAAA", "é", "p384", "rsa"])
def test_what_is_no_key_of_sendgrids_is_said_to_be_none(signer: SendgridServer, key: str) -> None:
    if key == "p384":
        key = _public(ec.generate_private_key(ec.SECP384R1()))
    elif key == "rsa":
        key = _public(rsa.generate_private_key(65537, 2048))
    with pytest.raises(VerificationError, match="webhook_secret is no public key"):
        read(webhook(signer, document("delivered")), key)


def test_without_a_key_no_webhook_is_believed(signer: SendgridServer) -> None:
    with pytest.raises(VerificationError, match="verification key"):
        read(webhook(signer, document("delivered")))


def test_without_the_package_it_says_what_to_install(
    signer: SendgridServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = webhook(signer, document("delivered"))
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Unreachable, match=r"newsletter-pipeline\[sendgrid\]"):
        read(request, signer.public_key)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[1]",
        b"null",
        b'[{"event":"delivered","timestamp":"soon"}]',
        b'[{"event":"delivered"}]',
        b'[{"event":"delivered","timestamp":true}]',
        b'[{"event":"delivered","timestamp":1e300}]',
    ],
)
def test_a_signed_webhook_that_cannot_be_read_says_so(signer: SendgridServer, body: bytes) -> None:
    request = WebhookRequest("POST", signer.sign(body, AT), body)
    with pytest.raises(BadInput):
        read(request, signer.public_key)
