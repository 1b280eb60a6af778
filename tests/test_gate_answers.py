"""For how long it is kept what the gate said: so long as somebody may ask, and no table grows for ever."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlmodel import select

from mebae.mailing import MailRules
from mebae.periodic import Mark
from mebae.reports.finding import lead_of
from mebae.reports.mail_standing import Rules
from mebae.reports.mails import why_mails
from mebae.store import gate_answers
from mebae.store.database import Database
from mebae.store.gate_answers import pruning
from mebae.store.tables import Delivery, GateRow
from mebae.timing import Calendar
from mebae.words import DeliveryStatus
from tests.desk import DAY, NOON, SATO, Desk
from tests.leads import TOKYO


def kept(desk: Desk) -> set[int | None]:
    """Of which mails there are answers."""
    return set(desk.database.read_now(lambda session: list(session.exec(select(GateRow.delivery_id)))))


def prune(desk: Desk, days: float = 180, mark: Mark | None = None) -> list[int]:
    return [mark.counts["removed"] for mark in pruning(days)(desk.database, lambda: desk.now, mark)]


def asked(desk: Desk, lead: int, status: str, *, ago: timedelta) -> int:
    """A mail about which the gate was asked twice, so long ago."""
    mail = desk.mail(lead, DeliveryStatus.CLAIMED)
    desk.now = NOON - ago
    desk.ask(lead, mail)
    desk.ask(lead, mail, "data")
    desk.now = NOON
    desk.write(lead, lambda session, _: session.get_one(Delivery, mail).sqlmodel_update({"status": status}))
    return mail


def test_answers_of_long_ago_go_and_those_of_mails_that_are_under_way_stay(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_answers, "AT_ONCE", 3)
    desk = Desk(database)
    lead = desk.lead()
    waiting = [asked(desk, lead, status, ago=400 * DAY) for status in ("postponed", "unknown")]
    for status in ("sent", "refused", "sent", "sent"):
        asked(desk, lead, status, ago=181 * DAY)
    young = [asked(desk, lead, "sent", ago=179 * DAY) for _ in range(2)]
    assert prune(desk) == [0, 2, 5, 8], "in small steps, on past what stays"
    assert kept(desk) == {*waiting, *young}
    assert prune(desk) == [0, 0], "the oldest stay, and hold up nobody"


def test_a_job_that_was_cut_off_goes_on_where_it_was(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_answers, "AT_ONCE", 2)
    desk = Desk(sqlite_database)
    lead = desk.lead()
    for _ in range(4):
        asked(desk, lead, "sent", ago=200 * DAY)
    going = iter(pruning(180)(sqlite_database, lambda: NOON))
    mark = Mark.model_validate_json(next(going).model_dump_json())
    assert prune(desk, mark=mark) == [4, 6, 8]
    assert kept(desk) == set()


def test_with_no_days_all_is_kept(sqlite_database: Database) -> None:
    desk = Desk(sqlite_database)
    mail = asked(desk, desk.lead(), "sent", ago=4000 * DAY)
    assert prune(desk, days=0) == []
    assert kept(desk) == {mail}


def test_why_says_that_answers_are_kept_no_more_and_still_what_became_of_the_mail(sqlite_database: Database) -> None:
    desk = Desk(sqlite_database)
    lead = desk.lead()
    mail = asked(desk, lead, "refused", ago=200 * DAY)
    desk.write(lead, lambda session, _: session.get_one(Delivery, mail).sqlmodel_update({"reason": "opted-out", "attempt": 1}))
    prune(desk)
    rules = Rules(MailRules(), TOKYO, Calendar())
    report = sqlite_database.read_now(lambda session: why_mails(session, lead_of(session, SATO), rules, NOON))
    [told] = report.mails
    assert (told.answers, told.forgotten) == ([], True)
    assert told.words == "it was not sent, as the lead unsubscribed, which counts more than any consent before it"
