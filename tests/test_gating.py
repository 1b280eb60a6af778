"""What the gate decides, from facts alone: the order of its rules, the caps, and B1's 10,000 cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import holidays
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mebae.gating import PAUSE_AT_LEAST, PAUSE_AT_MOST, SUPPRESSED, GateFacts, GateRules, decide
from mebae.journey import Exited, Postponed, Refused
from mebae.mailing import Cap, MailRules, SendingHours, Topic
from mebae.mailing_hours import SPREAD
from mebae.store.suppressions import REASONS
from mebae.timing import Calendar, Duration

NOON = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = Duration(days=7)
AGREED = GateFacts(zone="Asia/Tokyo", bases=("consent",), topic="product", key="<1@mebae.example>")
TOPICS = (
    Topic("product"), Topic("reply", capped=False, at_any_time=True), Topic("ticket", transactional=True),
)  # fmt: skip


def rules(*caps: Cap, hours: SendingHours | None = None, **more: Any) -> GateRules:
    return GateRules(MailRules(topics=TOPICS, caps=caps, hours=hours, **more))


def why(facts: GateFacts, by: GateRules | None = None, now: datetime = NOON) -> str | None:
    answer = decide(facts, by or rules(), now)
    return None if answer is None else answer.why


# Whether at all -------------------------------------------------------------------------------------------------------


def test_a_lead_that_agreed_gets_its_mail() -> None:
    assert decide(AGREED, rules(), NOON) is None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"erased": True}, "erased"),
    ({"has_address": False}, "no-address"),
    ({"bases": ()}, "no-consent"),
    ({"suppressed": "complaint"}, "complained"),
    ({"opted_out": True}, "opted-out"),
    ({"wants_topic": False}, "topic-not-wanted"),
    ({"paused_at": NOON - DAY}, "sending-paused"),
    ({"counted": (NOON - DAY,)}, "frequency-cap"),
    ({"zone": "America/New_York"}, "quiet-hours"),
]


@pytest.mark.parametrize("nth", range(len(WRONG)))
def test_of_several_noes_the_first_in_the_designs_order_is_the_answer(nth: int) -> None:
    """All that is wrong from here on is wrong at once; in New York it is 23:00."""
    strict = replace(rules(Cap(1, WEEK), hours=SendingHours("08:00", "20:00")), lacking=("MEBAE_SENDER_POSTAL",))
    facts = replace(AGREED, **{name: value for wrong, _ in WRONG[nth:] for name, value in wrong.items()})
    assert why(facts, strict) == WRONG[nth][1]


def test_without_settings_for_the_footer_a_mail_waits_and_is_not_lost() -> None:
    answer = decide(AGREED, GateRules(lacking=("MEBAE_SENDER_POSTAL",)), NOON)
    assert answer == Postponed(NOON + timedelta(hours=1), "footer-unset")


@pytest.mark.parametrize("basis", ["consent", "dealings", "business-card", "published-address"])
def test_each_ground_of_the_law_is_enough_and_a_team_may_accept_fewer(basis: str) -> None:
    facts = replace(AGREED, bases=(basis,))
    assert why(facts) is None
    assert why(facts, rules(bases=("consent",))) == (None if basis == "consent" else "basis-not-accepted")


def test_a_consent_that_was_withdrawn_is_none_and_where_the_law_asks_for_none_none_is_needed() -> None:
    assert why(replace(AGREED, bases=(), withdrawn=True)) == "consent-withdrawn"
    assert why(replace(AGREED, withdrawn=True)) is None, "another ground holds still"
    assert why(replace(AGREED, bases=()), rules(needs_consent=False)) is None
    assert why(replace(AGREED, bases=(), opted_out=True), rules(needs_consent=False)) == "opted-out"


def test_every_reason_of_the_suppression_list_has_a_word() -> None:
    assert set(SUPPRESSED) == set(REASONS)


@pytest.mark.parametrize("reason", REASONS)
def test_a_transactional_mail_heeds_an_address_that_bounced_and_no_unsubscribe(reason: str) -> None:
    ticket = replace(AGREED, topic="ticket", bases=(), opted_out=True, suppressed=reason, counted=(NOON,) * 9, paused_at=NOON)
    night = rules(Cap(1, WEEK), hours=SendingHours("08:00", "08:01"))
    assert why(ticket, night) == (None if reason == "unsubscribed" else SUPPRESSED[reason])
    assert why(replace(ticket, topic="product", bases=("consent",)), night) == SUPPRESSED[reason]


# How often ------------------------------------------------------------------------------------------------------------


def test_a_capped_mail_waits_until_the_very_moment_at_which_the_window_frees() -> None:
    sent = (NOON - timedelta(days=6), NOON - timedelta(days=2))
    facts = replace(AGREED, counted=sent)
    free = sent[0] + timedelta(days=7)
    assert decide(facts, rules(Cap(2, WEEK)), NOON) == Postponed(free, "frequency-cap")
    assert why(facts, rules(Cap(2, WEEK)), free - timedelta(microseconds=1)) == "frequency-cap"
    assert why(facts, rules(Cap(2, WEEK)), free) is None


def test_of_several_caps_the_last_to_free_counts() -> None:
    sent = tuple(NOON - timedelta(days=n) for n in (1, 5, 12, 29))
    caps = (Cap(2, WEEK), Cap(4, Duration(days=30)))
    assert decide(replace(AGREED, counted=sent), rules(*caps), NOON) == Postponed(sent[1] + 7 * DAY, "frequency-cap")
    assert decide(replace(AGREED, counted=sent), rules(caps[1]), NOON) == Postponed(sent[3] + 30 * DAY, "frequency-cap")


def test_a_step_may_skip_its_mail_or_end_instead_of_waiting() -> None:
    full = replace(AGREED, counted=(NOON,))
    assert decide(replace(full, on_cap="skip"), rules(Cap(1, WEEK)), NOON) == Refused("frequency-cap")
    assert decide(replace(full, on_cap="end"), rules(Cap(1, WEEK)), NOON) == Exited("frequency-cap")


def test_a_topic_without_caps_and_hours_waits_for_neither() -> None:
    night = datetime(2026, 4, 1, 15, 0, tzinfo=UTC)
    reply = replace(AGREED, topic="reply", counted=(NOON,) * 9)
    assert why(reply, rules(Cap(1, WEEK), hours=SendingHours("08:00", "20:00")), night) is None
    assert why(replace(reply, topic=""), rules(Cap(1, WEEK)), night) == "frequency-cap"


def test_a_window_that_frees_at_night_lets_the_mail_go_in_the_morning() -> None:
    at_night = datetime(2026, 3, 26, 15, 30, tzinfo=UTC)  # 0:30 in Tokyo
    answer = decide(replace(AGREED, counted=(at_night,)), rules(Cap(1, WEEK), hours=SendingHours("08:00", "20:00")), NOON)
    assert isinstance(answer, Postponed)
    assert answer.why == "frequency-cap"
    eight = datetime(2026, 4, 2, 23, 0, tzinfo=UTC)
    assert eight <= answer.until < eight + SPREAD


def test_while_sending_is_paused_a_mail_asks_ever_more_seldom() -> None:
    def asked(since: timedelta) -> timedelta:
        answer = decide(replace(AGREED, paused_at=NOON - since), rules(), NOON)
        assert isinstance(answer, Postponed)
        return answer.until - NOON

    assert asked(timedelta(0)) == PAUSE_AT_LEAST
    assert asked(timedelta(hours=1)) == timedelta(hours=1)
    assert asked(timedelta(days=3)) == PAUSE_AT_MOST


# B1: 10,000 cases -----------------------------------------------------------------------------------------------------

ZONES = ("Asia/Tokyo", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo", "UTC")
JAPAN_OFF = {*holidays.country_holidays("JP", years=(2026, 2027))}
AROUND = [
    datetime(2026, 5, 6, tzinfo=UTC), datetime(2026, 9, 21, tzinfo=UTC), datetime(2026, 12, 29, tzinfo=UTC),
    datetime(2027, 1, 3, tzinfo=UTC), datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 2, 28, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC), datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 10, 3, 16, tzinfo=UTC),
]  # fmt: skip


def is_open(day: date) -> bool:
    """A business day, reckoned here from the holidays' library and not by our calendar."""
    year_end = (day.month, day.day) >= (12, 29) or (day.month, day.day) <= (1, 3)
    return day.weekday() < 5 and day not in JAPAN_OFF and not year_end


