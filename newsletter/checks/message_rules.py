"""The compiled message: its size, its text part, its legal links, and the content it came from."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from newsletter.checks.finding import Problem, Rule
from newsletter.checks.reading import OWN_LINK, VALUE, BlockText
from newsletter.checks.subject import Compiled, whole
from newsletter.compiled import CompiledMessage
from newsletter.content import is_blocked, load_item
from newsletter.drafting import source_lines
from newsletter.errors import NewsletterError, NotFound
from newsletter.suggest import shorten

CLIPPED_AT = 102_000  # bytes of HTML; Gmail cuts off what comes after about 102 KB
NEARLY = 0.9
_TOKEN_BYTES = 40
_VALUE_BYTES = 24

_WORD = re.compile(r"[^\W_]{3,}")
_FOOTNOTE = re.compile(r"\s?\[\d+\]")
_NO_LETTER = re.compile(r"[\W_]+")
_UNSEEN = re.compile(r"<(style|script|head)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.DOTALL | re.I)


def html_bytes(message: CompiledMessage) -> int:
    """How many bytes of HTML a recipient gets, with values of a usual length."""
    return sum(
        len(part.encode())
        if isinstance(part, str)
        else (_TOKEN_BYTES if message.slots[part].field == "links.token" else _VALUE_BYTES)
        for part in message.html
    )


def _size(subject: Compiled) -> Iterator[Problem]:
    size = max((html_bytes(message) for message in subject.compiled.variants.values()), default=0)
    if size > CLIPPED_AT:
        yield Problem(f"the HTML has {size / 1000:.0f} KB; Gmail cuts off what follows 102 KB")
    elif size > NEARLY * CLIPPED_AT:
        yield Problem(
            f"the HTML has {size / 1000:.0f} of the 102 KB that Gmail shows", severity="warn"
        )


def _links(subject: Compiled) -> Iterator[Problem]:
    base = subject.workspace.settings.site.base_url
    wanted = {
        "unsubscribe link": f"{base}/unsubscribe/{{{{links.token}}}}",
        "link to the web version": f"{base}/archive/{subject.compiled.issue}",
    }
    for name, message in subject.compiled.variants.items():
        for part, label in ((message.html, "HTML"), (message.text, "text part")):
            shown = html.unescape(whole(part, message))
            for what, address in wanted.items():
                if address not in shown:
                    yield Problem(
                        f"no {what} in the {label}{_of(name)}",
                        hint="The template must have it: see templates/default.mjml.j2.",
                    )


def _headers(subject: Compiled) -> Iterator[Problem]:
    for name, message in subject.compiled.variants.items():
        headers = {key.lower(): whole(parts, message) for key, parts in message.headers}
        listed = headers.get("list-unsubscribe", "")
        post = headers.get("list-unsubscribe-post", "")
        if "/unsubscribe/{{links.token}}>" not in listed or post != "List-Unsubscribe=One-Click":
            yield Problem(f"no one-click unsubscribe in the headers{_of(name)}")


def _postal_address(subject: Compiled) -> Iterator[Problem]:
    wanted = set(_WORD.findall(subject.workspace.settings.site.postal_address.casefold()))
    for name, message in subject.compiled.variants.items():
        for part, label in ((message.html, "HTML"), (message.text, "text part")):
            if wanted - _words(whole(part, message), is_html=part is message.html):
                yield Problem(
                    f"no postal address in the {label}{_of(name)}",
                    hint="The template must show site.postal_address; then schedule again.",
                )


def _text(subject: Compiled) -> Iterator[Problem]:
    for name, message in subject.compiled.variants.items():
        if not whole(message.text, message).strip():
            yield Problem(f"the text part{_of(name)} is empty")
    if subject.draft is None:
        return
    for text in subject.draft.reading.blocks:
        missing = max(
            (_missing(text, message) for message in _showing(text, subject)), key=len, default=set()
        )
        if missing:
            yield Problem(
                f"the text part lacks words of {text.block.type!r}:"
                f" {shorten(', '.join(sorted(missing)), 60)}",
                text.block.line,
            )


def _showing(text: BlockText, subject: Compiled) -> Iterator[CompiledMessage]:
    """The variants in which a block is shown."""
    for name, message in subject.compiled.variants.items():
        if text.segments <= set(name.split(",")):
            yield message


def _missing(text: BlockText, message: CompiledMessage) -> set[str]:
    """Words of the block that the text part has nowhere, marks and footnotes left aside."""
    wanted = {
        word
        for passage in text.passages
        for piece in passage.text.casefold().split()
        if OWN_LINK not in piece and VALUE not in piece
        for word in _WORD.findall(piece)
    }
    if not wanted:
        return wanted
    squeezed = _NO_LETTER.sub("", _FOOTNOTE.sub("", whole(message.text, message)).casefold())
    return {word for word in wanted if word not in squeezed}


def _words(text: str, *, is_html: bool) -> set[str]:
    if is_html:
        text = html.unescape(_UNSEEN.sub(" ", text))
    return set(_WORD.findall(text.casefold()))


def _of(variant: str) -> str:
    return f" for {variant}" if variant else ""


def _sources(subject: Compiled) -> Iterator[Problem]:
    lines = source_lines(subject.draft.issue) if subject.draft else {}
    for source in subject.compiled.sources:
        line = lines.get(source)
        try:
            item = load_item(subject.workspace, source, where=None)
        except NotFound:
            yield Problem(
                f"{source} is no longer there, so nobody can tell whether it was recalled",
                line,
                severity="warn",
                hint="Put the file back, or schedule the issue without it.",
            )
        except NewsletterError as error:
            yield Problem(f"{source} cannot be read: {error}", line, severity="warn")
        else:
            if reason := is_blocked(item, subject.today):
                yield Problem(reason, line)


RULES: tuple[Rule[Compiled], ...] = (
    Rule(
        "size.html",
        "block",
        "Gmail clips a message at about 102 KB; the unsubscribe link is then out of sight",
        "Shorten the issue: link to long texts instead of showing them.",
        _size,
    ),
    Rule(
        "links.legal",
        "block",
        "CAN-SPAM Act 15 U.S.C. 7704(a)(3); Directive 2002/58/EC article 13(2)",
        "Restore the link.",
        _links,
    ),
    Rule(
        "links.one-click",
        "block",
        "RFC 8058; Google, Email sender guidelines",
        "Set site.base_url; the headers follow from it.",
        _headers,
    ),
    Rule(
        "postal-address.shown",
        "block",
        "CAN-SPAM Act 15 U.S.C. 7704(a)(5)(A)(iii)",
        "Show site.postal_address.",
        _postal_address,
    ),
    Rule(
        "text.complete",
        "block",
        "RFC 2046 section 5.1.4 (alternatives say the same)",
        "Report this: the text part is written from the same blocks.",
        _text,
    ),
    Rule(
        "sources.current",
        "block",
        "docs/writing.md",
        "Remove the block, or review the content and correct its front matter.",
        _sources,
    ),
)
