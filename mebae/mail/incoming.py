"""What follows from a report (`mebae.mail.reports`): events, suppressions, and a pause of all sending, each once.

A report is a claim, and anybody can send one. It needs proof that its sender had our mail: a signed address of the delivery
(where it came to, or in the mail that it brings back), or the Message-ID of a delivery together with the lead's own address.
A report that names only an address is kept and listed, and nothing follows from it.

| a proven | does |
| --- | --- |
| bounce-hard | suppresses the address at once; `Email Bounced` |
| bounce-soft | `Email Bounced`; so many in a row suppress the address; a reason that is about us counts against nobody |
| delivered | ends the row of soft bounces |
| complaint | suppresses the address at once; `Email Complained`; too many pause all sending (`mebae.mail.reputation`) |
| unsubscribe | what the page does (`mebae.store.suppressions.unsubscribe`) |
| auto-reply | `Email Auto-Replied`, if it says that the person left, was moved or is away |
| delay, challenge, unknown | is kept |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog
from sqlmodel import Session, col, or_, select

from mebae import ledger
from mebae.errors import DatabaseUnavailable
from mebae.events import BY_VERB, IDENTIFIED
from mebae.mail import return_addresses
from mebae.mail.bounce_reasons import BY_REASON, Reason
from mebae.mail.reports import Kind, Report, read_report
from mebae.mail.reputation import Counts, Verdict, judge_bounces, judge_complaints, percent
from mebae.store import suppressions
from mebae.store.database import Database, lock_lead
from mebae.store.ingest import EventLog
from mebae.store.mail_reports import is_one_too_many, keep
from mebae.store.sending import BY_COMPLAINTS, recent, workspace
from mebae.store.tables import Delivery, Event, JourneyRow, Lead
from mebae.tokens import Kind as TokenKind
from mebae.tokens import Tokens
from mebae.words import DeliveryKind, DeliveryStatus

log = structlog.get_logger()

BOUNCED, COMPLAINED, AUTO_REPLIED = (BY_VERB[verb].name for verb in ("bounced", "complained", "auto_replied"))
CAME_BACK = "came-back"
"""Why a mail of unknown fate is known to have been sent."""
SETTLED = timedelta(days=5)
"""A mail of which nothing came back for so long was delivered: servers give up earlier (RFC 5321 §4.5.4.1)."""

LOOK_AGAIN = 600.0
"""Seconds between two looks at the rate of hard bounces."""


class Outcome(StrEnum):
    """What followed from a report."""

    SUPPRESSED = "suppressed"
    COUNTED = "counted"
    UNSUBSCRIBED = "unsubscribed"
    NOTED = "noted"
    """An event, and nothing else."""
    KEPT = "kept"
    UNPROVEN = "unproven"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    """Not kept: no report at all and about nothing of ours, or one too many about a delivery."""


@dataclass(frozen=True)
class IncomingRules:
    """What the settings say."""

    tokens: Tokens | None
    soft_bounces: int = 5
    """So many in a row suppress an address."""


@dataclass(frozen=True)
class Taken:
    """What became of one report."""

    kind: Kind
    outcome: Outcome
    reason: Reason | None = None
    delivery: int | None = None
    verdict: Verdict = "fine"
    """What the complaints ask for, after one more."""
    counts: Counts | None = None
    paused: bool = False
    """Whether this one paused all sending."""
    to_sales: bool = False
    """About a mail to sales: nothing follows for the lead that it was about."""


@dataclass(frozen=True)
class _About:
    """Whom a report is about."""

    lead_id: int | None = None
    delivery_id: int | None = None
    """None without proof."""


def take_in(
    session: Session, report: Report, raw: bytes, rules: IncomingRules, now: datetime, *, strangers: bool = True
) -> Taken:
    """Keeps a report and does what follows from it, once. Run it with `Database.write`.

    Args:
        raw: the report as it came.
        strangers: whether to keep mail, too, that is no bounce and no complaint and about no delivery of ours.
    """
    about = _whom(session, report, rules.tokens, now)
    # Everything of one lead in turn: the same report on two connections, and a bounce beside a mail that is about to go out.
    lead = lock_lead(session, about.lead_id) if about.lead_id is not None else None
    report = report.about(lead.email if lead is not None else None)
    delivery = None
    if lead is not None and about.delivery_id is not None:
        delivery = session.get_one(Delivery, about.delivery_id, populate_existing=True)
    if delivery is None and report.kind in _SMALL_TALK and not strangers:
        return Taken(report.kind, Outcome.REFUSED)
    cause = f"{report.cause}:{about.delivery_id or '-'}"
    if about.delivery_id is not None and is_one_too_many(session, about.delivery_id, cause):
        return Taken(report.kind, Outcome.REFUSED, delivery=about.delivery_id)
    whole = None if lead is not None and lead.erased_at is not None else raw
    kept = keep(session, cause, report, whole, now, lead=about.lead_id, delivery=about.delivery_id)
    if kept is None:
        return Taken(report.kind, Outcome.DUPLICATE, report.reason, about.delivery_id)
    if lead is None or delivery is None:
        return Taken(report.kind, Outcome.UNPROVEN, report.reason)
    return _Consequences(session, report, lead, delivery, kept, rules, now).all()


_SMALL_TALK = (Kind.UNKNOWN, Kind.AUTO_REPLY, Kind.CHALLENGE, Kind.UNSUBSCRIBE, Kind.DELAY, Kind.DELIVERED)


class _Consequences:
    """What follows from one proven report. The lead is locked."""

    def __init__(
        self,
        session: Session,
        report: Report,
        lead: Lead,
        delivery: Delivery,
        kept: int,
        rules: IncomingRules,
        now: datetime,
    ) -> None:
        self.session, self.report, self.lead, self.delivery = session, report, lead, delivery
        self.kept, self.rules, self.now = kept, rules, now

    def all(self) -> Taken:
        if self.delivery.status == DeliveryStatus.UNKNOWN:
            # Whoever answers to a mail has had it: nobody need wonder any more whether it went out.
            sent = ledger.sent(self.delivery.raw, self.delivery.data_at or self.now)
            ledger.write(self.delivery, {**sent, "reason": CAME_BACK})
        ours = self.delivery.kind == DeliveryKind.MARKETING and self.lead.erased_at is None
        match self.report.kind:
            case Kind.BOUNCE_HARD:
                return self._taken(self._hard(ours))
            case Kind.BOUNCE_SOFT:
                return self._taken(self._soft(ours))
            case Kind.COMPLAINT:
                return self._complaint(ours)
            case Kind.UNSUBSCRIBE if ours:
                news = suppressions.unsubscribe(self.session, self.lead, self.now, delivery=self.delivery, how="mail")
                return self._taken(Outcome.UNSUBSCRIBED if news else Outcome.KEPT)
            case Kind.AUTO_REPLY if ours and self.report.away not in (None, "other"):
                self._event(AUTO_REPLIED, f"email-auto-replied:{self.kept}", says=self.report.away)
                return self._taken(Outcome.NOTED)
            case Kind.DELIVERED:
                self.lead.soft_bounces = 0
        return self._taken(Outcome.KEPT)

    def _hard(self, ours: bool) -> Outcome:
        if self.delivery.bounce == "hard":
            return Outcome.KEPT
        self.delivery.bounce, self.delivery.bounced_at = "hard", self.now
        if not ours:
            return Outcome.KEPT
        suppressed = self._suppress("hard-bounce")
        self._bounced("hard")
        return Outcome.SUPPRESSED if suppressed else Outcome.NOTED

    def _soft(self, ours: bool) -> Outcome:
        if self.delivery.bounce is not None:
            return Outcome.KEPT
        before = self._last_soft()
        self.delivery.bounce, self.delivery.bounced_at = "soft", self.now
        if not ours:
            return Outcome.KEPT
        if before is None or self._alive_since(before) or self._has_moved(since=before.sent_at):
            self.lead.soft_bounces = 0
        suppressed = False
        if BY_REASON[self.report.reason or Reason.UNKNOWN].about != "us" and not self._is_of_an_old_address():
            self.lead.soft_bounces += 1
            if self.lead.soft_bounces >= self.rules.soft_bounces:
                suppressed = self._suppress("soft-bounces")
        self._bounced("soft")
        return Outcome.SUPPRESSED if suppressed else Outcome.COUNTED

    def _complaint(self, ours: bool) -> Taken:
        if self.delivery.complained_at is not None or not ours:
            return self._taken(Outcome.KEPT)
        self.delivery.complained_at = self.now
        # It is a wish of the person as well: another address of it must not get what this one called spam.
        self.lead.opted_out_at = max(self.lead.opted_out_at or self.now, self.now)
        self._suppress("complaint")
        self._event(COMPLAINED, f"email-complained:{self.delivery.id}")
        self.session.flush()
        # The row is locked, so that of complaints at the same moment the last one sees them all.
        row = workspace(self.session, lock=True)
        counts = recent(self.session, self.now, complaints_after=row.sending_resumed_at)
        verdict = judge_complaints(counts)
        paused = verdict == "pause" and row.sending_paused_at is None
        if paused:
            row.sending_paused_at, row.sending_paused_why = self.now, BY_COMPLAINTS
        return replace(self._taken(Outcome.SUPPRESSED), verdict=verdict, counts=counts, paused=paused)

    def _suppress(self, why: suppressions.Reason) -> bool:
        """Suppresses the lead's address; false if the mail went to another one that it had then.

        Never an address because the report names it: whoever has a mail of ours could have anybody suppressed.
        """
        if self.lead.email is None or self._is_of_an_old_address():
            return False
        suppressions.add(self.session, self.lead.email, why, self.now, delivery_id=self.delivery.id)
        return True

    def _is_of_an_old_address(self) -> bool:
        """Whether the mail went to an address that the lead had then, and has no more."""
        named = {one.lower() for one in self.report.addresses}
        return (self.lead.email or "").lower() not in named and self._has_moved(since=self.delivery.sent_at)

    def _has_moved(self, *, since: datetime | None) -> bool:
        """Whether the lead's address has changed since a mail was sent."""
        changes = self.session.exec(
            select(Event.properties).where(
                Event.lead_id == self.lead.id, Event.name == IDENTIFIED, col(Event.received_at) > (since or self.now)
            )
        )
        return any("email" in properties.get("changed", ()) for properties in changes)

    def _last_soft(self) -> Delivery | None:
        """The lead's mail that came back softly before this one did."""
        return self.session.exec(
            select(Delivery)
            .where(Delivery.lead_id == self.lead.id, Delivery.bounce == "soft", Delivery.id != self.delivery.id)
            .order_by(col(Delivery.bounced_at).desc(), col(Delivery.id).desc())
        ).first()

    def _alive_since(self, before: Delivery) -> bool:
        """Whether the address was alive after that mail came back: a person opened or clicked, or a later mail stayed there."""
        bounced_at = before.bounced_at or self.now
        opened = or_(col(Delivery.opened_at) > bounced_at, col(Delivery.clicked_at) > bounced_at)
        stayed = (
            (col(Delivery.sent_at) > (before.sent_at or bounced_at))
            & (col(Delivery.sent_at) < self.now - SETTLED)
            & col(Delivery.bounced_at).is_(None)
            & (col(Delivery.status) == DeliveryStatus.SENT)
        )
        found = self.session.exec(
            select(Delivery.id).where(
                Delivery.lead_id == self.lead.id, Delivery.kind == DeliveryKind.MARKETING,
                Delivery.id != self.delivery.id, or_(opened, stayed),
            )
        )  # fmt: skip
        return found.first() is not None

    def _bounced(self, bounce: str) -> None:
        reason = self.report.reason.value if self.report.reason is not None else Reason.UNKNOWN.value
        said = {"bounce": bounce, "reason": reason}
        if self.report.status is not None:
            said["status"] = self.report.status
        self._event(BOUNCED, f"email-bounced:{self.delivery.id}:{bounce}", **said)

    def _event(self, name: str, message_id: str, **properties: Any) -> None:
        of = "scenario" if self.delivery.broadcast_id is None else "broadcast"
        log = EventLog(self.now)
        log.add(self.lead, message_id, name, {"mail": self.delivery.mail, of: self.delivery.scope, **properties})
        log.write(self.session)

    def _taken(self, outcome: Outcome) -> Taken:
        to_sales = self.delivery.kind == DeliveryKind.SALES
        return Taken(self.report.kind, outcome, self.report.reason, self.delivery.id, to_sales=to_sales)


