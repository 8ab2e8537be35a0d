"""One statement for many rows, through the driver's own executemany.

Core's executemany costs twice the driver's on SQLite and more on PostgreSQL; the outcomes of a
large send are millions of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Update


def run_many(
    connection: Connection, statement: Update, names: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> int:
    """Run `statement` for each row and return how many rows of the table it changed.

    `names` are the statement's bind parameters in the order of a row's values, which are the
    driver's (an instant is microseconds since 1970).
    """
    if not rows:
        return 0
    text, pick, constants = _compiled(statement, connection.dialect, names)
    parameters: list[Any]
    if pick is None:
        parameters = [{**constants, **dict(zip(names, row, strict=True))} for row in rows]
    else:
        parameters = [pick((*row, *constants.values())) for row in rows]
    one = parameters[0] if len(parameters) == 1 else parameters
    return connection.exec_driver_sql(text, one).rowcount


@lru_cache(maxsize=64)
def _compiled(
    statement: Update, dialect: Dialect, names: tuple[str, ...]
) -> tuple[str, itemgetter[Any] | None, dict[str, Any]]:
    """The SQL, for positional parameters what puts a row's values in their order, and the values
    that are the same for every row, which follow the row's."""
    compiled = statement.compile(dialect=dialect)
    constants = {name: value for name, value in compiled.params.items() if name not in names}
    assert None not in constants.values(), constants
    if compiled.positiontup is None:
        return str(compiled), None, constants
    order = (*names, *constants)
    return str(compiled), itemgetter(*map(order.index, compiled.positiontup)), constants


def to_ranges(positions: Iterable[int]) -> list[list[int]]:
    """Rising positions as [lo, hi] ranges, both ends included."""
    positions = list(positions)
    if positions and positions == list(range(positions[0], positions[-1] + 1)):
        return [[positions[0], positions[-1]]]  # as of nearly every batch
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
