"""When broadcasts go out: the wall calendar decides, over changes of the clocks, short months and year ends."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mebae.recurring import (
    WEEKDAYS,
    EveryMonth,
    EveryWeek,
    Fire,
    Once,
    Recurrence,
    days_of,
    fires,
    moment,
    next_moment,
    occurrence,
    words,
)
from mebae.timing import Calendar

JAPAN = Calendar()
DAY = timedelta(days=1)
ZONES = (
    "Asia/Tokyo",
    "America/New_York",
    "Europe/Berlin",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Pacific/Kiritimati",
)
FORTNIGHT = EveryWeek(days=("tue",), at="10:00", every=2, starting=date(2026, 4, 7))

dates = st.dates(date(2025, 1, 1), date(2032, 12, 31))
clocks = st.times().map("{:%H:%M}".format) | st.sampled_from(["00:00", "01:30", "02:30", "10:00"])
weekly = st.builds(
    EveryWeek,
    days=st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=3, unique=True).map(tuple),
    at=clocks, every=st.integers(1, 5), starting=dates, business=st.booleans(),
)  # fmt: skip
monthly = st.builds(
    EveryMonth, day=st.integers(1, 31), at=clocks, every=st.integers(1, 12), starting=dates, business=st.booleans()
)
recurring = weekly | monthly


def first(when: Recurrence, since: date, count: int) -> list[date]:
    return list(islice(days_of(when, since, JAPAN), count))


def test_every_second_tuesday_stays_a_fortnight_apart_over_the_years_end() -> None:
    assert first(FORTNIGHT, date(2026, 12, 10), 4) == [
        date(2026, 12, 15), date(2026, 12, 29), date(2027, 1, 12), date(2027, 1, 26),
    ]  # fmt: skip


def test_every_second_tuesday_at_ten_is_ten_in_summer_and_in_winter() -> None:
    zone = "America/New_York"
    found = [moment(day, "10:00", zone) for day in first(FORTNIGHT, date(2026, 10, 1), 4)]
    assert [one.isoformat() for one in found] == [
        "2026-10-06T14:00:00+00:00", "2026-10-20T14:00:00+00:00",
        "2026-11-03T15:00:00+00:00", "2026-11-17T15:00:00+00:00",
    ]  # fmt: skip


def test_the_31st_is_the_last_day_of_every_month() -> None:
    assert first(EveryMonth(day=31, at="10:00"), date(2028, 1, 1), 4) == [
        date(2028, 1, 31), date(2028, 2, 29), date(2028, 3, 31), date(2028, 4, 30),
    ]  # fmt: skip


def test_a_quarterly_one_counts_from_its_first_month() -> None:
    quarterly = EveryMonth(day=1, at="10:00", every=3, starting=date(2026, 2, 1))
    assert first(quarterly, date(2025, 1, 1), 5) == [
        date(2026, 2, 1), date(2026, 5, 1), date(2026, 8, 1), date(2026, 11, 1), date(2027, 2, 1),
    ]  # fmt: skip


def test_new_years_day_moves_to_the_first_business_day() -> None:
    assert first(EveryMonth(day=1, at="10:00", business=True), date(2027, 1, 1), 2) == [
        date(2027, 1, 4),
        date(2027, 2, 1),
    ]
    fridays = EveryWeek(days=("thu", "fri"), at="10:00", business=True)
    assert first(fridays, date(2026, 12, 30), 2) == [date(2027, 1, 4), date(2027, 1, 7)], "both moved to one day: once"


def test_once_is_once() -> None:
    once = Once(day=date(2026, 12, 1), at="10:00")
    before = datetime(2026, 12, 1, 0, 59, tzinfo=UTC)
    assert next_moment(once, "Asia/Tokyo", before, JAPAN) == before + timedelta(minutes=1)
    assert next_moment(once, "Asia/Tokyo", before + timedelta(minutes=1), JAPAN) is None


def test_a_time_in_a_gap_moves_on_and_one_that_comes_twice_is_taken_once() -> None:
    daily = EveryWeek(days=WEEKDAYS, at="02:30")
    gap = datetime(2027, 3, 14, 7, 30, tzinfo=UTC)
    assert occurrence(daily, "America/New_York", gap, JAPAN) == date(2027, 3, 14)
    assert fires(daily, "America/New_York") == (Fire(2, 30, weekdays=WEEKDAYS), Fire(3, 30, weekdays=WEEKDAYS))
    assert fires(daily, "Asia/Tokyo") == (Fire(2, 30, weekdays=WEEKDAYS),)
    twice = EveryWeek(days=WEEKDAYS, at="01:30")
    first, second = (datetime(2026, 11, 1, hour, 30, tzinfo=UTC) for hour in (5, 6))
    assert occurrence(twice, "America/New_York", first, JAPAN) == date(2026, 11, 1)
    assert occurrence(twice, "America/New_York", second, JAPAN) is None


@given(recurring, dates)
@example(EveryMonth(day=29, at="10:00", every=12, starting=date(2027, 2, 1)), date(2028, 2, 29))
def test_the_days_are_in_order_and_the_same_from_wherever_one_looks(when: EveryWeek | EveryMonth, since: date) -> None:
    found = first(when, since, 6)
    assert found == sorted(set(found))
    assert all(day >= since for day in found)
    assert found[2:] == first(when, found[2], 4)
    assert when.starting is not None
    assert found[0] >= when.starting
    if not when.business:
        if isinstance(when, EveryWeek):
            monday = [(day - day.weekday() * DAY).toordinal() // 7 for day in found]
            anchor = (when.starting - when.starting.weekday() * DAY).toordinal() // 7
            assert all((week - anchor) % when.every == 0 for week in monday)
            assert all(WEEKDAYS[day.weekday()] in when.days for day in found)
        else:
            months = [day.year * 12 + day.month for day in found]
            assert all((b - a) == when.every for a, b in pairwise(months))
            assert all(day.day == when.day or (day + DAY).day == 1 for day in found)
    else:
        assert all(JAPAN.is_business_day(day) for day in found)


@given(recurring, dates, st.sampled_from(ZONES))
@example(EveryWeek(days=WEEKDAYS, at="02:30", starting=date(2027, 3, 1)), date(2027, 3, 12), "America/New_York")
@example(EveryWeek(days=WEEKDAYS, at="00:00", starting=date(2026, 9, 1)), date(2026, 9, 5), "America/Santiago")
def test_the_schedule_fires_at_every_occurrence_and_the_local_time_holds(
    when: EveryWeek | EveryMonth, since: date, zone: str
) -> None:
    """Temporal's rules, as tried: it fires where the wall shows the time, so never in a gap and twice where it comes twice."""
    tz = ZoneInfo(zone)
    for day in first(when, since, 4):
        due = moment(day, when.at, zone)
        local = due.astimezone(tz)
        assert any(_shows(fire, local) for fire in fires(when, zone))
        assert occurrence(when, zone, due, JAPAN) == day
        assert occurrence(when, zone, due + timedelta(hours=1), JAPAN) is None
        assert next_moment(when, zone, due - timedelta(minutes=1), JAPAN) == due
        if f"{local:%H:%M}" != when.at:  # only where the wall never shows it
            assert datetime.fromisoformat(f"{day} {when.at}").replace(tzinfo=tz).astimezone(UTC).astimezone(tz) == local