class Incoming:
    """Takes reports in, one at a time in the caller's thread, and says what ops should know.

    Args:
        now: the world's time.
    """

    def __init__(self, database: Database, rules: IncomingRules, now: Callable[[], datetime]) -> None:
        self._database, self._rules, self._now = database, rules, now
        self._looked = -LOOK_AGAIN

    def take(self, raw: bytes, *, to: Sequence[str] = (), strangers: bool = True) -> Taken:
        """One mail that came, committed when this returns. Raises `DatabaseUnavailable`; nothing was kept then."""
        report = read_report(raw, to=to)
        taken = self._database.write_now(take_in, report, raw, self._rules, self._now(), strangers=strangers)
        if taken.paused:
            log.error("sending.paused", why=BY_COMPLAINTS, cure=_LOOK, **_rates(taken.counts))
        elif taken.verdict != "fine":
            log.warning("sending.complaints", cure=_LOOK, **_rates(taken.counts))
        if taken.to_sales and taken.kind in (Kind.BOUNCE_HARD, Kind.BOUNCE_SOFT):
            log.warning("sending.sales_mail_bounced", delivery=taken.delivery, cure="is the address of sales right?")
        if taken.outcome is Outcome.SUPPRESSED and taken.kind == Kind.BOUNCE_HARD:
            self._look_at_bounces()
        return taken

    def _look_at_bounces(self) -> None:
        """Counting is work: not for each bounce of a bad list."""
        if time.monotonic() - self._looked < LOOK_AGAIN:
            return
        self._looked = time.monotonic()
        try:
            counts = self._database.read_now(recent, self._now())
        except DatabaseUnavailable:  # the report is in all the same
            return
        if judge_bounces(counts) == "warn":
            log.warning("sending.hard_bounces", rate=percent(counts.hard_rate), sent=counts.sent, cure=_LOOK)


