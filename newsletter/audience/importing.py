"""The import of a CSV file: in a stream, chunk by chunk, reviving nobody.

The file is seen to be readable before anything is written. A chunk is one transaction; an import
that is interrupted keeps whole chunks, and running it again adds nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError

from newsletter.audience.columns import Columns, Person, read_header
from newsletter.audience.csv_rows import CsvFile, RowOfCells, detect_delimiter, open_csv, read_rows
from newsletter.audience.import_chunk import Counts, Terms, write_chunk
from newsletter.audience.segments import check_segment_name
from newsletter.audience.values import clean_field
from newsletter.clock import Clock
from newsletter.errors import BadInput, Conflict, Where
from newsletter.store import Store
from newsletter.workspace import Workspace

CHUNK_ROWS = 2_000
_TRIES = 5

Progress = Callable[[int, int], None]  # bytes read, bytes in all


@dataclass(slots=True)
class Imported(Counts):
    """The contract's counts: every row read is in exactly one of the others."""

    read: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """`{read, added, updated, unchanged, suppressed, rejected: [{line, email, reason}]}`."""
        return {
            "read": self.read,
            "added": self.added,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "suppressed": self.suppressed,
            "rejected": self.rejected,
        }


def import_csv(
    store: Store,
    workspace: Workspace,
    clock: Clock,
    path: Path,
    *,
    consent: str = "",
    segment: str = "",
    progress: Progress | None = None,
) -> Imported:
    """Import people from a CSV file; `consent` is its source and makes them active.

    Raises `BadInput` (with nothing imported) when the file, its header or `segment` is no good.
    """
    if segment:
        check_segment_name(segment)
    terms = Terms(
        key=workspace.key,
        file=path.name,
        consent=clean_field(consent, "--consent"),
        segment=segment,
        now=clock.now(),
    )
    result = Imported()
    with (
        open_csv(path) as source,
        closing(read_rows(source, detect_delimiter(source, "email"))) as rows,
    ):
        columns = read_header(next(rows, None), Where(str(path)))
        people = _people(rows, columns, result)
        while chunk := list(islice(people, CHUNK_ROWS)):
            _import_chunk(store, chunk, terms, result)
            if progress:
                progress(_position(source), source.size)
    return result


def _position(source: CsvFile) -> int:
    return min(source.file.tell(), source.size)


def _people(rows: Iterator[RowOfCells], columns: Columns, result: Imported) -> Iterator[Person]:
    """The rows that can be imported; the others go to `result.rejected`."""
    for row in rows:
        result.read += 1
        try:
            yield columns.person(row)
        except BadInput as error:
            result.rejected.append(
                {"line": row.line, "email": columns.email_of(row), "reason": error.message}
            )


def _import_chunk(store: Store, chunk: list[Person], terms: Terms, result: Imported) -> None:
    for attempt in range(_TRIES):
        try:
            with store.begin() as connection:
                counts = write_chunk(connection, chunk, terms)
            break
        except IntegrityError:  # somebody else added one of these people: look again
            if attempt == _TRIES - 1:
                raise Conflict(
                    "another import adds the same people at the same time",
                    hint="Run this one again when that one is done; nothing is added twice.",
                ) from None
    result.include(counts)
