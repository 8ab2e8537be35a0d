"""The start of a send: its last checks, then its first rows, in the transaction that starts it.

From here on it is settled who gets the issue; who starts it first is decided by one guarded UPDATE,
so that a second scheduler does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    func,
    select,
)

from newsletter.checks import check_compiled
from newsletter.compiled import CompiledIssue
from newsletter.delivery import pacing
from newsletter.delivery.composing import messages_per_request
from newsletter.delivery.filling import fill_first, load_compiled
from newsletter.delivery.notices import hold
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.delivery.transitions import send_move
from newsletter.errors import NewsletterError, Unreachable
from newsletter.providers.base import Capabilities, Provider
from newsletter.store import notify
from newsletter.store.schema import (
    media,
    sends,
)
from newsletter.store.types import Instant

_log = logging.getLogger(__name__)


class Refused(NewsletterError):
    """The send cannot start; the message is the reason it is held for."""


def is_due() -> ColumnElement[bool]:
    """Of a row of `sends`: its time has come by `b_now`."""
    starts_at = func.coalesce(sends.c.starts_at, sends.c.at)
    due = starts_at <= bindparam("b_now", type_=Instant())
    return and_(sends.c.state == "scheduled", due)


def start_send(
    runtime: DeliveryRuntime, send_id: int, provider_of: Callable[[str], Provider]
) -> None:
    """Start a due send, or hold it with the reason.

    Harmless when somebody else was first, or moved it to another time while it was being checked.
    """
    with runtime.store.read() as connection:
        send = connection.execute(select(sends).where(sends.c.id == send_id)).one()
        compiled = load_compiled(connection, send.frozen)
    try:
        _check_time(runtime, send)
        provider = provider_of(send.provider)
        _check_issue(runtime, send, compiled)
        with runtime.store.begin() as connection:
            now = runtime.clock.now()
            settings = runtime.workspace.settings
            by = pacing.grouping(connection, settings, provider.settings, send, now)
            part = runtime.policy.part
            _fill(connection, now, send, compiled, provider.capabilities, by, part)
    except Unreachable:  # the database, not the send, is what fails
        raise
    except Exception as error:  # whatever is wrong with one send must not keep the others waiting
        if not isinstance(error, NewsletterError):
            _log.exception("send %s cannot be started", send.send)
        with runtime.store.begin() as connection:
            as_read = select(sends.c.id).where(*_as_read(send)).with_for_update()
            if connection.execute(as_read).one_or_none() is not None:
                hold(connection, runtime, send_id, str(error) or repr(error), cause="start")


def _as_read(send: Row[Any]) -> tuple[ColumnElement[bool], ...]:
    """The condition on `sends` that nobody has moved it to another time since it was read."""
    return (
        sends.c.id == send.id,
        sends.c.at == send.at,
        sends.c.released_at.is_not_distinct_from(send.released_at),
    )


def _check_time(runtime: DeliveryRuntime, send: Row[Any]) -> None:
    if send.local_time:
        return  # its waves are looked at one by one, when their time has come
    grace = runtime.workspace.settings.delivery.grace
    late = runtime.clock.now() - max(send.at, send.released_at or send.at)
    if late > grace:
        raise Refused(
            f"found {_spell(late.total_seconds())} after its time, which is longer than the grace "
            f"of {_spell(grace.total_seconds())}; resume it to send it all the same"
        )


def _check_issue(runtime: DeliveryRuntime, send: Row[Any], compiled: CompiledIssue) -> None:
    findings = check_compiled(
        runtime.workspace,
        runtime.store,
        runtime.clock,
        compiled,
        send.segment,
        provider=send.provider,
    )
    blocking = [finding.message for finding in findings if finding.severity == "block"]
    if blocking:
        raise Refused("a check failed when it was to start: " + "; ".join(blocking))


def _fill(
    connection: Connection,
    now: datetime,
    send: Row[Any],
    compiled: CompiledIssue,
    limits: Capabilities,
    by: pacing.Grouping,
    part: int,
) -> None:
    # Whoever starts it at this moment may take minutes to list a huge audience: not waited for.
    free = select(sends.c.id).where(*_as_read(send)).with_for_update(skip_locked=True)
    if connection.execute(free).one_or_none() is None:
        return
    start = send_move("start").where(*_as_read(send))
    if connection.execute(start.values(started_at=now, filled_at=now, reason="")).rowcount != 1:
        return  # another scheduler was first, or a person changed it
    batch_size = messages_per_request(compiled, limits, _attached_bytes(connection, compiled))
    total = fill_first(connection, send, compiled, now, by, batch_size, part)
    notify(connection, "sends")
    _log.info("send %s starts: %d recipients", send.send, total)


def _attached_bytes(connection: Connection, compiled: CompiledIssue) -> int:
    """What the embedded images add to each message, in the base64 of a request."""
    embedded = [asset.sha256 for asset in compiled.assets if asset.cid]
    if not embedded:
        return 0
    query = select(func.sum(func.length(media.c.bytes))).where(media.c.sha256.in_(embedded))
    return int(connection.execute(query).scalar_one()) * 4 // 3


def _spell(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
