"""What the mailbox keeps on disk: batches with their answers, messages, and events to be posted.

A batch is accepted in one transaction, before it is answered. This database is the mailbox's own
record, apart from the newsletter's, and tests count in it who got what.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from newsletter.errors import Unreachable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL,            -- the Idempotency-Key, more than once when keys are switched off
    sha256 TEXT NOT NULL,         -- of the request's body
    answer BLOB NOT NULL,         -- the JSON it was answered with
    at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS batches_key ON batches (key);
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    batch TEXT NOT NULL,
    recipient TEXT NOT NULL,      -- as sent
    recipient_key TEXT NOT NULL,  -- in lower case
    sender TEXT NOT NULL,
    subject TEXT NOT NULL,
    metadata TEXT NOT NULL,
    at TEXT NOT NULL,
    state TEXT NOT NULL,          -- delivered, bounced or complained
    opened INTEGER NOT NULL DEFAULT 0,
    clicked INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS messages_recipient ON messages (recipient_key, seq);
CREATE TABLE IF NOT EXISTS contents (
    seq INTEGER PRIMARY KEY REFERENCES messages (seq),
    content BLOB NOT NULL         -- the message as it came in, JSON
);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    event BLOB NOT NULL,          -- JSON, as posted
    due REAL NOT NULL,            -- seconds since the epoch
    tries INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS events_due ON events (due);
"""

_LISTED = "seq, id, batch, recipient, sender, subject, metadata, at, state, opened, clicked"


