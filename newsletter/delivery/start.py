"""The start of a send: its last checks, then its recipients' rows in one transaction.

Everybody who will get the issue has a row from here on; who starts it first is decided by one
guarded UPDATE, so that a second scheduler does no harm.
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
    Select,
    case,
    func,
    insert,
    literal,
    select,
    text,
    type_coerce,
)

from newsletter.audience import segment_select
from newsletter.checks import check_compiled
from newsletter.compiled import CompiledIssue
from newsletter.delivery.composing import messages_per_request
from newsletter.delivery.notices import hold
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.delivery.transitions import send_move
from newsletter.errors import NewsletterError, Unreachable
from newsletter.providers.base import Capabilities, Provider
from newsletter.store import notify
from newsletter.store.schema import (
    batches,
    deliveries,
    frozen_issues,
    media,
    sends,
    subscribers,
)
from newsletter.store.types import Instant

_log = logging.getLogger(__name__)


class Refused(NewsletterError):
    """The send cannot start; the message is the reason it is held for."""


def due_sends(connection: Connection, now: datetime) -> list[int]:
    """The ids of sends whose time has come."""
    query = select(sends.c.id).where(sends.c.state == "scheduled", sends.c.at <= now)
    return list(connection.execute(query.order_by(sends.c.at, sends.c.id)).scalars())


def load_compiled(connection: Connection, sha256: str) -> CompiledIssue:
    """The frozen issue of that digest."""
    query = select(frozen_issues.c.compiled).where(frozen_issues.c.sha256 == sha256)
    return CompiledIssue.from_bytes(connection.execute(query).scalar_one())


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
        limits = provider_of(send.provider).capabilities
        _check_issue(runtime, send, compiled)
        with runtime.store.begin() as connection:
            _fill(connection, runtime.clock.now(), send, compiled, limits)
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
) -> None:
    start = send_move("start").where(*_as_read(send))
    if connection.execute(start.values(started_at=now, filled_at=now, reason="")).rowcount != 1:
        return  # another scheduler was first, or a person changed it
    columns = ["send_id", "position", "subscriber_id", "email", "first_name", "last_name"]
    columns += ["fields", "variant", "state", "updated_at"]
    rows = _recipients(send.id, send.segment, compiled.segments, now)
    connection.execute(insert(deliveries).from_select(columns, rows))
    of_send = deliveries.c.send_id == send.id
    total = connection.execute(
        select(func.coalesce(func.max(deliveries.c.position), 0)).where(of_send)
    ).scalar_one()
    variants = select(deliveries.c.variant).where(of_send).distinct()
    missing = set(connection.execute(variants).scalars()) - set(compiled.variants)
    if missing:
        raise Refused(f"the frozen issue has no variant for {', '.join(sorted(missing))}")
    if total:
        batch_size = messages_per_request(compiled, limits, _attached_bytes(connection, compiled))
        starts = range(1, total + 1, batch_size)
        connection.execute(
            insert(batches),
            [
                {
                    "send_id": send.id,
                    "number": number,
                    "lo": lo,
                    "hi": min(lo + batch_size - 1, total),
                    "state": "open",
                }
                for number, lo in enumerate(starts, start=1)
            ],
        )
    if connection.dialect.name == "postgresql":
        # Without statistics its plans take a fresh send for an empty one.
        connection.execute(text("ANALYZE deliveries"))
        connection.execute(text("ANALYZE batches"))
    notify(connection, "sends")
    _log.info("send %s starts: %d recipients", send.send, total)


def _recipients(send_id: int, segment: str, only: tuple[str, ...], now: datetime) -> Select[Any]:
    """Everybody eligible now, numbered from 1, with a copy of what their message is made from."""
    variant: ColumnElement[str] = literal("")
    for name in sorted(only):
        inside = subscribers.c.id.in_(segment_select(name))
        variant = variant + case((inside, literal(f"{name},")), else_=literal(""))
    return (
        select(
            literal(send_id),
            func.row_number().over(order_by=subscribers.c.id),
            subscribers.c.id,
            subscribers.c.email,
            subscribers.c.first_name,
            subscribers.c.last_name,
            subscribers.c.fields,
            func.rtrim(variant, ","),
            literal("pending"),
            type_coerce(literal(now, Instant), Instant),
        )
        .where(subscribers.c.id.in_(segment_select(segment, now)))
        .order_by(subscribers.c.id)
    )


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
