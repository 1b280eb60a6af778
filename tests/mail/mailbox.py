"""Leads, mails that went out to them, and what comes back: a desk in front of one database."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session, col, select

from mebae.mail.incoming import Incoming, IncomingRules, Taken
from mebae.store import suppressions
from mebae.store.database import Database, lock_lead
from mebae.store.ingest import EventLog
from mebae.store.tables import Delivery, Event, Lead, MailReport, Suppression, Workspace
from mebae.words import DeliveryKind, DeliveryStatus
from tests.mail.report_cases import NOW, TO, TOKENS, load

DAY = timedelta(days=1)


class Mailbox:
    """The world's time is `now`, and stands still unless the test moves it."""

    def __init__(self, database: Database, *, soft_bounces: int = 3) -> None:
        self.database, self.now = database, NOW
        self._numbers = itertools.count(1)
        self.incoming = Incoming(database, IncomingRules(TOKENS, soft_bounces), lambda: self.now)

    def number(self) -> int:
        """Another one each time."""
        return next(self._numbers)

    def lead(self, email: str = TO) -> int:
        return self.database.write_now(self._lead, email)

    def sent(self, lead: int, *, mail: str = "thanks", at: datetime | None = None, **columns: Any) -> int:
        """A mail that the server took."""
        return self.database.write_now(self._sent, lead, mail, at or self.now, columns)

    def people(self, count: int) -> list[int]:
        """So many leads with a mail each; the deliveries."""

        def work(session: Session) -> list[int]:
            leads = [self._lead(session, f"lead{self.number()}@aoba.example") for _ in range(count)]
            return [self._sent(session, lead, "thanks", self.now, {}) for lead in leads]

        return self.database.write_now(work)

    def _lead(self, session: Session, email: str) -> int:
        lead = Lead(email=email, created_at=self.now, updated_at=self.now)
        session.add(lead)
        session.flush()
        assert lead.id is not None
        return lead.id

    def _sent(self, session: Session, lead: int, mail: str, at: datetime, columns: dict[str, Any]) -> int:
        number = self.number()
        values: dict[str, Any] = {
            "kind": DeliveryKind.MARKETING, "scope": "whitepaper-followup", "mail": mail, "status": DeliveryStatus.SENT,
            "message_id": f"<{number}.1.{number:020x}@mebae.example>", "sent_at": at, "data_at": at,
        }  # fmt: skip
        row = Delivery(lead_id=lead, **(values | columns))
        session.add(row)
        session.flush()
        assert row.id is not None
        return row.id

    def many_sent(self, lead: int, count: int) -> None:
        """So many mails that went out a moment ago."""
        row: dict[str, Any] = {
            "lead_id": lead,
            "kind": "marketing",
            "mail": "news",
            "status": "sent",
            "sent_at": self.now,
        }
        blank = Delivery(message_id="", **row).model_dump(exclude={"id", "message_id"})
        rows = [blank | {"message_id": f"<news.{number}@mebae.example>"} for number in range(count)]
        self.database.write_now(lambda session: session.execute(insert(Delivery), rows) and None)

    def comes(self, name: str, delivery: int, *, to: Sequence[str] = (), email: str = TO, unique: str = "") -> Taken:
        """A mail of the corpus comes back about a delivery. `unique` makes it another one of its kind."""
        raw = load(name, delivery=delivery, to=email, message_id=self.delivery(delivery).message_id)
        if unique:
            raw = raw.replace(b"Message-I", b"X-Was-I", 1).replace(
                b"Subject: ", f"Message-ID: <{unique}@x>\nSubject: ".encode(), 1
            )
        return self.incoming.take(raw, to=to)

    def delivery(self, id: int) -> Delivery:
        return self.database.read_now(lambda session: session.get_one(Delivery, id))

    def the_lead(self, id: int) -> Lead:
        return self.database.read_now(lambda session: session.get_one(Lead, id))

    def suppressed(self, email: str = TO) -> str | None:
        """Why an address is suppressed."""
        found = self.database.read_now(lambda session: suppressions.find(session, email))
        return found.reason if found is not None else None

    def suppressions(self) -> int:
        return len(self.all(Suppression))

    def events(self, lead: int) -> list[tuple[str, dict[str, Any]]]:
        def read(session: Session) -> list[tuple[str, dict[str, Any]]]:
            rows = session.exec(select(Event).where(Event.lead_id == lead).order_by(col(Event.seq)))
            return [(row.name, row.properties) for row in rows]

        return self.database.read_now(read)

    def all(self, table: type[Any]) -> list[Any]:
        return self.database.read_now(lambda session: list(session.exec(select(table))))

    def reports(self) -> list[MailReport]:
        return sorted(self.all(MailReport), key=lambda report: report.id or 0)

    def workspace(self) -> Workspace:
        return self.database.read_now(lambda session: session.exec(select(Workspace)).one())

    def changes_address(self, lead: int, email: str) -> None:
        def work(session: Session) -> None:
            row = lock_lead(session, lead)
            assert row is not None
            row.email = email
            log = EventLog(self.now)
            log.changed(row, {"email": email})
            log.write(session)

        self.database.write_now(work)
