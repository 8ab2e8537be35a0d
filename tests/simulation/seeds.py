"""Which seeds are run: new ones each day, so that many days try many more than one."""

from __future__ import annotations

import os
from datetime import UTC, datetime

_A_DAY = 1_000_000  # seeds that belong to one


def base_of_day() -> int:
    """The first seed of today (UTC), or `SIMULATION_SEED`."""
    told = os.environ.get("SIMULATION_SEED")
    return int(told) if told else datetime.now(UTC).toordinal() * _A_DAY
