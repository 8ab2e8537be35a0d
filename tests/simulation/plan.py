"""What a seed stands for: a scenario, which is settings and a schedule of faults.

Faults are data, named in plain words, so that a schedule can be printed and shortened. A fault
strikes the n-th commit, request, look-up, webhook or recipient, or at a time in seconds.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

#: Fault → where it strikes and what its number means; the table of coverage is made from this.
FAULTS: dict[str, tuple[str, str]] = {
    # the process and its database
    "killed before a commit": ("commit", ""),
    "killed after a commit": ("commit", ""),
    "stopped after a commit": ("commit", ""),
    "database busy": ("commit", ""),
    "disk full": ("commit", ""),
    "commit's answer lost": ("commit", ""),
    "database away": ("time", "seconds"),
    "database restored": ("time", "seconds of age"),
    "killed": ("time", ""),
    "stopped": ("time", "seconds"),
    "asked to end": ("time", ""),
    "clock set forward": ("time", "seconds"),
    "clock set back": ("time", "seconds"),
    # requests
    "killed before a request": ("request", ""),
    "killed during a request": ("request", ""),
    "stopped during a request": ("request", "seconds"),
    "no connection": ("request", ""),
    "request lost": ("request", ""),
    "answer lost": ("request", ""),
    "answer too slow": ("request", ""),
    "accepted late": ("request", "share of the lag"),
    "throttled": ("request", "Retry-After in seconds"),
    "throttled without a time": ("request", ""),
    "error before acceptance": ("request", ""),
    "error after acceptance": ("request", ""),
    "HTML before acceptance": ("request", ""),
    "HTML after acceptance": ("request", ""),
    "answer cut short": ("request", ""),
    "accepted in part": ("request", ""),
    "provider down": ("time", "seconds"),
    "credentials refused": ("time", "seconds"),
    # look-ups
    "look-up fails": ("look-up", ""),
    "look-up answered with HTML": ("look-up", ""),
    "look-up lost": ("look-up", ""),
    # recipients
    "inactive recipient": ("recipient", ""),
    "recipient put off": ("recipient", "times"),
    "message too large": ("recipient", ""),
    # webhooks
    "webhook lost": ("webhook", ""),
    "webhook replayed": ("webhook", ""),
    "webhook late": ("webhook", "seconds"),
    "webhook before the answer": ("webhook", ""),
    # people and editors
    "unsubscribes": ("time", ""),
    "suppressed": ("time", ""),
    "erased": ("time", ""),
    "send paused": ("time", ""),
    "send resumed": ("time", ""),
    "send cancelled": ("time", ""),
    "doubts resent": ("time", ""),
    "doubts abandoned": ("time", ""),
}

_SPREAD = {"commit": 20, "request": 5, "look-up": 4, "recipient": 8, "webhook": 8}
KINDS = (
    "mailbox",
    "mailbox without keys",
    "postmark",
    "postmark with templates",
    "sendgrid",
    "neither",
)
_ONCE = ("message too large", "database restored")
_LEADS_TO_LOOK_UP = {
    "send cancelled",
    "unsubscribes",
    "suppressed",
    "erased",
    "inactive recipient",
    "database restored",
}
# Shares of the seeds in which something is planned that chance alone brings about too rarely.
_DECIDED = 0.1
_SLEPT = 0.06
DOUBTS = ("answer lost", "answer too slow", "error after acceptance", "killed during a request")
_DECISIONS = ("doubts resent", "doubts abandoned")
LONG = ("clock set forward", "clock set back")


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """`at` counts from 0 at a site, or is a time in seconds; `who` picks a worker or a person."""

    site: str
    at: float
    what: str
    value: float = 0.0
    who: int = 0

    def __str__(self) -> str:
        where = f"at {self.at:6.1f} s" if self.site == "time" else f"{self.site} {self.at:.0f}"
        meaning = FAULTS[self.what][1]
        value = f" ({meaning}: {self.value:.1f})" if meaning else ""
        who = f", of number {self.who}" if self.site == "time" else ""
        return f"{where}: {self.what}{value}{who}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Durations are in seconds."""

    seed: int
    kind: str
    people: int
    batch: int
    workers: int
    machines: int
    in_flight: int
    lease: float
    timeout: float
    lag: float
    latency: float
    poll: float
    patience: float
    preempted: float  # chance of each transaction
    events: float  # chance of each message
    drift: float
    shared_mark: bool  # one workspace for all machines, or one each
    rate: float | None  # recipients a second
    breaker_after: int  # failures
    breaker_pause: float
    canary: int  # recipients; 0 is none
    late: bool  # it is found after its grace, and held
    impatient: bool  # editors decide about doubts before all webhooks have come
    stand_in: str = ""  # kind of the provider that the first one fails over to
    begins: float = 0.0  # seconds after noon
    quota: int = 0  # recipients a day; 0 is any number
    warm_up: bool = False  # the quota is that of a first day, and the second has twice as many
    clone_at: float | None = None  # seconds, when a copy of the database is started beside it
    closed: tuple[int, int] | None = None  # minutes after noon between two windows
    faults: tuple[Fault, ...] = field(default=())

    @property
    def kinds(self) -> dict[str, str]:
        """What the providers are, by name: the send's own is first."""
        others = {"second": self.stand_in} if self.stand_in else {}
        return {"main": self.kind, **others}

    @property
    def takes_days(self) -> bool:
        """Whether the send may have to wait for other days."""
        return self.quota > 0

    @property
    def can_ask(self) -> bool:
        """Whether every provider can be asked what it has."""
        return "neither" not in self.kinds.values()

    def __str__(self) -> str:
        return (
            f"{self.kind}; {self.people} people in batches of {self.batch}; {self.workers} workers"
            f" on {self.machines} machines, {self.in_flight} requests in flight each;"
            f" lease {self.lease:.0f} s, time-out {self.timeout:.0f} s, lag {self.lag:.0f} s;"
            f" rate {self.rate or 'none'}, breaker after {self.breaker_after} failures,"
            f" canary {self.canary or 'none'}, stand-in {self.stand_in or 'none'},"
            f" quota {self.quota or 'none'}{' to warm up' if self.warm_up else ''},"
            f" closed {self.closed or 'never'},"
            f" clone {'none' if self.clone_at is None else f'at {self.clone_at:.0f} s'}"
        )


