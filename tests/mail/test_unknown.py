"""Mails of which nobody can say whether they went out: a person sees them, and settles them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session
from typer.testing import CliRunner

from mebae import cli
from mebae.authoring import Scenario, notify_sales, send
from mebae.errors import BadInput, NotFound
from mebae.gate import Gate
from mebae.ledger import RETRIED
from mebae.mail.publishing import publish_mails
from mebae.mail.unknown import SETTLED, SendAgain, listed, settle_sent
from mebae.mailing import MailRules, SendingHours
from mebae.store.database import Database
from mebae.store.tables import Delivery, JourneyRow, Lead
from mebae.timing import Calendar
from tests.leads import publish_scenario
from tests.mail.relays import DROP, HANG
from tests.mail.test_bulk import MAIL, NOON, Post, post


def again(at: Post, rules: MailRules | None = None) -> SendAgain:
    gate = Gate(rules or at.rules, "Asia/Tokyo", Calendar())
    return SendAgain(at.database, at.transport, gate, at.settings, now=lambda: at.now)


def unknown(at: Post) -> list[tuple[int, str | None]]:
    rows, total = at.database.read_now(listed, at.now, limit=100)
    assert total == len(rows)
    return [(row.lead_id, row.raw) for row in rows]


async def lost(at: Post, count: int = 1) -> list[Delivery]:
    """Mails that the server has, or not: the line broke after the final dot."""
    leads = at.leads(count)
    at.relay.script["BODY"] = [DROP] * count
    assert (await at.send(leads)).counts == {"unknown": count}
    at.relay.log.clear()
    return [at.rows()[lead] for lead in leads]


def of_journey(database: Database, lead: int, step: str = "news", **columns: Any) -> int:
    """A journey's delivery that was left in `data` an hour ago; the journey has long ended."""
    graph = publish_scenario(database, Scenario("old", title="古い話", steps=[send("news"), notify_sales("料金ページ", id="tell")]), NOON)

    def write(session: Session) -> int:
        publish_mails(session, "old", {("news", ""): MAIL}, NOON)
        row = JourneyRow(
            cause=f"x{lead}{step}", scenario="old", version=graph.version, lead_id=lead, status="ended", outcome="done", entered_at=NOON
        )
        session.add(row)
        session.flush()
        hour_ago = NOON - timedelta(hours=1)
        sales = step == "tell"
        made = Delivery(
            **{
                "entry": row.entry, "step": step, "lead_id": lead, "kind": "sales" if sales else "marketing", "scope": "old", "mail": step,
                "topic": "" if sales else "news", "message_id": f"<{row.entry}.{step}@x>", "status": "data", "attempt": 1,
                "claimed_at": hour_ago, "data_at": hour_ago,
            } | columns
        )  # fmt: skip
        session.add(made)
        session.flush()
        assert made.id is not None
        return made.id

    return database.write_now(write)


async def test_unknown_mails_are_listed_with_what_is_known_and_others_are_not(database: Database) -> None:
    async with post(database) as at:
        [row] = await lost(at)
        [fine] = at.leads(1)
        await at.send([fine])
        [left, fresh] = at.leads(2)
        of_journey(database, left)
        of_journey(database, fresh, data_at=NOON - timedelta(minutes=2))
        assert dict(unknown(at)) == {row.lead_id: "lost the connection after the message", left: None}


async def test_a_mail_that_the_servers_log_knows_is_kept_as_sent(database: Database) -> None:
    async with post(database) as at:
        [row] = await lost(at)
        database.write_now(settle_sent, row.id, NOON)
        settled = at.rows()[row.lead_id]
        assert (settled.status, settled.reason, settled.sent_at) == ("sent", SETTLED, row.data_at)
        assert unknown(at) == []
        with pytest.raises(BadInput, match="its fate is known"):
            database.write_now(settle_sent, row.id, NOON)
        with pytest.raises(NotFound):
            database.write_now(settle_sent, 999, NOON)


async def test_a_mail_that_never_arrived_is_sent_again_under_its_message_id(database: Database) -> None:
    async with post(database) as at:
        [row] = await lost(at)
        settled = await again(at).send(row.id or 0)
        assert settled.status == "sent"
        [mail] = at.mails
        assert mail["Message-ID"] == row.message_id
        assert mail["Precedence"] == "bulk"
        now = at.rows()[row.lead_id]
        assert (now.status, now.attempt, now.reason) == ("sent", 2, None)
        with pytest.raises(BadInput):
            await again(at).send(row.id or 0)
        assert len(at.mails) == 1


@pytest.mark.parametrize("step", ["news", "tell"])
async def test_a_mail_of_a_journey_that_has_ended_and_one_to_sales_are_sent_again_too(database: Database, step: str) -> None:
    async with post(database) as at:
        [lead] = at.leads(1)
        id = of_journey(database, lead, step)
        assert (await again(at).send(id)).status == "sent"
        [mail] = at.mails
        assert mail["X-Mebae-Scenario"] == "old"
        assert mail["To"].addresses[0].addr_spec == (f"lead{lead}@aoba.example" if step == "news" else "sales@mebae.example")


