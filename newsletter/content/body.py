"""An article's body as passages (paragraphs and list items) under their headings.

It reads the Markdown that this library writes; what a passage means is for others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from newsletter.content.sentences import Sentence, split_sentences

LIST_ITEM = re.compile(r"[ \t]*(?:[-*+•‣–]|\d{1,3}[.)])[ \t]+(?=\S)")
HEADING = re.compile(r"(#{1,6})[ \t]+(\S.*)")


@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph or list item: its text without the list's `marker`, and where it stands."""

    text: str
    section: int  # 0 before the first heading
    heading: str
    marker: str = ""

    def sentences(self, language: str) -> list[Sentence]:
        return split_sentences(self.text, language)


def passages(body: str) -> list[Passage]:
    """The passages of a Markdown body, in order, without its headings and code."""
    found: list[Passage] = []
    open_lines: list[str] = []
    marker, heading, section = "", "", 0

    def close() -> None:
        if open_lines:
            text = " ".join(" ".join(open_lines).split())
            found.append(Passage(text, section, heading, marker))
            open_lines.clear()

    for line in body.split("\n"):
        title = HEADING.fullmatch(line.strip())
        item = LIST_ITEM.match(line)
        if title or item or not line.strip():
            close()
            marker = ""
        if title:
            section, heading = section + 1, title[2].strip("# ")
        elif item:
            marker = item[0].strip()
            open_lines.append(line[item.end() :])
        elif line.strip():
            open_lines.append(line.strip())
    close()
    return found
