"""What every command shares: options, output, and errors turned into messages and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from newsletter.clock import SystemClock, clock_from_environment
from newsletter.workspace import Workspace, find_workspace

if TYPE_CHECKING:
    from newsletter.store import Store

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", help="The workspace's folder, instead of the nearest parent's."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output and nothing else.")
]


@dataclass
class Context:
    """One command's surroundings. `--workspace` is found before or after the command's name."""

    workspace: Workspace
    clock: SystemClock
    _store: Store | None = None

    @property
    def store(self) -> Store:
        """The database, opened (and migrated) when a command first needs it."""
        if self._store is None:
            from newsletter.store import open_store

            self._store = open_store(self.workspace.settings.database.url, self.workspace.root)
        return self._store


_given: dict[str, Path | None] = {"workspace": None}


def open_context(workspace: Path | None = None) -> Context:
    """The workspace and clock of a command. Raises `BadInput` where there is none."""
    return Context(find_workspace(workspace or _given["workspace"]), clock_from_environment())


def emit(document: Any, as_json: bool, show: Callable[[], None]) -> None:
    """Print one JSON document, or call `show` to print it for a person."""
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
        sys.stdout.flush()
    else:
        show()


def show_entries(entries: Iterable[tuple[str, Iterable[str]]]) -> None:
    """Print a list for a person: what it is called on a line of its own, what is known below.

    A table would cut a name short on a narrow terminal, and the name is what the next command
    needs. Texts are rich's markup; empty ones are left out.
    """
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    for name, details in entries:
        console.print(f"[bold]{name}[/bold]")
        for line in details:
            if line:
                console.print(f"  {line}")
