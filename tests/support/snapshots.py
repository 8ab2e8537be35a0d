"""Copies of a real database while a test goes on with it: files, and PostgreSQL's templates."""

from __future__ import annotations

import os
import shutil
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import make_url

from newsletter.store import Store, open_store


class Database:
    """The database of a test's store: it can be dumped, put back, and copied."""

    def __init__(self, store: Store, root: Path) -> None:
        self.url = store.engine.url
        self.root = root
        self.folder = root / "dumps"
        self.folder.mkdir(exist_ok=True)

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path:
        assert self.url.database
        return Path(self.url.database)

    def open(self) -> Store:
        return open_store(self.url.render_as_string(hide_password=False), self.root)

    def dump(self, store: Store) -> str:
        """A copy as of now; returns its name."""
        name = f"t{uuid.uuid4().hex}"
        if self.is_sqlite:
            with closing(sqlite3.connect(self.path)) as connection:
                connection.execute("VACUUM INTO ?", (str(self.folder / name),))
            return name
        store.close()  # a template may have no connections
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{self.url.database}"')
        return name

    def put_back(self, store: Store, dump: str, *, in_place: bool = True) -> Store:
        """The database as it was dumped, under its own name; SQLite: in the same file or anew."""
        store.close()
        if self.is_sqlite:
            for name in (f"{self.path}-wal", f"{self.path}-shm"):
                Path(name).unlink(missing_ok=True)
            if in_place:
                self.path.write_bytes((self.folder / dump).read_bytes())
            else:
                os.replace(self.folder / dump, self.path)
        else:
            self._execute(f'DROP DATABASE "{self.url.database}" WITH (FORCE)')
            self._execute(f'CREATE DATABASE "{self.url.database}" TEMPLATE "{dump}"')
            self._execute(f'DROP DATABASE "{dump}"')
        return self.open()

    def beside(self, store: Store) -> Store:
        """A copy of the database as of now, opened beside it."""
        name = self.dump(store)
        url = self.url.set(database=str(self.folder / name) if self.is_sqlite else name)
        return open_store(url.render_as_string(hide_password=False), self.root)

    def drop(self, copy: Store) -> None:
        copy.close()
        if not self.is_sqlite:
            self._execute(f'DROP DATABASE "{copy.engine.url.database}" WITH (FORCE)')

    def moved(self, store: Store, path: Path) -> Store:
        """SQLite: the same file under another name."""
        store.close()
        shutil.move(self.path, path)
        return open_store(f"sqlite:///{path}", self.root)

    def _execute(self, statement: str) -> None:
        import psycopg

        server = make_url(self.url).set(drivername="postgresql", database="postgres")
        address = server.render_as_string(hide_password=False)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement)
