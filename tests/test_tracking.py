"""The tracking plan: what a team uses, what its files are held to, and what really came."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select

from mebae import tracking_language, wiring
from mebae.authoring import (
    Scenario,
    branch,
    choose,
    created,
    days,
    did,
    downloaded,
    end,
    entry,
    joined,
    lead,
    on,
    requested_quote,
    send,
    set_lead,
    stage_reached,
    submitted,
    tracked,
    wait_for,
    wait_until,
    when,
)  # fmt: skip
from mebae.compiling import compile_scenario
from mebae.conditions import like
from mebae.errors import AuthoringError, BadInput, ScenarioError
from mebae.events import EVENTS
from mebae.forms import batch_of, read_submission
from mebae.forms_loading import load_forms
from mebae.loading import load_all
from mebae.programs import events as program
from mebae.programs.events import read_since, show_events
from mebae.scoring_compiling import compile_scoring
from mebae.scoring_language import Scoring, by, engagement, event, graded, stage, topic, visited
from mebae.scoring_loading import load_scoring
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.ingest import Incoming, store_events
from mebae.store.leads import Who
from mebae.store.scoring import publish_scoring
from mebae.store.seen import latest_events, seen_names
from mebae.store.tables import Lead
from mebae.tracking import STANDARD, TrackingPlan, _overlap
from mebae.tracking_language import Plan, anything, boolean, date, number, one_of, text
from mebae.tracking_language import event as planned
from mebae.tracking_loading import load_plan
from mebae.vocabulary import Vocabulary

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 4, 1, 9, tzinfo=UTC)
FILE = "scenarios/trial/scenario.py"
PLAN = TrackingPlan(
    (
        planned(
            "Trial Started",
            title="トライアル開始",
            properties={
                "plan": one_of("team", "business", required=True),
                "seats": number(),
                "paid": boolean(),
                "ends_at": date(),
                "name": text(),
                "more": anything(),
            },
        ),
        planned("Content Downloaded", title="資料DL", properties={"content": one_of("whitepaper-*", "case-1")}),
        planned("Chat Opened", others=True),
    )
)
say: Any = tracking_language
"""The language without its types: for what an author should not write."""


def refused(scenario: Scenario, known: Vocabulary | None = None) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        compile_scenario(scenario, file=FILE, mails=None, known=known or Vocabulary(plan=PLAN))
    return [str(problem) for problem in caught.value.problems]


# What an author writes -----------------------------------------------------------------------------------------------


def test_a_scenario_that_fits_the_plan_compiles() -> None:
    scenario = Scenario(
        "trial",
        enters_on=[
            tracked("Trial Started", plan=["team", "bus*"], seats=5, ends_at="2026-*"),
            downloaded("whitepaper-7"),
        ],
        key=entry.plan,
        audience=did(tracked("Chat Opened", whatever=1)) & (entry.plan == "team"),
        steps=[wait_until(entry.ends_at), wait_for(on(requested_quote()), within=days(3), id="quote"), send("bye")],
    )
    compile_scenario(scenario, file=FILE, mails=None, known=Vocabulary(plan=PLAN))


def test_what_the_plan_does_not_know_is_told_all_at_once_with_the_nearest_right_name() -> None:
    found = refused(
        Scenario(
            "trial",
            enters_on=tracked("Trial Startet"),
            audience=did(downloaded("flyer-*")),
            steps=[
                send("hello"),
                wait_for(
                    on(tracked("Trial Started", plann="team"), [end("a")]),
                    on(tracked("Trial Started", plan="teem"), [end("b")]),
                    on(tracked("Trial Started", seats="five"), [end("c")]),
                    when(did(tracked("trial_started")), [end("d")]),
                    within=days(3),
                    id="wait",
                ),
            ],
        )
    )
    assert found == [
        f"{FILE}: no event is called 'Trial Startet', did you mean 'Trial Started'?",
        f"{FILE}: audience: 'content' of 'Content Downloaded' is never 'flyer-*'; known: case-1, whitepaper-*",
        f"{FILE}: step 'wait': 'Trial Started' has no property 'plann', did you mean 'plan'?",
        f"{FILE}: step 'wait': 'plan' of 'Trial Started' is never 'teem', did you mean 'team'?",
        f"{FILE}: step 'wait': 'seats' of 'Trial Started' is a number, 'five' is none",
        f"{FILE}: step 'wait': no event is called 'trial_started', did you mean 'Trial Started'?",
    ]


def test_a_slip_in_the_entry_is_seen_and_what_a_command_may_bring_is_not() -> None:
    steps = [wait_until(entry.ends_att), send("bye")]
    [slip] = refused(Scenario("trial", enters_on=tracked("Trial Started"), steps=steps))
    assert (
        "step 'start/wait_until': entry.ends_att: 'Trial Started' has no property 'ends_att', did you mean 'ends_at'"
        in slip
    )
    [value] = refused(
        Scenario("trial", enters_on=tracked("Trial Started"), audience=entry.plan == "solo", steps=[send("a")])
    )
    assert "'plan' of 'Trial Started' is never 'solo'" in value
    other = Scenario("trial", enters_on=tracked("Trial Started"), steps=[wait_until(entry.desired_day), send("bye")])
    compile_scenario(other, file=FILE, mails=None, known=Vocabulary(plan=PLAN))


def test_without_a_plan_only_a_slip_in_a_standard_event_is_told() -> None:
    fine = Scenario("trial", enters_on=tracked("Content Liked", anything=1), steps=[send("a")])
    compile_scenario(fine, file=FILE, mails=None)
    slip = Scenario("trial", enters_on=tracked("Content Downloded"), steps=[send("a")])
    assert refused(slip, Vocabulary()) == [
        f"{FILE}: no event is called 'Content Downloded', did you mean 'Content Downloaded'?"
    ]


def test_rules_of_the_scoring_model_are_held_to_the_properties() -> None:
    written = Scoring(
        stages=[stage("new")],
        engagement=[
            engagement("slip", tracked("Trial Started"), by(event.plann, {"team": 5})),
            engagement("value", tracked("Trial Started"), by(event.plan, {"team": 5, "solo": 1})),
            engagement("kind", tracked("Trial Started"), graded(event.name, {5: 1})),
            engagement("where", tracked("Trial Started"), 5, where=(event.seats >= 5) & ~event.paied.is_known()),
            engagement("once", tracked("Trial Started"), 5, once_for=event.plam),
            engagement("fine", tracked("Trial Started"), graded(event.seats, {5: 1}), where=event.paid == True),  # noqa: E712
        ],
        topics=[topic("t", visited("/a"), tracked("Trial Stated"))],
    )
    with pytest.raises(ScenarioError) as caught:
        compile_scoring(written, file="scenarios/scoring.py", plan=PLAN)
    assert str(caught.value).splitlines() == [
        "scenarios/scoring.py: rule 'slip': event.plann: 'Trial Started' has no property 'plann', did you mean 'plan'?",
        "scenarios/scoring.py: rule 'value': event.plan: 'plan' of 'Trial Started' is never 'solo'; known: business, team",
        "scenarios/scoring.py: rule 'kind': event.name: 'name' of 'Trial Started' is a text, 5 is none",
        "scenarios/scoring.py: rule 'where': event.paied: 'Trial Started' has no property 'paied', did you mean 'paid'?",
        "scenarios/scoring.py: rule 'once': event.plam: 'Trial Started' has no property 'plam', did you mean 'plan'?",
        "scenarios/scoring.py: rule 't': no event is called 'Trial Stated', did you mean 'Trial Started'?",
    ]


@given(st.lists(st.sampled_from(["a", "b", "*"]), max_size=4), st.lists(st.sampled_from(["a", "b", "*"]), max_size=4))
def test_two_globs_overlap_if_some_text_matches_both(one: list[str], other: list[str]) -> None:
    left, right = "".join(one), "".join(other)
    words = [""]
    for _ in range(8):
        words += [word + letter for word in words if len(word) == max(map(len, words)) for letter in "ab"]
    assert _overlap(left, right) is any(like(word, left) and like(word, right) for word in words)


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        (lambda: say.Plan(events=say.event("A")), "Plan(events=[event(…), …])"),
        (lambda: say.Plan(events=["A"]), "here stand event(…) only"),
        (lambda: say.event(""), "needs the name"),
        (lambda: say.event(5), "is no text"),
        (lambda: say.event("A", properties={"n": 5}), '{"n": number()}'),
        (lambda: say.event("A", properties={"n": True}), '{"n": boolean()}'),
        (lambda: say.event("A", properties=["n"]), "properties={"),
        (lambda: say.event("A", others="yes"), "others=True"),
        (lambda: say.one_of(), "needs the values"),
        (lambda: say.one_of({"a": 1}), "is no text, number"),
        (lambda: say.text(required="yes"), "required=True"),
    ],
)
def test_the_wrong_spelling_shows_the_right_one(wrong: Any, cure: str) -> None:
    with pytest.raises(AuthoringError) as caught:
        wrong()
    assert cure in str(caught.value)


def test_every_word_of_the_language_has_an_example() -> None:
    assert [
        name for name in tracking_language.__all__ if ">>>" not in (getattr(tracking_language, name).__doc__ or "")
    ] == []


def test_a_plan_file_is_read_with_all_its_problems(tmp_path: Path) -> None:
    assert load_plan(tmp_path) is None
    (tmp_path / "events.py").write_text(
        "from mebae.tracking_language import *\n"
        "kinds = one_off('a')\n"
        "plan = Plan(events=[event('A', properties={'n': nummer()}), event('B', properties={'n': 5})])\n"
    )
    with pytest.raises(ScenarioError) as caught:
        load_plan(tmp_path)
    assert str(caught.value).splitlines() == [
        f"{tmp_path.name}/events.py:2: 'one_off' is not defined, did you mean 'one_of'?",
        f"{tmp_path.name}/events.py:3: 'nummer' is not defined, did you mean 'number'?",
        f"{tmp_path.name}/events.py:3: event('B', properties={{'n': 5}}): write what it is, such as {{\"n\": number()}}",
    ]
    (tmp_path / "events.py").write_text(
        "from mebae.tracking_language import *\n"
        "plan = Plan(events=[event('資料ダウンロード'), event('A'), event('A'), "
        "event('Content Downloaded', properties={'content': number(), ' x': one_of(1, 1)})])\n"
    )
    with pytest.raises(ScenarioError) as caught:
        load_plan(tmp_path)
    place = f"{tmp_path.name}/events.py"
    assert str(caught.value).splitlines() == [
        f"{place}: step '資料ダウンロード': it is stored as 'Content Downloaded', of which this is an alias: "
        'write event("Content Downloaded", …)',
        f"{place}: step 'Content Downloaded': its 'content' is text always: write text() or one_of(…)",
        f"{place}: step 'Content Downloaded': its ' x' names 1 twice",
        f"{place}: step 'Content Downloaded': a property is called ' x': it needs a name, without spaces around it",
        f"{place}: step 'A': the event is there 2 times",
    ]


def test_the_plan_of_this_house_holds_what_its_scenarios_and_its_scoring_ask_for() -> None:
    plan = load_plan(ROOT / "scenarios")
    assert plan is not None
    assert {spec.name for spec in EVENTS} <= set(plan.events)
    assert plan.events["Page Viewed"].properties["path"].required
    assert plan.events["Page Viewed"].properties["url"].kind == "text"  # the standard ones stay
    assert all(one.title for one in plan.own)
    load_all(ROOT)
    assert "Trial Started" not in STANDARD


def test_what_mebae_itself_sends_is_in_the_plan_of_this_house() -> None:
    """What its imports and its forms write is no finding of `mebae events`."""
    plan = load_plan(ROOT / "scenarios")
    assert plan is not None
    assert plan.findings("Lead Imported", {"list": "expo", "source": "expo", "campaign": "autumn"}) == []
    for form in (load_forms(ROOT / "scenarios") or {}).values():
        said = [(name, "a@aoba.example" if name == "メールアドレス" else "半年以内") for name in form.fields]
        batch = batch_of(form, read_submission(form, said), "key", page=None)
        for one in batch["batch"][1:]:
            assert plan.findings(one["event"], one["properties"]) == [], form.id


# The words of the user's own model -----------------------------------------------------------------------------------

OWN = Vocabulary(
    stages=("cold", "warm"),
    ranks=("課長", "部長", "役員"),
    topics=("quality",),
    exclusions=("競合",),
    segments=("dormant",),
    forms=("whitepaper-request", "contact"),
)


def test_stages_ranks_topics_and_segments_are_those_of_the_users_files() -> None:
    scenario = Scenario(
        "trial",
        enters_on=[stage_reached("warm"), joined("dormant")],
        audience=lead.stage.at_least("warm") & lead.rank.at_least("部長") & lead.topics.has("quality"),
        exits_when=lead.excluded.has("競合"),
        steps=[set_lead(stage="cold"), send(choose(lead.stage, {"cold": "a"}, otherwise="b"), id="mail")],
    )
    graph = compile_scenario(scenario, file=FILE, mails=None, known=OWN)
    assert "'to': ('部長', '役員')" in str(graph.model_dump()["audience"]), "the ranks that are meant are in the graph"
    assert type(graph).load(graph.dump()) == graph


def test_words_that_the_users_files_do_not_have_are_told_with_their_step() -> None:
    found = refused(
        Scenario(
            "trial",
            enters_on=[stage_reached("interest"), joined("dormat")],
            audience=lead.rank.at_least("部長長") | lead.topics.has("qualty") | lead.excluded.has("学生"),
            steps=[
                send(choose(lead.stage, {"interest": "a"}, otherwise="b"), id="mail"),
                set_lead(stage="wram"),
                branch(when(lead.stage.in_("warm", "hot"), [send("c")]), when(lead.rank == "部 長", [send("d")])),
            ],
        ),
        OWN,
    )
    assert found == [
        f"{FILE}: 'interest' is no stage; known: cold, warm",
        f"{FILE}: 'dormat' is no segment of segments.py, did you mean 'dormant'?",
        f"{FILE}: audience: '部長長' is no rank of scoring.py, did you mean '部長'?",
        f"{FILE}: audience: 'qualty' is no topic of scoring.py, did you mean 'quality'?",
        f"{FILE}: audience: '学生' is no exclusion of scoring.py; known: 競合",
        f"{FILE}: step 'mail': choose(…): 'interest' is no stage; known: cold, warm",
        f"{FILE}: step 'mail/set_lead': 'wram' is no stage, did you mean 'warm'?",
        f"{FILE}: step 'mail/branch': 'hot' is no stage; known: cold, warm",
        f"{FILE}: step 'mail/branch': '部 長' is no rank of scoring.py, did you mean '部長'?",
    ]


def test_a_slip_in_the_name_of_a_form_is_told_and_a_form_of_another_page_is_not() -> None:
    steps = [wait_for(on(submitted("contct"), [send("a")]), on(submitted("survey-2026")), within=days(3))]
    found = refused(Scenario("trial", enters_on=submitted(["whitepaper-reqest", "whitepaper-*"]), steps=steps), OWN)
    cure = "(a form that is not in forms.py needs a name less like it)"
    assert found == [
        f"{FILE}: 'whitepaper-reqest' is no form of forms.py, did you mean 'whitepaper-request'? {cure}",
        f"{FILE}: step 'start/wait_for': 'contct' is no form of forms.py, did you mean 'contact'? {cure}",
    ]


def test_without_a_scoring_model_the_stages_are_the_default_ones_and_ranks_have_no_order() -> None:
    rank = lead.rank.at_least("部長")
    found = refused(
        Scenario("trial", audience=lead.stage == "interst", exits_when=rank, steps=[send("a")]), Vocabulary()
    )
    assert found == [
        f"{FILE}: audience: 'interst' is no stage, did you mean 'interest'?",
        f"{FILE}: exits_when: lead.rank.at_least(…): ranks and their order stand in scoring.py: write ranks=[…] there",
    ]


@pytest.mark.parametrize("name", ["rank", "topics", "active_at", "first_source"])
def test_what_mebae_finds_out_is_not_set(name: str) -> None:
    with pytest.raises(AuthoringError, match=f"{name} is not set: "):
        set_lead(**{name: "x"})


def test_a_list_or_a_system_may_call_a_stage_by_the_users_name_or_title(database: Database, tmp_path: Path) -> None:
    (tmp_path / "scoring.py").write_text(
        "from mebae.scoring_language import *\n"
        "scoring = Scoring(stages=[stage('cold', title='未接触'), stage('warm', title='商談前', when=lead.score >= 30)])\n"
    )
    database.write_now(publish_scoring, load_scoring(tmp_path), NOW)
    for person, said in enumerate(["商談前", "WARM", "consideration", None]):
        traits = {} if said is None else {"stage": said}
        one = came("Lead Identified", f"{person}@example.com", f"s{person}")
        database.write_now(store_events, [one.model_copy(update={"traits": traits})], NOW)
    stages = dict(database.read_now(lambda session: session.exec(select(Lead.email, Lead.stage)).all()))
    assert [stages[f"{person}@example.com"] for person in range(4)] == ["warm", "warm", "cold", "cold"]


# What really came ----------------------------------------------------------------------------------------------------


def came(name: str, who: str, id: str, days_ago: float = 0, **properties: object) -> Incoming:
    at = NOW - timedelta(days=days_ago)
    return Incoming(message_id=id, who=Who(email=who), name=name, properties=properties, occurred_at=at, received_at=at)


@pytest.fixture
def house(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A project with a plan, whose database holds what two leads did."""
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "worker.py").touch()
    monkeypatch.setattr(program, "find_root", lambda: tmp_path)
    monkeypatch.setattr(wiring, "load_settings", lambda: Settings(scenarios=Path("scenarios")))
    monkeypatch.setattr(wiring, "open_now", lambda settings: database)
    monkeypatch.setattr(wiring, "world_now", lambda settings: NOW)
    monkeypatch.setattr(database, "close", lambda: None)
    events = [
        came("Trial Started", "a@example.com", "1", 40, plan="team", seats="5"),
        came("Trial Started", "b@example.com", "2", 3, plan="チーム", seats=5, sets=1),
        came("Trial Started", "b@example.com", "3", 2, seats=7),
        came("trial_started", "a@example.com", "4", 1, plan="team"),
        came("Whitepaper DL", "a@example.com", "5", 1, note="佐藤です"),
        came("Page Viewed", "a@example.com", "6", 1, path="/pricing", url=7),
    ]
    database.write_now(store_events, events, NOW)
    return database


