"""The score: what leads' stories come to, and that order, repetition and lateness never change it."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mebae import scoring as scoring_module
from mebae import scoring_language
from mebae.authoring import attended, clicked, days, did, downloaded, hours, opened, tracked, visited
from mebae.conditions import Among, AtLeast, SimpleFacts, evaluate, matches, parts_of
from mebae.errors import AuthoringError, ScenarioError
from mebae.loading import find_scenarios
from mebae.scoring import Event, Profile, Score, Tally, differences, micros, reckon, replay, score
from mebae.scoring_compiling import compile_scoring
from mebae.scoring_decay import Curve, crossing, next_change, score_valid_until
from mebae.scoring_language import (
    Scoring,
    answered,
    by,
    engagement,
    event,
    exclude,
    fit,
    graded,
    lead,
    qualify,
    several,
    stage,
    topic,
    visits,
)
from mebae.scoring_loading import LoadedScoring, load_scoring
from mebae.scoring_mapping import Mapping
from mebae.scoring_model import LIMIT, By, Engagement, Graded, ScoringModel
from mebae.timing import window
from mebae.tracking import TrackingPlan
from mebae.tracking_language import event as planned
from mebae.tracking_language import one_of

ROOT = Path(__file__).parents[1]
START = datetime(2026, 4, 1, tzinfo=UTC)
_ids = itertools.count()
say: Any = scoring_language
"""The language without its types: for what an author should not write."""


@pytest.fixture(scope="module")
def sample() -> LoadedScoring:
    loaded = load_scoring(ROOT)
    assert loaded is not None
    return loaded


def happened(name: str, day: float = 0, id: str | None = None, **properties: Any) -> Event:
    return Event(id or f"m{next(_ids)}", name, properties, START + timedelta(days=day))


def paper(content: str, day: float) -> Event:
    return happened("Content Downloaded", day, content=content)


def page(path: str, day: float, **properties: Any) -> Event:
    return happened("Page Viewed", day, path=path, **properties)


def on_day(day: float) -> datetime:
    return START + timedelta(days=day)


def model_of(*rules: Engagement, **rest: Any) -> ScoringModel:
    return compile_scoring(Scoring(**{"stages": [stage("awareness")], "engagement": rules, **rest}))


def total(model: ScoringModel, events: Iterable[Event], day: float = 0, **attributes: object) -> float:
    return score(model, Profile(attributes), events, on_day(day)).total


def points_of(found: Score) -> dict[str, float]:
    points: dict[str, float] = {}
    for reason in found.reasons:
        points[reason.rule] = points.get(reason.rule, 0) + reason.points
    return points


# The sample model ----------------------------------------------------------------------------------------------------

BUCHO = {"title": "製造本部 部長", "industry": "自動車部品メーカー", "company_size": 60, "qualification": "none"}


def test_a_head_of_department_in_manufacturing_who_downloads_two_papers_and_sees_the_price_is_an_mql(
    sample: LoadedScoring,
) -> None:
    bucho = Profile.of(BUCHO, sample.mapping)
    events = [paper("whitepaper-iot", 0), paper("whitepaper-cost", 0), page("/pricing", 0)]

    before = score(sample.model, bucho, events[:2], on_day(0))
    assert (before.fit, before.engagement, before.whole) == (45, 40, 85)
    assert before.stage == "consideration"
    assert before.qualifications == ()  # 85 points, but neither a price seen nor a seminar attended

    after = score(sample.model, bucho, events, on_day(0))
    assert points_of(after) == {
        "部長以上": 20, "ターゲット業種": 15, "従業員50名以上": 10, "ホワイトペーパー": 40, "料金ページ": 30,
    }  # fmt: skip
    assert after.whole == 115
    assert after.qualifications == ("mql",)
    assert {(one.event, one.occurred_at) for one in after.reasons if one.rule == "料金ページ"} == {
        (events[2].message_id, START)
    }


def test_the_same_lead_a_half_life_later_is_no_candidate_any_more_but_keeps_its_stage(sample: LoadedScoring) -> None:
    bucho = Profile.of(BUCHO, sample.mapping)
    events = [paper("whitepaper-iot", 0), paper("whitepaper-cost", 0), page("/pricing", 0)]
    later = score(sample.model, bucho, events, on_day(90))
    assert (later.total, later.stage, later.qualifications) == (45 + 20 + 15, "consideration", ())
    assert score(sample.model, bucho, [], on_day(90)).stage == "awareness"  # what was never reached is not held


def test_a_third_paper_and_the_same_paper_again_give_nothing_more(sample: LoadedScoring) -> None:
    profile = Profile.of({}, sample.mapping)
    two = [paper("whitepaper-1", 0), paper("whitepaper-2", 0)]
    for more in (paper("whitepaper-3", 0), paper("whitepaper-2", 0), paper("brochure", 0)):
        assert score(sample.model, profile, [*two, more], on_day(0)).total == 40
    assert score(sample.model, profile, [two[0], paper("whitepaper-1", 0)], on_day(0)).total == 20


def test_eighty_points_and_a_seminar_qualify_without_the_price(sample: LoadedScoring) -> None:
    kacho = Profile.of({"title": "課長", "industry": "建設業", "company_size": 50}, sample.mapping)
    events = [paper("whitepaper-1", 0), happened("Seminar Attended", 0, seminar="spring")]
    found = score(sample.model, kacho, events, on_day(0))
    assert (found.fit, found.whole, found.qualifications) == (35, 95, ("mql",))
    assert score(sample.model, kacho, events[1:], on_day(0)).qualifications == ()  # 75


def test_a_clerk_of_a_near_industry_fits_a_little(sample: LoadedScoring) -> None:
    clerk = Profile.of({"title": "営業担当", "industry": "倉庫業", "company_size": 49}, sample.mapping)
    assert score(sample.model, clerk, [], on_day(0)).total == 10


def test_blog_posts_and_a_download_make_interest_without_the_points(sample: LoadedScoring) -> None:
    profile = Profile.of({}, sample.mapping)
    posts = [page(f"/blog/{n}", n) for n in range(3)]
    assert score(sample.model, profile, posts, on_day(3)).stage == "awareness"
    found = score(sample.model, profile, [*posts, paper("brochure", 3)], on_day(3))
    assert (found.whole, found.stage) == (0, "interest")


def test_the_price_seen_twice_is_consideration(sample: LoadedScoring) -> None:
    found = score(sample.model, Profile(), [page("/pricing", 0), page("/pricing", 1)], on_day(1))
    assert (found.whole, found.stage) == (30, "consideration")


def test_a_student_keeps_the_points_and_is_excluded_with_the_reason(sample: LoadedScoring) -> None:
    events = [page("/pricing", 0), page("/pricing", 0), happened("Quote Requested", 0), happened("Seminar Attended", 0)]
    assert score(sample.model, Profile(), events, on_day(0)).qualifications == ("mql",)
    found = score(sample.model, Profile({"title": "大学院学生", "tags": ["competitor"]}), events, on_day(0))
    assert (found.total, found.excluded, found.qualifications, found.stage) == (120, ("競合", "学生"), (), "awareness")


def test_sales_has_accepted_and_hears_of_a_budget_so_the_lead_may_become_sql(sample: LoadedScoring) -> None:
    answer = happened("Form Answered", 0, form="needs", budget="確保済み", decision_maker=True)
    found = score(sample.model, Profile({"qualification": "accepted"}), [answer], on_day(0))
    assert (found.total, found.qualifications) == (35, ("sql",))
    assert score(sample.model, Profile({"qualification": "none"}), [answer], on_day(0)).qualifications == ()


def test_opens_and_clicks_of_machines_never_count(sample: LoadedScoring) -> None:
    opens = [happened("Email Opened", 0, mail="thanks", verdict=verdict) for verdict in ("scanner", "privacy-proxy")]
    assert score(sample.model, Profile(), opens, on_day(0)).total == 0
    assert score(sample.model, Profile(), [*opens, happened("Email Opened", 0, verdict="human")], on_day(0)).total == 5
    assert score(sample.model, Profile(), [happened("Email Link Clicked", 0)], on_day(0)).total == 10


def test_what_a_lead_reads_are_its_topics(sample: LoadedScoring) -> None:
    events = [page("/blog/quality-control", 0), page("/pricing", 0), paper("whitepaper-automation", 0)]
    assert score(sample.model, Profile(), events, on_day(0)).topics == ("automation", "quality")
    events.append(page("/pricing", 89))
    assert score(sample.model, Profile(), events, on_day(89)).topics == ("automation", "quality", "cost")
    assert score(sample.model, Profile(), events, on_day(90)).topics == ("automation", "quality")


def test_the_files_beside_the_scenarios_do_not_disturb_them(sample: LoadedScoring) -> None:
    assert sample.file == ROOT / "scenarios" / "scoring.py"
    assert all(folder.is_dir() and (folder / "scenario.py").is_file() for folder in find_scenarios(ROOT))


def test_every_rank_and_group_of_the_sample_can_be_reached(sample: LoadedScoring) -> None:
    assert set(sample.mapping.names("rank")) == set(sample.model.ranks)
    asked = [
        one for rule in sample.model.fit for part in parts_of(rule.when) if isinstance(part, Among) for one in part.to
    ]
    assert set(asked) - set(sample.model.ranks) <= set(sample.mapping.names("industry"))


# Points --------------------------------------------------------------------------------------------------------------


def test_of_answers_the_last_one_counts_even_if_it_is_no() -> None:
    model = model_of(engagement("予算", answered(), by(event.budget, {"あり": 20, "なし": 0}), at_most=1))
    yes, no = (happened("Form Answered", day, budget=word) for day, word in ((0, "あり"), (5, "なし")))
    unrelated = happened("Form Answered", 9, color="red")
    assert total(model, [yes, unrelated], 9) == 20
    assert total(model, [no, yes, unrelated], 9) == 0
    assert total(model, [happened("Form Answered", 0, budget=["なし?", "あり"])]) == 20  # a form of several choices


def test_points_by_seconds_on_a_page() -> None:
    model = model_of(engagement("熟読", visited("/products/*"), graded(event.seconds, {60: 2, 180: 5})))
    for seconds, points in ((59, 0), (60, 2), (179.9, 2), (180, 5), ("300", 0), (True, 0)):
        assert total(model, [page("/products/a", 0, seconds=seconds)]) == points


def test_where_asks_the_properties_of_the_event() -> None:
    model = model_of(
        engagement("大型案件", tracked("Quote Requested"), 50, where=(event.amount >= 1000) & (event.plan == "pro"))
    )
    cases: list[tuple[dict[str, Any], int]] = [
        ({"amount": 1000, "plan": "pro"}, 50),
        ({"amount": 999, "plan": "pro"}, 0),
        ({}, 0),
    ]
    for properties, points in cases:
        assert total(model, [happened("Quote Requested", 0, **properties)]) == points


def test_several_visits_count_from_the_one_that_completes_them() -> None:
    model = model_of(engagement("再訪", visits("/products/*", times=3, within=days(14)), 16, half_life=days(10)))
    spread = [page("/products/a", day) for day in (0, 7, 14, 21, 28)]
    assert total(model, spread, 28) == 0  # the third is fourteen days after the first: no longer within
    spread.append(page("/products/b", 8))
    assert total(model, spread, 28) == 16 * 2 ** (-(28 - 21) / 10)  # 8, 14, 21
    spread.append(page("/products/b", 27))
    assert total(model, spread, 28) == 16


def test_a_cap_of_a_period_begins_anew_at_midnight_of_the_models_zone() -> None:
    model = model_of(engagement("閲覧", visited(), 1, at_most=2, per=days(1)))
    evening = datetime(2026, 4, 1, 23, 0, tzinfo=ZoneInfo("Asia/Tokyo"))
    events = [Event(f"e{n}", "Page Viewed", {}, evening + timedelta(minutes=20 * n)) for n in range(9)]
    assert [total(model, events[:n], 30) for n in range(10)] == [0, 1, 2, 2, 3, 4, 4, 4, 4, 4]


def test_negative_points_bring_a_score_below_zero() -> None:
    model = model_of(
        engagement("採用", visited("/careers"), -20), fit=[fit("無料メール", lead.email.like("*@gmail.com"), -5)]
    )
    found = score(model, Profile({"email": "a@gmail.com"}), [page("/careers", 0)], on_day(0))
    assert (found.total, found.fit, found.engagement) == (-25, -5, -20)


def test_a_crawler_is_worth_no_more_than_the_limit() -> None:
    model = model_of(engagement("閲覧", visited(), 1))
    tally = Tally.of(model, [page("/", n / 1000) for n in range(LIMIT + 50)])
    assert reckon(model, tally, Profile(), on_day(1)).total == LIMIT
    assert len(tally.kept["rule/閲覧"]) == LIMIT


@given(
    points=st.integers(-1000, 1000), age=st.timedeltas(timedelta(0), timedelta(days=4000)), half=st.integers(1, 1000)
)
def test_decay_is_exact_at_any_moment(points: int, age: timedelta, half: int) -> None:
    assume(points)
    model = model_of(engagement("x", visited(), points, half_life=days(half)))
    found = score(model, Profile(), [page("/", 0)], START + age).total
    assert found == pytest.approx(points * 0.5 ** (age / timedelta(days=half)), rel=1e-12)
    at_halves = score(model, Profile(), [page("/", 0)], START + 3 * timedelta(days=half)).total
    assert at_halves == points / 8


# Order, repetition, lateness -----------------------------------------------------------------------------------------

RICH = compile_scoring(
    Scoring(
        stages=[
            stage("awareness"),
            stage("interest", when=(lead.score >= 40) | did(visited("/blog"), times=2, within=days(5))),
            stage("consideration", when=(lead.score >= 70) & did(visited("/pricing"), times=2), falls=True),
        ],
        fit=[fit("大", lead.company_size >= 50, 10)],
        engagement=[
            engagement("資料", downloaded(), 20, at_most=2, once_for=event.content, half_life=days(9)),
            engagement("資料/月", downloaded("a*"), 7, at_most=2, per=days(6), once_for=event.content),
            engagement("料金", visited("/pricing"), 30, at_most=1, half_life=days(4)),
            engagement("閲覧", visited(), graded(event.seconds, {10: 1, 60: 3.5}), half_life=days(2)),
            engagement("日", visited(), 2, at_most=2, per=days(1)),
            engagement("時", visited(), 1, at_most=1, per=hours(36)),
            engagement("再訪", visits("/blog", times=3, within=days(3)), 15, half_life=days(5)),
            engagement("再訪2", several(visited(), times=2, within=days(2)), 5, at_most=2),
            engagement("再訪/週", several(visited(), times=2, within=hours(12)), 4, at_most=1, per=days(7), half_life=days(30)),
            engagement("採用", visited("/careers"), -25, at_most=3, half_life=days(3)),
        ],
        exclusions=[exclude("競合", did(visited("/careers"), times=4))],
        qualifications=[qualify("mql", when=(lead.score >= 60) & did(visited("/pricing")))],
        topics=[topic("blog", visited("/blog"), downloaded("b*"), times=2, within=days(6))],
    )
)  # fmt: skip
BIG = Profile({"company_size": 50})

some_events = st.lists(
    st.builds(
        lambda n, six_hours, jitter, seconds, name, content: Event(
            f"id{n}",
            "Content Downloaded" if name == "download" else "Page Viewed",
            {"content": content} if name == "download" else {"path": name, "seconds": seconds},
            START + timedelta(hours=6 * six_hours, microseconds=jitter),
        ),
        n=st.integers(0, 10_000),
        six_hours=st.integers(0, 160),
        jitter=st.sampled_from([0, 0, 0, 1, -1]),
        seconds=st.sampled_from([0, 10, 60]),
        name=st.sampled_from(["download", "/pricing", "/blog", "/blog", "/careers", "/"]),
        content=st.sampled_from(["a1", "a2", "b1", "b2"]),
    ),
    max_size=40,
    unique_by=lambda one: one.message_id,
)
some_moment = st.integers(0, 60 * 24).map(lambda hour: START + timedelta(hours=hour))


def recounted(
    model: ScoringModel, profile: Profile, events: Sequence[Event], now: datetime, limit: int = LIMIT
) -> float:
    """The total by the book: every rule looks at all events anew. Shares nothing with the tally but the patterns."""
    points: list[float] = [
        rule.points for rule in model.fit if evaluate(rule.when, SimpleFacts(now, lead=profile.lead)).value
    ]
    for rule in model.engagement:
        found: list[tuple[datetime, str, float, object]] = []
        for one in events:
            worth = _worth(rule, one)
            if matches(rule.event, one.name, one.properties) and worth is not None:
                value = one.properties.get(rule.once_for.removeprefix("event.")) if rule.once_for else one.message_id
                found.append((one.occurred_at, one.message_id, worth, value))
        found.sort(key=lambda one: one[:2], reverse=True)
        if rule.times > 1:
            assert rule.within is not None
            found, seen = [], found[:limit]
            for i, last in enumerate(seen):
                if sum(other[0] > last[0] - window(rule.within) for other in seen[i:]) >= rule.times:
                    found.append(last)
        counted: list[tuple[datetime, float]] = []
        for _, period in itertools.groupby(found, key=lambda one: _period(rule, one[0])):
            values: dict[object, tuple[datetime, float]] = {}
            for at, _, worth, value in period:
                values.setdefault(value, (at, worth))
            counted += list(values.values())[: rule.at_most]
        for at, worth in counted[:limit]:
            age = max((now - at) / window(rule.half_life), 0) if rule.half_life else 0
            points.append(worth * 0.5**age)
    return math.fsum(points)


def _period(rule: Engagement, at: datetime) -> object:
    if rule.per is None:
        return None
    if rule.per.hours:
        return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(hours=rule.per.hours)
    return at.astimezone(ZoneInfo("Asia/Tokyo")).toordinal() // rule.per.days


def _worth(rule: Engagement, one: Event) -> float | None:
    if isinstance(rule.points, Graded):
        return next(
            (its for least, its in reversed(rule.points.grades) if one.properties.get("seconds", 0) >= least), None
        )
    assert not isinstance(rule.points, By)
    return rule.points


@given(some_events, some_moment, st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_a_tally_equals_the_recount_whatever_comes_in_whatever_order_however_often(
    events: list[Event], now: datetime, shuffle: random.Random
) -> None:
    arriving = [*events, *events[::2], *events[:5]]
    shuffle.shuffle(arriving)
    tally = Tally.of(RICH, arriving)
    expected = recounted(RICH, BIG, events, now)
    assert reckon(RICH, tally, BIG, now).total == pytest.approx(expected, abs=1e-9)
    assert score(RICH, BIG, arriving, now).total == reckon(RICH, tally, BIG, now).total
    assert tally == Tally.of(RICH, events) == Tally.load(tally.dump())


@given(some_events, some_moment, st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_that_holds_too_where_a_lead_did_more_than_any_rule_looks_at(
    events: list[Event], now: datetime, shuffle: random.Random
) -> None:
    with patch.object(scoring_module, "LIMIT", 4):
        arriving = [*events, *events[::3]]
        shuffle.shuffle(arriving)
        tally = Tally.of(RICH, arriving)
        assert reckon(RICH, tally, BIG, now).total == pytest.approx(recounted(RICH, BIG, events, now, 4), abs=1e-9)
        assert all(len(kept) <= 4 for kept in tally.kept.values())


@given(some_events, some_moment, st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_whole_answer_is_one_of_the_set_and_the_time(
    events: list[Event], now: datetime, shuffle: random.Random
) -> None:
    arriving = [*events, *events]
    shuffle.shuffle(arriving)
    assert replay(RICH, BIG, arriving, now) == replay(RICH, BIG, events, now)


@given(some_events)
@settings(max_examples=60)
def test_a_lead_that_is_followed_event_by_event_is_where_a_replay_puts_it(events: list[Event]) -> None:
    events.sort(key=lambda one: (one.occurred_at, one.message_id))
    tally, held = Tally(RICH.version), "awareness"
    for at, together in itertools.groupby(events, key=lambda one: one.occurred_at):
        for one in together:
            assert not tally.is_late(one)
            tally.add(RICH, one)
        found = reckon(RICH, tally, BIG, at, held=held)
        held = found.stage
        so_far = [one for one in events if one.occurred_at <= at]
        assert found == score(RICH, BIG, so_far, at)


@given(some_events, some_moment)
@settings(max_examples=60)
def test_conditions_on_a_tally_are_those_on_all_events(events: list[Event], now: datetime) -> None:
    """A tally keeps only as many events as a `did(…)` asks for, which must make no difference."""
    found = reckon(RICH, Tally.of(RICH, events), BIG, now)
    past = [(one.name, one.properties, one.occurred_at) for one in events]
    facts = SimpleFacts(now, lead={"score": found.whole, **BIG.lead}, events=past, stages=RICH.stage_ids)
    assert found.excluded == tuple(rule.id for rule in RICH.exclusions if evaluate(rule.when, facts).value)
    if not found.excluded:
        holds = [one.id for one in RICH.stages if one.when is None or evaluate(one.when, facts).value]
        assert found.stage == holds[-1]
        assert found.qualifications == tuple(one.to for one in RICH.qualifications if evaluate(one.when, facts).value)


def test_of_one_message_id_with_two_contents_the_same_is_meant_in_any_order() -> None:
    twins = [happened("Page Viewed", day, id="same", path=path) for day, path in ((0, "/"), (3, "/pricing"))]
    assert score(RICH, BIG, twins, on_day(5)) == score(RICH, BIG, twins[::-1], on_day(5))


def test_a_tally_of_another_model_is_refused(sample: LoadedScoring) -> None:
    with pytest.raises(ValueError, match="count it anew"):
        Tally.of(RICH).add(sample.model, page("/", 0))


def test_a_tally_stays_small(sample: LoadedScoring) -> None:
    paths = ["/products/a", "/pricing", "/blog/x", "/"]
    tally = Tally.of(sample.model, [page(paths[n % 4], n / 100, seconds=100, id=f"{n:036}") for n in range(3000)])
    assert all(len(kept) <= 10 for kept in tally.kept.values())
    assert len(tally.dump()) < 4000


# Stages over time ----------------------------------------------------------------------------------------------------

FADING = engagement("料金", visited("/pricing"), 60, at_most=1, half_life=days(10))


def test_decay_moves_no_stage_down_unless_it_is_set() -> None:
    stays = model_of(FADING, stages=[stage("a"), stage("b", when=lead.score >= 50)])
    falls = model_of(FADING, stages=[stage("a"), stage("b", when=lead.score >= 50, falls=True)])
    for model, expected in ((stays, "b"), (falls, "a")):
        assert score(model, Profile(), [page("/pricing", 0)], on_day(0)).stage == "b"
        assert score(model, Profile(), [page("/pricing", 0)], on_day(10)).stage == expected


def test_a_lead_that_falls_stops_at_the_first_stage_that_it_keeps() -> None:
    stages = [
        stage("a"), stage("b", when=lead.score >= 20), stage("c", when=lead.score >= 40, falls=True),
        stage("d", when=lead.score >= 60, falls=True),
    ]  # fmt: skip
    model = model_of(FADING, stages=stages)
    followed = [score(model, Profile(), [page("/pricing", 0)], on_day(day)).stage for day in (0, 1, 9, 100)]
    assert followed == ["d", "c", "b", "b"]


def test_an_event_that_comes_late_shows_that_the_stage_was_reached_long_ago() -> None:
    model = model_of(FADING, stages=[stage("a"), stage("b", when=lead.score >= 50)])
    late, other = page("/pricing", 0), page("/", 20)
    assert not Tally.of(model, [other]).is_late(late), "no rule looks at the other one"
    assert Tally.of(model, [page("/pricing", 20)]).is_late(late)
    found = replay(model, Profile(), [other, late], on_day(20))
    assert found.score.total == 15
    assert found.moves == ((START, "stage", "b", late.message_id),)


def test_a_replay_tells_what_the_lead_became_when_and_by_what(sample: LoadedScoring) -> None:
    bucho = Profile.of(BUCHO, sample.mapping)
    events = [paper("whitepaper-1", 0), paper("whitepaper-2", 2), page("/pricing", 3)]
    moves = replay(sample.model, bucho, events[::-1], on_day(4)).moves
    assert [(move.at, move.kind, move.to, move.event) for move in moves] == [
        (on_day(0), "stage", "interest", events[0].message_id),
        (on_day(2), "stage", "consideration", events[1].message_id),
        (on_day(3), "qualification", "mql", events[2].message_id),
    ]


def test_the_stages_are_the_users_own() -> None:
    stages = [stage("冷"), stage("温", when=lead.score >= 10), stage("熱", when=lead.score >= 20)]
    model = model_of(
        FADING,
        stages=stages,
        qualifications=[qualify("mql", when=lead.stage.at_least("温")), qualify("sql", when=lead.stage == "熱")],
    )
    found = score(model, Profile(), [page("/pricing", 0)], on_day(15))
    assert (found.stage, found.qualifications) == ("熱", ("mql", "sql"))


def test_the_ledger_gets_what_changed_and_not_what_decayed() -> None:
    model = model_of(
        engagement("資料", downloaded(), 20, at_most=1, half_life=days(30)),
        fit=[fit("大", lead.company_size >= 50, 10)],
    )
    first, second = paper("a", 0), paper("b", 30)
    before = score(model, Profile(), [first], on_day(0))
    assert differences(before, score(model, Profile(), [first], on_day(20))) == []
    after = score(model, Profile({"company_size": 70}), [first, second], on_day(30))
    assert [(one.rule, one.event, one.worth) for one in differences(before, after)] == [
        ("資料", first.message_id, -20), ("大", None, 10), ("資料", second.message_id, 20),
    ]  # fmt: skip
    assert len(differences(None, after)) == 2


# The moment of a crossing --------------------------------------------------------------------------------------------


def test_of_one_half_life_the_moment_is_known_by_hand() -> None:
    model = model_of(
        engagement("料金", visited("/pricing"), 40, half_life=days(10)), fit=[fit("大", lead.company_size >= 50, 10)]
    )
    tally = Tally.of(model, [page("/pricing", 0)])
    found = crossing(model, tally, BIG, 30, on_day(3))
    assert found == on_day(10) + timedelta(microseconds=1)  # at ten days it is 30 exactly, which is not below
    assert crossing(model, tally, BIG, 10, on_day(3)) is None  # what the lead is does not decay
    assert crossing(model, tally, BIG, 51, on_day(0)) is None  # it is below already


@given(some_events, st.integers(-30, 120), some_moment)
@settings(max_examples=150)
def test_above_before_the_crossing_and_below_after(events: list[Event], threshold: int, now: datetime) -> None:
    tally = Tally.of(RICH, events)

    def at(moment: datetime) -> float:
        return reckon(RICH, tally, BIG, moment).total

    found = crossing(RICH, tally, BIG, threshold, now)
    if at(now) < threshold:
        assert found is None
        return
    until = found or now + timedelta(days=2000)
    assert all(at(now + (until - now) * part / 40) >= threshold for part in range(40))
    if found is not None:
        assert found > now
        assert at(found) < threshold <= at(found - timedelta(microseconds=1))


@given(
    st.lists(st.tuples(st.integers(-60, 60), st.integers(0, 20), st.sampled_from([1, 2, 5, 13, 40, 90])), max_size=7),
    st.integers(-40, 60),
    st.integers(0, 25),
)
@settings(max_examples=150)
def test_a_mix_of_rising_and_falling_is_followed_to_its_first_passing(
    parts: list[tuple[int, int, int]], threshold: int, start: int
) -> None:
    """Negative points that fade let a score rise, and fall again when others fade: a plain bisection would miss it."""
    day = 86_400_000_000
    curve = Curve((5.0,), tuple((points, since * day, half * day) for points, since, half in parts if points))
    now = start * day
    found = curve.flips(threshold + 0.5, now)
    above = curve.at(now) >= threshold + 0.5
    grid = [now + hour * day // 6 for hour in range(6 * 200)]
    if found is None:
        assert all((curve.at(at) >= threshold + 0.5) == above for at in grid)
    else:
        assert (curve.at(found) >= threshold + 0.5) != above
        assert (curve.at(found - 1) >= threshold + 0.5) == above
        assert all((curve.at(at) >= threshold + 0.5) == above for at in grid if at < found)


def test_a_condition_on_the_score_says_how_long_it_holds() -> None:
    model = model_of(engagement("料金", visited("/pricing"), 40, half_life=days(10)))
    tally = Tally.of(model, [page("/pricing", 0)])
    after = timedelta(microseconds=1)
    for condition, until in (
        (lead.score >= 20, on_day(10) + after),
        (lead.score > 19, on_day(10) + after),
        (~(lead.score < 20) & did(visited("/pricing")), on_day(10) + after),
        (lead.score == 40, on_day(0) + after),
        (lead.score.in_(5, 20), on_day(9.295) + timedelta(hours=1)),
        (lead.score >= 41, None),
        (did(visited("/pricing")), None),
    ):
        found = score_valid_until(model, tally, Profile(), condition, on_day(0))
        assert (found is None) == (until is None), condition
        if found is not None and until is not None:
            assert abs(found - until) < timedelta(hours=2), condition
    assert next_change(model, tally, Profile(), on_day(0)) == on_day(0) + after  # 40 → 39
    assert next_change(model, Tally.of(model), Profile(), on_day(0)) is None


def test_crossing_looks_only_at_the_moments_that_are_left() -> None:
    model = model_of(engagement("料金", visited("/pricing"), 40, half_life=days(10)))
    tally = Tally.of(model, [page("/pricing", 5)])  # a clock that went ahead: full points until then
    found = crossing(model, tally, Profile(), 20, on_day(0))
    assert found == on_day(15) + timedelta(microseconds=1)


def test_a_score_that_will_rise_and_fall_again_passes_at_the_first_of_both() -> None:
    model = model_of(
        engagement("料金", visited("/pricing"), 40, half_life=days(10)),
        engagement("採用", visited("/careers"), -30, half_life=days(1)),
    )
    tally = Tally.of(model, [page("/pricing", 5), page("/careers", 5)])
    found = score_valid_until(model, tally, Profile(), lead.score >= 20, on_day(0))
    assert found is not None
    assert on_day(5) < found < on_day(7)
    assert (
        reckon(model, tally, Profile(), found).total
        >= 20
        > reckon(model, tally, Profile(), found - timedelta(seconds=1)).total
    )
    again = crossing(model, tally, Profile(), 20, found)
    assert again is not None
    assert on_day(14) < again < on_day(15)


# The model as data ---------------------------------------------------------------------------------------------------


def test_a_model_is_the_same_version_after_writing_and_reading(sample: LoadedScoring) -> None:
    for model in (sample.model, RICH):
        again = ScoringModel.load(model.dump())
        assert (again, again.version) == (model, model.version)
        events = [page("/pricing", 0), page("/pricing", 1), paper("whitepaper-1", 2)]
        assert score(again, BIG, events, on_day(3)) == score(model, BIG, events, on_day(3))
    newer = json.dumps({**json.loads(RICH.dump()), "format": 99})
    with pytest.raises(ValueError, match="newer"):
        ScoringModel.load(newer)


def test_a_change_of_a_value_or_of_the_table_is_another_version(sample: LoadedScoring) -> None:
    one, other, same = (model_of(engagement("a", visited(), points)) for points in (5, 6, 5.0))
    assert one.version == same.version != other.version
    table = Mapping(rows=sample.mapping.rows[1:])
    assert LoadedScoring(sample.model, table, sample.file).version != sample.version


def test_ranks_and_up_are_written_out() -> None:
    model = model_of(
        ranks=["平", "課長", "部長"], fit=[fit("上", lead.rank.at_least("課長") & ~(lead.rank == "部長"), 1)]
    )
    assert next(parts for parts in parts_of(model.fit[0].when) if isinstance(parts, Among)).to == ("課長", "部長")
    assert isinstance(lead.stage.at_least("anything"), AtLeast)


def test_every_problem_is_reported_at_once_with_its_rule_and_the_nearest_name() -> None:
    table = Mapping.load("kind,raw,means\nrank,部長,部長\nrank,社長,役員\nindustry,製造,manufacturing\n")
    written = Scoring(
        ranks=["課長", "部長"],
        stages=[stage("cold", when=lead.score >= 1), stage("warm"), stage("warm", when=lead.stage == "cold")],
        fit=[
            fit("rank", lead.rank.at_least("部町"), 20),
            fit("group", lead.industry_group == "manufactoring", 20),
            fit("score", lead.score >= 5, 0),
            fit("behaviour", did(visited()), 5),
            fit("slip", lead.industri == "x", 5),
        ],
        engagement=[
            engagement("rank", visited(), 5, half_life=days(-1)),
            engagement("slip2", tracked("Content Downloded"), 5),
            engagement("where", visited(), 5, where=lead.score >= 5),
            engagement("zero", visited(), by(event.x, {"a": 0})),
        ],
        exclusions=[exclude("entry", event.x == 1)],
        qualifications=[
            qualify("mq", when=lead.stage.at_least("wram")),
            qualify("sql", when=did(visited(), times=101)),
        ],
        topics=[topic("nothing")],
        time_zone="Asia/Tokio",
    )
    with pytest.raises(ScenarioError) as caught:
        compile_scoring(written, file="scenarios/scoring.py", mapping=table, mapping_file="scenarios/mapping.csv")
    text = str(caught.value)
    for expected in (
        "scenarios/scoring.py: rule 'rank': the rule 'rank' is there 2 times",
        "the stage 'warm' is there 2 times",
        "scenarios/mapping.csv gives the rank '役員', which is none of ranks=[…]",
        "'Asia/Tokio' is not a time zone",
        "rule 'rank': '部町' is no rank of ranks=[…]",
        "rule 'group': 'manufactoring' is no group of scenarios/mapping.csv, did you mean 'manufacturing'?",
        "rule 'score': 'lead.score' is what this model computes",
        "rule 'score': no points",
        "rule 'behaviour': fit is for what a lead is",
        "rule 'slip': no lead has 'lead.industri', did you mean 'lead.industry'?",
        "rule 'rank': half_life: days(-1) is negative",
        "rule 'slip2': no event is called 'Content Downloded', did you mean 'Content Downloaded'?",
        "rule 'where': where= asks the event's own properties only",
        "rule 'zero': no points",
        "rule 'entry': 'event.x' has no meaning in exclude(…)",
        "rule 'cold': everyone begins in the first stage",
        "rule 'warm': when does a lead reach it?",
        "rule 'warm': a stage can not ask for the stage itself",
        "rule 'qualify mq': 'mq' is nothing that a rule can give, did you mean 'mql'?",
        "rule 'qualify mq': 'wram' is no stage, did you mean 'warm'?",
        "rule 'qualify sql': did(…, times=101)",
        "rule 'nothing': by what is it seen?",
    ):
        assert expected in text, f"{expected}\n---\n{text}"


def test_rules_are_checked_against_the_tracking_plan_if_there_is_one() -> None:
    trial = planned("Trial Started", properties={"plan": one_of("team")})
    written = Scoring(stages=[stage("a")], engagement=[engagement("t", tracked("Trial Startet"), 5)])
    assert compile_scoring(written).engagement[0].event.event == "Trial Startet"
    with pytest.raises(ScenarioError, match="did you mean 'Trial Started'"):
        compile_scoring(written, plan=TrackingPlan((trial,)))


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        (lambda: say.fit("x", visited(), 5), "an event is no condition"),
        (lambda: say.fit("x", lead.rank, 5), "lead.rank alone is no condition"),
        (lambda: say.fit("x", lead.rank >= "部長", 5), "at_least"),
        (lambda: say.fit("x", lead.industry_group.at_least("it"), 5), "has no order"),
        (lambda: say.fit("x", lead.score >= 5, "20"), "'20' is no number"),
        (lambda: say.engagement("x", visited, 5), "with parentheses"),
        (lambda: say.engagement("x", visited(), math.nan), "is no number"),
        (lambda: say.engagement("x", visited(), 5, at_most=0), "from 1 to 100"),
        (lambda: say.engagement("x", visited(), 5, half_life=90), "half_life=days"),
        (lambda: say.engagement("x", visited(), 5, once_for=lead.company), "once_for=event.content"),
        (
            lambda: say.engagement("x", say.visits(times=2, within=days(3)), say.by(event.x, {"a": 1})),
            "no one property",
        ),
        (lambda: say.visits(times=1, within=days(3)), "from 2"),
        (lambda: say.by(lead.company, {"a": 1}), "no property of the event"),
        (lambda: say.Scoring(stages=say.stage("a")), "stages=[stage(…), …]"),
        (
            lambda: say.Scoring(stages=[say.stage("a")], fit=[say.engagement("x", opened(), 5)]),
            "here stand fit(…) only",
        ),
        (lambda: say.Scoring(stages=[say.stage("a")], ranks="部長"), "the lowest first"),
    ],
)
def test_the_wrong_spelling_shows_the_right_one(wrong: Any, cure: str) -> None:
    with pytest.raises(AuthoringError) as caught:
        wrong()
    assert cure in str(caught.value)


def test_problems_of_both_files_are_read_together_with_their_lines(tmp_path: Path) -> None:
    assert load_scoring(tmp_path) is None
    (tmp_path / "scoring.py").write_text(
        "from mebae.scoring_language import *\n\nscoring = Scoring(stages=[stagge('a')])\n"
    )
    (tmp_path / "mapping.csv").write_text(
        "kind,raw,means\nrank,部長,部長\nrang,課長,課長\nrank,部　長,課長\nrank,,課長\n"
    )
    with pytest.raises(ScenarioError) as caught:
        load_scoring(tmp_path)
    place = tmp_path.name
    assert str(caught.value).splitlines() == [
        f"{place}/mapping.csv:3: 'rang' is no kind, did you mean 'rank'?",
        f"{place}/mapping.csv:4: '部 長' already means '部長' in line 2: keep one of the two",
        f"{place}/mapping.csv:5: raw is empty: write what titles or industries contain",
        f"{place}/scoring.py:3: 'stagge' is not defined, did you mean 'stage'?",
    ]


def test_a_table_that_excel_saved_is_read(tmp_path: Path) -> None:
    (tmp_path / "scoring.py").write_text(
        "from mebae.scoring_language import *\nscoring = Scoring(ranks=['部長'], stages=[stage('a')])\n"
    )
    for encoding in ("utf-8-sig", "cp932"):
        (tmp_path / "mapping.csv").write_bytes("kind,raw,means,note\r\nrank,部長,部長,本社\r\n".encode(encoding))
        loaded = load_scoring(tmp_path)
        assert loaded is not None
        assert loaded.mapping.rank("部長") == "部長"
    (tmp_path / "mapping.csv").write_text("raw,means\n部長,部長\n")
    with pytest.raises(ScenarioError, match=r"mapping.csv:1: the first line has no column kind"):
        load_scoring(tmp_path)


# Titles and industries -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "rank"),
    [
        ("営業部長", "部長"), ("本部長代理", "部長"), ("部長代理", "課長"), ("次長", "課長"), ("課長代理", "係長"),
        ("取締役 営業本部長", "役員"), ("執行役員 製造本部長", "役員"), ("部長 兼 課長", "部長"), ("支社長", "部長"),
        ("社長室 課長", "課長"), ("社長秘書", "担当者"), ("エンジニアリング部長", "部長"), ("営業担当部長", "部長"),
        ("代表取締役社長", "役員"), ("ﾏﾈｰｼﾞｬｰ", "課長"), ("主任", "係長"), ("一般社員", "担当者"), ("匠", None), ("", None),
        ("ＶＰ", "部長"), ("V.P., Sales", "部長"), ("MVP", None), ("Vice President of Engineering", "部長"),
        ("SVP & GM", "役員"), ("ＣＥＯ", "役員"), ("Director of IT", "部長"), ("Managing Director", "役員"),
        ("General Manager", "部長"), ("Marketing manager", "課長"), ("Account Manager", "担当者"),
        ("Product-Manager", "係長"), ("Management trainee", None), ("Assistant to the President", "担当者"),
        ("Head of Marketing", "部長"), ("Overhead", None), ("Software Engineer", "担当者"),
    ],
)  # fmt: skip
def test_raw_titles_have_ranks(sample: LoadedScoring, title: str, rank: str | None) -> None:
    assert sample.mapping.rank(title) == rank


@pytest.mark.parametrize(
    ("industry", "group"),
    [
        ("製造業", "manufacturing"), ("自動車部品メーカー", "manufacturing"), ("manufacturing", "manufacturing"),
        ("建設業", "construction"), ("ＩＴサービス", "it"), ("医薬品卸", "manufacturing"), ("real_estate", "real-estate"),
        ("Items", None), (7, None), (None, None),
    ],
)  # fmt: skip
def test_raw_industries_have_groups(sample: LoadedScoring, industry: object, group: str | None) -> None:
    assert sample.mapping.group(industry) == group


def test_values_that_no_row_fits_are_listed_the_most_frequent_first(sample: LoadedScoring) -> None:
    raw = ["部長", "匠", "導師", "匠", None, "", "社長室"]
    assert sample.mapping.unmapped("rank", raw) == [("匠", 2), ("導師", 1), ("社長室", 1)]
    assert sample.mapping.unmapped("industry", ["占い", "製造業"]) == [("占い", 1)]


def test_moments_are_whole_microseconds() -> None:
    assert micros(START + timedelta(microseconds=1)) - micros(START) == 1
    assert Tally.of(RICH, [seen := page("/pricing", 0.5)]).newest == micros(seen.occurred_at)
    assert attended("x") != clicked("x")
