"""The scheduler as a script, the same as `newsletter scheduler [--until-idle]`.

It hands APScheduler's clock to the library. APScheduler only wakes the library, from memory and in
UTC; what is due is computed by the library, and the database is the truth.
"""

from __future__ import annotations

from datetime import UTC

import typer
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from newsletter.cli import run
from newsletter.cli.base import WorkspaceOption, open_context
from newsletter.cli.serving import UntilIdleOption, run_service
from newsletter.service import Ticker


def main(until_idle: UntilIdleOption = False, workspace: WorkspaceOption = None) -> None:
    """Run what is due: feeds, editions, sends and notices."""
    clock = AsyncIOScheduler(timezone=UTC)
    run_service(open_context(workspace), Ticker(clock), until_idle=until_idle)


if __name__ == "__main__":
    run(lambda: typer.run(main))
