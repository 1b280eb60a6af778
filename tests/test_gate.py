"""The gate at work on the database: consent, suppression, topics, and caps that two mails race for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import event as sql_event
from sqlmodel import Session, col, select

from mebae.gate import Answer, Gate
from mebae.journey import Postponed
from mebae.mailing import Cap, MailRules, SendingHours, Topic
from mebae.store import suppressions
from mebae.store.consents import Given, consents_of, purge, record, record_all, withdraw
from mebae.store.database import Database
from mebae.store.ingest import ConsentGiven
from mebae.store.suppressions import address_hash, salt_of
from mebae.store.tables import Consent, Delivery, GateRow, Lead, Suppression, TopicChoice, Workspace
from mebae.timing import Calendar, Duration
from mebae.words import DeliveryKind, DeliveryStatus
from tests.desk import DAY, NOON, SATO, Desk

WEEKLY = Cap(2, Duration(days=7))
FREE = Topic("reply", capped=False, at_any_time=True)


# Consent --------------------------------------------------------------------------------------------------------------


def test_lead_of_whom_nothing_is_recorded_gets_no_mail_and_the_row_says_so(database: Database) -> None:
    desk = Desk(database)
    lead = desk.lead(basis=None)
    mail = desk.mail(lead, attempt=2)
    assert desk.why(lead, mail, moment="data") == "no-consent"
    [row] = database.read_now(lambda session: session.exec(select(GateRow)).all())
    assert (row.lead_id, row.delivery_id, row.scope, row.mail, row.attempt) == (lead, mail, "news", "mail-1", 2)
    assert (row.moment, row.answer, row.reason, row.until, row.asked_at) == ("data", "refused", "no-consent", None, NOON)


def test_business_card_is_a_ground_of_its_own_and_can_be_withdrawn(database: Database) -> None:
    desk = Desk(database)
    lead = desk.lead(basis=None)
    database.write_now(record, lead, NOON, "business-card", "expo", "", "row 1")
    assert [one.basis for one in database.read_now(consents_of, lead)] == ["business-card"]
    assert desk.why(lead) is None
    assert desk.write(lead, lambda session, row: withdraw(session, row.id, NOON, basis="dealings")) == 0
    assert desk.write(lead, lambda session, row: withdraw(session, row.id, NOON)) == 1
    assert desk.why(lead) == "consent-withdrawn"


def test_opt_out_overrides_every_ground(database: Database) -> None:
    desk = Desk(database)
    lead = desk.lead(basis="dealings")
    assert desk.write(lead, suppressions.unsubscribe, NOON, how="one-click")
    assert desk.why(lead) == "opted-out"
    assert not desk.write(lead, suppressions.unsubscribe, NOON + DAY), "a second click is no news"
    assert desk.events(lead) == [("Unsubscribed", {"how": "one-click"})]


def test_list_that_says_they_agreed_brings_nobody_back_who_unsubscribed(database: Database) -> None:
    desk = Desk(database)
    lead = desk.lead()
    desk.write(lead, suppressions.unsubscribe, NOON)
    later = Given(lead, NOON + DAY, "import", "expo", "", "import:1")
    database.write_now(record_all, [later])
    assert desk.why(lead) == "opted-out"


@pytest.mark.parametrize(("how", "comes_back"), [("form", True), ("telephone", False), ("business-card", False)])
def test_lead_that_ticks_the_box_again_gets_mail_again(database: Database, how: str, comes_back: bool) -> None:
    desk = Desk(database)
    lead = desk.lead()
    desk.write(lead, suppressions.unsubscribe, NOON)
    desk.now += DAY
    desk.happens("Form Submitted", consent=ConsentGiven(how=how, source="contact", wording="はい"))
    assert desk.why(lead) == (None if comes_back else "opted-out")
    said = [name for name, _ in desk.events(lead)]
    assert ("Resubscribed" in said) == comes_back
    assert (database.read_now(suppressions.find, SATO) is None) == comes_back


def test_box_ticked_before_the_unsubscribe_and_delivered_after_it_lifts_nothing(database: Database) -> None:
    desk = Desk(database)
    lead = desk.lead()
    desk.write(lead, suppressions.unsubscribe, NOON)
    desk.now += DAY
    desk.happens("Form Submitted", consent=ConsentGiven(how="form", given_at=NOON - DAY))
    assert desk.why(lead) == "opted-out"
    assert [name for name, _ in desk.events(lead)] == ["Unsubscribed", "Form Submitted"]
    assert database.read_now(lambda session: session.get_one(Lead, lead).opted_out_at) == NOON


@pytest.mark.parametrize(("reason", "word"), [("hard-bounce", "bounced"), ("complaint", "complained"), ("by-hand", "suppressed")])
def test_no_consent_lifts_a_bounce_or_a_complaint(database: Database, reason: Any, word: str) -> None:
    desk = Desk(database)
    lead = desk.lead()
    desk.write(lead, suppressions.unsubscribe, NOON)
    database.write_now(suppressions.add, SATO, reason, NOON)
    desk.now += DAY
    desk.happens("Form Submitted", consent=ConsentGiven(how="form"))
    assert desk.why(lead) == word


def test_backend_that_tells_of_an_unsubscribe_is_heard(database: Database) -> None:
    """Segment's own name for it; and a consent that is taken back."""
    desk = Desk(database, MailRules(topics=(Topic("seminar"), Topic("product"))))
    first, second, third = desk.lead(), desk.lead("ito@aoba.example"), desk.lead("kato@aoba.example")
    desk.happens("Unsubscribed")
    desk.happens("Lead Identified", email="ito@aoba.example", consent=ConsentGiven(how="crm", withdrawn=True))
    desk.happens("Topic Unsubscribed", email="kato@aoba.example", topic="seminar")
    assert desk.why(first) == desk.why(second) == "opted-out"
    assert [name for name, _ in desk.events(second)] == ["Unsubscribed", "Lead Identified"]
    assert desk.why(third, desk.mail(third, topic="seminar")) == "topic-not-wanted"
    assert desk.why(third, desk.mail(third, topic="product")) is None


