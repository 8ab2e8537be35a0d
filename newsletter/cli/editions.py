"""Commands of the room `editions`: where the newsletter's rhythm stands, and a person's yes."""

from __future__ import annotations

import getpass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from newsletter.cli.base import JsonOption, WorkspaceOption, emit, open_context, show_entries

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from newsletter.scheduling import Approval


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command("editions")(editions)
    app.command("approve")(approve)


def editions(as_json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Show where every edition stands: its next draft, its next hour, its state and why."""
    from newsletter.scheduling import edition_states

    context = open_context(workspace)
    states = edition_states(context.workspace, context.store, context.clock)
    emit(states, as_json, lambda: _show(states, context.workspace.settings.site.zone))


def approve(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="The issue's name.")],
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who approves; else your login.")
    ] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Approve an issue exactly as it is now. A later edit voids it."""
    from newsletter.scheduling import approve as approve_issue
    from newsletter.scheduling import check_editions

    context = open_context(workspace)
    check_editions(context.workspace.settings)
    done = approve_issue(context.workspace, context.store, context.clock, slug, by or _login())
    zone = context.workspace.settings.site.zone
    emit(done.as_json(), as_json, lambda: _show_approval(done, zone))


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "an editor"


def _show(states: list[dict[str, Any]], zone: ZoneInfo) -> None:
    from rich.markup import escape

    if not states:
        typer.echo("There are no editions. Add [[editions]] to newsletter.toml.")
    show_entries(
        (escape(state["name"]), map(escape, _state_lines(state, zone))) for state in states
    )


def _state_lines(state: dict[str, Any], zone: ZoneInfo) -> tuple[str, ...]:
    draft, send = (_local(state[key], zone) for key in ("next_draft_at", "next_send_at"))
    issue = f" · {state['issue']}" if state["issue"] else ""
    return f"{state['state']}{issue}", state["reason"], f"next draft {draft}", f"next send  {send}"


def _local(moment: str, zone: ZoneInfo) -> str:
    return f"{datetime.fromisoformat(moment).astimezone(zone):%a %d %b %Y, %H:%M}"


def _show_approval(done: Approval, zone: ZoneInfo) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{done.issue}[/] is approved by {done.approved_by}, as it is now")
    console.print(f"  frozen as {done.frozen[:16]}…")
    if done.send_at is not None:
        local = done.send_at.astimezone(zone)
        console.print(f"  it goes out on {local:%A %d %B %Y, %H:%M} ({zone.key})")
    else:
        console.print(f"  no edition waits for it: send it with `newsletter send {done.issue}`")
