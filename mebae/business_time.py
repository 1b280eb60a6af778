"""When sales is at work: deadlines that count business days and business hours. Pure, like `mebae.timing`.

A deadline that begins when nobody works begins when the next day opens; one of "4 hours" counts only hours in which somebody
works, and one of "1 business day" ends at the same time of the next business day.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from mebae.errors import BadInput
from mebae.timing import Calendar, Duration, check_zone, parse_time

_DAY = timedelta(days=1)


class Hours(BaseModel):
    """The hours of a business day, in the workspace's zone.

    >>> Hours(opens="9:00").opens
    '09:00'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    opens: str = "09:00"
    closes: str = "18:00"

    @field_validator("opens", "closes")
    @classmethod
    def _time(cls, written: str) -> str:
        try:
            return f"{parse_time(written):%H:%M}"
        except BadInput as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _in_order(self) -> Hours:
        if self.opens >= self.closes:
            raise ValueError(f"business hours close after they open, not {self.opens} to {self.closes}")
        return self


def business_moment(span: Duration, since: datetime, zone: str, calendar: Calendar, hours: Hours) -> datetime:
    """When a span of business time that begins at `since` is over: aware UTC, within business hours (the closing included).

    Business days count first, then calendar days, then hours and minutes, which pass only while it is open. Raises `BadInput`
    for an unknown zone, or a moment beyond the year 9999.

    >>> friday = datetime(2026, 5, 1, 8, 0, tzinfo=UTC)  # 17:00 in Tokyo, before the long holidays
    >>> business_moment(Duration(hours=2), friday, "Asia/Tokyo", Calendar(), Hours()).isoformat()
    '2026-05-07T01:00:00+00:00'
    """
    if since.tzinfo is None:
        raise ValueError("a moment without a zone")
    tz = check_zone(zone)
    opens, closes = parse_time(hours.opens), parse_time(hours.closes)
    try:
        at = _open(since.astimezone(tz), calendar, opens, closes)
        if span.business_days:
            at = _on(calendar.add_business_days(at.date(), span.business_days), at.time(), tz)
        if span.days:
            at = _open(_on(at.date() + span.days * _DAY, at.time(), tz), calendar, opens, closes)
        left = timedelta(hours=span.hours, minutes=span.minutes)
        while left:
            until = _on(at.date(), closes, tz)
            open_for = max(until.astimezone(UTC) - at.astimezone(UTC), timedelta(0))
            if left <= open_for:
                at, left = (at.astimezone(UTC) + left).astimezone(tz), timedelta(0)
            else:
                left -= open_for
                at = _on(calendar.next_business_day(at.date() + _DAY), opens, tz)
        return at.astimezone(UTC)
    except OverflowError:
        raise BadInput("a deadline after the year 9999: shorten it") from None


def _open(at: datetime, calendar: Calendar, opens: time, closes: time) -> datetime:
    """This moment if it is open then, else the next opening."""
    tz = at.tzinfo
    assert isinstance(tz, ZoneInfo)
    day, clock = at.date(), at.time()
    if not calendar.is_business_day(day) or clock >= closes:
        return _on(calendar.next_business_day(day if clock < closes else day + _DAY), opens, tz)
    return _on(day, opens, tz) if clock < opens else at


def _on(day: date, clock: time, tz: ZoneInfo) -> datetime:
    """A wall-clock time as a real moment: forward out of a gap, the first of two."""
    return datetime.combine(day, clock.replace(fold=0), tzinfo=tz).astimezone(UTC).astimezone(tz)
