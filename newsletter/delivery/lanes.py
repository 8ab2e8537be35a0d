"""One provider's requests in flight in this process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from newsletter.providers.base import Provider


@dataclass
class Lane:
    """One provider's requests in flight, and whose turn is next."""

    provider: Provider
    busy: int = 0  # batches: those whose requests are in flight, and the next one
    turns: list[int] = field(default_factory=list)  # send ids; the next one's turn is first
    slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.slots = asyncio.Semaphore(self.provider.settings.in_flight)

    @property
    def is_full(self) -> bool:
        """Whether no further batch is prepared: there is one whose request waits for a slot.

        None waits where a rate is kept, as two of them might then leave at once.
        """
        settings = self.provider.settings
        ahead = 0 if settings.rate is not None or settings.domain_rates else 1
        return self.busy >= settings.in_flight + ahead
