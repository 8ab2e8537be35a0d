"""Commands about providers: `provider events` reads a webhook as the web app would."""

from __future__ import annotations

import base64
import binascii
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from newsletter.cli.base import JsonOption, emit
from newsletter.clock import clock_from_environment, isoformat
from newsletter.errors import BadInput, NotFound

if TYPE_CHECKING:
    from newsletter.providers.base import Event, WebhookRequest


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    group = typer.Typer(help="Providers: look into what they send us.", no_args_is_help=True)
    group.command("events")(events)
    app.add_typer(group, name="provider")


def events(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="The kind of provider.")],
    secret: Annotated[
        list[str] | None,
        typer.Option(help="What proves the webhook; several while it is being changed."),
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The clock for replay windows.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify and parse one webhook request from standard input; nothing is stored.

    The request is JSON: method, query, headers, body or body_base64.
    """
    from newsletter.providers import known_kinds, provider_class
    from newsletter.providers.transport import HttpxTransport
    from newsletter.settings import ProviderSettings

    if kind not in known_kinds():
        kinds = ", ".join(known_kinds())
        raise NotFound(f"there is no provider of the kind {kind!r}", hint=f"Kinds: {kinds}.")
    clock = clock_from_environment()
    now = _time(at) if at else clock.now()
    provider = provider_class(kind)(
        ProviderSettings(name=kind, kind=kind),
        api_key="",
        webhook_secrets=secret or [],
        clock=clock,
        transport=HttpxTransport(),
    )
    found = provider.events(_read_request(sys.stdin.buffer.read()), now=now)

    def show() -> None:
        for event in found:
            what = f"{event.type} {event.bounce}".strip()
            typer.echo(f"{isoformat(event.at)}  {what:<14} {event.recipient}  {event.reason}")
        typer.echo(f"{len(found)} events")

    emit([_document(event) for event in found], as_json, show)


def _time(text: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"--at: not an ISO 8601 time: {text!r}") from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _read_request(text: bytes) -> WebhookRequest:
    from newsletter.providers.base import WebhookRequest

    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"standard input is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadInput("standard input: a JSON object is needed")
    headers, query = (_map(document, name) for name in ("headers", "query"))
    return WebhookRequest(
        method=str(document.get("method") or "POST").upper(),
        headers={name.lower(): value for name, value in headers.items()},
        body=_body(document),
        query=query,
    )


def _map(document: dict[str, Any], name: str) -> dict[str, str]:
    value = document.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise BadInput(f"{name}: an object of texts is needed")
    return value


def _body(document: dict[str, Any]) -> bytes:
    encoded, plain = document.get("body_base64"), document.get("body")
    if encoded:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise BadInput(f"body_base64: {error}") from error
    if plain is not None and not isinstance(plain, str):
        raise BadInput("body: a text is needed, exactly as it was received")
    return (plain or "").encode()


def _document(event: Event) -> dict[str, Any]:
    return {
        "type": str(event.type),
        "bounce": event.bounce,
        "recipient": event.recipient,
        "provider_message_id": event.provider_message_id,
        "at": isoformat(event.at),
        "provider_event_id": event.provider_event_id,
        "reason": event.reason,
        "response": event.response,
        "url": event.url,
        "user_agent": event.user_agent,
        "machine": event.machine,
        "metadata": dict(event.metadata),
        "tags": list(event.tags),
    }
