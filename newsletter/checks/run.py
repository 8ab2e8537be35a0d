"""Runs the rules: on a draft and what it compiles to, and again on frozen bytes at the start.

It must not know who asks: `check`, `schedule`, an edition's clock or the start of a send.
"""

from __future__ import annotations

from collections.abc import Iterator

from newsletter.checks import (
    audience_rules,
    claims_rules,
    copy_rules,
    image_rules,
    link_rules,
    message_rules,
    settings_rules,
)
from newsletter.checks.audience_rules import ask_audience, fields_of_compiled, fields_of_draft
from newsletter.checks.finding import Finding, Rule, blocks, in_order
from newsletter.checks.subject import Audience, Compiled, Draft, Prober
from newsletter.clock import Clock
from newsletter.compiled import CompiledIssue
from newsletter.drafting import Issue, load_issue
from newsletter.errors import NewsletterError
from newsletter.fetching import Fetcher
from newsletter.rendering import compile_issue
from newsletter.settings import ProviderSettings
from newsletter.store import Store
from newsletter.workspace import Workspace

#: Rules on the file, and rules on what it compiles to; the second run again on frozen bytes.
DRAFT_RULES: tuple[Rule[Draft], ...] = (
    *audience_rules.DRAFT,
    *copy_rules.DRAFT,
    *link_rules.RULES,
    *image_rules.RULES,
    *claims_rules.RULES,
)
COMPILED_RULES: tuple[Rule[Compiled], ...] = (
    *settings_rules.RULES,
    *copy_rules.COMPILED,
    *audience_rules.COMPILED,
    *message_rules.RULES,
)


def check_issue(
    workspace: Workspace,
    store: Store,
    clock: Clock,
    slug: str,
    *,
    offline: bool = False,
    fetcher: Prober | None = None,
    segment: str | None = None,
    provider: str | None = None,
) -> list[Finding]:
    """All findings on an issue's file, blocking ones first.

    `segment` and `provider` stand in for the issue's audience and the first provider. Unless
    `offline`, links are tried by `fetcher`, or by one made from the settings. Raises `NotFound`
    and `BadInput` as `load_issue` does, and what rendering raises where no finding explains it.
    """
    issue = load_issue(workspace, slug)
    prober = None if offline else (fetcher or Fetcher(workspace.settings.fetch))
    empty = Audience(segment or issue.audience, frozenset(), {}, {})
    fields = fields_of_draft(Draft(workspace, issue, empty, None))
    audience = ask_audience(store, segment or issue.audience, fields)
    draft = Draft(workspace, issue, audience, prober)
    findings = [finding for rule in DRAFT_RULES for finding in rule.findings(draft, issue.file)]
    try:
        compiled = compile_issue(workspace, issue, segments=audience.known).compiled
    except NewsletterError:
        if not blocks(findings):
            raise
        return in_order(findings)
    subject = Compiled(workspace, clock, compiled, audience, _provider(workspace, provider), draft)
    findings += _compiled_findings(subject, issue)
    return in_order(findings)


def check_compiled(
    workspace: Workspace,
    store: Store,
    clock: Clock,
    compiled: CompiledIssue,
    segment: str,
    *,
    provider: str | None = None,
) -> list[Finding]:
    """The findings that hold for frozen bytes now: no file of the issue and no network is asked."""
    audience = ask_audience(store, segment, fields_of_compiled(compiled))
    subject = Compiled(workspace, clock, compiled, audience, _provider(workspace, provider), None)
    return in_order(_compiled_findings(subject, None))


def _compiled_findings(subject: Compiled, issue: Issue | None) -> Iterator[Finding]:
    file = issue.file if issue else f"issues/{subject.compiled.issue}/issue.md"
    for rule in COMPILED_RULES:
        yield from rule.findings(subject, file)


def _provider(workspace: Workspace, name: str | None) -> ProviderSettings | None:
    """The provider that would send it; a missing one is a finding of the rules'."""
    entries = workspace.settings.providers
    named = [entry for entry in entries if name is None or entry.name == name]
    return named[0] if named else None
