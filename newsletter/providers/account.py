"""What every provider over HTTP is made from: its settings, its secrets, a clock, a transport.

A provider's own module says the rest; it declares its defaults as class attributes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from newsletter.clock import Clock
from newsletter.providers.base import Batch, Capabilities, FormBatch, Prepared
from newsletter.providers.transport import Transport
from newsletter.providers.whole import PerForm, Stencil
from newsletter.settings import ProviderSettings


class HttpProvider(ABC):
    """One account at a provider. `declared` is what its API can do, `base_url` where it is."""

    declared: ClassVar[Capabilities]
    base_url: ClassVar[str]

    def __init__(
        self,
        settings: ProviderSettings,
        *,
        api_key: str,
        webhook_secrets: Sequence[str],
        clock: Clock,
        transport: Transport,
    ) -> None:
        self.settings = settings
        self.capabilities = self.declared
        if settings.lookup_lag is not None:
            self.capabilities = replace(self.declared, lookup_lag=settings.lookup_lag)
        self._root = settings.base_url or self.base_url
        self._headers = self.authorization(api_key)
        self._secrets = webhook_secrets
        self._clock = clock
        self._transport = transport
        self._stencils: PerForm[Stencil] = PerForm()

    @staticmethod
    @abstractmethod
    def authorization(api_key: str) -> Mapping[str, str]:
        """The headers that every request to the API carries."""

    @abstractmethod
    def prepare(self, batch: Batch) -> Prepared:
        """The request for a batch of whole messages."""

    def prepare_form(self, batch: FormBatch) -> Prepared:
        return self.prepare(batch.whole())

    async def close(self) -> None:
        await self._transport.close()
