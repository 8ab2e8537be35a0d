"""How single values of the settings are written: durations, rates, percentages, hours, domains.

Each is a type for pydantic; what cannot be read is a `ValueError` that says how it is written.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

from newsletter.hours import Hours, parse_hours

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = 100 * 365 * 86400  # seconds; a date so far off can still be reckoned with
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|m|h|d)")


def parse_duration(value: object) -> object:
    """`"90s"`, `"6h"`, `"2d"` as a timedelta; anything else is left to pydantic."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if not match:
            raise ValueError("write a duration such as 30s, 5m, 6h or 2d")
        seconds = float(match[1]) * _UNIT_SECONDS[match[2]]
        if seconds > _LONGEST:
            raise ValueError("a duration is at most 100 years")
        return timedelta(seconds=seconds)
    if isinstance(value, timedelta):
        return value
    raise ValueError('write a duration in quotes, such as "30s", "5m", "6h" or "2d"')


def _parse_rate(value: object) -> object:
    if isinstance(value, str):
        match = _RATE.fullmatch(value.strip())
        if match and float(match[1]) > 0:
            return float(match[1]) / _UNIT_SECONDS[match[2]]
    elif isinstance(value, float):
        return value
    raise ValueError('write a rate of recipients in quotes, such as "100/s" or "600/m"')


def _parse_percent(value: object) -> object:
    if isinstance(value, float) and 0 <= value <= 1:
        return value
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match and float(match[1]) <= 100:
        return float(match[1]) / 100
    raise ValueError('write a part of the whole in quotes, such as "5%" or "0.3%"')


def _parse_sample(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    if isinstance(value, str) and (not value or value.strip().isdecimal()):
        return value.strip()
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match and float(match[1]) <= 100:
        return match[0]
    raise ValueError('write a part of the recipients, such as "5%", or a number of them')


_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]*[a-z0-9]")


def _read_domains(value: object) -> object:
    """Keys such as `"outlook.com hotmail.com"` in lower case; a domain has one rate."""
    if not isinstance(value, dict):
        raise ValueError('write { "gmail.com" = "20/s", "outlook.com hotmail.com" = "5/s" }')
    rates: dict[str, object] = {}
    known: set[str] = set()
    for key, rate in value.items():
        domains = re.split(r"[\s,]+", str(key).strip().lower())
        for domain in domains:
            if not _DOMAIN.fullmatch(domain):
                raise ValueError(f"{domain!r} is no domain; write for example gmail.com")
            if domain in known:
                raise ValueError(f"the domain {domain} is given twice")
            known.add(domain)
        rates[" ".join(domains)] = rate
    return rates


def _read_hours(value: object) -> object:
    if isinstance(value, str):
        return parse_hours(value)
    if isinstance(value, Hours):
        return value
    raise ValueError('write hours in quotes, such as "mon-fri 08:00-20:00"')


def _read_date(value: object) -> object:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    elif isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError("write a date such as 2026-12-01")


def _one_line(value: str) -> str:
    if any(character in value for character in "\r\n\x00"):
        raise ValueError("must be one line")
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"no such time zone: {value!r}; write for example Europe/London"
        ) from error
    return value


def _web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        whole = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1)
    except ValueError:  # brackets that do not close, a port that is no number
        whole = False
    if value and not whole:
        raise ValueError("write a whole address such as https://news.example.com")
    return value.rstrip("/")


def _some_time(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("must be longer than nothing")
    return value


def _matching(pattern: str, words: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{value!r}: {words}")
        return value

    return AfterValidator(check)


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
SomeTime = Annotated[Duration, AfterValidator(_some_time)]
Rate = Annotated[float, BeforeValidator(_parse_rate)]
Percent = Annotated[float, BeforeValidator(_parse_percent)]  # 0.05 for "5%"
SAMPLE = BeforeValidator(_parse_sample)
Sample = Annotated[str, SAMPLE]
DomainRates = Annotated[dict[str, Rate], BeforeValidator(_read_domains)]
SendingHours = Annotated[Hours, BeforeValidator(_read_hours)]
Day = Annotated[date, BeforeValidator(_read_date)]
Recipients = Annotated[int, Field(ge=1)]
OneLine = Annotated[str, AfterValidator(_one_line)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
Zone = Annotated[str, AfterValidator(_zone)]
Name = Annotated[
    str,
    _matching(r"[A-Za-z0-9][A-Za-z0-9_-]*", "write letters, digits, - and _ only, such as main"),
]
Slug = Annotated[
    str, _matching(r"[a-z0-9][a-z0-9-]*", "write small letters, digits and - only, such as weekly")
]
Colour = Annotated[str, _matching(r"#[0-9a-fA-F]{6}", "write a colour such as #a8455f")]
