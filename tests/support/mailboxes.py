"""A real mailbox server in a process of its own, whose storage can be asked who got what."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from newsletter.mailbox.faults import FAULTS

ROOT = Path(__file__).parent.parent.parent
TOKEN = "local-key"


@dataclass
class RunningMailbox:
    url: str
    storage: Path
    process: subprocess.Popen[str]

    def set_faults(self, **faults: Any) -> None:
        """Replace all fault switches; `seed` is one of them."""
        names = {*FAULTS}
        document = {name: faults.get(name) for name in names} | {"seed": faults.get("seed", 0)}
        with httpx.Client(trust_env=False) as client:
            answer = client.put(
                f"{self.url}/v1/faults",
                json=document,
                headers={"Authorization": f"Bearer {TOKEN}"},
            )
        assert answer.status_code == 200, answer.text

    def received(self, domain: str) -> Counter[str]:
        """How many messages the mailbox itself has kept for each address of a domain."""
        query = "SELECT recipient, count(*) FROM messages WHERE recipient LIKE ? GROUP BY recipient"
        with closing(sqlite3.connect(self.storage / "mailbox.db")) as connection:
            return Counter(dict(connection.execute(query, (f"%@{domain}",))))


@contextmanager
def running_mailbox(folder: Path, *options: str) -> Iterator[RunningMailbox]:
    """A mailbox on a free port, ended afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "newsletter", "mailbox", "--port", "0", "--token", TOKEN]
    process = subprocess.Popen(
        [*command, "--storage", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=(folder / "log").open("w"),
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://[\d.]+:\d+", line)
        assert found, (line, (folder / "log").read_text())
        yield RunningMailbox(found[0], folder, process)
    finally:
        process.terminate()
        process.wait(10)
