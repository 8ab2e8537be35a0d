"""What the service is given: workspace, database, clock and a way to be stopped.

The settings are read again when their file changes, as an approval made with other settings than
the running ones would approve other bytes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from newsletter.clock import Clock
from newsletter.delivery import DeliveryRuntime, Policy, open_runtime
from newsletter.delivery.runtime import Unheard, Wake, has_ended, new_holder
from newsletter.errors import BadInput
from newsletter.outbox import notify_editors
from newsletter.providers import open_provider, provider_named
from newsletter.providers.base import Provider
from newsletter.settings import FILE_NAME, load_settings
from newsletter.store import Store
from newsletter.workspace import Workspace

if TYPE_CHECKING:
    from newsletter.service.leadership import Leader

_log = logging.getLogger(__name__)

Opener = Callable[[Workspace, Clock, str], Provider]


def open_named(workspace: Workspace, clock: Clock, name: str) -> Provider:
    """The provider of that name, by the settings. Raises `NotFound`, or `BadInput` for secrets."""
    return open_provider(workspace, provider_named(workspace, name), clock)


@dataclass
class Runtime:
    """One service's surroundings. Setting `stop` ends it in order.

    `holder` names this process in leases, and `gone` tells of a holder whether it surely ended.
    """

    workspace: Workspace
    store: Store
    clock: Clock
    open_provider: Opener = open_named
    policy: Policy = field(default_factory=Policy)
    holder: str = field(default_factory=new_holder)
    gone: Callable[[str], bool] = has_ended
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    # Called after every batch with the send's public name.
    progress: Callable[[str], None] = lambda _send: None
    # Sends that were held while this service ran, by public name.
    held: set[str] = field(default_factory=set)
    # Why nothing may be sent from this database, as of the last look.
    quarantine: str = ""
    # The sends that this process started, or asked their provider about.
    met: set[int] = field(default_factory=set)
    unheard: dict[int, Unheard] = field(default_factory=dict)
    began: datetime | None = None
    # Without one, leases in the database decide who leads.
    leader: Leader | None = None
    # What ends an engine's rest early; without one it looks for work by the clock.
    wake: Wake | None = None
    _settings_mark: tuple[int, int] | None = None

    def delivery(self) -> DeliveryRuntime:
        """The engine's surroundings, by the settings as they are now."""
        workspace, clock = self.workspace, self.clock
        self.began = self.began or clock.now()
        return dataclasses.replace(
            open_runtime(workspace, self.store, clock),
            open_provider=lambda name: self.open_provider(workspace, clock, name),
            stop=self.stop,
            holder=self.holder,
            gone=self.gone,
            policy=self.policy,
            progress=self.progress,
            met=self.met,
            unheard=self.unheard,
            began=self.began,
            wake=self.wake,
        )

    def read_settings_again(self) -> None:
        """Take over an edited `newsletter.toml`; one that is wrong is told, and the old holds."""
        path = self.workspace.root / FILE_NAME
        mark = _mark(path)
        if mark == self._settings_mark:
            return
        first, self._settings_mark = self._settings_mark is None, mark
        if first:
            return
        try:
            settings = load_settings(path)
        except BadInput as error:
            self._tell_wrong_settings(str(error), mark)
            return
        self.workspace = Workspace(self.workspace.root, settings)
        _log.info("%s was read again", FILE_NAME)

    def _tell_wrong_settings(self, problem: str, mark: tuple[int, int] | None) -> None:
        with self.store.begin() as connection:
            notify_editors(
                connection,
                self.workspace,
                self.clock.now(),
                cause=f"settings:{mark}",
                subject=f"{FILE_NAME} is wrong: the scheduler goes on with the settings before",
                text="The settings were edited and cannot be read:\n\n"
                + "\n".join(f"    {line}" for line in problem.splitlines()),
            )


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
