"""`mebae why`: each way to enter a scenario, not to enter it, and to wait in it, told in words."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sqlmodel import Session, select

from mebae.authoring import (
    Scenario,
    after,
    business_days,
    created,
    days,
    did,
    downloaded,
    end,
    entry,
    joined,
    lead,
    on,
    per_day,
    send,
    visited,
    wait,
    wait_for,
    when,
)
from mebae.checking import Checker
from mebae.cli import commands
from mebae.conditions import (
    All,
    Among,
    Any_,
    AtLeast,
    Compare,
    Condition,
    Did,
    Known,
    Like,
    Not,
    OlderThan,
    Pattern,
    SimpleFacts,
    Tagged,
    evaluate,
)
from mebae.entering import request_entry
from mebae.errors import NotFound
from mebae.graph import WaitFor
from mebae.programs import why as program
from mebae.reports.explaining import Explained, explain
from mebae.reports.finding import lead_of
from mebae.reports.why import why
from mebae.reports.why_told import WhyReport
from mebae.router import route
from mebae.segments import compile_segments
from mebae.segments_language import Segment
from mebae.store.database import Database, lock_lead
from mebae.store.segments import join, publish_segments
from mebae.store.tables import IntakeRow, JourneyRow, Lead, PublishedScenario
from mebae.timing import Duration
from tests.leads import DAY, NOW, SATO, TOKYO, Diary, publish_model, publish_scenario

AUDIENCE = lead.industry.in_("製造業", "建設業") & ((lead.score >= 50) | did(visited("/pricing"), within=days(30)))
FOLLOW = Scenario(
    "follow", title="フォロー", enters_on=downloaded("whitepaper-*"), audience=AUDIENCE,
    exits_when=lead.qualification == "sql",
    steps=[
        send("thanks"),
        wait_for(
            on(visited("/pricing"), [end("priced")]), when(lead.score >= 90, [end("hot")]),
            within=days(7), otherwise=[end("quiet")],
        ),
    ],
)  # fmt: skip


@pytest.fixture
def diary(database: Database) -> Diary:
    publish_model(database)
    diary = Diary(database)
    diary.is_someone(name="佐藤 健二", title="部長", industry="製造業")
    return diary


def published(diary: Diary, scenario: Scenario = FOLLOW, ago: timedelta = 60 * DAY) -> Any:
    return publish_scenario(diary.database, scenario, NOW - ago)


def routed(diary: Diary, at: timedelta = timedelta(0)) -> None:
    while diary.database.write_now(route, now=NOW + at, zone=TOKYO):
        pass


def asked(diary: Diary, scenario: str = "follow", at: timedelta = timedelta(0)) -> WhyReport:
    return diary.database.read_now(lambda session: why(session, lead_of(session, SATO), scenario, NOW + at, zone=TOKYO))


def printed(found: WhyReport) -> str:
    out = io.StringIO()
    program.say(found, TOKYO, Console(file=out, width=160, highlight=False))
    return out.getvalue()


def row_is(diary: Diary, change: Callable[[JourneyRow], None]) -> None:
    def write(session: Session) -> None:
        change(session.exec(select(JourneyRow)).one())

    diary.database.write_now(write)


# Not entered -----------------------------------------------------------------------------------------------------------


def test_nothing_happened_that_starts_it(diary: Diary) -> None:
    published(diary)
    routed(diary)
    found = asked(diary)
    assert found.answer == (
        "it did not enter: what starts it did not happen (downloaded whitepaper-*). Besides: it is not in the audience: "
        "score ≥ 50 (now: 35), or visited /pricing within 30 days (now: not in that time)."
    )
    assert [(start.words, start.in_all, start.near) for start in found.starts] == [("downloaded whitepaper-*", 0, [])]


def test_a_near_miss_says_which_property_is_another(diary: Diary) -> None:
    published(diary)
    diary.does("Content Downloaded", 2 * DAY, content="ebook-1")
    routed(diary)
    found = asked(diary)
    assert "but content is ebook-1, not whitepaper-*" in found.answer
    assert [one.fate for one in found.starts[0].near] == ["but content is ebook-1, not whitepaper-*"]
    assert "the nearest are:" in printed(found)


def test_an_event_of_nearly_the_right_name_is_a_near_miss(diary: Diary) -> None:
    published(diary)
    diary.does("Content Download", 2 * DAY, content="whitepaper-1")
    routed(diary)
    assert "but its name is 'Content Download', not 'Content Downloaded'" in asked(diary).answer


def test_what_came_before_the_scenario_was_published_started_nothing(diary: Diary) -> None:
    diary.does("Content Downloaded", 5 * DAY, content="whitepaper-1")
    routed(diary, -4 * DAY)
    published(diary, ago=DAY)
    assert asked(diary).answer.endswith("which came before the scenario was published (2026-04-09 10:00)")


def test_what_is_not_routed_yet_is_said(diary: Diary) -> None:
    published(diary)
    diary.does("Content Downloaded", content="whitepaper-1")
    found = asked(diary)
    assert found.answer.endswith("which is stored and has not been routed yet: does a worker run?")


def test_what_is_acknowledged_and_not_stored_yet_is_found_in_the_intake(diary: Diary) -> None:
    published(diary)
    body = {
        "type": "track", "event": "File Downloaded", "properties": {"content": "whitepaper-1"}, "messageId": "web-1",
        "context": {"traits": {"email": SATO}}, "timestamp": NOW.isoformat(),
    }  # fmt: skip
    other = {**body, "messageId": "web-2", "context": {"traits": {"email": "ito@midori.example"}}}

    def keep(session: Session) -> None:
        for one in (body, other):
            session.add(IntakeRow(kind="track", body=json.dumps(one).encode(), events=1, received_at=NOW))

    diary.database.write_now(keep)
    found = asked(diary)
    assert [(one.words, one.fate) for one in found.pending] == [("downloaded whitepaper-1", "would start the scenario")]
    assert "acknowledged and not been stored" in found.answer


def test_the_audience_is_explained_part_by_part_with_what_the_lead_has(diary: Diary) -> None:
    published(diary)
    diary.does("Content Downloaded", DAY, content="whitepaper-1")

    def leaves(session: Session) -> None:
        lead_of(session, SATO).industry = "小売"

    diary.database.write_now(leaves)
    routed(diary)
    found = asked(diary)
    assert found.answer == "it was refused on 2026-04-10 10:00: the lead is not in the scenario's audience"
    [refused] = found.entries
    assert refused.audience is not None
    industry, interest = refused.audience.of
    assert (industry.words, industry.value, industry.actual) == ("industry is 製造業 or 建設業", False, "小売")
    assert not interest.value  # what it is now counts, not what it was
    assert [(part.words, part.value, part.actual) for part in interest.of] == [
        ("score ≥ 50", False, "39"), ("visited /pricing within 30 days", False, "not in that time"),
    ]  # fmt: skip
    assert "✗ industry is 製造業 or 建設業" in printed(found)


def test_a_missing_key_is_said(diary: Diary) -> None:
    published(diary, Scenario("keyed", enters_on=created(), key=entry.content, steps=[send("hello")]))
    routed(diary)
    found = asked(diary, "keyed")
    assert "the scenario has a key that the entry does not give" in found.answer


@pytest.mark.parametrize(
    ("re_enter", "days_later", "said"),
    [
        ("never", 40, "it was in this scenario (entry 1), and nobody enters twice"),
        (after(days(30)), 10, "it may enter again 30 days after its last journey: from 2026-05-10 10:00"),
        (after(days(30)), 40, ""),
        ("always", 1, ""),
    ],
)
def test_who_was_in_it_before_is_told_when_it_may_enter_again(
    diary: Diary, re_enter: Any, days_later: int, said: str
) -> None:
    published(diary, Scenario("again", enters_on=downloaded("whitepaper-*"), re_enter=re_enter, steps=[send("hello")]))
    diary.does("Content Downloaded", content="whitepaper-1")
    routed(diary)

    def ends(row: JourneyRow) -> None:
        row.status, row.outcome, row.ended_at, row.step = "ended", "completed", NOW, None

    row_is(diary, ends)
    found = asked(diary, "again", days_later * DAY)
    assert found.answer.endswith("it ended as completed on 2026-04-10 10:00")
    [check] = [one for one in found.checks if one.what == "re_enter"]
    assert (check.holds, check.words) == (False, said) if said else check.holds
    diary.does("Content Downloaded", -days_later * DAY, content="whitepaper-2")
    routed(diary, days_later * DAY)
    rows = diary.database.read_now(lambda session: session.exec(select(JourneyRow.status)).all())
    assert rows.count("refused") == bool(said), "the check says what entering does"


def test_a_second_entry_names_the_earlier_one_of_the_same_key(diary: Diary) -> None:
    published(diary, Scenario("keyed", enters_on=downloaded("*"), key=entry.content, steps=[send("hello")]))
    for content in ("whitepaper-1", "whitepaper-2", "whitepaper-1"):
        diary.does("Content Downloaded", content=content)
        routed(diary)
    third = asked(diary, "keyed").entries[0]
    assert third.words == "refused: the lead is on this journey already (entry 1 began on 2026-04-10 10:00)"


def test_a_scenario_that_nothing_starts_and_one_that_is_gone(diary: Diary) -> None:
    graph = published(diary, Scenario("asked-for", steps=[send("hello")]))
    found = asked(diary, "asked-for")
    assert found.answer == "it did not enter: nothing starts this scenario by itself, and nobody has asked for it"

    def gone(session: Session) -> None:
        session.get_one(PublishedScenario, graph.scenario).active = False

    diary.database.write_now(gone)
    assert "its file is gone" in printed(asked(diary, "asked-for"))
    with pytest.raises(NotFound, match="did you mean 'asked-for'"):
        asked(diary, "asked-fro")


def test_who_opted_out_or_was_erased_is_told(diary: Diary) -> None:
    published(diary)
    number = diary.lead().id

    def change(session: Session) -> None:
        lead = session.get_one(Lead, number)
        lead.opted_out_at, lead.erased_at = NOW, NOW

    diary.database.write_now(change)
    words = [check.words for check in asked(diary).checks if not check.holds]
    assert "the lead was erased on 2026-04-10 10:00" in words
    assert "it opted out on 2026-04-10 10:00: it may enter, and gets no marketing mail" in words


def test_of_a_segment_that_starts_it_is_said_whether_the_lead_belongs_to_it(diary: Diary) -> None:
    warm = compile_segments([Segment("warm", title="50点以上", when=lead.score >= 50)], Checker("segments.py"))
    diary.database.write_now(publish_segments, warm)
    published(diary, Scenario("wake", enters_on=joined("warm"), steps=[send("hello")]))
    [check] = [one for one in asked(diary, "wake").checks if one.what == "segment"]
    assert (check.holds, check.words) == (False, "it does not belong to the segment 'warm': score ≥ 50 (now: 35)")
    diary.does("Page Viewed", path="/pricing")
    [check] = [one for one in asked(diary, "wake").checks if one.what == "segment"]
    assert (check.holds, check.words) == (True, "it belongs to the segment 'warm': the next sweep makes it a member")
    diary.database.write_now(join, warm[0], [diary.lead().id or 0], NOW)
    routed(diary)
    found = asked(diary, "wake")
    assert found.answer.startswith("it entered on 2026-04-10 10:00 because it joined the segment warm (2026-04-10 10:00)")
    assert "it joins again only after it left" in printed(found)


# Entered ---------------------------------------------------------------------------------------------------------------


def entered(diary: Diary) -> None:
    diary.does("Content Downloaded", DAY, content="whitepaper-1")
    routed(diary)


def test_a_resting_journey_says_what_it_waits_for_until_when_and_when_it_would_leave(diary: Diary) -> None:
    graph = published(diary)
    entered(diary)
    step = graph.step("thanks/wait_for")
    assert isinstance(step, WaitFor)

    def rests(row: JourneyRow) -> None:
        row.status, row.step, row.waiting_for, row.deadline = "resting", step.id, "Page Viewed, condition", NOW + 7 * DAY
        row.listening = [{"id": arm.id, "after": 0} for arm in step.arms]

    row_is(diary, rests)
    found = asked(diary)
    assert found.answer == (
        "it entered on 2026-04-10 10:00 because it downloaded whitepaper-1 (2026-04-09 10:00); it is resting at "
        "thanks/wait_for, waiting for visited /pricing or score ≥ 90 until 2026-04-17 10:00 at the latest (in 7 days)"
    )
    [journey] = found.under_way
    assert [(one.words, one.to) for one in journey.listens] == [("visited /pricing", "end/priced"), ("score ≥ 90", "end/hot")]
    hot = journey.listens[1].of
    assert hot is not None
    assert (hot.value, hot.actual) == (False, "54")
    assert journey.exits is not None
    assert (journey.exits.words, journey.exits.value, journey.exits.actual) == ("qualification is sql", False, "none")
    assert journey.otherwise == "end/quiet"
    row_is(diary, lambda row: setattr(row, "paused", True))
    assert "it is paused, resting at thanks/wait_for" in asked(diary).answer


def test_an_entry_that_waits_for_its_place_says_on_which_day_it_starts(diary: Diary) -> None:
    one_a_day = Scenario("slow", enters_on=downloaded("*"), starts_at_most=per_day(1), steps=[send("hello")])
    published(diary, one_a_day)
    diary.is_someone("first@midori.example")
    diary.does("Content Downloaded", 2 * DAY, email="first@midori.example", content="whitepaper-1")
    routed(diary)
    diary.does("Content Downloaded", DAY, content="whitepaper-1")
    routed(diary)
    found = asked(diary, "slow")
    assert found.answer.endswith("it waits for its place and starts on 2026-04-11 10:00, as at most 1 start in a day")
    [places] = [check for check in found.checks if check.what == "starts_at_most"]
    assert (places.holds, places.words) == (False, "1 of today's 1 places are taken: it would start on a later day")


def test_who_was_asked_in_by_command_or_enrolled_by_another_scenario(diary: Diary) -> None:
    hello = published(diary, Scenario("hello", steps=[send("hello"), wait(business_days(1)), end("done")]))
    published(diary)
    entered(diary)
    number = diary.lead().id
    assert number is not None

    def ask(session: Session, command: str) -> None:
        found = lock_lead(session, number)
        assert found is not None
        request_entry(session, graph=hello, lead=found, command=command, properties={}, now=NOW, zone=TOKYO)

    diary.database.write_now(ask, "step:1:thanks/enroll:1")
    assert asked(diary, "hello").entries[0].cause == "step thanks/enroll of follow enrolled it (entry 1)"
    diary.database.write_now(ask, "monday-7")
    assert asked(diary, "hello").entries[0].cause == "somebody asked for it by command"


def test_a_journey_that_left_early_says_why(diary: Diary) -> None:
    published(diary)
    entered(diary)

    def left(row: JourneyRow) -> None:
        row.status, row.outcome, row.reason, row.ended_at = "ended", "exited", "exits-when", NOW

    row_is(diary, left)
    assert asked(diary).answer.endswith(
        "it left early on 2026-04-10 10:00, because the scenario's exits_when became true"
    )


def test_the_command_prints_a_page_and_json(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", str(sqlite_database.engine.url))
    monkeypatch.chdir(tmp_path)
    publish_model(sqlite_database)
    diary = Diary(sqlite_database)
    diary.is_someone(industry="製造業")
    published(diary)
    commands(["why", SATO, "--scenario", "follow"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "it did not enter" in said
    assert "An entry of now would be asked" in said
    commands(["why", SATO, "--scenario", "follow", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["scenario"] == "follow"


# explain = evaluate ----------------------------------------------------------------------------------------------------

PATTERNS = [Pattern(event="Page Viewed"), Pattern(event="Page Viewed", where={"path": "/pricing"}), Pattern(event="Other")]
REFS = ["lead.score", "lead.industry", "lead.nothing", "lead.created_at", "entry.content"]
SPANS = [Duration(days=1), Duration(days=30), Duration(hours=2)]
VALUES: list[Any] = [0, 50, "it", "", True]


def conditions() -> st.SearchStrategy[Condition]:
    ref, value = st.sampled_from(REFS), st.sampled_from(VALUES)
    leaves: list[st.SearchStrategy[Any]] = [
        st.builds(Compare, op=st.sampled_from(["eq", "gt", "ge", "lt", "le"]), ref=ref, to=value),
        st.builds(Among, ref=ref, to=st.tuples(value, value)),
        st.builds(Like, ref=ref, to=st.sampled_from(["*", "i*", "x"])),
        st.builds(AtLeast, to=st.sampled_from(["awareness", "interest", "consideration"])),
        st.builds(Known, ref=ref),
        st.builds(Tagged, ref=st.sampled_from(["lead.tags", "lead.topics"]), to=st.sampled_from(["a", "b"])),
        st.builds(OlderThan, ref=ref, span=st.sampled_from(SPANS)),
        st.builds(
            Did, pattern=st.sampled_from(PATTERNS), times=st.integers(1, 3), within=st.none() | st.sampled_from(SPANS)
        ),
    ]

    def joined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        several = st.lists(inner, min_size=1, max_size=3).map(tuple)
        return st.builds(All, of=several) | st.builds(Any_, of=several) | st.builds(Not, of=inner)

    return st.recursive(st.one_of(*leaves), joined, max_leaves=8)


@st.composite
def facts(draw: st.DrawFn) -> SimpleFacts:
    known = {
        "score": draw(st.sampled_from([None, 0, 49, 50, 51])), "industry": draw(st.sampled_from(["it", "", None, "x"])),
        "stage": draw(st.sampled_from(["awareness", "interest", "consideration", "?"])),
        "tags": draw(st.sampled_from([[], ["a"], ["a", "b"]])), "created_at": NOW - draw(st.sampled_from([0, 1, 40])) * DAY,
    }  # fmt: skip
    paths = draw(st.lists(st.tuples(st.sampled_from(["/pricing", "/"]), st.integers(0, 40)), max_size=4))
    events = [("Page Viewed", {"path": path}, NOW - ago * DAY) for path, ago in paths]
    return SimpleFacts(NOW, lead=known, entry={"content": draw(st.sampled_from(["it", 50, None]))}, events=events)


def pairs(condition: Condition, told: Explained) -> Iterator[tuple[Condition, Explained]]:
    yield condition, told
    inner = condition.of if isinstance(condition, (All, Any_)) else (condition.of,) if isinstance(condition, Not) else ()
    for part, its in zip(inner, told.of, strict=True):
        yield from pairs(part, its)


@given(conditions(), facts())
def test_every_part_of_an_explanation_says_what_the_condition_says(condition: Condition, known: SimpleFacts) -> None:
    told = explain(condition, known, TOKYO)
    for part, its in pairs(condition, told):
        verdict = evaluate(part, known)
        assert (its.value, its.until) == verdict
    assert bool(told.missing) is not told.value
