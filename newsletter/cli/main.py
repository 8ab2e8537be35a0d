"""Puts the commands together and turns every ending into an exit code of the contract."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import tempfile
import traceback
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


#: These end in order from their first moment on: with 0 on SIGTERM, with 130 on Ctrl-C.
_LONG_RUNNING = frozenset(
    {"scheduler", "worker", "web", "run", "mailbox", "preview", "demo", "--watch"}
)


def main() -> None:
    """The console script: never a traceback, always one of the contract's exit codes."""
    if not _LONG_RUNNING.isdisjoint(sys.argv[1:]):
        # Until they have handlers of their own. No KeyboardInterrupt: raised while an extension
        # module is imported, CPython ends the process by the signal even if it was handled.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    run(_command_line)


def _command_line() -> None:
    """The commands of every room; importing them takes a while, in which Ctrl-C may come too."""
    for room in ROOMS:
        importlib.import_module(f"newsletter.cli.{room}").register(app)
    app()


def run(command: Callable[[], object]) -> None:
    """Run a command line and turn its ending into an exit code; no traceback reaches a user."""
    if "--version" in sys.argv[1:]:
        typer.echo(f"newsletter {__version__}")
        raise SystemExit(0)
    for name in ("stdout", "stderr"):  # closed by whoever started us (`>&-`)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # to the end
    try:
        command()
    except NewsletterError as error:
        typer.echo(f"newsletter: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
    except OSError as error:
        hint = _REMEDIES.get(error.errno or 0, "See that it is there and can be used.")
        typer.echo(f"newsletter: {error}\n  {hint}", err=True)
        raise SystemExit(5) from None
    except Exception as error:  # a fault of ours: whoever meets it needs words, we the details
        typer.echo(f"newsletter: {_fault(error)}", err=True)
        raise SystemExit(1) from None


_REMEDIES = {
    errno.ENOSPC: "Make room on the disk and try again.",
    errno.EROFS: "The disk is read-only: name a folder that can be written to.",
    errno.EACCES: "Give the user that runs newsletter the right to it.",
    errno.EADDRINUSE: "Another program listens there: give another --port, or 0.",
}


def _fault(error: Exception) -> str:
    """What to say of a fault in newsletter itself; its traceback goes to a file."""
    told = f"a fault in newsletter itself: {type(error).__name__}: {error}"
    try:
        file, name = tempfile.mkstemp(prefix="newsletter-fault-", suffix=".txt")
        with os.fdopen(file, "w", encoding="utf-8", errors="backslashreplace") as report:
            traceback.print_exception(error, file=report)
    except OSError:
        return told
    return f"{told}\n  Please report it, with {name}."
