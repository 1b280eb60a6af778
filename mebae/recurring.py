"""When a broadcast goes out: once, every so many weeks, or every so many months, at a local time. Pure.

The days are counted on the wall calendar and only then become moments, so that no change of the clocks shifts the hour:
every second Tuesday at 10:00 is 10:00 in summer and in winter. A local time that does not exist (the clocks go forward)
moves forward by the gap; of one that comes twice, the first is meant.

Temporal's Schedules know calendars, but no second week, no last day of a month and no business day, and they leave out a
time in a gap and fire twice for one that comes twice. So a Schedule fires wherever an occurrence may be (`fires`), and
`occurrence` says, in an activity, whether it is one.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from mebae.conditions import Data
from mebae.timing import Calendar, check_zone, date_moment, parse_time

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""As `date.weekday()` counts them."""
EARLIEST = "Pacific/Kiritimati"
"""Where a day begins first: a broadcast by local time has to be ready there."""
CLOSED_AT_MOST = 14
"""Days in a row without a business day, at most, that a Schedule foresees. Japan's longest, in 2019, were ten."""

_DAY = timedelta(days=1)


class EveryMonth(Data):
    """On a day of every `every`-th month; the 29th to 31st mean the last day of a month that has none."""

    kind: Literal["month"] = "month"
    day: int
    at: str
    every: int = 1
    starting: date | None = None
    """A day of the first month; none goes out before it."""
    business: bool = False
    """Moved to the next business day."""


class EveryWeek(Data):
    """On days of every `every`-th week. Weeks begin on Monday and are counted from that of `starting`."""

    kind: Literal["week"] = "week"
    days: tuple[str, ...]
    at: str
    every: int = 1
    starting: date | None = None
    business: bool = False


class Once(Data):
    """On one day."""

    kind: Literal["once"] = "once"
    day: date
    at: str


Recurrence = Annotated[EveryMonth | EveryWeek | Once, Field(discriminator="kind")]


class Fire(NamedTuple):
    """Days and times of a zone's wall calendar on which a Schedule fires. An empty tuple stands for all."""

    hour: int
    minute: int
    days: tuple[int, ...] = ()
    """Of the month."""
    weekdays: tuple[str, ...] = ()
    on: date | None = None
    """This day alone."""


def days_of(when: Recurrence, since: date, calendar: Calendar) -> Iterator[date]:
    """The local dates on which it goes out, this day or later, in order, each once. Without an end, but for `Once`."""
    told = None
    for day in _planned(when, since - CLOSED_AT_MOST * _DAY):
        if not isinstance(when, Once) and when.business:
            day = calendar.next_business_day(day)
        if day >= since and day != told:
            yield day
            told = day


def moment(day: date, at: str, zone: str) -> datetime:
    """A wall-clock time of a date as a real moment (UTC).

    >>> moment(date(2027, 3, 14), "02:30", "America/New_York").isoformat()  # the clocks go from 2:00 to 3:00
    '2027-03-14T07:30:00+00:00'
    """
    found = date_moment(day.isoformat(), zone, at=at)
    assert found is not None
    return found


def next_moment(when: Recurrence, zone: str, now: datetime, calendar: Calendar) -> datetime | None:
    """The first moment (UTC) after `now` at which it goes out; None when there is none any more."""
    for day in days_of(when, now.astimezone(UTC).date() - _DAY, calendar):
        if (due := moment(day, when.at, zone)) > now:
            return due
        if isinstance(when, Once):
            break
    return None


def occurrence(when: Recurrence, zone: str, fired: datetime, calendar: Calendar) -> date | None:
    """The local date whose occurrence this very moment is; None if it is none."""
    for day in days_of(when, fired.astimezone(UTC).date() - _DAY, calendar):
        due = moment(day, when.at, zone)
        if due >= fired:
            return day if due == fired else None
    return None


def fires(when: Recurrence, zone: str) -> tuple[Fire, ...]:
    """When a Schedule in this zone has to fire, so that no occurrence is missed. It may fire at other times too."""
    at = parse_time(when.at)
    times = ((at.hour, at.minute), *_beyond_gaps(when.at, zone))
    match when:
        case Once():
            return tuple(Fire(*time, on=when.day) for time in times)
        case EveryWeek():
            weekdays = () if when.business else when.days
            return tuple(Fire(*time, weekdays=weekdays) for time in times)
        case EveryMonth():
            return tuple(Fire(*time, days=_days_of_month(when)) for time in times)


def words(when: Recurrence) -> str:
    """For people.

    >>> words(EveryWeek(days=("tue",), at="10:00", every=2, starting=date(2026, 4, 7)))
    'every 2nd week on Tue at 10:00'
    """
    match when:
        case Once():
            return f"on {when.day} at {when.at}"
        case EveryWeek():
            days = ", ".join(day.title() for day in when.days)
            said = f"every {_th(when.every)}week on {days}"
        case EveryMonth():
            said = f"every {_th(when.every)}month on day {when.day}"
    return f"{said}{', or the next business day,' if when.business else ''} at {when.at}"


def _planned(when: Recurrence, since: date) -> Iterator[date]:
    """The days by the wall calendar alone, from this one on."""
    match when:
        case Once():
            if when.day >= since:
                yield when.day
        case EveryWeek():
            start = when.starting or since
            since = max(since, start)
            monday = since - since.weekday() * _DAY
            monday += (-(monday - (start - start.weekday() * _DAY)).days // 7 % when.every) * 7 * _DAY
            numbers = sorted(WEEKDAYS.index(day) for day in when.days)
            while True:
                yield from (day for n in numbers if (day := monday + n * _DAY) >= since)
                monday += when.every * 7 * _DAY
        case EveryMonth():
            start = when.starting or since
            since = max(since, start)
            month = since.year * 12 + since.month - 1
            month += -(month - (start.year * 12 + start.month - 1)) % when.every
            while True:
                year, number = month // 12, month % 12 + 1
                day = date(year, number, min(when.day, monthrange(year, number)[1]))
                if day >= since:
                    yield day
                month += when.every


def _days_of_month(when: EveryMonth) -> tuple[int, ...]:
    days = set(range(min(when.day, 28), when.day + 1))
    if when.business:
        days |= {
            (day + on - 1) % length + 1
            for day in days
            for on in range(CLOSED_AT_MOST + 1)
            for length in (28, 29, 30, 31)
        }
    return tuple(sorted(days))


@lru_cache(maxsize=256)
def _beyond_gaps(at: str, zone: str) -> tuple[tuple[int, int], ...]:
    """The wall-clock times to which this one moves where the clocks go forward over it (hour, minute), by the rules of these years."""
    tz, clock = check_zone(zone), parse_time(at)
    found: dict[tuple[int, int], None] = {}
    before = None
    for number in range(date(2024, 1, 1).toordinal(), date(2038, 1, 1).toordinal()):
        day = date.fromordinal(number)
        offset = datetime.combine(day, time(23, 59), tzinfo=tz).utcoffset()
        if before is not None and offset != before:
            local = moment(day, at, zone).astimezone(tz)
            if (local.hour, local.minute) != (clock.hour, clock.minute):
                found[local.hour, local.minute] = None
        before = offset
    return tuple(found)


def _th(number: int) -> str:
    """`every week`, `every 2nd week`."""
    if number == 1:
        return ""
    end = {2: "nd", 3: "rd"}.get(number, "th")
    return f"{number}{end} "
