"""The command that writes an issue's HTML, text and `.eml`: `render`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from newsletter.cli.base import Context, JsonOption, WorkspaceOption, emit, open_context
from newsletter.errors import BadInput, Where

if TYPE_CHECKING:
    from newsletter.compiled import CompiledIssue, Recipient
    from newsletter.drafting import Issue


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command()(render)


def render(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="The issue.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to; else var/render.")
    ] = None,
    recipient: Annotated[
        str | None, typer.Option("--for", metavar="EMAIL", help="Fill in this subscriber.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write SLUG.html, SLUG.txt and SLUG.eml: what a reader would get."""
    from newsletter.drafting import load_issue
    from newsletter.rendering import (
        compile_issue,
        compose,
        eml_bytes,
        neutral_recipient,
        segments_of,
    )

    context = open_context(workspace)
    issue = load_issue(context.workspace, slug)
    person, segments = (neutral_recipient(), frozenset[str]())
    if recipient is not None:
        person, segments = _subscriber(context, recipient)
    rendered = compile_issue(
        context.workspace,
        issue,
        segments=_known_segments(context) if segments_of(issue.blocks) else None,
        tracked=recipient is not None,
    )
    media = {file.asset.sha256: file.content for file in rendered.media}
    compiled = rendered.compiled
    message = compose(
        compiled,
        person,
        variant=",".join(name for name in compiled.segments if name in segments),
        media=media.__getitem__,
    )
    folder = out or context.workspace.var / "render"
    files = {
        kind: _write(context, folder / f"{slug}.{suffix}", content)
        for kind, suffix, content in (
            ("html", "html", message.html.encode()),
            ("text", "txt", message.text.encode()),
            ("eml", "eml", eml_bytes(message)),
        )
    }
    fields = merge_fields(issue, compiled)

    def show() -> None:
        for file in files.values():
            typer.echo(f"{file['path']}  {file['bytes']:,} bytes")
        typer.echo(f"Merge fields: {', '.join(fields) or 'none'}")

    emit({"issue": slug, **files, "merge_fields": fields}, as_json, show)


def merge_fields(issue: Issue, compiled: CompiledIssue) -> list[str]:
    """The fields that the issue's file has, and those that its template adds for a subscriber.

    The token of a recipient's links is no field that anybody writes.
    """
    from newsletter.drafting import merge_fields as written_in
    from newsletter.drafting import merge_sources

    written = {
        field.field
        for text, where in merge_sources(issue)
        for field in written_in(text, where=where)
    }
    slots = {slot.field for message in compiled.variants.values() for slot in message.slots}
    return sorted(written | (slots - {"links.token"}))


def _known_segments(context: Context) -> list[str]:
    from newsletter.audience import segments

    with context.store.read() as connection:
        return [segment["name"] for segment in segments(connection)]


def _subscriber(context: Context, email: str) -> tuple[Recipient, frozenset[str]]:
    """The subscriber and their segments; their links work, though no send is behind them."""
    from newsletter.audience import find, show
    from newsletter.compiled import Recipient
    from newsletter.tokens import recipient_token

    with context.store.read() as connection:
        subscriber = find(connection, email)
        known = show(connection, email)
    recipient = Recipient(
        subscriber,
        known["email"],
        known["first_name"],
        known["last_name"],
        known["fields"],
        recipient_token(context.workspace.key, 0, subscriber),
    )
    return recipient, frozenset(known["segments"])


def _write(context: Context, path: Path, content: bytes) -> dict[str, Any]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:  # a full disk leaves what was rendered before
            draft.write_bytes(content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(
            f"cannot be written: {error.strerror}",
            where=Where(str(path)),
            hint="Name another folder with --out.",
        ) from error
    return {
        "path": context.workspace.relative(path),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