@dataclass(frozen=True, slots=True)
class Kept:
    """A message about to be kept; `content` is the JSON it came as."""

    id: str
    recipient: str
    sender: str
    subject: str
    metadata: str
    state: str
    content: bytes = field(repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        address = self.recipient
        return (
            self.id,
            address,
            address.lower(),
            self.sender,
            self.subject,
            self.metadata,
            self.state,
        )


@dataclass(frozen=True, slots=True)
class Page:
    messages: list[dict[str, Any]]
    total: int


class MailboxStorage:
    """One SQLite file, used by any number of threads one after another."""

    def __init__(self, folder: Path) -> None:
        path = folder / "mailbox.db"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode=WAL")
            # Safe against the end of the process; a power cut may take the last batches along.
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise Unreachable(f"the mailbox cannot keep its messages in {path}: {error}") from error
        self._lock = threading.RLock()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    # --- batches --------------------------------------------------------------------------------

    def accept(
        self,
        key: str,
        sha256: str,
        answer: bytes,
        messages: Sequence[Kept],
        events: Sequence[bytes],
        *,
        at: str,
        due: float,
    ) -> None:
        """Keep a whole batch: its answer, its messages and the events they will cause."""
        with self._writing() as connection:
            row = connection.execute("SELECT coalesce(max(seq), 0) FROM messages").fetchone()
            first = row[0] + 1
            connection.execute(
                "INSERT INTO batches (key, sha256, answer, at) VALUES (?, ?, ?, ?)",
                (key, sha256, answer, at),
            )
            connection.executemany(
                "INSERT INTO messages (seq, batch, at, id, recipient, recipient_key, sender,"
                " subject, metadata, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((seq, key, at, *message.columns) for seq, message in enumerate(messages, first)),
            )
            connection.executemany(
                "INSERT INTO contents (seq, content) VALUES (?, ?)",
                ((seq, message.content) for seq, message in enumerate(messages, first)),
            )
            connection.executemany(
                "INSERT INTO events (event, due) VALUES (?, ?)",
                ((event, due) for event in events),
            )

    def batch(self, key: str) -> tuple[str, bytes] | None:
        """The SHA-256 of the body and the answer of a key's first batch."""
        rows = self._rows("SELECT sha256, answer FROM batches WHERE key = ? ORDER BY seq", (key,))
        return (rows[0]["sha256"], rows[0]["answer"]) if rows else None

    # --- messages -------------------------------------------------------------------------------

    def page(
        self, *, to: str = "", send: str = "", search: str = "", limit: int = 50, offset: int = 0
    ) -> Page:
        """The newest messages first, of one recipient or send, or that a search finds."""
        where, values = "1", []
        if to:
            where, values = "recipient_key = ?", [to.lower()]
        if send:
            where += " AND json_extract(metadata, '$.send') = ?"
            values.append(send)
        if search:
            pattern = "%" + search.lower().replace("!", "!!").replace("%", "!%") + "%"
            pattern = pattern.replace("_", "!_")
            where += " AND (recipient_key LIKE ? ESCAPE '!' OR lower(subject) LIKE ? ESCAPE '!')"
            values += [pattern, pattern]
        total = self._rows(f"SELECT count(*) FROM messages WHERE {where}", values)[0][0]  # noqa: S608 (constants)
        rows = self._rows(
            f"SELECT {_LISTED} FROM messages WHERE {where} ORDER BY seq DESC LIMIT ? OFFSET ?",  # noqa: S608
            [*values, limit, offset],
        )
        return Page([_summary(row) for row in rows], total)

    def message(self, message_id: str) -> dict[str, Any] | None:
        """One message whole: what `page` shows of it and what it came as."""
        rows = self._rows(f"SELECT {_LISTED} FROM messages WHERE id = ?", (message_id,))  # noqa: S608
        if not rows:
            return None
        content = self._rows("SELECT content FROM contents WHERE seq = ?", (rows[0]["seq"],))
        return {**orjson.loads(content[0]["content"]), **_summary(rows[0])}

    def mark(self, message_id: str, column: str, event: bytes | None, due: float) -> bool:
        """Note the first opening or click, with the event to post; false if it was noted before."""
        assert column in {"opened", "clicked"}
        with self._writing() as connection:
            changed = connection.execute(
                f"UPDATE messages SET {column} = 1 WHERE id = ? AND {column} = 0",  # noqa: S608
                (message_id,),
            ).rowcount
            if changed:
                _queue(connection, event, due)
        return bool(changed)

    def set_state(self, message_id: str, state: str, event: bytes | None, due: float) -> None:
        """What became of a message after all, with the event to post."""
        with self._writing() as connection:
            connection.execute("UPDATE messages SET state = ? WHERE id = ?", (state, message_id))
            _queue(connection, event, due)

    # --- events to be posted --------------------------------------------------------------------

    def due_events(self, now: float, limit: int) -> list[tuple[int, bytes, int]]:
        """(number, JSON, tries so far) of the events that are due, oldest first."""
        rows = self._rows(
            "SELECT seq, event, tries FROM events WHERE due <= ? ORDER BY due, seq LIMIT ?",
            (now, limit),
        )
        return [(row["seq"], row["event"], row["tries"]) for row in rows]

    def forget_events(self, numbers: Sequence[int]) -> None:
        with self._writing() as connection:
            connection.executemany("DELETE FROM events WHERE seq = ?", ((n,) for n in numbers))

    def postpone_events(self, numbers: Sequence[int], due: float) -> None:
        with self._writing() as connection:
            connection.executemany(
                "UPDATE events SET due = ?, tries = tries + 1 WHERE seq = ?",
                ((due, n) for n in numbers),
            )

    def waiting_events(self) -> int:
        """How many events are still to be posted."""
        count: int = self._rows("SELECT count(*) FROM events")[0][0]
        return count


def _queue(connection: sqlite3.Connection, event: bytes | None, due: float) -> None:
    if event is not None:
        connection.execute("INSERT INTO events (event, due) VALUES (?, ?)", (event, due))


def _summary(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "batch": row["batch"],
        "to": row["recipient"],
        "from": row["sender"],
        "subject": row["subject"],
        "metadata": orjson.loads(row["metadata"]),
        "at": row["at"],
        "state": row["state"],
        "opened": bool(row["opened"]),
        "clicked": bool(row["clicked"]),
    }
