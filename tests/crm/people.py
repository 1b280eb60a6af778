"""Leads with a history that are handed to sales, and a teller for one CRM system, on the test's own clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session, col, select

from mebae import handing
from mebae.clock import WorldClock
from mebae.crm.channel import CrmChannel
from mebae.crm.model import CrmRules, System
from mebae.crm.wiring import adapter_of
from mebae.handing import Decision, Why
from mebae.handover import Move
from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import Sender
from mebae.sales import Person, SalesRules
from mebae.store.crm import publish_crm
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Handover, Telling
from mebae.telling import Teller
from mebae.timing import Calendar
from tests.leads import NOW, SATO, Diary, publish_model

SETTINGS = MailSettings(Sender("Mebae", "mebae@example.com"), "sales@example.com")
SALES = SalesRules(people=(Person(id="inoue", name="井上", email="inoue@example.com"), Person(id="mori", name="森", role="field")))
ZONE, CALENDAR = "Asia/Tokyo", Calendar()


def given(database: Database, *systems: System) -> Diary:
    """佐藤 健二, who downloaded a paper and looked at prices; the rules are published."""
    publish_model(database, now=NOW - timedelta(days=200))
    database.write_now(handing.publish_sales, SALES, NOW)
    database.write_now(publish_crm, CrmRules(systems=systems), NOW)
    diary = Diary(database, NOW)
    diary.is_someone(name="佐藤 健二", title="部長", industry="製造", company="青葉精機")
    diary.does("Content Downloaded", content="whitepaper-cost", ago=timedelta(days=3))
    diary.does("Page Viewed", path="/pricing")
    return diary


def hand_over(database: Database, lead: int = 1, cause: str = "command:1", now: datetime = NOW) -> int:
    def write(session: Session) -> int:
        locked = lock_lead(session, lead)
        assert locked is not None
        return handing.open_or_join(session, locked, Why(cause, "command", message="料金ページを閲覧"), now, ZONE, CALENDAR).id or 0

    return database.write_now(write)


def decide(database: Database, move: Move, handover: int = 1, now: datetime = NOW, **more: object) -> None:
    said = Decision(move, "inoue", "command", **more)  # type: ignore[arg-type]
    database.write_now(handing.decide, handover, said, now, ZONE, CALENDAR)


def stands(database: Database, handover: int = 1) -> str:
    return database.read_now(lambda session: str(session.get_one(Handover, handover).status))


def tellings(database: Database) -> list[tuple[str, str, str | None]]:
    """What was to be told to CRM systems: verb, status, reason."""
    query = select(Telling).where(col(Telling.channel).startswith("crm:")).order_by(col(Telling.id))
    return database.read_now(lambda session: [(one.what, one.status, one.reason) for one in session.exec(query)])


@dataclass
class Telling_:
    """A teller of one system, on a clock of its own."""

    database: Database
    channel: CrmChannel
    system: System
    machine: datetime = NOW

    async def tell(self) -> int:
        """Tells until nothing is due; how many were tried."""
        teller = Teller(self.database, {self.system.channel: self.channel}, clock=WorldClock(), machine=lambda: self.machine)
        tried = 0
        while now := await teller.deliver(self.system.channel):
            tried += now
        return tried


def teller_of(database: Database, system: System, environ: dict[str, str]) -> Telling_:
    return Telling_(database, CrmChannel(database, system, adapter_of(system, environ), SETTINGS), system)


__all__ = ["NOW", "SATO", "SETTINGS", "Diary", "decide", "given", "hand_over", "stands", "teller_of", "tellings"]
