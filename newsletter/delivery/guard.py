"""The restore guard: nothing is sent from a database that is behind what was sent, or is a copy.

It compares the database with the mark outside it and with the place where it lives, and asks the
provider about sends that this process did not start. What makes a database fit to send again is
decided in `reconciling`. The cases are listed in docs/delivery.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, exists, func, select, update

from newsletter.delivery.attempts import attempt_key
from newsletter.delivery.leases import worked_on
from newsletter.delivery.mark import Position
from newsletter.delivery.notices import hold
from newsletter.delivery.runtime import DeliveryRuntime, Unheard
from newsletter.delivery.start import is_due
from newsletter.errors import NewsletterError
from newsletter.outbox import notify_editors
from newsletter.providers.base import FindsSends, Found, FoundSend, Provider
from newsletter.store.place import Place, locate, moved, other_timeline, same_path
from newsletter.store.schema import batches, ledger, sends
from newsletter.store.types import to_microseconds

_log = logging.getLogger(__name__)
_PROBES = 3  # batches of a send that the provider is asked about, and its last one

_LEDGER = select(ledger)
_QUARANTINE = select(ledger.c.quarantine)
_QUARANTINE_AND_RESTORE = select(ledger.c.quarantine, ledger.c.restored_at)
_COUNT = (
    update(ledger)
    .values(sequence=ledger.c.sequence + 1)
    .where(ledger.c.quarantine == "")
    .returning(ledger.c.database, ledger.c.sequence, ledger.c.former)
)
_OPEN = select(batches.c.number, batches.c.tries, batches.c.provider).where(
    batches.c.send_id == bindparam("b_send"), batches.c.state == "open"
)
_FIRST_OPEN = _OPEN.order_by(batches.c.number).limit(_PROBES)
_LAST_OPEN = _OPEN.order_by(batches.c.number.desc()).limit(1)
_HAS_SENDS = select(exists(sends))
_TO_TAKE_UP = select(sends).where(is_due() | worked_on()).order_by(sends.c.id)

ProviderOf = Callable[[str], Provider]


@dataclass(frozen=True, slots=True)
class Alarm:
    """Why nothing may be sent: a cause for the code, the reason for people."""

    cause: str  # behind, other, moved, unmarked, told
    reason: str


class NotCounted(Exception):
    """An attempt may not be made: the database is quarantined, or must be by this alarm."""

    def __init__(self, alarm: Alarm | None) -> None:
        super().__init__(alarm)
        self.alarm = alarm


def quarantine(connection: Connection) -> str:
    """Why nothing is sent from this database; '' while all is well."""
    return str(connection.execute(_QUARANTINE).scalar_one())


def stand(runtime: DeliveryRuntime) -> str:
    """Look at the database, its place and the mark: why nothing may be sent, '' if all is well.

    Called at every look at the house. Raises `Unreachable` where the mark cannot be kept.
    """
    seen = runtime.mark.read()  # first: whatever it says was committed before it was written
    with runtime.store.read() as connection:
        row = connection.execute(_LEDGER).one()
        place = locate(connection)
        sent = row.sequence > 0 or bool(connection.execute(_HAS_SENDS).scalar_one())
    if row.quarantine:
        return str(row.quarantine)
    alarm = against_mark(row, seen) or _of_place(row, place, seen, sent, runtime)
    if alarm is not None:
        with runtime.store.begin() as connection:
            trip(connection, runtime, alarm)
            return quarantine(connection)
    if row.place != place:
        with runtime.store.begin() as connection:
            settled = ledger.c.quarantine == ""
            connection.execute(update(ledger).values(place=dict(place)).where(settled))
    if seen is None or seen.database != row.database:
        runtime.mark.note(Position(row.database, row.sequence))
    return ""


def against_mark(row: Row[Any], seen: Position | None) -> Alarm | None:
    """What a mark says against the database whose row of `ledger` this is."""
    if seen is None or not seen.sequence or seen.database in row.former:
        return None
    if seen.database != row.database:
        return Alarm(
            "other",
            "this is another database than the one that the workspace has sent from "
            f"({seen.sequence} requests): var/ledger.mark names {seen.database[:8]}, this one is "
            f"{row.database[:8]}",
        )
    missing = seen.sequence - row.sequence
    if missing <= 0:
        return None
    noun = "request is" if missing == 1 else "requests are"
    return Alarm(
        "behind",
        f"the database was restored from an older state: at least {missing} {noun} missing in it "
        "that were sent",
    )


def _of_place(
    row: Row[Any], place: Place, seen: Position | None, sent: bool, runtime: DeliveryRuntime
) -> Alarm | None:
    """What the place says; a database from which nothing can have been sent may be anywhere."""
    if not sent:
        return None
    difference = moved(row.place, place)
    replaced = seen is not None and same_path(row.place, place)  # and nothing was sent since
    if difference and not replaced:
        return Alarm(
            "moved",
            f"the database is a copy, or was moved: {difference}. The original may be sending, or "
            "may have sent more",
        )
    if seen is None and other_timeline(row.place, place):
        return Alarm(
            "moved",
            "the database's cluster was failed over or recovered, and no mark in this workspace "
            "tells that it has everything that was sent",
        )
    if seen is None and runtime.mark.durable and runtime.store.is_sqlite and row.sequence:
        return Alarm(
            "unmarked",
            f"var/ledger.mark is gone, though {row.sequence} requests were made from this "
            "database: nothing tells whether it is the latest state of it",
        )
    return None


def count_attempt(connection: Connection, seen: Position | None) -> Position:
    """Count an attempt in its own transaction; `seen` is the mark as read before that began.

    The count grows by one with each attempt, whoever makes it, so that it must be beyond a mark
    that was there already. Raises `NotCounted`: then the transaction is to be given up.
    """
    row = connection.execute(_COUNT).one_or_none()
    if row is None:
        raise NotCounted(None)
    position = Position(row.database, row.sequence)
    if seen is not None and seen == position:
        raise NotCounted(Alarm("behind", "the database went back while it was sent from"))
    alarm = against_mark(row, seen)
    if alarm is not None:
        raise NotCounted(alarm)
    return position


def trip(connection: Connection, runtime: DeliveryRuntime, alarm: Alarm) -> bool:
    """Quarantine the database, for every worker, and tell the editors; false if it is already."""
    now = runtime.clock.now()
    statement = (
        update(ledger)
        .values(quarantine=alarm.reason, cause=alarm.cause, quarantined_at=now)
        .where(ledger.c.quarantine == "")
        .returning(ledger.c.database)
    )
    database = connection.execute(statement).scalar_one_or_none()
    if database is None:
        return False
    _log.error("sending is quarantined: %s", alarm.reason)
    notify_editors(
        connection,
        runtime.workspace,
        now,
        cause=f"ledger:{database}:{to_microseconds(now)}",
        subject="Nothing is sent: the database is not the one that was last sent from",
        text=f"Sending is quarantined: {alarm.reason}.\n\n"
        "Nothing leaves until the ledger has caught up with the providers:\n"
        "`newsletter ledger reconcile`. See before that nothing else still sends from the "
        "original. Who unsubscribed after the state that was restored is not known in it: "
        "suppress them first.",
    )
    return True


# --- what the provider was told -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Probe:
    """One request that this database has not made: nobody can know its key unless it is behind."""

    send_id: int
    batch: int
    number: int
    key: str
    provider: str
    since: datetime


class Questions:
    """The sends that one engine meets, and what their providers say before it goes on with them.

    A send that this process started needs no question. `runtime.met` remembers them. A question
    that fails is asked again, and a send that had begun does not go on before it is answered.
    """

    def __init__(self, runtime: DeliveryRuntime, provider_of: ProviderOf) -> None:
        self.runtime = runtime
        self.provider_of = provider_of

    def allow(self, send_id: int) -> bool:
        """Whether the engine may work on the send: it was met before, or is new."""
        return send_id in self.runtime.met

    def are_open(self, met: Iterable[int]) -> bool:
        """Whether there may be something to ask about these sends, or an answer to wait for."""
        return bool(self.runtime.unheard) or any(not self.allow(send_id) for send_id in met)

    def next_at(self) -> datetime | None:
        """When the next of the questions that failed is asked again."""
        return min((each.again_at for each in self.runtime.unheard.values()), default=None)

    async def ask(self) -> bool:
        """Ask about every send that is met for the first time; true if one of them may go on."""
        runtime = self.runtime
        with runtime.store.read() as connection:
            why, restored_at = connection.execute(_QUARANTINE_AND_RESTORE).one()
            if why:
                return False
            met = _to_take_up(connection, runtime.clock.now())
            strange = [row for row in met if row.id not in runtime.met]
        waiting = {row.id for row in strange}
        for over in [each for each in runtime.unheard if each not in waiting]:
            del runtime.unheard[over]
        going_on = False
        for send in strange:
            if not self._is_time(send.id):
                continue
            answers = await self._answers(send)
            if self._known_there(send, answers) or quarantined(runtime):
                return True
            if restored_at is not None and send.state == "scheduled":
                await self._ask_by_name(send, restored_at)
            failed = [(probe, found) for probe, found in answers if not found.conclusive]
            begun = send.filled_at is not None  # else its first request tells what is wrong
            if begun and failed and not self._may_go_unheard(send, *failed[0]):
                continue
            runtime.unheard.pop(send.id, None)
            runtime.met.add(send.id)
            going_on = True
        return going_on

    def _is_time(self, send_id: int) -> bool:
        """Whether to ask now; at once after a clock that was set back."""
        before, now = self.runtime.unheard.get(send_id), self.runtime.clock.now()
        return before is None or not before.asked_at <= now < before.again_at

    def _may_go_unheard(self, send: Row[Any], probe: _Probe, found: Found) -> bool:
        """Plan the next question, or end them where look-ups do not work for long.

        A person decides then; a send that a person had let go on before is not held once more.
        """
        runtime, policy, now = self.runtime, self.runtime.policy, self.runtime.clock.now()
        before = runtime.unheard.get(send.id)
        since, asked = (now, 1) if before is None else (before.since, before.asked + 1)
        if now - since <= policy.hold_after or asked < policy.fewest_looks:
            again_at = now + policy.wait(asked + 2, runtime.rng)
            runtime.unheard[send.id] = Unheard(since, asked, now, again_at)
            return False
        if send.released_at is not None:
            return True
        reason = f"{probe.provider} cannot be asked whether it has messages of this send that the "
        reason += f"database knows nothing of: {found.reason}"
        with runtime.store.begin() as connection:
            hold(connection, runtime, send.id, reason, cause="unheard")
        del runtime.unheard[send.id]
        return False

    async def _answers(self, send: Row[Any]) -> list[tuple[_Probe, Found]]:
        """What the provider knows of requests that this database has not made yet."""
        runtime = self.runtime
        if send.state == "cancelled":
            return []  # nothing more is sent for it
        if send.created_at >= runtime.began and send.state == "scheduled":
            return []  # made while this process was here
        with runtime.store.read() as connection:
            probes = _probes(connection, send, runtime.workspace.key)
        answers = await asyncio.gather(*[self._find(probe) for probe in probes])
        return list(zip(probes, answers, strict=True))

    def _known_there(self, send: Row[Any], answers: list[tuple[_Probe, Found]]) -> bool:
        """Whether the provider knows of such a request; then the alarm is raised."""
        runtime = self.runtime
        for probe, found in answers:
            if not found.messages:
                continue
            with runtime.store.begin() as connection:
                if _was_made(connection, probe):  # meanwhile, by another worker
                    continue
                reason = (
                    f"the provider {probe.provider} has messages of {send.send} that this database "
                    "knows nothing of: it was restored from an older state, or is a copy"
                )
                trip(connection, runtime, Alarm("told", reason))
            return True
        return False

    async def _find(self, probe: _Probe) -> Found:
        try:
            provider = self.provider_of(probe.provider)
        except NewsletterError:  # its send will be held for that
            return Found({}, conclusive=True)
        if not provider.capabilities.lookup:  # there is nobody to ask
            return Found({}, conclusive=True)
        return await provider.find(probe.key, since=probe.since)

    async def _ask_by_name(self, send: Row[Any], restored_at: datetime) -> None:
        """Hold a send whose name the provider knows of: an earlier one that was not restored."""
        if send.released_at is not None or send.created_at < restored_at:
            return  # a person has decided, or it was asked about when the ledger caught up
        try:
            provider = self.provider_of(send.provider)
        except NewsletterError:
            return
        if not isinstance(provider, FindsSends):
            return
        found: FoundSend = await provider.find_send(send.send, since=send.created_at)
        name = provider.settings.name
        if found.total is None:
            reason = f"the database was restored, and {name} cannot be asked whether it has "
            reason += f"messages of a send of this name: {found.reason}"
        elif found.total:
            reason = f"{name} has {found.total} messages of a send of this name, from before the "
            reason += "database was restored: resume it only if they were of something else"
        else:
            return
        with self.runtime.store.begin() as connection:
            hold(connection, self.runtime, send.id, reason, cause="restored")


def quarantined(runtime: DeliveryRuntime) -> bool:
    """Whether nothing may be sent from the database."""
    with runtime.store.read() as connection:
        return quarantine(connection) != ""


def _to_take_up(connection: Connection, now: datetime) -> list[Row[Any]]:
    return list(connection.execute(_TO_TAKE_UP, {"b_now": now}))


def _probes(connection: Connection, send: Row[Any], key: bytes) -> list[_Probe]:
    """The next tries of the first open batches and of the last one."""
    found: list[tuple[int, int, str | None]] = [(1, 0, None)]
    if send.filled_at is not None:
        first = connection.execute(_FIRST_OPEN, {"b_send": send.id}).all()
        last = connection.execute(_LAST_OPEN, {"b_send": send.id}).all()
        found = [(row.number, row.tries, row.provider) for row in dict.fromkeys([*first, *last])]
    return [
        _Probe(
            send_id=send.id,
            batch=number,
            number=tries + 1,
            key=attempt_key(key, send.send, send.created_at, number, tries + 1),
            provider=provider or send.provider,
            since=send.started_at or send.at,
        )
        for number, tries, provider in found
    ]


def _was_made(connection: Connection, probe: _Probe) -> bool:
    """Whether the database has made the probed try by now: its commit comes before its request."""
    tries = select(func.max(batches.c.tries)).where(
        batches.c.send_id == probe.send_id, batches.c.number == probe.batch
    )
    return (connection.execute(tries).scalar_one() or 0) >= probe.number
