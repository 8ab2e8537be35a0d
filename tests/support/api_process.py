"""A provider's test server in a process of its own, whose SQLite file says who got what."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from newsletter.mailbox.faults import FAULTS
from support.site import ROOT


class ApiProcess:
    """`python -m support.<module>` with a database in `folder`; options as the module takes."""

    def __init__(self, module: str, folder: Path, *options: str) -> None:
        self.db = folder / f"{module}.db"
        command = [sys.executable, "-m", f"support.{module}", "--port", "0", "--db", str(self.db)]
        path = f"{ROOT / 'tests'}{os.pathsep}{ROOT}"
        self.process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        found = re.search(r"http://[\d.]+:\d+", self.process.stdout.readline())
        assert found, f"{module} did not start"
        self.url = found[0]

    def set_faults(self, **faults: Any) -> None:
        """Replace all fault switches; `seed` is one of them."""
        document = {name: faults.get(name) for name in FAULTS} | {"seed": faults["seed"]}
        request = urllib.request.Request(
            f"{self.url}/faults", json.dumps(document).encode(), method="PUT"
        )
        urllib.request.urlopen(request, timeout=10).close()

    def received(self, domain: str) -> Counter[str]:
        """How many messages the server itself has kept for each address of a domain."""
        query = "SELECT recipient, count(*) FROM messages WHERE recipient LIKE ? GROUP BY recipient"
        with closing(sqlite3.connect(self.db)) as connection:
            return Counter(dict(connection.execute(query, (f"%@{domain}",))))

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)
