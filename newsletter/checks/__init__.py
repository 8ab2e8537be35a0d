"""Checks: small rules on an issue, run by `check`, by `schedule`, and again when a send starts."""

from newsletter.checks.finding import Finding, Problem, Rule, blocks
from newsletter.checks.run import COMPILED_RULES, DRAFT_RULES, check_compiled, check_issue

__all__ = [
    "COMPILED_RULES",
    "DRAFT_RULES",
    "Finding",
    "Problem",
    "Rule",
    "blocks",
    "check_compiled",
    "check_issue",
]
