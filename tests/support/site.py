"""The site that most tests set up: its settings, its clock, and where the project is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SEED = ROOT / "tests" / "data" / "seed.txt"

SETTINGS = """\
[site]
name = "Glow Letter"
base_url = "http://127.0.0.1:8000"
postal_address = "Glow Letter Ltd, 1 Rose Lane, London E1 6AN"
timezone = "Europe/London"
[sender]
name = "Glow Letter"
email = "hello@glow.example"
reply_to = "editors@glow.example"
[editors]
notify = ["editor@glow.example"]
[[providers]]
name = "main"
kind = "mailbox"
base_url = "http://127.0.0.1:8025"
api_key = "local-key"
webhook_secret = "local-hook"
"""


class FakeClock:
    """A clock that a test moves; `sleep` moves it too."""

    def __init__(self, now: datetime = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)) -> None:
        self.moment = now

    def now(self) -> datetime:
        return self.moment

    def advance(self, **delta: float) -> None:
        self.moment += timedelta(**delta)

    async def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
