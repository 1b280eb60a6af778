"""Another scoring model: who would move is said first; then all leads are counted anew, whatever happens meanwhile."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session, SQLModel, col, select
from typer.testing import CliRunner

from mebae import cli, scoring_language
from mebae.authoring import Scenario, end, stage_reached
from mebae.compiling import compile_scenario
from mebae.conditions import evaluate
from mebae.rescoring import Preview, Rescored, preview, rescore, unmapped
from mebae.router import route
from mebae.scoring import Event, Move, Profile, Replay, Tally, distinct, facts_at, reckon, replay, score
from mebae.scoring_compiling import compile_scoring
from mebae.scoring_language import (
    attended,
    clicked,
    days,
    did,
    downloaded,
    engagement,
    exclude,
    fit,
    lead,
    qualify,
    stage,
    visited,
    visits,
)
from mebae.scoring_loading import LoadedScoring, load_scoring
from mebae.scoring_mapping import Mapping
from mebae.scoring_model import ScoringModel
from mebae.store import recount
from mebae.store.database import Database
from mebae.store.ingest import EventLog, Incoming, store_events
from mebae.store.leads import Who
from mebae.store.scoring import Account, Scoring, profile_of, publish_scoring
from mebae.store.tables import Event as EventRow
from mebae.store.tables import JourneyRow, Lead, PublishedScenario, PublishedScoring, ScenarioVersion, ScoreChange

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TABLE = Mapping.load("kind,raw,means\nrank,部長,部長\nrank,担当,担当者\nindustry,製造,manufacturing\n")
_ids = itertools.count(1)


def model(pricing: int = 30, **more: Any) -> ScoringModel:
    """A small model in which the pricing page gives so many points."""
    written: dict[str, Any] = {
        "ranks": ["担当者", "部長"],
        "stages": [
            stage("awareness", title="認知"),
            stage("interest", title="興味", when=lead.score >= 50),
            stage("consideration", title="検討", when=lead.score >= 75),
        ],
        "fit": [fit("部長", lead.rank == "部長", 20)],
        "engagement": [
            engagement("料金ページ", visited("/pricing"), pricing, at_most=1, half_life=days(90)),
            engagement("資料", downloaded(), 20, at_most=2, half_life=days(90)),
        ],
        "exclusions": [exclude("学生", lead.title.like("*学生*"))],
        "qualifications": [qualify("mql", when=(lead.score >= 80) & did(visited("/pricing")))],
    }
    return compile_scoring(scoring_language.Scoring(**(written | more)))


def published(database: Database, of: ScoringModel, mapping: Mapping = TABLE) -> Scoring:
    """The model, laid ready (the first one ever scores at once)."""
    loaded = LoadedScoring(of, mapping, Path("scoring.py"))
    database.write_now(publish_scoring, loaded, NOW)
    return Scoring(loaded.version, loaded.model, loaded.mapping)


def incoming(email: str, name: str, at: datetime = NOW - DAY, **properties: Any) -> Incoming:
    return Incoming(
        message_id=f"m{next(_ids)}", name=name, properties=properties, occurred_at=at, received_at=at, who=Who(email=email)
    )  # fmt: skip


def page(email: str, path: str, at: datetime = NOW - DAY) -> Incoming:
    return incoming(email, "Page Viewed", at, path=path)


def paper(email: str, content: str, at: datetime = NOW - DAY) -> Incoming:
    return incoming(email, "Content Downloaded", at, content=content)


def identified(email: str, **traits: Any) -> Incoming:
    return incoming(email, "Lead Identified").model_copy(update={"traits": traits})


def store(database: Database, *events: Incoming, now: datetime = NOW) -> None:
    database.write_now(store_events, events, now)


def route_all(database: Database) -> None:
    while database.write_now(route, now=NOW, zone="Asia/Tokyo"):
        pass


def look(database: Database, new: Scoring, **options: Any) -> Preview:
    return preview(database, new, clock=lambda: NOW, **options)


def go(database: Database, new: Scoring, **options: Any) -> Rescored:
    return rescore(database, new, clock=lambda: NOW, **options)


def lead_of(database: Database, email: str) -> Lead:
    return database.read_now(lambda s: s.exec(select(Lead).where(Lead.email == email)).one())


def events_of(database: Database, id: int | None, name: str = "%") -> list[EventRow]:
    query = select(EventRow).where(EventRow.lead_id == id, col(EventRow.name).like(name)).order_by(col(EventRow.seq))
    return database.read_now(lambda s: list(s.exec(query)))


def ledger_of(database: Database, id: int | None, version: str | None = None) -> list[tuple[str, float]]:
    def read(session: Session) -> list[tuple[str, float]]:
        rows = session.exec(select(ScoreChange).where(ScoreChange.lead_id == id).order_by(col(ScoreChange.id)))
        return [(row.rule, row.points) for row in rows if version is None or row.version == version]

    return database.read_now(read)


def everything(database: Database) -> dict[str, list[Any]]:
    """All rows of all tables, but for those that publishing writes."""
    own = ("scoring", "scoring_versions")
    tables = [table for table in SQLModel.metadata.sorted_tables if table.name not in own]
    return database.read_now(lambda s: {table.name: sorted(map(repr, s.execute(table.select()).all())) for table in tables})


def sato_and_suzuki(database: Database) -> Scoring:
    """Two leads under the first model: a 部長 who has seen the price, and a clerk who has read a paper. The model to come."""
    published(database, model(30))
    store(database, identified("sato@aoba.example", title="製造部 部長"), page("sato@aoba.example", "/pricing", NOW))
    store(database, identified("suzuki@midori.example", title="担当"), paper("suzuki@midori.example", "whitepaper-1", NOW))
    route_all(database)
    return published(database, model(60))


# The marketer's story ------------------------------------------------------------------------------------------------


def test_the_preview_names_who_would_move_and_writes_nothing(database: Database) -> None:
    new = sato_and_suzuki(database)
    before = everything(database)

    found = look(database, new)

    assert (found.leads, found.changed) == (2, 1)
    assert [(one.name, one.before, one.after, one.by) for one in found.up] == [("sato@aoba.example", 50, 80, 30)]
    assert found.down == []
    [(move, group)] = found.moves.items()
    assert (move, group.count, group.examples) == (("interest", "consideration"), 1, ["sato@aoba.example"])
    assert (found.qualified.count, found.qualified.examples) == (1, ["sato@aoba.example"])
    assert everything(database) == before
    assert lead_of(database, "sato@aoba.example").score == 50


def test_after_yes_the_lead_has_moved_and_the_ledger_says_why(database: Database) -> None:
    new = sato_and_suzuki(database)

    done = go(database, new)

    sato = lead_of(database, "sato@aoba.example")
    assert (sato.score, sato.stage, sato.qualification, sato.scoring_version) == (80, "consideration", "mql", new.version)
    assert ledger_of(database, sato.id, new.version) == [("料金ページ", -30), ("料金ページ", 60)]
    suzuki = lead_of(database, "suzuki@midori.example")
    assert (suzuki.score, suzuki.scoring_version, ledger_of(database, suzuki.id, new.version)) == (20, new.version, [])
    assert (done.leads, done.changes, done.moved) == (2, 2, 2)
    reached = events_of(database, sato.id, "Stage Reached")[-1]
    assert reached.properties == {"stage": "consideration", "from": "interest", "score": 80}
    assert [one.properties["qualification"] for one in events_of(database, sato.id, "Qualified")] == ["mql"]
    assert sato.last_seq == len(events_of(database, sato.id))
    active = database.read_now(lambda s: s.exec(select(PublishedScoring)).one())
    assert active.active == active.published == new.version
    # The next event finds everything in its place.
    store(database, paper("sato@aoba.example", "whitepaper-2", NOW))
    assert lead_of(database, "sato@aoba.example").score == 100
    assert ledger_of(database, sato.id)[-1] == ("資料", 20)


def scenario_on_consideration(database: Database) -> None:
    written = Scenario("ripe", enters_on=stage_reached("consideration"), steps=[end("seen")])
    graph = compile_scenario(written, file="test.py", mails=None)

    def write(session: Session) -> None:
        session.add(ScenarioVersion(version=graph.version, scenario="ripe", graph=graph.dump(), published_at=NOW))
        session.flush()
        session.add(PublishedScenario(scenario="ripe", version=graph.version))

    database.write_now(write)


@pytest.mark.parametrize("wake", [False, True])
def test_journeys_start_from_a_rescore_only_if_it_is_told_so(database: Database, wake: bool) -> None:
    new = sato_and_suzuki(database)
    scenario_on_consideration(database)

    go(database, new, wake=wake)
    route_all(database)

    journeys = database.read_now(lambda s: list(s.exec(select(JourneyRow))))
    sato = lead_of(database, "sato@aoba.example")
    assert [(row.scenario, row.lead_id, row.status) for row in journeys] == ([("ripe", sato.id, "starting")] if wake else [])
    assert all(one.routed_at is not None for one in events_of(database, sato.id))


def test_a_lead_of_lower_points_keeps_its_stage_unless_the_model_lets_it_fall(database: Database) -> None:
    sato_and_suzuki(database)
    lower = published(database, model(5))
    found = look(database, lower)
    assert [(one.name, one.by) for one in found.down] == [("sato@aoba.example", -25)]
    assert not found.moves
    go(database, lower)
    sato = lead_of(database, "sato@aoba.example")
    assert (sato.score, sato.stage) == (25, "interest")
    falls = [stage("awareness"), stage("interest", when=lead.score >= 50, falls=True), stage("consideration", when=lead.score >= 75)]
    falling = published(database, model(5, stages=falls))
    assert list(look(database, falling).moves) == [("interest", "awareness")]
    go(database, falling)
    assert lead_of(database, "sato@aoba.example").stage == "awareness"
    assert events_of(database, sato.id, "Stage Reached")[-1].properties["from"] == "interest"


def test_a_stage_that_is_gone_and_a_lead_that_is_excluded_and_freed(database: Database) -> None:
    sato_and_suzuki(database)
    store(database, identified("gakusei@univ.example", title="学生"), page("gakusei@univ.example", "/pricing", NOW))
    assert lead_of(database, "gakusei@univ.example").excluded == ["学生"]
    other = published(
        database,
        model(
            60, stages=[stage("cold"), stage("warm", when=lead.score >= 50)],
            exclusions=[exclude("担当者", lead.rank == "担当者")],
        ),
    )  # fmt: skip

    found = look(database, other)
    assert {rule: group.examples for rule, group in found.excluded.items()} == {"担当者": ["suzuki@midori.example"]}
    assert found.freed.examples == ["gakusei@univ.example"]
    go(database, other)

    assert lead_of(database, "sato@aoba.example").stage == "warm"
    assert lead_of(database, "gakusei@univ.example").stage == "warm"
    assert lead_of(database, "suzuki@midori.example").excluded == ["担当者"]
    for email, (before, after) in {"sato@aoba.example": ("interest", "warm"), "suzuki@midori.example": ("awareness", "cold")}.items():
        told = events_of(database, lead_of(database, email).id, "Stage Reached")[-1].properties
        assert (told["from"], told["stage"]) == (before, after)


def test_another_table_gives_other_ranks(database: Database) -> None:
    sato_and_suzuki(database)
    wider = Mapping.load("kind,raw,means\nrank,部長,部長\nrank,担当,部長\nindustry,製造,manufacturing\n")
    new = published(database, model(30), wider)
    go(database, new)
    suzuki = lead_of(database, "suzuki@midori.example")
    assert (suzuki.rank, suzuki.score) == ("部長", 40)
    assert ledger_of(database, suzuki.id, new.version) == [("部長", 20)]


def test_leads_from_before_any_model_are_scored_by_the_first(database: Database) -> None:
    store(database, page("sato@aoba.example", "/pricing", NOW), identified("sato@aoba.example", title="部長"))
    new = published(database, model(60))
    assert look(database, new).leads == 1
    go(database, new)
    sato = lead_of(database, "sato@aoba.example")
    assert (sato.score, sato.stage) == (80, "consideration")
    assert [one.properties["stage"] for one in events_of(database, sato.id, "Stage Reached")] == ["consideration"]
    assert look(database, new).leads == 0


def test_a_stage_that_counts_as_an_event_is_counted(database: Database) -> None:
    """A rule may look at the events that a rescore itself tells."""
    sato_and_suzuki(database)
    chained = model(
        60,
        qualifications=[qualify("mql", when=did(scoring_language.tracked("Stage Reached", stage="consideration")))],
    )
    new = published(database, chained)
    go(database, new)
    sato = lead_of(database, "sato@aoba.example")
    assert (sato.stage, sato.qualification) == ("consideration", "mql")
    assert [one.name for one in events_of(database, sato.id)][-2:] == ["Stage Reached", "Qualified"]


# Equal to scoring from scratch ------------------------------------------------------------------------------------------


def crowd(database: Database, count: int, seed: int = 1) -> list[str]:
    """Leads with random pasts."""
    dice = random.Random(seed)
    emails = [f"lead{number}@aoba.example" for number in range(count)]
    events: list[Incoming] = []
    for email in emails:
        events.append(identified(email, title=dice.choice(["部長", "担当", "学生", "匠"]), industry=dice.choice(["製造", "農業"])))
        for _ in range(dice.randrange(12)):
            at = NOW - timedelta(hours=dice.randrange(24 * 300))
            kind = dice.randrange(4)
            if kind < 2:
                path = dice.choice(["/pricing", "/blog/a", "/products/x", "/careers"])
                events.append(incoming(email, "Page Viewed", at, path=path, seconds=dice.choice([5, 70, 200])))
            elif kind == 2:
                events.append(paper(email, dice.choice(["whitepaper-1", "whitepaper-2", "x"]), at))
            else:
                events.append(incoming(email, "Email Link Clicked", at, mail="hello", verdict=dice.choice(["human", "scanner"])))
    dice.shuffle(events)
    store(database, *events)
    route_all(database)
    return emails


def assert_right(database: Database, new: Scoring, now: datetime = NOW) -> None:
    """Every lead's row is what its events come to; its ledger sums up to that; its events are in their places."""

    def check(session: Session) -> None:
        for one in session.exec(select(Lead)):
            rows = list(session.exec(select(EventRow).where(EventRow.lead_id == one.id)))
            profile = profile_of(one, new.mapping)
            expected = score(new.model, profile, rows, one.scored_at or now)
            assert one.scoring_version == new.version
            assert (one.score, one.topics, one.excluded) == (expected.whole, [*expected.topics], [*expected.excluded])
            stages = new.model.stage_ids
            assert expected.excluded or stages.index(one.stage) >= stages.index(expected.stage)
            assert sorted(row.seq for row in rows) == list(range(1, one.last_seq + 1))
            account = Account.of(one)
            assert account.tally == Tally.of(new.model, rows)
            sums: dict[tuple[str, str | None], float] = {}
            for change in session.exec(select(ScoreChange).where(ScoreChange.lead_id == one.id)):
                key = change.rule, change.message_id
                sums[key] = sums.get(key, 0) + change.points
            assert {key: points for key, points in sums.items() if points} == {
                (reason.rule, reason.event): reason.worth for reason in expected.reasons if reason.worth
            }
            told = [row.properties for row in sorted(rows, key=lambda row: row.seq) if row.name == "Stage Reached"]
            assert not told or told[-1]["stage"] == one.stage
            assert all(one["stage"] == other["from"] for one, other in itertools.pairwise(told))

    database.read_now(check)


