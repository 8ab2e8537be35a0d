"""The recipients' rows of a send and its batches: for all who are eligible at its start.

A large send is filled in parts while it is under way already: the rest of those eligible is written
down at the start as bare numbers, and any worker goes on with them, a part a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    type_coerce,
    update,
)

from newsletter.audience import segment_select
from newsletter.compiled import CompiledIssue
from newsletter.delivery import canary, pacing
from newsletter.delivery.notices import hold
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.errors import NewsletterError
from newsletter.store import notify
from newsletter.store.schema import (
    batches,
    deliveries,
    eligible,
    frozen_issues,
    sends,
    subscribers,
)
from newsletter.store.types import Instant

_COLUMNS = ["send_id", "position", "subscriber_id", "email", "first_name", "last_name"]
_COLUMNS += ["fields", "variant", "state", "updated_at"]
_OF_A_SEND = ("deliveries (send_id, position, state)", "batches")
_BEING_FILLED = (
    select(sends.c.id)
    .where(sends.c.state == "sending", sends.c.unfilled > 0)
    .order_by(sends.c.id)
    .limit(1)
)


class NoVariant(NewsletterError):
    """The frozen issue says nothing to some of the recipients."""


def load_compiled(connection: Connection, sha256: str) -> CompiledIssue:
    """The frozen issue of that digest."""
    query = select(frozen_issues.c.compiled).where(frozen_issues.c.sha256 == sha256)
    return CompiledIssue.from_bytes(connection.execute(query).scalar_one())


def fill_first(
    connection: Connection,
    send: Row[Any],
    compiled: CompiledIssue,
    now: datetime,
    by: pacing.Grouping,
    batch_size: int,
    part: int,
) -> int:
    """Make the first rows of a send that has just been started; returns how many are eligible.

    `part` is about how many are made now. Grouped recipients are numbered group by group, which
    takes all of them at once.
    """
    order = by.order(subscribers.c, connection.dialect.name)
    people = segment_select(send.segment, now)
    last = None if order else _nth(connection, people, _whole(part, batch_size))
    here = people if last is None else people.where(subscribers.c.id <= last)
    _insert_rows(connection, send.id, compiled, 0, now, here, order)
    _check_variants(connection, send.id, compiled, 0)
    made = _last_position(connection, send.id)
    groups = by.groups(connection, send.id, made)
    pacing.write_waves(connection, send.id, groups)
    _insert_batches(connection, send.id, groups, batch_size)
    if sample := pacing.last_sampled(groups):
        canary.plan(connection, send.id, sample)
    unfilled = 0
    if last is not None:
        rest = people.where(subscribers.c.id > last).order_by(subscribers.c.id)
        ids = rest.with_only_columns(literal(send.id), subscribers.c.id)
        listed = insert(eligible).from_select(["send_id", "subscriber_id"], ids)
        counted = listed.execution_options(preserve_rowcount=True)
        unfilled = connection.execute(counted).rowcount
    connection.execute(
        update(sends).where(sends.c.id == send.id).values(unfilled=unfilled, batch_size=batch_size)
    )
    _analyze(connection, *(["eligible"] if unfilled else []), *_OF_A_SEND)
    return made + unfilled


def fill_more(runtime: DeliveryRuntime) -> bool:
    """Fill one part of a send that is being filled; false where there is none to be filled here."""
    with runtime.store.read() as connection:
        send_id = connection.execute(_BEING_FILLED).scalar_one_or_none()
    if send_id is None:
        return False
    try:
        with runtime.store.begin() as connection:
            # Whoever fills it at this moment is not waited for; and attempts, whose foreign key
            # locks the send as well, need not wait for this.
            of_send = select(sends).where(sends.c.id == send_id)
            mine = of_send.with_for_update(skip_locked=True, key_share=True)
            send = connection.execute(mine).one_or_none()
            if send is None or send.state != "sending" or not send.unfilled:
                return False
            size = _whole(runtime.policy.part, send.batch_size)
            _fill_part(connection, send, size, runtime.clock.now())
            notify(connection, "sends")
    except NoVariant as error:
        with runtime.store.begin() as connection:
            hold(connection, runtime, send_id, str(error), cause="start")
    return True


def fill_rest(connection: Connection, send_id: int, now: datetime) -> None:
    """Make all rows that are missing, in the caller's transaction, which has changed the send."""
    send = connection.execute(select(sends).where(sends.c.id == send_id)).one()
    if send.unfilled:
        _fill_part(connection, send, send.unfilled, now, any_variant=True)


def _analyze(connection: Connection, *tables: str) -> None:
    """Without statistics PostgreSQL's plans take a fresh send for an empty one.

    Only of the columns that plans ask about, as most of the time goes with the number of columns.
    """
    if connection.dialect.name == "postgresql":
        for table in tables:
            connection.execute(text(f"ANALYZE {table}"))


