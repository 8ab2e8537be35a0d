"""Fault switches: what the mailbox gets wrong on purpose, each by a probability and a seed.

A decision depends on the seed, the fault and how often that fault was asked for, so the same
requests in the same order meet the same faults. It knows nothing of HTTP or storage.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from newsletter.errors import BadInput

#: What each fault does, in the words of `newsletter mailbox --help`.
FAULTS: Mapping[str, str] = {
    "latency": "wait `seconds` (1) before working on a batch",
    "rate_limit": "answer 429 with Retry-After: `seconds` (1)",
    "error_before": "answer 500 without accepting",
    "error_after": "accept, and answer 500",
    "drop_before": "drop the connection without accepting",
    "drop_after": "accept, and drop the connection",
    "html": "accept, and answer a page of HTML",
    "slow": "accept, and answer one byte every `seconds` (1)",
    "refuse": "refuse one message of a batch",
    "lookup_error": "answer 500 to a look-up",
    "webhook_lost": "never post an event",
    "webhook_repeated": "post an event twice",
}

_SETTING = re.compile(r"([a-z_-]+)=([0-9.]+)(?::([0-9.]+)s?)?(?:\*([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """How often: a `probability`, and at most `times` (no limit when None)."""

    probability: float = 0.0
    times: int | None = None
    seconds: float = 1.0


class Faults:
    """The switches of one server; they may be changed while it runs."""

    def __init__(self, settings: Mapping[str, Fault] | None = None, seed: int = 0) -> None:
        self.seed = seed
        self._faults = dict(settings or {})
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def strikes(self, name: str) -> Fault | None:
        """The fault if it is to happen now; this is one of its decisions."""
        with self._lock:
            fault = self._faults.get(name)
            if fault is None:
                return None
            self._asked[name] += 1
            if _chance(self.seed, name, self._asked[name]) >= fault.probability:
                return None
            if fault.times is not None:
                if fault.times < 1:
                    return None
                self._faults[name] = replace(fault, times=fault.times - 1)
            return fault

    def describe(self) -> dict[str, Any]:
        """The switches as JSON: `{seed, faults: {name: {probability, times, seconds}}}`."""
        with self._lock:
            return {
                "seed": self.seed,
                "faults": {name: asdict(fault) for name, fault in self._faults.items()},
            }

    def change(self, document: Any) -> None:
        """Set the faults that `document` names: what `describe` shows, or the faults alone.

        Each is as `describe` shows it or a bare probability; one with `times` alone is certain,
        and null switches one off. Raises `BadInput`, and then changes nothing.
        """
        if not isinstance(document, dict):
            raise BadInput("faults: not a JSON object")
        faults = document.get("faults", {})
        if not isinstance(faults, dict):
            raise BadInput("faults: not a JSON object")
        named = {**{n: v for n, v in document.items() if n not in {"seed", "faults"}}, **faults}
        changes = {name: _read(name, value) for name, value in named.items()}
        seed = document.get("seed", self.seed)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise BadInput("seed: not a whole number")
        with self._lock:
            if seed != self.seed or "seed" in document:
                self.seed = seed
                self._asked.clear()
            self._faults.update({n: fault for n, fault in changes.items() if fault is not None})
            for name in [n for n, fault in changes.items() if fault is None]:
                self._faults.pop(name, None)


def parse_fault(text: str) -> tuple[str, Fault]:
    """`drop-after=0.05`, `latency=1:0.2s` or `drop-after=1*3` (three times). Raises `BadInput`."""
    match = _SETTING.fullmatch(text.strip())
    if not match:
        raise BadInput(
            f"--fault: cannot be read: {text!r}", hint="Write for example drop-after=0.05."
        )
    name, probability, seconds, times = match.groups()
    document: dict[str, Any] = {"probability": _number(probability)}
    if seconds:
        document["seconds"] = _number(seconds)
    if times:
        document["times"] = int(times)
    name = name.replace("-", "_")
    fault = _read(name, document)
    assert fault is not None
    return name, fault


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise BadInput(f"--fault: not a number: {text!r}") from error


def _read(name: str, value: Any) -> Fault | None:
    if name not in FAULTS:
        raise BadInput(f"faults: no fault {name!r}", hint=f"Faults: {', '.join(FAULTS)}.")
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = {"probability": value}
    if not isinstance(value, dict) or set(value) - {"probability", "times", "seconds"}:
        raise BadInput(f"faults.{name}: give probability, times and seconds, or a probability")
    times = value.get("times")
    probability = value.get("probability", 0.0 if times is None else 1.0)
    seconds = value.get("seconds", 1.0)
    if times is not None and (not isinstance(times, int) or isinstance(times, bool) or times < 0):
        raise BadInput(f"faults.{name}.times: not a count: {times!r}")
    for key, number, highest in (("probability", probability, 1), ("seconds", seconds, 3600)):
        if not isinstance(number, int | float) or not 0 <= number <= highest:
            raise BadInput(f"faults.{name}.{key}: not between 0 and {highest}: {number!r}")
    return Fault(float(probability), times, float(seconds))


def _chance(seed: int, name: str, count: int) -> float:
    digest = hashlib.sha256(f"{seed}/{name}/{count}".encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56
