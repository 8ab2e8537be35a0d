"""Commands of the audience: import, add, show, export, forget, suppress, segments."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from newsletter.cli.base import JsonOption, WorkspaceOption, emit, open_context
from newsletter.errors import BadInput
from newsletter.suggest import shorten

if TYPE_CHECKING:
    from newsletter.audience.importing import Progress


def _address(text: str) -> str:
    """The argument itself, if it is an address; else the error quotes it."""
    from newsletter.audience.addresses import BadAddress, normalise_address

    try:
        normalise_address(text)
    except BadAddress as error:
        raise BadInput(
            f"EMAIL: {shorten(text)!r}: {error.message}", hint="Write it as name@example.com."
        ) from error
    return text


EmailArgument = Annotated[
    str, typer.Argument(metavar="EMAIL", help="An email address.", callback=_address)
]
ConsentOption = Annotated[
    str,
    typer.Option("--consent", help="The source of their consent, recorded; makes them active."),
]
SegmentOption = Annotated[str, typer.Option("--segment", help="Put them in this segment.")]

_REJECTED_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    audience = typer.Typer(
        name="audience", help="Who is written to, and who never again.", no_args_is_help=True
    )
    audience.command("import")(import_)
    audience.command()(add)
    audience.command()(show)
    audience.command()(export)
    audience.command()(forget)
    audience.command()(suppress)
    audience.command()(segments)
    app.add_typer(audience)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV file with a column `email`.")],
    consent: ConsentOption = "",
    segment: SegmentOption = "",
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Import people from a CSV file; nobody who left, bounced or was suppressed is revived."""
    from newsletter.audience.importing import import_csv

    context = open_context(workspace)
    with _progress(file) as progress:
        result = import_csv(
            context.store,
            context.workspace,
            context.clock,
            file,
            consent=consent,
            segment=segment,
            progress=progress,
        )

    def display() -> None:
        typer.echo(
            f"{result.read} rows: {result.added} added, {result.updated} updated, "
            f"{result.unchanged} unchanged, {result.suppressed} suppressed, "
            f"{len(result.rejected)} rejected"
        )
        for row in result.rejected[:_REJECTED_SHOWN]:
            typer.echo(f"  {file}:{row['line']}: {row['email'] or '(no address)'}: {row['reason']}")
        if len(result.rejected) > _REJECTED_SHOWN:
            typer.echo(
                f"  and {len(result.rejected) - _REJECTED_SHOWN} more; --json lists them all"
            )
        if result.added and not consent:
            typer.echo("Without --consent they are pending and get no issue until they confirm.")

    emit(result.document(), as_json, display)


def add(
    email: EmailArgument,
    first_name: Annotated[str, typer.Option("--first-name")] = "",
    last_name: Annotated[str, typer.Option("--last-name")] = "",
    field: Annotated[
        list[str] | None, typer.Option("--field", metavar="NAME=VALUE", help="Repeatable.")
    ] = None,
    topic: Annotated[list[str] | None, typer.Option("--topic", help="Repeatable.")] = None,
    consent: ConsentOption = "",
    segment: SegmentOption = "",
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Add one person: active with --consent, pending without."""
    from newsletter import audience

    context = open_context(workspace)
    fields = dict(_name_and_value(pair) for pair in field or [])
    with context.store.begin() as connection:
        audience.add(
            connection,
            context.workspace.key,
            email,
            now=context.clock.now(),
            first_name=first_name,
            last_name=last_name,
            topics=topic,
            fields=fields,
            consent=consent,
            segment=segment,
        )
        person = audience.show(connection, email)
    emit(person, as_json, lambda: _print_person(person))


def show(
    email: EmailArgument, as_json: JsonOption = False, workspace: WorkspaceOption = None
) -> None:
    """Show one person: state, fields, segments, consent and history."""
    from newsletter import audience

    context = open_context(workspace)
    with context.store.read() as connection:
        person = audience.show(connection, email)
    emit(person, as_json, lambda: _print_person(person))


def export(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Instead of standard output.")
    ] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Export everybody but the erased as CSV; cells that a spreadsheet would run are defused."""
    from newsletter.audience.exporting import atomic_file, export_csv, export_json

    context = open_context(workspace)
    write = export_json if as_json else export_csv
    if out is not None:
        with atomic_file(out) as file:
            count = write(context.store, file)
        typer.echo(f"{count} people in {out}", err=True)
        return
    text = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
    try:
        write(context.store, text)
        text.flush()
    finally:
        text.detach()


def forget(
    email: EmailArgument, as_json: JsonOption = False, workspace: WorkspaceOption = None
) -> None:
    """Erase a person; a keyed hash of the address stays, so that nobody adds them again."""
    from newsletter import audience

    context = open_context(workspace)
    with context.store.begin() as connection:
        audience.forget(connection, context.workspace.key, email, context.clock.now())
    emit({"email": email, "state": "forgotten"}, as_json, lambda: typer.echo(f"{email}: erased"))


def suppress(
    email: EmailArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Keep an address, known or not, out of every later send."""
    from newsletter import audience

    if not reason.strip():
        raise BadInput("--reason: say why; it is kept for the record")
    context = open_context(workspace)
    with context.store.begin() as connection:
        audience.suppress(
            connection, context.workspace.key, email, reason=reason, now=context.clock.now()
        )
    document = {"email": email, "suppressed": reason}
    emit(document, as_json, lambda: typer.echo(f"{email}: suppressed ({reason})"))


def segments(as_json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """List the segments and how many would be written to now; `all` is everybody active."""
    from newsletter import audience

    context = open_context(workspace)
    with context.store.read() as connection:
        found = audience.segments(connection)

    def display() -> None:
        for segment in found:
            typer.echo(f"{segment['size']:>9}  {segment['name']}")

    emit(found, as_json, display)


def _name_and_value(pair: str) -> tuple[str, str]:
    name, sign, value = pair.partition("=")
    if not sign or not name.strip():
        raise typer.BadParameter(f"write NAME=VALUE, not {pair!r}", param_hint="--field")
    return name, value


def _print_person(person: dict[str, Any]) -> None:
    name = f"{person['first_name']} {person['last_name']}".strip()
    suppressed = f", suppressed ({person['suppressed']})" if person["suppressed"] else ""
    typer.echo(f"{person['email']}  {name}".rstrip())
    typer.echo(f"  state     {person['state']}{suppressed}")
    typer.echo(f"  segments  {', '.join(person['segments']) or '-'}")
    typer.echo(f"  topics    {', '.join(person['topics']) or '-'}")
    for field, value in person["fields"].items():
        typer.echo(f"  {field}  {value}")
    for consent in person["consent"]:
        typer.echo(f"  consent   {consent['at']}  {consent['how']}  {consent['text']}")
    for entry in person["history"]:
        typer.echo(f"  history   {entry['at']}  {entry['event']}  {entry['detail']}".rstrip())


@contextmanager
def _progress(file: Path) -> Iterator[Progress | None]:
    """A bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(file.name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
