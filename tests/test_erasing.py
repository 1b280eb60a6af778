"""A lead asks what is kept of it, and asks to be erased. GDPR arts. 15 and 17; DELIVERY G2."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import select as columns
from sqlmodel import Session, SQLModel, col, select

from mebae import calling, contracts
from mebae.authoring import Scenario, days, downloaded, send, wait
from mebae.erasing import BY_ANOTHER, WHAT_BECOMES, erase_lead, everything_of, tables_of_leads
from mebae.errors import BadInput
from mebae.mail.inbox import Inbox
from mebae.programs import personal
from mebae.resting import Setting
from mebae.showing import SECTIONS, shown
from mebae.store import suppressions
from mebae.store.crm import note_link
from mebae.store.database import Database, lock_lead
from mebae.store.ingest import ConsentGiven, Incoming, store_events
from mebae.store.leads import Who
from mebae.store.tables import (
    Call,
    CrmLink,
    CrmMessage,
    Delivery,
    Event,
    Handover,
    HandoverEvent,
    IntakeRow,
    JourneyRow,
    Lead,
    Link,
    MailAction,
    MailReport,
    Nudge,
    Quarantined,
    SegmentMember,
    TopicChoice,
)
from mebae.timing import Calendar
from tests.house import house
from tests.leads import DAY, NOW, TOKYO, Diary, publish_model, publish_scenario

YUKI = "yuki.kirishima@himawari-kogyo.example"
PERSONAL = (
    "yuki.kirishima", "himawari-kogyo", "霧島", "有希", "ひまわり工業", "03-5555-0142", "抜本的な見直し", "c-88412",
    "203.0.113.77", "browser-of-yuki",
)  # fmt: skip
"""Planted wherever a lead's data can go; none of it may be anywhere in the database afterwards."""

ROOT = Path(__file__).parents[1]
AT = Setting(TOKYO, Calendar())
FOLLOW = Scenario("follow", enters_on=downloaded("whitepaper-*"), steps=[send("thanks"), wait(days(3)), send("more")])


def whole(database: Database) -> str:
    """Every value of every table, as text."""

    def read(session: Session) -> list[str]:
        tables = SQLModel.metadata.sorted_tables
        return [
            f"{table.name}: {value.decode(errors='replace') if isinstance(value, bytes) else value!r}"
            for table in tables
            for row in session.execute(columns(table))
            for value in row
        ]

    return "\n".join(database.read_now(read))


def known_everywhere(database: Database) -> int:
    """Somebody of whom everything that Mebae can hold is there."""
    publish_model(database)
    publish_scenario(database, FOLLOW)
    diary = Diary(database)
    visitor = Incoming(
        message_id="visit-1", name="Page Viewed", properties={"path": "/pricing", "note": "霧島"}, occurred_at=NOW - 40 * DAY,
        received_at=NOW - 40 * DAY, who=Who(anonymous_id="browser-of-yuki"),
    )  # fmt: skip
    database.write_now(store_events, [visitor], NOW - 40 * DAY)
    lead = diary.is_someone(
        YUKI, name="霧島 有希", company="ひまわり工業", title="部長", phone="03-5555-0142", customer_number="c-88412"
    )
    linked = visitor.model_copy(
        update={"message_id": "visit-2", "who": Who(email=YUKI, anonymous_id="browser-of-yuki"), "received_at": NOW}
    )
    database.write_now(store_events, [linked], NOW)
    agreed = ConsentGiven(how="form", source="contact", wording="ご案内メールの受け取りに同意します。")
    diary.does("Form Submitted", 5 * DAY, YUKI, consent=agreed, form="contact", message="抜本的な見直し")
    diary.does("Content Downloaded", DAY, YUKI, content="whitepaper-automation")

    def more(session: Session) -> None:
        event = session.exec(select(Event.id).where(Event.lead_id == lead, Event.name == "Content Downloaded")).one()
        row = JourneyRow(
            cause="event:1:follow", scenario="follow", version="v", lead_id=lead, status="resting", entry_event_id=event,
            step="thanks/wait", entered_at=NOW - DAY, listening=[{"id": "x", "after": 0}], key="霧島の予約",
        )  # fmt: skip
        session.add(row)
        session.flush()
        sent = Delivery(
            entry=row.entry, step="thanks", lead_id=lead, kind="marketing", mail="thanks", message_id="<1@x.example>",
            status="sent", raw=f"250 accepted for {YUKI}", sent_at=NOW - DAY,
        )  # fmt: skip
        session.add(sent)
        session.flush()
        assert sent.id is not None
        session.add_all([
            MailAction(delivery_id=sent.id, kind="open", client="hash-of-203.0.113.77", at=NOW),
            Link(id=1, url=f"https://example.com/form?email={YUKI}", delivery_id=sent.id),
            Link(id=2, url="https://example.com/paper"),
            MailReport(cause="r1", delivery_id=sent.id, lead_id=lead, kind="bounce-soft", raw=f"To: {YUKI}".encode(), at=NOW),
            SegmentMember(segment="hot", lead_id=lead, since=NOW),
            TopicChoice(lead_id=lead, topic="product", wanted=False, at=NOW),
            Quarantined(
                cause="q1", reason="bad", body=f'{{"userId": "{YUKI}"}}'.encode(), received_at=NOW, quarantined_at=NOW
            ),
            CrmLink(system="theirs", lead_id=lead, their_id="c-88412-crm", pushed_at=NOW),
            CrmMessage(system="theirs", key="c-88412-crm@1:accept", their_id="c-88412-crm", created_at=NOW),
            CrmMessage(system="theirs", key="c-88412-crm@2:sql", lead_id=lead, status="done", created_at=NOW),
            Quarantined(cause="q2", reason="bad", body=b'{"userId": "someone@else.example"}', received_at=NOW, quarantined_at=NOW),
        ])  # fmt: skip
        given = Handover(
            cause="command:1", lead_id=lead, status="returned", owner="inoue", why="霧島様より電話", opened_at=NOW, closed_at=NOW
        )
        session.add(given)
        session.flush()
        assert given.id is not None
        session.add(
            HandoverEvent(
                handover_id=given.id, move="accept", status="accepted", version=2, by="crm:theirs", how="crm", owner="inoue",
                cause="crm:theirs:c-88412-crm@2:sql", seq=1, at=NOW,
            )
        )  # fmt: skip

    database.write_now(more)
    return lead


