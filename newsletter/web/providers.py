"""Provider accounts by name, each opened once and kept as long as the site runs."""

from __future__ import annotations

from newsletter.clock import Clock
from newsletter.providers import open_provider, provider_named
from newsletter.providers.base import Provider
from newsletter.workspace import Workspace


class Providers:
    def __init__(self, workspace: Workspace, clock: Clock) -> None:
        self._workspace = workspace
        self._clock = clock
        self._opened: dict[str, Provider] = {}

    def open(self, name: str) -> Provider:
        """Raises `NotFound` for a name not in the settings, `BadInput` for bad secrets."""
        if name not in self._opened:
            settings = provider_named(self._workspace, name)
            self._opened[name] = open_provider(self._workspace, settings, self._clock)
        return self._opened[name]

    async def close(self) -> None:
        for provider in self._opened.values():
            await provider.close()