def test_records_are_removed_years_after_the_last_mail_and_never_while_they_hold(database: Database) -> None:
    desk = Desk(database)
    living = desk.lead()
    erased = desk.lead(None, erased_at=NOON)
    mailed = desk.lead("kato@aoba.example", opted_out_at=NOON)
    desk.mail(mailed, DeliveryStatus.SENT, ago=-2 * 365 * DAY)

    def years(after: timedelta) -> int:
        return database.write_now(purge, NOON + after, 500, years=3.0)

    assert years(3 * 365 * DAY) == 0
    assert years(1100 * DAY) == 1, "the erased lead's"
    assert years((365 * 5 - 1) * DAY) == 0, "the mail is not that old"
    assert years((365 * 5 + 2) * DAY) == 1
    kept = database.read_now(lambda session: session.exec(select(Consent.lead_id)).all())
    assert list(kept) == [living]
    assert erased not in kept


# Suppression and topics -----------------------------------------------------------------------------------------------


def test_suppressed_address_stays_so_for_a_lead_that_is_made_anew(database: Database) -> None:
    """It is kept as a keyed hash: the list outlives the lead, and tells nobody's address."""
    desk = Desk(database)
    assert database.write_now(suppressions.add, " SATO@Aoba.example ", "complaint", NOON)
    assert not database.write_now(suppressions.add, SATO, "unsubscribed", NOON), "a weaker reason changes nothing"
    assert desk.why(desk.lead()) == "complained"
    [row] = database.read_now(lambda session: session.exec(select(Suppression)).all())
    assert row.hash == address_hash(database.read_now(salt_of), SATO)
    assert "sato" not in row.hash
    assert database.write_now(suppressions.lift, SATO) is not None
    assert database.write_now(suppressions.lift, SATO) is None


def test_unsubscribe_is_of_the_person_and_a_bounce_of_the_address(database: Database) -> None:
    desk = Desk(database)
    unsubscribed, bounced = desk.lead(), desk.lead("ito@aoba.example")
    desk.write(unsubscribed, suppressions.unsubscribe, NOON)
    database.write_now(suppressions.add, "ito@aoba.example", "hard-bounce", NOON)
    for lead in (unsubscribed, bounced):
        desk.write(lead, lambda _session, row: setattr(row, "email", f"new-{row.email}"))
    assert desk.why(unsubscribed) == "opted-out"
    assert desk.why(bounced) is None


