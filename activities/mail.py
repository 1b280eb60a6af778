"""Mail: to a lead (through the gate) and to sales about one. Both go through the ledger, so a retry never sends twice.

claim ─ one transaction: lock the lead, re-check the wake-up, gate, claim an attempt, read what the mail needs
render ─ in a thread
MAIL, RCPT
enter data ─ one transaction: the gate once more, then the compare-and-set on the attempt
DATA
conclude ─ one transaction: what came of it, and the rest or end that statically follows
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import structlog
from sqlmodel import Session
from temporalio import activity

from activities.calling import coded, moving_now
from mebae import contracts, ledger, resting
from mebae.contracts import StepInput
from mebae.errors import MailInvalid, RecipientRefused
from mebae.gate import Gate, Moment, OnCap
from mebae.graph import Choice, Send, Series
from mebae.journey import NOTHING_LEFT, Done, Ended, Exited, Postponed, Refused, Settling, Then, Unknown
from mebae.ledger import Fate
from mebae.mail.composing import (
    Composed,
    Letter,
    compose,
    has_moved,
    letter_for_lead,
    letter_for_sales,
    once_more,
    topic_of,
)
from mebae.mail.doorstep import refused_at_the_door
from mebae.mail.handing_over import hand_over, insist
from mebae.mail.legal import told_lacking
from mebae.mail.outgoing import MailSettings
from mebae.mail.pace import Pace
from mebae.mail.transport import Transport
from mebae.resting import Place, Setting
from mebae.store.database import Database
from mebae.store.links import store_links
from mebae.store.reading import next_from_catalogue, next_of_series
from mebae.store.tables import Delivery, Lead
from mebae.words import DeliveryKind, DeliveryStatus

log = structlog.get_logger()

Answer = Done | Refused | Unknown | Postponed | Exited | Ended


@dataclass(frozen=True)
class Claimed:
    """A delivery that this attempt may try, and what it is to say."""

    delivery: int
    attempt: int
    letter: Letter


class _Closed(Exception):
    """The gate, or another attempt, closed the way between RCPT and DATA."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class _Letters(Protocol):
    def __call__(
        self, session: Session, place: Place, delivery: Delivery, settings: MailSettings, now: datetime
    ) -> Letter: ...


