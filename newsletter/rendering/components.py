"""What MJML knows, as data: components, where each may stand, its attributes and their types.

The table is MJML's own (npm mjml 5.4.1, MIT licence), without what mrml does not do:
`mj-html-attributes`, `sizes`, `mj-raw position`, and `mj-include`, which Jinja2 does here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal


@dataclass(frozen=True, slots=True)
class Component:
    """`content`: what stands in it: other components, HTML, or plain text (titles, styles)."""

    name: str
    parents: tuple[str, ...]
    content: Literal["components", "html", "text"]
    attributes: Mapping[str, str]  # name → type as MJML writes it: color, unit(px,%){1,4}, enum(…)


#: Attributes that every component of the body takes.
GLOBAL = frozenset({"css-class", "mj-class"})

_COLOUR = re.compile(
    r"#(?:[0-9a-f]{3}){1,2}|[a-z]+|rgba?\(\s*\d{1,3}(?:\s*,\s*[\d.]{1,5}){2,3}\s*\)", re.IGNORECASE
)


@cache
def components() -> Mapping[str, Component]:
    """The table by name."""
    raw = json.loads(files(__package__).joinpath("components.json").read_text(encoding="utf-8"))
    return {
        name: Component(name, tuple(entry["parents"]), entry["content"], entry["attributes"])
        for name, entry in raw.items()
    }


@cache
def attributes_of_all() -> Mapping[str, str]:
    """Every attribute of any component: what `mj-all` and `mj-class` may set."""
    found: dict[str, str] = {}
    for component in components().values():
        for name, kind in component.attributes.items():
            found.setdefault(name, kind if found.get(name, kind) == kind else "string")
    return found


def fits(value: str, kind: str) -> bool:
    """Whether an attribute's value is of its type."""
    return _pattern(kind).fullmatch(value) is not None


@cache
def _pattern(kind: str) -> re.Pattern[str]:
    name, _, rest = kind.partition("(")
    options = rest.partition(")")[0].split(",") if rest else []
    match name:
        case "color":
            return _COLOUR
        case "boolean":
            return re.compile("true|false")
        case "integer":
            return re.compile(r"\d+")
        case "enum":
            return re.compile("|".join(re.escape(option) for option in options))
        case "unit" | "unitWithNegative":
            return _unit(options, kind, negative=name == "unitWithNegative")
    return re.compile(".*", re.DOTALL)


def _unit(options: list[str], kind: str, *, negative: bool) -> re.Pattern[str]:
    units = "|".join(re.escape(unit) for unit in options if unit != "auto")
    one = (
        rf"(?:{'-?' if negative else ''}[\d.]+(?:{units})|0{'|auto' if 'auto' in options else ''})"
    )
    times = re.search(r"\{(\d+),(\d+)\}", kind)
    return re.compile(one + (rf"(?: {one}){{0,{int(times[2]) - 1}}}" if times else ""))


def describe(kind: str) -> str:
    """A type in words, for a message."""
    name, _, rest = kind.partition("(")
    options = [option for option in rest.partition(")")[0].split(",") if option]
    match name:
        case "color":
            return "a colour such as #a8455f"
        case "enum":
            return f"one of: {', '.join(options)}"
        case "boolean":
            return "true or false"
        case "integer":
            return "a whole number"
    most = ", one to four of them" if "{1,4}" in kind else ""
    return f"a length in {' or '.join(options)}{most}"
