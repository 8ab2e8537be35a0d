"""What the engine is given: database, clock, chance, providers, patience and a way to be stopped.

Everything outside comes in here, so that a test can replace any of it and a seed repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from newsletter.clock import Clock
from newsletter.delivery.aside import Aside, Beside, inline
from newsletter.delivery.mark import FileMark, Mark, MemoryMark
from newsletter.providers import open_provider, provider_named
from newsletter.providers.base import Provider
from newsletter.store import Store
from newsletter.workspace import Workspace

MARK_FILE = "ledger.mark"
# Transactions at once over PostgreSQL: a lease, an attempt, an outcome, and recipients' rows.
_TRANSACTIONS = 4
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the engine is. A failure waits `first_wait`, doubled each time, with jitter."""

    first_wait: timedelta = timedelta(seconds=1)
    longest_wait: timedelta = timedelta(minutes=5)
    # A batch without progress for this long holds its send for a person.
    hold_after: timedelta = timedelta(minutes=30)
    # How long beyond the provider's lag a doubt is looked into before a person is asked.
    settle_for: timedelta = timedelta(minutes=30)
    # But this often at least: it may have arisen long before a restart.
    fewest_looks: int = 5
    # This many failures of one batch in a row are worth a notice to the editors.
    notice_after: int = 5
    # How long a run waits for the next window, wave or day's quota; None: however long.
    patience: timedelta | None = None
    # How often an idle engine looks for work that another process has made.
    poll: timedelta = timedelta(seconds=1)
    # Recipients whose rows are made in one transaction while the send is under way: some hundredths
    # of a second, in which SQLite's one writer, and with it everything else, waits.
    part: int = 10_000

    def wait(self, failures: int, rng: random.Random) -> timedelta:
        """The pause after the n-th failure in a row: between half and all of the doubled wait."""
        doublings = min(max(failures, 1) - 1, 20)
        full: timedelta = min(self.first_wait * (1 << doublings), self.longest_wait)
        return full * rng.uniform(0.5, 1.0)


#: For a run that is to end by itself: it asks a person after minutes, not after half an hour.
UNTIL_IDLE = Policy(
    longest_wait=timedelta(seconds=15),
    hold_after=timedelta(minutes=2),
    settle_for=timedelta(minutes=1),
    patience=timedelta(minutes=1),
)


@dataclass(frozen=True, slots=True)
class Unheard:
    """What a provider was asked in vain about one send: since when, how often, and when again."""

    since: datetime
    asked: int
    asked_at: datetime
    again_at: datetime


class Wake(Protocol):
    """Ends an idle engine's rest early, when another process has made work for it."""

    #: The longest rest without a look at the database: what a lost notification costs.
    longest: timedelta

    async def wait(self, seconds: float) -> None:
        """Return after some seconds, or as soon as there may be work."""
        ...


@dataclass
class DeliveryRuntime:
    """One engine's surroundings. `open_provider` takes the name of a `[[providers]]` entry.

    Under one `holder` one engine runs at a time. `gone` tells of a lease's holder whether it has
    surely ended, so that its batches need not wait for their lease to run out. Setting `stop` ends
    `run_due` in order.
    """

    workspace: Workspace
    store: Store
    clock: Clock
    open_provider: Callable[[str], Provider]
    rng: random.Random = field(default_factory=random.Random)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    holder: str = field(default_factory=lambda: new_holder())
    gone: Callable[[str], bool] = field(default=lambda holder: has_ended(holder))
    policy: Policy = field(default_factory=Policy)
    # Called after every batch with the send's public name.
    progress: Callable[[str], None] = field(default=lambda _send: None)
    # Without one an idle engine looks for work every `policy.poll`.
    wake: Wake | None = None
    # Kept outside the database; it shows when the database is behind what was sent.
    mark: Mark = field(default_factory=MemoryMark)
    # Where the transactions of batches run.
    aside: Aside = inline
    # When this process began, and the sends (by id) that it started, or asked about, since.
    began: datetime = field(default=_LONG_AGO)
    met: set[int] = field(default_factory=set)
    unheard: dict[int, Unheard] = field(default_factory=dict)  # those that no answer came about

    def __post_init__(self) -> None:
        if self.began == _LONG_AGO:
            self.began = self.clock.now()

    async def rest(self, seconds: float) -> None:
        """Sleep until there may be work: some seconds, or less."""
        if self.wake is None:
            await self.clock.sleep(min(seconds, self.policy.poll.total_seconds()))
        else:
            await self.wake.wait(min(seconds, self.wake.longest.total_seconds()))


def open_runtime(workspace: Workspace, store: Store, clock: Clock) -> DeliveryRuntime:
    """The surroundings of a real engine: providers by the workspace's settings."""

    def open_named(name: str) -> Provider:
        return open_provider(workspace, provider_named(workspace, name), clock)

    mark = FileMark(workspace.var / MARK_FILE)
    aside = inline if store.is_sqlite else Beside(_TRANSACTIONS)
    return DeliveryRuntime(workspace, store, clock, open_named, mark=mark, aside=aside)


def new_holder() -> str:
    """A name for this process that no other has, and that tells on this machine if it still runs.

    `<machine>/<pid>/<start>/<random>`; machine is boot and process namespace, empty where the
    system does not tell them.
    """
    pid = os.getpid()
    return f"{_machine()}/{pid}/{_started(pid)}/{uuid.uuid4().hex[:12]}"


def has_ended(holder: str) -> bool:
    """Whether the process of that name ran on this machine and is no more; false when unsure."""
    machine, pid, started, _ = holder.split("/")
    if not machine or machine != _machine() or not started:
        return False
    return _started(int(pid)) != started


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid").removeprefix("pid:")
    except OSError:
        return ""
    return f"{socket.gethostname()}-{boot}-{namespace}"


def _started(pid: int) -> str:
    """The process's start in clock ticks since boot (proc(5), stat field 22); empty if none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in {"Z", "X"} else fields[18]
