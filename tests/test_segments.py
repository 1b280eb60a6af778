"""Segments: saved conditions that are read with every problem at once, counted and listed by SQL, and agree with Python."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, col, select
from typer.testing import CliRunner

from mebae import cli
from mebae.conditions import evaluate
from mebae.errors import AuthoringError, BadInput, ScenarioError
from mebae.segments import Saved
from mebae.segments_language import Segment, days, did, lead, visited
from mebae.segments_loading import load_segments
from mebae.store import segments
from mebae.store.database import Database
from mebae.store.facts import LeadFacts
from mebae.store.tables import Lead, SegmentRow
from tests.house import store_event

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOT = Saved("hot", "50点以上", lead.score >= 50)


def written(folder: Path, text: str) -> Path:
    """A project whose segments.py says this."""
    (folder / "scenarios").mkdir()
    (folder / "scenarios" / "segments.py").write_text("from mebae.segments_language import *\n" + text)
    return folder


def people(database: Database, *rows: dict[str, Any]) -> list[int]:
    def write(session: Session) -> list[int]:
        leads = [
            Lead(**({"email": f"lead{n}@aoba.example", "created_at": NOW, "updated_at": NOW, "active_at": NOW} | row))
            for n, row in enumerate(rows)
        ]
        session.add_all(leads)
        session.flush()
        return [lead.id or 0 for lead in leads]

    return database.write_now(write)


# The file ------------------------------------------------------------------------------------------------------------


def test_the_samples_segments_are_read(database: Database) -> None:
    found = {one.id: one for one in load_segments(ROOT)}
    assert found["dormant"].title.startswith("休眠")
    for one in found.values():
        assert database.read_now(segments.size_of, one, NOW).now == 0
        assert Saved.load(one.id, one.title, one.dump()) == one


def test_a_project_without_the_file_has_no_segments(tmp_path: Path) -> None:
    assert load_segments(tmp_path) == []


def test_every_problem_of_the_file_comes_at_once(tmp_path: Path) -> None:
    root = written(
        tmp_path,
        'a = Segment("Hot Leads", when=lead.score >= 50)\n'
        'segments = [\n'
        '    a,\n'
        '    Segment("quiet", when=~did(visited(), within=days(0))),\n'
        '    Segment("quiet", when=lead.scor >= 5),\n'
        ']\n',
    )  # fmt: skip
    with pytest.raises(ScenarioError) as refused:
        load_segments(root)
    said = [str(problem) for problem in refused.value.problems]
    assert all(line.startswith("scenarios/segments.py: ") for line in said)
    assert any("lower-case words joined by hyphens" in line for line in said)
    assert any("segment 'quiet': did(…, within=…): a duration of zero" in line for line in said)
    assert any("two segments are called 'quiet'" in line for line in said)
    assert any("segment 'quiet': no lead has 'lead.scor', did you mean 'lead.score'?" in line for line in said)
    assert len(said) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('segments = [Segment("hot", when=lead.score)]', "lead.score alone is no condition"),
        ('segments = [Segment("hot", when=lead.score >= 50 and lead.score <= 80)]', "write (a) & (b)"),
        ('segments = [Segment("hot", when=led.score >= 50)]', "'led' is not defined"),
        ("segments = []", 'there is no segment: write segments = [Segment("dormant"'),
        ('segments = [Segment("hot" when=lead.score)]', "Python can not read this line"),
        ('segments = [Segment("hot", when=lead.stage == "interst")]', "did you mean 'interest'?"),
    ],
)
def test_a_slip_is_answered_with_the_right_spelling(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        load_segments(written(tmp_path, text))
    assert said in str(refused.value)
    assert "scenarios/segments.py" in str(refused.value)


@pytest.mark.parametrize(
    "write",
    [
        lambda: Segment("hot", when=visited("/pricing")),  # type: ignore[arg-type]
        lambda: Segment(7, when=lead.score >= 5),  # type: ignore[arg-type]
        lambda: Segment("hot", title=None, when=lead.score >= 5),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_segment_is_refused_when_it_is_written(write: Callable[[], Segment]) -> None:
    with pytest.raises(AuthoringError):
        write()


# Published -----------------------------------------------------------------------------------------------------------


def test_publishing_follows_the_file(database: Database) -> None:
    database.write_now(segments.publish_segments, [HOT, Saved("old", "", lead.score >= 1)])
    database.write_now(segments.publish_segments, [HOT])
    assert [one.id for one in database.read_now(segments.saved_segments)] == ["hot"]
    gone = database.read_now(segments.find_segment, "old")
    assert gone is not None, "a lead that waits for its day is asked by the condition published last"
    changed = Saved("hot", "60点以上", lead.score >= 60)
    database.write_now(segments.publish_segments, [changed, gone])
    assert database.read_now(segments.saved_segments) == [changed, gone]


def test_a_segment_of_a_newer_worker_is_left_alone(database: Database) -> None:
    database.write_now(segments.publish_segments, [HOT])
    row = SegmentRow(segment="new", condition='{"op":"near","to":"Tokyo"}')
    database.write_now(lambda session: session.add(row))
    assert [one.id for one in database.read_now(segments.saved_segments)] == ["hot"]
    assert database.read_now(segments.find_segment, "new") is None


# Counted and listed --------------------------------------------------------------------------------------------------


def test_sql_and_python_agree_on_the_samples_segments(database: Database) -> None:
    """What the property test of conditions holds for any condition, here for those that we ship, on leads at their edges."""
    old, edge = NOW - 400 * DAY, NOW - 180 * DAY
    ids = people(
        database,
        {"active_at": old, "created_at": old},
        {"active_at": old, "contacted_at": NOW - DAY},
        {"active_at": old, "contacted_at": edge},
        {"active_at": edge},
        {"active_at": edge + timedelta(seconds=1)},
        {"score": 50, "industry_group": "construction"},
        {"score": 49, "industry_group": "logistics"},
        {"qualification": "mql", "active_at": old},
        {"qualification": "mql", "active_at": NOW - DAY},
    )
    database.write_now(store_event, ids[7], "q1", "Qualified", {"qualification": "mql"}, NOW - 60 * DAY)
    found: dict[str, list[int]] = {}
    for one in load_segments(ROOT):
        by_sql = [row.id for row in database.read_now(lambda s, one=one: list(segments.members(s, one, NOW)))]

        def by_python(session: Session, one: Saved = one) -> list[int]:
            leads = session.exec(select(Lead).order_by(col(Lead.id))).all()
            return [lead.id or 0 for lead in leads if evaluate(one.condition, LeadFacts(session, lead, NOW)).value]

        assert by_sql == database.read_now(by_python), one.id
        assert database.read_now(segments.size_of, one, NOW).now == len(by_sql)
        found[one.id] = [ids.index(id) for id in by_sql]
    assert found["dormant"] == [0, 2, 3, 7]
    assert found["hot"] == [5]
    assert found["target-industries"] == [5]
    assert found["mql-without-reaction"] == [7]


def test_a_list_of_thousands_comes_page_by_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "READ_AT_ONCE", 7)
    people(database, *({"score": 40 + n} for n in range(40)))
    listed = database.read_now(lambda session: list(segments.members(session, HOT, NOW)))
    assert [row.score for row in listed] == list(range(50, 80))
    assert [row.score for row in database.read_now(lambda s: list(segments.members(s, HOT, NOW, limit=9)))] == [
        *range(50, 59)
    ]


def test_an_erased_lead_is_in_no_segment(database: Database) -> None:
    people(database, {"score": 90, "erased_at": NOW}, {"score": 90})
    assert database.read_now(segments.size_of, HOT, NOW).now == 1


# Commands ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two segments and a database; where commands run."""
    root = written(
        tmp_path,
        'segments = [Segment("hot", title="50点以上", when=lead.score >= 50), Segment("ab", when=lead.name.is_known())]',
    )
    monkeypatch.chdir(root)
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("COLUMNS", "200")
    database = Database(sqlite_url)
    rows = [{"score": 45 + n, "scored_at": NOW, "company": "青葉製作所"} for n in range(10)]
    people(database, *rows, {"score": 99, "scored_at": NOW - DAY, "name": "=HYPERLINK(0)"})
    database.write_now(segments.publish_segments, load_segments(root)[:1])
    database.close()
    return root