@pytest.fixture(scope="module")
def sample() -> LoadedScoring:
    loaded = load_scoring(ROOT)
    assert loaded is not None
    return loaded


@pytest.mark.parametrize("processes", [0, 2])
def test_after_a_rescore_every_lead_is_what_its_events_come_to(
    database: Database, sample: LoadedScoring, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recount, "LEADS_AT_ONCE", 7)
    published(database, model(30))
    crowd(database, 60)
    models = [(sample.model, sample.mapping), (model(60), TABLE), (model(-10), TABLE)]
    for of, mapping in models if processes == 0 else models[:1]:  # processes take seconds to start
        new = published(database, of, mapping)
        seen = look(database, new, processes=processes)
        before = {one.id: one.score for one in database.read_now(lambda s: list(s.exec(select(Lead))))}
        done = go(database, new, processes=processes)
        assert done.leads == seen.leads == 60
        assert_right(database, new)
        after = {one.id: one.score for one in database.read_now(lambda s: list(s.exec(select(Lead))))}
        assert seen.changed == sum(before[id] != after[id] for id in after) == sum(seen.bands.values())
        best = max(after[id] - before[id] for id in after)
        assert seen.up[0].by == best if best > 0 else not seen.up


def test_a_rescore_comes_to_what_the_next_event_of_each_lead_would_come_to(sqlite_url: str, tmp_path: Path, sample: LoadedScoring) -> None:
    first = Database(sqlite_url)
    published(first, model(30))
    crowd(first, 40)
    new = published(first, sample.model, sample.mapping)
    first.close()
    other = f"sqlite:///{tmp_path / 'other.db'}"
    shutil.copy(sqlite_url.removeprefix("sqlite:///"), tmp_path / "other.db")

    def touched(session: Session) -> None:
        row = session.exec(select(PublishedScoring)).one()
        row.active = new.version
        session.flush()
        log = EventLog(NOW)
        for one in session.exec(select(Lead)):
            log.touch(one)
        log.write(session)
        session.execute(EventRow.__table__.update().where(EventRow.__table__.c.routed_at.is_(None)).values(routed_at=NOW))  # type: ignore[attr-defined]

    results = []
    for url, work in ((sqlite_url, lambda database: go(database, new)), (other, lambda database: database.write_now(touched))):
        database = Database(url)
        work(database)
        rows = everything(database)
        database.close()
        results.append({name: rows[name] for name in ("leads", "events")} | {"ledger": ledger(rows["score_changes"])})
    assert results[0] == results[1]