class MailActivities:
    """Sends mail."""

    def __init__(
        self,
        database: Database,
        transport: Transport,
        setting: Setting,
        settings: MailSettings,
        pace: Pace | None = None,
    ) -> None:
        self._database, self._transport, self._setting, self._settings = database, transport, setting, settings
        self._pace = pace
        self._gate = Gate(settings.rules, setting.zone, setting.calendar, told_lacking(settings))

    @activity.defn(name=contracts.SEND_MAIL)
    @coded
    async def send_mail(self, request: StepInput) -> Answer:
        """Sends the step's mail to the lead, if the gate lets it."""
        return await self._send(request, DeliveryKind.MARKETING, _to_lead)

    @activity.defn(name=contracts.NOTIFY_SALES)
    @coded
    async def notify_sales(self, request: StepInput) -> Answer:
        """Tells sales about the lead. Once per visit of the step: repeated alerts get ignored."""
        return await self._send(request, DeliveryKind.SALES, _to_sales)

    async def _send(self, request: StepInput, kind: DeliveryKind, letters: _Letters) -> Answer:
        now = moving_now(request)  # the mail server takes its time, and quiet hours may begin meanwhile
        async with _heartbeats():
            claimed = await self._database.write(self._claim, request, kind, letters, now())
            if not isinstance(claimed, Claimed):
                return claimed
            try:
                composed = await asyncio.to_thread(compose, claimed.letter, self._settings)
            except MailInvalid as broken:
                log.error("mail.invalid", entry=request.entry, step=request.step, code=broken.code)
                return await self._conclude(request, claimed, now(), Fate("refused", broken.code, broken.detail))
            return await self._transmit(request, claimed, composed, now)

    async def _transmit(
        self, request: StepInput, claimed: Claimed, composed: Composed, now: Callable[[], datetime]
    ) -> Answer:
        async def before_data() -> None:
            closed = await self._database.write(self._enter_data, request, claimed, composed, now())
            if closed is not None:
                raise _Closed(closed)

        try:
            fate = await hand_over(self._transport, composed, before_data)
        except _Closed as closed:
            return closed.answer
        return await self._conclude(request, claimed, now(), fate)

    # The three transactions --------------------------------------------------------------------------------------------

    def _claim(
        self, session: Session, request: StepInput, kind: DeliveryKind, letters: _Letters, now: datetime
    ) -> Claimed | Answer:
        place = resting.take(session, request.entry, request.turn, sheltered=request.sheltered)
        if not isinstance(place, Place):
            return place
        early = resting.still_early(session, place, request.woke, now, self._setting)
        if early is not None:
            return early
        chosen = self._choose(session, place, request, now)
        if chosen is None:
            return self._nothing_left(session, place, request, now)
        mail, piece = chosen
        row = ledger.claim(
            session, place, request, kind=kind, mail=mail, piece=piece,
            domain=self._settings.sender.email.rpartition("@")[2], policy=self._settings.policy, now=now,
        )  # fmt: skip
        match row.status:
            case DeliveryStatus.SENT:
                return self._was_sent(session, place, request, row, now)
            case DeliveryStatus.REFUSED:
                return Refused(
                    row.reason or "refused", resting.follow(session, place, request.plan, now, self._setting)
                )
            case DeliveryStatus.UNKNOWN:
                then = self._follow(session, place, request, row, now)
                return Unknown(mark=row.mark, forms=row.forms, then=then)
            case _:
                pass
        row.topic = topic_of(session, place, mail, self._settings) if kind == DeliveryKind.MARKETING else ""
        answer = self._ask(session, place, row, "claim", now)
        if answer is not None:
            return self._closed(session, place, request, row, answer, now)
        try:
            letter = letters(session, place, row, self._settings, now)
        except MailInvalid as broken:
            return self._refused(session, place, request, row, broken.code, now, broken.detail)
        assert row.id is not None
        place.row.status = "running"
        return Claimed(row.id, row.attempt, letter)

    def _choose(self, session: Session, place: Place, request: StepInput, now: datetime) -> tuple[str, str | None] | None:
        """The step's mail, and the piece of the catalogue that it is about; None if the lead has had all."""
        step = place.graph.step(request.step)
        if not isinstance(step, Send):
            return step.id, None
        match step.mail:
            case str():
                return step.mail, None
            case Choice():
                value = place.facts(session, now).value(step.mail.ref)
                return step.mail.of.get(str(value), step.mail.otherwise), None
        before = ledger.find(session, request)
        if before is not None:  # an earlier attempt has chosen, and what it chose is not new any more
            return before.mail, before.piece
        if isinstance(step.mail, Series):
            mail = next_of_series(session, place.lead, place.graph.scenario, step.mail)
            return None if mail is None else (mail, None)
        piece = next_from_catalogue(session, place.lead, step.mail, self._settings.rules.catalogue, now)
        return None if piece is None else (step.mail.about, piece.id)

    def _nothing_left(self, session: Session, place: Place, request: StepInput, now: datetime) -> Answer:
        """Nothing to send: not a refusal of the gate, so it leaves no delivery. The plan holds only if the way goes straight on."""
        step = place.graph.step(request.step)
        straight = not isinstance(step, Send) or step.nothing is None
        then = resting.follow(session, place, request.plan if straight else None, now, self._setting)
        return Refused(NOTHING_LEFT, then)

    def _enter_data(
        self, session: Session, request: StepInput, claimed: Claimed, composed: Composed, now: datetime
    ) -> Answer | None:
        place = resting.take(session, request.entry, request.turn, sheltered=request.sheltered)
        row = session.get_one(Delivery, claimed.delivery, populate_existing=True)
        if not isinstance(place, Place):
            if row.status == DeliveryStatus.CLAIMED and row.attempt == claimed.attempt:
                ledger.write(row, ledger.no_more(row, _why(place)))
            return place
        if row.status == DeliveryStatus.SENT:
            return self._was_sent(session, place, request, row, now)
        if row.attempt != claimed.attempt or row.status != DeliveryStatus.CLAIMED:
            return Unknown(mark=row.mark)  # another attempt has it; Temporal no longer listens to this one
        if row.kind == DeliveryKind.MARKETING and has_moved(composed.to, place.lead.email):
            return self._closed(session, place, request, row, once_more(now), now)
        answer = self._ask(session, place, row, "data", now)
        if answer is not None:
            return self._closed(session, place, request, row, answer, now)
        store_links(session, composed.links, dict.fromkeys(composed.own, claimed.delivery))
        if self._pace is not None:
            self._pace.charge(session)
        session.flush()
        if not ledger.enter_data(session, [(claimed.delivery, claimed.attempt)], now):
            return Unknown(mark=row.mark)
        return None

    def _ask(
        self, session: Session, place: Place, row: Delivery, moment: Moment, now: datetime
    ) -> Refused | Postponed | Exited | None:
        step = place.graph.step(row.step)
        on_cap: OnCap = step.on_cap if isinstance(step, Send) else "postpone"
        return self._gate.ask(session, place.lead, row, moment, now, place=place, on_cap=on_cap)

    async def _conclude(self, request: StepInput, claimed: Claimed, now: datetime, fate: Fate) -> Answer:
        return await insist(lambda: self._database.write(self._concluded, request, claimed, now, fate))

    def _concluded(self, session: Session, request: StepInput, claimed: Claimed, now: datetime, fate: Fate) -> Answer:
        place = resting.take(session, request.entry, request.turn, sheltered=request.sheltered)
        row = session.get_one(Delivery, claimed.delivery, populate_existing=True)
        lead = session.get(Lead, row.lead_id, populate_existing=True)
        if lead is None or lead.erased_at is not None:  # what the server said names the address, which is wiped
            fate = replace(fate, raw=None)
        came = ledger.conclude(
            row, claimed.attempt, fate, policy=self._settings.policy, clock=request.clock, now=now,
            gone=None if isinstance(place, Place) else _why(place),
        )  # fmt: skip
        ledger.write(row, came.move)
        if came.status is not None and fate.code == RecipientRefused.code:
            refused_at_the_door(session, {claimed.delivery: claimed.letter.to}, now)
        match came.status:
            case None:  # a later attempt has answered for this mail, and its journey has gone on
                return Postponed(now, "superseded")
            case DeliveryStatus.REFUSED:
                if not isinstance(place, Place):
                    return place
                return Refused(came.why, resting.follow(session, place, request.plan, now, self._setting))
            case DeliveryStatus.POSTPONED:  # the mail server said no for now: the gate is asked again after a rest
                assert isinstance(place, Place)
                assert came.until is not None
                resting.rest(place, request.step, "postponed", [], came.until)
                return Postponed(came.until, came.why)
        then = self._follow(session, place, request, row, now)
        if came.status == DeliveryStatus.UNKNOWN:
            return Unknown(mark=row.mark, forms=row.forms, then=then)
        return Done(mark=row.mark if row.kind == DeliveryKind.MARKETING else None, forms=row.forms, then=then)

    def _was_sent(self, session: Session, place: Place, request: StepInput, row: Delivery, now: datetime) -> Answer:
        """The answer of an attempt whose own was lost."""
        mark = row.mark if row.kind == DeliveryKind.MARKETING else None
        return Done(mark=mark, forms=row.forms, then=self._follow(session, place, request, row, now))

    def _follow(
        self, session: Session, place: Place | Exited | Ended, request: StepInput, row: Delivery, now: datetime
    ) -> Then | None:
        """What statically comes next; the wait counts from this mail on, if it was one to the lead."""
        if not isinstance(place, Place):
            return place
        plan = request.plan
        if row.kind == DeliveryKind.MARKETING and isinstance(plan, Settling):
            plan = Settling(plan.step, plan.marks.sent(request.step, row.mark, row.forms), plan.since)
        return resting.follow(session, place, plan, now, self._setting)

    def _closed(
        self,
        session: Session,
        place: Place,
        request: StepInput,
        row: Delivery,
        answer: Refused | Postponed | Exited,
        now: datetime,
    ) -> Answer:
        """The gate's no, on the delivery and on the journey."""
        match answer:
            case Refused():
                return self._refused(session, place, request, row, answer.why, now)
            case Postponed():
                ledger.write(row, ledger.postponed(row.reason, answer.until, answer.why))
                resting.rest(place, request.step, "postponed", [], answer.until)
                return answer
            case Exited():
                ledger.write(row, ledger.no_more(row, answer.why))
                return answer

    def _refused(
        self, session: Session, place: Place, request: StepInput, row: Delivery, why: str, now: datetime, raw: str | None = None
    ) -> Answer:
        """No further attempt: the journey goes on without the mail, or with one that may have arrived."""
        ledger.write(row, ledger.no_more(row, why, raw))
        if row.status == DeliveryStatus.UNKNOWN:
            return Unknown(mark=row.mark, forms=row.forms, then=self._follow(session, place, request, row, now))
        return Refused(why, resting.follow(session, place, request.plan, now, self._setting))


def _to_lead(session: Session, place: Place, delivery: Delivery, settings: MailSettings, now: datetime) -> Letter:
    return letter_for_lead(session, place, delivery, settings, now=now)


def _to_sales(session: Session, place: Place, delivery: Delivery, settings: MailSettings, now: datetime) -> Letter:
    return letter_for_sales(session, place, delivery, settings, now=now)


def _why(closed: Exited | Ended) -> str:
    """Why there is nobody to send to any more, as a code."""
    return closed.why if isinstance(closed, Exited) else "ended"


@contextlib.asynccontextmanager
async def _heartbeats() -> AsyncIterator[None]:
    """Tells Temporal that this attempt lives; a dead worker's is tried again after 10 seconds."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(3)
            activity.heartbeat()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
