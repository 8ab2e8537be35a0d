"""`status --watch`: how sends go on, as a live view, as plain lines in a pipe, or as JSON lines.

It asks `status` again and again and knows nothing of the ledger.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from newsletter.cli.base import Context
from newsletter.errors import Unreachable

if TYPE_CHECKING:
    from rich.console import RenderableType

_VIEW_SECONDS = 1.0
_LINE_SECONDS = 2.0
_BAR = 30
_OPEN = ("pending", "sending", "in_doubt")


def watch(context: Context, send: str | None, as_json: bool) -> None:
    """Tell how a send goes on, or all that do, until they are over. Raises `NotFound`."""
    sends = _Watched(context, send)
    if as_json:
        _repeat(sends, _LINE_SECONDS, lambda documents: _write_json(documents))
    elif sys.stdout.isatty():
        _watch_live(sends)
    else:
        _repeat(sends, _LINE_SECONDS, lambda documents: _write_lines(sends, documents))


class _Watched:
    """The sends that are watched; without a name those that go on, and what becomes of them."""

    def __init__(self, context: Context, send: str | None) -> None:
        self.context = context
        self.send = send
        self.names: dict[str, None] = {}
        self.trouble = ""  # why the last look failed

    @property
    def now(self) -> datetime:
        return self.context.clock.now().astimezone(self.context.workspace.settings.site.zone)

    def documents(self) -> list[dict[str, Any]]:
        """Each send's status. Raises `Unreachable`."""
        from newsletter.delivery import sends_that_go_on, status

        context = self.context
        with context.store.read() as connection:
            going = [self.send] if self.send else sends_that_go_on(connection)
            self.names |= dict.fromkeys(going)
            now = context.clock.now()
            return [status(connection, context.workspace, name, now) for name in self.names]


def _repeat(sends: _Watched, seconds: float, tell: Callable[[list[dict[str, Any]]], None]) -> None:
    from newsletter.delivery.transitions import OVER

    documents = sends.documents()
    while True:
        tell(documents)
        if all(document["state"] in OVER for document in documents):
            return
        time.sleep(seconds)
        try:
            documents = sends.documents()
            sends.trouble = ""
        except Unreachable as error:  # it comes back, as the engine waits for it too
            sends.trouble = str(error)


# --- lines ----------------------------------------------------------------------------------------


def _write_json(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
    sys.stdout.flush()


def _write_lines(sends: _Watched, documents: list[dict[str, Any]]) -> None:
    told = [_line(sends, document) for document in documents] or ["no send goes on"]
    for line in [sends.trouble] if sends.trouble else told:
        sys.stdout.write(f"{sends.now:%H:%M:%S} {_printable(line)}\n")
    sys.stdout.flush()


def _line(sends: _Watched, document: dict[str, Any]) -> str:
    done, total = _done(document)
    parts = [f"{document['send']} {document['state']} {done:,} of {total:,}"]
    parts.append(_speed(sends, document))
    if doubtful := document["counts"]["in_doubt"]:
        parts.append(f"{doubtful:,} in doubt")
    parts += [f"{each['name']}: {_breaker(sends, each)}" for each in _shut(document)]
    parts += [_canary(sends, document), _next_wave(sends, document), document["reason"]]
    return ", ".join(part for part in parts if part)


# --- the live view --------------------------------------------------------------------------------


def _watch_live(sends: _Watched) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        _repeat(
            sends,
            _VIEW_SECONDS,
            lambda documents: live.update(view(sends, documents), refresh=True),
        )


def view(sends: _Watched, documents: list[dict[str, Any]]) -> RenderableType:
    """What the terminal shows at one moment."""
    from rich.console import Group
    from rich.text import Text

    shown: list[RenderableType] = []
    for document in documents:
        shown += [*_head(sends, document), _providers(sends, document)]
        for error in document["errors"]:
            shown.append(Text(f"  {error['count']:>9,}  {_printable(error['reason'])}"))
        shown.append(Text(""))
    if sends.trouble:
        shown.append(Text(_printable(sends.trouble), style="red"))
    return Group(*shown) if shown else Text("No send goes on.")


def _head(sends: _Watched, document: dict[str, Any]) -> list[RenderableType]:
    from rich.text import Text

    done, total = _done(document)
    filled = _BAR * done // max(total, 1)
    title = Text.assemble(
        (document["send"], "bold"),
        f"  {document['state']}  ",
        ("━" * filled, "green"),
        ("╌" * (_BAR - filled), "dim"),
        f"  {done:,} of {total:,}  {_speed(sends, document)}",
    )
    states = [
        f"{state.replace('_', ' ')} {count:,}"
        for state, count in document["counts"].items()
        if count and state != "total"
    ]
    told = [" · ".join(states), _canary(sends, document), _next_wave(sends, document)]
    lines = [Text(f"  {line}") for line in told if line]
    if document["reason"]:
        lines.append(Text(f"  {_printable(document['reason'])}", style="yellow"))
    return [title, *lines]


def _providers(sends: _Watched, document: dict[str, Any]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("provider")
    for name in ("accepted", "sending", "in doubt"):
        table.add_column(name, justify="right")
    table.add_column("breaker")
    for each in document["providers"]:
        numbers = [f"{each[state]:,}" for state in ("accepted", "sending", "in_doubt")]
        style = "red" if each["breaker"] == "open" else ""
        table.add_row(each["name"], *numbers, Text(_breaker(sends, each), style=style))
    return table


# --- words ----------------------------------------------------------------------------------------


def _done(document: dict[str, Any]) -> tuple[int, int]:
    counts = document["counts"]
    return counts["total"] - sum(counts[state] for state in _OPEN), counts["total"]


def _speed(sends: _Watched, document: dict[str, Any]) -> str:
    if document["rate"] is None:
        return ""
    eta = f", eta {_time(sends, document['eta'])}" if document["eta"] else ""
    return f"{document['rate']:,.0f}/s{eta}"


def _shut(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in document["providers"] if each["breaker"] == "open"]


def _breaker(sends: _Watched, provider: dict[str, Any]) -> str:
    if provider["breaker"] == "closed":
        return "closed"
    reason = _printable(provider["reason"])
    if provider["retry_at"] is None:
        return f"open, a try is due or under way: {reason}"
    return f"open, tried again at {_time(sends, provider['retry_at'])}: {reason}"


def _canary(sends: _Watched, document: dict[str, Any]) -> str:
    canary = document["canary"]
    if canary is None or canary["passed"]:
        return ""
    told = (
        f"canary of {canary['recipients']:,}: {canary['bounced']:,} bounced,"
        f" {canary['complained']:,} complained"
    )
    if canary["until"] and document["state"] == "sending":
        told += f"; the rest goes at {_time(sends, canary['until'])}"
    return told


def _next_wave(sends: _Watched, document: dict[str, Any]) -> str:
    for wave in document["waves"]:
        if wave["opened_at"] is None:
            return f"next wave at {_time(sends, wave['at'])} to {wave['recipients']:,}"
    return ""


def _time(sends: _Watched, told: str) -> str:
    """A time in the site's zone, with its day where that is not today."""
    now = sends.now
    moment = datetime.fromisoformat(told).astimezone(now.tzinfo)
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M}"


def _printable(text: str) -> str:
    """Without what a terminal would obey: reasons are a provider's words."""
    return "".join(each if each.isprintable() else " " for each in text)
