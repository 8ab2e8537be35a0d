"""The scenario of a seed, with what only a share of the seeds has; that is drawn apart, so that the
others are not changed by it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from simulation.plan import DOUBTS, KINDS, LONG, Fault, Scenario, usual_scenario

#: What such seeds are there for, under the names in the table of coverage.
RARE = ("went through the stand-in", "quota held back", "window held back", "clone started")

_MIDNIGHT = 12 * 3600.0  # seconds after noon


def make_scenario(seed: int) -> Scenario:
    """The scenario of a seed; always the same."""
    scenario = usual_scenario(seed)
    rng = random.Random(f"{seed}/rare")
    left = rng.random()
    for share, change in _SHARES:
        if left < share:
            return change(rng, scenario)
        left -= share
    return scenario


def _with_stand_in(rng: random.Random, scenario: Scenario) -> Scenario:
    """The provider is away soon, with requests whose outcome is not known before; another one
    stands in."""
    kind = rng.choice(KINDS)
    # A clock that is set, and a recipient for whom SendGrid refuses all: see `plan`.
    unfit = {*LONG, "inactive recipient"} if kind == "sendgrid" else set(LONG)
    faults = {(fault.site, fault.at): fault for fault in scenario.faults if fault.what not in unfit}
    at = round(rng.uniform(0, 6), 2)
    faults["time", at] = Fault("time", at, "provider down", rng.uniform(10, 40))
    for number in range(rng.randint(0, 3)):
        place = ("request", float(number))
        faults.setdefault(place, Fault(*place, rng.choice(DOUBTS)))
    return replace(
        scenario,
        stand_in=kind,
        people=max(scenario.people, 3 * scenario.batch),  # so that some are left to be moved
        breaker_after=2,
        faults=tuple(sorted(faults.values())),
    )


def _with_quota(rng: random.Random, scenario: Scenario) -> Scenario:
    """It begins shortly before midnight, and takes more than one day."""
    # What a provider took after the backup is not in the count that is restored.
    faults = tuple(fault for fault in scenario.faults if fault.what != "database restored")
    return replace(
        scenario,
        begins=_MIDNIGHT - rng.choice((15.0, 60.0, 600.0)),
        quota=max(2, scenario.people // rng.choice((2, 3))),
        workers=min(scenario.workers, 2),
        machines=min(scenario.machines, 2),
        poll=rng.uniform(300, 900),
        warm_up=rng.random() < 0.4,
        faults=faults,
    )


def _with_windows(rng: random.Random, scenario: Scenario) -> Scenario:
    """The hours end while it is sent, or have not begun when it starts."""
    ends = rng.choice((0, 1, 1))
    begins = rng.uniform(0, 55)
    if ends:
        return replace(scenario, closed=(ends, rng.choice((3, 20))), begins=begins)
    return replace(scenario, closed=(0, rng.choice((1, 3, 20))), begins=begins)


def _with_clone(rng: random.Random, scenario: Scenario) -> Scenario:
    """Somebody copies the database while it is sent from, and starts a worker over the copy."""
    return replace(scenario, clone_at=rng.expovariate(1 / 5))


_SHARES: tuple[tuple[float, Callable[[random.Random, Scenario], Scenario]], ...] = (
    (0.04, _with_stand_in),
    (0.03, _with_quota),
    (0.03, _with_windows),
    (0.03, _with_clone),
)
