"""Sending hours: the clock on the lead's wall, business days, and both edges of daylight saving."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mebae.errors import BadInput
from mebae.mailing import SendingHours
from mebae.mailing_hours import SPREAD, minutes_of, next_moment, spread, within
from mebae.timing import Calendar

TOKYO, NEW_YORK, LONDON, LORD_HOWE = "Asia/Tokyo", "America/New_York", "Europe/London", "Australia/Lord_Howe"
JAPAN = Calendar()
OFFICE = SendingHours("09:00", "18:00", business_days=True)
DAYTIME = SendingHours("08:00", "20:00")


def local(text: str, zone: str = TOKYO, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


def opens(hours: SendingHours, since: str, zone: str = TOKYO, fold: int = 0, calendar: Calendar = JAPAN) -> str:
    moment = next_moment(hours, local(since, zone, fold), zone, calendar)
    assert moment.tzinfo is UTC
    return moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M %Z")


@pytest.mark.parametrize(
    ("since", "then"),
    [
        ("2026-04-01 12:34", "2026-04-01 12:34 JST"),
        ("2026-04-01 07:59", "2026-04-01 09:00 JST"),
        ("2026-04-01 18:00", "2026-04-02 09:00 JST"),  # the end is no part of it
        ("2026-04-03 18:30", "2026-04-06 09:00 JST"),  # a Friday evening
        ("2026-05-02 10:00", "2026-05-07 09:00 JST"),  # the long holidays, with the substitute one of May 6
        ("2026-05-06 10:00", "2026-05-07 09:00 JST"),
        ("2026-09-18 19:00", "2026-09-24 09:00 JST"),  # the silver week: Respect-for-the-Aged Day, the day between, the equinox
        ("2026-12-28 18:00", "2027-01-04 09:00 JST"),  # the year's end
        ("2026-01-30 18:00", "2026-02-02 09:00 JST"),  # a month's end on a Friday
        ("2028-02-29 18:00", "2028-03-01 09:00 JST"),
        ("2026-07-31 23:59", "2026-08-03 09:00 JST"),
    ],
)
def test_a_mail_that_meets_a_closed_office_waits_for_its_next_morning(since: str, then: str) -> None:
    assert opens(OFFICE, since) == then


def test_the_calendar_is_the_workspaces_and_the_clock_the_leads() -> None:
    """A lead in New York whose Japanese sender has a holiday gets no mail on it, by its own date."""
    assert opens(OFFICE, "2026-05-05 22:00", NEW_YORK) == "2026-05-07 09:00 EDT"
    assert not within(OFFICE, local("2026-05-06 10:00", NEW_YORK), NEW_YORK, JAPAN)


@pytest.mark.parametrize(
    ("hours", "since", "fold", "zone", "then"),
    [
        # The clocks go forward: 02:00–03:00 is on no wall.
        (SendingHours("02:30", "06:00"), "2026-03-08 01:10", 0, NEW_YORK, "2026-03-08 03:00 EDT"),
        (SendingHours("02:10", "02:50"), "2026-03-08 01:10", 0, NEW_YORK, "2026-03-09 02:10 EDT"),
        (DAYTIME, "2026-03-07 21:00", 0, NEW_YORK, "2026-03-08 08:00 EDT"),
        (SendingHours("01:30", "06:00"), "2026-03-29 00:40", 0, LONDON, "2026-03-29 02:00 BST"),
        # They go back: 01:00–02:00 is there twice.
        (DAYTIME, "2026-10-31 21:00", 0, NEW_YORK, "2026-11-01 08:00 EST"),
        (SendingHours("01:00", "01:30"), "2026-11-01 01:45", 0, NEW_YORK, "2026-11-01 01:00 EST"),
        (SendingHours("01:30", "05:00"), "2026-11-01 01:10", 1, NEW_YORK, "2026-11-01 01:30 EST"),
        (SendingHours("01:30", "05:00"), "2026-11-01 01:10", 0, NEW_YORK, "2026-11-01 01:30 EDT"),
        (SendingHours("01:00", "01:30"), "2026-11-01 01:45", 1, NEW_YORK, "2026-11-02 01:00 EST"),
    ],
)
def test_both_edges_of_daylight_saving(hours: SendingHours, since: str, fold: int, zone: str, then: str) -> None:
    assert opens(hours, since, zone, fold) == then


EDGES = {
    NEW_YORK: ("2026-03-08T07:00", "2026-11-01T06:00"), LONDON: ("2026-03-29T01:00", "2026-10-25T01:00"),
    LORD_HOWE: ("2026-04-04T15:00", "2026-10-03T15:30"),  # half an hour
    "America/Asuncion": ("2024-10-06T04:00", "2024-03-24T03:00"),  # over midnight: a day that begins at 1:00, and one that ends twice
    "Pacific/Apia": ("2011-12-30T10:00",),  # a day that never was
}  # fmt: skip


@given(
    st.sampled_from([(zone, edge) for zone, edges in EDGES.items() for edge in edges]),
    st.integers(-2000, 2000), st.integers(0, 1439), st.integers(1, 1440), st.booleans(),
)  # fmt: skip
@settings(max_examples=300)
def test_near_an_edge_the_next_moment_is_the_first_minute_that_the_wall_allows(
    edge: tuple[str, str], off: int, start: int, length: int, business: bool
) -> None:
    zone, at = edge
    end = min(start + length, 1440)
    hours = SendingHours(_clock(start), _clock(end), business)
    now = datetime.fromisoformat(at).replace(tzinfo=UTC) + timedelta(minutes=off)
    found = next_moment(hours, now, zone, JAPAN)
    minute = now
    while not within(hours, minute, zone, JAPAN):
        minute += timedelta(minutes=1)
        assert minute <= found, "there was an earlier one"
    assert found == minute


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def test_mails_that_waited_for_the_morning_do_not_all_leave_at_eight_sharp() -> None:
    eight = local("2026-04-01 08:00").astimezone(UTC)
    moments = [spread(DAYTIME, eight, TOKYO, JAPAN, f"<{n}@mebae.example>") for n in range(200)]
    assert moments == [spread(DAYTIME, eight, TOKYO, JAPAN, f"<{n}@mebae.example>") for n in range(200)], "always the same"
    assert min(moments) >= eight
    assert max(moments) < eight + SPREAD
    assert len(set(moments)) > 150
    assert all(within(DAYTIME, moment, TOKYO, JAPAN) for moment in moments)
    short = SendingHours("08:00", "08:02")
    assert all(within(short, spread(short, eight, TOKYO, JAPAN, str(n)), TOKYO, JAPAN) for n in range(200))


@pytest.mark.parametrize(("start", "end"), [("20:00", "08:00"), ("09:00", "09:00"), ("25:00", "26:00"), ("9", "18:00")])
def test_hours_that_mean_nothing_are_told(start: str, end: str) -> None:
    with pytest.raises(BadInput):
        minutes_of(SendingHours(start, end))


def test_a_calendar_without_business_days_is_told() -> None:
    never = Calendar(extra_holidays=tuple(datetime(2026, 1, 1, tzinfo=UTC).date() + timedelta(days=n) for n in range(900)))
    with pytest.raises(BadInput, match="no business day"):
        next_moment(OFFICE, local("2026-04-01 10:00"), TOKYO, never)
