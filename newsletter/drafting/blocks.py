"""The blocks of an issue as data: which attributes each takes, and what may stand in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Attribute:
    """`merge`: merge fields are filled in it. `content`: it is the id of a content item."""

    required: bool = False
    merge: bool = False
    content: bool = False


@dataclass(frozen=True, slots=True)
class BlockType:
    """`holds`: Markdown, other blocks, or nothing. `label`: its Markdown may not be empty."""

    attributes: Mapping[str, Attribute]
    holds: Literal["markdown", "blocks", "nothing"] = "markdown"
    label: bool = False
    within: str | None = None  # the one block it may stand in


_TEXT = Attribute(merge=True)
_FROM = Attribute(content=True)

BLOCKS: Mapping[str, BlockType] = {
    "tip": BlockType({"from": _FROM, "title": _TEXT}),
    "excerpt": BlockType({"from": _FROM, "title": _TEXT, "href": _TEXT}),
    "feature": BlockType(
        {
            "from": _FROM,
            "title": _TEXT,
            "href": _TEXT,
            "src": Attribute(),
            "alt": _TEXT,
        }
    ),
    # Without `alt` an image is refused by the checks, not here: a draft may still lack it.
    "image": BlockType(
        {"src": Attribute(required=True), "alt": _TEXT, "href": _TEXT, "width": Attribute()}
    ),
    "button": BlockType({"href": Attribute(required=True, merge=True)}, label=True),
    "quote": BlockType({"from": _FROM, "by": _TEXT}),
    "divider": BlockType({}, holds="nothing"),
    "columns": BlockType({}, holds="blocks"),
    "column": BlockType({}, holds="blocks", within="columns"),
    "only": BlockType({"segment": Attribute(required=True)}, holds="blocks"),
}

MOST_COLUMNS = 4
DEEPEST = 16  # blocks within blocks
