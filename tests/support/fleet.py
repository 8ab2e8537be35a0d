"""Several real engines in processes of their own, which a round kills, stops and restarts.

What a round does follows from its seed; when the processes get to run does not, so a seed repeats
the weather and not the instant. The provider's own record decides whether it held.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from newsletter.workspace import Workspace
from support.crashing import KILLED, in_process, run_engine

_ROUND_SECONDS = 240
BATCH = 100  # smaller than the provider takes: more requests to be interrupted in


@dataclass
class Fleet:
    """Workers over one ledger; `tend` keeps `size` of them running until the send is over."""

    workspace: Workspace
    url: str
    log: Path
    rng: random.Random
    size: int
    without_keys: bool = False
    running: dict[int, bool] = field(default_factory=dict)  # pid → stopped
    codes: list[int] = field(default_factory=list)
    acts: int = 0  # done while the send went on

    def start(self) -> int:
        body = partial(
            run_engine,
            self.workspace,
            self.url,
            self.rng.randrange(10**9),
            without_keys=self.without_keys,
            batch_size=BATCH,
        )
        pid = in_process(body, self.log)
        self.running[pid] = False
        return pid

    def kill(self) -> None:
        """SIGKILL to one of them."""
        self._signal(self._any(), signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP to one that runs."""
        awake = [pid for pid, stopped in self.running.items() if not stopped]
        if awake:
            pid = self.rng.choice(awake)
            self._signal(pid, signal.SIGSTOP)
            self.running[pid] = True

    def thaw(self) -> None:
        """SIGCONT to all that are stopped: they wake where they were."""
        for pid, stopped in list(self.running.items()):
            if stopped:
                self._signal(pid, signal.SIGCONT)
                self.running[pid] = False

    def reap(self) -> None:
        """Notice who has ended."""
        for pid in list(self.running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self.running[pid]
                code = KILLED if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
                self.codes.append(code)

    def tend(self, over: Callable[[], bool], act: Callable[[int], None], actions: int) -> None:
        """Do `actions` acts at random moments, then let the fleet end; `over` tells of the send.

        A worker that ends is replaced for as long as the send goes on.
        """
        limit = time.monotonic() + _ROUND_SECONDS
        next_act = time.monotonic() + self.rng.uniform(0.2, 0.6)
        done = 0
        while True:
            self.reap()
            ended = over()
            if ended:
                break
            while len(self.running) < self.size:
                self.start()
            if done < actions and time.monotonic() >= next_act:
                act(done)
                done += 1
                self.acts += 1
                next_act = time.monotonic() + self.rng.uniform(0.2, 0.9)
            elif done == actions:
                self.thaw()
            assert time.monotonic() < limit, f"not over: {self.log.read_text()[-3000:]}"
            time.sleep(0.02)
        self.thaw()
        while self.running:
            assert time.monotonic() < limit, f"workers hang: {self.log.read_text()[-3000:]}"
            self.reap()
            time.sleep(0.02)

    def end(self) -> None:
        """Nobody is left behind, whatever failed."""
        for pid in list(self.running):
            self._signal(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            del self.running[pid]

    def _any(self) -> int:
        return self.rng.choice(list(self.running)) if self.running else 0

    def _signal(self, pid: int, number: signal.Signals) -> None:
        if pid in self.running:
            os.kill(pid, number)
