"""The weekly digest: due once a week, told once to each person, and what it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given as always
from hypothesis import strategies as st
from sqlmodel import Session, col, select
from typer.testing import CliRunner

from mebae import cli, digest, handing
from mebae.clock import WorldClock
from mebae.digest import LATE, last_due, write_due
from mebae.handing import Why
from mebae.mail.digest import digest_mail
from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import Sender
from mebae.sales import Digest, Person, SalesRules
from mebae.sales_channels import SalesMail
from mebae.sales_language import lead
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Telling
from mebae.telling import Teller
from mebae.timing import Calendar
from tests.leads import DAY, NOW, Diary, publish_model
from tests.test_sales_rules import problems
from tests.test_telling import Post

SETTINGS = MailSettings(Sender("Mebae", "mebae@example.com"), "sales@example.com")
WEEKLY = Digest(every="fri", when=lead.score >= 50)
PEOPLE = (
    Person(id="inoue", name="井上", email="inoue@example.com"),
    Person(id="inada", name="稲田", email="inada@example.com", language="en"),
    Person(id="mori", name="森", email="mori@example.com", role="manager"),
)
FRIDAY = NOW  # 2026-04-10, 10:00 in Tokyo


@pytest.fixture
def warm(database: Database) -> Database:
    """Sato (with a colleague) is inoue's, Kato nobody's, Ito has too few points, Rival is kept out."""
    publish_model(database, now=NOW - 200 * DAY)
    database.write_now(handing.publish_sales, SalesRules(people=PEOPLE, digest=WEEKLY), NOW)
    diary = Diary(database, NOW)
    sato = diary.is_someone(name="佐藤 健二", title="部長", industry="製造", company="青葉精機")
    diary.is_someone("ito@aoba-seiki.example", name="伊藤", title="課長")
    diary.is_someone("kato@minato.example", name="加藤", company="港工業", title="部長", industry="製造")
    diary.is_someone("rival@rival.example", name="競合 太郎", company="競合社", title="部長", industry="製造")
    diary.tag("rival@rival.example", "competitor")
    diary.does("Page Viewed", 20 * DAY, path="/pricing")
    diary.does("Seminar Attended", DAY, email="kato@minato.example", seminar="春")
    diary.does("Seminar Attended", DAY, email="rival@rival.example", seminar="春")

    def give(session: Session) -> None:
        locked = lock_lead(session, sato)
        assert locked is not None
        handing.open_or_join(session, locked, Why("command:1", "command", owner="inoue"), NOW, "Asia/Tokyo", Calendar())

    database.write_now(give)
    return database


def told(database: Database) -> list[tuple[str, str]]:
    query = select(Telling.target, Telling.key).where(Telling.what == "digest").order_by(col(Telling.id))
    return database.read_now(lambda session: [(target, key) for target, key in session.exec(query)])


def text_for(database: Database, person: Person | None, language: str = "ja") -> str:
    note = database.read_now(digest.gather, person, SETTINGS, language, NOW)
    assert note is not None
    return digest_mail(note).text


def test_on_friday_each_person_is_told_once_however_often_and_by_whomever_the_job_runs(warm: Database) -> None:
    assert [warm.write_now(write_due, FRIDAY + timedelta(minutes=10 * n), "Asia/Tokyo") for n in range(3)] == [3, 0, 0]
    assert told(warm) == [(one.id, f"digest-2026-04-10-mail-{one.id}") for one in PEOPLE]
    assert warm.write_now(write_due, FRIDAY + timedelta(days=7), "Asia/Tokyo") == 3
    assert len(told(warm)) == 6


def test_what_was_missed_for_more_than_a_day_waits_for_the_next_week(warm: Database) -> None:
    assert warm.write_now(write_due, FRIDAY - timedelta(days=2), "Asia/Tokyo") == 0
    assert warm.write_now(write_due, FRIDAY + timedelta(hours=22), "Asia/Tokyo") == 3


async def test_it_goes_out_by_mail_once_and_again_with_the_same_message_id_after_a_failure(warm: Database) -> None:
    warm.write_now(write_due, FRIDAY, "Asia/Tokyo")
    post = Post()
    teller = Teller(warm, {"mail": SalesMail(warm, post, SETTINGS)}, clock=WorldClock(), machine=lambda: FRIDAY)  # type: ignore[arg-type]
    assert await teller.deliver("mail") == 4  # and the hand-over
    assert await teller.deliver("mail") == 0
    assert sorted(to for to, _ in post.mails) == ["inada@example.com", "inoue@example.com", "inoue@example.com", "mori@example.com"]
    assert sum(b"X-Mebae-Telling: digest-2026-04-10-mail-" in mail for _, mail in post.mails) == 3


def test_everybody_reads_the_own_leads_and_those_of_nobody_and_the_manager_all(warm: Database) -> None:
    inoue, inada, mori = PEOPLE
    for person, sato in ((inoue, True), (inada, False), (mori, True)):
        text = text_for(warm, person)
        assert ("佐藤 健二 様" in text) is sato, person.id
        assert "加藤 様" in text
        assert "担当未定" in text
        assert "伊藤 様" not in text, "too few points"
        assert "競合" not in text, "kept out of scoring"
    assert "担当: 井上" in text_for(warm, mori)


def test_it_says_what_gave_the_points_since_when_who_else_is_there_and_where_to_look(warm: Database) -> None:
    text = text_for(warm, None)
    for words in ("今週の有望リード", "2 名", "セミナー参加", "4/9（木）から", "属性 35", "同じ会社のリード", "伊藤", "営業の回答待ち",
                  "mebae lead show 1", "このうち 1 名に", "青葉精機", "部長", "MQL"):  # fmt: skip
        assert words in text, words
    english = text_for(warm, None, "en")
    for words in ("Warm leads this week", "2 leads", "since Thu 9 Apr", "fit 35", "waits for sales", "Owner: 井上", "No owner yet"):
        assert words in english, words


def test_the_newest_reasons_come_first_and_the_rest_is_counted(warm: Database) -> None:
    rules = SalesRules(people=(Person(id="sales"),), digest=Digest(every="fri", when=lead.score >= 50, most=1))
    warm.write_now(handing.publish_sales, rules, NOW)
    text = text_for(warm, None)
    assert "加藤 様" in text
    assert "佐藤" not in text
    assert "ほか 1 名" in text


def test_without_the_rule_nobody_is_told(warm: Database) -> None:
    warm.write_now(handing.publish_sales, SalesRules(people=PEOPLE), NOW)
    assert warm.write_now(write_due, FRIDAY, "Asia/Tokyo") == 0


@always(st.integers(0, 60 * 24 * 365), st.sampled_from(["mon", "fri", "sun"]))
def test_the_last_due_moment_is_on_its_day_at_its_time_within_the_week(minutes: int, every: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    due = last_due(Digest.model_validate({"every": every, "at": "09:00", "when": WEEKLY.when}), now, "Asia/Tokyo")
    assert due <= now < due + timedelta(days=7)
    local = due.astimezone(ZoneInfo("Asia/Tokyo"))
    assert (f"{local:%a}".lower(), local.hour, local.minute) == (every, 9, 0)
    assert timedelta(hours=12) < LATE < timedelta(days=7)


def test_a_slip_in_the_rule_is_told_with_its_cure(tmp_path: Path) -> None:
    said = problems(
        tmp_path,
        'sales = Sales(people=[person("ito")], digest=digest(every="fri", at="25:00", when=lead.scor >= 50, to=["itoo"]))',
    )
    for words in ("no time of day", "no lead has 'lead.scor'", "did you mean 'ito'"):
        assert words in said


def test_the_command_prints_it_writes_a_page_and_sends_once(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    database = Database(sqlite_url)
    publish_model(database, now=NOW - 200 * DAY)
    run = CliRunner()
    nothing = run.invoke(cli.commands, ["digest"])
    assert "no digest is published" in nothing.output + str(nothing.exception)
    database.write_now(handing.publish_sales, SalesRules(people=PEOPLE, digest=Digest(every="fri", when=lead.score >= 30)), NOW)
    Diary(database, NOW).is_someone(name="佐藤 健二", title="部長", industry="製造", company="青葉精機")
    shown = run.invoke(cli.commands, ["digest", "--for", "mori"])
    assert "佐藤 健二 様" in shown.output
    page = tmp_path / "digest.html"
    assert run.invoke(cli.commands, ["digest", "--html", str(page)]).exit_code == 0
    assert "佐藤 健二 様" in page.read_text(encoding="utf-8")
    assert "3 mail(s)" in run.invoke(cli.commands, ["digest", "--send"]).output
    assert len(told(database)) == 3
    database.close()
