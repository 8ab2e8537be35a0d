"""Commands of the room `ledger`: what became of a send, and what a person does to one."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from newsletter.cli.base import JsonOption, WorkspaceOption, emit, open_context, show_entries
from newsletter.errors import DoesNotHold

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from newsletter.delivery import Reconciled

SendArgument = Annotated[
    str, typer.Argument(metavar="SEND", help="The send's name, such as milia.1, or its issue.")
]

ledger = typer.Typer(help="The record of who was sent what.", no_args_is_help=True)


class Format(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


class Decision(StrEnum):
    RESEND = "resend"
    ABANDON = "abandon"


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command("status")(status)
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("cancel")(cancel)
    app.add_typer(ledger, name="ledger")


def status(
    send: Annotated[
        str | None,
        typer.Argument(metavar="[SEND]", help="A send's name or its issue; all without it."),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Show how it goes on until it is over; lines where piped."),
    ] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Show where a send stands, or all of them."""
    from newsletter.cli.watching import watch as keep_watching
    from newsletter.delivery import list_status
    from newsletter.delivery import status as status_of

    context = open_context(workspace)
    if watch:
        keep_watching(context, send, as_json)
        return
    with context.store.read() as connection:
        if send is None:
            documents = list_status(connection, context.workspace, context.clock.now())
            emit(documents, as_json, lambda: _show_list(documents))
        else:
            document = status_of(connection, context.workspace, send, context.clock.now())
            emit(document, as_json, lambda: _show(document))


def pause(
    send: SendArgument, as_json: JsonOption = False, workspace: WorkspaceOption = None
) -> None:
    """Stop before the next batch; requests in flight still end and are recorded."""
    from newsletter.delivery import pause as pause_send

    _change(pause_send, send, as_json, workspace)


def resume(
    send: SendArgument, as_json: JsonOption = False, workspace: WorkspaceOption = None
) -> None:
    """Go on with a paused send, or with a held one once its cause is gone."""
    from newsletter.delivery import resume as resume_send

    _change(resume_send, send, as_json, workspace)


def cancel(
    send: SendArgument, as_json: JsonOption = False, workspace: WorkspaceOption = None
) -> None:
    """End a send for good; the reason says how many had left."""
    from newsletter.delivery import cancel as cancel_send

    _change(cancel_send, send, as_json, workspace)


