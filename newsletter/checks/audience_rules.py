"""Audience, segments, and merge fields tried against the people who would get the issue."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from sqlalchemy import Connection, Select, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement

from newsletter.audience.segments import ALL, segment_select
from newsletter.checks.finding import Problem, Rule
from newsletter.checks.reading import segments_named
from newsletter.checks.subject import Audience, Compiled, Draft
from newsletter.compiled import CompiledIssue
from newsletter.store import Store
from newsletter.store.schema import segment_members, subscribers
from newsletter.suggest import suggest

_CUSTOM = "subscriber.fields."


def ask_audience(
    store: Store, segment: str, fields: Iterable[tuple[frozenset[str], str]]
) -> Audience:
    """Count the audience of `segment`, and who in it has no value for each of `fields`.

    `fields` are (the `only` segments around it, `subscriber.…`) pairs.
    """
    asked: dict[frozenset[str], set[str]] = {frozenset(): set()}
    for around, field in fields:
        asked.setdefault(around, set()).add(field)
    sizes: dict[str, int] = {}
    missing: dict[tuple[str, str], int] = {}
    with store.read() as connection:
        known = {ALL, *connection.scalars(select(segment_members.c.segment).distinct())}
        for around, names in asked.items():
            key = ",".join(sorted(around))
            told = sorted(names)
            empty = [func.trim(_value(connection, field)) == "" for field in told]
            # One pass over the audience, however many fields.
            counts = (func.count(), *[func.count().filter(is_empty) for is_empty in empty])
            query = _people(segment, around).with_only_columns(*counts)
            sizes[key], *without = connection.execute(query).one()
            missing |= {(key, field): each for field, each in zip(told, without, strict=True)}
    return Audience(segment, frozenset(known), sizes, missing)


def _people(segment: str, around: Collection[str]) -> Select[tuple[int]]:
    people = segment_select(segment)
    for name in sorted(around):
        people = people.where(subscribers.c.id.in_(segment_select(name)))
    return people


def _value(connection: Connection, field: str) -> ColumnElement[str]:
    """A subscriber's value of a field in SQL, "" where there is none."""
    if not field.startswith(_CUSTOM):
        column: ColumnElement[str] = subscribers.c[field.removeprefix("subscriber.")]
        return column
    name = field.removeprefix(_CUSTOM)
    if connection.dialect.name == "postgresql":
        return func.coalesce(func.cast(subscribers.c.fields, JSONB)[name].astext, "")
    return func.coalesce(func.json_extract(subscribers.c.fields, f'$."{name}"'), "")


def fields_of_draft(draft: Draft) -> list[tuple[frozenset[str], str]]:
    """The subscriber's fields of an issue, with the segments around each."""
    return [
        (use.segments, use.merge.field)
        for use in draft.reading.merges
        if use.merge.field.startswith("subscriber.")
    ]


def fields_of_compiled(compiled: CompiledIssue) -> list[tuple[frozenset[str], str]]:
    """The same of a compiled issue; a field of the common variant counts for everybody."""
    common = compiled.variants.get("")
    seen = {slot.field for slot in common.slots} if common else set()
    found = {(frozenset[str](), field) for field in seen}
    for name, message in compiled.variants.items():
        around = frozenset(filter(None, name.split(",")))
        found |= {(around, slot.field) for slot in message.slots if slot.field not in seen}
    return [(around, field) for around, field in found if field.startswith("subscriber.")]


def _known(draft: Draft) -> Iterator[Problem]:
    issue, known = draft.issue, draft.audience.known
    if issue.audience not in known:
        yield Problem(
            f"no segment named {issue.audience!r}",
            issue.lines.get("audience", 1),
            hint=suggest(issue.audience, known),
        )
    for segment, line in segments_named(issue):
        if segment not in known:
            yield Problem(f"no segment named {segment!r}", line, hint=suggest(segment, known))


def _empty(subject: Compiled) -> Iterator[Problem]:
    audience = subject.audience
    if audience.segment in audience.known and not audience.size:
        yield Problem(f"nobody in {audience.segment!r} would get it now", subject.line("audience"))


def _fields(subject: Compiled) -> Iterator[Problem]:
    """Each field once, at its first line; one without a default where it leaves gaps."""
    uses = list(_uses(subject))
    bare = {(around, field) for around, field, has_default, _ in uses if not has_default}
    told = set()
    for around, field, _, line in uses:
        size = subject.audience.sizes.get(around, 0)
        missing = subject.audience.missing.get((around, field), 0)
        if not missing or (around, field) in told:
            continue
        told.add((around, field))
        name = field.removeprefix("subscriber.")
        if (around, field) in bare:
            yield Problem(
                f"{name} is empty for {missing:,} of {size:,} people, and has no default",
                line,
                severity="block" if missing == size else "warn",
                hint=f'Give it a default: {{{{ {field} | default("…") }}}}.',
            )
        elif missing == size and field.startswith(_CUSTOM):
            yield Problem(
                f"nobody has the field {name}: everybody would read the default",
                line,
                severity="warn",
                hint="Is it misspelt? `newsletter audience export` shows the fields there are.",
            )


def _uses(subject: Compiled) -> Iterator[tuple[str, str, bool, int | None]]:
    """(segments around, field, has a default, line), those without a default first."""
    found: list[tuple[str, str, bool, int | None]] = []
    if subject.draft:
        for use in subject.draft.reading.merges:
            around = ",".join(sorted(use.segments))
            found.append((around, use.merge.field, use.merge.has_default, use.merge.line))
    else:
        for name, message in subject.compiled.variants.items():
            for slot in message.slots:
                has_default = any(key == "default" for key, _ in slot.filters)
                found += [
                    ("", slot.field, has_default, None),
                    (name, slot.field, has_default, None),
                ]
    yield from sorted(found, key=lambda use: use[2])


DRAFT: tuple[Rule[Draft], ...] = (
    Rule(
        "audience.known",
        "block",
        "docs/writing.md",
        "Make the segment with `newsletter audience import --segment`.",
        _known,
    ),
)

COMPILED: tuple[Rule[Compiled], ...] = (
    Rule("audience.empty", "warn", "docs/writing.md", "Import or invite people.", _empty),
    Rule(
        "merge.values",
        "block",
        "docs/writing.md",
        'Give it a default: {{ subscriber.first_name | default("there") }}.',
        _fields,
    ),
)
