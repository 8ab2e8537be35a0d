"""Local times as people write them, as moments in UTC; and the rhythm of an edition.

The rule for editions on the two days when clocks change: an hour that does not exist becomes the
first moment after the gap; one that comes twice means the first time. For a single send such a time
is refused, as a person can say which is meant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from newsletter.errors import BadInput, Where
from newsletter.settings import FILE_NAME, Settings
from newsletter.suggest import shorten

_EXAMPLE = 'Write for example "2026-11-26 09:00" or 2026-11-26T09:00:00+00:00.'
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEKDAYS = {name: number for number, name in enumerate(_DAYS)}
_FURTHEST_AHEAD = timedelta(hours=14)  # of UTC: Pacific/Kiritimati
# A start so far back that no change of clocks lies between it and the moment asked about.
_MARGIN = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One date of an edition: its local time as the cron expression has it, and the moment."""

    local: datetime  # naive
    at: datetime  # UTC

    @property
    def date(self) -> str:
        """The local date and time, which names the edition of that date."""
        return self.local.isoformat(timespec="minutes")


def find_zone(name: str) -> ZoneInfo:
    """The zone of that name. Raises `BadInput` where there is none."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise BadInput(
            f"no such time zone: {shorten(name)!r}", hint="Write for example Europe/London or UTC."
        ) from error


def parse_local_time(text: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The same as `parse_time`, of a time that is meant in each recipient's own zone.

    Raises `BadInput` also for one with an offset, which says another zone. One that comes twice in
    `zone` is the same hour for everybody and means the first time, as it does in other zones.
    """
    with contextlib.suppress(ValueError):
        if datetime.fromisoformat(text.strip()).tzinfo is not None:
            raise BadInput(
                f"a local time has no offset: {shorten(text)!r}",
                hint='Write for example "2026-11-26 09:00".',
            )
    return _parse(text, zone, now, _of_everybody)


