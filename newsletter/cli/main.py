"""Puts the commands together and turns every ending into an exit code of the contract."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import typer

from newsletter import __version__
from newsletter.cli import base
from newsletter.errors import NewsletterError

ROOMS = (
    "workspace",
    "content",
    "issues",
    "render",
    "preview",
    "audience",
    "schedule",
    "ledger",
    "report",
    "editions",
    "serving",
    "web",
    "mailbox",
    "providers",
)

app = typer.Typer(
    name="newsletter",
    help="From articles and tips to subscribers' inboxes, on its rhythm and exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _root(workspace: base.WorkspaceOption = None) -> None:
    base._given["workspace"] = workspace


def main() -> None:
    """The console script: never a traceback, always one of the contract's exit codes."""
    for room in ROOMS:
        importlib.import_module(f"newsletter.cli.{room}").register(app)
    run(app)


def run(command: Callable[[], object]) -> None:
    """Run a command line and turn its ending into an exit code; no traceback reaches a user."""
    if "--version" in sys.argv[1:]:
        print(f"newsletter {__version__}")  # noqa: T201
        raise SystemExit(0)
    try:
        command()
    except NewsletterError as error:
        print(f"newsletter: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
    except OSError as error:
        print(f"newsletter: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(5) from None
