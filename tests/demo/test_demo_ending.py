"""The demo starts processes of its own: none may outlive it, however it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.command]


def _running_in(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve(strict=True) == folder.resolve():
                found.append(int(process.name))
        except OSError:  # ended meanwhile, or not ours to see
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)]
)
def test_ending_the_demo_ends_what_it_started(
    tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NEWSLETTER_")}
    demo = subprocess.Popen(
        [sys.executable, "-m", "newsletter", "demo"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    folder = tmp_path / "var" / "demo"
    end = time.monotonic() + 60
    while len(_running_in(folder)) < 3 and time.monotonic() < end:  # mailbox, web, scheduler
        time.sleep(0.1)
    assert len(_running_in(folder)) >= 3
    demo.send_signal(sent)
    assert demo.wait(timeout=60) == code
    assert _running_in(folder) == []
