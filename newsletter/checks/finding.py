"""What a check finds, and the rule that finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

Severity = Literal["block", "warn", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `line` is from 1, or None for a whole file; `source` says who demands it."""

    rule: str
    severity: Severity
    message: str
    file: str
    line: int | None = None
    hint: str = ""
    source: str = ""

    def as_json(self) -> dict[str, Any]:
        """The contract's shape."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "message": self.message,
            "where": {"file": self.file, "line": self.line},
            "hint": self.hint,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class Problem:
    """What a rule yields: a message and its place; the rest comes from the rule.

    Without `file` it lies in the issue; `severity` differs from the rule's where that is milder.
    """

    message: str
    line: int | None = None
    file: str = ""
    hint: str = ""
    severity: Severity | None = None


Subject = TypeVar("Subject", contravariant=True)


@dataclass(frozen=True)
class Rule(Generic[Subject]):
    """A small rule. `check` yields a problem for each place where the rule does not hold."""

    name: str
    severity: Severity
    source: str
    hint: str
    check: Callable[[Subject], Iterable[Problem]]

    def findings(self, subject: Subject, file: str) -> Iterator[Finding]:
        """What the rule finds; `file` is the issue's, for problems without one of their own."""
        for problem in self.check(subject):
            yield Finding(
                rule=self.name,
                severity=problem.severity or self.severity,
                message=problem.message,
                file=problem.file or file,
                line=problem.line,
                hint=problem.hint or self.hint,
                source=self.source,
            )


_ORDER: dict[Severity, int] = {"block": 0, "warn": 1, "info": 2}


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once, blocking ones first, then by file and line."""
    once = dict.fromkeys(findings)
    return sorted(once, key=lambda found: (_ORDER[found.severity], found.file, found.line or 0))


def blocks(findings: Iterable[Finding]) -> list[Finding]:
    """Those that stop a send."""
    return [finding for finding in findings if finding.severity == "block"]
