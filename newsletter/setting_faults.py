"""What is wrong in the settings, in words that say what to write instead."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

import orjson
from pydantic import BaseModel, ValidationError

from newsletter.setting_values import SAMPLE, Recipients

ENVIRONMENT_PREFIX = "NEWSLETTER_"

# By the type of pydantic's error; its context fills them in.
_WORDS = {
    "extra_forbidden": "unknown key; see docs/settings.md for those there are",
    "missing": "missing; every entry needs it",
    "string_type": "write text in quotes",
    "path_type": "write a path in quotes",
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "int_parsing_size": "write a smaller number",
    "int_from_float": "write a whole number",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "list_type": 'write a list, such as ["…", "…"]',
    "model_type": "write a table of keys and values",
    "greater_than_equal": "write a number of at least {ge}",
    "less_than_equal": "write a number of at most {le}",
    "literal_error": "write {expected}",
}


def of_wrong_type(model: type[BaseModel], values: Any, path: str = "") -> Iterator[str]:
    """Numbers and truth values written as something else: pydantic takes `"3"` and `true` for a
    number, as values from the environment are text. A sample of `"5"` may be meant as 5 %."""
    if not isinstance(values, dict):
        return
    for name, field in model.model_fields.items():
        if name not in values:
            continue
        value, kind = values[name], field.annotation
        if kind is bool and not isinstance(value, bool):
            yield f"{path}{name}: write true or false, without quotes"
        elif _takes_number(kind) and (not isinstance(value, int) or isinstance(value, bool)):
            yield f"{path}{name}: write a whole number, without quotes"
        elif _takes_numbers(kind) and not (
            isinstance(value, list) and all(type(item) is int for item in value)
        ):
            yield f"{path}{name}: write whole numbers in brackets, without quotes"
        elif SAMPLE in field.metadata and isinstance(value, str) and value.strip().isdecimal():
            yield f'{path}{name}: write a part, as "{value.strip()}%", or a number without quotes'
        section = get_args(kind)[0] if get_origin(kind) is list else kind
        if isinstance(section, type) and issubclass(section, BaseModel):
            for number, item in enumerate(value if isinstance(value, list) else [value]):
                within = f"{number}." if isinstance(value, list) else ""
                yield from of_wrong_type(section, item, f"{path}{name}.{within}")


def _takes_number(kind: Any) -> bool:
    """Whether values of the kind are whole numbers, also where there may be none."""
    if get_origin(kind) is list:
        return False
    return kind is int or kind == Recipients or Recipients in get_args(kind)


def _takes_numbers(kind: Any) -> bool:
    return get_origin(kind) is list and _takes_number(get_args(kind)[0])


def describe(error: ValidationError) -> tuple[list[str], bool]:
    """A line for each wrong key, and whether one of them at least is written in the file."""
    lines, in_file = [], False
    for item in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in item["loc"]]
        words = _WORDS.get(item["type"], item["msg"].removeprefix("Value error, "))
        message = words.format_map(item.get("ctx", {})) if item["type"] in _WORDS else words
        variable = _variable(path)
        given = f" (from {variable} in the environment)" if variable else ""
        if item["type"] == "list_type" and variable.upper().startswith(_variable_of(path) + "__"):
            message = "a list comes from the environment only as a whole, as JSON"
        in_file = in_file or not variable
        lines.append(f"{'.'.join(path) or 'settings'}: {message}{given}")
    return lines, in_file


def unreadable_variables(model: type[BaseModel]) -> Iterator[str]:
    """Variables of whole sections and lists whose text is no JSON; pydantic names none of them."""
    for name, text in sorted(os.environ.items()):
        if name.upper().startswith(ENVIRONMENT_PREFIX) and not _is_json(text):
            form = _json_form(model, name[len(ENVIRONMENT_PREFIX) :].lower().split("__"))
            if form:
                yield f"{name} in the environment: write it as JSON, such as {form}"


def _json_form(kind: Any, path: Sequence[str]) -> str:
    """How a whole section or list at that path is written in the environment; '' for one value."""
    for part in path:
        if not _is_section(kind) or part not in kind.model_fields:
            return ""
        kind = kind.model_fields[part].annotation
    if get_origin(kind) is list:
        return '[{"name": …}, …]' if _is_section(get_args(kind)[0]) else '["…", "…"]'
    return '{"name": …}' if _is_section(kind) else ""


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _variable(path: Sequence[str]) -> str:
    """The variable that the value at that path is from; '' where it is from the file.

    That of a list, or of a section that has the key, gives all that is in it; one of a part of a
    list makes the list none.
    """
    names = {name.upper(): name for name in os.environ}
    for length in range(len(path), 0, -1):
        wanted = _variable_of(path[:length])
        if wanted in names and _gives(os.environ[names[wanted]], path[length:]):
            return names[wanted]
    within = _variable_of(path) + "__"
    return next((names[name] for name in sorted(names) if name.startswith(within)), "")


def _variable_of(path: Sequence[str]) -> str:
    return ENVIRONMENT_PREFIX + "__".join(path).upper()


def _gives(text: str, rest: Sequence[str]) -> bool:
    if not rest or not _is_json(text):
        return True
    value = orjson.loads(text)
    return not isinstance(value, dict) or rest[0] in value
