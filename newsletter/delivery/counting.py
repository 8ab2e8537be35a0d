"""Deliveries by state without reading them: each batch keeps its counts, as of its last give-back.

A batch that is worked on has none, and its rows are counted. An event beside the engine adds a line
to `count_changes` and waits for no batch; housekeeping takes those lines into the counts. Nothing
here changes a delivery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
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
    literal_column,
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
_DROP_TOLD = _DROP.returning(count_changes.c.was, count_changes.c.became)
_ONE = (batches.c.send_id == bindparam("b_send"), batches.c.number == bindparam("b_number"))
_LOCKED = (
    select(
        *(batches.c.send_id, batches.c.number, batches.c.lo, batches.c.hi),
        *(batches.c.state, batches.c.counts),
    )
    .where(*_ONE)
    .with_for_update(skip_locked=True)
)
_WRITE = update(batches).where(*_ONE).values(counts=bindparam("b_counts"))
_FORGET_ALL = (
    update(batches)
    .where(
        batches.c.send_id == bindparam("b_send"),
        type_coerce(batches.c.counts, Text).is_not(None),
    )
    .values(counts=None)
)
_FORGET = _FORGET_ALL.where(batches.c.number == bindparam("b_number"))
_NOTE = insert(count_changes)
_OLDEST = (
    select(count_changes.c.send_id, count_changes.c.batch)
    .order_by(count_changes.c.id)
    .limit(_CHANGES_A_ROUND)
    .subquery()
)
_CHANGED = (
    select(_OLDEST.c.send_id, _OLDEST.c.batch)
    .distinct()
    .order_by(_OLDEST.c.send_id, _OLDEST.c.batch)
    .limit(_BATCHES_A_ROUND)
)
_NOTHING = type_coerce(null(), Text)
#: What `keep_counts` counts, and whether it has changes to take in.
UNCOUNTED = (
    select(batches.c.send_id, batches.c.number)
    # Written out: with a parameter that a partial index might depend on, SQLite plans it each time.
    .where(batches.c.counts.is_(None), batches.c.state != literal_column("'leased'"))
    .order_by(batches.c.send_id, batches.c.number)
    .limit(_BATCHES_A_ROUND)
)
SOME_CHANGE = select(count_changes.c.id).limit(1)
_WITHIN = and_(
    deliveries.c.send_id == batches.c.send_id,
    deliveries.c.position.between(batches.c.lo, batches.c.hi),
)


def by_state(connection: Connection, send_id: int | None = None) -> dict[str, int]:
    """How many deliveries of the send, or of all, are in each state.

    Who has no row yet counts as pending. One statement, hence of one moment whatever the isolation.
    """
    found: Counter[str] = Counter()
    on_postgresql = connection.dialect.name == "postgresql"
    query = _counts_of(all_sends=send_id is None, by_batch=on_postgresql)
    key = {} if send_id is None else {"b_send": send_id}
    for known, was, became, number in connection.execute(query, key):
        if known is not None:
            for state, each in orjson.loads(known).items():
                found[state] += each * number
        else:
            found[became] += number
            if was is not None:
                found[was] -= number
    return {state: found[state] for state in DELIVERY}


@lru_cache(maxsize=4)
def _counts_of(*, all_sends: bool, by_batch: bool) -> CompoundSelect[Any]:
    """Rows of (counts, was, became, number): batches with the same counts, rows, changes.

    With `by_batch` rows are counted a batch at a time: of a join PostgreSQL cannot tell how few
    rows a batch's range has, and reads all of them.
    """
    counts = type_coerce(batches.c.counts, Text)
    mine = true() if all_sends else batches.c.send_id == bindparam("b_send")
    known = (
        select(counts, _NOTHING, _NOTHING, func.count()).where(mine, counts.is_not(None))
    ).group_by(counts)
    rows = _rows_by_batch() if by_batch else _rows_joined()
    rows = rows.where(mine, counts.is_(None))
    of_known = and_(
        batches.c.send_id == count_changes.c.send_id,
        batches.c.number == count_changes.c.batch,
        counts.is_not(None),
    )
    changed = (
        select(_NOTHING, count_changes.c.was, count_changes.c.became, func.count())
        .join_from(count_changes, batches, of_known)
        .where(mine)
        .group_by(count_changes.c.was, count_changes.c.became)
    )
    waiting = select(
        _NOTHING, _NOTHING, type_coerce(literal("pending"), String), sends.c.unfilled
    ).where(true() if all_sends else sends.c.id == bindparam("b_send"))
    return union_all(known, rows, changed, waiting)


def _rows_joined() -> Select[Any]:
    joined = select(_NOTHING, _NOTHING, deliveries.c.state, func.count())
    return joined.join_from(batches, deliveries, _WITHIN).group_by(deliveries.c.state)


def _rows_by_batch() -> Select[Any]:
    counted = select(deliveries.c.state, func.count().label("number")).where(_WITHIN)
    each = counted.group_by(deliveries.c.state).correlate(batches).lateral()
    return select(_NOTHING, _NOTHING, each.c.state, each.c.number).join_from(batches, each, true())


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
    if number is None:
        connection.execute(_FORGET_ALL, {"b_send": send_id})
    else:
        connection.execute(_FORGET, {"b_send": send_id, "b_number": number})


def note_change(connection: Connection, send_id: int, batch: int, was: str, became: str) -> None:
    """An event has changed the state of one delivery."""
    change = {"send_id": send_id, "batch": batch, "was": was, "became": became}
    connection.execute(_NOTE, change)


def keep_counts(store: Store) -> None:
    """Count what was forgotten and take in what events have changed; a bounded part of it.

    A batch whose row another transaction holds is left for the next round.
    """
    with store.read() as connection:
        missing = connection.execute(UNCOUNTED).all()
        changed = connection.execute(SOME_CHANGE).one_or_none() is not None
    for send_id, number in missing:
        with store.begin() as connection:
            _count(connection, send_id, number)
    if changed:
        with store.begin() as connection:
            _take_in(connection)


def _count(connection: Connection, send_id: int, number: int) -> None:
    part = _lock(connection, send_id, number)
    if part is None or part.counts is not None or part.state == "leased":
        return
    _write(connection, part, recount(connection, send_id, number, part.lo, part.hi))


def _take_in(connection: Connection) -> None:
    for send_id, number in connection.execute(_CHANGED).all():
        part = _lock(connection, send_id, number)
        if part is None:
            continue
        key = {"b_send": send_id, "b_number": number}
        changes = [(was, became) for was, became in connection.execute(_DROP_TOLD, key)]
        if part.counts is not None:  # else its rows are counted, which have changed already
            _write(connection, part, changed_by(part.counts, changes))


def changed_by(counts: Mapping[str, int], changes: Iterable[tuple[str, str]]) -> dict[str, int]:
    """The counts with (was, became) taken in."""
    found = Counter(counts)
    for was, became in changes:
        found[was] -= 1
        found[became] += 1
    return {state: number for state, number in found.items() if number}


def _lock(connection: Connection, send_id: int, number: int) -> Any:
    key = {"b_send": send_id, "b_number": number}
    return connection.execute(_LOCKED, key).one_or_none()


def _write(connection: Connection, part: Row[Any], counts: Mapping[str, int]) -> None:
    key = {"b_send": part.send_id, "b_number": part.number}
    connection.execute(_WRITE, {**key, "b_counts": counts})
