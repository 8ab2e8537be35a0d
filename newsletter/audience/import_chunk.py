"""One chunk of an import within one transaction: known people are read, merged and written at once.

It decides who is added, changed or left alone; it must not know files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, bindparam, insert, literal, select, update

from newsletter.audience.addresses import address_hash
from newsletter.audience.columns import Person
from newsletter.audience.suppression import BLOCKED_STATES
from newsletter.audience.transitions import TRANSITIONS
from newsletter.errors import Conflict
from newsletter.store.schema import (
    consents,
    segment_members,
    subscriber_history,
    subscribers,
    suppressions,
)


@dataclass(slots=True)
class Counts:
    """What became of the rows of a chunk."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    suppressed: int = 0

    def include(self, other: Counts) -> None:
        self.added += other.added
        self.updated += other.updated
        self.unchanged += other.unchanged
        self.suppressed += other.suppressed


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every row; `key` is the workspace's, `file` the file's name."""

    key: bytes
    file: str
    consent: str
    segment: str
    now: datetime


def write_chunk(connection: Connection, people: list[Person], terms: Terms) -> Counts:
    """Add and update these people. Raises `IntegrityError` if another added one meanwhile."""
    return _Chunk(connection, terms, people).write()


@dataclass(slots=True)
class _Known:
    """A person as they are in the database, or will be after this chunk."""

    id: int | None
    values: dict[str, Any]
    state: str
    blocked: bool = False
    outside: bool = False  # of the segment that the import is for
    changed: bool = False
    consented: bool = False
    joined: bool = False


class _Chunk:
    """One chunk within one transaction: what is known is read, merged and written at once."""

    def __init__(self, connection: Connection, terms: Terms, people: list[Person]) -> None:
        self.connection = connection
        self.terms = terms
        self.people = people
        self.hashes = {person.key: address_hash(terms.key, person.key) for person in people}
        self.known: dict[str, _Known] = {}

    def write(self) -> Counts:
        kept = self._read_suppressed()
        self._read_known()
        counts = Counts()
        for person in self.people:
            self._count(person, self.hashes[person.key] in kept, counts)
        self._write_added()
        self._write_changed()
        return counts

    def _read_suppressed(self) -> set[str]:
        hashes = suppressions.c.email_hash
        return set(
            self.connection.scalars(select(hashes).where(hashes.in_(list(self.hashes.values()))))
        )

    def _read_known(self) -> None:
        rows = self.connection.execute(
            select(subscribers)
            .where(subscribers.c.email_key.in_(list(self.hashes)))
            .with_for_update()  # on PostgreSQL; SQLite's transaction holds the write lock anyway
        ).all()
        members = set()
        if self.terms.segment and rows:
            members = set(
                self.connection.scalars(
                    select(segment_members.c.subscriber_id).where(
                        segment_members.c.segment == self.terms.segment,
                        segment_members.c.subscriber_id.in_([row.id for row in rows]),
                    )
                )
            )
        for row in rows:
            self.known[row.email_key] = _Known(
                id=row.id,
                values={
                    "first_name": row.first_name,
                    "last_name": row.last_name,
                    "topics": row.topics,
                    "fields": row.fields,
                },
                state=row.state,
                blocked=bool(row.suppressed) or row.state in BLOCKED_STATES,
                outside=bool(self.terms.segment) and row.id not in members,
            )

    def _count(self, person: Person, kept: bool, counts: Counts) -> None:
        known = self.known.get(person.key)
        # The hash of an erased person stands against all but their own confirmed sign-up.
        if (kept and (known is None or known.state != "active")) or (known and known.blocked):
            counts.suppressed += 1
        elif known is None:
            self.known[person.key] = self._new(person)
            counts.added += 1
        elif self._merge(known, person):
            counts.updated += 1
        else:
            counts.unchanged += 1

    def _new(self, person: Person) -> _Known:
        values = {
            "email": person.email,
            "email_key": person.key,
            "first_name": person.first_name,
            "last_name": person.last_name,
            "topics": person.topics,
            "fields": person.fields,
        }
        return _Known(id=None, values=values, state="active" if self.terms.consent else "pending")

    def _merge(self, known: _Known, person: Person) -> bool:
        """Take over what the row says; an empty cell erases nothing. Whether anything changed."""
        before = dict(known.values)
        for name in ("first_name", "last_name", "topics"):
            if value := getattr(person, name):
                known.values[name] = value
        known.values["fields"] = {**known.values["fields"], **person.fields}
        changed = known.values != before
        known.changed |= changed
        if self.terms.consent and known.state in TRANSITIONS["consented"].sources:
            known.state, known.consented, changed = TRANSITIONS["consented"].target, True, True
        if known.outside:
            known.outside, known.joined, changed = False, True, True
        return changed

    def _write_added(self) -> None:
        terms = self.terms
        added = [known for known in self.known.values() if known.id is None]
        if not added:
            return
        common = {"created_at": terms.now, "updated_at": terms.now}
        ids = self.connection.scalars(
            insert(subscribers).returning(subscribers.c.id),
            [{**known.values, "state": known.state, **common} for known in added],
        ).all()
        self._write_history("imported", ids)
        self._write_consent(ids if terms.consent else ())
        self._write_members(ids if terms.segment else ())

    def _write_changed(self) -> None:
        old = [known for known in self.known.values() if known.id is not None]
        changed = [known for known in old if known.changed]
        if changed:
            self.connection.execute(
                update(subscribers)
                .where(subscribers.c.id == bindparam("known_id"))
                .values(updated_at=self.terms.now),
                [{**known.values, "known_id": known.id} for known in changed],
            )
        consented = [known.id for known in old if known.consented and known.id is not None]
        if consented:
            self._activate(consented)
        self._write_history("updated", [known.id for known in changed])
        self._write_consent(consented)
        self._write_members([known.id for known in old if known.joined])

    def _activate(self, ids: list[int]) -> None:
        transition = TRANSITIONS["consented"]
        moved = self.connection.execute(
            update(subscribers)
            .where(subscribers.c.id.in_(ids), subscribers.c.state.in_(transition.sources))
            .values(state=transition.target, state_reason="", updated_at=self.terms.now)
        ).rowcount
        if moved != len(ids):
            raise Conflict("somebody changed these people while they were imported; run it again")
        self._write_history("consented", ids)

    def _write_history(self, event: str, ids: Sequence[int | None]) -> None:
        self._insert(subscriber_history, ids, {"event": event, "detail": self.terms.file})

    def _write_consent(self, ids: Sequence[int | None]) -> None:
        source = {"how": "import", "text": self.terms.consent, "details": {"file": self.terms.file}}
        self._insert(consents, ids, source)

    def _write_members(self, ids: Sequence[int | None]) -> None:
        self._insert(segment_members, ids, {"segment": self.terms.segment})

    def _insert(self, table: Table, ids: Sequence[int | None], values: dict[str, Any]) -> None:
        """One row a person with the same values, in one statement: a third of the time."""
        if not ids:
            return
        if "at" in table.c:
            values = {**values, "at": self.terms.now}
        same = [literal(value, table.c[name].type) for name, value in values.items()]
        people = select(subscribers.c.id, *same).where(subscribers.c.id.in_(ids))
        self.connection.execute(
            insert(table).from_select(["subscriber_id", *values], people.order_by(subscribers.c.id))
        )
