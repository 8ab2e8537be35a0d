"""Email providers: which kinds there are, and how one is opened from its settings.

The kinds are the built-in ones and those of the entry point group `newsletter.providers`; each is a
class called with its settings, its secrets, a clock and a transport.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Protocol, cast

from newsletter.clock import Clock
from newsletter.errors import BadInput, NotFound, Where
from newsletter.providers.base import Provider
from newsletter.providers.transport import HttpxTransport, Transport
from newsletter.settings import FILE_NAME, ProviderSettings
from newsletter.workspace import Workspace

GROUP = "newsletter.providers"

# These work without an installation too, whose metadata would list them.
_BUILT_IN = {
    "mailbox": "newsletter.providers.mailbox:MailboxProvider",
    "postmark": "newsletter.providers.postmark:PostmarkProvider",
    "sendgrid": "newsletter.providers.sendgrid:SendgridProvider",
}


class ProviderFactory(Protocol):
    """How a provider's class is called; third parties' as well."""

    def __call__(
        self,
        settings: ProviderSettings,
        *,
        api_key: str,
        webhook_secrets: Sequence[str],
        clock: Clock,
        transport: Transport,
    ) -> Provider: ...


@cache
def _targets() -> dict[str, str]:
    return {**{point.name: point.value for point in entry_points(group=GROUP)}, **_BUILT_IN}


def known_kinds() -> list[str]:
    """The kinds that this installation can open."""
    return sorted(_targets())


def provider_class(kind: str, *, field: str = "kind") -> ProviderFactory:
    """The class of a kind. Raises `BadInput` naming `field` and the kinds there are."""
    target = _targets().get(kind)
    if target is None:
        raise BadInput(
            f"{field}: no provider of the kind {kind!r}",
            where=Where(FILE_NAME) if field != "kind" else None,
            hint=f"Kinds: {', '.join(known_kinds())}.",
        )
    module, _, name = target.partition(":")
    try:
        return cast(ProviderFactory, getattr(import_module(module), name))
    except (ImportError, AttributeError) as error:
        raise BadInput(
            f"{field}: the provider {kind!r} cannot be loaded: {error}",
            hint="Update or remove the package that brings it.",
        ) from error


def provider_named(workspace: Workspace, name: str | None = None) -> ProviderSettings:
    """The `[[providers]]` entry of that name, the first without one.

    Raises `NotFound` for an unknown name and `BadInput` when there is no entry at all.
    """
    entries = workspace.settings.providers
    if not entries:
        raise BadInput(
            "providers: there is none",
            where=Where(FILE_NAME),
            hint='Add [[providers]] with a name and a kind; kind = "mailbox" needs no account.',
        )
    if name is None:
        return entries[0]
    for entry in entries:
        if entry.name == name:
            return entry
    names = ", ".join(entry.name for entry in entries)
    raise NotFound(f"no provider named {name!r}", hint=f"Providers: {names}.")


def open_provider(
    workspace: Workspace,
    settings: ProviderSettings,
    clock: Clock,
    transport: Transport | None = None,
) -> Provider:
    """Open a provider with its secrets read. Raises `BadInput` naming the field that is wrong.

    Without a `transport` it gets one of its own, over httpx; `Provider.close` closes it.
    """
    factory = provider_class(settings.kind, field=f"providers.{settings.name}.kind")
    if settings.api_key is None:
        raise BadInput(
            f"providers.{settings.name}.api_key: missing",
            where=Where(FILE_NAME),
            hint='Write api_key = { env = "NAME" } and export that variable.',
        )
    api_key = settings.api_key.reveal(workspace.root)
    secret = settings.webhook_secret
    return factory(
        settings,
        api_key=api_key,
        webhook_secrets=[secret.reveal(workspace.root)] if secret else [],
        clock=clock,
        transport=transport or HttpxTransport(),
    )
