"""Which fixed words the public pages have; each language's module fills them in.

`{name}` in a text is the site's name within a sentence, `{title}` at its start; where the site has
none, the words for it stand in. `[brackets]` are around the words of a link.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class Notice:
    """A page that only says something; `links` are the words of its links."""

    title: str
    paragraphs: tuple[str, ...]
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """What is around every page, or on several of them."""

    wordmark: str  # where the site has no name, as are the next two
    our_newsletter: str
    this_newsletter: str
    skip: str
    site: str  # names the navigation above, `more` the one below
    more: str
    past_issues: str
    subscribe: str
    feed: str
    home: str


@dataclass(frozen=True, slots=True)
class Fields:
    """The labels of form fields."""

    email: str
    first_name: str
    topics: str
    optional: str
    trap: str  # for screen readers: the field that only robots fill in


@dataclass(frozen=True, slots=True)
class SignUp:
    """The first page and what it answers."""

    title: str
    faulty: str  # the title when fields need another look
    description: str
    eyebrow: str
    heading: str
    lead: str
    promises: tuple[str, ...]
    form: str
    one_fault: str
    faults: str  # {count}
    email_fault: str
    consent_fault: str
    consent: str  # kept as the wording of the consent
    button: str
    small: str
    lately: str
    all_past: str
    check_inbox: Notice
    wait: Notice


@dataclass(frozen=True, slots=True)
class Confirm:
    """The page that the link in the confirmation mail opens."""

    title: str
    eyebrow: str
    heading: str
    lead: str
    button: str
    not_you: str
    welcome: Notice
    used: Notice


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Leaving."""

    title: str
    heading: str
    stop: str  # {address}
    stop_you: str
    at_once: str
    button: str
    instead: str
    left: Notice
    gone: Notice


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a reader can change, copy and end."""

    title: str
    saved: str
    inactive: str
    how_often: str
    frequencies: Mapping[str, str]
    save: str
    copy: str
    copy_text: str
    download: str
    leave: str
    leave_text: str
    unsubscribe: str
    erase: str


@dataclass(frozen=True, slots=True)
class Erase:
    """The question before everything is deleted."""

    title: str
    heading: str
    lead: str
    stays: str
    yes: str
    no: str
    done: Notice


@dataclass(frozen=True, slots=True)
class Archive:
    """The list of past issues."""

    description: str
    feed: str
    empty: str
    pages: str
    newer: str
    older: str


@dataclass(frozen=True, slots=True)
class Dates:
    """How a day is written: `{day}`, `{month}` and `{year}` in their order."""

    pattern: str
    months: tuple[str, ...]
    first: str = "1"  # the first day of a month

    def write(self, day: date) -> str:
        number = self.first if day.day == 1 else str(day.day)
        return self.pattern.format(day=number, month=self.months[day.month - 1], year=day.year)


@dataclass(frozen=True, slots=True)
class PageWords:
    """All fixed words of the public pages in one language."""

    language: str
    frame: Frame
    fields: Fields
    signup: SignUp
    confirm: Confirm
    unsubscribe: Unsubscribe
    preferences: Preferences
    erase: Erase
    archive: Archive
    dates: Dates
    errors: Mapping[int, Notice]  # by HTTP status
    other_error: Notice
