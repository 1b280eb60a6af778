"""The commands of broadcasts: the list, the results of a run, a dry run, a send; and what `mebae check` says of them."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import update
from sqlmodel import Session, col, select
from typer.testing import CliRunner

from mebae import cli, wiring
from mebae.ab import difference
from mebae.beside import load_beside
from mebae.broadcast_opening import request_run
from mebae.broadcasts_loading import load_broadcasts
from mebae.loading import scenarios_home
from mebae.publishing import publish
from mebae.store.broadcasts import plan_to_send
from mebae.store.consents import record
from mebae.store.database import Database, lock_lead
from mebae.store.ingest import EventLog
from mebae.store.suppressions import unsubscribe
from mebae.store.tables import Broadcast, Delivery, Lead
from tests.broadcasts import people
from tests.house import LAWFUL

ROOT = Path(__file__).parents[1]
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
MAIL = "---\nsubject: 今月のお知らせ\ntopic: newsletter\n---\nこんにちは\n"
WRITTEN = """
    from mebae.broadcasts_language import *

    broadcast = Broadcast(
        "monthly-news", title="月刊ニュース", to=segment("hot"), mail="news", schedule=every_month(day=1, at="10:00"),
        ab=ab_test(subject("別の件名"), share=40, after=hours(4)), holdout=20,
    )
    """


class Project:
    """A folder with a broadcast, and the database that it is published in."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database = folder, database
        self.home = folder / "scenarios" / "broadcasts" / "monthly_news"

    def write(self, text: str = WRITTEN) -> None:
        (self.home / "broadcast.py").write_text(dedent(text))

    def publish(self) -> None:
        beside = load_beside(scenarios_home(self.folder))
        found = load_broadcasts(self.folder, beside)
        assert not beside.problems

        def write(session: Session) -> None:
            publish(session, [], root=self.folder / "scenarios", now=NOW, segments=beside.segments or (), broadcasts=found)

        self.database.write_now(write)

    def agreed(self, ids: list[int]) -> None:
        def write(session: Session) -> None:
            for id in ids:
                record(session, id, NOW, "form", "test", "はい", f"test:{id}")

        self.database.write_now(write)


@pytest.fixture
def project(tmp_path: Path, sqlite_database: Database, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    for name, value in LAWFUL.items():
        monkeypatch.setenv(f"MEBAE_{name.upper()}", value)
    (tmp_path / "worker.py").write_text("")
    home = tmp_path / "scenarios"
    (home / "broadcasts" / "monthly_news").mkdir(parents=True)
    (home / "segments.py").write_text(
        'from mebae.segments_language import *\nsegments = [Segment("hot", title="50点以上", when=lead.score >= 50)]\n'
    )
    shutil.copytree(ROOT / "scenarios" / "layouts", home / "layouts")
    (home / "broadcasts" / "monthly_news" / "news.ja.md").write_text(MAIL)
    made = Project(tmp_path, sqlite_database)
    made.write()
    return made


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli.commands, list(words), catch_exceptions=code != 0)
    assert done.exit_code == code, done.output
    return done.output if code == 0 else f"{done.output}{done.exception}"


# The list ------------------------------------------------------------------------------------------------------------


def test_the_list_says_when_each_goes_out_next_and_what_is_not_published_yet(project: Project) -> None:
    line = next(line for line in run("broadcasts").splitlines() if line.startswith("monthly-news"))
    assert "hot" in line
    assert "every month on day 1 at 10:00" in line
    assert "-01 10:00 *" in line
    project.publish()
    said = run("broadcasts")
    assert "*" not in said
    assert "月刊ニュース" in said
    project.write(WRITTEN.replace("day=1", "day=2"))
    assert "-02 10:00 *" in run("broadcasts"), "edited, and no worker has read it"


def test_without_any_it_says_how_to_write_one(project: Project) -> None:
    shutil.rmtree(project.home)
    assert "write one into scenarios/broadcasts/" in run("broadcasts")
    assert "broadcast 'monthly-news' not found" in run("broadcasts", "show", "monthly-news", code=1)


# Sending -------------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_who_would_get_it_and_whom_the_gate_would_refuse(project: Project) -> None:
    project.publish()
    hot, _ = people(project.database, 12, score=60), people(project.database, 5)
    project.agreed(hot[:9])
    project.database.write_now(lambda session: unsubscribe(session, lock_lead(session, hot[0]), NOW))  # type: ignore[arg-type]
    said = run("broadcasts", "send", "monthly-news", "--dry-run")
    assert "12 leads in hot" in said
    assert "8 would get it at once" in said
    assert "3 would be refused: no-consent" in said
    assert "1 would be refused: opted-out" in said
    assert "20 percent are held out" in said
    assert "Nothing was sent." in said
    named = run("broadcasts", "send", "monthly-news", "--dry-run", "--to", "lead13@aoba.example")
    assert "1 lead that was named" in named
    assert project.database.read_now(lambda session: session.exec(select(Broadcast)).all()) == []
    assert project.database.read_now(lambda session: session.exec(select(Delivery)).all()) == []


