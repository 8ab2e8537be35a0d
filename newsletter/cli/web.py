"""Commands of the room `web`: the public site in a process of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from newsletter.cli.base import WorkspaceOption, open_context


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command("web")(web)


def web(
    host: Annotated[
        str | None, typer.Option("--host", help="The address to listen on; else the settings'.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="0 takes a free one; else the settings'."),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Serve the public pages: sign-up, preferences, archive, images, tracking, webhooks."""
    from newsletter.logs import configure_logging
    from newsletter.web import serve

    context = open_context(workspace)
    settings = context.workspace.settings.web
    configure_logging()
    serve(
        context.workspace,
        context.clock,
        host if host is not None else settings.host,
        port if port is not None else settings.port,
    )
