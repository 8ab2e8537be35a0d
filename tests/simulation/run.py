"""Runs seeds one after another on one database file, and shortens the schedule of a failure."""

from __future__ import annotations

import gc
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

from newsletter.delivery import forms
from newsletter.settings import load_settings
from newsletter.workspace import Workspace
from simulation.checker import Violation
from simulation.database import Database
from simulation.outside import freeze_issue
from simulation.plan import Scenario
from simulation.providers import settings_for
from simulation.scenarios import make_scenario
from simulation.world import World, run_world
from support.site import SETTINGS

_SHORTEN_SECONDS = 20.0


@dataclass
class Failure:
    """A seed that broke a rule, with its shortened scenario and what happened in it."""

    violation: Violation
    scenario: Scenario
    planned: int
    trace: list[str] = field(repr=False)

    def __str__(self) -> str:
        faults = "\n".join(f"    {fault}" for fault in self.scenario.faults) or "    none"
        return (
            f"The rule “{self.violation.rule}” is broken at {self.violation.at:.1f} s:\n"
            f"    {self.violation.text}\n"
            f"Run it again, with all that happens:  make simulate SEED={self.scenario.seed}\n"
            f"Scenario: {self.scenario}\n"
            f"Faults that it takes ({len(self.scenario.faults)} of {self.planned} planned):\n"
            f"{faults}"
        )


class Simulator:
    """A database and a workspace for any number of runs in this thread."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="simulation-")
        root = Path(self._folder.name)
        (root / "var").mkdir()
        (root / "var" / "secret.key").write_text("k" * 64, encoding="ascii")
        text = SETTINGS.replace('notify = ["editor@glow.example"]', "notify = []")
        (root / "newsletter.toml").write_text(text, encoding="utf-8")
        self._settings = load_settings(root / "newsletter.toml")
        self._root = root
        self._database, self._clone = Database(), Database()
        freeze_issue(self._database)
        self._database.keep()
        self.hits: Counter[str] = Counter()

    def run(self, scenario: Scenario) -> World:
        """One run of a scenario."""
        workspace = Workspace(self._root, settings_for(self._settings, scenario))
        # Templates are for large sends: here any send is large enough.
        worth = 1 if "postmark with templates" in scenario.kinds.values() else forms.WORTH
        with _undisturbed(), mock.patch.object(forms, "WORTH", worth):
            world = run_world(scenario, self._database, self._clone, workspace)
        self.hits += world.hits
        return world

    def run_seed(self, seed: int) -> Failure | None:
        """One seed; a failure comes with the shortest schedule that was found in 20 s."""
        scenario = make_scenario(seed)
        world = self.run(scenario)
        return None if world.violation is None else self._failure(scenario, world)

    def first_failure(self, seeds: Iterable[int]) -> Failure | None:
        """The first of the seeds that breaks a rule."""
        return next((found for seed in seeds if (found := self.run_seed(seed))), None)

    def _failure(self, scenario: Scenario, world: World) -> Failure:
        assert world.violation is not None
        hits = self.hits.copy()
        failure = self._shorten(
            Failure(world.violation, scenario, len(scenario.faults), world.trace)
        )
        self.hits = hits
        return failure

    def _shorten(self, failure: Failure) -> Failure:
        """Leave out faults, many at once and then one by one, as long as the same rule breaks."""
        deadline = time.monotonic() + _SHORTEN_SECONDS
        size = max(1, len(failure.scenario.faults) // 2)
        while True:
            shorter = None
            for start in range(0, len(failure.scenario.faults), size):
                if time.monotonic() > deadline:
                    return failure
                faults = failure.scenario.faults
                less = replace(failure.scenario, faults=faults[:start] + faults[start + size :])
                world = self.run(less)
                if world.violation is not None and world.violation.rule == failure.violation.rule:
                    shorter = Failure(world.violation, less, failure.planned, world.trace)
                    break
            if shorter is not None:
                failure = shorter
                size = max(1, min(size, len(failure.scenario.faults)))
            elif size == 1:
                return failure
            else:
                size //= 2

    def close(self) -> None:
        self._database.close()
        self._clone.close()
        self._folder.cleanup()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without a log, and with the garbage of a whole run collected at once."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        logging.disable(before)
        if collects:
            gc.enable()
