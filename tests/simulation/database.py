"""The simulation's database: a real SQLite file, emptied for each run, whose triggers tell of every
change of state. What a transaction told counts once it is committed.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import OperationalError

from newsletter.errors import Unreachable
from newsletter.store import Store, open_store
from newsletter.store.database import _reachable
from simulation.quick import QuickConnection

if TYPE_CHECKING:
    from simulation.process import Process

_SHARED_MEMORY = Path("/dev/shm")


class Change(NamedTuple):
    """One row that was made or moved: `what` is its table; `old` is empty for a new row."""

    what: str
    send: int
    number: int  # position, batch, subscriber
    old: str
    new: str
    told: str  # reason, attempt's id, holder
    more: str


_TRIGGERS = {
    "deliveries_made": """AFTER INSERT ON deliveries BEGIN SELECT note('delivery',
        NEW.send_id, NEW.position, '', NEW.state, NEW.email, NEW.subscriber_id); END""",
    "deliveries_moved": """AFTER UPDATE OF state ON deliveries
        WHEN OLD.state IS NOT NEW.state BEGIN SELECT note('delivery',
        NEW.send_id, NEW.position, OLD.state, NEW.state, NEW.reason,
        ifnull(NEW.attempt, '')); END""",
    "attempts_made": """AFTER INSERT ON attempts BEGIN SELECT note('attempt',
        NEW.send_id, NEW.batch, '', NEW.state, NEW.id,
        NEW.provider || ' ' || NEW.positions); END""",
    "attempts_moved": """AFTER UPDATE OF state ON attempts BEGIN SELECT note('attempt',
        NEW.send_id, NEW.batch, OLD.state, NEW.state, NEW.id, NEW.reason); END""",
    "batches_moved": """AFTER UPDATE OF state ON batches BEGIN SELECT note('batch',
        NEW.send_id, NEW.number, OLD.state, NEW.state, ifnull(NEW.lease_holder, ''),
        NEW.lease_token); END""",
    "sends_moved": """AFTER UPDATE OF state ON sends BEGIN SELECT note('send',
        NEW.id, 0, OLD.state, NEW.state, NEW.reason, ''); END""",
    "quarantined": """AFTER UPDATE OF quarantine ON ledger
        WHEN OLD.quarantine IS NOT NEW.quarantine BEGIN SELECT note('ledger',
        0, NEW.id, '', 'quarantined', NEW.quarantine, ''); END""",
    "subscribers_moved": """AFTER UPDATE OF state, suppressed ON subscribers
        BEGIN SELECT note('person', 0, NEW.id, OLD.state, NEW.state, NEW.suppressed, ''); END""",
}


class Database:
    """One file for all the simulations of an operating system's process."""

    def __init__(self) -> None:
        shared = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
        self._folder = tempfile.TemporaryDirectory(prefix="simulation-", dir=shared)
        made = open_store("sqlite:///simulation.db", Path(self._folder.name))
        made.close()
        self.engine = create_engine(
            made.engine.url,
            connect_args={
                "isolation_level": None,
                "check_same_thread": False,
                "cached_statements": 1000,  # else some are parsed anew again and again
            },
            query_cache_size=2000,
        )
        self.engine._connection_cls = QuickConnection
        event.listen(self.engine, "connect", self._configure)
        self._free: list[Connection] = []
        self.store = OpenStore(self)
        self.pending: list[Change] = []
        self._template = sqlite3.connect(":memory:", isolation_level=None)
        self._file = sqlite3.connect(
            Path(self._folder.name) / "simulation.db", isolation_level=None
        )
        self._file.execute("UPDATE ledger SET database = 'simulated'")  # it is made by chance
        for name, body in _TRIGGERS.items():
            self._file.execute(f"CREATE TRIGGER {name} {body}")
        self._file.execute("PRAGMA synchronous=OFF")
        self.keep()

    def keep(self) -> None:
        """Let each run begin with what the file has now."""
        self._file.backup(self._template)

    @contextmanager
    def transaction(self, begin: str) -> Iterator[Connection]:
        """A transaction on a connection that stays open.

        SQLAlchemy knows nothing of it: to begin, to end and to lend a connection by its means costs
        more than most transactions do, and so does whoever listens to them.
        """
        connection = self._free.pop() if self._free else self.engine.connect()
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute(begin)
        try:
            yield connection
            driver.execute("COMMIT")
        except BaseException:
            driver.rollback()
            raise
        finally:
            self._free.append(connection)

    def _configure(self, connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.create_function("note", 7, self._note)

    def _note(self, *row: Any) -> None:
        self.pending.append(Change._make(row))

    def reset(self) -> None:
        """As a run begins with it."""
        self.pending.clear()
        self._template.backup(self._file)

    def snapshot(self) -> sqlite3.Connection:
        """A copy as a backup makes it."""
        copy = sqlite3.connect(":memory:", isolation_level=None)
        self._file.backup(copy)
        return copy

    def restore(self, snapshot: sqlite3.Connection) -> None:
        """Put an older copy in place."""
        snapshot.backup(self._file)

    def close(self) -> None:
        for connection in self._free:
            connection.close()
        self.engine.dispose()
        self._file.close()
        self._template.close()
        self._folder.cleanup()


class OpenStore(Store):
    """A store whose connections stay open."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.engine)
        self._database = database

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with _reachable(), self._database.transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with _reachable(), self._database.transaction("BEGIN") as connection:
            yield connection


class SimulatedStore(OpenStore):
    """A process's connections to the database: each transaction is a point where it can fail."""

    def __init__(self, database: Database, process: Process) -> None:
        super().__init__(database)
        self._process = process

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        process = self._process
        fault = process.before_transaction(writes=True)
        pending = self._database.pending
        try:
            with super().begin() as connection:
                if fault == "database busy":
                    raise _error("database is locked")
                yield connection
                if fault == "killed before a commit":
                    process.kill()
                if fault == "disk full":
                    raise _error("database or disk is full")
                told = pending[:]
        finally:
            pending.clear()
        process.after_commit(told)
        if fault == "killed after a commit":
            process.kill()
        if fault == "commit's answer lost":
            # As the production store tells of a server that went away.
            with super().read():
                raise _error("server closed the connection unexpectedly")
        if fault == "stopped after a commit":
            process.be_stopped()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._process.before_transaction(writes=False)
        with super().read() as connection:
            yield connection


def _error(text: str) -> OperationalError:
    return OperationalError("COMMIT", {}, sqlite3.OperationalError(text))


def away() -> Unreachable:
    """What the store says of a database that is out of reach."""
    return Unreachable("the database does not answer: it is away")