def test_every_table_that_knows_leads_says_what_becomes_of_it_when_one_is_erased() -> None:
    assert set(tables_of_leads()) - {"suppressions", "handover_joins"} == {*WHAT_BECOMES, *BY_ANOTHER}


def test_nothing_of_an_erased_lead_is_left_in_the_database(database: Database) -> None:
    lead = known_everywhere(database)
    assert all(word in whole(database) for word in PERSONAL)

    done = database.write_now(erase_lead, lead, NOW, AT)

    left = whole(database)
    assert [word for word in PERSONAL if word in left] == []
    assert len(done.journeys) == 1
    assert "someone@else.example" in left  # nobody else's data goes
    assert "https://example.com/paper" in left


def test_a_journey_that_an_erasure_ends_is_told_so_although_its_key_is_gone(database: Database) -> None:
    """The key is part of its workflow's id, as a hash: that stays."""
    lead = known_everywhere(database)

    def id_of(session: Session) -> str:
        row = session.exec(select(JourneyRow)).one()
        return contracts.workflow_id(row.scenario, row.lead_id, row.key)

    before = database.read_now(id_of)
    database.write_now(erase_lead, lead, NOW, AT)
    assert database.read_now(id_of) == before
    assert before.count("/") == 3
    assert "霧島" not in before


@pytest.mark.parametrize("key", ["whitepaper-1", "erased:", "erased:霧島", "erased:0123456789abcdef"])
def test_no_key_that_only_looks_like_an_erased_one_stands_in_a_workflow_id(key: str) -> None:
    wiped = contracts.wiped_key(key)
    assert contracts.workflow_id("s", 1, wiped) == contracts.workflow_id("s", 1, key)
    assert contracts.wiped_key(wiped) == wiped
    assert key.removeprefix("erased:") not in contracts.workflow_id("s", 1, key) or key == "erased:"


def test_an_erased_address_gets_no_mail_also_when_it_comes_in_again(database: Database) -> None:
    lead = known_everywhere(database)

    database.write_now(erase_lead, lead, NOW, AT)
    comes_back = Incoming(
        message_id="new-1", name="Form Submitted", occurred_at=NOW, received_at=NOW, who=Who(email=YUKI), traits={"name": "霧島 有希"}
    )
    database.write_now(store_events, [comes_back], NOW + DAY)

    again = Diary(database).lead(YUKI)
    assert again.id != lead
    found = database.read_now(suppressions.find, YUKI)
    assert found is not None
    assert found.reason == "erased"
    assert "himawari" not in found.hash


