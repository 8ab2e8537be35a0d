"""Commands of the room `report`: what became of a send."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from newsletter.cli.base import JsonOption, WorkspaceOption, emit, open_context


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command()(report)


def report(
    send: Annotated[str, typer.Argument(metavar="SEND", help="The send, as `schedule` named it.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what readers did with a send: opens, clicks, unsubscribes; machines apart."""
    from newsletter.reports import report as make_report

    context = open_context(workspace)
    document = make_report(context.workspace, context.store, send)
    emit(document, as_json, lambda: _show(document))


def _show(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    title = Text.assemble((document["send"], "bold"), f"  {document['state']}")
    if document["reason"]:
        title.append(f": {document['reason']}")
    console.print(title, soft_wrap=True)
    counts = {name: count for name, count in document["counts"].items() if count}
    console.print(Text(", ".join(f"{count:,} {name}" for name, count in counts.items()) or "-"))
    numbers = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("", "people", "times", "by machines"):
        numbers.add_column(heading, justify="left" if not heading else "right")
    for name in ("opens", "clicks"):
        row = document[name]
        people = "unknown" if row["unique"] is None else f"{row['unique']:,}"
        numbers.add_row(name, people, f"{row['human']:,}", f"{row['machine']:,}")
    numbers.add_row("unsubscribes", f"{document['unsubscribes']:,}", "", "")
    console.print()
    console.print(numbers)
    if document["links"]:
        console.print()
        console.print(_links(document["links"]))


def _links(links: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("clicks", justify="right")
    table.add_column("by machines", justify="right")
    table.add_column("link", overflow="fold")
    for link in links:
        table.add_row(f"{link['clicks']:,}", f"{link['machine']:,}", Text(link["url"]))
    return table
