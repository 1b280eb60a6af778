"""A hand-over without I/O: what may follow what, what leads where, and the two clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mebae.business_time import Hours, business_moment
from mebae.handover import (
    BY_PEOPLE,
    CLOSED,
    EVENT,
    MOVES,
    OUTCOME,
    QUALIFICATION,
    UNDER_WAY,
    Alarm,
    BusinessTime,
    IllegalMove,
    Move,
    Status,
    after,
    clock_of,
    due_next,
    is_repeated,
    possible,
    way,
)
from mebae.sales import Clock, SalesRules, in_turn
from mebae.timing import Calendar, Duration
from mebae.words import QUALIFICATIONS

TOKYO = ZoneInfo("Asia/Tokyo")
TIME = BusinessTime("Asia/Tokyo", Calendar(), Hours())
RULES = SalesRules()
moments = st.integers(0, 2_500_000).map(lambda minutes: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes, seconds=7))
spans = st.builds(
    Duration, business_days=st.integers(0, 12), days=st.integers(0, 10), hours=st.integers(0, 40), minutes=st.integers(0, 90)
)


def test_every_move_has_its_event_and_every_state_its_qualification() -> None:
    assert set(EVENT) == set(Move)
    assert set(MOVES) == set(QUALIFICATION) == set(Status)
    assert set(QUALIFICATION.values()) <= set(QUALIFICATIONS)
    assert set(OUTCOME) == set(Move) - {Move.PASS}
    assert set(UNDER_WAY).isdisjoint(CLOSED)


@given(st.lists(st.sampled_from(Move), max_size=12))
def test_a_hand_over_goes_forward_only_and_what_is_closed_stays_closed(moves: list[Move]) -> None:
    ladder = [Status.OPEN, Status.ACCEPTED, Status.SQL, Status.OPPORTUNITY]
    status = Status.OPEN
    for move in moves:
        if move not in MOVES[status]:
            with pytest.raises(IllegalMove) as no:
                after(status, move)
            assert no.value.possible == possible(status)
            continue
        to = after(status, move)
        assert status not in CLOSED
        assert to in CLOSED or ladder.index(to) >= ladder.index(status)
        assert is_repeated(to, move) or move is Move.PASS
        status = to


@given(st.sampled_from(Status), st.sampled_from(BY_PEOPLE))
def test_a_way_is_legal_step_by_step_and_ends_with_what_was_said(status: Status, move: Move) -> None:
    try:
        moves = way(status, move)
    except IllegalMove:
        return
    for one in moves:
        status = after(status, one, skipping=True)
    assert moves[-1] is move
    assert len(moves) <= 4


@pytest.mark.parametrize("status", [Status.OPEN, Status.ACCEPTED])
def test_a_loss_said_from_outside_invents_no_sql_and_no_button_offers_it(status: Status) -> None:
    assert way(status, Move.LOST) == (Move.LOST,)
    assert after(status, Move.LOST, skipping=True) is Status.LOST
    assert Move.LOST not in possible(status)
    with pytest.raises(IllegalMove):
        after(status, Move.LOST)


def test_what_is_not_possible_says_what_is() -> None:
    with pytest.raises(IllegalMove, match="that is accepted cannot take 'reject'; possible: sql, return, pass"):
        after(Status.ACCEPTED, Move.REJECT)
    with pytest.raises(IllegalMove, match="that is won cannot take 'lost'; it is closed"):
        after(Status.WON, Move.LOST)


def test_a_crm_may_skip_but_not_go_back() -> None:
    assert way(Status.ACCEPTED, Move.WON) == (Move.SQL, Move.OPPORTUNITY, Move.WON)
    with pytest.raises(IllegalMove):
        way(Status.SQL, Move.ACCEPT)
    with pytest.raises(IllegalMove):
        way(Status.EXPIRED, Move.WON)


def test_only_open_and_accepted_ones_have_a_clock() -> None:
    assert [status for status in Status if clock_of(status, RULES) is not None] == [Status.OPEN, Status.ACCEPTED]


def test_the_clock_reminds_then_escalates_then_expires() -> None:
    friday = datetime(2026, 5, 1, 17, 0, tzinfo=TOKYO)  # before the long holidays: May 7 is the next business day
    seen, done, since = [], None, friday
    while (due := due_next(Status.OPEN, done, since, RULES, TIME)) is not None:
        seen.append((due.what, due.at.astimezone(TOKYO).strftime("%m-%d %H:%M")))
        done, since = due.what, due.at
    assert seen == [(Alarm.REMIND, "05-07 17:00"), (Alarm.ESCALATE, "05-08 17:00"), (Alarm.EXPIRE, "05-13 17:00")]


def test_after_an_outage_nobody_expires_without_time_to_answer() -> None:
    weeks_late = datetime(2026, 6, 1, 10, 0, tzinfo=TOKYO)
    due = due_next(Status.OPEN, Alarm.REMIND, weeks_late, RULES, TIME)
    assert due == (datetime(2026, 6, 2, 10, 0, tzinfo=TOKYO), Alarm.ESCALATE)


def test_a_clock_without_escalation_goes_on_to_the_expiry() -> None:
    rules = RULES.model_copy(update={"response": Clock(within=Duration(hours=4), escalate_after=None)})
    due = due_next(Status.OPEN, Alarm.REMIND, datetime(2026, 6, 1, 10, 0, tzinfo=TOKYO), rules, TIME)
    assert due is not None
    assert due.what is Alarm.EXPIRE
    assert due_next(Status.OPEN, Alarm.EXPIRE, due.at, rules, TIME) is None


@given(spans, moments)
def test_a_deadline_falls_into_business_hours_and_never_before_its_beginning(span: Duration, since: datetime) -> None:
    found = business_moment(span, since, "Asia/Tokyo", TIME.calendar, TIME.hours)
    local = found.astimezone(TOKYO)
    assert found >= since
    assert TIME.calendar.is_business_day(local.date())
    assert "09:00" <= f"{local:%H:%M}" <= "18:00"


@given(spans, moments, st.timedeltas(timedelta(0), timedelta(days=9)))
def test_who_begins_later_is_not_due_earlier(span: Duration, since: datetime, later: timedelta) -> None:
    first, second = (business_moment(span, at, "Asia/Tokyo", TIME.calendar, TIME.hours) for at in (since, since + later))
    assert first <= second


@given(st.integers(1, 60), moments)
def test_business_hours_pass_only_while_it_is_open(hours: int, since: datetime) -> None:
    """Counted minute by minute, the slow and certain way."""
    found = business_moment(Duration(hours=hours), since, "Asia/Tokyo", TIME.calendar, TIME.hours)
    at, worked = since.replace(second=0, microsecond=0), 0
    opened = 9 * 60
    while at < found:
        local = at.astimezone(TOKYO)
        minute = local.hour * 60 + local.minute
        if not TIME.calendar.is_business_day(local.date()):
            at += timedelta(days=1) - timedelta(minutes=minute)
            continue
        if minute < opened or minute >= 18 * 60:
            at += timedelta(minutes=opened - minute if minute < opened else 24 * 60 - minute)
            continue
        step = min(18 * 60 - minute, int((found - at) / timedelta(minutes=1)) or 1)
        worked, at = worked + step, at + timedelta(minutes=step)
    assert abs(worked - hours * 60) <= 1


def test_a_call_wanted_on_saturday_is_due_on_monday_evening() -> None:
    saturday = datetime(2026, 6, 6, 22, 0, tzinfo=TOKYO)
    assert business_moment(Duration(hours=9), saturday, "Asia/Tokyo", Calendar(), Hours()) == datetime(2026, 6, 8, 18, tzinfo=TOKYO)


@given(st.lists(st.sampled_from(["sato", "suzuki", "tanaka", "ito"]), min_size=1, max_size=4, unique=True), st.integers(1, 40))
def test_turns_are_fair_and_always_the_same(people: list[str], leads: int) -> None:
    last: dict[str, int] = {}
    counts = dict.fromkeys(people, 0)
    for number in range(1, leads + 1):
        whose = in_turn(people, last)
        assert whose == in_turn(list(people), dict(last))
        last[whose], counts[whose] = number, counts[whose] + 1
    assert max(counts.values()) - min(counts.values()) <= 1