def test_who_was_erased_and_agrees_by_a_form_gets_no_mail_until_a_person_lifts_it(database: Database) -> None:
    database.write_now(erase_lead, known_everywhere(database), NOW, AT)
    agreed = ConsentGiven(how="form", source="contact", wording="同意します。")
    comes_back = Incoming(
        message_id="new-2", name="Form Submitted", occurred_at=NOW + DAY, received_at=NOW + DAY, who=Who(email=YUKI), consent=agreed
    )
    database.write_now(store_events, [comes_back], NOW + DAY)

    found = database.read_now(suppressions.find, YUKI)
    assert found is not None
    assert found.reason == "erased"
    assert database.write_now(suppressions.lift, YUKI) is not None


def test_a_crm_that_answers_after_the_erasure_leaves_no_trace(database: Database) -> None:
    lead = known_everywhere(database)
    database.write_now(erase_lead, lead, NOW, AT)

    def answered(session: Session) -> None:
        note_link(session, "theirs", lead, NOW, their_id="c-88412-crm", digest="d", written={}, created=True)

    database.write_now(answered)
    assert "c-88412" not in whole(database)


def test_a_call_to_an_erased_lead_is_not_noted(database: Database) -> None:
    lead = known_everywhere(database)

    def ask(session: Session) -> int:
        row = Call(cause="step:1:call:1", lead_id=lead, owner="inoue", opened_at=NOW, due_at=NOW)
        session.add(row)
        session.flush()
        assert row.id is not None
        return row.id

    call = database.write_now(ask)
    database.write_now(erase_lead, lead, NOW, AT)
    with pytest.raises(BadInput, match="was erased"):
        database.write_now(
            lambda session: calling.done(session, call, "talked", by="inoue", how="command", note="霧島様", now=NOW + DAY)
        )
    assert "霧島" not in whole(database)


def test_the_newest_no_counts_against_a_consent_that_comes_late(database: Database) -> None:
    diary = Diary(database)
    lead = diary.is_someone(YUKI)

    def says_no(session: Session, at: datetime) -> bool:
        locked = lock_lead(session, lead)
        assert locked is not None
        return suppressions.unsubscribe(session, locked, at)

    assert database.write_now(says_no, NOW - 3 * DAY)
    assert not database.write_now(says_no, NOW - DAY)  # said again: no news, but the newest word
    agreed = ConsentGiven(how="form", source="contact", wording="同意します。", given_at=NOW - 2 * DAY)
    late = Incoming(
        message_id="late-1", name="Form Submitted", occurred_at=NOW - 2 * DAY, received_at=NOW, who=Who(email=YUKI), consent=agreed
    )
    database.write_now(store_events, [late], NOW)

    assert diary.lead(YUKI).opted_out_at == NOW - DAY
    found = database.read_now(suppressions.find, YUKI)
    assert found is not None
    assert (found.reason, found.at) == ("unsubscribed", NOW - DAY)


def test_what_happened_still_adds_up_after_an_erasure(database: Database) -> None:
    lead = known_everywhere(database)
    before = database.read_now(lambda session: len(session.exec(select(Event).where(Event.lead_id == lead)).all()))

    database.write_now(erase_lead, lead, NOW, AT)

    def read(session: Session) -> None:
        events = session.exec(select(Event).where(Event.lead_id == lead)).all()
        assert len(events) == before
        assert {event.properties == {} for event in events} == {True}
        row = session.exec(select(JourneyRow)).one()
        assert (row.status, row.outcome, row.reason) == ("ended", "exited", "erased")
        assert session.exec(select(Delivery.status)).one() == "sent"
        gone = session.get_one(Lead, lead)
        assert (gone.email, gone.name, gone.attributes, gone.erased_at) == (None, None, {}, NOW)

    database.read_now(read)


def test_erasing_twice_does_nothing_more(database: Database) -> None:
    lead = known_everywhere(database)
    database.write_now(erase_lead, lead, NOW, AT)

    again = database.write_now(erase_lead, lead, NOW + DAY, AT)

    assert again.was_erased
    assert again.journeys == []
    assert database.read_now(lambda session: len(session.exec(select(Nudge)).all())) == 1


def test_a_repeated_event_does_not_bring_an_erased_lead_back(database: Database) -> None:
    lead = known_everywhere(database)
    database.write_now(erase_lead, lead, NOW, AT)
    repeated = Incoming(
        message_id="visit-2", name="Page Viewed", occurred_at=NOW, received_at=NOW, who=Who(email=YUKI, anonymous_id="browser-of-yuki")
    )

    stored = database.write_now(store_events, [repeated], NOW + DAY)

    assert (stored.new, stored.duplicates) == (0, 1)
    assert "yuki.kirishima" not in whole(database)


