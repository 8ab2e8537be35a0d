"""Merge fields: `{{ subscriber.first_name | default("there") }}` and nothing else of Jinja.

An expression is parsed by Jinja2 and never run; its syntax tree is held to an allow-list of nodes,
fields and filters. The text around it is cut from the source, so that not a byte of it changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from jinja2 import Environment, TemplateSyntaxError, nodes

from newsletter.compiled import FILTERS
from newsletter.errors import BadInput, Where
from newsletter.suggest import shorten, suggest

SUBSCRIBER_FIELDS = ("subscriber.email", "subscriber.first_name", "subscriber.last_name")
CUSTOM_FIELD = "subscriber.fields."
LINKS = ("links.unsubscribe", "links.preferences", "links.web_version")
KNOWN_FIELDS = (*SUBSCRIBER_FIELDS, f"{CUSTOM_FIELD}<name>", *LINKS)

_LONGEST = 300  # characters of one expression
_MOST_BRACKETS = 8  # Jinja's parser calls itself for each
_EXAMPLE = "Write for example {{ subscriber.first_name | default('there') }}."
_LITERAL = "For the characters themselves write &#123;&#123; (or &#123;% and &#123;#)."

# Where Jinja's lexer would leave plain text, and where an expression that it opened would end.
_OPENING = re.compile(r"\{[{%#]")
_CLOSING = re.compile(r"""\}\}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""", re.DOTALL)
# Widths such as %999999999d are left out: the C library would fill as many bytes.
_DATE_FORMAT = re.compile(r"(?:[^%]|%-?[aAbBdeHIjmMpSuUVwWyYG]|%%)*", re.DOTALL)

_environment = Environment(autoescape=True)


@dataclass(frozen=True, slots=True)
class MergeField:
    """One field with its filters, as (name, argument) in order, and the line it stands in."""

    field: str
    filters: tuple[tuple[str, str | None], ...]
    line: int

    @property
    def has_default(self) -> bool:
        """Whether it says what stands for a missing value, be it nothing; our links need none."""
        return self.field in LINKS or any(name == "default" for name, _ in self.filters)


def parse_merge(source: str, *, where: Where) -> tuple[str | MergeField, ...]:
    """Split `source` into text and merge fields, in order; empty texts are left out.

    `where` is the place of its first line. Raises `BadInput` with the line of an expression that
    is none of the allowed ones.
    """
    parts: list[str | MergeField] = []
    end = 0
    line = where.line or 1
    while opening := _OPENING.search(source, end):
        start = opening.start()
        line += source.count("\n", end, start)
        if start > end:
            parts.append(source[end:start])
        here = Where(where.file, line)
        end = _end_of_expression(source, start, here)
        parts.append(_parse_expression(source[start:end], here))
        line += source.count("\n", start, end)
    if end < len(source):
        parts.append(source[end:])
    return tuple(parts)


def merge_fields(source: str, *, where: Where) -> tuple[MergeField, ...]:
    """The merge fields alone. Raises as `parse_merge` does."""
    return tuple(part for part in parse_merge(source, where=where) if not isinstance(part, str))


def _end_of_expression(source: str, start: int, where: Where) -> int:
    if source[start + 1] != "{":
        raise BadInput(
            f"no Jinja code may stand in an issue: {shorten(source[start : start + 80], 40)}",
            where=where,
            hint=f"Only merge fields such as {{{{ subscriber.first_name }}}} may. {_LITERAL}",
        )
    limit = start + _LONGEST
    for match in _CLOSING.finditer(source, start + 2, limit):
        if match[0] == "}}":
            return match.end()
    if "}}" in source[limit - 1 :]:
        message = f"a merge field has at most {_LONGEST} characters"
    else:
        message = "a merge field is opened with {{ and not closed with }}"
    raise BadInput(
        f"{message}: {shorten(source[start : start + 80], 40)}", where=where, hint=_LITERAL
    )


def _parse_expression(expression: str, where: Where) -> MergeField:
    """`expression` is one `{{ … }}` with its braces."""
    if sum(expression.count(bracket) for bracket in "([{") > _MOST_BRACKETS + 2:
        raise _not_allowed(expression, where)
    if expression.startswith(("{{-", "{{+")) or expression.endswith("-}}"):
        raise BadInput(
            f"no minus or plus may follow the braces of a merge field: {shorten(expression, 40)}",
            where=where,
            hint="White space around a field stays as it is written.",
        )
    try:
        body = _environment.parse(expression).body
    except (TemplateSyntaxError, RecursionError) as error:
        reason = error.message if isinstance(error, TemplateSyntaxError) else "nested too deeply"
        raise BadInput(
            f"not a merge field: {shorten(expression, 40)} ({reason})",
            where=where,
            hint=f"{_EXAMPLE} {_LITERAL}",
        ) from error
    match body:
        case [nodes.Output(nodes=[node])]:
            return _read(node, expression, where)
    raise _not_allowed(expression, where)


def _read(node: nodes.Node, expression: str, where: Where) -> MergeField:
    filters: list[tuple[str, str | None]] = []
    while isinstance(node, nodes.Filter):
        filters.append(_read_filter(node, expression, where))
        if node.node is None:
            raise _not_allowed(expression, where)
        node = node.node
    field = _read_field(node, expression, where)
    if filters and field in LINKS:
        raise BadInput(f"{field} takes no filter", where=where, hint="Leave the filter out.")
    return MergeField(field, tuple(reversed(filters)), where.line or 1)


def _read_field(node: nodes.Node, expression: str, where: Where) -> str:
    names: list[str] = []
    while isinstance(node, nodes.Getattr):
        names.append(node.attr)
        node = node.node
    if not isinstance(node, nodes.Name):
        raise _not_allowed(expression, where)
    field = ".".join([node.name, *reversed(names)])
    custom = field.startswith(CUSTOM_FIELD) and len(names) == 2 and not names[0].startswith("__")
    if custom or field in SUBSCRIBER_FIELDS or field in LINKS:
        return field
    raise BadInput(f"unknown merge field {field!r}", where=where, hint=suggest(field, KNOWN_FIELDS))


def _read_filter(node: nodes.Filter, expression: str, where: Where) -> tuple[str, str | None]:
    if node.name not in FILTERS:
        raise BadInput(
            f"unknown filter {node.name!r} in {shorten(expression, 40)}",
            where=where,
            hint=suggest(node.name, FILTERS),
        )
    if node.kwargs or node.dyn_args or node.dyn_kwargs:
        raise _not_allowed(expression, where)
    values = [arg.value if isinstance(arg, nodes.Const) else None for arg in node.args]
    if not all(isinstance(value, str) and _is_plain(value) for value in values):
        raise BadInput(
            f"the filter {node.name!r} takes a text in quotes: {shorten(expression, 40)}",
            where=where,
            hint='Write for example default("there").',
        )
    least, most = {"default": (1, 1), "date": (0, 1)}.get(node.name, (0, 0))
    if not least <= len(values) <= most:
        wanted = {"default": "exactly one text", "date": "one format at most"}
        raise BadInput(
            f"the filter {node.name!r} takes {wanted.get(node.name, 'no argument')}",
            where=where,
            hint=f"It stands in {shorten(expression, 40)}.",
        )
    argument = values[0] if values else None
    if node.name == "date" and argument is not None and not _DATE_FORMAT.fullmatch(argument):
        raise BadInput(
            f"not a format for a date: {shorten(argument, 40)!r}",
            where=where,
            hint="Write for example %d %B %Y.",
        )
    return node.name, argument


def _is_plain(value: str) -> bool:
    """One line that can be written as UTF-8: what stands in a subject too."""
    return value.isprintable() or all(
        character.isprintable() or character in "\u00a0\u202f\u2009" for character in value
    )


def _not_allowed(expression: str, where: Where) -> BadInput:
    return BadInput(
        f"only a field and its filters may stand in {{{{ }}}}: {shorten(expression, 40)}",
        where=where,
        hint=f"Fields: {', '.join(KNOWN_FIELDS)}; filters: {', '.join(FILTERS)}. {_LITERAL}",
    )
