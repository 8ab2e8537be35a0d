"""Commands of the room `schedule`: an issue becomes a send, now or at a time."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from newsletter.cli.base import Context, JsonOption, WorkspaceOption, emit, open_context
from newsletter.errors import DoesNotHold

if TYPE_CHECKING:
    from newsletter.scheduling import Scheduled

SlugArgument = Annotated[str, typer.Argument(metavar="SLUG", help="The issue's name.")]
AtOption = Annotated[
    str,
    typer.Option(
        "--at",
        metavar="TIME",
        help='When: "2026-11-26 09:00", or with an offset 2026-11-26T09:00+00:00.',
    ),
]
ZoneOption = Annotated[
    str | None,
    typer.Option(
        "--tz", metavar="ZONE", help="The zone of a TIME without offset; else the site's."
    ),
]
SegmentOption = Annotated[
    str | None, typer.Option("--to", metavar="SEGMENT", help="Instead of the issue's audience.")
]
ProviderOption = Annotated[
    str | None,
    typer.Option("--provider", metavar="NAME", help="One of [[providers]]; else the first."),
]
LocalTimeOption = Annotated[
    bool,
    typer.Option("--local-time", help="At that hour in each recipient's own time zone."),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Do not try links.")]


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command("schedule")(schedule)
    app.command("send")(send)
    app.command("reschedule")(reschedule)


def schedule(
    slug: SlugArgument,
    at: AtOption,
    offline: OfflineOption = False,
    tz: ZoneOption = None,
    to: SegmentOption = None,
    provider: ProviderOption = None,
    local_time: LocalTimeOption = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Check an issue, freeze it, and send it at a time. Later edits change nothing of it."""
    from newsletter.scheduling import schedule as schedule_issue

    context = open_context(workspace)
    moment = _local_moment(context, at, tz) if local_time else _moment(context, at, tz)
    done = schedule_issue(
        context.workspace,
        context.store,
        context.clock,
        slug,
        at=moment,
        segment=to,
        provider=provider,
        offline=offline,
        local_time=local_time,
    )
    passed = _passed(context, done) if local_time else {}
    emit({**done.as_json(), **passed}, as_json, lambda: _show(context, done, **passed))


def send(
    slug: SlugArgument,
    offline: OfflineOption = False,
    to: SegmentOption = None,
    provider: ProviderOption = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Check an issue, freeze it, and have it sent now, by the scheduler or a worker."""
    from newsletter.delivery import quarantine
    from newsletter.scheduling import schedule as schedule_issue

    context = open_context(workspace)
    with context.store.read() as connection:
        if reason := quarantine(connection):
            raise DoesNotHold(
                f"nothing is sent now: {reason}", hint="See `newsletter ledger reconcile`."
            )
    done = schedule_issue(
        context.workspace,
        context.store,
        context.clock,
        slug,
        segment=to,
        provider=provider,
        offline=offline,
    )
    emit(done.as_json(), as_json, lambda: _show(context, done))


def reschedule(
    send: Annotated[
        str, typer.Argument(metavar="SEND", help="The send's name, such as milia.1, or its issue.")
    ],
    at: AtOption,
    tz: ZoneOption = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Move a send that has not started to another time."""
    from newsletter.delivery import find_send, status
    from newsletter.scheduling import reschedule as move

    context = open_context(workspace)
    with context.store.read() as connection:
        name: str = find_send(connection, send).send
    zone = context.workspace.settings.site.zone
    move(context.store, context.clock, name, _moment(context, at, tz), zone=zone)
    with context.store.read() as connection:
        document = status(connection, context.workspace, name, context.clock.now())

    def show() -> None:
        from rich.console import Console

        when = datetime.fromisoformat(document["at"])
        Console(soft_wrap=True).print(f"{name} is scheduled for [bold]{_local(context, when)}[/]")

    emit(document, as_json, show)


def _moment(context: Context, text: str, zone: str | None) -> datetime:
    from newsletter.scheduling import find_zone, parse_time

    site = context.workspace.settings.site.zone
    return parse_time(text, find_zone(zone) if zone else site, context.clock.now())


def _local_moment(context: Context, text: str, zone: str | None) -> datetime:
    from newsletter.errors import BadInput
    from newsletter.scheduling import parse_local_time

    if zone:
        raise BadInput(
            "--tz and --local-time exclude each other",
            hint="With --local-time everybody's own zone counts.",
        )
    return parse_local_time(text, context.workspace.settings.site.zone, context.clock.now())


def _local(context: Context, moment: datetime) -> str:
    zone = context.workspace.settings.site.zone
    return f"{moment.astimezone(zone):%A %d %B %Y, %H:%M} ({zone.key})"


def _passed(context: Context, done: Scheduled) -> dict[str, int]:
    """For how many of the recipients that hour is over already in their own zone."""
    from newsletter.delivery import count_passed

    settings, now = context.workspace.settings, context.clock.now()
    with context.store.read() as connection:
        return {"passed": count_passed(connection, settings, done.segment, done.at, now)}


def _show(context: Context, done: Scheduled, passed: int = 0) -> None:
    from rich.console import Console

    from newsletter.scheduling import spell_finding

    console = Console(highlight=False, soft_wrap=True)
    if done.starts_at is not None:
        console.print("  in each recipient's own time zone; those without one: the site's")
    people = "recipient" if done.recipients == 1 else "recipients"
    console.print(f"[bold]{done.send}[/] is scheduled for [bold]{_local(context, done.at)}[/]")
    console.print(f"  to {done.segment}: {done.recipients} {people} as of now")
    if passed:
        rule = context.workspace.settings.delivery.zone_passed
        when = "at once" if rule == "now" else "at that hour of the next day"
        console.print(f"  for {passed} of them that hour is over: they get it {when}", end=" ")
        console.print(f'(delivery.zone_passed = "{rule}")')
    console.print(f"  frozen as {done.frozen[:16]}…")
    for finding in done.findings:
        console.print(f"  {finding.severity}: {spell_finding(finding)}", markup=False)
    console.print(
        "The scheduler sends it: keep `newsletter run` (or `newsletter scheduler`) running."
    )
