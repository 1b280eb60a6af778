"""Why a lead got a mail, did not get it, or did not get it yet: from what the gate and the ledger left behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sqlmodel import Session, col, func, or_, select

from mebae.errors import NotFound
from mebae.graph import Choice, Graph
from mebae.mail.rendering import BrokenMail, parse_mail
from mebae.reports.explaining import moment_words
from mebae.reports.finding import called
from mebae.reports.mail_standing import Rules, mail_standing, zone_of
from mebae.reports.mail_words import LOST, cap_words, hours_words, words_of
from mebae.reports.mails_told import AnswerTold, MailsReport, MailWhy, NeverDue
from mebae.reports.why import why
from mebae.store.gate_facts import counted_in_caps
from mebae.store.graphs import graph_of
from mebae.store.tables import (
    Broadcast,
    Delivery,
    GateRow,
    JourneyRow,
    Lead,
    MailText,
    PublishedBroadcast,
    PublishedMail,
    PublishedScenario,
)
from mebae.words import DeliveryKind, DeliveryStatus, GateAnswer

MAILS, ANSWERS = 30, 20
"""How many mails are told, and how many answers about each, the newest."""
SHOWN = 6
"""Mails that are named as those that filled a cap."""
_HAPPENED = (
    ("bounced_at", "it came back"), ("complained_at", "it was complained about"), ("clicked_at", "clicked"), ("opened_at", "opened"),
)  # fmt: skip


def why_mails(session: Session, lead: Lead, rules: Rules, now: datetime, *, mail: str | None = None) -> MailsReport:
    """The report: of one mail (by its id, or the step that sends it) all deliveries; else of every mail the latest.

    Raises `NotFound` with the nearest names for a mail that nobody knows.
    """
    return _Mails(session, lead, rules, now).report(mail)


class _Mails:
    def __init__(self, session: Session, lead: Lead, rules: Rules, now: datetime) -> None:
        assert lead.id is not None
        self.session, self.lead, self.id, self.rules, self.now = session, lead, lead.id, rules, now
        self.zone = zone_of(lead, rules.zone)

    def report(self, mail: str | None) -> MailsReport:
        rows = self._deliveries(mail)
        never = self._never(mail) if mail is not None and not rows else []
        return MailsReport(
            now=self.now,
            lead=self.id,
            called=called(self.lead),
            name=self.lead.name,
            zone=self.zone,
            standing=mail_standing(self.session, self.lead, self.rules, self.now),
            mails=[self._mail(row) for row in rows],
            never=never,
        )

    def _deliveries(self, mail: str | None) -> Sequence[Delivery]:
        query = select(Delivery).where(Delivery.lead_id == self.id, Delivery.kind == DeliveryKind.MARKETING)
        if mail is not None:
            query = query.where(or_(col(Delivery.mail) == mail, col(Delivery.step) == mail))
        else:
            newest = (
                select(func.max(Delivery.id))
                .where(Delivery.lead_id == self.id, Delivery.kind == DeliveryKind.MARKETING)
                .group_by(col(Delivery.scope), col(Delivery.mail))
            )
            query = query.where(col(Delivery.id).in_(newest))
        return self.session.exec(query.order_by(col(Delivery.id).desc()).limit(MAILS)).all()

    def _mail(self, row: Delivery) -> MailWhy:
        mine = GateRow.delivery_id == row.id
        count = self.session.exec(select(func.count(col(GateRow.id))).where(mine, GateRow.lead_id == self.id)).one()
        answers = self.session.exec(
            select(GateRow).where(mine, GateRow.lead_id == self.id).order_by(col(GateRow.id).desc()).limit(ANSWERS)
        ).all()
        return MailWhy(
            delivery=row.id or 0,
            mail=row.mail,
            scope=row.scope,
            title=self._title(row),
            of_broadcast=row.broadcast_id is not None,
            step=row.step,
            visit=row.visit,
            topic=row.topic,
            status=row.status,
            at=row.sent_at or row.data_at or row.claimed_at,
            words=self._fate(row),
            answers=[self._answer(row, one) for one in reversed(answers)],
            earlier=count - len(answers),
            forgotten=count == 0 and row.attempt > 0,
        )

    def _title(self, row: Delivery) -> str:
        if row.broadcast_id is not None:
            published = self.session.get(PublishedBroadcast, row.scope)
            run = self.session.get(Broadcast, row.broadcast_id)
            return _title_of(published.plan if published is not None else run.plan if run is not None else "")
        journey = self.session.get(JourneyRow, row.entry) if row.entry is not None else None
        return self._graph(journey.version).title if journey is not None else ""

    def _graph(self, version: str) -> Graph:
        return graph_of(self.session, version)

    def _fate(self, row: Delivery) -> str:
        """What became of a mail, in a sentence."""
        said = words_of(row.reason)
        match row.status:
            case DeliveryStatus.SENT:
                at = self._at(row.sent_at)
                then = [f"{words} {self._at(getattr(row, name))}" for name, words in _HAPPENED if getattr(row, name) is not None]
                again = f"; {said.said}" if row.reason else ""
                return f"it was sent on {at}" + (f" ({', '.join(then)})" if then else "") + again
            case DeliveryStatus.REFUSED:
                return f"it was not sent, as {said.said or 'it was refused'}"
            case DeliveryStatus.POSTPONED:
                when = f" until {self._at(row.next_at)}" if row.next_at is not None else ""
                return f"it waits{when}, as {said.said or 'it was postponed'}; it is asked about again then"
            case DeliveryStatus.UNKNOWN:
                if row.reason in LOST or not row.reason:
                    return f"nobody can say whether it arrived: {said.said or 'the line broke'}"
                return f"nobody can say whether it arrived, and it is not tried again, as {said.said}"
            case _:
                return f"it is on its way since {self._at(row.claimed_at)}"

    def _answer(self, row: Delivery, one: GateRow) -> AnswerTold:
        said = words_of(one.reason)
        words = said.said
        match one.reason:
            case "frequency-cap":
                words = self._filled(row, one) or words
                if one.answer != GateAnswer.POSTPONED:
                    words += f', and the step says on_cap="{"skip" if one.answer == GateAnswer.REFUSED else "end"}"'
            case "quiet-hours" if (hours := self.rules.mail.hours_for(row.topic)) is not None:
                words = f"it was {self._at(one.asked_at)} in {self.zone}, and mail goes out {hours_words(hours)}"
            case "no-business-day":
                words = f"{self._at(one.asked_at)[:10]} was no business day in {self.zone}, and mail goes out on those only"
            case "topic-not-wanted" if row.topic:
                topic = self.rules.mail.topic(row.topic)
                words = f"the lead chose to get no mail of the topic {topic.title(self.lead.language) if topic else row.topic}"
            case _:
                pass
        return AnswerTold(
            at=one.asked_at, moment=one.moment, attempt=one.attempt, answer=one.answer, reason=one.reason, until=one.until,
            words=words, cure=said.cure,
        )  # fmt: skip

    def _filled(self, row: Delivery, one: GateRow) -> str:
        """Which mails filled a cap of today's rules when the gate was asked."""
        taken = counted_in_caps(self.session, [self.id], self.rules.mail, one.asked_at).get(self.id, [])
        before = [(id, at) for id, at in taken if id != row.id and at <= one.asked_at]
        for cap in self.rules.mail.caps:
            within = [(id, at) for id, at in before if at > one.asked_at - cap.span]
            if len(within) >= cap.count:
                names = [f"{self.session.get_one(Delivery, id).mail} ({self._at(at)})" for id, at in within[-SHOWN:]]
                return f"{cap_words(cap)}, and it had {', '.join(names)}"
        return ""

    def _never(self, mail: str) -> list[NeverDue]:
        """Of a mail of which there is no delivery: where it stands, and how far the lead came there."""
        found = []
        for row in self.session.exec(select(PublishedScenario).order_by(PublishedScenario.scenario)).all():
            if mail in _mails_of(self._graph(row.version)):
                so_far = why(self.session, self.lead, row.scenario, self.now, zone=self.zone).answer
                words = f"it never came to this mail: {so_far}"
                found.append(NeverDue(scope=row.scenario, words=words, topic=self._topic(row.scenario, mail)))
        broadcasts = set(self.session.exec(select(PublishedBroadcast.broadcast)).all())
        scopes = self.session.exec(select(PublishedMail.scope).where(PublishedMail.mail == mail).distinct()).all()
        found += [
            NeverDue(
                scope=scope, words="it is a broadcast's, and no run of it had this lead among those to be written to",
                topic=self._topic(scope, mail),
            )
            for scope in sorted(scopes)
            if scope in broadcasts
        ]
        if not found:
            known = self.session.exec(select(PublishedMail.mail).where(PublishedMail.scope != "layouts").distinct()).all()
            raise NotFound("mail", mail, known)
        return found

    def _topic(self, scope: str, mail: str) -> str:
        """As the mail's text says."""
        query = select(MailText.source).join(PublishedMail, col(PublishedMail.hash) == col(MailText.hash))
        source = self.session.exec(query.where(PublishedMail.scope == scope, PublishedMail.mail == mail)).first()
        try:
            return "" if source is None else parse_mail(source, mail).topic
        except BrokenMail:
            return ""

    def _at(self, moment: datetime | None) -> str:
        return "?" if moment is None else moment_words(moment, self.zone)


def _mails_of(graph: Graph) -> set[str]:
    """The mails that a graph can send, and the steps that send them."""
    found: set[str] = set()
    for step in graph.steps:
        mail = getattr(step, "mail", None)
        if mail is None or step.do in ("wait_for",):
            continue
        found.add(step.id)
        found |= {*mail.of.values(), mail.otherwise} if isinstance(mail, Choice) else {str(mail)}
    return found


def _title_of(plan: str) -> str:
    """A broadcast's title, from its plan's JSON."""
    try:
        return str(json.loads(plan).get("title", ""))
    except ValueError:
        return ""