def usual_scenario(seed: int) -> Scenario:
    """The scenario of a seed, without what few seeds have; always the same."""
    rng = random.Random(f"{seed}/plan")
    settings = random.Random(f"{seed}/settings")
    workers = (
        rng.choice((1, 1, 1, 1, 2, 2, 2, 2, 3, 3)) if rng.random() < 0.95 else rng.randint(4, 10)
    )
    people = rng.randint(4, 10) if rng.random() < 0.9 else rng.randint(11, 60)
    batch = rng.randint(2, 5) if people < 11 else rng.randint(5, 8)
    timeout = rng.uniform(3, 10)
    scenario = Scenario(
        seed=seed,
        kind=rng.choice(KINDS),
        people=people,
        batch=batch,
        workers=workers,
        machines=rng.randint(1, workers),
        in_flight=rng.randint(1, 4),
        lease=rng.uniform(8, 40),
        timeout=timeout,
        lag=rng.uniform(4, 20),
        latency=rng.choice((0.02, 0.5, 2.5)),
        poll=rng.uniform(15, 60),
        patience=rng.choice((60.0, 300.0)),
        preempted=rng.choice((0.0, 0.0, 0.05, 0.3)),
        events=rng.choice((0.0, 0.0, 0.0, 0.4, 1.0)),
        drift=rng.choice((0.0, 0.0, 0.003)),
        shared_mark=rng.random() < 0.7,
        rate=settings.choice((None, None, None, 2.0)),
        breaker_after=settings.choice((2, 5, 5)),
        breaker_pause=settings.uniform(5, 30),
        canary=settings.choice((0, 0, 0, 0, 0, 2)),
        late=settings.random() < 0.03,
        impatient=False,
    )
    special = random.Random(f"{seed}/special")
    share = special.random()
    if share < _DECIDED:
        scenario = _decided(special, scenario)
    elif share < _DECIDED + _SLEPT:
        scenario = _slept(special, scenario)
    return replace(scenario, faults=tuple(_faults(rng, scenario)))


