"""Settings that a lawful newsletter cannot do without, and what its provider does to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from newsletter.audience.addresses import normalise_address
from newsletter.checks.finding import Problem, Rule
from newsletter.checks.subject import Compiled
from newsletter.errors import BadInput
from newsletter.providers import known_kinds, open_provider
from newsletter.providers.transport import NeverLeft, Result
from newsletter.settings import FILE_NAME, LOOPBACK_HOSTS, is_loopback

# Mail from these domains through somebody else's server fails their DMARC policy.
_FREE_MAIL = re.compile(
    r"(g|google|hot|proton)mail\.com|(yahoo|gmx|outlook|live|hotmail|orange|laposte|free|wanadoo)\.\w+"
    r"|yahoo\.co\.\w+|(aol|icloud|me|msn)\.com|web\.de|t-online\.de|mail\.ru|proton\.me"
)


class _NoTransport:
    """A provider is opened to be asked what it can do: no request leaves."""

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], **rest: object
    ) -> Result:
        return NeverLeft("a check makes no request")

    async def close(self) -> None:
        return None


def _complete(subject: Compiled) -> Iterator[Problem]:
    settings = subject.workspace.settings
    required = {
        "site.name": settings.site.name,
        "site.base_url": settings.site.base_url,
        "site.postal_address": settings.site.postal_address,
        "sender.name": settings.sender.name,
        "sender.email": settings.sender.email,
    }
    for key, value in required.items():
        if not value.strip():
            yield Problem(f"{key} is not set", file=FILE_NAME, hint=f"Set {key} in {FILE_NAME}.")
    if subject.provider is None:
        yield Problem(
            "no provider is configured",
            file=FILE_NAME,
            hint='Add [[providers]] with a name and a kind; kind = "mailbox" needs no account.',
        )


def _addresses(subject: Compiled) -> Iterator[Problem]:
    sender = subject.workspace.settings.sender
    for key in ("email", "reply_to", "unsubscribe_mailbox"):
        value = getattr(sender, key)
        if not value.strip():
            continue
        try:
            normalise_address(value)
        except BadInput as error:
            yield Problem(f"sender.{key}: {error.message}", file=FILE_NAME)


def _sender_domain(subject: Compiled) -> Iterator[Problem]:
    domain = subject.workspace.settings.sender.email.rpartition("@")[2].lower()
    if _FREE_MAIL.fullmatch(domain):
        yield Problem(f"sender.email is an address at {domain}", file=FILE_NAME)


def _base_url(subject: Compiled) -> Iterator[Problem]:
    base = subject.workspace.settings.site.base_url
    parts = urlsplit(base)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        yield Problem(
            "site.base_url begins with http://, so one-click unsubscribe does not work",
            file=FILE_NAME,
            hint="Serve the site over https and write its address so.",
        )
    provider = subject.provider
    elsewhere = provider and provider.kind != "mailbox" and not is_loopback(provider.base_url)
    if base and is_loopback(base) and elsewhere:
        yield Problem(
            "site.base_url is an address of this machine: nobody else could unsubscribe",
            file=FILE_NAME,
            hint="Write the address under which the web app is reached from outside.",
        )


def _provider(subject: Compiled) -> Iterator[Problem]:
    provider = subject.provider
    if provider is None:
        return
    if provider.kind not in known_kinds():
        yield Problem(
            f"providers.{provider.name}.kind: no provider of the kind {provider.kind!r}",
            file=FILE_NAME,
            hint=f"Kinds: {', '.join(known_kinds())}.",
        )
        return
    try:
        open_provider(subject.workspace, provider, subject.clock, _NoTransport())
    except BadInput as error:
        # Only the process that sends needs the secrets: an editor's machine may lack them.
        yield Problem(error.message, file=FILE_NAME, hint=error.hint, severity="warn")


def _headers(subject: Compiled) -> Iterator[Problem]:
    provider = subject.provider
    if provider is None or provider.kind not in known_kinds():
        return
    try:
        opened = open_provider(subject.workspace, provider, subject.clock, _NoTransport())
    except BadInput:
        return  # told by the rule before
    ours = {name for m in subject.compiled.variants.values() for name, _ in m.headers}
    ours |= {"Date", "Message-ID"}
    for name in sorted(ours):
        if name.lower() in opened.capabilities.restricted_headers:
            yield Problem(f"{provider.name} ({provider.kind}) replaces or leaves out {name}")


_RFC_8058 = "RFC 8058 section 3.1"

RULES: tuple[Rule[Compiled], ...] = (
    Rule(
        "settings.complete",
        "block",
        "CAN-SPAM Act 15 U.S.C. 7704(a)(5); GDPR article 13(1)(a)",
        "Fill in the settings.",
        _complete,
    ),
    Rule("settings.address", "block", "RFC 5322 section 3.4.1", "Correct the address.", _addresses),
    Rule(
        "settings.sender-domain",
        "warn",
        "Google, Email sender guidelines (support.google.com/mail/answer/81126)",
        "Send from a domain of your own, with SPF, DKIM and DMARC.",
        _sender_domain,
    ),
    Rule("settings.base-url", "block", _RFC_8058, "Correct site.base_url.", _base_url),
    Rule("settings.provider", "block", "docs/settings.md", "Correct the entry.", _provider),
    Rule(
        "provider.headers",
        "warn",
        "docs/providers-matrix.md",
        "The issue goes out without it; another provider may keep it.",
        _headers,
    ),
)