def _shows(fire: Fire, local: datetime) -> bool:
    return (
        (local.hour, local.minute) == (fire.hour, fire.minute)
        and (not fire.days or local.day in fire.days)
        and (not fire.weekdays or WEEKDAYS[local.weekday()] in fire.weekdays)
        and fire.on in (None, local.date())
    )


@given(recurring, dates, st.sampled_from(ZONES))
def test_of_all_times_that_a_schedule_fires_each_occurrence_is_taken_once(
    when: EveryWeek | EveryMonth, since: date, zone: str
) -> None:
    """Every firing of 40 days, asked as the activity asks: just the days that the calendar says, each once."""
    fired = sorted({at for n in range(40) for at in _fired(fires(when, zone), since + n * DAY, ZoneInfo(zone))})
    taken = [day for at in fired if (day := occurrence(when, zone, at, JAPAN)) is not None]
    assert taken == list(takewhile(lambda day: day < since + 40 * DAY, days_of(when, since, JAPAN)))


def _fired(every: tuple[Fire, ...], day: date, zone: ZoneInfo) -> list[datetime]:
    """The moments of a local date at which Temporal fires."""
    times = [
        datetime.combine(day, time(fire.hour, fire.minute, fold=fold), tzinfo=zone) for fire in every for fold in (0, 1)
    ]
    real = [(at.astimezone(UTC), at.astimezone(UTC).astimezone(zone)) for at in times]
    return [moment for moment, local in real if local.date() == day and any(_shows(fire, local) for fire in every)]


@pytest.mark.parametrize(
    ("when", "said"),
    [
        (Once(day=date(2026, 12, 1), at="10:00"), "on 2026-12-01 at 10:00"),
        (EveryMonth(day=1, at="09:30", business=True), "every month on day 1, or the next business day, at 09:30"),
        (EveryMonth(day=5, at="09:30", every=3), "every 3rd month on day 5 at 09:30"),
        (EveryWeek(days=("tue", "thu"), at="10:00"), "every week on Tue, Thu at 10:00"),
        (FORTNIGHT, "every 2nd week on Tue at 10:00"),
    ],
)
def test_it_is_said_in_words(when: Recurrence, said: str) -> None:
    assert words(when) == said
