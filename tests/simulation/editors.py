"""The editors: they pause, resume, cancel and decide at planned times, and once the faults are over
they see each send to its end, as the documentation tells them to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, true

from newsletter.delivery import cancel, pause, resolve, resume
from newsletter.errors import NewsletterError, Unreachable
from newsletter.store.schema import attempts, batches, deliveries, ledger, sends
from simulation.outside import OutsideStore
from simulation.plan import Fault

if TYPE_CHECKING:
    from simulation.world import World

SEND = "milia.1"
_RESTORED = "the database was restored"
_REASON = select(sends.c.reason)
_IN_DOUBT = select(deliveries.c.position).where(deliveries.c.state == "in_doubt")
_OPEN_BATCHES = select(func.count()).select_from(batches).where(batches.c.state != "done")
_SITUATION = select(
    sends.c.state, sends.c.reason, _OPEN_BATCHES.scalar_subquery(), ledger.c.quarantine
).join_from(sends, ledger, true())
_LOOKS_EVERY = 12.0
_LOOKS_LATER = 600.0  # where a send takes days, once an hour is over
_GIVES_UP = 0.05  # chance that a held send is cancelled, each time that somebody looks
_DECIDES_AFTER = 6  # resumes of a send whose doubts something could have settled


class Editors:
    """What people do to sends; `resent` is whom they chose to write to again, come what may.

    People are known by their addresses: a send that is filled anew after a restore may have them
    at other positions.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = OutsideStore(world, "editors")
        self.resumed = 0
        self.resent: dict[str, int] = {}  # address → times
        self.abandoned: set[str] = set()

    @property
    def excused(self) -> set[str]:
        """Whose doubts a person decided: what they have may differ from what the ledger says."""
        return self.abandoned | set(self.resent)

    def begin(self) -> None:
        self.world.at(_LOOKS_EVERY, self._look)

    def act(self, fault: Fault) -> None:
        """Carry out one planned deed; those that cannot be done now are refused, and say why."""
        world = self.world
        if fault.what in {"unsubscribes", "suppressed", "erased"}:
            try:
                world.outside.leave(fault)
            except Unreachable as error:
                world.tell("web", f"fails: {error.message}")
            return
        deeds: dict[str, tuple[Any, ...]] = {
            "send paused": (pause,),
            "send resumed": (resume,),
            "send cancelled": (cancel,),
            "doubts resent": (resolve, "resend"),
            "doubts abandoned": (resolve, "abandon"),
        }
        self._do(fault.what, *deeds[fault.what])

    def _do(self, what: str, call: Any, *how: str) -> bool:
        world = self.world
        try:
            with self.store.begin() as connection:
                if how != ("abandon",) and self._is_warned(connection):
                    return False
                doubtful = self._in_doubt(connection)
                call(connection, SEND, *how, world.machines[0].now())
        except NewsletterError as error:
            world.tell("editors", f"{what}: {error.message}")
            return False
        if how == ("resend",):
            for address in doubtful:
                self.resent[address] = self.resent.get(address, 0) + 1
        if how == ("abandon",):
            self.abandoned.update(doubtful)
        world.tell("editors", what)
        world.hit(what)
        return True

    @staticmethod
    def _is_warned(connection: Any) -> bool:
        """Whether the send may have gone already for all that anybody knows: it is left alone."""
        return _RESTORED in connection.execute(_REASON).scalar_one()

    def _in_doubt(self, connection: Any) -> list[str]:
        return [
            self.world.checker.address_of(each) for each in connection.execute(_IN_DOUBT).scalars()
        ]

    # --- after the faults -------------------------------------------------------------------------

    def _look(self) -> None:
        world = self.world
        if world.settled:
            return
        if world.quiet and not world.database_away and not self._attend():
            world.settle()
            return
        now = world.loop.time()
        slowly = world.scenario.takes_days and now > 3600
        world.at(now + (_LOOKS_LATER if slowly else _LOOKS_EVERY), self._look)

    def _attend(self) -> bool:
        """Whether something is left to be done or waited for."""
        with self.store.read() as connection:
            state, reason, open_batches, quarantined = connection.execute(_SITUATION).one()
            doubts = len(self._in_doubt(connection))
        if quarantined:
            self.world.reconcile()
            return True
        if self.world.outside.coming and not (self.world.scenario.impatient and state == "held"):
            return True
        match state:
            case "sent":
                return False
            case "cancelled":
                return bool(open_batches)
            case "paused":
                self._do("send resumed", resume)
                return True
            case "held" if reason.startswith("no message") or _RESTORED in reason:
                return False  # people's data must be mended, or nobody knows that it is safe
            case "held":
                return self._attend_held(doubts)
        return True

    def _attend_held(self, doubts: int) -> bool:
        world = self.world
        only_doubts = doubts and not self._others_unfinished()
        if world.rng.random() < _GIVES_UP:
            return self._do("send cancelled", cancel)
        if self.resumed < _DECIDES_AFTER and not (
            only_doubts and not self.world.scenario.can_ask and self.resumed
        ):
            self.resumed += 1
            self._do("send resumed", resume)
            return True
        choice = self.world.rng.choice(("leave", "doubts resent", "doubts abandoned"))
        if not doubts or choice == "leave":
            return False
        self._do(choice, resolve, "resend" if choice == "doubts resent" else "abandon")
        return True

    def _others_unfinished(self) -> int:
        with self.store.read() as connection:
            query = select(func.count()).where(deliveries.c.state.in_(["pending", "sending"]))
            return int(connection.execute(query).scalar_one())

    def describe(self) -> str:
        """The sends, batches and attempts that are not over."""
        self.world.database_away = 0
        with self.store.read() as connection:
            send = connection.execute(select(sends.c.state, sends.c.reason)).one()
            parts = connection.execute(
                select(batches.c.number, batches.c.state).where(batches.c.state != "done")
            ).all()
            tries = connection.execute(
                select(attempts.c.id, attempts.c.state).where(
                    attempts.c.state.in_(["started", "in_doubt"])
                )
            ).all()
        return (
            f"the send is {send.state} ({send.reason}); batches: {[tuple(p) for p in parts]};"
            f" attempts: {[(t.id[:6], t.state) for t in tries]}"
        )