async def test_a_lead_who_unsubscribed_since_gets_nothing_and_the_mail_stays_unknown(database: Database) -> None:
    async with post(database) as at:
        [row] = await lost(at)
        at.change(Lead, row.lead_id, opted_out_at=NOON)
        settled = await again(at).send(row.id or 0)
        assert (settled.status, settled.why) == ("unknown", "opted-out")
        assert at.mails == []
        assert [lead for lead, _ in unknown(at)] == [row.lead_id]
        assert at.rows()[row.lead_id].attempt == 1


async def test_outside_the_sending_hours_it_is_said_when_it_may_go(database: Database) -> None:
    async with post(database) as at:
        [row] = await lost(at)
        settled = await again(at, MailRules(hours=SendingHours("18:00", "19:00"))).send(row.id or 0)
        assert (settled.status, settled.why) == ("unknown", "quiet-hours")
        assert settled.until is not None
        assert settled.until > NOON


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [("451 later", "unknown", "mail-server-unavailable"), ("550 no such user", "refused", "recipient-refused")],
)
async def test_a_server_that_says_no_to_the_second_try(database: Database, answer: str, status: str, why: str) -> None:
    """A no for now says nothing of the first try: it stays unknown, and nobody but the person comes back to it."""
    async with post(database) as at:
        [row] = await lost(at)
        at.relay.script["RCPT"] = [answer]
        settled = await again(at).send(row.id or 0)
        assert (settled.status, settled.why) == (status, why)
        assert [lead for lead, _ in unknown(at)] == ([row.lead_id] if status == "unknown" else [])
        if status == "unknown":
            assert (await again(at).send(row.id or 0)).status == "sent"


async def test_a_second_try_that_is_lost_too_or_dies_is_listed_again(database: Database) -> None:
    async with post(database) as at:
        [row] = await lost(at)
        at.relay.script["BODY"] = [HANG]
        assert (await again(at).send(row.id or 0)).status == "unknown"
        at.change(Delivery, row.id or 0, status="claimed", reason=RETRIED, claimed_at=NOON - timedelta(hours=1))
        assert [lead for lead, _ in unknown(at)] == [row.lead_id]


async def test_a_mail_that_waits_for_its_second_try_and_is_left_is_listed(database: Database) -> None:
    """Its journey ended meanwhile, or the lead was erased: the first try may have arrived all the same."""
    async with post(database) as at:
        [lead, waits] = at.leads(2)
        of_journey(database, lead, status="postponed", reason=RETRIED, next_at=NOON - timedelta(hours=1))
        of_journey(database, waits, status="postponed", reason=RETRIED, next_at=NOON + timedelta(hours=1))
        assert [lead for lead, _ in unknown(at)] == [lead]


# The commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("DATABASE_URL", sqlite_database.url)
    monkeypatch.setenv("MEBAE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MEBAE_SCENARIOS", str(tmp_path / "scenarios"))
    (tmp_path / "scenarios").mkdir()
    for name, value in {
        "SENDER_EMAIL": "news@mebae.example", "SENDER_POSTAL": "東京都千代田区1-1", "SENDER_CONTACT": "desk@mebae.example",
        "PUBLIC_URL": "https://mebae.example", "TOKEN_KEYS": "20260101:a-secret-of-the-tests",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"MEBAE_{name}", value)
    monkeypatch.setattr("mebae.wiring.world_now", lambda _settings: NOON)

    def command(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli.commands, ["mails", *words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return command


def test_a_person_lists_unknown_mails_and_settles_them(sqlite_database: Database, run: Callable[..., tuple[int, str]]) -> None:
    assert "known" in run("unknown")[1]
    made = [of_journey(sqlite_database, lead) for lead in leads_of(sqlite_database, 2)]
    [gone] = leads_of(sqlite_database, 1, "gone")
    turned_away = of_journey(sqlite_database, gone, status="unknown", reason="opted-out", attempt=2)
    code, said = run("unknown")
    assert code == 0
    assert "3 unknown" in said
    assert "old/news" in said
    assert "not tried again: opted-out" in " ".join(said.split())
    assert "the worker died after the first byte" in said
    assert "@aoba" not in said
    listed_ids = {one["mail"] for one in json.loads(run("unknown", "--json")[1])}
    assert listed_ids == {*made, turned_away}
    assert run("settle", str(made[0]), "--sent") == (0, f"✓ mail {made[0]} is kept as sent\n")
    code, said = run("settle", str(made[0]), "777", "--sent")
    assert code == 1
    assert "777" in said
    assert "2 unknown" in run("unknown")[1]
    for wrong in ((), ("--sent", "--send-again")):
        with pytest.raises(BadInput, match="--send-again"):
            run("settle", str(made[1]), *wrong)


def leads_of(database: Database, count: int, name: str = "lead") -> list[int]:
    def write(session: Session) -> list[int]:
        made = [Lead(email=f"{name}{n}@aoba.example", created_at=NOON, updated_at=NOON) for n in range(count)]
        session.add_all(made)
        session.flush()
        return [lead.id or 0 for lead in made]

    return database.write_now(write)


def test_sending_again_by_command_reaches_the_mail_server_of_the_settings(
    sqlite_database: Database, run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    [lead] = leads_of(sqlite_database, 1)
    id = of_journey(sqlite_database, lead)
    monkeypatch.setenv("MEBAE_SMTP_PORT", "1")
    code, said = run("settle", str(id), "--send-again")
    assert code == 1
    assert "no-consent" in said
    assert "stays unknown" in said
