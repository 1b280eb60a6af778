"""Waiting: local times, business days and both edges of daylight saving."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mebae.errors import BadInput
from mebae.timing import Calendar, Duration, check_zone, date_moment, first_zone, moment_after, parse_time, window

TOKYO, NEW_YORK, LONDON = "Asia/Tokyo", "America/New_York", "Europe/London"
JAPAN = Calendar()
OPEN = Calendar(country="GB", year_end=False)


def local(text: str, zone: str = TOKYO) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def after(span: Duration, since: str, zone: str = TOKYO, *, at: str | None = None, business: bool = False) -> str:
    moment = moment_after(span, local(since, zone), zone, JAPAN, at=at, business=business)
    assert moment.tzinfo is UTC
    return moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


# The calendar


@pytest.mark.parametrize(
    "day",
    [
        "2026-05-06",
        "2026-09-21",
        "2026-09-22",
        "2026-09-23",
        "2026-12-29",
        "2026-12-31",
        "2027-01-01",
        "2027-01-03",
        "2026-04-04",
    ],
)
def test_days_on_which_japan_does_not_work(day: str) -> None:
    assert not JAPAN.is_business_day(date.fromisoformat(day))


@pytest.mark.parametrize("day", ["2026-05-07", "2026-09-24", "2026-12-28", "2027-01-04", "2026-04-01"])
def test_days_on_which_japan_works(day: str) -> None:
    assert JAPAN.is_business_day(date.fromisoformat(day))


def test_the_years_end_is_custom_and_can_be_worked_through() -> None:
    works = Calendar(year_end=False)
    assert works.is_business_day(date(2026, 12, 29))
    assert not works.is_business_day(date(2027, 1, 1))  # law


def test_a_company_closes_when_it_likes() -> None:
    summer = Calendar(extra_holidays=(date(2026, 8, 13), date(2026, 8, 14)))
    assert summer.next_business_day(date(2026, 8, 13)) == date(2026, 8, 17)
    assert JAPAN.next_business_day(date(2026, 8, 13)) == date(2026, 8, 13)


def test_countries_have_their_own_holidays_and_weekends() -> None:
    assert not Calendar(country="US").is_business_day(date(2026, 7, 3))  # Independence Day, observed
    assert Calendar(country="JP").is_business_day(date(2026, 7, 3))
    assert not Calendar(country="SA").is_business_day(date(2026, 4, 3))  # a Friday
    assert Calendar(country="SA").is_business_day(date(2026, 4, 5))  # a Sunday


def test_an_unknown_country_is_refused_with_the_cure() -> None:
    with pytest.raises(ValidationError, match="no holidays are known for the country 'Atlantis': write an ISO code"):
        Calendar(country="Atlantis")


@given(day=st.dates(date(2020, 1, 1), date(2030, 12, 31)), count=st.integers(1, 30))
def test_counting_business_days_forth_and_back(day: date, count: int) -> None:
    there = JAPAN.add_business_days(day, count)
    passed = [day + timedelta(days=number) for number in range(1, (there - day).days + 1)]
    assert sum(map(JAPAN.is_business_day, passed)) == count
    assert JAPAN.is_business_day(there)
    if JAPAN.is_business_day(day):
        assert JAPAN.add_business_days(there, -count) == day
    assert JAPAN.add_business_days(day, 0) == day


# A wait


@pytest.mark.parametrize(
    ("since", "reached"),
    [
        ("2026-04-06 15:30", "2026-04-09 10:00"),
        ("2026-04-01 23:59", "2026-04-06 10:00"),  # Saturday: Monday
        ("2026-05-03 09:00", "2026-05-07 10:00"),  # 2026-05-06 is a substitute holiday
        ("2026-09-18 12:00", "2026-09-24 10:00"),  # three holidays in a row
        ("2026-12-28 12:00", "2027-01-04 10:00"),
        ("2026-04-27 12:00", "2026-04-30 10:00"),
        ("2026-01-29 08:00", "2026-02-02 10:00"),  # over the end of the month to a Sunday
    ],
)
def test_three_days_at_ten_on_business_days(since: str, reached: str) -> None:
    assert after(Duration(days=3), since, at="10:00", business=True) == reached


@pytest.mark.parametrize(
    ("since", "reached"),
    [
        ("2026-04-06 15:30", "2026-04-09 10:00"),
        ("2026-04-04 15:30", "2026-04-08 10:00"),  # from a Saturday: Monday is the first
        ("2026-05-01 15:30", "2026-05-11 10:00"),
        ("2026-12-25 15:30", "2027-01-05 10:00"),
    ],
)
def test_three_business_days_at_ten(since: str, reached: str) -> None:
    assert after(Duration(business_days=3), since, at="10:00") == reached


def test_a_span_without_days_goes_to_the_next_such_time() -> None:
    assert after(Duration(hours=2), "2026-04-06 07:00", at="10:00") == "2026-04-06 10:00"
    assert after(Duration(hours=3), "2026-04-06 07:00", at="10:00") == "2026-04-07 10:00"  # not after ten: tomorrow
    assert after(Duration(hours=2), "2026-04-06 23:00", at="10:00") == "2026-04-07 10:00"
    assert after(Duration(), "2026-04-06 07:00", at="10:00") == "2026-04-06 10:00"
    assert after(Duration(hours=2), "2026-04-03 09:00", at="10:00", business=True) == "2026-04-06 10:00"


def test_days_may_be_shorter_than_their_hours_when_a_time_is_named() -> None:
    assert after(Duration(days=1), "2026-04-06 23:50", at="00:10") == "2026-04-07 00:10"


def test_without_a_named_time_a_wait_keeps_its_own() -> None:
    assert after(Duration(days=5), "2026-04-06 15:30", business=True) == "2026-04-13 15:30"
    assert after(Duration(hours=4), "2026-04-10 21:30", business=True) == "2026-04-13 01:30"
    assert after(Duration(days=1, hours=2, minutes=5), "2026-04-06 15:30") == "2026-04-07 17:35"
    assert after(Duration(days=30), "2026-01-31 12:00") == "2026-03-02 12:00"
    assert after(Duration(days=1), "2028-02-28 12:00") == "2028-02-29 12:00"


@pytest.mark.parametrize(
    ("zone", "spring", "autumn"), [(NEW_YORK, "2026-03-08", "2026-11-01"), (LONDON, "2026-03-29", "2026-10-25")]
)
def test_both_edges_of_daylight_saving(zone: str, spring: str, autumn: str) -> None:
    """A day keeps the time on the clock, whether it has 23 hours or 25; an hour is an hour."""
    for edge, real in ((spring, 23), (autumn, 25)):
        day = date.fromisoformat(edge)
        noon = local(f"{day - timedelta(days=1)} 12:00", zone)
        assert after(Duration(days=1), f"{day - timedelta(days=1)} 12:00", zone) == f"{edge} 12:00"
        reached = moment_after(Duration(days=1), noon, zone, OPEN)
        assert reached - noon.astimezone(UTC) == timedelta(hours=real)
        assert moment_after(Duration(hours=24), noon, zone, OPEN) - noon.astimezone(UTC) == timedelta(hours=24)


def test_a_time_that_does_not_exist_moves_forward_and_of_two_the_first_is_meant() -> None:
    assert after(Duration(days=1), "2026-03-07 02:30", NEW_YORK) == "2026-03-08 03:30"
    assert after(Duration(days=1), "2026-03-07 12:00", NEW_YORK, at="02:30") == "2026-03-08 03:30"
    assert after(Duration(days=1), "2026-03-28 01:30", LONDON) == "2026-03-29 02:30"
    first = moment_after(Duration(days=1), local("2026-10-31 01:30", NEW_YORK), NEW_YORK, OPEN)
    assert first == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)  # still daylight saving
    first = moment_after(Duration(days=1), local("2026-10-24 12:00", LONDON), LONDON, OPEN, at="01:30")
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_in_the_second_of_two_hours_the_named_time_is_over() -> None:
    second = datetime(2026, 11, 1, 6, 10, tzinfo=UTC)  # 01:10 for the second time
    reached = moment_after(Duration(), second, NEW_YORK, OPEN, at="01:30")
    assert reached == datetime(2026, 11, 2, 6, 30, tzinfo=UTC)


def test_a_day_that_a_zone_skipped_moves_forward() -> None:
    """Samoa had no 30 December 2011."""
    assert after(Duration(days=1), "2011-12-29 12:00", "Pacific/Apia") == "2011-12-31 12:00"


SPANS = st.builds(
    Duration,
    minutes=st.integers(0, 90),
    hours=st.integers(0, 60),
    days=st.integers(0, 40),
    business_days=st.integers(0, 10),
)
NEAR_EDGES = st.one_of(
    st.builds(lambda minutes: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes), st.integers(0, 5_000_000)),
    st.builds(
        lambda edge, minutes: edge + timedelta(minutes=minutes),
        st.sampled_from(
            [
                datetime(2026, month, day, 6, tzinfo=UTC)
                for month, day in ((3, 8), (11, 1), (3, 29), (10, 25), (12, 28), (5, 2), (9, 18))
            ]
        ),
        st.integers(-3000, 600),
    ),
)
ZONES = st.sampled_from([TOKYO, NEW_YORK, LONDON, "Australia/Lord_Howe", "America/St_Johns", "Asia/Kolkata", "UTC"])
CLOCKS = st.none() | st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 30]))


@given(span=SPANS, since=NEAR_EDGES, zone=ZONES, at=CLOCKS, business=st.booleans())
def test_a_wait_keeps_its_word(span: Duration, since: datetime, zone: str, at: str | None, business: bool) -> None:
    tz = ZoneInfo(zone)
    reached = moment_after(span, since, zone, JAPAN, at=at, business=business)
    here, there = since.astimezone(tz), reached.astimezone(tz)
    assert reached.tzinfo is UTC
    assert reached >= since
    if business:
        assert JAPAN.is_business_day(there.date())
    if at is not None:
        named = datetime.combine(there.date(), parse_time(at), tz)
        assert reached == named.astimezone(
            UTC
        )  # also where `at` falls into a gap: zoneinfo reads it with the older offset
    if not (business or at or span.days or span.business_days):
        assert reached - since == timedelta(hours=span.hours, minutes=span.minutes)
    if span.days and not (business or span.business_days or span.hours or span.minutes):
        assert there.date() == here.date() + timedelta(days=span.days)
    if at and not (business or span.days or span.business_days):
        least = since + timedelta(hours=span.hours, minutes=span.minutes)
        assert least < reached <= least + timedelta(hours=25, minutes=30)


def test_a_wait_beyond_all_time_is_refused_with_the_cure() -> None:
    for span in (Duration(days=10**7), Duration(days=10**12), Duration(hours=10**10)):
        with pytest.raises(BadInput, match="ends after the year 9999: shorten it"):
            moment_after(span, datetime(2026, 4, 1, tzinfo=UTC), TOKYO, JAPAN)


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        moment_after(Duration(days=1), datetime.fromisoformat("2026-04-01"), TOKYO, JAPAN)


# A date of the lead or the entry


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-04-15", "2026-04-15 00:00"),
        ("2026-04-15T13:30", "2026-04-15 13:30"),
        (" 2026-04-15 13:30:00 ", "2026-04-15 13:30"),
        ("2026-04-15T13:30:00Z", "2026-04-15 22:30"),
        ("2026-04-15T13:30:00.5-04:00", "2026-04-16 02:30"),
        (date(2026, 4, 15), "2026-04-15 00:00"),
        (datetime(2026, 4, 15, 1, tzinfo=UTC), "2026-04-15 10:00"),
    ],
)
def test_dates_as_leads_have_them(value: object, moment: str) -> None:
    found = date_moment(value, TOKYO)
    assert found is not None
    assert found.tzinfo is UTC
    assert found.astimezone(ZoneInfo(TOKYO)).strftime("%Y-%m-%d %H:%M") == moment


@pytest.mark.parametrize("value", [None, "", "soon", "2026-02-30", 20260415, 1.5, True, [], {}, "0001-01-01"])
def test_what_is_no_date_is_none(value: object) -> None:
    assert date_moment(value, TOKYO) is None


def test_dates_shift_by_days_and_business_days() -> None:
    def shifted(**how: object) -> str:
        found = date_moment("2026-09-24T14:00", TOKYO, **how)  # type: ignore[arg-type]
        assert found is not None
        return found.astimezone(ZoneInfo(TOKYO)).strftime("%Y-%m-%d %H:%M")

    assert shifted(minus=Duration(days=1)) == "2026-09-23 14:00"
    assert shifted(minus=Duration(business_days=1)) == "2026-09-18 14:00"
    assert shifted(minus=Duration(business_days=1), calendar=Calendar(country="US")) == "2026-09-23 14:00"
    assert shifted(plus=Duration(hours=2)) == "2026-09-24 16:00"
    assert shifted(plus=Duration(days=1), at="09:00") == "2026-09-25 09:00"
    assert date_moment("9999-12-31", TOKYO, plus=Duration(days=2)) is None


# Names and times of day


def test_zones_are_checked_and_the_nearest_is_shown() -> None:
    assert check_zone(TOKYO).key == TOKYO
    for wrong in ("asia/tokyo", "Asia/Tokio"):
        with pytest.raises(BadInput, match="did you mean 'Asia/Tokyo'"):
            check_zone(wrong)
    for wrong in ("", "/etc/passwd", "../etc", "日本", "a\0b", "\ud800"):
        with pytest.raises(BadInput, match="is not a time zone: write a name such as 'Asia/Tokyo'"):
            check_zone(wrong)


def test_the_leads_zone_is_used_only_if_it_is_one() -> None:
    assert first_zone(LONDON, TOKYO) == LONDON
    assert first_zone("JST-9", TOKYO) == TOKYO
    assert first_zone(None, "") == "UTC"


def test_times_of_day() -> None:
    assert parse_time("9:05") == time(9, 5)
    assert parse_time("23:59") == time(23, 59)
    for wrong in ("24:00", "10", "10:60", "10:00:00", "", "ten", "-1:00", "１０:００"):
        with pytest.raises(BadInput, match="is not a time of day: write it like '10:00'"):
            parse_time(wrong)


def test_a_window_counts_days_as_24_hours() -> None:
    assert window(Duration(days=1, hours=2, minutes=3)) == timedelta(hours=26, minutes=3)
