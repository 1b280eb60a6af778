"""Mails of which nobody can say whether they went out: listing them, and what a person makes of them.

A person may know: the mail server's log says so, or the lead does. `settle_sent` writes that down. `SendAgain` sends such a
mail once more, under the same Message-ID, through the same gate; its journey or broadcast has long gone on and is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement
from sqlmodel import Session, and_, col, func, or_, select

from mebae import ledger
from mebae.errors import BadInput, MailInvalid, NotFound
from mebae.gate import Answer, Gate
from mebae.journey import Postponed
from mebae.ledger import Fate
from mebae.mail.bulk_ledger import BulkContent, Taken
from mebae.mail.composing import (
    Composed,
    Letter,
    Texts,
    catalogue_values,
    compose,
    has_moved,
    letter_for_lead,
    letter_for_sales,
    once_more,
    texts_of,
)
from mebae.mail.handing_over import hand_over, insist
from mebae.mail.outgoing import MailSettings
from mebae.mail.publishing import shared_texts
from mebae.mail.transport import Transport
from mebae.resting import Place
from mebae.store.broadcasts import read_plan
from mebae.store.database import Database, lock_lead
from mebae.store.deliveries import rows_of
from mebae.store.graphs import graph_of
from mebae.store.links import store_links
from mebae.store.tables import Broadcast, Company, Delivery, Event, JourneyRow, Lead, MailText
from mebae.words import DeliveryKind, DeliveryStatus

LATE = timedelta(minutes=30)
"""An attempt that has been under way for longer is dead (machine time; the longest takes a few minutes)."""
SETTLED = "settled-by-hand"


def _unknown(now: datetime) -> ColumnElement[bool]:
    """Which rows: those that say so, and those that an attempt left behind after it had, or may have, sent once.

    One that waits for its second try and whose time has passed was left by its journey, or that is paused."""
    late = now - LATE
    return or_(
        col(Delivery.status) == DeliveryStatus.UNKNOWN,
        and_(col(Delivery.status) == DeliveryStatus.DATA, col(Delivery.data_at) < late),
        and_(
            col(Delivery.status) == DeliveryStatus.CLAIMED,
            col(Delivery.reason) == ledger.RETRIED,
            col(Delivery.claimed_at) < late,
        ),
        and_(
            col(Delivery.status) == DeliveryStatus.POSTPONED,
            col(Delivery.reason) == ledger.RETRIED,
            col(Delivery.next_at) < late,
        ),
    )


def listed(session: Session, now: datetime, *, limit: int) -> tuple[Sequence[Delivery], int]:
    """The unknown mails, the newest first, and how many there are."""
    where = _unknown(now)
    rows = session.exec(select(Delivery).where(where).order_by(col(Delivery.id).desc()).limit(limit)).all()
    return rows, session.exec(select(func.count(col(Delivery.id))).where(where)).one()


def settle_sent(session: Session, delivery: int, now: datetime) -> Delivery:
    """A person knows that it went out. Raises `NotFound`, and `BadInput` for a mail whose fate is known."""
    row, _ = _locked(session, delivery, now)
    ledger.write(row, {**ledger.sent(row.raw, row.data_at or now), "reason": SETTLED})
    return row


@dataclass(frozen=True)
class Settled:
    """What came of sending again."""

    status: DeliveryStatus
    """`sent` and `refused` are the end of it; `unknown`: it stands as before."""
    why: str = ""
    """The code."""
    until: datetime | None = None
    """Where the gate says when: then the mail may go."""


@dataclass(frozen=True)
class _Claimed:
    delivery: int
    lead: int
    attempt: int
    letter: Letter


class _Closed(Exception):
    def __init__(self, answer: Settled) -> None:
        self.answer = answer


class SendAgain:
    """Sends unknown mails once more, for a person who waits for the answer."""

    def __init__(
        self,
        database: Database,
        transport: Transport,
        gate: Gate,
        settings: MailSettings,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._database, self._transport, self._gate, self._settings = database, transport, gate, settings
        self._now = now

    async def send(self, delivery: int) -> Settled:
        """Raises `NotFound`, and `BadInput` for a mail whose fate is known."""
        claimed = await self._database.write(self._claim, delivery, self._now())
        if isinstance(claimed, Settled):
            return claimed
        try:
            mail = compose(claimed.letter, self._settings)
        except MailInvalid as broken:
            fate = Fate("refused", broken.code, broken.detail)
            return await self._conclude(claimed, fate)

        async def before_data() -> None:
            closed = await self._database.write(self._enter_data, claimed, mail, self._now())
            if closed is not None:
                raise _Closed(closed)

        try:
            fate = await hand_over(self._transport, mail, before_data)
        except _Closed as closed:
            return closed.answer
        return await self._conclude(claimed, fate)

    def _claim(self, session: Session, delivery: int, now: datetime) -> _Claimed | Settled:
        row, lead = _locked(session, delivery, now)
        answer = self._gate.ask(session, lead, row, "claim", now)
        if answer is not None:
            return _turned_away(answer)
        letter = _letter(session, row, lead, self._settings, now)
        ledger.write(row, ledger.take_up(row, mark=row.mark, policy=self._settings.policy, now=now, by_hand=True))
        assert lead.id is not None
        return _Claimed(delivery, lead.id, row.attempt, letter)

    def _enter_data(self, session: Session, claimed: _Claimed, mail: Composed, now: datetime) -> Settled | None:
        lead = lock_lead(session, claimed.lead)
        row = session.get_one(Delivery, claimed.delivery, populate_existing=True)
        assert lead is not None
        answer: Answer
        if row.kind == DeliveryKind.MARKETING and has_moved(mail.to, lead.email):
            answer = once_more(now)
        else:
            answer = self._gate.ask(session, lead, row, "data", now)
        if answer is not None:
            if row.attempt == claimed.attempt and row.status == DeliveryStatus.CLAIMED:
                row.status = DeliveryStatus.UNKNOWN
            return _turned_away(answer)
        store_links(session, mail.links, dict.fromkeys(mail.own, claimed.delivery))
        session.flush()
        if ledger.enter_data(session, [(claimed.delivery, claimed.attempt)], now):
            return None
        return Settled(DeliveryStatus(row.status), "superseded")

    async def _conclude(self, claimed: _Claimed, fate: Fate) -> Settled:
        return await insist(lambda: self._database.write(self._concluded, claimed, fate, self._now()))

    def _concluded(self, session: Session, claimed: _Claimed, fate: Fate, now: datetime) -> Settled:
        lead = lock_lead(session, claimed.lead)
        row = session.get_one(Delivery, claimed.delivery, populate_existing=True)
        if fate.kind == "later":  # nobody comes back to it by himself: what is known of the first attempt stands
            fate = Fate("unknown", fate.code, fate.raw)
        if lead is not None and lead.erased_at is not None:
            fate = Fate(fate.kind, fate.code, forms=fate.forms)
        came = ledger.conclude(row, claimed.attempt, fate, policy="hold", now=now, by_hand=True)
        ledger.write(row, came.move)
        return Settled(DeliveryStatus(row.status), came.why)


def _locked(session: Session, delivery: int, now: datetime) -> tuple[Delivery, Lead]:
    found = session.get(Delivery, delivery)
    lead = lock_lead(session, found.lead_id) if found is not None else None
    if found is None or lead is None:
        raise NotFound("mail", str(delivery))
    session.refresh(found)
    if session.exec(select(Delivery.id).where(Delivery.id == delivery, _unknown(now))).first() is None:
        raise BadInput(f"mail {delivery} is {found.status}: its fate is known, or an attempt is under way")
    return found, lead


def _turned_away(answer: Answer) -> Settled:
    assert answer is not None
    return Settled(DeliveryStatus.UNKNOWN, answer.why, answer.until if isinstance(answer, Postponed) else None)


def _letter(session: Session, row: Delivery, lead: Lead, settings: MailSettings, now: datetime) -> Letter:
    """The mail as its journey or broadcast would send it now."""
    if row.entry is None:
        text = session.get(MailText, row.text_hash) if row.text_hash is not None else None
        if text is None:
            texts = texts_of(session, row.scope, row.mail, settings.rules.languages)
        else:
            sources = {row.language or "": (text.hash, text.source)}
            texts = Texts(f"{row.scope}/{row.mail}", sources, shared_texts(session), settings.rules.languages)
        company = session.get(Company, lead.company_id) if lead.company_id is not None else None
        run = session.get_one(Broadcast, row.broadcast_id)
        plan = read_plan(run.broadcast, run.plan)
        content = BulkContent(row.scope, row.mail, plan.title if plan is not None else "")
        more = catalogue_values(session, lead, texts, settings.rules.catalogue, now)
        [its] = rows_of(session, [row.id or 0]).values()
        return Taken(its, lead, company, texts, content, now, more).letter(settings)
    journey = session.get_one(JourneyRow, row.entry)
    event = session.get(Event, journey.entry_event_id) if journey.entry_event_id is not None else None
    place = Place(journey, lead, graph_of(session, journey.version), event.properties if event is not None else {})
    if row.kind == DeliveryKind.SALES:
        return letter_for_sales(session, place, row, settings, now=now)
    return letter_for_lead(session, place, row, settings, now=now)
