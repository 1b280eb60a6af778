"""Scores where the leads are: written with the events, exact at any moment, told as events, never counted twice."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session, col, select

from mebae.conditions import AtLeast, Compare, evaluate
from mebae.events import IDENTIFIED
from mebae.scoring import score
from mebae.scoring_compiling import compile_scoring
from mebae.scoring_language import (
    Scoring,
    attended,
    days,
    did,
    downloaded,
    engagement,
    event,
    exclude,
    fit,
    lead,
    opened,
    qualify,
    stage,
    topic,
    tracked,
    visited,
)  # fmt: skip
from mebae.scoring_loading import LoadedScoring
from mebae.scoring_mapping import Mapping
from mebae.store import scoring as store_scoring
from mebae.store.database import Database
from mebae.store.facts import LeadFacts
from mebae.store.ingest import EventLog, Incoming, store_events
from mebae.store.leads import Who, find_lead
from mebae.store.scoring import active_scoring, profile_of, publish_scoring, refresh, stored_events
from mebae.store.tables import Event, Lead, ScoreChange

NOW = datetime(2026, 4, 1, 1, 0, tzinfo=UTC)
SATO = "sato.kenji@aoba-seiki.example"
MAPPING = Mapping.load("kind,raw,means\nrank,部長,部長\nrank,課長,課長\nindustry,製造,manufacturing\n")


def model(**more: Any) -> Scoring:
    return Scoring(
        **{
            "ranks": ["課長", "部長"],
            "fit": [fit("部長以上", lead.rank.at_least("部長"), 20)],
            "engagement": [
                engagement("資料", downloaded("whitepaper-*"), 20, at_most=2, once_for=event.content, half_life=days(90)),
                engagement("料金", visited("/pricing"), 30, at_most=1, half_life=days(90)),
                engagement("開封", opened(), 5, at_most=2, per=days(30)),
                engagement("セミナー", attended(), 40, at_most=2, once_for=event.seminar),
            ],
            "exclusions": [exclude("競合", lead.tags.has("competitor") | lead.email.like("*@competitor.example"))],
            "stages": [
                stage("awareness", title="認知"),
                stage("interest", title="興味", when=lead.score >= 50),
                stage("consideration", title="検討", when=(lead.score >= 80) | did(visited("/pricing"), times=2)),
            ],
            "qualifications": [qualify("mql", when=(lead.score >= 80) & did(attended()))],
            "topics": [topic("cost", visited("/pricing"), times=2, within=days(90))],
            **more,
        }
    )  # fmt: skip


def publish(database: Database, scoring: Scoring | None = None, mapping: Mapping = MAPPING) -> LoadedScoring:
    compiled = compile_scoring(scoring or model(), file="scoring.py", mapping=mapping, mapping_file="mapping.csv")
    loaded = LoadedScoring(compiled, mapping, Path("scoring.py"))
    database.write_now(publish_scoring, loaded, NOW)
    return loaded


def track(message_id: str, name: str, at: datetime = NOW, *, email: str = SATO, **properties: Any) -> Incoming:
    return Incoming(
        message_id=message_id,
        name=name,
        properties=properties,
        occurred_at=at,
        received_at=max(at, NOW),
        who=Who(email=email),
    )


def page(message_id: str, at: datetime = NOW, path: str = "/pricing", **more: Any) -> Incoming:
    return track(message_id, "Page Viewed", at, path=path, **more)


def paper(message_id: str, at: datetime = NOW, nth: int = 1, **more: Any) -> Incoming:
    return track(message_id, "Content Downloaded", at, content=f"whitepaper-{nth}", **more)


def identify(message_id: str, at: datetime = NOW, *, email: str = SATO, **traits: Any) -> Incoming:
    return Incoming(
        message_id=message_id,
        name=IDENTIFIED,
        occurred_at=at,
        received_at=at,
        traits=traits,
        who=Who(email=email, moves=True),
    )


def store(database: Database, *incoming: Incoming, at: datetime = NOW) -> None:
    database.write_now(store_events, incoming, at)


def sato(database: Database) -> Lead:
    found = database.read_now(find_lead, email=SATO)
    assert found is not None
    return found


def told(database: Database) -> list[tuple[str, dict[str, Any]]]:
    names = (store_scoring.STAGE_REACHED, store_scoring.QUALIFIED)
    query = select(Event).where(col(Event.name).in_(names)).order_by(col(Event.seq))
    return [(row.name, row.properties) for row in database.read_now(lambda session: session.exec(query).all())]


def ledger(database: Database) -> list[tuple[str, str | None, float]]:
    query = select(ScoreChange).order_by(col(ScoreChange.id))
    return [
        (row.rule, row.message_id, row.points) for row in database.read_now(lambda session: session.exec(query).all())
    ]


# The story --------------------------------------------------------------------------------------------------------------


def test_a_lead_warms_up_from_a_download_to_mql_and_the_ledger_says_why(database: Database) -> None:
    publish(database)
    store(database, identify("i1", title="製造部 部長", industry="製造業"), paper("d1"))
    lead = sato(database)
    assert (lead.score, lead.stage, lead.rank, lead.industry_group) == (40, "awareness", "部長", "manufacturing")

    store(database, page("p1"))
    assert (sato(database).score, sato(database).stage) == (70, "interest")

    store(database, track("s1", "Seminar Attended", seminar="2026-spring"))
    lead = sato(database)
    assert (lead.score, lead.stage, lead.qualification) == (110, "consideration", "mql")

    assert ledger(database) == [
        ("部長以上", None, 20.0), ("資料", "d1", 20.0), ("料金", "p1", 30.0), ("セミナー", "s1", 40.0),
    ]  # fmt: skip
    assert told(database) == [
        ("Stage Reached", {"stage": "interest", "from": "awareness", "score": 70}),
        ("Stage Reached", {"stage": "consideration", "from": "interest", "score": 110}),
        ("Qualified", {"qualification": "mql", "from": "none", "score": 110}),
    ]


def test_what_became_of_a_lead_is_left_to_the_router_like_any_event(database: Database) -> None:
    publish(database)
    store(database, paper("d1"), page("p1"))
    rows = database.read_now(lambda s: s.exec(select(Event).where(Event.name == "Stage Reached")).all())
    assert [(row.message_id, row.routed_at) for row in rows] == [
        (f"stage-reached:{rows[0].lead_id}:{rows[0].seq}", None)
    ]


def test_a_disqualified_lead_keeps_its_score_and_moves_nowhere(database: Database) -> None:
    publish(database)
    spy = "spy@competitor.example"
    store(
        database, paper("d1", email=spy), page("p1", email=spy), track("s1", "Seminar Attended", email=spy, seminar="x")
    )
    lead = database.read_now(find_lead, email=spy)
    assert lead is not None
    assert (lead.score, lead.stage, lead.qualification, lead.excluded) == (90, "awareness", "none", ["競合"])
    assert told(database) == []


def test_machine_opens_are_kept_and_never_scored(database: Database) -> None:
    publish(database)
    store(
        database,
        track("o1", "Email Opened", mail="thanks", verdict="scanner"),
        track("o2", "Email Opened", mail="thanks"),
    )
    assert sato(database).score == 5
    assert ledger(database) == [("開封", "o2", 5.0)]


def test_topics_follow_what_a_lead_reads_and_fade_with_time(database: Database) -> None:
    publish(database)
    store(database, page("p1"), page("p2"))
    assert sato(database).topics == ["cost"]

    later = NOW + timedelta(days=91)
    while database.write_now(refresh, later):
        pass
    assert sato(database).topics == []


def test_a_title_that_changes_gives_and_takes_points_with_a_row_each(database: Database) -> None:
    publish(database)
    store(database, identify("i1", title="部長"))
    store(database, identify("i2", title="課長"))
    assert sato(database).score == 0
    assert ledger(database) == [("部長以上", None, 20.0), ("部長以上", None, -20.0)]


def test_stage_and_qualification_set_from_outside_are_told_too(database: Database) -> None:
    publish(database)
    store(database, paper("d1"))
    store(database, identify("i1", stage="consideration", qualification="sql"))
    assert [name for name, _ in told(database)] == ["Stage Reached", "Qualified"]
    store(database, page("p1"))
    assert (sato(database).stage, sato(database).qualification) == ("consideration", "sql")
    assert len(told(database)) == 2


def test_what_a_list_says_of_a_new_lead_is_no_news(database: Database) -> None:
    publish(database)
    store(database, identify("i1", stage="興味", qualification="mql"))
    assert (sato(database).stage, sato(database).qualification) == ("interest", "mql")
    assert told(database) == []


def test_leads_from_before_the_first_model_are_counted_from_their_events(database: Database) -> None:
    store(database, paper("d1"), page("p1"))
    assert (sato(database).score, ledger(database)) == (0, [])
    publish(database)
    store(database, paper("d2", nth=2))
    assert (sato(database).score, sato(database).stage) == (70, "interest")
    assert len(ledger(database)) == 3


def test_another_model_scores_nobody_before_it_is_made_active(database: Database) -> None:
    first = publish(database)
    second = publish(database, model(engagement=[engagement("資料", downloaded("whitepaper-*"), 99)]))
    assert first.version != second.version
    store(database, paper("d1"))
    assert (sato(database).score, sato(database).scoring_version) == (20, first.version)


def test_active_and_contacted_are_written_and_do_not_count_what_the_lead_did_not_do(database: Database) -> None:
    store(database, identify("i1", name="佐藤"))
    assert sato(database).active_at == NOW, "counted from registration, if there is nothing else"
    later = NOW + timedelta(days=3)
    store(database, page("p1", later), at=later)
    store(database, track("o1", "Email Opened", later + timedelta(days=9), mail="x", verdict="scanner"), at=later)
    store(database, track("c1", "Sales Contacted", later + timedelta(hours=1)), at=later + timedelta(hours=1))
    lead = sato(database)
    assert (lead.active_at, lead.contacted_at) == (later, later + timedelta(hours=1))


# Decay ------------------------------------------------------------------------------------------------------------------


def test_the_score_is_exact_at_any_moment_and_says_when_it_falls_below_a_threshold(database: Database) -> None:
    publish(database)
    store(database, page("p1"), paper("d1"))  # 50 points, all of which decay
    at = NOW + timedelta(days=90)

    def look(session: Session, now: datetime, least: int) -> tuple[bool, datetime | None]:
        lead = find_lead(session, email=SATO)
        assert lead is not None
        return tuple(evaluate(Compare(op="ge", ref="lead.score", to=least), LeadFacts(session, lead, now)))  # type: ignore[return-value]

    assert database.read_now(look, at, 25) == (True, at + timedelta(microseconds=1))
    assert database.read_now(look, at, 26)[0] is False
    value, until = database.read_now(look, NOW, 25)
    assert value
    assert until is not None
    assert abs(until - at) < timedelta(seconds=1)


def test_decay_moves_nobody_down_and_refreshing_brings_the_rows_up_to_date(database: Database) -> None:
    publish(database)
    store(database, page("p1"), paper("d1"))
    later = NOW + timedelta(days=90, minutes=1)
    assert database.write_now(refresh, later) == 1
    assert database.write_now(refresh, later) == 0
    lead = sato(database)
    assert (lead.score, lead.stage) == (24, "interest")
    assert len(ledger(database)) == 2, "decay is no change"
    assert lead.score_changes_at is not None
    assert lead.score_changes_at >= later + timedelta(days=1)


def test_a_stage_that_may_fall_falls_with_time_and_that_is_told(database: Database) -> None:
    falling = [stage("awareness"), stage("interest", when=lead.score >= 50, falls=True)]
    publish(database, model(stages=falling, qualifications=[]))
    store(database, page("p1"), paper("d1"))
    database.write_now(refresh, NOW + timedelta(days=30))
    assert sato(database).stage == "awareness"
    assert [properties["stage"] for _, properties in told(database)] == ["interest", "awareness"]


def test_the_users_own_stages_have_their_order(database: Database) -> None:
    own = [stage("cold"), stage("warm", when=lead.score >= 20), stage("hot", when=lead.score >= 50)]
    publish(database, model(stages=own, qualifications=[]))
    store(database, paper("d1"))

    def at_least(session: Session, what: str) -> bool:
        found = find_lead(session, email=SATO)
        assert found is not None
        return evaluate(AtLeast(to=what), LeadFacts(session, found, NOW)).value

    assert [database.read_now(at_least, one) for one in ("cold", "warm", "hot")] == [True, True, False]


# Duplicates, order, lateness (FAULTS R8, R9) ------------------------------------------------------------------------------


def test_one_event_a_hundred_times_on_eight_connections_and_a_month_later_is_scored_once(database: Database) -> None:
    publish(database)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store(database, page("p1"), paper("d1")), range(100)))
    store(database, page("p1"), at=NOW + timedelta(days=30))
    assert sato(database).score == 50
    assert len(ledger(database)) == 2
    assert len(told(database)) == 1


def test_shuffled_late_and_repeated_events_come_to_the_same_score(database: Database) -> None:
    """Whatever the order and the batches: score, stage, qualification, topics and what the ledger adds up to."""
    publish(database)
    seed = 20260401
    for nth in range(6):
        email = f"lead{nth}@aoba.example"
        events = _life(email)
        shuffled = [*events, *events[::3]]
        random.Random(seed + nth).shuffle(shuffled)
        size = random.Random(nth).choice([1, 3, 7])
        late = NOW + timedelta(days=7)
        for start in range(0, len(shuffled), size):
            store(database, *shuffled[start : start + size], at=late)

    def outcome(session: Session, nth: int) -> tuple[object, ...]:
        found = find_lead(session, email=f"lead{nth}@aoba.example")
        active = active_scoring(session)
        assert found is not None
        assert found.id is not None
        assert active is not None
        recount = score(
            active.model, profile_of(found, active.mapping), [one for _, one in stored_events(session, [found.id])], NOW + timedelta(days=7)
        )  # fmt: skip
        noted = session.exec(select(ScoreChange).where(ScoreChange.lead_id == found.id)).all()
        assert sum(row.points for row in noted) == sum(reason.worth for reason in recount.reasons)
        assert found.score == recount.whole
        return found.score, found.stage, found.qualification, tuple(found.topics)

    outcomes = {database.read_now(outcome, nth) for nth in range(6)}
    assert len(outcomes) == 1


def _life(email: str) -> list[Incoming]:
    def at(day: float) -> datetime:
        return NOW - timedelta(days=day)

    return [
        one.model_copy(update={"message_id": f"{email}:{one.message_id}"})
        for one in (
            paper("d1", at(60), 1, email=email), paper("d2", at(30), 2, email=email), paper("d3", at(2), 1, email=email),
            page("p1", at(50), email=email), page("p2", at(1), email=email), page("b1", at(20), "/blog", email=email),
            track("s1", "Seminar Attended", at(10), email=email, seminar="x"),
            track("o1", "Email Opened", at(9), email=email, mail="a"), track("o2", "Email Opened", at(8), email=email, mail="b"),
            track("o3", "Email Opened", at(7), email=email, mail="c"),
        )
    ]  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(10)), cuts=st.sets(st.integers(1, 9)), nth=st.integers(0, 2**32))
def test_any_order_and_any_batches_give_the_score_of_the_set(
    sqlite_database: Database, order: Sequence[int], cuts: set[int], nth: int
) -> None:
    publish(sqlite_database)
    email = f"lead{nth}-{random.getrandbits(40)}@aoba.example"
    events = _life(email)
    edges = [0, *sorted(cuts), 10]
    for start, end in pairwise(edges):
        store(sqlite_database, *(events[i] for i in order[start:end]))

    def check(session: Session) -> None:
        found = find_lead(session, email=email)
        active = active_scoring(session)
        assert found is not None
        assert found.id is not None
        assert active is not None
        recount = score(active.model, profile_of(found, active.mapping), events_of(session, found.id), NOW)
        assert (found.score, found.stage) == (recount.whole, recount.stage)
        assert found.qualification == "mql"

    def events_of(session: Session, lead_id: int) -> list[Any]:
        return [one for _, one in stored_events(session, [lead_id])]

    sqlite_database.read_now(check)


def test_an_erased_lead_is_not_scored(database: Database) -> None:
    publish(database)
    store(database, paper("d1"))

    def erase(session: Session) -> None:
        found = find_lead(session, email=SATO)
        assert found is not None
        found.erased_at = NOW
        log = EventLog(NOW)
        log.touch(found)
        log.write(session)

    database.write_now(erase)
    assert sato(database).score == 20


@pytest.mark.parametrize("written", [7, "7"])
def test_a_score_from_outside_does_not_replace_ours(database: Database, written: object) -> None:
    publish(database)
    store(database, paper("d1"))
    store(database, identify("i1", score=written))
    assert sato(database).score == 20


def test_facts_of_one_lead_wait_for_no_other_lead(postgres_database: Database) -> None:
    """A query may wait for a row. What others ask meanwhile must not wait for that, or two transactions wait for each other for ever."""
    publish(postgres_database)
    for email in (SATO, "suzuki@aoba.example"):
        postgres_database.write_now(store_events, [page(f"page-{email}", email=email)], NOW)

    def score_of(session: Session, email: str, name: str | None = None) -> object:
        lead = find_lead(session, email=email)
        assert lead is not None
        lead.name = name or lead.name
        return LeadFacts(session, lead, NOW).value("lead.score")

    with Session(postgres_database.engine) as other, ThreadPoolExecutor(2) as pool, other.begin():
        other.exec(select(Lead).where(Lead.email == SATO).with_for_update()).one()
        waits = pool.submit(postgres_database.write_now, score_of, SATO, "健二")
        time.sleep(0.3)
        goes = pool.submit(postgres_database.write_now, score_of, "suzuki@aoba.example")
        try:
            assert goes.result(5) == 30
        finally:
            other.rollback()
        assert waits.result(5) == 30


def test_a_first_model_says_that_the_leads_of_before_wait_for_a_rescore(sqlite_database: Database) -> None:
    loaded = LoadedScoring(compile_scoring(model(), file="scoring.py", mapping=MAPPING), MAPPING, Path("scoring.py"))

    def due(session: Session) -> tuple[bool, bool]:
        nobody = publish_scoring(session, loaded, NOW)
        session.rollback()
        store_events(session, [identify("i1")], NOW)
        return nobody, publish_scoring(session, loaded, NOW)

    with Session(sqlite_database.engine) as session:
        assert due(session) == (False, True)


# A stage is what the events come to, whenever they are stored -----------------------------------------------------------


def fading(*more: Any, **changed: Any) -> Scoring:
    """A seminar is worth 40, which halve each day; 40 are enough for interest."""
    return model(
        fit=[],
        engagement=[engagement("セミナー", attended(), 40, half_life=days(1)), *more],
        stages=[stage("awareness"), stage("interest", when=lead.score >= 40), *changed.pop("higher", [])],
        qualifications=[qualify("mql", when=lead.score >= 40)],
        **changed,
    )


@pytest.mark.parametrize("later", [timedelta(seconds=1), timedelta(days=7)])
def test_points_that_reach_a_stage_when_they_are_earned_reach_it_however_much_later_they_are_stored(
    database: Database, later: timedelta
) -> None:
    publish(database, fading())
    store(database, identify("i1", NOW - timedelta(days=10)), at=NOW - timedelta(days=10))
    store(database, track("s1", "Seminar Attended", NOW - later, seminar="dx"))
    store(database, track("s2", "Seminar Attended", NOW - later, seminar="dx", email="new@aoba.example"))
    leads = database.read_now(lambda session: session.exec(select(Lead)).all())
    assert [(one.stage, one.qualification) for one in leads] == [("interest", "mql")] * 2
    assert all(one.score < 40 for one in leads)


def test_points_and_minus_points_of_one_moment_are_one(database: Database) -> None:
    publish(database, fading(engagement("退会", visited("/cancel"), -10)))
    store(database, identify("i1", NOW - timedelta(days=10)), at=NOW - timedelta(days=10))
    at = NOW - timedelta(seconds=1)
    store(database, track("a", "Seminar Attended", at, seminar="dx"), page("b", at, "/cancel"))
    assert sato(database).stage == "awareness"


@pytest.mark.parametrize("late", [False, True])
def test_a_late_event_reaches_a_lasting_stage_also_beside_one_that_falls(database: Database, late: bool) -> None:
    publish(database, fading(higher=[stage("consideration", when=lead.score >= 60, falls=True)]))
    store(database, identify("i1", NOW - timedelta(days=10)), at=NOW - timedelta(days=10))
    week = NOW - timedelta(days=7)
    seminars = [track(f"s{n}", "Seminar Attended", week, seminar=f"dx-{n}") for n in range(2)]
    if not late:
        store(database, *seminars, at=week)
        assert sato(database).stage == "consideration"
    store(database, page("p1", NOW - timedelta(days=1)), at=NOW - timedelta(days=1))
    if late:
        store(database, *seminars)
    while database.write_now(refresh, NOW):
        pass
    assert sato(database).stage == "interest"


def test_a_date_that_passes_moves_a_lead_that_never_did_anything(database: Database) -> None:
    publish(database, model(stages=[stage("awareness"), stage("interest", when=lead.created_at.older_than(days(3)))]))
    store(database, identify("i1"))
    assert sato(database).stage == "awareness"
    while database.write_now(refresh, NOW + timedelta(days=4)):
        pass
    assert sato(database).stage == "interest"


def test_a_rule_that_counts_a_stage_reached_forgets_nothing_of_the_same_batch(database: Database) -> None:
    """The server's clock is ahead of the worker's, so that the stage is reached before the event that reached it occurred."""
    reached = engagement("段階", tracked("Stage Reached"), 5)
    publish(database, model(fit=[], engagement=[engagement("資料", downloaded(), 50), reached]))
    store(database, identify("i1", NOW - timedelta(days=1)), at=NOW - timedelta(days=1))
    store(database, paper("d1", NOW + timedelta(seconds=2)))
    assert (sato(database).score, sato(database).stage) == (55, "interest")


def test_where_a_lead_came_from_last_is_seen_by_the_rules(database: Database) -> None:
    publish(database, model(fit=[fit("広告", lead.last_source == "ad", 7)]))
    store(database, identify("i1"))
    store(database, page("p1", path="/x").model_copy(update={"source": "ad"}))
    assert sato(database).score == 7


def test_what_a_lead_did_before_it_was_stored_is_not_late(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a backlog everything occurred before its `Lead Created`. To go through every lead's life for that took a fifth of the time."""
    publish(database)
    hour = timedelta(hours=1)
    store(database, paper("d1", NOW - 3 * hour))
    replays: list[str] = []
    real = store_scoring.replay

    def counting(*args: Any, **more: Any) -> Any:
        replays.append("replay")
        return real(*args, **more)

    monkeypatch.setattr(store_scoring, "replay", counting)
    store(database, page("p1", NOW - 2 * hour), track("t1", "Trial Started", NOW))
    store(database, track("a1", "Seminar Attended", NOW - hour, seminar="s1"))
    assert replays == []
    assert (sato(database).score, sato(database).stage) == (89, "consideration")
    store(database, paper("d2", NOW - 2 * hour, nth=2))  # before the seminar, which counts
    assert replays == ["replay"]
