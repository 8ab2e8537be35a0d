"""An event loop with virtual time that runs what is ready in an order that a seed chooses.

It knows processes only as owners of callbacks: a dead one's are dropped, a stopped one's wait. A
process can be preempted in the middle of synchronous code, which lets the others go on meanwhile.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio.tasks import _enter_task, _leave_task  # for implementers of loops and their drivers
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any

_MAX_NESTED = 3
_STEP = 0.002  # seconds of virtual time that a step takes at most


class Owner:
    """What callbacks belong to: a simulated process."""

    def __init__(self) -> None:
        self.alive = True
        self.suspended = 0  # stopped by a signal, or somewhere on the stack below
        self.parked: list[_Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


class Killed(BaseException):
    """The process that runs is no more; nothing of it runs after this."""


class Stuck(Exception):
    """The simulation took more steps or virtual time than it may."""


class _Handle:
    __slots__ = ("args", "callback", "context", "owner", "when")

    def __init__(
        self, callback: Callable[..., Any], args: Any, context: Context | None, when: float = 0.0
    ) -> None:
        self.callback: Callable[..., Any] | None = callback
        self.args = args
        self.context = copy_context() if context is None else context
        self.owner = self.context.get(OWNER)
        self.when = when

    def cancel(self) -> None:
        self.callback = None

    def cancelled(self) -> bool:
        return self.callback is None


class SimLoop(asyncio.AbstractEventLoop):
    """Runs until told; `time()` moves only when nothing is ready, and a little with each step."""

    def __init__(self, rng: random.Random, *, max_steps: int = 20_000) -> None:
        self._rng = rng
        self._ready: list[_Handle] = []
        self._timers: list[tuple[float, int, _Handle]] = []
        self._count = 0
        self._now = 0.0
        self._nested = 0
        self._stopping: Callable[[], bool] = lambda: False
        self.max_steps = max_steps
        self.steps = 0
        self.failures: list[BaseException | str] = []

    # --- what asyncio needs -----------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = _Handle(callback, args, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        handle = _Handle(callback, args, context, when)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
        **_more: Any,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        owner = (context or copy_context()).get(OWNER)
        if owner is not None:
            owner.tasks.append(task)
        return task

    async def run_in_executor(self, _executor: Any, function: Any, *args: Any) -> Any:  # type: ignore[override]
        return function(*args)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        problem = context.get("exception") or context.get("message", "")
        self.failures.append(problem)

    # --- running ----------------------------------------------------------------------------------

    def run(self, done: Callable[[], bool], *, until: float) -> None:
        """Run until `done`. Raises `Stuck` when that is not before the virtual time `until`."""
        asyncio._set_running_loop(self)
        try:
            while not done():
                if not self._step(until):
                    raise Stuck(f"not done at {self._now:.0f} s of virtual time")
                if self.steps > self.max_steps:
                    raise Stuck(f"not done after {self.steps} steps")
        finally:
            asyncio._set_running_loop(None)

    def preempt(self, owner: Owner, seconds: float, steps: int) -> None:
        """Within a synchronous step of `owner`: let the others go on for a time, or for steps."""
        if self._nested >= _MAX_NESTED:
            return
        self._nested += 1
        task = asyncio.current_task(self)
        if task is not None:
            _leave_task(self, task)
        owner.suspended += 1
        until = self._now + seconds
        try:
            for _ in range(steps):
                if not self._step(until) or self._now >= until or self.steps > self.max_steps:
                    break
            self._now = max(self._now, until if seconds else 0.0)
        finally:
            self.release(owner)
            self._nested -= 1
            if task is not None:
                _enter_task(self, task)

    def suspend(self, owner: Owner, seconds: float) -> None:
        """Stop a process that awaits something, as SIGSTOP does; SIGCONT follows."""
        owner.suspended += 1
        context = Context()
        self.call_later(seconds, self.release, owner, context=context)

    def release(self, owner: Owner) -> None:
        owner.suspended -= 1
        if not owner.suspended:
            self._ready += owner.parked
            owner.parked.clear()

    def _step(self, until: float) -> bool:
        """Run one callback; false when there is none before `until`."""
        while True:
            if self._timers and self._timers[0][0] <= self._now:
                self._ready.append(heapq.heappop(self._timers)[2])
                continue
            if not self._ready:
                if not self._timers or self._timers[0][0] > until:
                    self._now = max(self._now, until)
                    return False
                self._now = max(self._now, self._timers[0][0])
                continue
            handle = self._pick()
            callback, owner = handle.callback, handle.owner
            if callback is None or (owner is not None and not owner.alive):
                continue
            if owner is not None and owner.suspended:
                owner.parked.append(handle)
                continue
            break
        self.steps += 1
        self._now += self._rng.random() * _STEP
        with suppress(Killed):  # by a fault within a callback; a task keeps it to itself
            handle.context.run(callback, *handle.args)
        return True

    def _pick(self) -> _Handle:
        ready = self._ready
        index = int(self._rng.random() * len(ready))
        ready[index], ready[-1] = ready[-1], ready[index]
        return ready.pop()

    def close_tasks(self, owners: list[Owner]) -> None:
        """Let go of coroutines that never end, without running them any more."""
        for owner in owners:
            for task in owner.tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                if not task.done():
                    _close(task.get_coro())
            owner.tasks.clear()


def _close(coroutine: Any) -> None:
    for _ in range(10):  # a `finally` may await something
        try:
            coroutine.close()
            return
        except BaseException:
            continue
