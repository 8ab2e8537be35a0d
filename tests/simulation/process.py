"""A simulated process of the engine: its clock, its view of the database, its life and death.

A dead process runs no more code; what it had begun outside (a request) goes on without it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from newsletter.delivery import DeliveryRuntime, run_due
from newsletter.delivery.aside import inline
from newsletter.delivery.mark import Mark
from newsletter.delivery.reconciling import reconcile
from newsletter.errors import NewsletterError, Unreachable
from simulation.database import Change, Database, SimulatedStore, away
from simulation.loop import OWNER, Killed, Owner

if TYPE_CHECKING:
    from simulation.world import World

_T = TypeVar("_T")
_FEW_STEPS = 25
_LONGEST_TURN = 0.02  # seconds for which a transaction beside the loop waits for a thread
_CALLED_AFTER = 300.0  # seconds, at the latest, after which an idle process looks again


class Machine:
    """A wall clock of its own, which drifts and may be set, and the processes that run there."""

    def __init__(self, world: World, start: datetime, drift: float, mark: Mark) -> None:
        self._world = world
        self._start = start
        self._drift = drift
        self.offset = 0.0
        self.mark = mark

    def now(self) -> datetime:
        passed = self._world.loop.time() * (1 + self._drift) + self.offset
        return self._start + timedelta(seconds=passed)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))


class Process(Owner):
    """One engine, from its start to its death; a restart is another process of the same worker."""

    restarts = True
    called = "worker"

    def __init__(
        self,
        world: World,
        worker: int,
        life: int,
        machine: Machine,
        database: Database | None = None,
    ) -> None:
        super().__init__()
        self.world = world
        self.worker = worker
        self.machine = machine
        self.name = f"{self.called} {worker}.{life}"
        self.rng = random.Random(f"{world.scenario.seed}/{self.name}")
        self.store = SimulatedStore(database or world.database, self)
        self.ended = False
        self.last_told: dict[str, str] = {}  # attempt → request or look-up that told of it last
        self.at_death: list[Callable[[], None]] = []
        context = copy_context()
        context.run(OWNER.set, self)
        self.runtime = context.run(self._make_runtime)
        self.task = world.loop.create_task(self._live(), context=context)

    def _make_runtime(self) -> DeliveryRuntime:
        world = self.world
        return DeliveryRuntime(
            workspace=world.workspace,
            store=self.store,
            clock=self.machine,
            open_provider=lambda name: world.open_provider(name, self),
            rng=self.rng,
            holder=self.name,
            gone=self._is_gone,
            policy=world.policy,
            mark=self.machine.mark,
            aside=self._beside if self.rng.random() < 0.5 else inline,
        )

    async def _beside(self, work: Callable[[], _T], /) -> _T:
        """As in a thread: whatever else this process does goes on before it and after it."""
        await asyncio.sleep(self.rng.uniform(0, _LONGEST_TURN))
        told = work()
        await asyncio.sleep(self.rng.uniform(0, _LONGEST_TURN))
        return told

    def _is_gone(self, holder: str) -> bool:
        """As the system tells of the processes of the same machine, and of no other."""
        other = self.world.processes.get(holder)
        return other is not None and other.machine is self.machine and not other.alive

    async def _live(self) -> None:
        try:
            while not self.runtime.stop.is_set():
                try:
                    report = await run_due(self.runtime)
                    idle = not report.batches
                except Unreachable as error:
                    self.world.tell(self.name, f"its run fails: {error.message}")
                    idle = False
                await self.machine.sleep(self.rng.uniform(0.5, 10))
                if idle:  # it is called when there is something new, as by a notification
                    await self.world.next_change(_CALLED_AFTER)
        except Exception as error:
            if not self.alive:  # its coroutines are being put away
                return
            self.world.fail("no fault inside", f"{self.name}: {type(error).__name__}: {error}")
            raise
        self.alive = False
        self.ended = True
        self.world.tell(self.name, "ends in order")
        self.world.after_death(self, restart=True)

    # --- death and sleep --------------------------------------------------------------------------

    def kill(self) -> None:
        """Called from within the process: nothing of it runs after this."""
        self.die()
        raise Killed

    def die(self) -> None:
        if not self.alive:
            return
        self.alive = False
        self.world.tell(self.name, "is killed")
        for call in self.at_death:
            call()
        self.world.after_death(self, restart=True)

    def be_stopped(self) -> None:
        """SIGSTOP in the middle of the code, for longer than a lease; then SIGCONT."""
        seconds = self.world.scenario.lease * self.rng.uniform(0.3, 2.5)
        self.world.tell(self.name, f"is stopped for {seconds:.0f} s")
        self._let_others_go_on(seconds, 100_000)
        self.world.tell(self.name, "goes on")

    def _let_others_go_on(self, seconds: float, steps: int) -> None:
        self.world.loop.preempt(self, seconds, steps)
        if not self.alive:
            raise Killed

    # --- transactions -----------------------------------------------------------------------------

    def before_transaction(self, *, writes: bool) -> str:
        """Whatever befalls the process here; the name of a fault that the store must act out."""
        if not self.alive:
            raise Killed
        world = self.world
        if self.rng.random() < world.scenario.preempted:
            self._let_others_go_on(0.0, self.rng.randrange(1, _FEW_STEPS))
        if world.database_away:
            world.hit("database away")
            raise away()
        if not writes:
            return ""
        fault = world.fault_at("commit")
        if fault:
            world.hit(fault)
            world.tell(self.name, f"fault: {fault}")
        return fault

    def after_commit(self, told: list[Change]) -> None:
        self.world.committed(self.name, told)


class Reconciling(Process):
    """`newsletter ledger reconcile`."""

    restarts = False
    called = "reconcile"

    async def _live(self) -> None:
        try:
            done = await reconcile(self.runtime)
            found = [(send.found, send.unsent, send.in_doubt) for send in done.sends]
            self.world.tell(self.name, f"found, unsent, in doubt: {found}; {done.reason}")
        except NewsletterError as error:
            self.world.tell(self.name, f"fails: {error.message}")
        except Exception as error:
            if self.alive:
                self.world.fail("no fault inside", f"reconcile: {type(error).__name__}: {error}")
            raise
        self.alive = False


class Cloned(Process):
    """A worker over a copy of the database, which may send nothing."""

    restarts = False
    called = "clone"

    def after_commit(self, told: list[Change]) -> None:
        for change in told:
            self.world.tell(self.name, f"{change.what} {change.number} is {change.new}")
