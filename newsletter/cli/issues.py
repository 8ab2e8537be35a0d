"""Commands about issues as files: `draft`, `issues`, `check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from newsletter.cli.base import (
    Context,
    JsonOption,
    WorkspaceOption,
    emit,
    open_context,
    show_entries,
)
from newsletter.errors import BadInput

if TYPE_CHECKING:
    from newsletter.checks import Finding
    from newsletter.drafting import Drafted
    from newsletter.drafting.listing import Listed

_COLOURS = {"block": "red", "warn": "yellow", "info": "cyan"}
_STATE_COLOURS = {"sent": "green", "held": "red", "broken": "red", "sending": "cyan"}

SlugArgument = Annotated[str, typer.Argument(metavar="SLUG", help="The issue's folder in issues/.")]


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command()(draft)
    app.command()(issues)
    app.command()(check)


def draft(
    slug: SlugArgument,
    subject: Annotated[str | None, typer.Option(help="The subject line.")] = None,
    sources: Annotated[
        str, typer.Option("--from", metavar="ID,ID…", help="Content to use, in this order.")
    ] = "",
    auto: Annotated[
        bool, typer.Option("--auto", help="Choose unsent content: newest, most different first.")
    ] = False,
    words: Annotated[int, typer.Option(min=1, max=1000, help="Length of an excerpt.")] = 60,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a new issue from content: issues/SLUG/issue.md, for you to edit."""
    from newsletter.drafting import draft_issue

    context = open_context(workspace)
    drafted = draft_issue(
        context.workspace,
        context.store,
        context.clock,
        slug,
        subject=subject,
        sources=_ids(sources),
        auto=auto,
        words=words,
    )
    document = {
        "issue": drafted.issue,
        "path": drafted.path,
        "blocks": [{"type": kind, "from": source} for kind, source in drafted.blocks],
    }
    emit(document, as_json, lambda: _show_draft(drafted))


def _ids(given: str) -> list[str]:
    ids = [part.strip() for part in given.split(",")]
    if given and not all(ids):
        raise BadInput("--from: an empty id", hint="Write --from articles/one,tips/two.")
    return ids if given else []


def _show_draft(drafted: Drafted) -> None:
    console = Console(soft_wrap=True)
    console.print(f"[bold]{escape(drafted.path)}[/bold] is ready to be edited:")
    for kind, source in drafted.blocks:
        console.print(f"  {kind:8} {escape(source)}")
    console.print(
        f"Next: newsletter preview {drafted.issue}, then newsletter check {drafted.issue}"
    )


def issues(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List all issues with what became of them."""
    from newsletter.clock import isoformat
    from newsletter.drafting.listing import list_states

    context = open_context(workspace)
    listed = list_states(context.workspace, context.store)
    document = [
        {
            "issue": entry.issue,
            "subject": entry.subject,
            "state": entry.state,
            "audience": entry.audience,
            "path": entry.path,
            "changed_at": isoformat(entry.changed_at),
            "send": entry.send,
            "error": entry.error,
        }
        for entry in listed
    ]

    def people() -> None:
        if not listed:
            typer.echo("No issue yet: newsletter draft SLUG --auto")
        show_entries((entry.issue, _state_lines(entry)) for entry in listed)

    emit(document, as_json, people)


def _state_lines(entry: Listed) -> tuple[str, str]:
    colour = _STATE_COLOURS.get(entry.state, "default")
    changed = f"{entry.changed_at:%Y-%m-%d %H:%M}Z"
    return (
        escape(entry.subject or entry.error or ""),
        f"[{colour}]{entry.state}[/{colour}] [dim]· {escape(entry.audience)} · {changed}[/dim]",
    )


def check(
    slug: SlugArgument,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not try whether links answer.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check an issue as `schedule` will; ends with 1 if something blocks it."""
    from newsletter.checks import blocks, check_issue

    context = open_context(workspace)
    findings = check_issue(
        context.workspace, context.store, context.clock, slug, offline=offline, fetcher=None
    )
    ok = not blocks(findings)
    document = {"issue": slug, "ok": ok, "findings": [finding.as_json() for finding in findings]}
    emit(document, as_json, lambda: _show_findings(context, slug, findings, ok=ok))
    if not ok:
        raise typer.Exit(1)


def _show_findings(context: Context, slug: str, findings: list[Finding], *, ok: bool) -> None:
    console = Console(highlight=False)
    for severity, title in (("block", "Blocking"), ("warn", "Warnings"), ("info", "Notes")):
        group = [finding for finding in findings if finding.severity == severity]
        if not group:
            continue
        console.print(f"[bold {_COLOURS[severity]}]{title}[/]")
        for finding in group:
            place = f"{finding.file}:{finding.line}" if finding.line else finding.file
            console.print(
                f"  [bold]{escape(place)}[/bold] {escape(finding.message)}", soft_wrap=True
            )
            if finding.hint:
                console.print(f"    {escape(finding.hint)}", style="dim", soft_wrap=True)
            console.print(
                f"    {finding.rule} · {escape(finding.source)}", style="dim", soft_wrap=True
            )
    verdict = "[green]can be scheduled[/green]" if ok else "[red]cannot be scheduled yet[/red]"
    console.print(f"[bold]{escape(slug)}[/bold] {verdict}")
