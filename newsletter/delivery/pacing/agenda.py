"""The next moment at which something may go: what an engine sleeps until, and `status` tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    exists,
    func,
    literal_column,
    select,
)

from newsletter.delivery.pacing.pace import Pace
from newsletter.delivery.transitions import in_states
from newsletter.store.schema import attempts, batches, sends


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """When something may go, and what it waits for.

    `why` is "window", "quota", "warm-up", "wave" or "canary", which may be days; "rate"; or ''
    for a back-off, a lease that runs out, and what may go now.
    """

    at: datetime
    why: str

    def is_within(self, patience: timedelta | None, now: datetime) -> bool:
        """Whether a run waits for it: always, unless what is paced is beyond its patience."""
        return patience is None or self.why in {"", "rate"} or self.at - now <= patience


class Unfinished(NamedTuple):
    """The statement for open and leased batches, in groups of those that wait for the same, and the
    one for those of them that have doubts to settle. Made once: to make it costs more than to run
    it."""

    groups: Select[Any]
    doubtful: Select[Any]


def unfinished(ready_at: ColumnElement[datetime], *, of_one: bool = False) -> Unfinished:
    """`ready_at`, of a batch and its send, is when it may be leased as far as anything but pacing
    goes; NULL where that depends on other batches. `of_one`: of the send `b_send` alone."""
    groups = _groups(ready_at)
    if of_one:
        groups = groups.where(batches.c.send_id == bindparam("b_send"))
    return Unfinished(groups, groups.where(_is_doubtful()))


def next_moment(
    connection: Connection,
    now: datetime,
    pace_of: Callable[[str], Pace | None],
    query: Unfinished,
    values: Mapping[str, Any],
    *,
    of_others: bool = True,
) -> Moment | None:
    """The next moment at which there is work for sends that go on; None when there is none at all.

    `pace_of` is by provider; `values` are those of the query. A batch that another worker holds is
    work again when its lease runs out, at the latest; those count only when `of_others`.
    """
    moments = _moments(connection, now, pace_of, query, values, of_others=of_others)
    return min(moments, default=None)


def next_change(
    connection: Connection,
    now: datetime,
    pace_of: Callable[[str], Pace | None],
    query: Unfinished,
    values: Mapping[str, Any],
) -> datetime | None:
    """When something may go that may not go yet, beside what others hold."""
    moments = _moments(connection, now, pace_of, query, values, of_others=False)
    return min((moment.at for moment in moments if moment.at > now), default=None)


def _moments(
    connection: Connection,
    now: datetime,
    pace_of: Callable[[str], Pace | None],
    query: Unfinished,
    values: Mapping[str, Any],
    *,
    of_others: bool,
) -> list[Moment]:
    found: list[Moment] = []
    held_back = False
    for row in connection.execute(query.groups, values):
        if row.state == "leased":
            if of_others:
                found.append(Moment(row.lease_until, ""))
        elif row.ready_at is not None:
            pace = pace_of(row.provider)
            held_back = held_back or not (pace is None or pace.lets_fresh)
            found.append(_of_batches(row, pace, now, fresh=True))
    if held_back:  # doubts are settled all the same
        found += [
            _of_batches(row, pace_of(row.provider), now, fresh=False)
            for row in connection.execute(query.doubtful, values)
            if row.state == "open" and row.ready_at is not None
        ]
    return found


def _of_batches(row: Row[Any], pace: Pace | None, now: datetime, *, fresh: bool) -> Moment:
    times = [(row.ready_at, "")]
    if row.send_not_before is not None:
        times.append((row.send_not_before, ""))
    if row.due_at is not None and row.due_at > now:
        times.append((row.due_at, "wave"))
    if pace is not None:
        times.append(pace.opens_for(row.pool, fresh=fresh))
    at, why = max(times)
    return Moment(at, why)


def _groups(ready_at: ColumnElement[datetime]) -> Select[Any]:
    keys = (
        batches.c.send_id,
        batches.c.state,
        func.coalesce(batches.c.provider, sends.c.provider).label("provider"),
        batches.c.pool,
        batches.c.due_at,
    )
    return (
        select(
            *keys,
            func.min(ready_at).label("ready_at"),
            func.max(sends.c.not_before).label("send_not_before"),
            func.min(batches.c.lease_until).label("lease_until"),
        )
        .join(sends, sends.c.id == batches.c.send_id)
        # Written out, as the index of batches that are not done has it.
        .where(
            in_states(sends.c.state, ("sending", "cancelled")),
            batches.c.state != literal_column("'done'"),
        )
        .group_by(*keys)
    )


def _is_doubtful() -> ColumnElement[bool]:
    return exists().where(
        attempts.c.send_id == batches.c.send_id,
        attempts.c.batch == batches.c.number,
        attempts.c.state == "in_doubt",
        attempts.c.settle_at.is_not(None),
    )
