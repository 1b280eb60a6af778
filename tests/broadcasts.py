"""A broadcast under test: leads, a plan, a clock that one moves by hand, and a mailer that does as it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session, col, func, select

from mebae import broadcast_opening, broadcasting
from mebae.broadcast_run import World
from mebae.broadcasting import Again, Batch, Halted, Next, Over, Resting
from mebae.broadcasts import EVERYBODY, BroadcastPlan
from mebae.mail.bulk import BulkContent, BulkOutcome
from mebae.store.broadcasts import publish_broadcasts
from mebae.store.database import Database
from mebae.store.tables import Broadcast, Delivery, Lead
from mebae.timing import Calendar

TOKYO = "Asia/Tokyo"
NOON = datetime(2026, 4, 7, 3, 0, tzinfo=UTC)
"""A Tuesday, noon in Tokyo."""
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WORLD = World(TOKYO, Calendar())


def people(database: Database, many: int, **columns: Any) -> list[int]:
    """Leads, made at once. Their ids, in order."""
    row = {
        "created_at": NOON, "updated_at": NOON, "active_at": NOON, "score": 0, "stage": "awareness", "qualification": "none",
        "language": "ja", "tags": [], "topics": [], "excluded": [], "attributes": {}, "last_seq": 0,
    } | columns  # fmt: skip

    def write(session: Session) -> list[int]:
        known = session.exec(select(func.count(col(Lead.id)))).one()
        session.execute(insert(Lead), [row | {"email": f"lead{known + n}@aoba.example"} for n in range(many)])
        return [id or 0 for id in session.exec(select(Lead.id).order_by(col(Lead.id)))][-many:] if many else []

    return database.write_now(write)


def plan(**how: Any) -> BroadcastPlan:
    return BroadcastPlan.model_validate({"format": 1, "broadcast": "news", "to": EVERYBODY, "mail": "news"} | how)


class Mailer:
    """Stands in for `BulkMailer`, whose own tests say how it sends: one row a lead, written as it writes them.

    `answer` says what becomes of a lead's mail: `"sent"`, a moment (postponed until then), or a reason (refused).
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.answer: Callable[[int], str | datetime] = lambda lead: "sent"
        self.waits_for = "quiet-hours"
        self.mailed: Counter[int] = Counter()
        self.contents: dict[int, BulkContent] = {}
        self.batches: list[int] = []
        self.dies_after: int | None = None
        """Of the next batch so many mails go out, and one more dies in `data`."""
        self.died: list[int] = []

    async def send(
        self, broadcast: int, leads: Sequence[int], content: BulkContent, now: Callable[[], datetime]
    ) -> BulkOutcome:
        self.batches.append(len(leads))
        die, self.dies_after = self.dies_after, None
        alive = leads if die is None else leads[:die]
        self.database.write_now(self._all, broadcast, alive, content, now())
        if die is not None:
            self.died += leads[die : die + 1]
            self.database.write_now(self._in_data, broadcast, leads[die : die + 1], content)
            raise Died
        return BulkOutcome()

    def _all(self, session: Session, broadcast: int, leads: Sequence[int], content: BulkContent, now: datetime) -> None:
        row = session.get_one(Broadcast, broadcast)
        if row.paused:
            return
        ended = row.status in ("done", "ended")
        for lead, row in self._rows(session, broadcast, leads, content).items():
            if row.status == "data":
                row.status = "unknown"
            elif row.status == "claimed" or (row.status == "postponed" and (row.next_at or now) <= now):
                self._said(row, lead, "ended" if ended else self.answer(lead), content, now)

    def _said(self, row: Delivery, lead: int, answer: str | datetime, content: BulkContent, now: datetime) -> None:
        row.next_at = row.reason = None
        if isinstance(answer, datetime):
            row.status, row.next_at, row.reason = "postponed", answer, self.waits_for
        elif answer == "sent":
            self.mailed[lead] += 1
            self.contents[lead] = content
            row.status, row.sent_at = "sent", now
        else:
            row.status, row.reason = "refused", answer

    def _in_data(self, session: Session, broadcast: int, leads: Sequence[int], content: BulkContent) -> None:
        for row in self._rows(session, broadcast, leads, content).values():
            row.status = "data"

    def _rows(self, session: Session, broadcast: int, leads: Sequence[int], content: BulkContent) -> dict[int, Delivery]:
        query = select(Delivery).where(Delivery.broadcast_id == broadcast, col(Delivery.lead_id).in_(leads))
        known = {row.lead_id: row for row in session.exec(query)}
        made = {
            lead: Delivery(
                broadcast_id=broadcast, lead_id=lead, kind="marketing", scope=content.scope, mail=content.mail,
                variant=content.variant, message_id=f"<{broadcast}.{lead}@test>", status="claimed",
            )
            for lead in leads if lead not in known
        }  # fmt: skip
        session.add_all(made.values())
        return {lead: known.get(lead) or made[lead] for lead in leads}


