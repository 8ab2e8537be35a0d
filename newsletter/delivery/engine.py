"""The engine: starts what is due, keeps each provider's requests in flight, ends what is done.

One coroutine leases batches and hands each to a task; the transactions of batches run where
`runtime.aside` says, all others in the loop's thread. Any number of engines share one database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import bindparam, select

from newsletter.delivery import (
    breaker,
    canary,
    failover,
    forms,
    guard,
    housekeeping,
    leases,
    pacing,
)
from newsletter.delivery.composing import Letter, media_reader
from newsletter.delivery.counting import keep_counts
from newsletter.delivery.ending import finish_sends
from newsletter.delivery.filling import fill_more, load_compiled
from newsletter.delivery.jobs import Job, commit
from newsletter.delivery.lanes import Lane
from newsletter.delivery.launching import Launch, Outrun, next_batch
from newsletter.delivery.notices import hold
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.delivery.sending import send_rows
from newsletter.delivery.settling import settle
from newsletter.delivery.start import start_send
from newsletter.delivery.waking import next_change, next_wake
from newsletter.errors import NewsletterError
from newsletter.settings import ProviderSettings
from newsletter.store.schema import sends

_log = logging.getLogger(__name__)
_SHORTEST_REST = 0.02
# Batches looked at before others get their turn: many may have nobody left to write to.
_AT_ONCE = 100
_HOW_THEY_END = (
    select(sends.c.send, sends.c.state)
    .where(sends.c.id.in_(bindparam("b_sends", expanding=True)))
    .order_by(sends.c.id)
)


@dataclass
class RunReport:
    """What one run did: sends by public name, in the order of their end, and batches worked on."""

    sent: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    batches: int = 0
    quarantine: str = ""  # why nothing may be sent from this database


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
        self.tasks: list[asyncio.Task[None]] = []  # in the order of their start, which seeds repeat
        self.lanes: dict[str, Lane] = {}
        self.letters: dict[int, Letter] = {}
        self.held_leases: set[tuple[int, int, int]] = set()
        self.live: list[tuple[int, str]] = []
        self.seen: set[int] = set()
        self.met: set[int] = set()  # at the last look: due, or worked on
        self.keep_at: datetime | None = None
        self.filling = True  # whether a send may have recipients without rows
        self.fill: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.fill.set_result(None)
        self.media = media_reader(runtime.store)
        self.questions = guard.Questions(runtime, lambda name: self.open_lane(name).provider)
        self.stopped = asyncio.ensure_future(runtime.stop.wait())

    async def run(self) -> None:
        try:
            while not self.runtime.stop.is_set():
                kept = self.house_is_due()
                if kept:
                    self.keep_house()
                    # Sends that were met for the first time.
                    if self.questions.are_open(self.met) and await self.questions.ask():
                        self.keep_house()
                launched = await self.launch()
                launched |= await self.fill_on()
                if self.tasks:
                    await self.wait(self.until_free())
                elif launched:
                    await asyncio.sleep(0)
                elif not await self.rest(kept):
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
        if not self.seen:
            return
        with self.runtime.store.read() as connection:
            for name, state in connection.execute(_HOW_THEY_END, {"b_sends": sorted(self.seen)}):
                if state == "sent":
                    self.report.sent.append(name)
                elif state == "held":
                    self.report.held.append(name)

    # --- what is due, what is done --------------------------------------------------------------

    def house_is_due(self) -> bool:
        """Whether `poll` has passed since the last time, or the clock has jumped."""
        now = self.runtime.clock.now()
        return (
            self.keep_at is None
            or not self.keep_at - self.runtime.policy.poll <= now < self.keep_at
        )

    def keep_house(self) -> None:
        """Take over from vanished workers, start what is due, end what is done."""
        runtime = self.runtime
        now = runtime.clock.now()
        self.keep_at = now + runtime.policy.poll
        self.filling = True
        self.report.quarantine = guard.stand(runtime)
        if self.report.quarantine:
            self.live = []
            return
        look = self.look(now)
        # Before any of them is held, as the report tells of those too.
        self.met = {row.id for row in look.sends}
        self.seen |= self.met
        lost = housekeeping.break_lost_leases
        broken = look.chores.leases and lost(runtime, self.held_leases, now)
        starting = list(filter(self.questions.allow, look.due))
        for send_id in starting:
            start_send(runtime, send_id, lambda name: self.open_lane(name).provider)
        if broken or starting:
            look = self.look(now)
        chores = look.chores
        if chores.uncounted or chores.changed:
            keep_counts(runtime.store)
        if chores.ending:
            finish_sends(runtime)
        if chores.forms or chores.ending:
            self.remove_forms()
        if chores.waves:
            pacing.open_waves(runtime, now)
        for lane in self.lanes.values():
            capabilities, settings = lane.provider.capabilities, lane.provider.settings
            pacing.justify(runtime.store, settings, capabilities.batch_size, now)
        if chores.canary:
            canary.judge(runtime)
        if chores.failing:
            failover.hold_stalled(runtime)
        if chores.ending or chores.waves or chores.canary or chores.failing:
            look = self.look(now)
        self.live = self.lanes_of(look)

    def look(self, now: datetime) -> housekeeping.Look:
        with self.runtime.store.read() as connection:
            return housekeeping.look(connection, now)

    def lanes_of(self, look: housekeeping.Look) -> list[tuple[int, str]]:
        """(send id, provider) of the sends that go on, and may."""
        allowed = [each for each in look.going_on if self.questions.allow(each[0])]
        if not look.chores.moved and not look.chores.failing:
            return allowed
        with self.runtime.store.read() as connection:
            return failover.lanes(connection, self.runtime, allowed)

    def remove_forms(self) -> None:
        """Remove what was left at providers for sends that are over, beside the requests."""
        removal = forms.removal(self.runtime, lambda name: self.open_lane(name).provider)
        if removal is not None:
            self.tasks.append(asyncio.ensure_future(removal))

    # --- work -----------------------------------------------------------------------------------

    async def fill_on(self) -> bool:
        """Fill a large send beside what is in flight; where nothing is, true if rows were made."""
        if not self.filling or not self.fill.done():
            return False
        if not self.tasks:
            await self.fill_part()
            return self.filling
        self.fill = asyncio.ensure_future(self.fill_part())
        self.tasks.append(self.fill)
        return False

    async def fill_part(self) -> None:
        self.filling = await self.runtime.aside(lambda: fill_more(self.runtime))

    async def launch(self) -> bool:
        """Lease batches as far as requests in flight and rates allow; true if there was one."""
        launched = False
        for name in dict.fromkeys(provider for _, provider in self.live):
            lane = self.lane(name)
            if lane is None:
                continue
            mine = [send_id for send_id, provider in self.live if provider == name]
            lane.turns = [turn for turn in lane.turns if turn in mine]
            lane.turns += [send_id for send_id in mine if send_id not in lane.turns]
            for _ in range(_AT_ONCE):
                if lane.is_full or not await self.launch_one(lane):
                    break
                launched = True
        if not launched and not self.tasks:
            self.keep_at = None
        return launched

    async def launch_one(self, lane: Lane) -> bool:
        """Lease one batch, each send in its turn, and start its task.

        Whether and which one may go is asked in `launching.next_batch`, and nowhere else.
        """
        for send_id in list(lane.turns):
            letter = self.letter(send_id)
            try:
                found = await self.runtime.aside(partial(self.next_batch, lane, send_id))
            except Outrun:
                return True  # another worker was faster: ask again
            if found is None:
                continue
            lane.turns.remove(send_id)
            lane.turns.append(send_id)
            if not found.is_empty:
                job = Job(
                    self.runtime, lane.provider, letter, found.lease, lane.slots, found.probing
                )
                self._start(lane, job, _work(job, found))
            return True
        return False

    def next_batch(self, lane: Lane, send_id: int) -> Launch | None:
        runtime = self.runtime
        with runtime.store.begin() as connection:
            now = runtime.clock.now()
            return next_batch(connection, runtime, lane.provider, send_id, now, busy=lane.busy)

    def _start(self, lane: Lane, job: Job, work: Coroutine[Any, Any, None]) -> None:
        lease = (job.lease.send_id, job.lease.number, job.lease.token)
        self.held_leases.add(lease)
        lane.busy += 1
        self.report.batches += 1
        task = asyncio.ensure_future(work)
        self.tasks.append(task)

        def ended(_task: asyncio.Task[None]) -> None:
            lane.busy -= 1
            self.held_leases.discard(lease)
            self.runtime.progress(job.letter.send)

        task.add_done_callback(ended)

    def open_lane(self, name: str) -> Lane:
        """The provider's lane. Raises a `NewsletterError` where settings or secrets are missing."""
        if name not in self.lanes:
            self.lanes[name] = Lane(self.runtime.open_provider(name))
        return self.lanes[name]

    def lane(self, name: str) -> Lane | None:
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

    def lane_settings(self) -> list[ProviderSettings]:
        return [lane.provider.settings for lane in self.lanes.values()]

    # --- waiting ----------------------------------------------------------------------------------

    def until_free(self) -> float | None:
        """Seconds until something could be started beside the requests in flight, if known."""
        runtime = self.runtime
        now = runtime.clock.now()
        if all(lane.is_full for lane in self.lanes.values()):
            return None
        with runtime.store.read() as connection:
            later = next_change(connection, runtime, now, self.lane_settings())
        return (later - now).total_seconds() if later is not None else None

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
        self.tasks = [task for task in self.tasks if task not in done]
        for task in ended:
            task.result()

    async def rest(self, kept: bool) -> bool:
        """Nothing is in flight: sleep until there may be work; false if there will be none.

        `kept` is whether the house was kept just now.
        """
        runtime = self.runtime
        if not kept:
            self.keep_house()
        if self.report.quarantine:
            return False
        if self.tasks:
            return True
        now = runtime.clock.now()
        wake = None
        if self.met:  # else there is no batch that could be waited for
            with runtime.store.read() as connection:
                wake = next_wake(connection, runtime, now, self.lane_settings())
        wake_at = wake.at if wake and wake.is_within(runtime.policy.patience, now) else None
        ask_at = self.questions.next_at()  # what could go now may be waiting for that
        if ask_at is not None:
            wake_at = ask_at if wake_at is None or wake_at <= now else min(wake_at, ask_at)
        if wake_at is None:
            return False
        seconds = max((wake_at - now).total_seconds(), _SHORTEST_REST)
        timer = asyncio.ensure_future(runtime.rest(seconds))
        await asyncio.wait(_futures(timer, self.stopped), return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        self.keep_at = None
        return True


def _futures(*futures: asyncio.Future[Any]) -> set[asyncio.Future[Any]]:
    return set(futures)


def _timer(runtime: DeliveryRuntime, seconds: float) -> asyncio.Future[None]:
    return asyncio.ensure_future(runtime.clock.sleep(seconds))


async def _work(job: Job, found: Launch) -> None:
    if found.attempt is not None:
        async with job.slot:
            await settle(job, found.attempt)
    else:
        await send_rows(job, found.rows)
    claim = job.probing
    if claim is not None:  # where no request was made, another batch may try the provider
        await commit(job.runtime, lambda c: breaker.give_up_probe(c, job.name, claim))
