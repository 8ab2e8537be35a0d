"""What rules look at: a draft while it is a file, and a compiled issue, frozen or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Protocol

from newsletter.checks.reading import Reading, read
from newsletter.clock import Clock
from newsletter.compiled import CompiledIssue, CompiledMessage, Part
from newsletter.drafting import Issue
from newsletter.settings import ProviderSettings
from newsletter.workspace import Workspace


class Prober(Protocol):
    """What tries links: `fetching.Fetcher`."""

    def probe(self, url: str) -> int: ...


@dataclass(frozen=True)
class Audience:
    """Whom the issue is for. `sizes` by the `only` segments around a field, `""` being everybody;
    `missing` counts, by (segments, field), those who have no value for a field."""

    segment: str
    known: frozenset[str]
    sizes: Mapping[str, int]
    missing: Mapping[tuple[str, str], int]

    @property
    def size(self) -> int:
        return self.sizes.get("", 0)


@dataclass(frozen=True)
class Draft:
    """An issue's file, before it is compiled. `prober` is None where links are not to be tried."""

    workspace: Workspace
    issue: Issue
    audience: Audience
    prober: Prober | None

    @cached_property
    def reading(self) -> Reading:
        return read(self.issue)


@dataclass(frozen=True)
class Compiled:
    """A compiled issue; `draft` is there only while the file is at hand, for lines."""

    workspace: Workspace
    clock: Clock
    compiled: CompiledIssue
    audience: Audience
    provider: ProviderSettings | None
    draft: Draft | None

    @property
    def today(self) -> date:
        return self.clock.now().astimezone(self.workspace.settings.site.zone).date()

    def line(self, key: str) -> int | None:
        """The line of a front-matter key, if the file is at hand."""
        return self.draft.issue.lines.get(key, 1) if self.draft else None


def whole(parts: tuple[Part, ...], message: CompiledMessage) -> str:
    """A compiled text with each slot as `{{field}}`: for a look at what surrounds it."""
    return "".join(
        part if isinstance(part, str) else f"{{{{{message.slots[part].field}}}}}" for part in parts
    )
