"""`content add`, `content list` and `content remove`: articles and tips in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from newsletter.cli.base import JsonOption, WorkspaceOption, emit, open_context, show_entries

if TYPE_CHECKING:
    from newsletter.content.adding import Added

content = typer.Typer(help="Articles and tips: add, list, remove.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.add_typer(content, name="content")


def _line_numbers(value: str | None) -> tuple[int, ...]:
    from newsletter.errors import BadInput

    if value is None:
        return ()
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError as error:
        raise BadInput(
            f"--split-at: {value!r} is no list of line numbers",
            hint="Write the line numbers at which the second and later articles begin: 5,16,28.",
        ) from error


@content.command("add")
def add(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE…", help="Files, folders, web pages or feeds."),
    ],
    kind: Annotated[
        Literal["article", "tip"] | None,
        typer.Option(
            help="What it becomes: articles unless told. With 'tip', a list gives one tip a line"
            " and an article the instructions found in it."
        ),
    ] = None,
    split_at: Annotated[
        str | None,
        typer.Option(
            metavar="LINE,LINE…",
            help="The line numbers at which the second and later articles begin, such as 5,16,28,"
            " where the guess is wrong.",
        ),
    ] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Add articles or tips. The same thing again adds nothing; what is like others is reported."""
    from newsletter.content.adding import add_content
    from newsletter.errors import BadInput
    from newsletter.fetching import Fetcher

    context = open_context(workspace)
    added = add_content(
        context.workspace,
        context.store,
        context.clock,
        sources,
        kind=kind,
        split_at=_line_numbers(split_at),
        fetcher=Fetcher(context.workspace.settings.fetch),
    )
    if added.nothing_read:
        reasons = "\n  ".join(f"{each.source}: {each.reason}" for each in added.rejected)
        raise BadInput(f"nothing could be read\n  {reasons}")
    emit(added.as_json(), as_json, lambda: _show_added(added))


def _show_added(added: Added) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=True)
    for item in added.added:
        console.print(
            f"[green]added[/] {escape(item.id)}  {escape(item.title)}"
            f" [dim]({item.words} words, {escape(item.source)})[/]"
        )
    for id in added.unchanged:
        console.print(f"[dim]unchanged {escape(id)}[/]")
    for duplicate in added.duplicates:
        console.print(
            f"[yellow]similar[/] {escape(duplicate.id)} to {escape(duplicate.of)}:"
            f" {duplicate.similarity:.0%}, {len(duplicate.passages)} passages"
        )
        for passage in duplicate.passages[:3]:
            console.print(f"    [dim]{escape(passage)}[/]")
    for call in added.calls_to_action:
        console.print(
            f"[cyan]call to action[/] {escape(call['source'])}:{call['line']}"
            f" {escape(call['text'])} [dim](in no article)[/]"
        )
    for doubt in added.uncertain:
        console.print(
            f"[yellow]uncertain[/] {escape(doubt['source'])}:{doubt['line']}"
            f" {escape(doubt['reason'])}"
        )
    for refused in added.rejected:
        console.print(f"[red]rejected[/] {escape(refused.source)}: {escape(refused.reason)}")


@content.command("list")
def list_items(as_json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """List all articles and tips, and the issues that use them."""
    from newsletter.content.adding import summary
    from newsletter.content.library import load_items, uses

    context = open_context(workspace)
    used = uses(context.workspace)
    items = load_items(context.workspace)
    rows = [{**summary(item), "used_in": used.get(item.id, [])} for item in items]

    def show() -> None:
        from rich.markup import escape

        if not rows:
            typer.echo("No articles and no tips yet: newsletter content add.")
        show_entries(
            (escape(row["id"]), (escape(row["title"]), f"[dim]{_use(row)}[/dim]")) for row in rows
        )

    emit(rows, as_json, show)


def _use(row: dict[str, Any]) -> str:
    used = f", used in {', '.join(row['used_in'])}" if row["used_in"] else ""
    return f"{row['words']:,} words{used}"


@content.command("remove")
def remove(
    id: Annotated[str, typer.Argument(metavar="ID", help="articles/NAME or tips/NAME.")],
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Remove an article or tip that no issue uses."""
    from newsletter.content.adding import remove_content

    context = open_context(workspace)
    removed = remove_content(context.workspace, context.store, id)

    def show() -> None:
        typer.echo(f"removed {removed['path']}")

    emit(removed, as_json, show)
