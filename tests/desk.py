"""Mails to leads and the gate that is asked about them, without journeys and mail servers."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlmodel import Session, col, select

from mebae.gate import Answer, Gate
from mebae.mailing import MailRules
from mebae.store.consents import record
from mebae.store.database import Database, lock_lead
from mebae.store.ingest import ConsentGiven, Incoming, store_events
from mebae.store.leads import Who
from mebae.store.tables import Delivery, Event, Lead
from mebae.timing import Calendar
from mebae.words import DeliveryKind, DeliveryStatus

NOON = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
"""In Tokyo."""
DAY = timedelta(days=1)
SATO = "sato@aoba.example"


class Desk:
    """Where mails to leads are asked about. No journey, no mail server: a delivery is a row."""

    def __init__(self, database: Database, rules: MailRules | None = None) -> None:
        self.database, self.now = database, NOON
        self.gate = Gate(rules or MailRules(), "Asia/Tokyo", Calendar())
        self._count = itertools.count(1)

    def lead(self, email: str | None = SATO, *, basis: str | None = "consent", **columns: Any) -> int:
        def work(session: Session) -> int:
            lead = Lead(email=email, created_at=NOON, updated_at=NOON, **columns)
            session.add(lead)
            session.flush()
            assert lead.id is not None
            if basis is not None:
                record(session, lead.id, NOON - DAY, "form", "contact", "メールを受け取ります", f"c{lead.id}", basis)
            return lead.id

        return self.database.write_now(work)

    def mail(
        self, lead: int, status: DeliveryStatus = DeliveryStatus.POSTPONED, ago: timedelta = timedelta(0), **more: Any
    ) -> int:
        """A mail to the lead, as the ledger has it; its number."""
        at, number = self.now - ago, next(self._count)
        times: dict[str, Any] = {
            DeliveryStatus.CLAIMED: {"claimed_at": at}, DeliveryStatus.DATA: {"claimed_at": at - DAY, "data_at": at},
            DeliveryStatus.SENT: {"claimed_at": at - DAY, "data_at": at - DAY, "sent_at": at},
            DeliveryStatus.UNKNOWN: {"claimed_at": at - DAY, "data_at": at},
        }.get(status, {"claimed_at": at})  # fmt: skip

        def work(session: Session) -> int:
            row = Delivery(
                **{
                    "lead_id": lead, "kind": DeliveryKind.MARKETING, "scope": "news", "mail": f"mail-{number}", "status": status,
                    "message_id": f"<{number}@mebae.example>", "step": f"s{number}", **times, **more,
                }
            )  # fmt: skip
            session.add(row)
            session.flush()
            assert row.id is not None
            return row.id

        return self.database.write_now(work)

    def ask(self, lead: int, mail: int, moment: Literal["claim", "data"] = "claim", *, claim: bool = False) -> Answer:
        """What the gate says; with `claim` the mail then takes its place, as the ledger does in the same transaction."""

        def work(session: Session) -> Answer:
            locked = lock_lead(session, lead)
            assert locked is not None
            row = session.get_one(Delivery, mail)
            if claim:
                row.status, row.claimed_at = DeliveryStatus.CLAIMED, self.now
                session.flush()
            answer = self.gate.ask(session, locked, row, moment, self.now)
            if claim and answer is not None:
                row.status = DeliveryStatus.POSTPONED
            return answer

        return self.database.write_now(work)

    def why(self, lead: int, mail: int | None = None, **more: Any) -> str | None:
        answer = self.ask(lead, mail if mail is not None else self.mail(lead), **more)
        return None if answer is None else answer.why

    def write(self, lead: int, work: Any, *args: Any, **more: Any) -> Any:
        """Does something with the lead, locked."""

        def locked(session: Session) -> Any:
            row = lock_lead(session, lead)
            assert row is not None
            return work(session, row, *args, **more)

        return self.database.write_now(locked)

    def happens(self, name: str, *, email: str = SATO, consent: ConsentGiven | None = None, **properties: Any) -> None:
        one = Incoming(
            message_id=f"m-{next(self._count)}", name=name, properties=properties, occurred_at=self.now,
            received_at=self.now, who=Who(email=email), consent=consent,
        )  # fmt: skip
        self.database.write_now(store_events, [one], self.now)

    def events(self, lead: int) -> list[tuple[str, dict[str, Any]]]:
        query = select(Event).where(Event.lead_id == lead).order_by(col(Event.seq))
        return self.database.read_now(lambda session: [(one.name, one.properties) for one in session.exec(query)])