def test_a_dry_run_and_a_check_say_who_would_read_it_in_another_language(project: Project) -> None:
    project.publish()
    ids = people(project.database, 6, score=60)
    project.agreed(ids[:5])

    def speak(session: Session) -> None:
        for id, language in zip(ids, ("en-GB", "en", "en", "fr", "ja", "de"), strict=True):
            session.get_one(Lead, id).language = language

    project.database.write_now(speak)
    words = "in another language than theirs (2 en → ja, 1 en-GB → ja, 1 fr → ja)"
    assert f"4 of them {words}" in run("broadcasts", "send", "monthly-news", "--dry-run")
    assert f"5 of 6 leads would get it now, 4 of them {words}, 1 would be refused" in run("check")
    (project.home / "news.en.md").write_text(MAIL)
    assert "1 of them in another language than theirs (1 fr → ja)" in run("check")
    (project.home / "news.md").write_text(MAIL)
    assert "another language" not in run("check"), "a text for every language is nobody's foreign one"


def test_a_check_says_which_mails_of_a_scenario_have_no_text_in_its_leads_language(project: Project) -> None:
    home = project.folder / "scenarios" / "follow"
    home.mkdir()
    (home / "scenario.py").write_text(
        "from mebae.authoring import *\n"
        'scenario = Scenario("follow", title="追客", enters_on=downloaded("*"), audience=lead.score >= 50,\n'
        '    steps=[send("thanks"), wait(days(1)), send("case"), end("done")])\n'
    )
    for name in ("thanks.ja.md", "case.ja.md", "thanks.en.md"):
        (home / name).write_text(MAIL)
    ids = people(project.database, 3, score=60)
    people(project.database, 2)

    def speak(session: Session) -> None:
        for one in session.exec(select(Lead).where(col(Lead.id).not_in(ids[:1]))):
            one.language = "en"

    project.database.write_now(speak)
    said = run("check", "follow")
    assert "follow/scenario.py: 2 leads read en, and would get 1 of its 2 mails in ja: case; " in said
    assert "a file such as case.en.md" in said
    (home / "case.en.md").write_text(MAIL)
    assert "leads read" not in run("check", "follow")


def test_a_dry_run_at_night_says_when_the_mails_would_go(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.folder / "scenarios" / "mailing.py").write_text(
        "from mebae.mailing_language import *\n"
        'mailing = Mailing(topics=[topic("newsletter", ja="お知らせ", en="News")], hours=between("08:00", "20:00"))\n'
    )
    project.publish()
    hot = people(project.database, 3, score=60)
    project.agreed(hot[:2])
    night = datetime(2027, 4, 1, 23, 30, tzinfo=ZoneInfo("Asia/Tokyo")).astimezone(UTC)
    monkeypatch.setattr(wiring, "world_now", lambda settings: night)
    said = run("broadcasts", "send", "monthly-news", "--dry-run")
    assert re.search(
        r"2 would wait until 2027-04-02 08:0\d( to 2027-04-02 08:0\d)? \(Asia/Tokyo\): "
        r"quiet-hours \(it is outside the hours for mail where they are\)",
        said,
    )
    assert "1 would be refused: no-consent (nobody recorded that they agreed to get mail, nor an exemption)" in said
    assert re.search(r"0 of 3 leads would get it now, 2 later \(from 2027-04-02 08:0\d on\), 1 would be refused", run("check"))


def test_a_dry_run_and_a_check_name_the_settings_that_are_missing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.publish()
    project.agreed(people(project.database, 1, score=60))
    said = run("broadcasts", "send", "monthly-news", "--dry-run")
    assert "1 lead in hot" in said
    assert "1 would get it at once" in said
    assert "1 of 1 lead would get it now" in (said := run("check", "monthly-news"))
    assert "footer-unset" not in said
    for name in ("MEBAE_SENDER_POSTAL", "MEBAE_SENDER_CONTACT"):
        monkeypatch.delenv(name)
    named = "not set here: MEBAE_SENDER_POSTAL, MEBAE_SENDER_CONTACT; set them for the worker"
    said = run("broadcasts", "send", "monthly-news", "--dry-run")
    assert f"1 would wait until the settings are there: footer-unset ({named}" in said
    said = run("check", "monthly-news")
    assert "0 of 1 lead would get it now, 1 once the settings are there (footer-unset)" in said
    assert f"marketing mail waits (footer-unset): {named}" in said