def _fill_part(
    connection: Connection, send: Row[Any], size: int, now: datetime, *, any_variant: bool = False
) -> None:
    compiled = load_compiled(connection, send.frozen)
    before, since = _last_made(connection, send.id)
    listed = select(eligible.c.subscriber_id).where(
        eligible.c.send_id == send.id, eligible.c.subscriber_id > since
    )
    last = _nth(connection, listed, size)
    mine = [eligible.c.send_id == send.id, *_between(eligible.c.subscriber_id, since, last)]
    here = (
        select(subscribers.c.id)
        .join(eligible, eligible.c.subscriber_id == subscribers.c.id)
        .where(*mine, *_between(subscribers.c.id, since, last))
    )
    _insert_rows(connection, send.id, compiled, before, now, here)
    if not any_variant:
        _check_variants(connection, send.id, compiled, before)
    made = _last_position(connection, send.id)
    group = pacing.Group(before + 1, made, "", None)
    _insert_batches(connection, send.id, [group], send.batch_size)
    taken = connection.execute(delete(eligible).where(*mine)).rowcount
    assert taken == made - before, "nobody's row in `subscribers` is ever deleted"
    assert last is not None or taken == send.unfilled, "the last part has all who are left"
    connection.execute(
        update(sends).where(sends.c.id == send.id).values(unfilled=sends.c.unfilled - taken)
    )
    if last is None:
        _analyze(connection, *_OF_A_SEND)


def _whole(part: int, batch_size: int) -> int:
    """The part as whole batches."""
    return max(1, part // batch_size) * batch_size


def _nth(connection: Connection, ids: Select[Any], number: int) -> int | None:
    """The n-th of the rising ids, or None where it is the last one or there are fewer."""
    column = ids.selected_columns[0]
    found = connection.execute(ids.order_by(column).limit(2).offset(number - 1)).scalars().all()
    return found[0] if len(found) == 2 else None


def _last_made(connection: Connection, send_id: int) -> tuple[int, int]:
    """The last position of a send that is filled in parts, and its subscriber's id.

    All who are still on the list have a higher id. To begin behind it skips what the parts before
    have taken off the list, which stays in PostgreSQL's index until it is vacuumed.
    """
    query = select(deliveries.c.position, deliveries.c.subscriber_id)
    newest = query.where(deliveries.c.send_id == send_id).order_by(deliveries.c.position.desc())
    position, subscriber_id = connection.execute(newest.limit(1)).one()
    return position, subscriber_id


def _between(ids: ColumnElement[int], since: int, last: int | None) -> list[ColumnElement[bool]]:
    """A part's ids. Said of both tables, neither is read whole, whatever is known of their size."""
    return [ids > since] if last is None else [ids > since, ids <= last]


def _insert_rows(
    connection: Connection,
    send_id: int,
    compiled: CompiledIssue,
    before: int,
    now: datetime,
    people: Select[tuple[int]],
    order: Sequence[ColumnElement[Any]] = (),
) -> None:
    """Number them from `before` + 1 on, with a copy of what their message is made from."""
    variant = _variant(compiled.segments)
    keys = [*order, *([variant] if compiled.segments else []), subscribers.c.id]
    place = func.row_number().over(order_by=keys)
    rows = people.with_only_columns(
        literal(send_id),
        place if not before else place + before,
        subscribers.c.id,
        subscribers.c.email,
        subscribers.c.first_name,
        subscribers.c.last_name,
        subscribers.c.fields,
        variant,
        literal("pending"),
        type_coerce(literal(now, Instant), Instant),
    ).order_by(*keys)
    connection.execute(insert(deliveries).from_select(_COLUMNS, rows))


def _variant(segments: Sequence[str]) -> ColumnElement[str]:
    """The names of the segments with parts of their own that a subscriber is in."""
    names: ColumnElement[str] = literal("")
    for name in sorted(segments):
        inside = subscribers.c.id.in_(segment_select(name))
        names = names + case((inside, literal(f"{name},")), else_=literal(""))
    return func.rtrim(names, ",") if segments else names


def _check_variants(
    connection: Connection, send_id: int, compiled: CompiledIssue, before: int
) -> None:
    told = {""}
    if compiled.segments:
        query = select(deliveries.c.variant).distinct()
        mine = query.where(deliveries.c.send_id == send_id, deliveries.c.position > before)
        told = set(connection.execute(mine).scalars())
    missing = told - set(compiled.variants)
    if missing:
        raise NoVariant(f"the frozen issue has no variant for {', '.join(sorted(missing))}")


def _insert_batches(
    connection: Connection, send_id: int, groups: Sequence[pacing.Group], batch_size: int
) -> None:
    last = select(func.coalesce(func.max(batches.c.number), 0)).where(batches.c.send_id == send_id)
    first = connection.execute(last).scalar_one() + 1
    starts = [(group, lo) for group in groups for lo in range(group.lo, group.hi + 1, batch_size)]
    rows = []
    for number, (group, lo) in enumerate(starts, start=first):
        hi = min(lo + batch_size - 1, group.hi)
        rows.append(
            {
                "send_id": send_id,
                "number": number,
                "lo": lo,
                "hi": hi,
                "state": "open",
                "pool": group.pool,
                "due_at": group.due_at,
                "counts": {"pending": hi - lo + 1},
            }
        )
    if rows:
        connection.execute(insert(batches), rows)


def _last_position(connection: Connection, send_id: int) -> int:
    query = select(func.coalesce(func.max(deliveries.c.position), 0))
    return int(connection.execute(query.where(deliveries.c.send_id == send_id)).scalar_one())