def run(*words: str) -> str:
    done = CliRunner().invoke(cli.commands, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_list_says_how_many_and_how_old_the_scores_are(house: Path) -> None:
    said = run("segments")
    hot = next(line for line in said.splitlines() if line.startswith("hot"))
    assert hot.split() == ["hot", "6", "0", "50点以上"]
    assert "not published yet" in next(line for line in said.splitlines() if line.startswith("ab"))
    assert "hot (the oldest of 2026-03-31 12:00)" in said


def test_members_are_listed_and_exported(house: Path) -> None:
    said = run("segments", "show", "hot", "--limit", "2")
    assert "lead5@aoba.example" in said
    assert "2 of 6 leads" in said
    assert "lead7@aoba.example" not in said
    run("segments", "show", "hot", "--csv", "hot.csv")
    with (house / "hot.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["score"] for row in rows] == ["50", "51", "52", "53", "54", "99"]
    assert rows[0]["company"] == "青葉製作所"
    assert rows[-1]["name"] == "'=HYPERLINK(0)", "no spreadsheet runs what a form brought"
    run("segments", "show", "hot", "--csv", "hot.xlsx")
    with (house / "hot.xlsx").open("rb") as book:
        assert book.read(2) == b"PK", "a workbook, as its name says"


def test_the_list_of_leads_asks_a_segment_as_of_now_before_any_sweep(house: Path) -> None:
    said = run("leads", "--segment", "hot", "--limit", "1")
    assert "1 of 6" in said
    assert "lead4@aoba.example" not in run("leads", "--segment", "hot")


def test_an_unknown_segment_is_answered_with_the_nearest(house: Path) -> None:
    with pytest.raises(Exception, match="segment 'hott' not found, did you mean 'hot'"):
        run("segments", "show", "hott")
    with pytest.raises(BadInput, match="there is no folder no/such: make it first"):
        run("segments", "show", "hot", "--csv", "no/such/folder.csv")


def test_a_sweep_by_hand_and_what_it_would_do(house: Path) -> None:
    said = run("sweep", "--dry-run")
    assert "hot 50点以上: 6 would join, 0 would leave" in said
    assert "lead5@aoba.example" in said
    assert "Nothing was changed." in said
    assert "1 segment: 6 leads joined, 0 left" in run("sweep", "hot")
    assert "1 segment: 0 leads joined, 0 left" in run("sweep")
    hot = next(line for line in run("segments").splitlines() if line.startswith("hot"))
    assert hot.split()[1:3] == ["6", "6"]


def test_check_says_how_many_the_next_sweep_would_start(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (house / "worker.py").touch()
    folder = house / "scenarios" / "warm_up"
    folder.mkdir()
    (folder / "hello.md").write_text("---\nsubject: Hello\n---\nHello\n")
    (house / "scenarios" / "layouts").mkdir(exist_ok=True)
    layout = Path(__file__).parents[1] / "scenarios" / "layouts" / "default.html"
    (house / "scenarios" / "layouts" / "default.html").write_text(layout.read_text())
    head = 'from mebae.authoring import *\nscenario = Scenario("warm-up", steps=[send("hello")], '
    head += 'audience=lead.score != 54, enters_on=joined("hot")'
    (folder / "scenario.py").write_text(f"{head})")
    assert "warm-up: 5 leads would enter at the next sweep of hot\n" in run("check")
    (folder / "scenario.py").write_text(f"{head}, starts_at_most=per_day(2))")
    assert "5 leads would enter at the next sweep of hot: 2 today, the rest on the days after, 2 a day" in run("check")
    (folder / "scenario.py").write_text(f"{head}, starts_at_most=per_day(5))")
    assert "5 leads would enter at the next sweep of hot, today" in run("check")
    run("sweep")
    assert "0 leads would enter" in run("check"), "they have joined"
    (folder / "scenario.py").write_text(f"{head.replace('hot', 'hott')})")
    done = CliRunner().invoke(cli.commands, ["check"])
    assert "did you mean 'hot'?" in done.output
    (folder / "scenario.py").write_text(f"{head})")
    for away in ("sqlite:///no/such/file.db", "postgresql://nobody@127.0.0.1:1/none"):
        monkeypatch.setenv("DATABASE_URL", away)
        assert "would enter" not in run("check")
    assert not Path("no").exists()


def test_segments_know_the_stages_of_the_scoring_model(house: Path) -> None:
    (house / "scenarios" / "scoring.py").write_text(
        "from mebae.scoring_language import *\nscoring = Scoring(stages=[stage('cold'), stage('warm', when=lead.score >= 50)])\n"
    )
    path = house / "scenarios" / "segments.py"
    path.write_text('from mebae.segments_language import *\nsegments = [Segment("warm", when=lead.stage == "warm")]')
    assert "warm" in run("segments")
    path.write_text('from mebae.segments_language import *\nsegments = [Segment("warm", when=lead.stage == "wram")]')
    with pytest.raises(ScenarioError, match="did you mean 'warm'"):
        run("segments")


def test_a_window_is_counted_by_sql(database: Database) -> None:
    [sato, _] = people(database, {}, {})
    database.write_now(store_event, sato, "v1", "Page Viewed", {"path": "/pricing"}, NOW - 5 * DAY)
    asked = Saved("looked", "", did(visited("/pricing"), within=days(30)))
    assert database.read_now(segments.size_of, asked, NOW).now == 1
    assert database.read_now(segments.size_of, asked, NOW + 26 * DAY).now == 0