def test_a_check_meets_the_house_that_runs_as_a_dry_run_does(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project.publish()
    project.agreed(people(project.database, 1, score=60))
    environment = {"DATABASE_URL": os.environ["DATABASE_URL"], "TEMPORAL_ADDRESS": "127.0.0.1:1"}
    for name in [name for name in os.environ if name.startswith(("MEBAE_", "DATABASE_", "TEMPORAL_"))]:
        environment.setdefault(name, os.environ[name])
        monkeypatch.delenv(name)
    key = environment.pop("MEBAE_TOKEN_KEYS")
    state = tmp_path / ".mebae"
    state.mkdir()
    (state / wiring.RUNNING).write_text(json.dumps({"pid": os.getpid(), "environment": environment}))
    (state / wiring.TOKEN_KEY).write_text(key)
    try:
        assert "1 of 1 lead would get it now" in (said := run("check", "monthly-news"))
        assert "footer-unset" not in said
    finally:
        for name in (*environment, "MEBAE_TOKEN_KEYS"):
            os.environ.pop(name, None)


def test_a_send_is_recorded_once_while_temporal_is_away(project: Project) -> None:
    project.publish()
    people(project.database, 3, score=60)
    refused = CliRunner().invoke(cli.commands, ["broadcasts", "send", "monthly-news"], input="n\n")
    assert "3 leads in hot" in refused.output
    assert "nothing was sent" in str(refused.exception)
    for _ in range(2):
        said = run("broadcasts", "send", "monthly-news", "--yes", "--command", "april")
        assert "is recorded; Temporal does not answer" in said
    assert "is still under way" in said
    [row] = project.database.read_now(lambda session: session.exec(select(Broadcast)).all())
    assert (row.cause, row.status, row.workflow_id) == ("command:monthly-news:april", "starting", f"broadcast/monthly-news/{row.id}")


def test_who_edited_the_file_is_told_what_is_sent(project: Project) -> None:
    project.publish()
    assert "was edited" not in run("broadcasts", "send", "monthly-news", "--dry-run")
    project.write(WRITTEN.replace("holdout=20", "holdout=30"))
    said = run("broadcasts", "send", "monthly-news", "--dry-run")
    assert "its file was edited since the worker started" in said
    assert "20 percent are held out" in said


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(project: Project) -> None:
    assert "start the worker once" in run("broadcasts", "send", "monthly-news", "--dry-run", code=1)
    project.publish()
    assert "did you mean 'monthly-news'" in run("broadcasts", "send", "monthly-new", "--dry-run", code=1)
    assert "run '7' not found" in run("broadcasts", "pause", "7", code=1)


# Results -------------------------------------------------------------------------------------------------------------


def a_run(project: Project) -> int:
    """A run that is done, with a test that b has won; half of the mails were opened."""
    project.publish()
    ids = people(project.database, 100, score=60)
    plan = project.database.read_now(plan_to_send, "monthly-news")

    def write(session: Session) -> int:
        row = request_run(session, plan, "april", NOW - 2 * DAY)
        row.status, row.outcome, row.started_at, row.ended_at, row.winner = "done", "completed", NOW - 2 * DAY, NOW, "b"
        numbers = {id: {"sent": 20, "delivered": 20, "opens": 9, "clicks": clicks} for id, clicks in (("a", 2), ("b", 7))}
        row.decision = {"at": NOW.isoformat(), "by": "clicks", "why": "most", "variants": numbers}
        row.counts = {"total": 100, "sent": 78, "refused": 2, "holdout": 20}
        for number, id in enumerate(ids):
            variant = "a" if number < 20 else "b" if number < 40 else None
            one = Delivery(
                broadcast_id=row.id, lead_id=id, kind="marketing", scope="monthly-news", mail="news", variant=variant,
                message_id=f"<{id}>", status="sent", sent_at=NOW - 2 * DAY,
            )  # fmt: skip
            if number >= 80:
                one.status, one.reason, one.sent_at = "refused", "holdout", None
            elif number >= 78:
                one.status, one.reason, one.sent_at = "refused", "no-consent", None
            elif number % 2:
                one.opened_at = one.clicked_at = NOW - DAY
            if number == 0:
                one.bounced_at = NOW - DAY
            session.add(one)
        session.flush()
        log = EventLog(NOW - DAY)
        for id in [*ids[:40], *ids[80:84]]:
            log.add(lock_lead(session, id), f"visit:{id}", "Page Viewed", {"path": "/pricing"})  # type: ignore[arg-type]
        log.write(session)
        delivery = session.exec(select(Delivery).where(Delivery.lead_id == ids[2])).one()
        unsubscribe(session, lock_lead(session, ids[2]), NOW - DAY, delivery=delivery, topic="newsletter")  # type: ignore[arg-type]
        assert row.id is not None
        return row.id

    return project.database.write_now(write)


def test_a_runs_results_are_shown_with_the_test_and_the_holdout(project: Project) -> None:
    id = a_run(project)
    said = run("broadcasts", "show", "monthly-news")
    lines = {line.split()[0].strip(":"): line for line in said.splitlines() if line.strip()}
    assert lines[str(id)].split()[4:] == ["██████████", "100", "%", "of", "100", "78", "2", "0", "0", "20"]
    assert "← won" in lines["b"]
    assert "別の件名" in lines["b"]
    assert lines["all"].split() == ["all", "78", "77", "39", "(50.6%)", "39", "(50.6%)", "1", "(1.3%)", "0", "(0.0%)", "1", "(1.3%)"]
    assert "b, the most clicks of persons for each mail delivered (clicks then: a 2 of 20, b 7 of 20)" in said
    assert "2 no-consent" in said
    assert lines["held"].split() == ["held", "out", "20", "4", "(20.0%)", "0", "(0.0%)"]
    assert lines["got"].split() == ["got", "the", "mail", "80", "40", "(50.0%)", "0", "(0.0%)"]
    assert "did something: +30.0 points with the mail (95 %: +5.9 to +46.0)" in said
    assert "became MQL: +0.0 points with the mail (95 %: -16.1 to +4.6): chance alone may be it" in said


def test_results_are_there_for_programs(project: Project) -> None:
    id = a_run(project)
    told = json.loads(run("broadcasts", "show", "monthly-news", "--run", str(id), "--json"))
    assert told["results"]["clicks"] == 39
    assert told["variants"]["b"] == {
        "mails": 20, "sent": 20, "delivered": 20, "opens": 10, "clicks": 10, "unsubscribes": 0, "complaints": 0, "bounces": 0,
    }  # fmt: skip
    assert told["holdout"]["held"] == {"leads": 20, "active": 4, "qualified": 0}
    assert told["reasons"] == {"no-consent": 2}
    assert "run '99' not found" in run("broadcasts", "show", "monthly-news", "--run", "99", code=1)


def test_an_unsubscribe_is_the_runs_by_whose_mail_it_was_said(project: Project) -> None:
    """The next issue's unsubscribes are not counted for this one too."""
    id = a_run(project)

    def the_next(session: Session) -> None:
        plan = plan_to_send(session, "monthly-news")
        row = request_run(session, plan, "may", NOW - 1.5 * DAY)
        row.started_at = NOW - 1.5 * DAY

    project.database.write_now(the_next)
    told = json.loads(run("broadcasts", "show", "monthly-news", "--run", str(id), "--json"))
    assert told["results"]["unsubscribes"] == 0


def test_before_the_first_run_there_is_nothing_to_show(project: Project) -> None:
    assert "It has not gone out yet." in run("broadcasts", "show", "monthly-news")
    assert json.loads(run("broadcasts", "show", "monthly-news", "--json")) is None


def test_a_run_that_is_over_cannot_be_steered(project: Project) -> None:
    id = a_run(project)
    assert f"run {id} of monthly-news is over since" in run("broadcasts", "end", str(id), code=1)


def test_the_difference_of_small_shares_has_a_wide_interval() -> None:
    assert difference((0, 0), (1, 2)) is None
    found = difference((1, 10), (0, 10))
    assert found is not None
    assert found.low < 0 < found.high


# mebae check ---------------------------------------------------------------------------------------------------------


def test_check_says_how_many_would_get_it_today(project: Project) -> None:
    assert "0 of 0 leads would get it now" in run("check")
    ids = people(project.database, 7, score=60)
    project.agreed(ids[:4])
    assert "4 of 7 leads would get it now, 3 would be refused" in run("check", "monthly-news")


def test_check_lists_what_is_wrong_and_a_day_that_is_past(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(WRITTEN.replace('segment("hot")', 'segment("hott")'))
    assert "segment 'hott' not found, did you mean 'hot'?" in run("check", code=1)
    past = WRITTEN.replace('every_month(day=1, at="10:00")', 'on("2024-01-09", at="10:00")')
    project.write(past)
    assert 'on("2024-01-09", …) is past, and it was never sent' in run("check", code=1)
    project.publish()
    project.database.write_now(request_run, project.database.read_now(plan_to_send, "monthly-news"), "c", NOW)
    assert "on 2024-01-09 at 10:00, which is past" in run("check"), "it was sent: an old file stops nobody"
    monkeypatch.setenv("DATABASE_URL", "sqlite:///no/such/file.db")
    assert "which is past" in run("check")


def test_a_lead_that_is_gone_from_a_run_breaks_no_result(project: Project) -> None:
    id = a_run(project)
    project.database.write_now(lambda session: session.execute(update(Lead).where(col(Lead.id) < 5).values(erased_at=NOW)))
    assert json.loads(run("broadcasts", "show", "monthly-news", "--run", str(id), "--json"))["results"]["sent"] == 78
