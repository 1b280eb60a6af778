"""When: durations, local times, business days. Pure: the calendar is an argument and so is the moment.

A duration is data (it stands in graphs and is hashed); `moment_after` says when it is over for a lead in a zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mebae.errors import BadInput, did_you_mean


class Duration(BaseModel):
    """A span of world time. Days are calendar days (the same wall-clock time, over DST edges too); hours elapse."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minutes: int = Field(default=0, ge=0)
    hours: int = Field(default=0, ge=0)
    days: int = Field(default=0, ge=0)
    business_days: int = Field(default=0, ge=0)


class Calendar(BaseModel):
    """Which days are business days: none of the country's weekends and holidays, the year's end, or the days named.

    >>> Calendar().is_business_day(date(2026, 5, 6))  # a substitute holiday
    False
    >>> Calendar().next_business_day(date(2026, 12, 29))  # 12/29–1/3 is custom, not law: `year_end=False` works through
    datetime.date(2027, 1, 4)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    country: str = "JP"
    """ISO code of a country that the `holidays` library knows."""
    year_end: bool = True
    """Close from December 29 to January 3."""
    extra_holidays: tuple[date, ...] = ()

    @field_validator("country")
    @classmethod
    def _known(cls, country: str) -> str:
        import holidays

        known = holidays.list_supported_countries(include_aliases=True)
        if country not in known:
            hint = _near(country, known) or ": write an ISO code such as 'JP'"
            raise ValueError(f"no holidays are known for the country '{country}'{hint}")
        return country

    def is_business_day(self, day: date) -> bool:
        if self.year_end and (day.month, day.day) in _YEAR_END:
            return False
        weekend, off = _days_off(self.country, day.year)
        return day.weekday() not in weekend and day not in off and day not in self.extra_holidays

    def next_business_day(self, day: date) -> date:
        """This day if it is a business day, else the first one after it."""
        while not self.is_business_day(day):
            day += _DAY
        return day

    def add_business_days(self, day: date, count: int) -> date:
        """The `count`-th business day after (or, for a negative count, before) this day, which itself does not count."""
        step = _DAY if count > 0 else -_DAY
        for _ in range(abs(count)):
            day += step
            while not self.is_business_day(day):
                day += step
        return day


_DAY = timedelta(days=1)
_YEAR_END = {(12, 29), (12, 30), (12, 31), (1, 1), (1, 2), (1, 3)}
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})")


@lru_cache(maxsize=512)
def _days_off(country: str, year: int) -> tuple[frozenset[int], frozenset[date]]:
    """The weekdays of the weekend (Monday is 0) and the holidays of a year."""
    import holidays  # here: it is large, and most who need a Duration need no calendar

    table = holidays.country_holidays(country, years=year, expand=False)
    return frozenset(table.weekend), frozenset(table)


def moment_after(
    span: Duration, since: datetime, zone: str, calendar: Calendar, *, at: str | None = None, business: bool = False
) -> datetime:
    """When the span that begins at `since` is over for a lead in this zone: aware UTC, never before `since`.

    Days and business days keep the local time of day (business days count after the local date of `since`); then hours and
    minutes pass as elapsed time; then `at` sets the local time on the local date reached. For a span without days that is
    the first such time after the moment reached. `business` moves to the next business day, at the same local time. A local time that
    does not exist (the clocks go forward) moves forward by the gap; of one that comes twice, the first is meant.

    Raises `BadInput` for an unknown zone, a time that is none, or a moment beyond the year 9999.

    >>> friday = datetime(2026, 5, 1, 6, 0, tzinfo=UTC)  # 15:00 in Tokyo, before the long holidays
    >>> moment_after(Duration(days=3), friday, "Asia/Tokyo", Calendar(), at="10:00", business=True).isoformat()
    '2026-05-07T01:00:00+00:00'
    """
    if since.tzinfo is None:
        raise ValueError("a moment without a zone")
    tz, clock = check_zone(zone), parse_time(at) if at is not None else None
    try:
        reached = _shifted(span, since.astimezone(tz), calendar, 1)
        if clock is not None:
            on = reached.date()
            moment = _local(on, clock, tz)
            whole_days = bool(span.days or span.business_days)
            if not whole_days and _utc(moment) <= _utc(reached):
                on += _DAY
                moment = _local(on, clock, tz)
        else:
            on, clock, moment = reached.date(), reached.time(), reached
        if business and not calendar.is_business_day(on):
            moment = _local(calendar.next_business_day(on), clock, tz)
        return max(_utc(moment), _utc(since))
    except OverflowError:
        raise BadInput(
            f"a wait of {span.model_dump(exclude_defaults=True)} ends after the year 9999: shorten it"
        ) from None


def date_moment(
    value: object,
    zone: str,
    *,
    plus: Duration | None = None,
    minus: Duration | None = None,
    at: str | None = None,
    calendar: Calendar | None = None,
) -> datetime | None:
    """The moment (UTC) that a date of a lead or an entry means, shifted; None if it is no date.

    A date alone is its midnight in the zone; a time without an offset is local. `minus` and `plus` shift as in `moment_after`
    (business days need the calendar; Japan's if none is given), then `at` sets the local time on the local date reached.

    >>> date_moment("2026-09-24", "Asia/Tokyo", minus=Duration(business_days=1), at="10:00").isoformat()
    '2026-09-18T01:00:00+00:00'
    """
    tz, clock = check_zone(zone), parse_time(at) if at is not None else None
    moment = _read_date(value, tz)
    if moment is None:
        return None
    calendar = calendar or Calendar()
    try:
        moment = moment.astimezone(tz)
        if plus is not None:
            moment = _shifted(plus, moment, calendar, 1)
        if minus is not None:
            moment = _shifted(minus, moment, calendar, -1)
        if clock is not None:
            moment = _local(moment.date(), clock, tz)
        return _utc(moment)
    except OverflowError:
        return None


def check_zone(name: str) -> ZoneInfo:
    """The zone of this name; `BadInput` with the nearest names if there is none.

    >>> check_zone("Asia/Tokyoo")
    Traceback (most recent call last):
    mebae.errors.BadInput: 'Asia/Tokyoo' is not a time zone, did you mean 'Asia/Tokyo' or 'Asia/Tomsk'?
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        hint = _near(name, available_timezones()) or ": write a name such as 'Asia/Tokyo'"
        raise BadInput(f"'{name}' is not a time zone{hint}") from None


def _near(name: str, known: Iterable[str]) -> str:
    """The nearest names, if any is near: hundreds are known, and the first of them would help nobody."""
    hint = did_you_mean(name, known)
    return hint if hint.startswith(",") else ""


def first_zone(*names: str | None) -> str:
    """The first of the names that is a zone, else UTC: the lead's, the workspace's. A lead's may be anything that a client sent."""
    for name in names:
        if name:
            try:
                return check_zone(name).key
            except BadInput:
                continue
    return "UTC"


def parse_time(text: str) -> time:
    """A time of day.

    >>> parse_time("10:00")
    datetime.time(10, 0)
    >>> parse_time("25:00")
    Traceback (most recent call last):
    mebae.errors.BadInput: '25:00' is not a time of day: write it like '10:00'
    """
    found = _TIME.fullmatch(text.strip())
    if found is None or int(found[1]) > 23 or int(found[2]) > 59:
        raise BadInput(f"'{text}' is not a time of day: write it like '10:00'")
    return time(int(found[1]), int(found[2]))


def window(span: Duration) -> timedelta:
    """A span as a window back from now, as conditions use it: a day is 24 hours, so that SQL can count it for all leads at once.

    Raises `BadInput` for business days, which differ by lead.
    """
    if span.business_days:
        raise BadInput("a condition cannot count business days: write days(…)")
    return timedelta(days=span.days, hours=span.hours, minutes=span.minutes)


def _shifted(span: Duration, local: datetime, calendar: Calendar, sign: int) -> datetime:
    """The span after (or before) a local moment."""
    tz = local.tzinfo
    assert isinstance(tz, ZoneInfo)
    if span.days or span.business_days:
        day = local.date() + sign * timedelta(days=span.days)
        if span.business_days:
            day = calendar.add_business_days(day, sign * span.business_days)
        local = _local(day, local.time(), tz)
    elapsed = timedelta(hours=span.hours, minutes=span.minutes)
    return (_utc(local) + sign * elapsed).astimezone(tz) if elapsed else local


def _local(day: date, clock: time, tz: ZoneInfo) -> datetime:
    """A wall-clock time as a real moment: forward out of a gap, the first of two."""
    moment = datetime.combine(day, clock.replace(fold=0), tzinfo=tz)
    # There and back: in a gap the wall shows another time, and another day perhaps.
    return moment.astimezone(UTC).astimezone(tz)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _read_date(value: object, tz: ZoneInfo) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        return None
    try:
        return _local(value.date(), value.time(), tz) if value.tzinfo is None else value.astimezone(tz)
    except OverflowError:
        return None
