"""The export of the audience in a stream: CSV that is safe to open in a spreadsheet, or JSON."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import orjson
from sqlalchemy import Connection, String, select, type_coerce

from newsletter.audience.columns import EXPORTED, defused
from newsletter.clock import isoformat
from newsletter.errors import BadInput, Where
from newsletter.store import Store
from newsletter.store.schema import segment_members, subscribers

_PAGE = 2_000


def export_csv(store: Store, out: TextIO) -> int:
    """Write everybody but the erased, oldest first; how many. `out` takes line ends as they are.

    All of it is one consistent state. Raises nothing of its own; memory does not grow with the
    audience.
    """
    with store.read() as connection:
        names = _field_names(connection)
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow([*EXPORTED, *(_header(name) for name in names)])
        count = 0
        for page in _pages(connection):
            segments = _segments(connection, [row.id for row in page])
            for row in page:
                writer.writerow(_cells(row, names, segments.get(row.id, [])))
            count += len(page)
    return count


def export_json(store: Store, out: TextIO) -> int:
    """The same people as one JSON array, their fields in `fields`; how many.

    Nothing is defused: no spreadsheet reads it.
    """
    with store.read() as connection:
        count = 0
        for page in _pages(connection):
            segments = _segments(connection, [row.id for row in page])
            for row in page:
                person = {name: getattr(row, name) for name in EXPORTED if name in row._fields}
                document = {
                    **person,
                    "segments": segments.get(row.id, []),
                    "created_at": isoformat(row.created_at),
                    "fields": row.fields,
                }
                out.write(("[\n" if count == 0 else ",\n") + orjson.dumps(document).decode())
                count += 1
        out.write("\n]\n" if count else "[]\n")
    return count


@contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """A file that appears under its name when all of it is written, or not at all.

    Raises `BadInput` when it cannot be written.
    """
    where = Where(str(path))
    try:
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror or error}", where=where) from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror or error}", where=where) from error
    finally:
        Path(draft).unlink(missing_ok=True)


def _field_names(connection: Connection) -> list[str]:
    """The names of all fields that anybody has, sorted."""
    names: set[str] = set()
    seen: set[str] = set()
    raw = select(type_coerce(subscribers.c.fields, String)).where(
        subscribers.c.state != "forgotten"
    )
    last = 0
    while True:
        page = connection.execute(
            raw.add_columns(subscribers.c.id)
            .where(subscribers.c.id > last)
            .order_by(subscribers.c.id)
            .limit(_PAGE)
        ).all()
        if not page:
            return sorted(names)
        for text, number in page:
            last = number
            if text not in seen:
                names.update(orjson.loads(text))
        seen = {text for text, _ in page}


def _pages(connection: Connection) -> Iterator[list[Any]]:
    last = 0
    while page := connection.execute(
        select(subscribers)
        .where(subscribers.c.id > last, subscribers.c.state != "forgotten")
        .order_by(subscribers.c.id)
        .limit(_PAGE)
    ).all():
        yield list(page)
        last = page[-1].id


def _segments(connection: Connection, ids: list[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    rows = connection.execute(
        select(segment_members.c.subscriber_id, segment_members.c.segment)
        .where(segment_members.c.subscriber_id.in_(ids))
        .order_by(segment_members.c.segment)
    )
    for number, segment in rows:
        found.setdefault(number, []).append(segment)
    return found


def _header(field: str) -> str:
    return f"fields.{field}" if field in EXPORTED else defused(field)


def _cells(row: Any, names: list[str], segments: list[str]) -> list[str]:
    cells = [
        row.email,
        row.first_name,
        row.last_name,
        ";".join(row.topics),
        row.state,
        row.suppressed,
        row.frequency,
        ";".join(segments),
        isoformat(row.created_at),
        *(str(row.fields.get(name, "")) for name in names),
    ]
    return [defused(cell) for cell in cells]
