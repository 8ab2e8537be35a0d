"""Local times on the days when clocks change, and the rhythm of editions over them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newsletter.errors import BadInput
from newsletter.scheduling.localtime import (
    check_editions,
    find_zone,
    last_occurrence,
    local_moments,
    next_occurrences,
    parse_local_time,
    parse_time,
    resolve,
)
from newsletter.settings import Settings

LONDON = ZoneInfo("Europe/London")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> Any:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def local(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-26 09:00", utc(2026, 11, 26, 9)),
        ("2026-06-26 09:00", utc(2026, 6, 26, 8)),
        ("2026-06-26T09:00:30", utc(2026, 6, 26, 8, 0, 30)),
        ("2026-06-26T09:00Z", utc(2026, 6, 26, 9)),
        ("2026-06-26T09:00-05:00", utc(2026, 6, 26, 14)),
        # an offset says which is meant, also in the gap and in the repeated hour
        ("2026-03-29T01:30+00:00", utc(2026, 3, 29, 1, 30)),
        ("2026-10-25T01:30+01:00", utc(2026, 10, 25, 0, 30)),
        ("2026-10-25T01:30+00:00", utc(2026, 10, 25, 1, 30)),
    ],
)
def test_a_time_is_read_in_the_zone_unless_it_has_an_offset(text: str, moment: datetime) -> None:
    assert parse_time(text, LONDON, NOW) == moment


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2026-03-29 01:30", ["2026-03-29T00:30+00:00", "2026-03-29T02:30+01:00", "not exist"]),
        ("2026-10-25 01:30", ["2026-10-25T01:30+01:00", "2026-10-25T01:30+00:00", "twice"]),
        ("2025-12-31 23:59", ["past"]),
        ("2026-11-26", ["time of day"]),
        ("tomorrow", ["2026-11-26 09:00"]),
        ("2026-02-30 09:00", ["not a time"]),
        ("", ["not a time"]),
        ("9999-12-31T23:59-12:00", ["reckoned"]),
    ],
)
def test_a_time_that_means_nothing_or_two_things_is_refused_with_what_could_be_meant(
    text: str, told: list[str]
) -> None:
    with pytest.raises(BadInput) as refused:
        parse_time(text, LONDON, NOW)
    assert all(part in str(refused.value) for part in told), str(refused.value)


def test_the_times_offered_for_a_gap_are_accepted_themselves() -> None:
    with pytest.raises(BadInput) as refused:
        parse_time("2026-03-29 01:30", LONDON, NOW)
    offered = [word.rstrip(".") for word in refused.value.hint.split() if word.startswith("2026")]
    assert [parse_time(text, LONDON, NOW) for text in offered] == [
        utc(2026, 3, 29, 0, 30),
        utc(2026, 3, 29, 1, 30),
    ]


def test_a_local_time_in_a_gap_is_told_with_one_that_is_accepted() -> None:
    with pytest.raises(BadInput, match="does not exist") as refused:
        parse_local_time("2026-03-29 01:30", LONDON, NOW)
    offered = refused.value.hint.split('"')[1]
    assert parse_local_time(offered, LONDON, NOW) == utc(2026, 3, 29, 1)
    # In everybody's own zone an hour that comes twice is the first of the two.
    assert parse_local_time("2026-10-25 01:30", LONDON, NOW) == utc(2026, 10, 25, 0, 30)


def test_an_unknown_zone_is_refused() -> None:
    for name in ("Europe/Londinium", "../etc/passwd", ""):
        with pytest.raises(BadInput):
            find_zone(name)


def test_an_edition_in_the_gap_comes_at_the_first_moment_after_it() -> None:
    assert resolve(local("2026-03-29 01:30"), LONDON) == utc(2026, 3, 29, 1, 0)
    # Lord Howe moves its clocks by half an hour
    howe = ZoneInfo("Australia/Lord_Howe")
    assert resolve(local("2026-10-04 02:15"), howe) == utc(2026, 10, 3, 15, 30)
    # Samoa left a whole day out
    apia = ZoneInfo("Pacific/Apia")
    assert resolve(local("2011-12-30 09:00"), apia) == utc(2011, 12, 30, 10, 0)


def test_an_edition_in_the_repeated_hour_comes_the_first_time_only() -> None:
    found = list(islice(next_occurrences("30 1 * * *", LONDON, utc(2026, 10, 24, 12)), 3))
    assert [occurrence.at for occurrence in found] == [
        utc(2026, 10, 25, 0, 30),
        utc(2026, 10, 26, 1, 30),
        utc(2026, 10, 27, 1, 30),
    ]
    # also for a clock that starts between the two
    between = next(next_occurrences("30 1 * * *", LONDON, utc(2026, 10, 25, 1, 0)))
    assert between.at == utc(2026, 10, 26, 1, 30)


@pytest.mark.parametrize(
    ("cron", "dates"),
    [
        ("0 9 * * thu", ["2026-01-01T09:00", "2026-01-08T09:00"]),
        ("0 9 * * THU", ["2026-01-01T09:00", "2026-01-08T09:00"]),
        ("0 9 * jan 0", ["2026-01-04T09:00", "2026-01-11T09:00"]),
        ("0 9 * * 7", ["2026-01-04T09:00", "2026-01-11T09:00"]),
        ("0 9 * * sat-sun", ["2026-01-03T09:00", "2026-01-04T09:00"]),
        ("0 9 * * fri-mon", ["2026-01-02T09:00", "2026-01-03T09:00"]),
        ("0 9 1,15 * *", ["2026-01-01T09:00", "2026-01-15T09:00"]),
        ("*/30 9 2 1 *", ["2026-01-02T09:00", "2026-01-02T09:30"]),
    ],
)
def test_a_rhythm_has_names_and_both_sundays(cron: str, dates: list[str]) -> None:
    check_editions(Settings(editions=[{"name": "weekly", "cron": cron}]))
    found = islice(next_occurrences(cron, LONDON, NOW), 2)
    assert [occurrence.date for occurrence in found] == dates


@pytest.mark.parametrize(
    "cron", ["", "nonsense", "0 9 * *", "0 9 * * * *", "0 25 * * thu", "0 9 30 2 *", "0 9 * * x-y"]
)
def test_a_rhythm_that_cannot_be_read_names_the_setting(cron: str) -> None:
    with pytest.raises(BadInput, match=r"editions\.weekly\.cron"):
        check_editions(Settings(editions=[{"name": "weekly", "cron": cron}]))


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    zone=st.sampled_from(sorted(name for name in available_timezones() if "/" in name)),
    start=st.datetimes(local("2015-01-01 00:00"), local("2036-01-01 00:00")),
    cron=st.sampled_from(["30 1 * * *", "15 2 * * sun", "0 * * * *", "0 9 * * thu", "59 23 * * *"]),
)
def test_dates_grow_and_show_their_hour_whatever_the_zone(
    zone: str, start: datetime, cron: str
) -> None:
    where, after = ZoneInfo(zone), start.replace(tzinfo=UTC)
    found = list(islice(next_occurrences(cron, where, after), 30))
    moments = [after, *(occurrence.at for occurrence in found)]
    assert moments == sorted(set(moments))
    for occurrence in found:
        if local_moments(occurrence.local, where):
            assert occurrence.at.astimezone(where).replace(tzinfo=None) == occurrence.local
        else:
            assert occurrence.at.astimezone(where).replace(tzinfo=None) >= occurrence.local
        # whatever moment a clock starts at, it sees the same dates
        assert last_occurrence(cron, where, occurrence.at) == occurrence
        assert next(next_occurrences(cron, where, occurrence.at - timedelta(seconds=1))) == (
            occurrence
        )
