"""Absolutes in health copy: words that promise what no treatment can, in English, German, French.

Clear promises of a cure or of safety block; words that are often harmless are warned of. What is
denied or asked ("not guaranteed", "Does it cure milia?") is no claim.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from newsletter.checks.finding import Problem, Rule, Severity
from newsletter.checks.reading import Passage
from newsletter.checks.subject import Draft
from newsletter.suggest import shorten


@dataclass(frozen=True)
class _Claim:
    pattern: re.Pattern[str]
    severity: Severity


def _claims(severity: Severity, *patterns: str) -> list[_Claim]:
    return [
        _Claim(re.compile(rf"(?<!\w){pattern}(?!\w)", re.IGNORECASE), severity)
        for pattern in patterns
    ]


_WHOLLY = (
    r"(?:100\s?%|100\s(?:percent|per\scent|prozent|pour\scent)|hundertprozentig"
    r"|(?:one\s)?hundred\spercent|completely|totally|absolutely|perfectly"
    r"|völlig|absolut|totalement|entièrement)"
)
_SAFE = (
    r"(?:safe|effective|risk[-\s]free|harmless|sicher|wirksam|unbedenklich|risikofrei"
    r"|sûre?s?|efficaces?|sans\s(?:danger|risque))"
)
_AILMENT = r"(?:your|the|any|all|every|acne|milia|eczema|rosacea|\w+osis|\w+itis)"

CLAIMS: tuple[_Claim, ...] = (
    *_claims(
        "block",
        r"cures",
        rf"(?:will|can|to)\s(?:\w+\s)?cure\s{_AILMENT}",
        r"(?:miracle|instant|permanent|guaranteed)\scures?",
        rf"{_WHOLLY}\s{_SAFE}",
        r"guaranteed\s(?:results?|success|to\s(?:\w+\s)?(?:cure|heal|work|remove|eliminate|clear))",
        r"(?:no|zero|without(?:\sany)?|free\s(?:of|from))\sside[-\s]effects?",
        r"permanently\s(?:cures?|removes?|eliminates?|heals?|clears?|gets?\srid\sof)",
        r"heilt",
        r"(?:keine|ohne|keinerlei)\snebenwirkungen",
        r"garantierter?\s(?:erfolg|ergebnisse?|heilung)",
        r"guérit",
        r"(?:sans|aucun)\seffets?\ssecondaires?",
        r"résultats?\sgarantis?",
    ),
    *_claims(
        "warn",
        r"cured?",
        r"guarantee[ds]?",
        r"100\s?%",
        r"permanently",
        r"miracle|miraculous",
        r"risk[-\s]free",
        r"(?:always|never)\s(?:works?|fails?)",
        r"works\sfor\severy(?:one|body)",
        r"(?:clinically|scientifically)\sproven",
        r"heals",
        r"garantiert",
        r"dauerhaft",
        r"wundermittel",
        r"risikofrei",
        r"(?:klinisch|wissenschaftlich)\sbewiesen",
        r"garant(?:ie?s?|it)",
        r"définitivement",
        r"sans\srisque",
        r"cliniquement\sprouvée?s?",
    ),
)  # fmt: skip

_SENTENCE = re.compile(r"[^.!?…]*(?:\.(?=\w)[^.!?…]*)*(?:[.!?…]+|$)")
_NEGATION_BEFORE = re.compile(
    r"(?<!\w)(?:not(?!\sonly)|no|never|cannot|\w+n['’]t|without|neither|nor|nobody|nothing|none|hardly"
    r"|rarely|isnt|doesnt|than"
    r"|nicht(?!\snur)|kein\w*|nie|niemals|ohne|weder|kaum"
    r"|ne|n['’]\w+|pas|aucune?|jamais|sans|ni|rien|personne"
    r"|(?:if|whether|ob|si)(?!\w)(?!.*,))(?!\w)",  # "if it itches, this cures it" claims it
    re.IGNORECASE,
)
_NEGATION_AFTER = re.compile(
    r"\W+(?:\w+\W+){0,2}?(?:nicht|kein\w*|nie|niemals|nothing|nobody|no\sone|pas|rien|jamais)(?!\w)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[;:–—]|,\s(?:but|and|so|aber|sondern|und|mais|et)\s", re.IGNORECASE)
_REACH = 6  # words before a claim in which a negation counts
_WINDOW = 300  # characters that hold them
_MOST = 20  # claims of one sentence: no more are needed to see what is wrong with it


def _absolutes(draft: Draft) -> Iterator[Problem]:
    for passage in draft.reading.passages:
        yield from find_absolutes(passage)


def find_absolutes(passage: Passage) -> Iterator[Problem]:
    """A problem for each claim of the passage; of claims that overlap, the first and worst."""
    for sentence in _SENTENCE.finditer(passage.text):
        if sentence[0].rstrip().endswith("?"):
            continue
        taken: list[range] = []
        for claim in CLAIMS:
            for match in claim.pattern.finditer(passage.text, sentence.start(), sentence.end()):
                span = range(match.start(), match.end())
                if any(span.start < other.stop and other.start < span.stop for other in taken):
                    continue
                taken.append(span)
                if len(taken) > _MOST:
                    return
                if not _is_denied(passage.text, sentence.start(), sentence.end(), span):
                    yield Problem(
                        f"{' '.join(match[0].split())!r} promises too much:"
                        f" {shorten(sentence[0][:500].strip(), 90)}",
                        passage.line_at(match.start()),
                        severity=claim.severity,
                    )


def _is_denied(text: str, start: int, end: int, span: range) -> bool:
    before = _CLAUSE.split(text[max(start, span.start - _WINDOW) : span.start])[-1]
    near = " ".join(before.split()[-_REACH:])
    if _NEGATION_BEFORE.search(near):
        return True
    return _NEGATION_AFTER.match(text, span.stop, end) is not None


RULES: tuple[Rule[Draft], ...] = (
    Rule(
        "claims.absolute",
        "block",
        "EU Regulation 655/2013 (cosmetic claims); FTC Health Products Compliance Guidance",
        "Say what was seen, in whom and how surely: “may help”, “in a small study”.",
        _absolutes,
    ),
)