_LOOK = "see mebae sending status"


def _rates(counts: Counts | None) -> dict[str, object]:
    counts = counts or Counts()
    return {"rate": percent(counts.complaint_rate), "complaints": counts.complaints, "sent": counts.sent}


# Whom it is about ----------------------------------------------------------------------------------------------------


def _whom(session: Session, report: Report, tokens: Tokens | None, now: datetime) -> _About:
    """By proof, in the order of its weight; else the lead whose address or journey is named, without a delivery."""
    if tokens is not None:
        # An address that takes bounces unsubscribes nobody. In a mail that was brought back either one is proof.
        token_of = tuple(TokenKind) if report.kind != Kind.UNSUBSCRIBE else (TokenKind.UNSUBSCRIBE,)
        for address in (*report.to, *report.quoted):
            read = return_addresses.read(tokens, address, now=now)
            if read is not None and (read.kind in token_of or address not in report.to):
                found = session.exec(select(Delivery.lead_id).where(Delivery.id == read.delivery)).first()
                if found is not None:
                    return _About(found, read.delivery)
    named = {address.lower() for address in report.addresses}
    if report.message_ids:
        rows = session.exec(
            select(Delivery.id, Delivery.lead_id, Lead.email)
            .join(Lead, col(Lead.id) == col(Delivery.lead_id))
            .where(col(Delivery.message_id).in_(report.message_ids))
            .order_by(col(Delivery.id))
        )
        for delivery_id, lead_id, email in rows:
            # Message-IDs are seen by many on the way; who knows the address as well has the mail.
            if email is not None and email.lower() in named:
                return _About(lead_id, delivery_id)
    if named:
        found = session.exec(select(Lead.id).where(col(Lead.email).in_(named)).order_by(col(Lead.id))).first()
        if found is not None:
            return _About(found)
    if report.entry is not None:
        return _About(session.exec(select(JourneyRow.lead_id).where(JourneyRow.entry == report.entry)).first())
    return _About()
