"""Brings a database's schema up to date with the migrations that the package carries."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

_LOCK = 0x6E65_7773  # any fixed number: PostgreSQL's advisory lock for our migrations


def upgrade(engine: Engine) -> None:
    """Run the missing migrations in one transaction; processes that come together queue."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
