"""The invariants, each under a name: checked at every commit, request and acceptance, and at the
end against the provider's own record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from newsletter.delivery import status, verify
from newsletter.delivery.transitions import ATTEMPT, DELIVERY, LEFT, SEND
from newsletter.store.schema import attempts, deliveries, eligible, sends, subscribers
from simulation.coverage import event_of
from simulation.database import Change
from simulation.outside import NOON
from simulation.quotas import Quota
from simulation.servers import Acceptance

if TYPE_CHECKING:
    from simulation.network import Request
    from simulation.process import Process
    from simulation.world import World

#: Every rule that a run can break.
RULES = {
    "nobody twice": "the provider takes at most one message for each recipient of a send",
    "nobody missing": "whoever should get the issue has it once the send is over",
    "nobody who left": "who left before their batch's check is in no request after it",
    "nothing new once stopped": "a send that is not `sending` gets no new attempt",
    "no request without an attempt": "its attempt, not over yet, is committed before it leaves",
    "nothing claimed that is not so": "the ledger's outcomes are those of the provider's record",
    "only along the transitions": "a state changes only as delivery/transitions.py says",
    "everybody in the send": "it starts with one row for each eligible person, and no other",
    "doubts are held": "what nothing can settle stays in doubt, and the send is held for a person",
    "the send ends": "once the faults are over, it ends within a bounded time",
    "counts add up": "status counts what the rows say",
    "the ledger verifies": "ledger verify finds nothing, or what is true",
    "nothing in doubt moves": "what one provider may have does not go through another",
    "the quota holds": "no day of the site's zone has more recipients at a provider, doubts too",
    "nothing new outside the hours": "no batch is leased for a new attempt outside the windows",
    "a clone sends nothing": "no request leaves from a copy of the database",
    "no fault inside": "no exception is raised that the engine does not know",
}
_MACHINES = {"send": SEND, "delivery": DELIVERY, "attempt": ATTEMPT}
_BORN = {"delivery": {"pending"}, "attempt": {"started"}}


class Violation(NamedTuple):
    """A rule that was broken, how, and when (seconds)."""

    rule: str
    text: str
    at: float


class Checker:
    """What has been told so far, as far as the rules need it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.commits = 0
        self.left: dict[int, int] = {}  # person → commit
        self.leased: dict[int, int] = {}  # batch → commit of its last lease
        self.open_at_lease: dict[int, bool] = {}  # batch → whether it was within the hours
        self.attempts: dict[str, tuple[int, str]] = {}  # id → batch, state
        self.provider_of: dict[str, str] = {}  # attempt → provider
        self.quota = Quota(world)
        self.person_of: dict[int, int] = {}  # position → person
        self.eligible: list[int] = []  # people when the send started
        self.send_state = "scheduled"
        self.told_of: set[str] = set()  # addresses of which an event was taken in
        self.dropped: set[str] = set()  # addresses of which the provider dropped a message

    # --- as it goes -------------------------------------------------------------------------------

    def committed(self, who: str, told: Sequence[Change]) -> None:
        self.commits += 1
        rows: list[Change] = []
        started = False
        for change in told:
            self._check_transition(who, change)
            match change.what:
                case "delivery" if not change.old:
                    rows.append(change)
                    self.person_of[change.number] = int(change.more)
                case "delivery":
                    self._check_claim(change)
                    if change.new == "in_doubt" and who.startswith("reconcile"):
                        # What was told of it since the restore found no attempt in the ledger.
                        self.told_of.discard(self.address_of(change.number))
                case "attempt":
                    if not change.old:
                        self.provider_of[change.told] = change.more.partition(" ")[0]
                    if not who.startswith("reconcile"):  # it writes down what was made before
                        self._check_begun(change)
                        self._check_hours(who, change)
                    self.attempts[change.told] = (change.number, change.new)
                case "batch" if change.new == "leased":
                    self.leased[change.number] = self.commits
                    self.open_at_lease[change.number] = self._minutes_closed(who) is None
                case "send":
                    started = started or (change.old == "scheduled" and change.new == "sending")
                    self.send_state = change.new
                case "person" if change.new != "active" or change.told:
                    self.left.setdefault(change.number, self.commits)
        if started:
            everybody = range(1, len(self.world.outside.addresses) + 1)
            self.eligible = [person for person in everybody if person not in self.left]
            self.person_of = {row.number: int(row.more) for row in rows}
        if rows or started:
            self._check_made()
        if self.world.scenario.quota:
            self.quota.committed(who, told)

    def _check_transition(self, who: str, change: Change) -> None:
        machine = _MACHINES.get(change.what)
        if machine is None:
            return
        process = self.world.processes.get(who)
        told_by = process.last_told.get(change.told, "") if process else ""
        if not change.old:
            possible = change.new in _BORN.get(change.what, ())
        else:
            event = event_of(change, told_by)
            possible = bool(event)
            self.world.hit(f"{change.what}: {change.old} + {event}")
        if not possible:
            self.world.fail(
                "only along the transitions",
                f"{change.what} {change.number}: {change.old or 'new'} → {change.new}",
            )
        self.world.hit(f"{change.what} is {change.new}")

    def _check_begun(self, change: Change) -> None:
        if change.old:
            return
        if self.send_state != "sending":
            self.world.fail(
                "nothing new once stopped",
                f"attempt {change.told[:6]} is begun, but the send is {self.send_state}",
            )
        provider = self.provider_of[change.told]
        for other, (batch, state) in self.attempts.items():
            is_open = batch == change.number and state in {"started", "in_doubt"}
            if is_open and self.provider_of[other] != provider:
                self.world.fail(
                    "nothing in doubt moves",
                    f"attempt {change.told[:6]} of batch {batch} goes through {provider}, while"
                    f" {other[:6]} is {state} at {self.provider_of[other]}",
                )

    def _check_hours(self, who: str, change: Change) -> None:
        """Who leased a batch within the hours may still send it, for as long as the lease lasts."""
        closed = self.world.scenario.closed
        if closed is None or change.old:
            return
        if self._minutes(who) >= closed[1]:
            self.world.hit("window held back")
        minutes = self._minutes_closed(who)
        if minutes is not None and not self.open_at_lease.get(change.number):
            text = f"attempt {change.told[:6]} is begun {minutes:.1f} min after noon"
            self.world.fail("nothing new outside the hours", f"{text}; closed are {closed}")

    def _minutes_closed(self, who: str) -> float | None:
        """Minutes since noon by a process's clock, where that is outside the hours."""
        closed = self.world.scenario.closed
        if closed is None or who not in self.world.processes:
            return None
        minutes = self._minutes(who)
        return minutes if closed[0] <= minutes < closed[1] else None

    def _minutes(self, who: str) -> float:
        return (self.world.processes[who].machine.now() - NOON).total_seconds() / 60

    def _check_claim(self, change: Change) -> None:
        address = self.address_of(change.number)
        if change.new in LEFT and not self.world.count(address):
            self.world.fail(
                "nothing claimed that is not so",
                f"position {change.number} becomes {change.new}, but the provider has nothing"
                f" for {address}",
            )

    def _check_made(self) -> None:
        """The rows made so far: the people of the start follow one another."""
        people = sorted(self.person_of.values())
        if people != self.eligible[: len(people)]:
            told = f"{len(people)} rows are not the first of {len(self.eligible)} people"
            self.world.fail("everybody in the send", told)
        if len(people) < len(self.eligible):
            self.world.hit("a send is filled in parts")

    def before_request(self, process: Process, request: Request) -> None:
        """A request that may make the provider accept something is about to leave."""
        world = self.world
        if process.called == "clone":
            world.fail("a clone sends nothing", f"request {request.number} of {process.name}")
        attempt = request.server.attempt_of(request)
        world.tell(process.name, f"POST {request.number}, attempt {attempt[:6]}")
        batch, state = self.attempts.get(attempt, (0, ""))
        # A repeat under its key is answered as the first was, whatever was learnt meanwhile.
        repeats = state == "settled" and request.server.kind == "mailbox"
        if state not in {"started", "in_doubt"} and not repeats:
            said = f"is {state}" if state else "is not committed"
            world.fail(
                "no request without an attempt", f"request {request.number}: {attempt[:6]} {said}"
            )
        for address in request.server.addresses_of(request):
            left = self.left.get(world.outside.addresses.index(address) + 1)
            if left is not None and left < self.leased.get(batch, 0):
                world.fail(
                    "nobody who left",
                    f"request {request.number} has {address}, who left before batch {batch}"
                    " was checked",
                )

    def accepted(self, taken: Acceptance) -> None:
        allowed = 1 + self.world.editors.resent.get(taken.address, 0)
        count = self.world.count(taken.address)
        if count > allowed:
            self.world.fail(
                "nobody twice",
                f"{taken.address} (position {taken.position}) is accepted {count} times",
            )

    def address_of(self, position: int) -> str:
        return self.world.outside.addresses[self.person_of[position] - 1]

    def read_again(self) -> None:
        """The database is another than it was: what it tells now is what counts."""
        with self.world.database.store.read() as connection:
            self.send_state = connection.execute(select(sends.c.state)).scalar_one()
            tries = connection.execute(select(attempts)).all()
            people = connection.execute(select(subscribers)).all()
            rows = connection.execute(select(deliveries)).all()
            waiting = connection.execute(select(eligible.c.subscriber_id)).scalars().all()
        self.attempts = {row.id: (row.batch, row.state) for row in tries}
        self.provider_of = {row.id: row.provider for row in tries}
        self.left = {
            row.id: self.commits for row in people if row.state != "active" or row.suppressed
        }
        self.leased.clear()
        self.person_of = {row.position: row.subscriber_id for row in rows}
        self.eligible = sorted([*self.person_of.values(), *waiting])
        self.told_of.clear()

    # --- at the end -------------------------------------------------------------------------------

    def at_the_end(self) -> None:
        """The ledger against the provider's record."""
        world = self.world
        with world.database.store.read() as connection:
            send = connection.execute(select(sends)).one()
            rows = connection.execute(select(deliveries).order_by(deliveries.c.position)).all()
            told = status(connection, world.workspace, "milia.1")
        nobody_can_get_it = send.state == "held" and send.reason.startswith("no message")
        for row in rows:
            if not (nobody_can_get_it and row.state == "pending"):
                self._check_row(row, send.state)
        if send.unfilled and send.state != "held":
            world.fail("everybody in the send", f"{send.unfilled} have no row: it is {send.state}")
        counts = Counter(row.state for row in rows) + Counter(pending=send.unfilled)
        shown = {state: number for state, number in told["counts"].items() if number}
        true = {**counts, "total": len(rows) + send.unfilled} if rows else {}
        if shown != true:
            world.fail("counts add up", f"status says {shown}, the rows are {true}")
        if send.state not in {"sent", "cancelled", "held"}:
            world.fail("the send ends", f"it is {send.state}")
        report = verify(world.database.store, "milia.1")
        excused = bool(world.editors.resent)
        wrong = [text for text in report["violations"] if not (excused and text.startswith("[4]"))]
        if wrong:
            world.fail("the ledger verifies", "; ".join(wrong))

    def _check_row(self, row: Any, send_state: str) -> None:
        world = self.world
        address = self.address_of(row.position)
        has = world.count(address)
        what = f"position {row.position} is {row.state}"
        if row.state in LEFT:
            if not has:
                world.fail("nothing claimed that is not so", f"{what}; the provider has nothing")
            return
        excused = address in world.editors.excused | self.dropped
        match row.state:
            case "rejected":
                if has and not excused:
                    world.fail("nothing claimed that is not so", f"{what}; the provider has it")
                refused = world.inactive | world.outside.too_large
                if address not in refused and not excused and row.email:
                    world.fail("nobody missing", f"{what}, and nothing was wrong with them")
            case "skipped":
                if has and not excused:
                    world.fail("nothing claimed that is not so", f"{what}; the provider has it")
                left = self.person_of[row.position] in self.left
                if not (left or excused or send_state == "cancelled"):
                    world.fail("nobody missing", f"{what}, but they had not left")
            case "in_doubt":
                if address in self.told_of:
                    world.fail("doubts are held", f"{what}, but an event has told of it")
                if send_state not in {"held", "cancelled"}:
                    world.fail("doubts are held", f"{what}, but the send is {send_state}")
                if send_state == "held" and world.scenario.can_ask:
                    world.fail("doubts are held", f"{what}, but a look-up could settle it")
            case _:
                if send_state != "held" or world.scenario.can_ask:
                    world.fail("nobody missing", f"{what}, and the send is {send_state}")
