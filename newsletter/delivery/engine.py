"""The engine: starts what is due, keeps each provider's requests in flight, ends what is done.

One coroutine leases batches and hands each to a task; database calls are synchronous, so between
two awaits nothing else happens in this process. Any number of engines share one database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from newsletter.delivery import leases
from newsletter.delivery.attempts import Attempt, doubtful_attempt
from newsletter.delivery.composing import Letter, media_reader
from newsletter.delivery.ending import finish_sends, next_wake
from newsletter.delivery.notices import hold
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.delivery.sending import Job, pending_rows, send_rows, skip_those_who_left
from newsletter.delivery.settling import settle
from newsletter.delivery.start import due_sends, load_compiled, start_send
from newsletter.errors import NewsletterError
from newsletter.providers.base import Provider
from newsletter.store.schema import sends

_log = logging.getLogger(__name__)
_SHORTEST_REST = 0.02


@dataclass
class RunReport:
    """What one run did: sends by public name, in the order of their end, and batches worked on."""

    sent: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    batches: int = 0


@dataclass
class _Lane:
    """One provider's requests in flight, and when its rate lets the next batch go."""

    provider: Provider
    busy: int = 0
    free_at: datetime | None = None
    turns: list[int] = field(default_factory=list)  # send ids; the next one's turn is first


async def run_due(runtime: DeliveryRuntime) -> RunReport:
    """Send everything that is due, until nothing is due or in flight, or `runtime.stop` is set.

    Waits for back-offs, for doubts that something can settle, and for batches that other workers
    hold. Raises `Unreachable` when the database is out of reach; every request in flight has ended
    and is written down by then.
    """
    engine = _Engine(runtime)
    try:
        await engine.run()
    finally:
        await engine.close()
    return engine.report


