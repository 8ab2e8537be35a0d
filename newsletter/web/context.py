"""What every page needs, put together once: workspace, database, clock, templates, limits.

It knows neither routes nor forms; handlers get it with `site(request)`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import Request

from newsletter.clock import Clock
from newsletter.errors import BadInput, Where
from newsletter.providers.base import Provider
from newsletter.settings import FILE_NAME, Settings
from newsletter.store import Store
from newsletter.web.limits import SlidingWindow
from newsletter.web.pages import Pages
from newsletter.web.topics import Topics
from newsletter.workspace import Workspace

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass
class Site:
    """One running site. `flush` sends what is in the outbox; it is called after an answer left."""

    workspace: Workspace
    store: Store
    clock: Clock
    pages: Pages
    provider: Callable[[str], Provider]  # by its name in the settings; raises `NotFound`
    flush: Callable[[], Awaitable[object]]
    topics: Topics
    signups: SlidingWindow = field(default_factory=SlidingWindow)

    @property
    def settings(self) -> Settings:
        return self.workspace.settings

    @property
    def key(self) -> bytes:
        return self.workspace.key

    @property
    def base_url(self) -> str:
        """The address in links; the request's own `Host` is never believed."""
        return self.settings.site.base_url

    def now(self) -> datetime:
        return self.clock.now()


def site(request: Request) -> Site:
    """The site that a request came to."""
    found: Site = request.app.state.site
    return found


def trusted_networks(settings: Settings) -> tuple[Network, ...]:
    """The proxies whose forwarded headers are believed. Raises `BadInput` for no network."""
    networks = []
    for text in settings.web.trusted_proxies:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError as error:
            raise BadInput(
                f"web.trusted_proxies: {text!r} is no IP address or network",
                where=Where(FILE_NAME),
                hint='Write for example ["127.0.0.1", "10.0.0.0/8"].',
            ) from error
    return tuple(networks)
