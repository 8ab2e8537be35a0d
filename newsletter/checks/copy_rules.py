"""Subject, preheader, and Markdown that will not be shown as its author may expect."""

from __future__ import annotations

import re
from collections.abc import Iterator

from newsletter.checks.finding import Problem, Rule
from newsletter.checks.subject import Compiled, Draft
from newsletter.drafting import walk
from newsletter.suggest import shorten

SUBJECT_SHOWN = 78  # characters; phones show 35 to 45 of them
PREHEADER_SHOWN = 150
_HEADER_LINE = 998  # octets, without folding

# A block's fence where it is none: indented, quoted, in a list, or with too few colons.
_FENCE_LIKE = re.compile(r"(?:[\s>]|[-+*] |\d+[.)] )+:{3,}\s*[\w{]*.*|:{2}\s+[a-z]+\s*(\{.*)?")
_CODE = re.compile(r"[\s>]*(`{3,}|~{3,})")


def _subject(subject: Compiled) -> Iterator[Problem]:
    title = subject.compiled.title
    if not title.strip():
        yield Problem("the subject is empty", subject.line("subject"))
    elif len(title.encode()) > _HEADER_LINE:
        yield Problem(
            f"the subject has {len(title.encode())} bytes, and a header's line {_HEADER_LINE}",
            subject.line("subject"),
        )


def _subject_length(subject: Compiled) -> Iterator[Problem]:
    length = len(subject.compiled.title)
    if length > SUBJECT_SHOWN:
        yield Problem(
            f"the subject has {length} characters; few inboxes show more than {SUBJECT_SHOWN}",
            subject.line("subject"),
        )


def _preheader(subject: Compiled) -> Iterator[Problem]:
    length = len(subject.compiled.summary)
    if not subject.compiled.summary.strip():
        yield Problem("there is no preheader", subject.line("preheader"))
    elif length > PREHEADER_SHOWN:
        yield Problem(
            f"the preheader has {length} characters; inboxes show {PREHEADER_SHOWN} at most",
            subject.line("preheader"),
            hint="Shorten it.",
        )


def _raw_html(draft: Draft) -> Iterator[Problem]:
    for passage in draft.reading.html:
        yield Problem(
            f"raw HTML is shown as it is written: {shorten(passage.text, 40)}", passage.line
        )


def _fence_like(draft: Draft) -> Iterator[Problem]:
    for block in walk(draft.issue.blocks):
        code = ""
        for number, line in enumerate(block.body.split("\n"), start=block.body_line):
            fence = _CODE.match(line)
            if fence and (not code or fence[1].startswith(code)):
                code = "" if code else fence[1]
            elif not code and _FENCE_LIKE.fullmatch(line):
                yield Problem(f"shown as text, not a block: {shorten(line, 40)}", number)


def _empty(draft: Draft) -> Iterator[Problem]:
    for block in walk(draft.issue.blocks):
        if block.type in ("tip", "excerpt", "feature", "quote") and not block.body:
            yield Problem(f"the block {block.type!r} is empty", block.line)
    if not draft.issue.blocks:
        yield Problem("the issue has no text", severity="block", hint="Write one below the ---.")


COMPILED: tuple[Rule[Compiled], ...] = (
    Rule("subject.present", "block", "RFC 5322 section 2.1.1", "Write one line.", _subject),
    Rule(
        "subject.length",
        "warn",
        "RFC 5322 section 2.1.1 (78 characters a line)",
        "Put what matters into the first 40 characters.",
        _subject_length,
    ),
    Rule(
        "preheader.present",
        "warn",
        "docs/writing.md",
        'Add preheader: "…"; without one, inboxes show the first words of the text.',
        _preheader,
    ),
)

DRAFT: tuple[Rule[Draft], ...] = (
    Rule("copy.raw-html", "warn", "docs/writing.md", "Use Markdown and blocks instead.", _raw_html),
    Rule(
        "copy.fence",
        "warn",
        "docs/writing.md",
        "Begin the line with ::: and nothing before it; or put a backslash before it.",
        _fence_like,
    ),
    Rule("copy.empty", "warn", "docs/writing.md", "Fill it or remove it.", _empty),
)
