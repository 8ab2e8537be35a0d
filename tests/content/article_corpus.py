"""Articles as people write them, and files made of them in every way that the tests try."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Written:
    """An article: a title, its paragraphs before the first heading, then sections."""

    title: str
    lead: tuple[str, ...]
    sections: tuple[tuple[str, tuple[str, ...]], ...] = ()
    conclusion_heading: str = "Conclusion"

    @property
    def headings(self) -> list[str]:
        return [heading for heading, _ in self.sections]

    @property
    def paragraphs(self) -> list[str]:
        return [*self.lead, *(text for _, texts in self.sections for text in texts)]

    def without_conclusion(self) -> Written:
        kept = tuple(
            (heading, texts)
            for heading, texts in self.sections
            if heading != self.conclusion_heading
        )
        return Written(self.title, self.lead, kept, self.conclusion_heading)

    def flat(self) -> Written:
        """The same text without sub-headings."""
        return Written(self.title, tuple(self.paragraphs))

    def inline_conclusion(self, opening: str = "In conclusion, ") -> Written:
        """The conclusion as a last paragraph, without its heading."""
        *rest, (_, texts) = self.sections
        *before, (heading, last) = rest
        text = opening + texts[0][0].lower() + texts[0][1:]
        return Written(self.title, self.lead, (*before, (heading, (*last, text))))


@dataclass
class Style:
    """How a file is typed."""

    blank: str = "\n"  # after every line's end: a blank line, or none
    between: str = ""  # one more line between articles
    title: str = "{}"
    heading: str = "{}"
    byline: str = ""
    caps: str = ""  # "titles", "headings" or "all"
    ends: str = "\n"
    first_title: bool = True
    call: str = ""
    numbered: bool = False


def typed(articles: list[Written], style: Style) -> str:
    blocks: list[str] = []
    for number, article in enumerate(articles):
        if number and style.between:
            blocks.append(style.between)
        if number or style.first_title:
            title = article.title.upper() if style.caps in {"titles", "all"} else article.title
            blocks.append(style.title.format(title))
            if style.byline:
                blocks.append(style.byline.format(number + 1))
        blocks += article.lead
        for at, (heading, texts) in enumerate(article.sections, start=1):
            shown = heading.upper() if style.caps in {"headings", "all"} else heading
            shown = f"{at}. {shown}" if style.numbered else shown
            blocks += [style.heading.format(shown), *texts]
    if style.call:
        blocks.append(style.call)
    return (f"\n{style.blank}".join(blocks) + "\n").replace("\n", style.ends)


def parse(text: str) -> list[Written]:
    """Articles from the notation below: `= title`, `- heading`, else a paragraph a line."""
    found = []
    for part in re.split(r"^= ", text.strip(), flags=re.M)[1:]:
        title, *lines = part.strip().split("\n")
        lead: list[str] = []
        sections: list[tuple[str, list[str]]] = []
        for line in filter(None, (each.strip() for each in lines)):
            if line.startswith("- "):
                sections.append((line[2:], []))
            elif sections:
                sections[-1][1].append(line)
            else:
                lead.append(line)
        last = sections[-1][0] if sections else ""
        found.append(Written(title, tuple(lead), tuple((h, tuple(t)) for h, t in sections), last))
    return found


def _groups() -> dict[str, list[Written]]:
    text = (Path(__file__).parent / "articles.txt").read_text(encoding="utf-8")
    parts = re.split(r"^@ (.+)\n", text, flags=re.M)[1:]
    return {name: parse(part) for name, part in zip(parts[::2], parts[1::2], strict=True)}


GROUPS = _groups()
ENGLISH, GERMAN, FRENCH = GROUPS["english"], GROUPS["german"], GROUPS["french"]
LONG = GROUPS["long"][0]  # more sections than any other, few of which name its subject
RIVALS = GROUPS["rivals"]  # one subject three times, as the sample text has it
