"""Commands that make a workspace: `init`, and `demo` on one of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from newsletter.cli.base import JsonOption, emit


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command()(init)
    app.command()(demo)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make it in.")],
    as_json: JsonOption = False,
) -> None:
    """Make a new workspace: settings, folders for content, issues and templates."""
    from newsletter.starter import create_workspace

    made = create_workspace(folder)

    def show() -> None:
        typer.echo(f"A workspace is in {folder}. Next:")
        typer.echo("  1. fill in newsletter.toml: the postal address, the sender, a provider")
        typer.echo("  2. newsletter content add FILE, then newsletter draft SLUG --auto")
        typer.echo("  3. newsletter preview SLUG, newsletter check SLUG")
        typer.echo("  4. newsletter audience import FILE --consent TEXT")
        typer.echo("  5. newsletter schedule SLUG --at TIME, with `newsletter run` running")

    emit({"workspace": str(made)}, as_json, show)


def demo(
    once: Annotated[bool, typer.Option("--once", help="End when it is done.")] = False,
) -> None:
    """Do the main job on the sample content, in a workspace of its own under var/."""
    from newsletter.demo import run_demo

    run_demo(Path.cwd() / "var" / "demo", once=once)
