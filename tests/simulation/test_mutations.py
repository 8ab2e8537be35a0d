"""The simulation catches an engine that is broken in a known way, and says which rule it broke.

A seed that catches each is written down, so that this is quick; should the engine change so that it
does not any more, others are tried. `python -m simulation --find-mutations` finds them anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pytest

from simulation.checker import RULES
from simulation.mutations import MUTATIONS, mutated
from simulation.run import Simulator
from simulation.scenarios import make_scenario

_SEEDS = 2000

#: Mutation → a seed that catches it, and the rules that it may break.
CAUGHT_BY: dict[str, tuple[int, set[str]]] = {
    "outcome_committed_before_the_request": (0, {"nothing claimed that is not so"}),
    "attempt_committed_after_the_request": (0, {"no request without an attempt"}),
    "suppression_checked_once_only": (18, {"nobody who left"}),
    "unknown_counted_as_not_accepted": (0, {"nobody twice"}),
    "server_error_counted_as_not_accepted": (0, {"nobody twice"}),
    "time_out_counted_as_not_accepted": (14, {"nobody twice"}),
    "in_doubt_sent_again_blindly": (0, {"nobody twice"}),
    "batch_done_before_its_rows": (2, {"nobody missing", "the ledger verifies"}),
    "partial_refusal_ignored": (3, {"nothing claimed that is not so"}),
    "look_up_within_the_lag_believed": (0, {"nobody twice"}),
    "failed_look_up_believed": (6, {"nobody twice"}),
    "event_ignored_for_a_doubt": (104, {"doubts are held"}),
    "attempt_begun_for_a_stopped_send": (136, {"nothing new once stopped"}),
    "request_of_a_dead_worker_forgotten": (0, {"nobody twice"}),
    "refused_repeat_taken_for_the_first": (41, {"nobody twice"}),
    "key_not_reused": (18, {"nobody twice"}),
    "late_answer_overwrites": (4, {"only along the transitions"}),
    "rows_in_flight_ignore_a_cancel": (19, {"the send ends"}),
    "repeated_to_somebody_who_left": (73, {"nobody who left"}),
    "restored_database_trusted": (180, {"nobody twice", "nothing claimed that is not so"}),
    "batch_in_doubt_moved": (71, {"nobody twice"}),
    "doubts_given_back_to_the_quota": (20, {"the quota holds"}),
    "hours_left_out": (58, {"nothing new outside the hours"}),
    "clone_trusted": (118, {"a clone sends nothing"}),
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