def test_lead_that_wants_no_more_of_a_topic_still_gets_the_others(database: Database) -> None:
    desk = Desk(database)
    lead = desk.lead()
    seminar = desk.mail(lead, topic="seminar")
    letter = database.read_now(lambda session: session.get_one(Delivery, seminar))
    assert desk.write(lead, suppressions.unsubscribe, NOON, delivery=letter, topic="seminar", how="preferences")
    assert not desk.write(lead, suppressions.unsubscribe, NOON, topic="seminar")
    assert desk.why(lead, seminar) == "topic-not-wanted"
    assert desk.why(lead, desk.mail(lead, topic="product")) is None
    assert desk.events(lead) == [
        ("Topic Unsubscribed", {"topic": "seminar", "how": "preferences", "mail": "mail-1", "scenario": "news"})
    ]
    assert desk.write(lead, lambda session, row: suppressions.choose_topic(session, row.id, "seminar", wanted=True, now=NOON))
    assert desk.why(lead, seminar) is None
    assert len(database.read_now(lambda session: session.exec(select(TopicChoice)).all())) == 1


# Caps -----------------------------------------------------------------------------------------------------------------


def test_what_counts_in_a_cap_is_what_went_out_may_have_or_has_its_place(database: Database) -> None:
    desk = Desk(database, MailRules(caps=(WEEKLY,)))
    for status in DeliveryStatus:
        lead = desk.lead(f"{status}@aoba.example")
        desk.mail(lead, DeliveryStatus.SENT, ago=2 * DAY)
        desk.mail(lead, status, ago=DAY)
        counts = status in ("claimed", "data", "sent", "unknown")
        assert (desk.why(lead) == "frequency-cap") == counts, status


def test_mail_to_sales_of_a_free_topic_or_of_long_ago_does_not_count(database: Database) -> None:
    desk = Desk(database, MailRules(caps=(WEEKLY,), topics=(FREE,)))
    lead = desk.lead()
    desk.mail(lead, DeliveryStatus.SENT, ago=DAY)
    desk.mail(lead, DeliveryStatus.SENT, ago=DAY, kind=DeliveryKind.SALES)
    desk.mail(lead, DeliveryStatus.SENT, ago=DAY, topic="reply")
    desk.mail(lead, DeliveryStatus.SENT, ago=7 * DAY)
    desk.mail(desk.lead("ito@aoba.example"), DeliveryStatus.SENT, ago=DAY)
    assert desk.why(lead) is None
    desk.mail(lead, DeliveryStatus.SENT, ago=7 * DAY - timedelta(seconds=1))
    assert desk.ask(lead, desk.mail(lead)) == Postponed(NOON + timedelta(seconds=1), "frequency-cap")
    assert desk.why(lead, desk.mail(lead, topic="reply")) is None


def test_a_mails_own_row_never_counts_against_it(database: Database) -> None:
    desk = Desk(database, MailRules(caps=(Cap(1, Duration(days=7)),)))
    lead = desk.lead()
    mail = desk.mail(lead)
    assert desk.ask(lead, mail, claim=True) is None
    assert desk.ask(lead, mail, "data") is None


def test_broadcast_and_journey_share_one_cap(database: Database) -> None:
    desk = Desk(database, MailRules(caps=(Cap(1, Duration(days=7)),)))
    lead = desk.lead()
    desk.mail(lead, DeliveryStatus.SENT, ago=DAY, step="")
    assert desk.ask(lead, desk.mail(lead)) == Postponed(NOON + 6 * DAY, "frequency-cap")