class _Engine:
    def __init__(self, runtime: DeliveryRuntime) -> None:
        self.runtime = runtime
        self.report = RunReport()
        self.tasks: set[asyncio.Task[None]] = set()
        self.lanes: dict[str, _Lane] = {}
        self.letters: dict[int, Letter] = {}
        self.held_leases: set[tuple[int, int, int]] = set()
        self.live: list[tuple[int, str]] = []
        self.seen: set[int] = set()
        self.keep_at: datetime | None = None
        self.media = media_reader(runtime.store)
        self.stopped = asyncio.ensure_future(runtime.stop.wait())

    async def run(self) -> None:
        try:
            while not self.runtime.stop.is_set():
                if self.keep_at is None or self.runtime.clock.now() >= self.keep_at:
                    self.keep_house()
                launched = self.launch()
                if self.tasks:
                    await self.wait(self.until_free())
                elif not launched and not await self.rest():
                    return
        finally:
            await asyncio.gather(*self.tasks, return_exceptions=True)
            self.tasks.clear()
            self.keep_report()

    async def close(self) -> None:
        self.stopped.cancel()
        for lane in self.lanes.values():
            await lane.provider.close()

    def keep_report(self) -> None:
        """How the sends that this run met have ended."""
        query = select(sends.c.send, sends.c.state).where(sends.c.id.in_(self.seen))
        with self.runtime.store.read() as connection:
            for name, state in connection.execute(query.order_by(sends.c.id)):
                if state == "sent":
                    self.report.sent.append(name)
                elif state == "held":
                    self.report.held.append(name)

    # --- what is due, what is done --------------------------------------------------------------

    def keep_house(self) -> None:
        """Take over from vanished workers, start what is due, end what is done."""
        runtime = self.runtime
        now = runtime.clock.now()
        self.keep_at = now + runtime.policy.poll
        self.break_lost_leases(now)
        with runtime.store.read() as connection:
            due = due_sends(connection, now)
        for send_id in due:
            start_send(runtime, send_id, lambda name: self.open_lane(name).provider)
        finish_sends(runtime)
        with runtime.store.read() as connection:
            query = select(sends.c.id, sends.c.provider).where(leases.worked_on())
            self.live = [tuple(row) for row in connection.execute(query.order_by(sends.c.id))]
        self.seen.update(due, [send_id for send_id, _ in self.live])

    def break_lost_leases(self, now: datetime) -> None:
        """Open the batches of workers that are gone; what they had begun is in doubt."""
        runtime = self.runtime
        with runtime.store.read() as connection:
            held = leases.all_leases(connection)
        timeouts = [entry.timeout for entry in runtime.workspace.settings.providers]
        longest = max(timeouts, default=timedelta(0))
        for send_id, number, token, holder, until in held:
            if (send_id, number, token) in self.held_leases:
                continue
            # A lease of ours that we do not hold is of an earlier run that failed.
            ended = holder == runtime.holder or runtime.gone(holder)
            if until > now and not ended:
                continue
            # Who only lost touch with the database may have a request under way for a time-out.
            over_at = now if ended else now + longest
            with runtime.store.begin() as connection:
                leases.break_lease(connection, send_id, number, token, now, over_at=over_at)
            _log.warning("took over batch %d of send %d from %s", number, send_id, holder)

    # --- work -----------------------------------------------------------------------------------

    def launch(self) -> bool:
        """Lease batches as far as requests in flight and rates allow; true if there was one."""
        launched = False
        for name in dict.fromkeys(provider for _, provider in self.live):
            lane = self.lane(name)
            if lane is None:
                continue
            mine = [send_id for send_id, provider in self.live if provider == name]
            lane.turns = [turn for turn in lane.turns if turn in mine]
            lane.turns += [send_id for send_id in mine if send_id not in lane.turns]
            while lane.busy < lane.provider.settings.in_flight and self.launch_one(lane):
                launched = True
        if not launched and not self.tasks:
            self.keep_at = None
        return launched

    def launch_one(self, lane: _Lane) -> bool:
        """Lease one batch, each send in its turn, and start its task."""
        runtime = self.runtime
        now = runtime.clock.now()
        if lane.free_at is not None and lane.free_at > now:
            return False
        for send_id in list(lane.turns):
            letter = self.letter(send_id)
            with runtime.store.begin() as connection:
                lease = leases.take(
                    connection,
                    send_id,
                    runtime.holder,
                    now,
                    runtime.workspace.settings.delivery.lease,
                )
                if lease is None:
                    continue
                attempt = doubtful_attempt(connection, send_id, lease.number)
                rows: list[Any] = []
                if attempt is None:
                    skip_those_who_left(connection, lease, now)
                    rows = pending_rows(connection, lease)
                    if not rows:
                        leases.give_back(connection, lease, now)
            lane.turns.remove(send_id)
            lane.turns.append(send_id)
            if attempt is None and not rows:
                return True
            job = Job(runtime, lane.provider, letter, lease)
            self._charge(lane, now, len(attempt.positions) if attempt else len(rows))
            self._start(lane, job, _work(job, attempt, rows))
            return True
        return False

    def _charge(self, lane: _Lane, now: datetime, recipients: int) -> None:
        """The next batch waits until the rate has room again: a burst is one batch at most."""
        rate = lane.provider.settings.rate
        if rate is not None:
            lane.free_at = max(now, lane.free_at or now) + timedelta(seconds=recipients / rate)

    def _start(self, lane: _Lane, job: Job, work: Coroutine[Any, Any, None]) -> None:
        lease = (job.lease.send_id, job.lease.number, job.lease.token)
        self.held_leases.add(lease)
        lane.busy += 1
        self.report.batches += 1
        task = asyncio.ensure_future(work)
        self.tasks.add(task)

        def ended(_task: asyncio.Task[None]) -> None:
            lane.busy -= 1
            self.held_leases.discard(lease)
            self.runtime.progress(job.letter.send)

        task.add_done_callback(ended)

    def open_lane(self, name: str) -> _Lane:
        """The provider's lane. Raises a `NewsletterError` where settings or secrets are missing."""
        if name not in self.lanes:
            self.lanes[name] = _Lane(self.runtime.open_provider(name))
        return self.lanes[name]

    def lane(self, name: str) -> _Lane | None:
        """The provider's lane; where there is none, its sends are held."""
        try:
            return self.open_lane(name)
        except NewsletterError as error:
            for send_id, provider in self.live:
                if provider == name:
                    with self.runtime.store.begin() as connection:
                        hold(connection, self.runtime, send_id, str(error), cause="provider")
                        leases.give_up_cancelled(connection, send_id)
            self.keep_at = None
            return None

    def letter(self, send_id: int) -> Letter:
        if send_id not in self.letters:
            with self.runtime.store.read() as connection:
                send = connection.execute(select(sends).where(sends.c.id == send_id)).one()
                compiled = load_compiled(connection, send.frozen)
            self.letters[send_id] = Letter(
                send_id=send.id,
                send=send.send,
                at=send.at,
                created_at=send.created_at,
                compiled=compiled,
                key=self.runtime.workspace.key,
                media=self.media,
            )
        return self.letters[send_id]

    # --- waiting ----------------------------------------------------------------------------------

    def until_free(self) -> float | None:
        """Seconds until something could be started beside the requests in flight, if known."""
        runtime = self.runtime
        now = runtime.clock.now()
        free = [
            lane for lane in self.lanes.values() if lane.busy < lane.provider.settings.in_flight
        ]
        if not free:
            return None
        with runtime.store.read() as connection:
            wake = next_wake(connection, now, of_others=False)
        times = [time for time in (wake, *(lane.free_at for lane in free)) if time is not None]
        later = [time for time in times if time > now]
        return (min(later) - now).total_seconds() if later else None

    async def wait(self, seconds: float | None) -> None:
        """Wait for a request to end, for the stop, or for a time at which more can be done."""
        timers = set() if seconds is None else {_timer(self.runtime, seconds)}
        # The poll runs on the loop's own time: a clock that jumps must not make it spin.
        awaited: set[asyncio.Future[Any]] = {*self.tasks, *timers, self.stopped}
        done, _ = await asyncio.wait(
            awaited,
            timeout=self.runtime.policy.poll.total_seconds(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        for timer in timers:
            timer.cancel()
        ended = [task for task in self.tasks if task in done]
        self.tasks.difference_update(ended)
        for task in ended:
            task.result()

    async def rest(self) -> bool:
        """Nothing is in flight: sleep until there may be work; false if there will be none."""
        runtime = self.runtime
        self.keep_house()
        now = runtime.clock.now()
        with runtime.store.read() as connection:
            wake = next_wake(connection, now)
        if wake is None:
            return False
        rates = [lane.free_at for lane in self.lanes.values() if lane.free_at is not None]
        wake = max(wake, min(rates)) if rates and wake <= now else wake
        seconds = max((wake - now).total_seconds(), _SHORTEST_REST)
        timer = asyncio.ensure_future(runtime.rest(seconds))
        await asyncio.wait(_futures(timer, self.stopped), return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        self.keep_at = None
        return True


def _futures(*futures: asyncio.Future[Any]) -> set[asyncio.Future[Any]]:
    return set(futures)


def _timer(runtime: DeliveryRuntime, seconds: float) -> asyncio.Future[None]:
    return asyncio.ensure_future(runtime.clock.sleep(seconds))


async def _work(job: Job, attempt: Attempt | None, rows: list[Any]) -> None:
    if attempt is not None:
        await settle(job, attempt)
    else:
        await send_rows(job, rows)
