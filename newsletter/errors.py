"""The errors a user can meet, each with its exit code and the place that caused it.

Every message says what is wrong and what to do about it; a module raises one of these for anything
that a person or an outside system can cause, and never lets a traceback of a library through.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file, or a field of the settings: `file` is relative to the workspace."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class NewsletterError(Exception):
    """The base of all; `exit_code` is the contract's."""

    exit_code = 1

    def __init__(self, message: str, *, where: Where | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f"\n  {self.hint}" if self.hint else ""
        return f"{place}{self.message}{hint}"


class DoesNotHold(NewsletterError):
    """What was asked does not hold: checks failed, a send was held, verification failed."""

    exit_code = 1


class BadInput(NewsletterError):
    """Usage, or input that cannot be read; names file, line or field."""

    exit_code = 2


class NotFound(NewsletterError):
    """No such issue, send, subscriber, provider, segment or edition."""

    exit_code = 3


class Conflict(NewsletterError):
    """It exists already, is over already, or somebody changed it meanwhile."""

    exit_code = 4


class Unreachable(NewsletterError):
    """A database, provider, port or network is out of reach."""

    exit_code = 5
