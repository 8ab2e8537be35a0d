"""The ledger catches up with what the providers accepted, and a quarantine is lifted.

Whoever a provider has is accepted; only who is provably unsent goes on; what cannot be settled is
in doubt, or its send held, for a person. What raises the alarm is `guard`'s, and what a provider's
record proves is `records`'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, update

from newsletter.delivery import guard, leases
from newsletter.delivery.catching_up import catch_up
from newsletter.delivery.filling import fill_rest
from newsletter.delivery.mark import Position
from newsletter.delivery.notices import hold
from newsletter.delivery.records import Record, ask
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.delivery.start import start_send
from newsletter.delivery.transitions import LEFT, OVER, move_send
from newsletter.errors import Conflict, DoesNotHold, NewsletterError
from newsletter.providers.base import Provider, lag_of
from newsletter.store import notify
from newsletter.store.place import locate
from newsletter.store.schema import attempts, batches, deliveries, ledger, sends

_PATIENCE = timedelta(seconds=1)
_LATELY = timedelta(days=7)  # between the restore and the alarm, at most
_CLOCK_IS_WRONG_BY = timedelta(days=1)  # at most: the clock that started it, or this one

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SendReconciled:
    """One send: whom the providers have of it, who is surely unsent, who is in doubt."""

    send: str
    found: int
    unsent: int
    in_doubt: int


@dataclass
class Reconciled:
    """What was found; `reason` is why nothing was sent, or why nothing is to be sent still."""

    quarantined: bool
    reason: str
    sends: list[SendReconciled] = field(default_factory=list)
    released: bool = False

    def as_json(self) -> dict[str, Any]:
        """The contract's shape."""
        return asdict(self)


async def reconcile(
    runtime: DeliveryRuntime, *, accept: bool = False, progress: Progress = lambda _line: None
) -> Reconciled:
    """Let a quarantined ledger catch up with its providers, and let it send again.

    Waits for the providers' lag. It may be stopped at any point and begun again: what was found is
    kept. `accept` asks nobody: a database that was moved goes on as it is, and in any other
    whatever is unfinished waits for a person. A provider that does not answer leaves the
    quarantine in place.
    """
    reason = guard.stand(runtime)
    if not reason:
        return Reconciled(quarantined=False, reason="")
    done = Reconciled(quarantined=True, reason=reason)
    with runtime.store.read() as connection:
        entry = connection.execute(select(ledger)).one()
        pending = connection.execute(
            select(sends).where(_concerned(entry.quarantined_at)).order_by(sends.c.id)
        ).all()
    if accept and entry.cause == "moved":
        _lift(runtime, entry, restored=False)
        done.released = True
        return done
    if _still_leased(runtime):
        done.reason = "a worker still holds a batch: its requests must end first"
        return done
    reconciler = _Reconciler(runtime, entry, accept, progress)
    try:
        for send in pending:
            reconciler.fill_rest(send)
            record = await reconciler.record(send)
            if record.failed:
                done.reason = f"{send.send}: {record.failed}"
                return done
            done.sends.append(reconciler.write_down(send, record))
    finally:
        await reconciler.close()
    _lift(runtime, entry, restored=True)
    done.released = True
    return done