def test_names_are_counted_with_their_leads_and_times(house: Database) -> None:
    seen = {one.name: one for one in house.read_now(seen_names)}
    trial = seen["Trial Started"]
    assert (trial.times, trial.leads, trial.anonymous) == (3, 2, 0)
    assert (trial.first, trial.last) == (NOW - timedelta(days=40), NOW - timedelta(days=2))
    assert seen["Lead Created"].leads == 2
    recent = {one.name: one.times for one in house.read_now(seen_names, NOW - timedelta(days=2, hours=1))}
    assert recent["Trial Started"] == 1


def test_the_latest_of_each_name_are_looked_into_however_rare(house: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mebae.store.seen.CHUNK", 2)
    passed: list[int] = []
    seen = house.read_now(seen_names)
    latest = list(latest_events(house, seen, 2, looked_at=passed.append))
    assert [its for name, its in latest if name == "Trial Started"] == [
        {"seats": 7},
        {"plan": "チーム", "seats": 5, "sets": 1},
    ]
    assert ("Whitepaper DL", {"note": "佐藤です"}) in latest
    assert sum(passed) <= sum(one.times for one in seen)


def test_the_command_says_what_is_not_as_planned(
    house: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_events(None, 200)
    without = capsys.readouterr().out
    assert "There is no scenarios/events.py" in without
    (tmp_path / "scenarios" / "events.py").write_text(
        "from mebae.tracking_language import *\n"
        "plan = Plan(events=[event('Trial Started', title='トライアル開始', properties={\n"
        "    'plan': one_of('team', 'business', required=True), 'seats': number()}),\n"
        "    event('Trial Ended', title='トライアル終了')])\n"
    )
    show_events(None, 200)
    said = capsys.readouterr().out
    assert "トライアル開始" in said
    assert "  trial_started, did you mean 'Trial Started'?" in said.partition("Not in the plan")[2]
    assert "  Whitepaper DL\n" in said or "  Whitepaper DL, did you mean 'Content Downloaded'? Send it as that" in said
    assert "Whitepaper DL" in said
    closed, kind = "should be one of a list, came as 'チーム'", "should be a number, came as another text"
    for expected in (closed, kind, "sets", "is required: one of a list"):
        assert expected in said, f"{expected}\n{said}"
    assert "1 of 3" in said
    assert "Trial Ended  トライアル終了" in said.partition("never seen")[2]
    assert "佐藤" not in said, "what people write is nobody's business here"
    show_events("2d", 200)
    assert "not seen since then" in capsys.readouterr().out


def test_a_span_or_a_day_is_read_and_anything_else_answered_with_the_cure() -> None:
    assert read_since("2026-03-01", NOW, "Asia/Tokyo") == datetime(2026, 2, 28, 15, tzinfo=UTC)
    assert read_since("12h", NOW, "Asia/Tokyo") == NOW - timedelta(hours=12)
    assert read_since("99999w", NOW, "Asia/Tokyo").year == 1970 or read_since("99999w", NOW, "Asia/Tokyo").year < 1000
    with pytest.raises(BadInput, match="such as 30d"):
        read_since("last week", NOW, "Asia/Tokyo")


def test_an_event_that_nobody_planned_starts_scenarios_and_is_stored_all_the_same(database: Database) -> None:
    stored = database.write_now(store_events, [came("Nobody's Event", "a@example.com", "x", odd=[1, {"a": 2}])], NOW)
    assert stored.new == 1
    assert [one.name for one in database.read_now(seen_names) if one.name == "Nobody's Event"] == ["Nobody's Event"]
    assert PLAN.findings("Nobody's Event", {"odd": 1}) == []
    assert created().event in PLAN.events
    assert Plan(events=[]).events == ()
