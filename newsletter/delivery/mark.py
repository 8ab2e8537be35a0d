"""The mark outside the database: which one this workspace sends from, and how far it had come.

A restored database cannot have taken the mark back with it. The mark knows nothing of sends; what
follows from it is decided in `guard`.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from newsletter.errors import Unreachable

_LENGTH = 128  # bytes of the file, always: it is written in place, in one call
# Seconds that the lock is waited for: it is held for some 30 µs, unless its process is stopped.
_LOCK_WITHIN = 5.0
_LONGEST_PAUSE = 0.05
_DAMAGED = (ValueError, KeyError, TypeError)


@dataclass(frozen=True, slots=True)
class Position:
    """A database by its identity, and how many attempts it had committed."""

    database: str
    sequence: int


class Mark(Protocol):
    """Keeps the highest position that this workspace's processes have reached on this machine."""

    #: Whether it outlives the process: only then does it mean anything that there is none.
    durable: bool

    def read(self) -> Position | None:
        """The position, None where there is no mark. Raises `Unreachable`."""
        ...

    def note(self, position: Position) -> None:
        """Move the mark on, never back; the mark of another database is replaced."""
        ...


class MemoryMark:
    """A mark that lasts as long as the process: for tests and simulations."""

    durable = False

    def __init__(self) -> None:
        self.position: Position | None = None

    def read(self) -> Position | None:
        return self.position

    def note(self, position: Position) -> None:
        self.position = _later(self.position, position)


class FileMark:
    """A mark in a small file, shared by the processes of one machine under a lock.

    It is written in place, with one call: a killed process leaves the old one or the new one, and a
    full disk has room for it. Only its creation is waited for until it is on the disk: a mark that
    a power cut takes back is behind the database, which is harmless.
    """

    durable = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Position | None:
        try:
            with _locked(self.path, fcntl.LOCK_SH) as file:
                return _parse(os.pread(file, _LENGTH, 0))
        except FileNotFoundError:
            return None
        except (OSError, *_DAMAGED) as error:
            raise _unusable(self.path, error) from error

    def note(self, position: Position) -> None:
        try:
            self.path.parent.mkdir(exist_ok=True)
            created = not self.path.exists()
            with _locked(self.path, fcntl.LOCK_EX, os.O_CREAT) as file:
                known = _parse(os.pread(file, _LENGTH, 0))
                later = _later(known, position)
                if later != known:
                    os.pwrite(file, _spell(later), 0)
                if created:
                    os.fsync(file)
            if created:
                _sync_folder(self.path.parent)
        except (OSError, *_DAMAGED) as error:
            raise _unusable(self.path, error) from error


def _later(known: Position | None, position: Position) -> Position:
    if known is not None and known.database == position.database:
        return max(known, position, key=lambda each: each.sequence)
    return position


def _spell(position: Position) -> bytes:
    text = json.dumps({"database": position.database, "sequence": position.sequence})
    return text.encode().ljust(_LENGTH - 1) + b"\n"


def _parse(content: bytes) -> Position | None:
    if not content:  # killed between its creation and its first writing
        return None
    document = json.loads(content)
    return Position(str(document["database"]), int(document["sequence"]))


@contextmanager
def _locked(path: Path, kind: int, flags: int = 0) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o644)
    try:
        _lock(file, kind)
        yield file
    finally:
        os.close(file)


def _lock(file: int, kind: int) -> None:
    """Raises `TimeoutError` where another process keeps the lock: nobody may wait for ever."""
    waited, pause = 0.0, 0.0005
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if waited >= _LOCK_WITHIN:
                raise TimeoutError(f"another process has kept it for {waited:.0f} s") from error
            time.sleep(pause)
            waited += pause
            pause = min(pause * 2, _LONGEST_PAUSE)
        else:
            return


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _unusable(path: Path, error: Exception) -> Unreachable:
    hint = "Make the workspace's var/ writable. A damaged mark may be deleted: over PostgreSQL the "
    hint += "providers are asked instead; over SQLite nothing is sent then until "
    hint += "`newsletter ledger reconcile`."
    if isinstance(error, TimeoutError):
        hint = "See which process is stopped while it has the file open; let it go on, or end it."
    return Unreachable(
        f"the mark of what was sent cannot be kept in {path.name}: {error}", hint=hint
    )