def test_of_two_mails_that_race_for_the_last_place_one_goes(database: Database) -> None:
    """Two workers at once, each in its own transaction: the lead's lock lets the second see the first one's place."""
    desk = Desk(database, MailRules(caps=(WEEKLY,)))
    together = Barrier(2)
    with ThreadPoolExecutor(2) as both:
        for nth in range(25):
            lead = desk.lead(f"lead-{nth}@aoba.example")
            desk.mail(lead, DeliveryStatus.SENT, ago=DAY)
            mails = [desk.mail(lead), desk.mail(lead)]

            def claim(mail: int, lead: int = lead) -> Answer:
                together.wait(20)
                return desk.ask(lead, mail, claim=True)

            answers = list(both.map(claim, mails))
            assert sum(answer is None for answer in answers) == 1
            assert Postponed(NOON + 6 * DAY, "frequency-cap") in answers


# Many at once ---------------------------------------------------------------------------------------------------------


def test_many_mails_are_asked_about_in_a_few_queries_and_answered_as_one_by_one(database: Database) -> None:
    rules = MailRules(topics=(Topic("news"), FREE), caps=(WEEKLY,), hours=SendingHours("09:00", "11:00"))
    desk = Desk(database, rules)
    leads = [desk.lead(f"lead-{nth}@aoba.example", basis=None if nth % 7 == 0 else "consent") for nth in range(60)]
    leads.append(desk.lead(None))
    leads.append(desk.lead("erased@aoba.example", erased_at=NOON))
    for nth, lead in enumerate(leads):
        if nth % 5 == 0:
            desk.write(lead, suppressions.unsubscribe, NOON)
        if nth % 9 == 0:
            desk.write(lead, suppressions.unsubscribe, NOON, topic="news")
        for _ in range(nth % 4):
            desk.mail(lead, DeliveryStatus.SENT, ago=DAY)
        if nth % 3 == 0:
            desk.write(lead, lambda _session, row: setattr(row, "time_zone", "America/New_York"))
    mails = [desk.mail(lead, topic="news" if nth % 2 else "reply") for nth, lead in enumerate(leads)]
    seen: list[str] = []

    def count(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    def work(session: Session) -> list[Answer]:
        asked = [
            (lead, session.get_one(Delivery, mail))
            for lead, mail in zip(
                session.exec(select(Lead).order_by(col(Lead.id)).with_for_update()).all(), mails, strict=True
            )
        ]
        sql_event.listen(database.engine, "before_cursor_execute", count)
        try:
            return desk.gate.ask_many(session, asked, "claim", NOON)
        finally:
            sql_event.remove(database.engine, "before_cursor_execute", count)

    answers = database.write_now(work)
    assert len(seen) <= 7, seen
    assert answers == [desk.ask(lead, mail) for lead, mail in zip(leads, mails, strict=True)]
    assert {None if one is None else one.why for one in answers} == {
        None, "no-consent", "opted-out", "topic-not-wanted", "frequency-cap", "quiet-hours", "no-address", "erased"
    }  # fmt: skip
    rows = database.read_now(lambda session: session.exec(select(GateRow)).all())
    assert len(rows) == 2 * len(leads)


def test_nobody_is_asked_about_without_a_mail(database: Database) -> None:
    gate = Gate(MailRules(), "Asia/Tokyo", Calendar())
    assert database.write_now(gate.ask_many, [], "claim", NOON) == []


def test_pause_of_all_sending_holds_marketing_mail_and_no_other(database: Database) -> None:
    desk = Desk(database, MailRules(topics=(Topic("ticket", transactional=True),)))
    lead = desk.lead()

    def pause(session: Session) -> None:
        session.exec(select(Workspace)).one().sending_paused_at = NOON - timedelta(hours=1)

    database.write_now(pause)
    assert desk.ask(lead, desk.mail(lead)) == Postponed(NOON + timedelta(hours=1), "sending-paused")
    assert desk.why(lead, desk.mail(lead, topic="ticket")) is None
    assert desk.why(lead, desk.mail(lead, kind=DeliveryKind.SALES)) is None


def test_answers_do_not_depend_on_a_rule_that_nobody_wrote(database: Database) -> None:
    """Without caps, topics and hours the gate asks for consent and the lists, and no more."""
    assert replace(MailRules()) == MailRules()
    desk = Desk(database)
    lead = desk.lead()
    for _ in range(5):
        desk.mail(lead, DeliveryStatus.SENT)
    assert desk.why(lead, desk.mail(lead, topic="whatever")) is None
