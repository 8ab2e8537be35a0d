"""Which faults, states and transitions a number of runs has hit."""

from __future__ import annotations

from collections import Counter

from newsletter.delivery.transitions import ATTEMPT, DELIVERY, SEND
from simulation.database import Change
from simulation.plan import FAULTS
from simulation.scenarios import RARE

_MACHINES = {"send": SEND, "delivery": DELIVERY, "attempt": ATTEMPT}

# Where two events lead from one state to the same one, what is written down tells them apart.
_WORDS = {
    "leave": ("suppressed", "unsubscribed", "bounced", "complained", "forgotten", "gone"),
    "cancel": ("the send was cancelled",),
    "miss": ("a look-up shows",),
    "resend": ("sent again by a person",),
}


def event_of(change: Change, told_by: str) -> str:
    """The event of a change of state, empty where no event leads there. `told_by` is the
    kind of the request that told of the attempt last."""
    machine = _MACHINES[change.what]
    events = [name for name, to in machine.get(change.old, {}).items() if to == change.new]
    if len(events) < 2:
        return events[0] if events else ""
    if change.what == "attempt":
        return "answer" if told_by == "request" else "settle"
    for name in events:
        if change.told.startswith(_WORDS.get(name, ())):
            return name
    return events[0]


def everything() -> list[str]:
    """All that runs should hit: faults, states and transitions."""
    names = [*FAULTS, "template made", "template removed", *RARE]
    for what, machine in _MACHINES.items():
        names += [
            f"{what} is {state}" for state in machine if (what, state) != ("send", "scheduled")
        ]
        names += [f"{what}: {state} + {event}" for state in machine for event in machine[state]]
    return names


def missing(hits: Counter[str]) -> list[str]:
    """What should have been hit and was not."""
    return [name for name in everything() if not hits[name]]


def table(hits: Counter[str]) -> str:
    """How often each was hit."""
    width = max(map(len, everything()))
    return "\n".join(f"{name:<{width}} {hits[name]:>9,}" for name in everything())