def lawful(moment: datetime, zone: str, hours: SendingHours | None, caps: tuple[Cap, ...], sent: tuple[datetime, ...]) -> bool:
    """The rules once more, in the plainest words."""
    for cap in caps:
        window = timedelta(days=cap.within.days, hours=cap.within.hours)
        if sum(one > moment - window for one in sent) >= cap.count:
            return False
    if hours is None:
        return True
    wall = moment.astimezone(ZoneInfo(zone))
    end = time.max if hours.end == "24:00" else time.fromisoformat(hours.end)
    if not time.fromisoformat(hours.start) <= wall.time() < end:
        return False
    return is_open(wall.date()) if hours.business_days else True


Case = tuple[GateFacts, GateRules, datetime, list[int]]
Dice = Callable[[int, int], int]
"""A number between two, both included."""


def case_of(dice: Dice) -> Case:
    """A mail, the rules, a moment near something that matters, and where to look for an earlier one (in ten-thousandths)."""
    months = [datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 13)]
    near = [*AROUND, *AROUND, *months][dice(0, 2 * len(AROUND) + 11)]
    now = near + timedelta(seconds=dice(-4 * 86_400, 4 * 86_400))
    hours = None
    if dice(0, 9):
        start = dice(0, 1430)
        end = dice(start + 1, 1440)
        wall = [f"{minutes // 60:02}:{minutes % 60:02}" for minutes in (start, end)]
        hours = SendingHours(wall[0], wall[1], business_days=bool(dice(0, 1)))
    caps = tuple(Cap(dice(1, 3), Duration(days=dice(0, 10), hours=dice(1, 23))) for _ in range(dice(0, 2)))
    sent = tuple(now - timedelta(minutes=dice(0, 16_000)) for _ in range(dice(0, 4)))
    facts = replace(AGREED, zone=ZONES[dice(0, len(ZONES) - 1)], counted=sent, key=str(dice(0, 99)))
    return facts, rules(*caps, hours=hours), now, [dice(0, 10_000) for _ in range(5)]


