"""Deliveries by state without reading them: each batch keeps its counts, as of its last give-back.

A batch that is worked on has none, and its rows are counted. An event beside the engine adds a line
to `count_changes` and waits for no batch; housekeeping takes those lines into the counts. Nothing
here changes a delivery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import (
    CompoundSelect,
    Connection,
    Row,
    Select,
    String,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    true,
    type_coerce,
    union_all,
    update,
)

from newsletter.delivery.transitions import DELIVERY
from newsletter.store import Store
from newsletter.store.schema import batches, count_changes, deliveries, sends

#: What one round of housekeeping takes in, so that it never keeps the requests waiting for long.
_BATCHES_A_ROUND = 100
_CHANGES_A_ROUND = 10_000

_DROP = delete(count_changes).where(
    count_changes.c.send_id == bindparam("b_send"), count_changes.c.batch == bindparam("b_number")
)
_COUNT = (
    select(deliveries.c.state, func.count().label("number"))
    .where(
        deliveries.c.send_id == bindparam("b_send"),
        deliveries.c.position.between(bindparam("b_lo"), bindparam("b_hi")),
    )
    .group_by(deliveries.c.state)
)
_COUNT_AND_DROP = _COUNT.add_cte(_DROP.cte("dropped"))
_WITHIN = and_(
    deliveries.c.send_id == batches.c.send_id,
    deliveries.c.position.between(batches.c.lo, batches.c.hi),
)


def by_state(connection: Connection, send_id: int | None = None) -> dict[str, int]:
    """How many deliveries of the send, or of all, are in each state.

    Who has no row yet counts as pending. One statement, hence of one moment whatever the isolation.
    """
    found: Counter[str] = Counter()
    for known, was, became, number in connection.execute(_counts_of(send_id)):
        if known is not None:
            for state, each in orjson.loads(known).items():
                found[state] += each * number
        else:
            found[became] += number
            if was is not None:
                found[was] -= number
    return {state: found[state] for state in DELIVERY}


def _counts_of(send_id: int | None) -> CompoundSelect[Any]:
    """Rows of (counts, was, became, number): batches with the same counts, rows, changes."""
    nothing = type_coerce(null(), Text)
    counts = type_coerce(batches.c.counts, Text)
    mine = true() if send_id is None else batches.c.send_id == send_id
    known = (
        select(counts, nothing, nothing, func.count()).where(mine, counts.is_not(None))
    ).group_by(counts)
    rows = (
        select(nothing, nothing, deliveries.c.state, func.count())
        .join_from(batches, deliveries, _WITHIN)
        .where(mine, counts.is_(None))
        .group_by(deliveries.c.state)
    )
    of_known = and_(
        batches.c.send_id == count_changes.c.send_id,
        batches.c.number == count_changes.c.batch,
        counts.is_not(None),
    )
    changed = (
        select(nothing, count_changes.c.was, count_changes.c.became, func.count())
        .join_from(count_changes, batches, of_known)
        .where(mine)
        .group_by(count_changes.c.was, count_changes.c.became)
    )
    waiting = select(
        nothing, nothing, type_coerce(literal("pending"), String), sends.c.unfilled
    ).where(true() if send_id is None else sends.c.id == send_id)
    return union_all(known, rows, changed, waiting)


def recount(connection: Connection, send_id: int, number: int, lo: int, hi: int) -> dict[str, int]:
    """Count the rows of a batch that the caller has locked, and drop the changes that are in them.

    Rows and changes are of one moment: a change that comes later stays to be taken in.
    """
    rows = {"b_send": send_id, "b_lo": lo, "b_hi": hi}
    changes = {"b_send": send_id, "b_number": number}
    if connection.dialect.name == "postgresql":
        found = connection.execute(_COUNT_AND_DROP, {**rows, **changes})
    else:  # one writer: nothing comes between the two
        connection.execute(_DROP, changes)
        found = connection.execute(_COUNT, rows)
    return {row.state: row.number for row in found}


def forget(connection: Connection, send_id: int, number: int | None = None) -> None:
    """Deliveries of a batch (or of any batch of the send) have changed beside its lease."""
    known = (batches.c.send_id == send_id, type_coerce(batches.c.counts, Text).is_not(None))
    statement = update(batches).where(*known).values(counts=None)
    if number is not None:
        statement = statement.where(batches.c.number == number)
    connection.execute(statement)


def note_change(connection: Connection, send_id: int, batch: int, was: str, became: str) -> None:
    """An event has changed the state of one delivery."""
    connection.execute(
        insert(count_changes).values(send_id=send_id, batch=batch, was=was, became=became)
    )


def keep_counts(store: Store) -> None:
    """Count what was forgotten and take in what events have changed; a bounded part of it.

    A batch whose row another transaction holds is left for the next round.
    """
    uncounted = (
        select(batches.c.send_id, batches.c.number)
        .where(batches.c.counts.is_(None), batches.c.state != "leased")
        .order_by(batches.c.send_id, batches.c.number)
        .limit(_BATCHES_A_ROUND)
    )
    with store.read() as connection:
        missing = connection.execute(uncounted).all()
        some = select(count_changes.c.id).limit(1)
        changed = connection.execute(some).one_or_none() is not None
    for send_id, number in missing:
        with store.begin() as connection:
            _count(connection, send_id, number)
    if changed:
        with store.begin() as connection:
            _take_in(connection)


def _count(connection: Connection, send_id: int, number: int) -> None:
    found = connection.execute(_locked(send_id, number).where(batches.c.counts.is_(None)))
    part = found.one_or_none()
    if part is None or part.state == "leased":
        return
    _write(connection, part, recount(connection, send_id, number, part.lo, part.hi))


def _take_in(connection: Connection) -> None:
    oldest = select(count_changes.c.send_id, count_changes.c.batch).order_by(count_changes.c.id)
    some = oldest.limit(_CHANGES_A_ROUND).subquery()
    touched = select(some.c.send_id, some.c.batch).distinct().order_by(some.c.send_id, some.c.batch)
    for send_id, number in connection.execute(touched).all():
        part = connection.execute(_locked(send_id, number)).one_or_none()
        if part is None:
            continue
        told = _DROP.returning(count_changes.c.was, count_changes.c.became)
        changes = connection.execute(told, {"b_send": send_id, "b_number": number})
        taken = [(was, became) for was, became in changes]
        if part.counts is not None:  # else its rows are counted, which have changed already
            _write(connection, part, changed_by(part.counts, taken))


def changed_by(counts: Mapping[str, int], changes: Iterable[tuple[str, str]]) -> dict[str, int]:
    """The counts with (was, became) taken in."""
    found = Counter(counts)
    for was, became in changes:
        found[was] -= 1
        found[became] += 1
    return {state: number for state, number in found.items() if number}


def _locked(send_id: int, number: int) -> Select[Any]:
    return (
        select(batches)
        .where(batches.c.send_id == send_id, batches.c.number == number)
        .with_for_update(skip_locked=True)
    )


def _write(connection: Connection, part: Row[Any], counts: Mapping[str, int]) -> None:
    connection.execute(
        update(batches)
        .where(batches.c.send_id == part.send_id, batches.c.number == part.number)
        .values(counts=counts)
    )
