"""Links: whole addresses of an allowed kind, and, when asked, whether they answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from newsletter.checks.finding import Problem, Rule, Severity
from newsletter.checks.reading import OWN_LINK, VALUE, Link
from newsletter.checks.subject import Draft, Prober
from newsletter.errors import BadInput, NewsletterError
from newsletter.suggest import shorten

_AT_ONCE = 16
_MOST = 100  # links tried: an issue has a few dozen
_HOST = re.compile(r"(?!-)[\w-]+(?:\.[\w-]+)*\.?", re.ASCII)
_SENDS_ROBOTS_AWAY = frozenset({401, 403, 405, 406, 429, 451, 999})


def _well_formed(draft: Draft) -> Iterator[Problem]:
    for link in draft.reading.links:
        if problem := what_is_wrong(link.url):
            yield Problem(f"{problem}: {_shown(link.url)}", link.line)


def what_is_wrong(url: str) -> str:
    """Why nobody could follow the address; "" if it is well-formed."""
    if url.startswith(OWN_LINK):
        return "" if url == OWN_LINK else "text after a link of ours"
    bare = url.replace(VALUE, "x").replace(OWN_LINK, "x")
    try:
        parts = urlsplit(bare)
        port = parts.port
    except ValueError:
        return "an address that cannot be read"
    if parts.scheme == "mailto":
        return "" if "@" in parts.path.strip("@") else "mailto: without an address"
    if parts.scheme == "tel":
        return "" if re.fullmatch(r"[+\d().\-]{3,}", parts.path) else "tel: without a number"
    if not parts.scheme or not url.split(":", 1)[0].isascii():
        return "not a whole address"
    if parts.scheme not in ("http", "https"):
        return f"mail must not link to {parts.scheme}:"
    return _what_is_wrong_with_web(bare, parts.hostname, port)


def _what_is_wrong_with_web(url: str, host: str | None, port: int | None) -> str:
    if not host:
        return "an address without a host"
    if any(character.isspace() or character in '<>"\\^`{|}' for character in url):
        return "a space or a sign that no address may have"
    if port == 0:
        return "no port has the number 0"
    if ":" in host or host == "localhost":
        return ""
    try:
        ascii_host = host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        return "a host that cannot exist"
    if len(ascii_host) > 253 or not _HOST.fullmatch(ascii_host) or "." not in ascii_host.strip("."):
        return "a host that cannot exist"
    return ""


def _alive(draft: Draft) -> Iterator[Problem]:
    prober = draft.prober
    if prober is None:
        return
    settings = draft.workspace.settings
    severity: Severity = "block" if settings.checks.network_blocks else "warn"
    base = settings.site.base_url
    lines = _to_try(draft.reading.links, base)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(lambda url: _try(prober, url), lines)
        for (url, line), (problem, dead) in zip(lines.items(), answers, strict=True):
            if problem:
                yield Problem(
                    f"{problem}: {_shown(url)}", line, severity=severity if dead else "info"
                )


def _to_try(links: tuple[Link, ...], base: str) -> dict[str, int]:
    """Each address once with its first line; our own site need not be up yet."""
    lines: dict[str, int] = {}
    for link in links:
        personal = OWN_LINK in link.url or VALUE in link.url
        web = link.url.lower().startswith(("http://", "https://"))
        own = base and (link.url == base or link.url.startswith(f"{base}/"))
        if web and not personal and not own and not what_is_wrong(link.url):
            lines.setdefault(link.url.partition("#")[0], link.line)
    return dict(list(lines.items())[:_MOST])


def _try(prober: Prober, url: str) -> tuple[str, bool]:
    """What is wrong with the answer, and whether that means that the link is dead."""
    try:
        status = prober.probe(url)
    except BadInput as error:
        return f"not tried ({error.message.removeprefix(url).strip(': ')})", False
    except NewsletterError as error:
        return f"does not answer ({shorten(error.message.removeprefix(url).strip(': '), 80)})", True
    if status in _SENDS_ROBOTS_AWAY:
        return f"answers {status} to a program; look yourself", False
    return (f"answers {status}", True) if status >= 400 else ("", False)


def _shown(url: str) -> str:
    return shorten(url.replace(OWN_LINK, "{{ links }}").replace(VALUE, "{{ … }}"), 80)


RULES: tuple[Rule[Draft], ...] = (
    Rule(
        "links.well-formed",
        "block",
        "RFC 3986 section 3",
        "Write the whole address, beginning with https://, mailto: or tel:.",
        _well_formed,
    ),
    Rule(
        "links.alive",
        "warn",
        "RFC 9110 section 15.5",
        "Open it in a browser, and correct or remove it.",
        _alive,
    ),
)