def check_case(case: Case) -> None:
    """No mail goes outside its window, and none waits longer than it must."""
    facts, by, now, looks = case
    mail = by.mail

    def may(moment: datetime) -> bool:
        return lawful(moment, facts.zone, mail.hours, mail.caps, facts.counted)

    answer = decide(facts, by, now)
    if answer is None:
        assert may(now)
        return
    assert isinstance(answer, Postponed)
    assert not may(now)
    assert answer.until > now
    assert may(answer.until), "it would be turned away again"
    assert decide(facts, by, answer.until) is None
    # Nothing between now and then would have done, but for what spreads the mails over the first minutes.
    waits = (answer.until - SPREAD - now).total_seconds()
    if waits > 0:
        steps = [now + timedelta(seconds=waits * look / 10_000) for look in looks]
        steps += [now + timedelta(seconds=waits * nth / 40) for nth in range(40)]
        assert not any(may(moment) for moment in steps), "it could have gone earlier"


def test_ten_thousand_mails_go_within_their_windows_and_at_the_first_moment_that_does() -> None:
    for seed in range(10_000):
        case = case_of(Random(seed).randint)
        try:
            check_case(case)
        except AssertionError as wrong:
            raise AssertionError(f"seed {seed}: {case}") from wrong


@st.composite
def cases(draw: st.DrawFn) -> Case:
    return case_of(lambda least, most: draw(st.integers(least, most)))


@given(cases())
@settings(max_examples=300)
def test_no_case_can_be_made_up_in_which_a_mail_goes_outside_its_window(case: Case) -> None:
    """The same, looked for by hypothesis, which also finds the smallest such case."""
    check_case(case)


def test_the_gate_and_its_check_agree_on_what_a_business_day_is() -> None:
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(700)]
    assert [is_open(day) for day in days] == [Calendar().is_business_day(day) for day in days]
