"""Commands of the room `preview`: an issue before it is sent, on screen and in an inbox."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from newsletter.cli.base import Context, JsonOption, WorkspaceOption, emit, open_context

SlugArgument = Annotated[str, typer.Argument(metavar="SLUG", help="The issue's folder.")]


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command()(preview)
    app.command("test")(trial)


def preview(
    slug: SlugArgument,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0, the default, takes a free one.")
    ] = 0,
    workspace: WorkspaceOption = None,
) -> None:
    """Show an issue in the browser (desktop, phone, dark, text), anew after every edit."""
    from newsletter.logs import configure_logging
    from newsletter.web.preview import serve_preview

    context = open_context(workspace)
    configure_logging()
    serve_preview(context.workspace.root, slug, port)


def trial(
    slug: SlugArgument,
    to: Annotated[list[str], typer.Option("--to", metavar="EMAIL…", help="Who gets it.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="[EMAIL]…", hidden=True)] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="Else the first one.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send an issue to some addresses, marked as a test, with links that work."""
    import asyncio

    context = open_context(workspace)
    document = asyncio.run(_send(context, slug, [*to, *(more or [])], provider))

    def show() -> None:
        for email in document["accepted"]:
            typer.echo(f"accepted  {email}")
        for refused in document["rejected"]:
            typer.echo(f"refused   {refused['email']}: {refused['reason']}")

    emit(document, as_json, show)
    if document["rejected"]:
        raise typer.Exit(1)


async def _send(
    context: Context, slug: str, addresses: list[str], name: str | None
) -> dict[str, Any]:
    import secrets

    from newsletter.providers import open_provider, provider_named
    from newsletter.web.trial import send_test

    settings = provider_named(context.workspace, name)
    provider = open_provider(context.workspace, settings, context.clock)
    try:
        return await send_test(
            context.workspace,
            context.store,
            context.clock,
            provider,
            slug,
            addresses,
            nonce=secrets.token_hex(8),
        )
    finally:
        await provider.close()
