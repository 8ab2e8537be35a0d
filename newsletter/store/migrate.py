"""Brings a database's schema up to date with the migrations that the package carries."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, inspect, text

from newsletter.errors import Unreachable
from newsletter.store.schema import metadata

_LOCK = 0x6E65_7773  # any fixed number: PostgreSQL's advisory lock for our migrations


def upgrade(engine: Engine) -> None:
    """Run the missing migrations in one transaction; processes that come together queue.

    Raises `Unreachable` for a database with a migration that this package does not have, and for
    one of another program.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        _refuse_foreign_tables(connection)
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise Unreachable(
                f"the database is not one that this version can read: {error}",
                hint="A newer newsletter has changed it: use that one. Nothing was changed.",
            ) from error


def _refuse_foreign_tables(connection: Connection) -> None:
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" not in tables and (taken := sorted(tables & set(metadata.tables))):
        raise Unreachable(
            f"the database has tables of another program: {', '.join(taken)}",
            hint="Give the newsletter a database of its own in database.url.",
        )
