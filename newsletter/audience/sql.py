"""`INSERT … ON CONFLICT`, which both databases have and SQLAlchemy spells twice."""

from __future__ import annotations

from typing import cast

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_into(connection: Connection, table: Table) -> postgresql.Insert:
    """An INSERT of the connection's dialect, with its `on_conflict_…` methods."""
    if connection.dialect.name == "sqlite":
        # The two classes have the same methods for what is used here, but no common base.
        return cast("postgresql.Insert", sqlite.insert(table))
    return postgresql.insert(table)
