"""Segments: named parts of the audience, and the one query for who may be written to."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, func, or_, select

from newsletter.errors import BadInput
from newsletter.store.schema import deliveries, segment_members, sends, subscribers

ALL = "all"
# A little under four weeks: of a weekly issue, every fourth arrives.
MONTH = timedelta(days=27)
_ELIGIBLE = select(subscribers.c.id).where(
    subscribers.c.state == "active", subscribers.c.suppressed == ""
)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def segment_select(segment: str, at: datetime | None = None) -> Select[tuple[int]]:
    """The ids of everybody in `segment` who may be written to now: active and not suppressed.

    With `at`, the start of a send, those are left out who want one issue a month and had it.
    """
    eligible = _ELIGIBLE
    if at is not None:
        eligible = eligible.where(or_(subscribers.c.frequency != "monthly", ~_had_one(at)))
    if segment == ALL:
        return eligible
    members = select(segment_members.c.subscriber_id).where(segment_members.c.segment == segment)
    return eligible.where(subscribers.c.id.in_(members))


def segment_size(connection: Connection, segment: str, at: datetime | None = None) -> int:
    """How many would be written to now; `at` as in `segment_select`."""
    people = segment_select(segment, at).subquery()
    return connection.scalar(select(func.count()).select_from(people)) or 0


def segment_exists(connection: Connection, segment: str) -> bool:
    """Whether the name means anything: `all`, or a segment that somebody was put in."""
    if segment == ALL:
        return True
    return (
        connection.scalar(
            select(segment_members.c.segment).where(segment_members.c.segment == segment).limit(1)
        )
        is not None
    )


def segments(connection: Connection) -> list[dict[str, Any]]:
    """`[{name, size}]`, `all` first, then by name; `size` counts who may be written to now."""
    names = connection.scalars(
        select(segment_members.c.segment).distinct().order_by(segment_members.c.segment)
    ).all()
    return [{"name": name, "size": segment_size(connection, name)} for name in [ALL, *names]]


def check_segment_name(name: str) -> str:
    """`name` if people can be put in a segment of that name. Raises `BadInput`."""
    if name == ALL:
        raise BadInput("the segment `all` is everybody active: nobody is put in it by hand")
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} is no name for a segment",
            hint="Use small letters, digits, - and _, at most 64, starting with a letter or digit.",
        )
    return name


def _had_one(at: datetime) -> ColumnElement[bool]:
    """Whether a send of the month before `at` wrote to the person."""
    return exists().where(
        deliveries.c.subscriber_id == subscribers.c.id,
        deliveries.c.send_id == sends.c.id,
        deliveries.c.state.not_in(("rejected", "skipped")),
        sends.c.started_at > at - MONTH,
    )