class _Reconciler:
    def __init__(
        self, runtime: DeliveryRuntime, entry: Row[Any], accept: bool, progress: Progress
    ) -> None:
        self.runtime = runtime
        self.entry = entry
        self.accept = accept
        self.progress = progress
        self.providers: dict[str, Provider] = {}

    async def close(self) -> None:
        for provider in self.providers.values():
            await provider.close()

    def fill_rest(self, send: Row[Any]) -> None:
        """Make the rows that were missing still when the database was dumped."""
        with self.runtime.store.begin() as connection:
            fill_rest(connection, send.id, self.runtime.clock.now())

    async def record(self, send: Row[Any]) -> Record:
        """What the providers through which the send may have gone have of it."""
        whole = Record()
        for name in self._names(send):
            provider = self._open(name)
            if provider is None or self.accept:
                whole.add(Record())
                continue
            if provider.capabilities.lookup:
                await self._wait_for(provider, send)
            self.progress(f"{send.send}: asking {name}")
            whole.add(await ask(self.runtime, provider, send, self._lost(), self.progress))
        return whole

    def _names(self, send: Row[Any]) -> list[str]:
        """The send's provider, those that stand in for it, and those that its batches went to."""
        entries = {each.name: each for each in self.runtime.workspace.settings.providers}
        names = [send.provider]
        while (entry := entries.get(names[-1])) is not None and entry.failover not in {"", *names}:
            names.append(entry.failover)
        with self.runtime.store.read() as connection:
            query = select(batches.c.provider).distinct()
            others = query.where(batches.c.send_id == send.id, batches.c.provider.is_not(None))
            names += sorted(connection.execute(others).scalars())
        return list(dict.fromkeys(names))

    def _open(self, name: str) -> Provider | None:
        """The provider; None where the settings have none of that name, so that nobody answers."""
        if name not in self.providers:
            try:
                self.providers[name] = self.runtime.open_provider(name)
            except NewsletterError:
                return None
        return self.providers[name]

    def _lost(self) -> int | None:
        """How many requests the database does not know of, if the mark counted all of them."""
        seen = self.runtime.mark.read()
        alone = self.runtime.store.is_sqlite and self.runtime.mark.durable
        if not alone or seen is None or seen.database != self.entry.database:
            return None
        return max(seen.sequence - int(self.entry.sequence), 0)

    async def _wait_for(self, provider: Provider, send: Row[Any]) -> None:
        """Wait until a request made before the alarm has ended and shows in the record."""
        over = select(func.max(attempts.c.doubt_at)).where(
            attempts.c.send_id == send.id, attempts.c.state == "in_doubt"
        )
        with self.runtime.store.read() as connection:
            doubted: datetime | None = connection.execute(over).scalar_one()
        clock = self.runtime.clock
        ended: datetime = self.entry.quarantined_at + provider.settings.timeout
        until = max(ended, doubted or ended) + lag_of(provider)
        name = provider.settings.name
        while (left := until - clock.now()) > timedelta(0):
            self.progress(f"the record of {name} is complete in {left.total_seconds():.0f} s")
            await clock.sleep(min(left, _PATIENCE).total_seconds())

    def write_down(self, send: Row[Any], record: Record) -> SendReconciled:
        """Bring one send's rows up to the record, batch by batch."""
        runtime = self.runtime
        filled = send.filled_at is not None
        if not filled and record.messages:
            self._fill(send)
            filled = True
        if not filled:
            # One whose time is far off cannot have been sent, unless a person had moved it.
            starts_at = send.starts_at or send.at
            if not record.complete and starts_at <= runtime.clock.now() + _CLOCK_IS_WRONG_BY:
                self._hold_unasked(send)
            return SendReconciled(send.send, 0, 0, 0)
        with runtime.store.read() as connection:
            query = select(batches.c.number).where(batches.c.send_id == send.id)
            numbers = connection.execute(query.order_by(batches.c.number)).scalars().all()
        for number in numbers:
            with runtime.store.begin() as connection:
                catch_up(connection, runtime, send, number, record)
        with runtime.store.read() as connection:
            return _told(connection, send)

    def _fill(self, send: Row[Any]) -> None:
        """Give a send that had not started its recipients, as it did start. Raises `DoesNotHold`.

        It stays paused or held if it was.
        """
        runtime, now = self.runtime, self.runtime.clock.now()
        with runtime.store.begin() as connection:
            released = update(sends).where(sends.c.id == send.id, sends.c.filled_at.is_(None))
            connection.execute(released.values(released_at=now))
            move_send(connection, send.id, "reschedule")
        start_send(runtime, send.id, lambda name: self.providers[name])
        with runtime.store.begin() as connection:
            row = connection.execute(select(sends).where(sends.c.id == send.id)).one()
            if row.filled_at is None:
                raise DoesNotHold(
                    f"{send.send} had begun, and cannot be given its recipients: {row.reason}",
                    hint="Cancel it, or remove the cause; then reconcile again.",
                )
            fill_rest(connection, send.id, now)
            back = {"paused": "pause", "held": "hold"}.get(send.state)
            if back is not None:
                move_send(connection, send.id, back, reason=send.reason)

    def _hold_unasked(self, send: Row[Any]) -> None:
        """Also one that is paused, or held for another reason: who resumes it is to know."""
        with self.runtime.store.begin() as connection:
            if send.state in {"paused", "held"}:
                move_send(connection, send.id, "reschedule")
            hold(
                connection,
                self.runtime,
                send.id,
                "the database was restored and nobody can tell whether this was sent already: "
                "resume it only if it was not",
                cause="restored",
            )


