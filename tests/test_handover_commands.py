"""`mebae handovers` and `mebae calls` as a person uses them, with a database of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import Session, select
from typer.testing import CliRunner

from mebae import calling, cli, handing, wiring
from mebae.handing import Why
from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import Sender
from mebae.mail.sales import sales_notification
from mebae.mail.sales_telling import brief, slack_message
from mebae.sales import Person, SalesRules
from mebae.settings import Settings
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Lead, Telling

RULES = SalesRules(people=(Person(id="inoue", name="井上"), Person(id="hara", name="原", role="field")))
RUN = CliRunner()


@pytest.fixture
def house(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    database, settings = Database(sqlite_url), Settings()
    now = wiring.world_now(settings)

    def write(session: Session) -> None:
        handing.publish_sales(session, RULES, now)
        for n, name in enumerate(("佐藤", "鈴木", "高橋"), 1):
            session.add(Lead(email=f"lead{n}@aoba.example", name=name, company="青葉精機", created_at=now, updated_at=now))
            session.flush()
            locked = lock_lead(session, n)
            assert locked is not None
            if n < 3:
                why = Why(f"command:{n}", "command", message="料金")
                handing.open_or_join(session, locked, why, now, "Asia/Tokyo", settings.calendar())
        calling.ask_for(session, locked, calling.Wanted("command:9", "面談希望", script="予算"), now, "Asia/Tokyo", settings.calendar())

    database.write_now(write)
    yield database
    database.close()


def run(*words: str, code: int = 0) -> str:
    done = RUN.invoke(cli.commands, list(words), env={"COLUMNS": "200"})
    if code == 0:
        assert done.exit_code == 0, (done.output, done.exception)
    else:
        assert done.exit_code != 0 or done.exception is not None
    return done.output + (str(done.exception) if done.exception is not None else "")


def test_hand_overs_are_listed_with_their_ages_and_decided(house: Database) -> None:
    listed = run("handovers")
    assert "佐藤" in listed
    assert "0 h" in listed
    assert "accepted, inoue owns it" in run("handovers", "accept", "1", "--by", "inoue")
    assert "it was so already" in run("handovers", "accept", "1")
    assert "hara owns it" in run("handovers", "pass", "1", "--to", "hara")
    assert "is sql" in run("handovers", "sql", "1", "--note", "予算あり")
    assert "is opportunity" in run("handovers", "opportunity", "1", "--amount", "500")
    assert "is won" in run("handovers", "won", "1", "--amount", "480")
    assert "possible: accept" in run("handovers", "lost", "2", "--reason", "other", code=1)
    assert "did you mean 'too-early'" in run("handovers", "reject", "2", "--reason", "too-erly", code=1)
    assert "is rejected" in run("handovers", "reject", "2", "--reason", "too-early")
    assert "no hand-over like this" in run("handovers")

    def trouble(session: Session) -> None:
        for one in session.exec(select(Telling)):
            one.status, one.reason = "refused", "webhook-host"

    house.write_now(trouble)
    assert "messages by mail were refused for good: webhook-host" in run("handovers")
    assert [one["status"] for one in json.loads(run("handovers", "--status", "closed", "--json"))] == ["won", "rejected"]
    shown = run("handovers", "show", "1")
    assert "予算あり" in shown
    assert "command" in shown


def test_a_lead_is_given_to_sales_by_hand_and_calls_are_recorded(house: Database) -> None:
    assert "hand-over 3 is open, hara is told" in run("handovers", "open", "lead3@aoba.example", "--owner", "hara")
    assert "予算" in run("calls")
    assert "call 1: talked" in run("calls", "done", "1", "--outcome", "talked", "--note", "来月再度")
    assert "no call is to be made" in run("calls")
    assert "talked" in run("calls", "--done")


SETTINGS = MailSettings(Sender("Mebae", "mebae@example.com"), "sales@example.com", language="en")


@pytest.mark.parametrize(
    ("by", "ja", "en"),
    [
        (["--by", "inoue"], "このリードは 井上 さんが手動で引き渡しました。", "This lead was handed over by hand, by 井上."),
        (["--by", "田中"], "このリードは 田中 さんが手動で引き渡しました。", "This lead was handed over by hand, by 田中."),
        ([], "このリードは手動で引き渡されました。", "This lead was handed over by hand."),
    ],
    ids=["of the team", "somebody else", "nobody knows"],
)
def test_sales_is_told_who_gave_it_a_lead_by_hand_and_of_no_mql(
    house: Database, monkeypatch: pytest.MonkeyPatch, by: list[str], ja: str, en: str
) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    said = run("handovers", "open", "lead3@aoba.example", "--why", "電話で相談", *by)
    assert ("--by NAME says who" in said) == (not by)

    def told(session: Session, language: str) -> str:
        telling = session.exec(select(Telling).where(Telling.handover_id == 3, Telling.channel == "mail")).one()
        found = brief(session, telling, replace(SETTINGS, language=language), wiring.world_now(Settings()))
        assert found is not None
        assert "MQL" not in json.dumps(slack_message(found.note), ensure_ascii=False)
        return sales_notification(found.note).text

    for language, words in (("ja", ja), ("en", en)):
        text = house.read_now(told, language)
        assert words in text
        assert "シナリオ" not in text
        assert "scenario" not in text
        assert "MQL" not in text


def test_outcomes_come_from_a_file_and_bad_rows_are_told_by_line(house: Database, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text(
        "メールアドレス,結果,理由,金額,担当\n"
        "lead1@aoba.example,受注,,\"1,200,000\",inoue\n"
        "lead2@aoba.example,失注,other,,\n"
        "lead3@aoba.example,受注,,,\n"
        "lead2@aoba.example,勝ち,,,\n"
        "nobody@aoba.example,受注,,,\n",
        encoding="utf-8",
    )  # fmt: skip
    said = run("handovers", "import", str(path), code=1)
    assert "2 decided, 0 were so already, 3 left out" in said
    assert "line 4: lead3@aoba.example was never handed over" in said
    assert "line 5: '勝ち' is no outcome" in said
    assert "0 decided, 2 were so already" in run("handovers", "import", str(path), code=1)
    won, lost = json.loads(run("handovers", "--status", "closed", "--json"))
    assert (won["status"], won["amount"], lost["status"], lost["reason"]) == ("won", 1200000, "lost", "other")
