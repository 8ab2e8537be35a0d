"""One statement for many rows, through the driver's own executemany.

Core's executemany costs twice the driver's on SQLite and more on PostgreSQL; the outcomes of a
large send are millions of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Update


def run_many(
    connection: Connection, statement: Update, names: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> int:
    """Run `statement` for each row and return how many rows of the table it changed.

    `names` are the statement's bind parameters in their order in the SQL; values are the driver's
    (an instant is microseconds since 1970).
    """
    if not rows:
        return 0
    text, positional = _compiled(statement, connection.dialect, names)
    if positional:
        return connection.exec_driver_sql(text, [tuple(row) for row in rows]).rowcount
    parameters = [dict(zip(names, row, strict=True)) for row in rows]
    return connection.exec_driver_sql(text, parameters).rowcount


@lru_cache(maxsize=64)
def _compiled(statement: Update, dialect: Dialect, names: tuple[str, ...]) -> tuple[str, bool]:
    compiled = statement.compile(dialect=dialect)
    if compiled.positiontup is None:
        assert set(compiled.params) == set(names)
        return str(compiled), False
    assert tuple(compiled.positiontup) == names, compiled.positiontup
    return str(compiled), True


def to_ranges(positions: Iterable[int]) -> list[list[int]]:
    """Rising positions as [lo, hi] ranges, both ends included."""
    ranges: list[list[int]] = []
    for position in positions:
        if ranges and ranges[-1][1] == position - 1:
            ranges[-1][1] = position
        else:
            ranges.append([position, position])
    return ranges


def from_ranges(ranges: Iterable[Sequence[int]]) -> list[int]:
    """The positions that [lo, hi] ranges stand for."""
    return [position for lo, hi in ranges for position in range(lo, hi + 1)]
