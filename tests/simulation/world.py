"""One simulated world: processes, provider, people and editors, around one database.

It carries out a scenario and tells what happens; `checker` judges it.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from newsletter.delivery import Policy
from newsletter.delivery.mark import MemoryMark
from newsletter.providers.base import Provider
from newsletter.store.schema import ledger
from newsletter.workspace import Workspace
from simulation.checker import Checker, Violation
from simulation.database import Change, Database
from simulation.editors import Editors
from simulation.loop import OWNER, SimLoop, Stuck
from simulation.outside import NOON, Outside
from simulation.plan import Fault, Scenario
from simulation.process import Cloned, Machine, Process, Reconciling
from simulation.providers import open_simulated, server_for
from simulation.servers import Acceptance

if TYPE_CHECKING:
    from collections.abc import Sequence

_END_IN_ORDER = 0.2
_FAULTS_END = 40.0  # seconds; what is planned for later does not happen
_MUST_END = 6 * 3600.0
_MUST_END_OF_DAYS = 10 * 86400.0
_STEPS_OF_DAYS = 200_000


class KeptMark(MemoryMark):
    """The mark in a file of the workspace: it outlives processes."""

    durable = True


class World:
    """Everything there is in one run."""

    def __init__(
        self, scenario: Scenario, database: Database, clone: Database, workspace: Workspace
    ) -> None:
        self.scenario = scenario
        self.database = database
        self._clone = clone
        self.workspace = workspace
        seed = scenario.seed
        steps = {"max_steps": _STEPS_OF_DAYS} if scenario.takes_days else {}
        self.loop = SimLoop(random.Random(f"{seed}/loop"), **steps)
        self.start = NOON + timedelta(seconds=scenario.begins)
        self.network_rng = random.Random(f"{seed}/network")
        self.rng = random.Random(f"{seed}/world")
        self.trace: list[str] = []
        self.hits: Counter[str] = Counter()
        self.violation: Violation | None = None
        self.database_away = 0
        self.provider_down = 0
        self.credentials_refused = 0
        self.inactive: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._planned: dict[tuple[str, int], Fault] = {}
        self.processes: dict[str, Process] = {}
        self.everyone: list[Process] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._snapshot: sqlite3.Connection | None = None
        self.stopping = False
        self.settled = False
        self.policy = Policy(
            first_wait=timedelta(seconds=1),
            longest_wait=timedelta(seconds=min(60.0, scenario.patience / 2)),
            hold_after=timedelta(seconds=scenario.patience),
            settle_for=timedelta(seconds=scenario.patience),
            poll=timedelta(seconds=scenario.poll),
            part=scenario.batch if seed % 2 else 50_000,  # large sends are filled as they go
        )
        ends = [fault.at + fault.value for fault in scenario.faults if fault.site == "time"]
        self.quiet_at = min(_FAULTS_END, max(ends, default=0.0) + 1)
        self.servers = {name: server_for(self, name) for name in scenario.kinds}
        self.server = self.servers["main"]
        self.checker = Checker(self)
        self.outside = Outside(self)
        self.editors = Editors(self)
        shared = KeptMark()
        self.machines = [
            Machine(
                self,
                self.start,
                self.rng.uniform(-1, 1) * scenario.drift,
                shared if scenario.shared_mark else MemoryMark(),
            )
            for _ in range(scenario.machines)
        ]

    # --- the run ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Until everything has ended, or something is wrong."""
        self.outside.populate()
        self._plan()
        for worker in range(self.scenario.workers):
            self.at(self.rng.uniform(0, 3), self.start_worker, worker, 1)
        self.editors.begin()
        until = _MUST_END_OF_DAYS if self.scenario.takes_days else _MUST_END
        try:
            self.loop.run(lambda: self.violation is not None or self._over(), until=until)
        except Stuck as stuck:
            self.fail("the send ends", f"{stuck}; {self.editors.describe()}")
        except Exception as error:
            self.fail("no fault inside", f"the simulation: {type(error).__name__}: {error}")
            raise
        finally:
            for process in self.everyone:
                process.alive = False
            self.loop.close_tasks(list(self.everyone))
        if self.violation is None:
            self.checker.at_the_end()

    def _over(self) -> bool:
        return self.settled and all(not process.alive for process in self.everyone)

    def settle(self) -> None:
        """The editors see nothing left to do: the workers are asked to end, or the power goes."""
        self.settled = self.stopping = True
        in_order = self.rng.random() < _END_IN_ORDER
        for process in self.everyone:
            if not in_order:
                process.alive = False
            elif process.alive:
                self.in_process(process, process.runtime.stop.set)
        self._call_the_idle()

    def _call_the_idle(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    @property
    def quiet(self) -> bool:
        """Whether the faults are over."""
        return self.loop.time() > self.quiet_at

    def at(self, when: float, call: Callable[..., Any], *args: Any) -> None:
        self.loop.call_at(max(when, self.loop.time()), call, *args, context=Context())

    def in_process(self, process: Process, call: Callable[[], Any]) -> None:
        context = Context()
        context.run(OWNER.set, process)
        self.loop.call_soon(call, context=context)

    def start_worker(self, worker: int, life: int) -> None:
        if self.stopping:
            return
        machine = self.machines[worker % len(self.machines)]
        process = Process(self, worker, life, machine)
        self.processes[process.name] = process
        self.everyone.append(process)
        self.tell(process.name, "starts")

    def reconcile(self) -> None:
        """The editors let the ledger catch up with the provider, in a process of its own."""
        if any(isinstance(process, Reconciling) and process.alive for process in self.everyone):
            return
        life = 1 + sum(isinstance(process, Reconciling) for process in self.everyone)
        process = Reconciling(self, 0, life, self.machines[0])
        self.processes[process.name] = process
        self.everyone.append(process)
        self.tell("editors", "newsletter ledger reconcile")

    def after_death(self, process: Process, *, restart: bool) -> None:
        if restart and process.restarts and not self.stopping:
            life = int(process.name.rpartition(".")[2]) + 1
            pause = self.network_rng.choice((0.2, 2.0, 20.0))
            self.at(self.loop.time() + pause, self.start_worker, process.worker, life)

    def open_provider(self, name: str, process: Process) -> Provider:
        return open_simulated(self, name, process)

    @property
    def record(self) -> list[Acceptance]:
        """What all providers have taken."""
        return [taken for server in self.servers.values() for taken in server.record]

    def count(self, address: str) -> int:
        """How many messages for an address all providers have taken."""
        return sum(server.count(address) for server in self.servers.values())

    async def next_change(self, seconds: float) -> None:
        """Until something is committed that concerns workers, or some seconds are over."""
        changed = self.loop.create_future()
        self._waiting.append(changed)
        await asyncio.wait([changed], timeout=seconds)

    # --- what is told -----------------------------------------------------------------------------

    def tell(self, who: str, what: str) -> None:
        self.trace.append(f"{self.loop.time():9.3f}  {who:<11} {what}")

    def fail(self, rule: str, text: str) -> None:
        if self.violation is None:
            self.violation = Violation(rule, text, self.loop.time())
            self.tell("checker", f"VIOLATION of “{rule}”: {text}")

    def hit(self, what: str) -> None:
        self.hits[what] += 1

    def committed(self, who: str, told: Sequence[Change]) -> None:
        for change in told:
            self.tell(who, _spell(change))
        self.checker.committed(who, told)
        if any(change.what in {"send", "batch"} for change in told):
            self._call_the_idle()
        self.outside.committed(told)

    def accepted(self, taken: Acceptance) -> None:
        provider = "provider" if taken.provider == "main" else taken.provider
        self.tell(provider, f"accepts {taken.address} of attempt {taken.attempt[:6]}")
        if taken.provider != "main":
            self.hit("went through the stand-in")
        self.checker.accepted(taken)
        self.outside.plan_events(taken)

    # --- the plan ---------------------------------------------------------------------------------

    def _plan(self) -> None:
        if self.scenario.clone_at is not None:
            self.at(self.scenario.clone_at, self._start_clone)
        for fault in self.scenario.faults:
            match fault.site:
                case "time" if fault.what == "database restored":
                    self.at(fault.at - fault.value, self._take_snapshot, fault)
                case "time":
                    self.at(fault.at, self._strike, fault)
                case "recipient":
                    self.outside.afflict(fault)
                case site:
                    self._planned[site, int(fault.at)] = fault

    def planned(self, site: str) -> Fault | None:
        """The fault for what happens now at that site."""
        number = self._counts[site]
        self._counts[site] += 1
        return self._planned.get((site, number))

    def fault_at(self, site: str) -> str:
        fault = self.planned(site)
        return fault.what if fault else ""

    def fault_of_request(self, site: str) -> tuple[int, str, float]:
        number = self._counts[site]
        fault = self.planned(site)
        if fault is None:
            return number, "", 0.0
        self.hit(fault.what)
        self.tell("network", f"fault at {site} {number}: {fault.what}")
        return number, fault.what, fault.value

    def _strike(self, fault: Fault) -> None:
        if self.loop.time() > _FAULTS_END or self.settled:
            return
        alive = [process for process in self.everyone if process.alive]
        process = alive[fault.who % len(alive)] if alive else None
        machine = self.machines[fault.who % len(self.machines)]
        match fault.what:
            case "database away" | "provider down" | "credentials refused":
                self._for_a_while(fault)
                return
            case "database restored":
                self._restore()
            case "killed" if process:
                self.tell("plan", f"fault: {process.name} is killed")
                process.die()
            case "stopped" if process:
                self.tell("plan", f"fault: {process.name} is stopped for {fault.value:.1f} s")
                self.loop.suspend(process, fault.value)
            case "asked to end" if process:
                self.tell("plan", f"{process.name} is asked to end")
                self.in_process(process, process.runtime.stop.set)
            case "clock set forward":
                machine.offset += fault.value
                self.tell("plan", f"a clock is set forward by {fault.value:.0f} s")
            case "clock set back":
                machine.offset -= fault.value
                self.tell("plan", f"a clock is set back by {fault.value:.0f} s")
            case _:
                if process or fault.what not in {"killed", "stopped", "asked to end"}:
                    self.editors.act(fault)
                return
        self.hit(fault.what)

    def _take_snapshot(self, fault: Fault) -> None:
        """The restore is planned from here: of two that are due together either may come first."""
        self._snapshot = self.database.snapshot()
        self.tell("plan", "the database is backed up")
        self.at(fault.at, self._strike, fault)

    def _start_clone(self) -> None:
        """A copy is started: in the same workspace, in a copy of it, or without its mark."""
        if self.settled:
            return
        with self.database.store.read() as connection:
            place = connection.execute(select(ledger.c.place)).scalar_one()
        if not place:  # nobody has sent from it, so that nothing tells a copy from the original
            self.at(self.loop.time() + 1, self._start_clone)
            return
        self._clone.restore(self.database.snapshot())
        shared = self.machines[0].mark
        copied = KeptMark()
        copied.position = shared.read()
        mark = self.rng.choice((shared, copied, KeptMark(), MemoryMark()))
        machine = Machine(self, self.start, 0.0, mark)
        process = Cloned(self, 0, 1, machine, self._clone)
        self.processes[process.name] = process
        self.everyone.append(process)
        self.tell("plan", "a clone of the database is started")
        self.hit("clone started")

    def _restore(self) -> None:
        """The machine burns down; the database comes back as it was, and so do the workers."""
        for process in self.everyone:
            process.die()
        assert self._snapshot is not None
        self.database.restore(self._snapshot)
        self.tell("plan", "fault: the database is restored as it was then")
        self.checker.read_again()

    def _for_a_while(self, fault: Fault) -> None:
        name = {
            "database away": "database_away",
            "provider down": "provider_down",
            "credentials refused": "credentials_refused",
        }[fault.what]
        if fault.what != "database away":  # that is hit when somebody asks it
            self.hit(fault.what)
        self.tell("plan", f"fault: {fault.what} for {fault.value:.1f} s")
        setattr(self, name, getattr(self, name) + 1)

        def over() -> None:
            setattr(self, name, getattr(self, name) - 1)
            self.tell("plan", f"{fault.what}: over")

        self.at(self.loop.time() + fault.value, over)


def _spell(change: Change) -> str:
    what, send, number, old, new, told, more = change
    match what:
        case "delivery":
            who = f"{number} of send {send}"
            return f"{who}: {old or 'new'} → {new}  {told if not old else f'{told} {more[:6]}'}"
        case "attempt":
            return f"attempt {told[:6]} of batch {number}: {old or 'new'} → {new}  {more}"
        case "batch":
            return f"batch {number}: {old} → {new}  {told}"
        case "send":
            return f"send {send}: {old} → {new}  {told}"
        case "ledger":
            return f"quarantine: {told or 'none'}"
    return f"person {number}: {old} → {new} {told}"


def run_world(
    scenario: Scenario, database: Database, clone: Database, workspace: Workspace
) -> World:
    """Run a scenario to its end."""
    database.reset()
    world = World(scenario, database, clone, workspace)
    with suppress(Exception):
        world.run()
    return world