def test_a_lead_sees_all_that_is_kept_of_it(database: Database) -> None:
    lead = known_everywhere(database)

    told = database.read_now(everything_of, lead)

    text = json.dumps(told, ensure_ascii=False)
    assert [word for word in PERSONAL if word not in text and word != "203.0.113.77"] == []
    assert {"leads", "events", "consents", "deliveries", "mail_reports", "topic_choices", "journeys"} <= set(told)
    assert "someone@else.example" not in text


def test_what_a_lead_is_shown_reads_in_the_words_of_the_house(database: Database) -> None:
    lead = known_everywhere(database)

    told = shown(database.read_now(everything_of, lead))

    text = json.dumps(told, ensure_ascii=False)
    assert [word for word in PERSONAL if word not in text and word != "203.0.113.77"] == [], "nothing of the lead is lost on the way"
    assert told["lead"]["email"] == YUKI
    assert list(told)[:2] == ["lead", "consents"]
    assert {"events", "deliveries", "came_back", "topic_choices", "journeys"} <= set(told)
    assert set(told["events"][0]) == {"name", "properties", "occurred_at", "received_at", "message_id"}
    assert not re.search(r'"(tally|seq|last_seq|listening|text_hash|attempt|lane|routed_at|lead_id)":', text)


def test_every_column_that_knows_a_lead_is_shown_or_is_machinery() -> None:
    assert set(SECTIONS) == {"leads", *WHAT_BECOMES, *BY_ANOTHER}
    for table, section in SECTIONS.items():
        assert set(section.names).isdisjoint(section.machinery)
        assert {*section.names, *section.machinery} == set(SQLModel.metadata.tables[table].c.keys()), table
    page = (ROOT / "docs" / "how-to" / "personal-data.md").read_text()
    assert re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE) == [section.name for section in SECTIONS.values()]


async def test_an_erased_leads_journeys_end_also_parked_ones_and_no_mail_follows(sqlite_database: Database) -> None:
    async with house(sqlite_database) as mebae:
        graph = await mebae.publish(FOLLOW)
        resting = await mebae.lead("rest@aoba.example")
        parked = await mebae.lead("park@aoba.example")
        rows = [await mebae.start(graph, lead) for lead in (resting, parked)]
        mebae.sender.wake()
        await mebae.resting_at("thanks/wait")
        for row in rows:
            await mebae.quiet(row)
        await mebae.handle(rows[1]).execute_update(contracts.PAUSE)

        for lead in (resting, parked):
            await sqlite_database.write(erase_lead, lead, mebae.now(), AT)
        mebae.sender.wake()

        outcomes = [await mebae.handle(row).result() for row in rows]
        assert outcomes == ["exited", "exited"]
        assert len(mebae.relay.mails) == 2  # the two thanks, nothing after them


# The commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def workplace(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MEBAE_STATE", str(tmp_path / "state"))
    return Database(sqlite_url)


def test_the_command_asks_erases_and_empties_the_inbox(
    workplace: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known_everywhere(workplace)
    inbox = Inbox(tmp_path / "state" / "inbox")
    for to in (YUKI, "someone@else.example"):
        inbox.store("hello@mebae.example", [to], f"To: {to}\r\nSubject: x\r\n\r\nx".encode())
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    with pytest.raises(BadInput, match="nothing was erased"):
        personal.erase(YUKI, yes=False)

    personal.erase(YUKI, yes=True)

    said = capsys.readouterr().out
    assert "is erased; ended 1 of its journeys; 1 mails to it are gone" in said
    assert [entry.to for entry in inbox.page()] == ["someone@else.example"]
    workplace.close()


def test_the_command_waits_for_what_came_in_before(
    workplace: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known_everywhere(workplace)
    workplace.write_now(lambda session: session.add(IntakeRow(body=b"{}", events=1, received_at=NOW)))
    monkeypatch.setattr(personal, "PATIENCE", 0.3)

    with pytest.raises(BadInput, match="start the worker"):
        personal.erase(YUKI, yes=True)

    assert workplace.read_now(lambda session: session.exec(select(Lead).where(col(Lead.erased_at).is_(None))).all())
    workplace.close()


def test_the_export_is_a_private_file_that_can_be_read(workplace: Database, tmp_path: Path) -> None:
    known_everywhere(workplace)
    file = tmp_path / "yuki.json"

    personal.export(YUKI, file)

    told = json.loads(file.read_text())
    assert (told["format"], told["lead"]["email"]) == (1, YUKI)
    assert file.stat().st_mode & 0o077 == 0
    workplace.close()


