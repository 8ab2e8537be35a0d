"""Connections and transactions. A `Store` is opened once a process and handed to its users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)

from newsletter.errors import BadInput, Unreachable, Where
from newsletter.settings import FILE_NAME

HEAD = "0002"  # the newest migration; a test holds it against the migrations
_BUSY_SECONDS = 30
#: Pages of the log, 32 MB, before they are copied into the database: a page that a send changes
#: three times is then copied once.
_CHECKPOINT_PAGES = 8000


class Store:
    """The database of one workspace."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction that may write; on SQLite it holds the one write lock from its start."""
        with _reachable(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: one consistent state, and never in a writer's way."""
        with _reachable(), self.engine.connect() as connection:
            connection = connection.execution_options(newsletter_read_only=True)
            if not self.is_sqlite:  # where every statement would see a state of its own
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise Unreachable(
            f"the database does not answer: {error.orig}",
            hint="Nothing was half written. See that it runs, is not locked and has room on disk.",
        ) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unreachable(f"the database went away: {error.orig}") from error
        if type(error) is DatabaseError:  # SQLite: no database, or one with broken pages
            raise Unreachable(
                f"the database file is damaged: {error.orig}",
                hint="Nothing was changed. Restore the file from a backup.",
            ) from error
        raise


def open_store(url: str, root: Path) -> Store:
    """Open the database at `url` (SQLite: relative to `root`) and bring its schema up to date.

    Raises `Unreachable` when it cannot be opened, `BadInput` when the address is wrong.
    """
    engine = _engine(_resolve(url, root))
    store = Store(engine)
    try:
        with store.read() as connection:
            current = _revision(connection)
    except (ProgrammingError, InterfaceError) as error:  # an option that the driver does not know
        raise _wrong_address(str(error.orig).strip()) from error
    if current != HEAD:
        from newsletter.store.migrate import upgrade  # alembic takes most of a second to import

        with _reachable():
            upgrade(engine)
    return store


def schema_is_current(store: Store) -> bool:
    """Whether the database answers and every migration has run."""
    with store.read() as connection:
        return _revision(connection) == HEAD


def _resolve(url: str, root: Path) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise _wrong_address("not a database address") from error
    backend = parsed.get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        raise BadInput(
            f"database.url: {backend} is not supported",
            where=Where(FILE_NAME),
            hint="Use sqlite or postgresql+psycopg.",
        )
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if not parsed.database or parsed.database == ":memory:":
        raise _wrong_address("it names no file")
    if parsed.query:
        raise _wrong_address("a SQLite address takes no options")
    path = root / parsed.database
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unreachable(
            f"the database's folder cannot be made: {error}",
            hint="Make it writable, or name another file in database.url.",
        ) from error
    except ValueError as error:
        raise _wrong_address(str(error)) from error
    return parsed.set(drivername="sqlite", database=str(path))


def _wrong_address(problem: str) -> BadInput:
    return BadInput(
        f"database.url: {problem}",
        where=Where(FILE_NAME),
        hint="Write sqlite:///var/newsletter.db or postgresql+psycopg://USER@HOST/NAME.",
    )


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return _postgresql_engine(url)
    engine = create_engine(
        url,
        connect_args={
            "timeout": _BUSY_SECONDS,
            "isolation_level": None,  # the driver starts no transaction; `_begin` does
            "check_same_thread": False,
        },
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("newsletter_read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _postgresql_engine(url: URL) -> Engine:
    from newsletter.store.postgresql import connect_options, set_up

    engine = create_engine(url, pool_pre_ping=True, connect_args=connect_options(url))

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        set_up(connection)

    return engine


def _revision(connection: Connection) -> str | None:
    exists = connection.dialect.has_table(connection, "alembic_version")
    if not exists:
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
