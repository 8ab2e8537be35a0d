"""The fixed words of a new draft in English, German and French, and how text is put into one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from newsletter.drafting.fences import parse_blocks
from newsletter.errors import BadInput
from newsletter.languages import in_language


@dataclass(frozen=True, slots=True)
class Wording:
    greeting: str
    intro: str  # {titles}
    last: str  # before the last of several
    and_tips: Mapping[bool, str]  # by whether there are several; {count}
    tips: Mapping[bool, str]  # the heading over them
    updates: str
    button: str
    preheader: str  # {titles}


_WORDINGS = {
    "en": Wording(
        greeting='Hello {{ subscriber.first_name | default("there") }},',
        intro="In this issue: {titles}",
        last=" and ",
        and_tips={False: "a tip", True: "{count} tips"},
        tips={False: "A tip to try", True: "Tips to try"},
        updates="More of this, as soon as it is out:",
        button="Get updated",
        preheader="Also: {titles}",
    ),
    "de": Wording(
        greeting='Hallo {{ subscriber.first_name | default("und willkommen") }},',
        intro="In dieser Ausgabe: {titles}",
        last=" und ",
        and_tips={False: "ein Tipp", True: "{count} Tipps"},
        tips={False: "Ein Tipp zum Ausprobieren", True: "Tipps zum Ausprobieren"},
        updates="Mehr davon, sobald es erscheint:",
        button="Auf dem Laufenden bleiben",
        preheader="Außerdem: {titles}",
    ),
    "fr": Wording(
        greeting='Bonjour {{ subscriber.first_name | default("et bienvenue") }},',
        intro="Dans ce numéro : {titles}",
        last=" et ",
        and_tips={False: "un conseil", True: "{count} conseils"},
        tips={False: "Un conseil à essayer", True: "Conseils à essayer"},
        updates="La suite, dès sa parution :",
        button="Rester au courant",
        preheader="Et aussi : {titles}",
    ),
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_JINJA = re.compile(r"\{(?=[{%#])")
_FENCE = re.compile(r"^( {0,3})(?=:::)", re.MULTILINE)
_CODE = re.compile(r"^([\s>*+\-\d.)]*)(`{3}|~{3})", re.MULTILINE)
_SPECIAL = re.compile(r"([\\`*_\[\]<>~|])")
_REFERENCE = re.compile(r"&(?=#?\w+;)")


def wording(language: str) -> Wording:
    """The words for a language such as `de` or `de-AT`; English where there are none."""
    return in_language(_WORDINGS, language)


def as_markdown(text: str) -> str:
    """Plain text as Markdown that shows just that text, on one line."""
    line = _REFERENCE.sub("&amp;", " ".join(text.split()))
    return defused(_SPECIAL.sub(r"\\\1", line))


def defused(markdown: str) -> str:
    """Markdown from elsewhere, which reads the same but opens no merge field and no block."""
    text = _FENCE.sub(r"\1\\", _JINJA.sub("&#123;", markdown.replace("\0", "")))
    try:
        parse_blocks(["::: tip", *text.split("\n"), ":::"], 1, "")
    except BadInput:  # code that is never closed would reach beyond its block
        return _CODE.sub(r"\1\\\2", text)
    return text


def as_value(text: str) -> str:
    """Plain text for a subject or an attribute, where entities would be shown as they are."""
    line = " ".join(_CONTROL.sub(" ", text).split())
    return _JINJA.sub("{ ", line)


def quoted(text: str) -> str:
    """An attribute's value in quotes."""
    escaped = as_value(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def listed(pieces: Sequence[str], last: str) -> str:
    """`one, two and three`."""
    if len(pieces) < 2:
        return "".join(pieces)
    return f"{', '.join(pieces[:-1])}{last}{pieces[-1]}"


def yaml_line(key: str, text: str) -> str:
    """A line of front matter: JSON's strings are YAML's."""
    return f"{key}: {json.dumps(text, ensure_ascii=False)}"


def shortened(text: str, width: int) -> str:
    """At most `width` characters, cut between words."""
    line = " ".join(text.split())
    if len(line) <= width:
        return line
    cut = line[: width - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut).rstrip(" ,;:–-") + "…"