@ledger.command("export")
def export(
    send: SendArgument,
    form: Annotated[Format, typer.Option("--format", help="A JSON object a line, or CSV.")] = (
        Format.JSONL
    ),
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write one line a recipient to standard output."""
    from newsletter.delivery import export_rows

    context = open_context(workspace)
    rows = export_rows(context.store, send)
    if form is Format.CSV:
        _write_csv(rows)
        return
    for row in rows:
        sys.stdout.buffer.write(orjson.dumps(row) + b"\n")
    sys.stdout.flush()


@ledger.command("verify")
def verify(
    send: SendArgument, as_json: JsonOption = False, workspace: WorkspaceOption = None
) -> None:
    """Prove the send from its rows and attempts alone."""
    from newsletter.delivery import verify as verify_send

    context = open_context(workspace)
    document = verify_send(context.store, send)

    def show() -> None:
        _print(f"{document['send']}: {document['recipients']} recipients")
        for violation in document["violations"]:
            _print(f"  [red]violation[/red] {violation}", markup=True)
        if document["ok"]:
            _print("[green]every invariant holds[/green]", markup=True)

    emit(document, as_json, show)
    if not document["ok"]:
        raise typer.Exit(DoesNotHold.exit_code)


@ledger.command("resolve")
def resolve(
    send: SendArgument,
    in_doubt: Annotated[
        Decision,
        typer.Option(
            "--in-doubt", help="Send them again (some may get it twice), or leave them out."
        ),
    ],
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Decide deliveries whose outcome nothing could settle."""
    from newsletter.delivery import resolve as resolve_send

    def decide(connection: Connection, name: str, now: datetime) -> Any:
        return resolve_send(connection, name, in_doubt.value, now)

    _change(decide, send, as_json, workspace)


@ledger.command("reconcile")
def reconcile(
    accept: Annotated[
        bool,
        typer.Option(
            "--accept",
            help="Ask nobody: a database that was moved goes on as it is; in any other, whatever "
            "is unfinished waits for you.",
        ),
    ] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """After a restore: catch up with what the providers accepted, and send again."""
    import asyncio

    from newsletter.delivery import open_runtime
    from newsletter.delivery import reconcile as reconcile_ledger
    from newsletter.logs import configure_logging

    configure_logging()
    context = open_context(workspace)
    runtime = open_runtime(context.workspace, context.store, context.clock)
    progress = _Line() if sys.stderr.isatty() else _no_progress
    try:
        done = asyncio.run(reconcile_ledger(runtime, accept=accept, progress=progress))
    finally:
        progress("")  # what comes next has the line for itself, an error too
    emit(done.as_json(), as_json, lambda: _show_reconciled(done))
    if done.quarantined and not done.released:
        raise typer.Exit(DoesNotHold.exit_code)


def _show_reconciled(done: Reconciled) -> None:
    if not done.quarantined:
        _print("Sending is not quarantined: there is nothing to reconcile.")
        return
    _print(done.reason)
    for each in done.sends:
        _print(
            f"  {each.send}: {each.found:,} with the provider, {each.unsent:,} unsent, "
            f"{each.in_doubt:,} in doubt"
        )
    if not done.released:
        _print("Nothing is sent yet: run this again once the cause is gone.")
        return
    _print("The quarantine is lifted: what is provably unsent goes on.")
    if any(each.in_doubt for each in done.sends):
        _print("Decide what is in doubt with `newsletter ledger resolve SEND`.")


class _Line:
    """One line on the terminal that is written over."""

    def __call__(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _no_progress(_text: str) -> None:
    return None


def _change(
    change: Callable[[Connection, str, datetime], Any], send: str, as_json: bool, workspace: Any
) -> None:
    from newsletter.delivery import status as status_of

    context = open_context(workspace)
    with context.store.begin() as connection:
        row = change(connection, send, context.clock.now())
    with context.store.read() as connection:
        document = status_of(connection, context.workspace, row.send, context.clock.now())
    emit(document, as_json, lambda: _show(document))


def _show(document: dict[str, Any]) -> None:
    _print(f"{document['send']}  {document['state']}")
    if document["reason"]:
        _print(f"  {document['reason']}")
    for name in ("at", "started_at", "finished_at"):
        if document[name]:
            _print(f"  {name.replace('_', ' '):<12} {document[name]}")
    if document["file_differs"]:
        _print("  the issue's file is no longer what was frozen")
    counts = document["counts"]
    for name, count in counts.items():
        if count or name == "total":
            _print(f"  {name.replace('_', ' '):<12} {count}")


def _show_list(documents: list[dict[str, Any]]) -> None:
    from rich.markup import escape

    if not documents:
        _print("No sends yet. Schedule an issue with: newsletter schedule SLUG --at TIME")
    show_entries(
        (escape(document["send"]), (_summary(document), escape(document["reason"])))
        for document in documents
    )


def _summary(document: dict[str, Any]) -> str:
    counts = document["counts"]
    left = sum(counts[name] for name in ("accepted", "delivered", "bounced", "complained"))
    doubt = f", {counts['in_doubt']:,} in doubt" if counts["in_doubt"] else ""
    return (
        f"{document['state']} · {document['at']} ·"
        f" {left:,} of {counts['total']:,} with the provider{doubt}"
    )


def _write_csv(rows: Iterator[dict[str, Any]]) -> None:
    columns = ["subscriber", "email", "state", "provider", "provider_message_id", "attempt"]
    columns += ["reason", "updated_at"]
    out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _defused(value) for name, value in row.items()})
    out.detach()  # flushed, and left open for whoever prints after us


def _defused(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def _print(line: str, *, markup: bool = False) -> None:
    from rich.console import Console

    Console(soft_wrap=True).print(line, markup=markup, highlight=False)