def _concerned(quarantined_at: datetime) -> ColumnElement[bool]:
    """Of a send: it is not over, or was cancelled when it may have been sent already."""
    lately = sends.c.finished_at >= quarantined_at - _LATELY
    cancelled = and_(sends.c.state == "cancelled", sends.c.filled_at.is_not(None), lately)
    return or_(sends.c.state.not_in(sorted(OVER)), cancelled)


def _told(connection: Connection, send: Row[Any]) -> SendReconciled:
    query = (
        select(deliveries.c.state, func.count())
        .where(deliveries.c.send_id == send.id)
        .group_by(deliveries.c.state)
    )
    counts = {row[0]: row[1] for row in connection.execute(query)}
    return SendReconciled(
        send=send.send,
        found=sum(counts.get(state, 0) for state in sorted(LEFT)),
        unsent=counts.get("pending", 0),
        in_doubt=counts.get("in_doubt", 0),
    )


def _still_leased(runtime: DeliveryRuntime) -> bool:
    """Take over the batches of workers that are gone; true if there are others."""
    now = runtime.clock.now()
    with runtime.store.read() as connection:
        held = leases.all_leases(connection)
    timeouts = [entry.timeout for entry in runtime.workspace.settings.providers]
    longest = max(timeouts, default=timedelta(0))
    left = False
    for send_id, number, token, holder, until in held:
        ended = runtime.gone(holder)
        if until > now and not ended:
            left = True
            continue
        # Who only lost touch with the database may have a request under way for a time-out.
        over_at = now if ended else now + longest
        with runtime.store.begin() as connection:
            leases.break_lease(connection, send_id, number, token, now, over_at=over_at)
    return left


def _lift(runtime: DeliveryRuntime, entry: Row[Any], *, restored: bool) -> None:
    """Let the database send again, as another one than before, at the place where it is now.

    Raises `Conflict` if somebody else has lifted it meanwhile. Killed before the mark is moved, the
    old mark names a former database, which is no alarm.
    """
    seen = runtime.mark.read()
    sequence = int(entry.sequence)
    if seen is not None and seen.database == entry.database:
        sequence = max(sequence, seen.sequence)
    former = list(entry.former)
    former += [entry.database]
    if seen is not None and seen.database not in former:
        former.append(seen.database)
    named = f"{runtime.rng.getrandbits(128):032x}"
    with runtime.store.begin() as connection:
        values: dict[str, Any] = {
            "database": named,
            "former": former,
            "sequence": sequence,
            "place": dict(locate(connection)),
            "quarantine": "",
            "cause": "",
            "quarantined_at": None,
        }
        if restored:
            values["restored_at"] = runtime.clock.now()
        still = (ledger.c.database == entry.database) & (ledger.c.quarantine != "")
        if connection.execute(update(ledger).values(values).where(still)).rowcount != 1:
            raise Conflict("the quarantine was lifted by somebody else meanwhile")
        notify(connection, "sends")
    runtime.mark.note(Position(named, sequence))