def ledger(rows: list[str]) -> list[str]:
    """Without the numbers, which are those of the writing's order."""
    return sorted(row.partition(", ")[2] for row in rows)


def test_again_counts_all_leads_from_their_events(database: Database) -> None:
    new = sato_and_suzuki(database)
    go(database, new)

    def spoil(session: Session) -> None:
        for one in session.exec(select(Lead)):
            one.score = 999

    database.write_now(spoil)
    assert go(database, new).leads == 0
    assert go(database, new, again=True).leads == 2
    assert_right(database, new)


# What happens meanwhile -------------------------------------------------------------------------------------------------


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], None]]]:
    """What is to happen between the counting and the writing of the first leads."""
    todo: list[Callable[[], None]] = []
    plain = Database.write_now

    def write_now(self: Database, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        if work is recount.write and todo:
            todo.pop()()
        return plain(self, work, *args, **kwargs)

    monkeypatch.setattr(Database, "write_now", write_now)
    yield todo
    assert not todo, "it did not happen"


def test_an_event_that_arrives_between_counting_and_writing_is_not_lost(
    database: Database, between: list[Callable[[], None]]
) -> None:
    new = sato_and_suzuki(database)
    between.append(lambda: store(database, paper("sato@aoba.example", "whitepaper-9", NOW), page("neu@aoba.example", "/pricing", NOW)))
    done = go(database, new)
    assert_right(database, new)
    sato = lead_of(database, "sato@aoba.example")
    assert (sato.score, sato.qualification) == (100, "mql")
    assert done.leads == 2  # one of them by the event itself; nobody twice
    assert sum(points for rule, points in ledger_of(database, sato.id)) == 100
    assert len(events_of(database, sato.id, "Qualified")) == 1


def test_a_change_of_another_process_that_knows_the_model_before_is_counted_once_more(
    database: Database, between: list[Callable[[], None]]
) -> None:
    new = sato_and_suzuki(database)

    def titled(session: Session) -> None:
        one = session.exec(select(Lead).where(Lead.email == "suzuki@midori.example")).one()
        one.title, one.updated_at = "部長", NOW + DAY

    between.append(lambda: database.write_now(titled))
    assert go(database, new).once_more == 1
    assert_right(database, new)
    assert lead_of(database, "suzuki@midori.example").score == 40


def test_a_lead_that_is_erased_meanwhile_stays_erased(database: Database, between: list[Callable[[], None]]) -> None:
    new = sato_and_suzuki(database)

    def erase(session: Session) -> None:
        session.exec(select(Lead).where(Lead.email == "suzuki@midori.example")).one().erased_at = NOW

    between.append(lambda: database.write_now(erase))
    go(database, new)
    assert lead_of(database, "suzuki@midori.example").scoring_version != new.version
    assert look(database, new).leads == 0


def test_whoever_began_before_the_model_was_active_is_waited_for(postgres_database: Database) -> None:
    """A lead that is made under the model before, in a transaction that ends after the walk has passed."""
    database = postgres_database
    new = sato_and_suzuki(database)
    made = threading.Event()
    done: list[None] = []

    def slow(session: Session) -> None:
        store_events(session, [page("neu@aoba.example", "/pricing", NOW)], NOW)
        made.set()
        time.sleep(1.5)

    other = threading.Thread(target=lambda: done.append(database.write_now(slow)))
    other.start()
    assert made.wait(10)
    go(database, new)
    other.join()
    assert_right(database, new)
    assert lead_of(database, "neu@aoba.example").score == 60


KILLED = """
import os, signal, sys
from mebae.store import recount
from mebae.rescoring import rescore
from mebae.store.database import Database
from mebae.store.scoring import scoring_version
from datetime import datetime, UTC
recount.LEADS_AT_ONCE = 5
database = Database(sys.argv[1])
new = database.read_now(lambda s: scoring_version(s, sys.argv[2]))
def progress(done, total):
    if done >= total // 2:
        os.kill(os.getpid(), signal.SIGKILL)
rescore(database, new, clock=lambda: datetime(2026, 11, 1, tzinfo=UTC), progress=progress)
"""


def test_a_rescore_that_is_killed_goes_on_with_the_leads_that_are_left(database: Database) -> None:
    published(database, model(30))
    crowd(database, 40)
    new = published(database, model(60))
    done = subprocess.run([sys.executable, "-c", KILLED, database.url, new.version], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL

    left = database.read_now(recount.how_many, new.version, False)
    assert 15 <= left <= 20
    # Meanwhile those who are left are counted when something comes of them.
    [email, *_] = database.read_now(lambda s: list(s.exec(select(Lead.email).where(Lead.scoring_version != new.version))))
    assert email is not None
    store(database, page(email, "/pricing", NOW))
    assert lead_of(database, email).scoring_version == new.version

    assert look(database, new).leads == left - 1
    assert go(database, new).leads == left - 1
    assert_right(database, new)


def test_leads_with_many_events_come_alone_and_those_with_few_together() -> None:
    leads = [(1, 3), (2, recount.EVENTS_AT_ONCE * 2), (3, 1), (4, 1), *((5 + n, 0) for n in range(recount.LEADS_AT_ONCE))]
    parts = list(recount.pieces(leads))
    assert parts[:2] == [[1], [2]]
    assert [len(part) for part in parts[2:]] == [recount.LEADS_AT_ONCE, 2]
    assert [id for part in parts for id in part] == [id for id, _ in leads]


# A replay in a hurry is a replay -----------------------------------------------------------------------------------------

CALM = model(
    30,
    stages=[
        stage("awareness"),
        stage("interest", when=(lead.score >= 40) | did(visited("/blog"), times=2, within=days(5))),
        stage("consideration", when=(lead.score >= 70) & did(visited("/pricing"), times=2)),
    ],
    fit=[fit("大", lead.company_size >= 50, 10), fit("業種", lead.industry.in_("a", "b") & ~(lead.title == "x"), 5)],
    engagement=[
        engagement("資料", downloaded(), 20, at_most=2, half_life=days(9)),
        engagement("料金", visited("/pricing"), 30, at_most=1, half_life=days(4)),
        engagement("再訪", visits("/blog", times=2, within=days(3)), 15, half_life=days(5)),
        engagement("採用", visited("/careers"), -25, at_most=3, half_life=days(3)),
    ],
    qualifications=[
        qualify("mql", when=(lead.score >= 60) & did(visited("/pricing"))),
        qualify("sql", when=(lead.stage == "consideration") & did(clicked("a*"))),
    ],
)  # fmt: skip
FALLING = model(
    30,
    stages=[
        stage("awareness"),
        stage("interest", when=lead.score >= 25, falls=True),
        stage("consideration", when=(lead.score >= 50) & ~did(attended(), within=days(10)), falls=True),
    ],
    exclusions=[exclude("採用", did(visited("/careers"), times=2)), exclude("学生", lead.tags.has("student"))],
    fit=[fit("古い", lead.since.older_than(days(20)), 7.5)],
    qualifications=[qualify("mql", when=(lead.score < 40) & (lead.score >= 20)), qualify("sql", when=lead.stage.at_least("interest"))],
)  # fmt: skip

RISING = model(
    30,
    stages=[stage("awareness"), stage("interest", when=lead.score >= 30)],
    fit=[],
    engagement=[
        engagement("資料", downloaded(), 20, at_most=2),
        engagement("採用", visited("/careers"), -25, at_most=1, half_life=days(3)),
    ],
    qualifications=[],
)
SINKING = model(
    30,
    stages=[stage("awareness"), stage("interest", when=lead.score >= 15, falls=True)],
    engagement=[engagement("資料", downloaded(), 20, at_most=2, half_life=days(9))],
    qualifications=[],
)
COMING = model(30, engagement=[], fit=[fit("古い", lead.since.older_than(days(15)), 60)], qualifications=[])
MODELS = pytest.mark.parametrize(
    "of", [CALM, FALLING, RISING, SINKING, COMING], ids=["calm", "falling", "rising", "sinking", "coming"]
)

some_events = st.lists(
    st.builds(
        lambda n, hours, name, what: Event(
            f"id{n}", name, {"path": what, "content": what, "mail": what}, NOW - 40 * DAY + timedelta(hours=6 * hours)
        ),
        n=st.integers(0, 10_000),
        hours=st.integers(0, 200),
        name=st.sampled_from(["Page Viewed", "Page Viewed", "Content Downloaded", "Seminar Attended", "Email Link Clicked"]),
        what=st.sampled_from(["/pricing", "/blog", "/careers", "/", "a1"]),
    ),
    max_size=25,
    unique_by=lambda one: one.message_id,
)
some_profile = st.fixed_dictionaries(
    {
        "company_size": st.sampled_from([None, 10, 50, True, "80"]),
        "industry": st.sampled_from(["a", "c", None]),
        "title": st.sampled_from(["x", "学生", 7]),
        "tags": st.sampled_from([[], ["student"]]),
        "since": st.sampled_from([None, NOW - 25 * DAY, NOW - 60 * DAY]),
        "qualification": st.sampled_from(["none", "accepted"]),
    }
).map(Profile)


def patient(of: ScoringModel, profile: Profile, events: Iterable[Event], now: datetime) -> Replay:
    """A replay by the book: `reckon` at every event."""
    tally, moves = Tally(of.version), []
    held, qualified = of.stages[0].id, frozenset[str]()
    moments = itertools.groupby(distinct(events), key=lambda event: event.occurred_at)
    for at, together in [*((at, list(its)) for at, its in moments), (now, [])]:
        for one in together:
            tally.add(of, one)
        if at > now:
            continue
        found = reckon(of, tally, profile, at, held=held)
        by = together[-1].message_id if together else None
        if found.stage != held:
            moves.append(Move(at, "stage", found.stage, by))
        moves += [Move(at, "qualification", to, by) for to in found.qualifications if to not in qualified]
        held, qualified = found.stage, frozenset(found.qualifications)
    return Replay(found, tally, tuple(moves))


@MODELS
@given(some_events, some_profile, st.integers(0, 60))
@settings(max_examples=150)
def test_a_replay_is_what_reckoning_at_every_event_gives(of: ScoringModel, events: Sequence[Event], profile: Profile, day: int) -> None:
    now = NOW - 40 * DAY + timedelta(days=day)
    assert replay(of, profile, events, now) == patient(of, profile, events, now)


@MODELS
@given(some_events, some_profile)
@settings(max_examples=100)
def test_a_condition_as_a_function_says_what_its_evaluation_says(of: ScoringModel, events: Sequence[Event], profile: Profile) -> None:
    facts: Any = facts_at(of, Tally.of(of, events), profile, NOW)
    for condition in of.conditions():
        assert of.quick[id(condition)](facts) is evaluate(condition, facts).value


def test_a_score_that_rises_by_itself_is_seen_at_an_event_that_counts_for_nothing() -> None:
    start = NOW - 20 * DAY
    careers = Event("a", "Page Viewed", {"path": "/careers"}, start)
    papers = [Event(f"p{n}", "Content Downloaded", {}, start + DAY) for n in range(2)]
    home = Event("home", "Page Viewed", {"path": "/"}, start + 10 * DAY)
    [move] = replay(RISING, Profile(), [careers, *papers, home], NOW).moves
    assert (move.at, move.to, move.event) == (home.occurred_at, "interest", "home")


def test_the_sample_asks_only_when_something_counts(sample: LoadedScoring) -> None:
    assert sample.model.only_fades
    assert CALM.only_fades
    assert RISING.only_fades
    assert RISING.rising == {"rule/採用"}
    assert not any(one.only_fades for one in (FALLING, SINKING, COMING))
    assert sample.model.rising == {"rule/採用ページ"}


# Commands ---------------------------------------------------------------------------------------------------------------

WRITTEN = """
from mebae.scoring_language import *

scoring = Scoring(
    ranks=["担当者", "部長"],
    stages=[stage("awareness", title="認知"), stage("interest", title="興味", when=lead.score >= 50)],
    fit=[fit("部長", lead.rank == "部長", 20)],
    engagement=[engagement("料金ページ", visited("/pricing"), POINTS, at_most=1)],
    qualifications=[qualify("mql", when=lead.score >= 60)],
)
"""


class Project:
    """A folder with a scoring model, and a database."""

    def __init__(self, root: Path, database: Database) -> None:
        self.root, self.database = root, database
        (root / "scenarios").mkdir()
        self.table("rank,部長,部長", "rank,担当,担当者")

    def points(self, pricing: int) -> LoadedScoring:
        (self.root / "scenarios" / "scoring.py").write_text(WRITTEN.replace("POINTS", str(pricing)))
        loaded = load_scoring(self.root)
        assert loaded is not None
        return loaded

    def table(self, *rows: str) -> None:
        (self.root / "scenarios" / "mapping.csv").write_text("\n".join(["kind,raw,means", *rows]) + "\n")

    def run(self, *words: str, answer: str = "", code: int = 0) -> str:
        done = CliRunner().invoke(cli.commands, list(words), input=answer)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            assert code == 1, done.output
            return f"{done.output}{done.exception}"
        assert done.exit_code == code, done.output
        return done.output


@pytest.fixture
def project(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("COLUMNS", "200")
    found = Project(tmp_path, database)
    database.write_now(publish_scoring, found.points(30), NOW)
    store(database, identified("sato@aoba.example", title="部長"), page("sato@aoba.example", "/pricing", NOW))
    store(database, identified("takumi@kura.example", title="匠, 主席", industry="農業"))
    route_all(database)
    return found


def test_the_command_asks_after_it_has_said_who_would_move(project: Project) -> None:
    new = project.points(60)

    said = project.run("rescore", "--dry-run")
    assert "changed: engagement '料金ページ' (30 → 60)" in said
    assert "1 of 2 leads would have another score" in said
    assert "sato@aoba.example" in said
    assert "+30" in said
    assert "MQL: 1 leads would become one sato@aoba.example" in said
    assert "2 titles" not in said
    assert "1 titles of 1 leads, 1 industries of 1 leads have no row" in said
    assert "Nothing was written" in said
    published_version = project.database.read_now(lambda s: s.exec(select(PublishedScoring)).one()).published
    assert published_version != new.version

    assert "Nothing was changed" in project.run("rescore", answer="n\n", code=1)
    assert "nobody answers here: add --yes" in project.run("rescore", answer="", code=1)
    assert lead_of(project.database, "sato@aoba.example").score == 50

    said = project.run("rescore", answer="y\n")
    assert f"2 leads are scored by model {new.version}: 2 rows of the ledger, 1 events" in said
    assert "no journey starts from them" in said
    sato = lead_of(project.database, "sato@aoba.example")
    assert (sato.score, sato.qualification) == (80, "mql")

    assert "every lead is scored by model" in project.run("rescore")
    assert "2 leads are scored" in project.run("rescore", "--again", "--yes", "--wake-journeys")


def test_leads_that_move_equally_far_are_named_from_the_top(project: Project) -> None:
    for who in ("b@aoba.example", "a@aoba.example"):
        store(project.database, identified(who), page(who, "/pricing", NOW))
    project.points(60)
    said = project.run("rescore", "--dry-run")
    named = [line.split()[0] for line in said.splitlines() if line.endswith("+30") and "@" in line]
    assert named == ["sato@aoba.example", "a@aoba.example", "b@aoba.example"]


def test_a_stage_that_leads_move_to_is_named_by_its_title(project: Project) -> None:
    text = WRITTEN.replace("POINTS", "30").replace("lead.score >= 60", "lead.score >= 40").replace('"興味"', '"関心"')
    (project.root / "scenarios" / "scoring.py").write_text(text.replace("score >= 50)]", "score >= 20, falls=True)]"))
    store(project.database, identified("bucho@aoba.example", title="部長"))
    said = project.run("rescore", "--yes")
    [line] = [line for line in said.splitlines() if line.startswith("認知")]
    assert line.split() == ["認知", "関心", "1", "bucho@aoba.example"]
    assert "changed: stage 'interest'" in said
    assert "changed: qualification 'mql'" in said


def test_a_broken_model_changes_nothing_and_says_what_is_wrong(project: Project) -> None:
    (project.root / "scenarios" / "scoring.py").write_text(WRITTEN.replace("POINTS", "'many'"))
    assert "料金ページ" in project.run("rescore", "--yes", code=1)
    (project.root / "scenarios" / "scoring.py").unlink()
    assert "every lead is scored" in project.run("rescore", "--yes")  # what is published stays


def test_without_any_model_the_command_says_what_to_write(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database.url)
    said = CliRunner().invoke(cli.commands, ["rescore"])
    assert "there is no scoring model: write" in str(said.exception)


def test_unmapped_titles_and_industries_come_with_lines_that_can_be_pasted(project: Project) -> None:
    found = project.database.read_now(unmapped, Mapping())
    assert found.titles == [("匠, 主席", 1), ("部長", 1)]
    said = project.run("mapping")
    assert "匠, 主席" in said
    assert 'rank,"匠, 主席",' in said.splitlines()
    assert "industry,農業," in said.splitlines()
    assert "担当者" in said

    lines = project.run("mapping", "--lines").splitlines()
    assert lines == ['rank,"匠, 主席",', "industry,農業,"]
    project.table("rank,部長,部長", lines[0] + "部長", lines[1] + "agriculture")
    assert "every title (役職) has a row" in project.run("mapping")
    project.run("rescore", "--yes")
    takumi = lead_of(project.database, "takumi@kura.example")
    assert (takumi.rank, takumi.industry_group, takumi.score) == ("部長", "agriculture", 20)


def test_what_the_page_on_scoring_shows_runs() -> None:
    page = (ROOT / "docs" / "how-to" / "score-leads.md").read_text()
    shown = [part.partition("\n")[2].partition("```")[0] for part in page.split("```python")[1:]]
    assert len(shown) > 5
    names = {name: getattr(scoring_language, name) for name in scoring_language.__all__}
    for code in shown:
        found = dict(names)
        exec(code, found)
        if "scoring" in found:
            assert compile_scoring(found["scoring"], mapping=TABLE).stages
        else:
            lists = ("stages", "fit", "engagement", "exclusions", "qualifications", "topics")
            rules = {name: found[name] for name in lists if isinstance(found.get(name), list)}
            assert rules, code
            rest: dict[str, Any] = {"stages": [stage("awareness"), stage("interest", when=lead.score >= 50)], "ranks": ["担当者", "部長"]}
            compile_scoring(scoring_language.Scoring(**(rest | rules)))
