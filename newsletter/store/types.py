"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import BigInteger, Integer, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# SQLite numbers rows by itself only in a column declared INTEGER, which there has 64 bits anyway.
BigKey = BigInteger().with_variant(Integer, "sqlite")


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970-01-01T00:00Z, exact; `moment` must carry its zone."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space: the same value gives the same text."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


class Instant(TypeDecorator[datetime]):
    """A moment in UTC as whole microseconds since 1970: comparable and exact on both databases."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_microseconds(value)


class Json(TypeDecorator[Any]):
    """JSON kept as canonical text, so that it can be compared, copied and hashed in SQL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else canonical_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)
