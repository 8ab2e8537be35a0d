"""`make simulate`: one seed with all that happens in it, or any number of them on all cores."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice, repeat

from simulation.coverage import missing, table
from simulation.mutations import MUTATIONS, mutated
from simulation.run import Simulator
from simulation.scenarios import make_scenario
from simulation.seeds import base_of_day

_CHUNK = 25
_COVERS_ALL = 2000  # from as many seeds on, everything must have been hit
_SHOWN = 3

_simulator: Simulator | None = None


def _open() -> None:
    global _simulator
    _simulator = Simulator()


def _run(first: int, count: int) -> tuple[int, Counter[str], list[str]]:
    assert _simulator is not None
    _simulator.hits.clear()
    failures = [
        str(failure)
        for seed in range(first, first + count)
        if (failure := _simulator.run_seed(seed)) is not None
    ]
    return count, _simulator.hits, failures


def one(seed: int) -> int:
    """Print everything that happens in one seed; a failure with its shortest schedule as well."""
    simulator = Simulator()
    scenario = make_scenario(seed)
    print(f"seed {seed}: {scenario}")
    for fault in scenario.faults:
        print(f"    {fault}")
    print("  seconds  who         what")
    world = simulator.run(scenario)
    print("\n".join(world.trace))
    if world.violation is None:
        print(f"every rule holds: {len(world.record)} messages were accepted")
        return 0
    print(f"\n{simulator.run_seed(seed)}")
    return 1


def many(first: int, number: int, workers: int) -> int:
    """Run seeds on all cores; true to the shell if a rule was broken or something never hit."""
    print(f"seeds {first} to {first + number - 1} on {workers} processes")
    starts = iter(range(first, first + number, _CHUNK))
    began, done, broken = time.monotonic(), 0, 0
    hits: Counter[str] = Counter()
    with ProcessPoolExecutor(workers, initializer=_open) as pool:

        def begin(start: int) -> Future[tuple[int, Counter[str], list[str]]]:
            return pool.submit(_run, start, min(_CHUNK, first + number - start))

        running = {begin(start) for start in islice(starts, workers * 2)}
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                count, hit, failures = future.result()
                done += count
                hits += hit
                for text in failures:
                    broken += 1
                    if broken <= _SHOWN:
                        print(f"\n{text}\n")
                if (start := next(starts, None)) is not None and broken < _SHOWN:
                    running.add(begin(start))
            _progress(done, number, broken, time.monotonic() - began)
    seconds = time.monotonic() - began
    print(f"\n{table(hits)}\n")
    print(f"{done:,} seeds in {seconds:.0f} s, {done / seconds:.1f} a second; {broken} failed")
    never = missing(hits) if number >= _COVERS_ALL and not broken else []
    for name in never:
        print(f"never hit: {name}")
    return 1 if broken or never else 0


def find_mutations(seeds: int, workers: int) -> int:
    """Print `CAUGHT_BY` anew: for each mutation the first seed that catches it, with the rules that
    are known for it and the one that was broken."""
    from simulation.test_mutations import CAUGHT_BY

    lost = 0
    with ProcessPoolExecutor(workers, initializer=_open) as pool:
        for name, found in zip(MUTATIONS, pool.map(_find, MUTATIONS, repeat(seeds)), strict=True):
            if found is None:
                lost += 1
                print(f"    # {name}: {seeds} seeds do not catch it")
                continue
            seed, rule = found
            rules = sorted({rule} | CAUGHT_BY.get(name, (0, set()))[1])
            spelt = ", ".join(f'"{rule}"' for rule in rules)
            print(f'    "{name}": ({seed}, {{{spelt}}}),', flush=True)
    return 1 if lost else 0


def _find(name: str, seeds: int) -> tuple[int, str] | None:
    assert _simulator is not None
    with mutated(name):
        for seed in range(seeds):
            violation = _simulator.run(make_scenario(seed)).violation
            if violation is not None:
                return seed, violation.rule
    return None


def _progress(done: int, number: int, broken: int, seconds: float) -> None:
    if sys.stderr.isatty():
        left = seconds / done * (number - done)
        text = f"{done:,} of {number:,} seeds, {done / seconds:.1f} a second, {left:.0f} s left"
        sys.stderr.write(f"\r{text}, {broken} failed ")
        sys.stderr.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one and print all that happens")
    parser.add_argument("-n", "--number", type=int, default=_COVERS_ALL, help="how many seeds")
    parser.add_argument("--first", type=int, default=base_of_day(), help="the first; today's")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--find-mutations", action="store_true", help="a seed that catches each, for test_mutations"
    )
    given = parser.parse_args()
    if given.seed is not None:
        return one(given.seed)
    if given.find_mutations:
        return find_mutations(given.number, given.workers)
    return many(given.first, given.number, given.workers)


if __name__ == "__main__":
    sys.exit(main())