def _decided(rng: random.Random, scenario: Scenario) -> Scenario:
    """Doubts, and a person who decides about them while the provider's events are on their way."""
    faults = [
        Fault("request", float(number), rng.choice(DOUBTS), rng.random(), rng.randrange(1000))
        for number in range(rng.randint(1, 4))
    ]
    at = rng.uniform(4, 16)
    for what in ("send paused", rng.choice(_DECISIONS), rng.choice((*_DECISIONS, "send resumed"))):
        faults.append(Fault("time", round(at, 2), what))
        at += rng.uniform(0.5, 12)
    kind = rng.choice(("neither", scenario.kind))
    return replace(
        scenario,
        kind=kind,
        people=rng.choice((scenario.people, scenario.batch)),  # one batch, which is all in doubt
        events=1.0,
        impatient=True,
        faults=tuple(faults),
    )


def _slept(rng: random.Random, scenario: Scenario) -> Scenario:
    """Workers that sleep while their answer waits, and somebody else settles what they asked."""
    scenario = replace(
        scenario,
        kind=rng.choice(("postmark", "postmark with templates", scenario.kind)),
        workers=max(scenario.workers, 2),
        machines=max(scenario.workers, 2),
    )
    what = "stopped during a request"
    faults = [
        Fault("request", float(number), what, 2 * _value(rng, what, scenario))
        for number in range(rng.randint(1, 2))
    ]
    if scenario.kind.startswith("postmark"):
        faults += [
            Fault("recipient", float(person), "recipient put off", 1.0)
            for person in rng.sample(range(scenario.people), 3)
        ]
    return replace(scenario, faults=tuple(faults))


def _faults(rng: random.Random, scenario: Scenario) -> list[Fault]:
    """Some kinds of faults only: a seed that has all of them tries few to their end."""
    possible = [what for what in FAULTS if _possible(what, scenario)]
    kinds = rng.sample(possible, min(len(possible), rng.choice((1, 2, 4, 8, 16))))
    faults = {(fault.site, fault.at): fault for fault in scenario.faults}
    for what in kinds:
        site = FAULTS[what][0]
        for _ in range(_times(rng, what, site, scenario)):
            at = (
                round(rng.expovariate(1 / 8), 2)
                if site == "time"
                else float(int(rng.random() ** 1.5 * _SPREAD[site]))
            )
            fault = Fault(site, at, what, _value(rng, what, scenario), rng.randrange(1000))
            faults.setdefault((site, at), fault)
    planned = sorted(faults.values())
    looks_up = scenario.events > 0 or any(fault.what in _LEADS_TO_LOOK_UP for fault in planned)
    if scenario.kind == "mailbox" and looks_up:
        # A clock that is set cuts a look-up's lag short: the documented hole.
        planned = [fault for fault in planned if fault.what not in LONG]
    return planned


def _times(rng: random.Random, what: str, site: str, scenario: Scenario) -> int:
    if what in _ONCE or (what, scenario.kind) == ("inactive recipient", "sendgrid"):
        return 1  # of everybody in a request it would be the request's fault
    # Only a look-up that fails when its answer would count is worth something.
    return rng.choice((4, 6) if site == "look-up" else (1, 1, 2, 4))


def _possible(what: str, scenario: Scenario) -> bool:
    site = FAULTS[what][0]
    if site == "look-up":
        return scenario.kind != "neither"
    if what in {"accepted in part", "recipient put off"}:
        return scenario.kind.startswith("postmark")
    if site == "webhook":
        return scenario.events > 0
    if what == "database restored":
        return scenario.shared_mark
    if what in LONG:
        return scenario.kind in {"mailbox", "neither"}
    return True


def _value(rng: random.Random, what: str, scenario: Scenario) -> float:
    match what:
        case "database away" | "provider down" | "credentials refused":
            return rng.uniform(0.5, 20)
        case "database restored":
            return rng.expovariate(1 / 6)
        case "stopped":
            return scenario.lease * rng.uniform(0.2, 2.5)
        case "stopped during a request":
            longest = scenario.lease + scenario.timeout + scenario.lag + scenario.poll
            return rng.uniform(0.2, 1.2) * longest
        case "clock set forward" | "clock set back":
            return rng.choice((rng.uniform(1, 60), rng.uniform(60, 900)))
        case "accepted late":
            return rng.random()
        case "throttled":
            return float(rng.randint(1, 60))
        case "recipient put off":
            return float(rng.randint(1, 3))
        case "webhook late":
            return rng.uniform(10, 600)
    return 0.0
