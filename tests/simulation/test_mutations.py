"""The simulation catches an engine that is broken in a known way, and says which rule it broke.

A seed that catches each is written down, so that this is quick; should the engine change so that it
does not any more, others are tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pytest

from simulation.checker import RULES
from simulation.mutations import MUTATIONS, mutated
from simulation.plan import make_scenario
from simulation.run import Simulator

_SEEDS = 2000

#: Mutation → a seed that catches it, and the rules that it may break.
CAUGHT_BY: dict[str, tuple[int, set[str]]] = {
    "outcome_committed_before_the_request": (3, {"nothing claimed that is not so"}),
    "attempt_committed_after_the_request": (3, {"no request without an attempt"}),
    "suppression_checked_once_only": (12, {"nobody who left"}),
    "unknown_counted_as_not_accepted": (6, {"nobody twice"}),
    "server_error_counted_as_not_accepted": (70, {"nobody twice"}),
    "time_out_counted_as_not_accepted": (120, {"nobody twice"}),
    "in_doubt_sent_again_blindly": (22, {"nobody twice"}),
    "batch_done_before_its_rows": (17, {"nobody missing"}),
    "partial_refusal_ignored": (38, {"nothing claimed that is not so"}),
    "look_up_within_the_lag_believed": (14, {"nobody twice"}),
    "event_ignored_for_a_doubt": (3843, {"doubts are held"}),
    "request_of_a_dead_worker_forgotten": (75, {"nobody twice"}),
    "refused_repeat_taken_for_the_first": (304, {"nobody twice"}),
    "repeated_to_somebody_who_left": (1304, {"nobody who left"}),
    "restored_database_trusted": (232, {"nobody twice"}),
    "failed_look_up_believed": (974, {"nobody twice"}),
    "attempt_begun_for_a_stopped_send": (98, {"nothing new once stopped"}),
}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    opened = Simulator()
    yield opened
    opened.close()


def test_every_mutation_has_a_seed() -> None:
    assert set(CAUGHT_BY) == set(MUTATIONS)


@pytest.mark.slow
def test_the_seeds_are_clean_without_a_mutation(simulator: Simulator) -> None:
    for seed in sorted({seed for seed, _ in CAUGHT_BY.values()}):
        world = simulator.run(make_scenario(seed))
        assert world.violation is None, f"make simulate SEED={seed}: {world.violation}"


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUGHT_BY)
def test_a_broken_engine_is_caught(simulator: Simulator, name: str) -> None:
    known, rules = CAUGHT_BY[name]
    assert rules <= set(RULES)
    with mutated(name):
        for seed in chain([known], range(_SEEDS)):
            world = simulator.run(make_scenario(seed))
            if world.violation is not None:
                break
    assert world.violation is not None, f"{_SEEDS} seeds do not catch it"
    print(f"caught by seed {seed}: {world.violation.rule}: {world.violation.text}")
    assert world.violation.rule in rules
