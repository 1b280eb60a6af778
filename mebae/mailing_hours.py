"""When a mail may go out: sending hours and business days in a lead's zone, right over both edges of daylight saving time.

A moment is within the hours if the clock on the lead's wall says so. Where the clocks go forward, the part of the hours that
the wall never shows is no time to send; where they go back, hours that come twice are hours twice.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from mebae.errors import BadInput
from mebae.mailing import SendingHours
from mebae.timing import Calendar, check_zone, parse_time

SPREAD = timedelta(minutes=10)
"""Over how long mails that waited for the hours are spread, so that not all of them leave at 08:00:00."""
_DAY = timedelta(days=1)
_FURTHEST = 400
"""Days that are looked at: a calendar without a business day in a year is a slip."""


@lru_cache(maxsize=64)
def minutes_of(hours: SendingHours) -> tuple[int, int]:
    """Start and end as minutes of the day. `BadInput` if they are no times, or the end is not after the start."""
    start = _minutes(parse_time(hours.start))
    end = 1440 if hours.end.strip() == "24:00" else _minutes(parse_time(hours.end))
    if start >= end:
        raise BadInput(
            f"sending hours from {hours.start} to {hours.end}: the end comes after the start, on the same day"
        )
    return start, end


def within(hours: SendingHours, moment: datetime, zone: str, calendar: Calendar) -> bool:
    """Whether a mail may go out at this moment to a lead in this zone.

    >>> office = SendingHours("09:00", "18:00", business_days=True)
    >>> within(office, datetime(2026, 5, 6, 3, 0, tzinfo=UTC), "Asia/Tokyo", Calendar())  # noon, on a substitute holiday
    False
    """
    start, end = minutes_of(hours)
    local = moment.astimezone(check_zone(zone))
    if not start <= local.hour * 60 + local.minute < end:
        return False
    return not hours.business_days or calendar.is_business_day(local.date())


def next_moment(hours: SendingHours, now: datetime, zone: str, calendar: Calendar) -> datetime:
    """The first moment from now on at which a mail may go out (UTC): now itself, or when the hours begin next.

    >>> office = SendingHours("09:00", "18:00", business_days=True)
    >>> friday_evening = datetime(2026, 9, 18, 10, 0, tzinfo=UTC)  # before three holidays
    >>> next_moment(office, friday_evening, "Asia/Tokyo", Calendar()).isoformat()
    '2026-09-24T00:00:00+00:00'
    """
    now = now.astimezone(UTC)
    if within(hours, now, zone, calendar):
        return now
    tz, (start, _) = check_zone(zone), minutes_of(hours)
    # From the day before: where the clocks go back over midnight, yesterday comes again.
    day = now.astimezone(tz).date() - _DAY
    for _ in range(_FURTHEST):
        for moment in _beginnings(day, start, tz):
            if moment >= now and within(hours, moment, zone, calendar):
                return moment
        day += _DAY
    raise BadInput("the calendar has no business day within a year")


def spread(hours: SendingHours, moment: datetime, zone: str, calendar: Calendar, key: str) -> datetime:
    """A moment a little later within the same hours, always the same one for a key."""
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32
    for span in (SPREAD, SPREAD / 10):  # hours of a few minutes have less room
        later = moment + timedelta(seconds=int(span.total_seconds() * share))
        if within(hours, later, zone, calendar):
            return later
    return moment


def _beginnings(day: date, start: int, tz: ZoneInfo) -> list[datetime]:
    """When the hours of a day can begin, in order: when the wall shows their start (perhaps twice), and where the clocks
    are changed. What is none of it after all, `within` tells."""
    wall = datetime.combine(day, time(start // 60, start % 60), tzinfo=tz)
    found = {wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1)}
    midnight, next_one = (datetime.combine(at, time(), tzinfo=tz).astimezone(UTC) for at in (day, day + _DAY))
    changed = _change(midnight, next_one, tz)
    return sorted(found if changed is None else found | {changed})


def _change(after: datetime, until: datetime, tz: ZoneInfo) -> datetime | None:
    """When the clocks are changed between two moments, to the second; None if they are not."""
    before = after.astimezone(tz).utcoffset()
    if until.astimezone(tz).utcoffset() == before:
        return None
    low, high = 0, int((until - after).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if (after + timedelta(seconds=middle)).astimezone(tz).utcoffset() == before:
            low = middle
        else:
            high = middle
    return after + timedelta(seconds=high)


def _minutes(clock: time) -> int:
    return clock.hour * 60 + clock.minute