class Died(Exception):
    """The worker is no more."""


class Story:
    """One run, driven as its activity drives it; time passes when the test says so."""

    def __init__(self, database: Database, run: int, *, now: datetime = NOON) -> None:
        self.database, self.id, self.now = database, run, now
        self.mailer = Mailer(database)

    @classmethod
    def begin(cls, database: Database, written: BroadcastPlan, *, only: Iterable[int] | None = None) -> Story:
        """A run by command, begun at noon."""
        row = database.write_now(broadcast_opening.request_run, written, "the-command", NOON, only=only)
        assert row.id is not None
        database.write_now(broadcast_opening.open_run, row.id, NOON)
        return cls(database, row.id)

    @classmethod
    def scheduled(cls, database: Database, written: BroadcastPlan, fired: datetime) -> Story:
        """The run that a Schedule begins."""
        database.write_now(publish_broadcasts, [written])
        opened = database.write_now(broadcast_opening.open_scheduled, written.broadcast, fired, "w", WORLD, fired)
        assert opened.run is not None, opened
        return cls(database, opened.run, now=fired)

    async def step(self, most: int = 50) -> Next:
        looked = self.database.read_now(broadcasting.look, self.id, WORLD, self.now, most=most)
        at = self.database.write_now(broadcasting.take, self.id, looked, WORLD, self.now, most=most)
        if isinstance(at, Batch):
            for group in at.groups:
                await self.mailer.send(self.id, group.leads, group.content, lambda: self.now)
            self.database.write_now(broadcasting.taken, self.id, at, WORLD, self.now)
        return at

    async def on(self, most: int = 50) -> Resting | Halted | Over:
        """On until it rests, is paused, or is over."""
        while isinstance(at := await self.step(most), (Again, Batch)):
            pass
        return at

    async def to_the_end(self, most: int = 50) -> None:
        """Through every rest."""
        while isinstance(at := await self.on(most), Resting):
            assert at.until > self.now
            self.now = at.until
        assert isinstance(at, Over), at

    @property
    def row(self) -> Broadcast:
        return self.database.read_now(lambda session: session.get_one(Broadcast, self.id))

    def deliveries(self) -> list[Delivery]:
        query = select(Delivery).where(Delivery.broadcast_id == self.id).order_by(col(Delivery.lead_id))
        return self.database.read_now(lambda session: list(session.exec(query)))

    def of(self, status: str, reason: str | None = None) -> list[int]:
        """The leads whose mail is so."""
        return [row.lead_id for row in self.deliveries() if row.status == status and (reason is None or row.reason == reason)]

    def write(self, lead: int, **columns: Any) -> None:
        def change(session: Session) -> None:
            row = session.get_one(Lead, lead)
            for name, value in columns.items():
                setattr(row, name, value)

        self.database.write_now(change)