def parse_time(text: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The moment in UTC that `text` means, in `zone` where it has no offset.

    Raises `BadInput` for what is no time, is over already, or does not exist or exists twice there;
    then the message has the times that could be meant.
    """
    return _parse(text, zone, now, _only)


def _parse(
    text: str, zone: ZoneInfo, now: datetime, read: Callable[[datetime, ZoneInfo], datetime]
) -> datetime:
    """The moment in UTC; `read` is for a time without offset."""
    try:
        given = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise BadInput(f"not a time: {shorten(text)!r}", hint=_EXAMPLE) from error
    if len(text.strip()) < len("2026-11-26T09") and given.tzinfo is None:
        raise BadInput(f"a time of day is missing: {text!r}", hint=_EXAMPLE)
    try:
        moment = (given if given.tzinfo else read(given, zone)).astimezone(UTC)
    except OverflowError as error:
        raise BadInput(f"not a time that can be reckoned with: {text!r}", hint=_EXAMPLE) from error
    if moment < now:
        raise BadInput(
            f"{text} is in the past: it is {now.astimezone(zone):%Y-%m-%d %H:%M:%S} in {zone.key}",
            hint="Give a later time; `newsletter send` is for now.",
        )
    return moment


def _only(local: datetime, zone: ZoneInfo) -> datetime:
    """`local` in its zone. Raises `BadInput` unless that is exactly one moment."""
    moments = local_moments(local, zone)
    if len(moments) == 1:
        return moments[0]
    if moments:
        first, second = (moment.isoformat(timespec="minutes") for moment in moments)
        raise BadInput(
            f"{local:%Y-%m-%d %H:%M} comes twice in {zone.key}: the clocks are put back",
            hint=f"Say which is meant: {first} or {second}.",
        )
    before, after = (local.replace(tzinfo=zone, fold=fold) for fold in (1, 0))
    first, second = (
        moment.astimezone(UTC).astimezone(zone).isoformat(timespec="minutes")
        for moment in (before, after)
    )
    raise BadInput(
        f"{local:%Y-%m-%d %H:%M} does not exist in {zone.key}: the clocks are put forward",
        hint=f"Say which is meant: {first} or {second}.",
    )


def _of_everybody(local: datetime, zone: ZoneInfo) -> datetime:
    """`local` in its zone, for what goes out at that hour in every zone. Raises `BadInput` where
    there is none."""
    moment = resolve(local, zone)
    if local_moments(local, zone):
        return moment
    raise BadInput(
        f"{local:%Y-%m-%d %H:%M} does not exist in {zone.key}: the clocks are put forward",
        hint=f'Write for example "{local_time(moment, zone):%Y-%m-%d %H:%M}".',
    )


def local_moments(local: datetime, zone: ZoneInfo) -> list[datetime]:
    """The moments at which clocks in `zone` show `local` (naive): none, one or two, in order."""
    found = []
    for fold in (0, 1):
        moment = local.replace(tzinfo=zone, fold=fold)
        back = moment.astimezone(UTC).astimezone(zone)
        if back.replace(tzinfo=None) == local:
            found.append(moment)
    if len(found) == 2 and found[0].utcoffset() == found[1].utcoffset():
        found.pop()
    return found


def resolve(local: datetime, zone: ZoneInfo) -> datetime:
    """The moment in UTC of an edition's local time, by the rule above."""
    moments = local_moments(local, zone)
    if moments:
        return moments[0].astimezone(UTC)
    before = local.replace(tzinfo=zone, fold=1).astimezone(UTC)  # by the offset after the gap
    low, high = before - timedelta(days=1), local.replace(tzinfo=zone).astimezone(UTC)
    offset = low.astimezone(zone).utcoffset()
    while high - low > timedelta(microseconds=1):  # where the offset changes
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return high


def local_time(at: datetime, zone: ZoneInfo) -> datetime:
    """What clocks in `zone` show at a moment (naive)."""
    return at.astimezone(zone).replace(tzinfo=None)


def earliest(local: datetime) -> datetime:
    """When clocks show `local` (naive) for the first time anywhere on Earth, in UTC."""
    return local.replace(tzinfo=UTC) - _FURTHEST_AHEAD


def check_editions(settings: Settings) -> None:
    """Raises `BadInput` naming the edition whose `cron` cannot be read or never comes."""
    for edition in settings.editions:
        try:
            next(_simulate(edition.cron, datetime(2026, 1, 1), reverse=False))  # noqa: DTZ001
        except (CronSimError, StopIteration, ValueError) as error:
            reason = str(error) or "there is no such date"
            raise BadInput(
                f"editions.{edition.name}.cron: {edition.cron!r}: {reason}",
                where=Where(FILE_NAME),
                hint='Write minute, hour, day, month and weekday, such as "0 9 * * thu".',
            ) from error


def next_occurrences(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[Occurrence]:
    """The edition's dates after a moment, in order; each moment once."""
    last = after
    for local in _simulate(cron, local_time(after - _MARGIN, zone), reverse=False):
        at = resolve(local, zone)
        if at > last:
            last = at
            yield Occurrence(local, at)


def last_occurrence(cron: str, zone: ZoneInfo, until: datetime) -> Occurrence | None:
    """The edition's last date at or before a moment; None if there was none in fifty years."""
    found = None
    for local in _simulate(cron, local_time(until + _MARGIN, zone), reverse=True):
        at = resolve(local, zone)
        if found is not None and at < found.at:
            break
        if at <= until:
            found = Occurrence(local, at)  # of two for one moment the earlier local time
    return found


def _simulate(cron: str, start: datetime, *, reverse: bool) -> Iterator[datetime]:
    return iter(CronSim(_normalised(cron), start, reverse=reverse))


@lru_cache(maxsize=256)
def _normalised(cron: str) -> str:
    """The expression with its weekdays as numbers, and ranges over the week's end written out."""
    fields = cron.split()
    if len(fields) != 5:
        raise ValueError(f"it has {len(fields)} fields, not 5")
    fields[4] = ",".join(_weekdays(item) for item in fields[4].lower().split(","))
    return " ".join(fields)


def _weekdays(item: str) -> str:
    """One item of the weekday field."""
    span, slash, step = item.partition("/")
    start, dash, end = span.partition("-")
    if not dash:
        return str(_WEEKDAYS.get(span, span)) + slash + step
    low, high = _WEEKDAYS.get(start, start), _WEEKDAYS.get(end, end)
    if not (str(low).isdigit() and str(high).isdigit() and 0 <= int(low) <= 7 >= int(high)):
        return item
    first, last = int(low), int(high)
    if last < first:
        last += 7
    by = int(step) if step.isdigit() and int(step) else 1
    if slash and not step.isdigit():
        return item
    return ",".join(str(day % 7) for day in range(first, last + 1, by))
