"""What the columns of a CSV file of people mean, and one row of it as a person.

It must not know the database. The columns of an export are known again, so that what was exported
can be imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from newsletter.audience.addresses import normalise_address
from newsletter.audience.csv_rows import RowOfCells
from newsletter.audience.values import (
    BadValue,
    clean_field,
    clean_name,
    clean_topics,
    field_name,
)
from newsletter.errors import BadInput, Where

COLUMN_LIMIT = 500
KNOWN = ("email", "first_name", "last_name", "topics")
# An export begins with these; of them only the known ones are read back.
EXPORTED = (*KNOWN, "state", "suppressed", "frequency", "segments", "created_at")
# What a spreadsheet takes for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(slots=True)
class Person:
    """One row: empty values say nothing about the person."""

    email: str
    key: str
    first_name: str = ""
    last_name: str = ""
    topics: list[str] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Columns:
    """Positions from 0 by meaning; `exported` says that the file is an export of ours."""

    width: int
    known: dict[str, int]
    fields: tuple[tuple[int, str], ...]
    unnamed: tuple[int, ...]
    exported: bool

    def email_of(self, row: RowOfCells) -> str:
        """The address as it stands in the row, '' where the row is too short."""
        position = self.known["email"]
        return row.cells[position].strip()[:320] if position < len(row.cells) else ""

    def person(self, row: RowOfCells) -> Person:
        """Read one row. Raises `BadInput` with the reason why it cannot be imported."""
        if row.error:
            raise BadValue(row.error)
        if len(row.cells) != self.width:
            raise BadValue(f"{len(row.cells)} columns where the header has {self.width}")
        cells = [undefused(cell) for cell in row.cells] if self.exported else row.cells
        address = normalise_address(cells[self.known["email"]])
        person = Person(address.email, address.key)
        if (position := self.known.get("first_name")) is not None and (text := cells[position]):
            person.first_name = clean_name(text, "first_name")
        if (position := self.known.get("last_name")) is not None and (text := cells[position]):
            person.last_name = clean_name(text, "last_name")
        if (position := self.known.get("topics")) is not None and (text := cells[position]):
            person.topics = clean_topics(text)
        for position, name in self.fields:
            if text := cells[position].strip():
                person.fields[name] = clean_field(text, name)
        for position in self.unnamed:
            if cells[position].strip():
                raise BadValue(f"a value in column {position + 1}, which has no name")
        return person


def read_header(row: RowOfCells | None, where: Where) -> Columns:
    """The columns of a file. Raises `BadInput` for a missing or doubled one."""

    def refuse(message: str, hint: str) -> NoReturn:
        line = row.line if row else 1
        raise BadInput(message, where=Where(where.file, line), hint=f"{hint} Nothing was imported.")

    if row is None:
        refuse("the file is empty", "The first line names the columns; `email` must be there.")
    if row.error:
        refuse(f"the header: {row.error}", "Correct the first line.")
    if len(row.cells) > COLUMN_LIMIT:
        refuse(f"{len(row.cells)} columns", f"At most {COLUMN_LIMIT} are read.")
    written = [cell.strip() for cell in row.cells]
    lowered = tuple(cell.casefold() for cell in written)
    exported = lowered[: len(EXPORTED)] == EXPORTED
    first: dict[str, int] = {}
    unnamed = []
    passed_over = range(len(KNOWN), len(EXPORTED)) if exported else range(0)
    for position, text in enumerate(written):
        name = _meaning(text)
        if position in passed_over:
            continue
        if not name:
            unnamed.append(position)
        elif name in first:
            both = sorted({written[first[name]], text})
            columns = " and ".join(f"`{one}`" for one in both)
            refuse(f"the column {columns} is there twice", "Rename or remove one of the two.")
        else:
            first[name] = position
    if "email" not in first:
        shown = ", ".join(text[:40] for text in written[:10])
        refuse(
            f"no column `email`; there are: {shown}", "Name the column of the addresses `email`."
        )
    return Columns(
        width=len(written),
        known={name: first[name] for name in KNOWN if name in first},
        fields=tuple(
            (position, name.removeprefix("fields."))
            for name, position in first.items()
            if name.startswith("fields.")
        ),
        unnamed=tuple(unnamed),
        exported=exported,
    )


def _meaning(header: str) -> str:
    """One of `KNOWN`, `fields.<name>`, or '' for a column without a name."""
    name = field_name(header)
    if name in KNOWN and not header.lower().startswith("fields."):
        return name
    return name and f"fields.{name}"


def defused(text: str) -> str:
    """`text` as a cell that no spreadsheet runs: with an apostrophe before a formula's sign."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def undefused(text: str) -> str:
    """What `defused` was given."""
    return text[1:] if text[:1] == "'" and text.lstrip("'").startswith(_FORMULA) else text
