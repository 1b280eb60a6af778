"""The one gate before every mail. Every answer is a row, so "why did this lead (not) get this mail?" always has an answer.

It is asked twice for each attempt: with the claim, and right before the message's bytes. Of a journey it asks first whether
that goes on: `exits_when`, pause (closed entries: `resting.take`). Then, of marketing mail, the rules of `mebae.gating`. Mail
to sales is asked about its journey only.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Literal

from sqlalchemy import Insert, String, bindparam, insert, literal, select
from sqlmodel import Session, SQLModel

from mebae.gating import Answer, GateFacts, GateRules, OnCap, decide
from mebae.journey import PAUSED, Exited, Postponed, Refused
from mebae.mailing import MailRules
from mebae.resting import Place, close, exited
from mebae.store.among import among
from mebae.store.gate_facts import AskedDelivery, AskedLead, gather
from mebae.store.tables import Delivery, Lead, UtcDateTime
from mebae.timing import Calendar
from mebae.words import DeliveryKind, GateAnswer

__all__ = ["Answer", "Gate", "GateFacts", "GateRules", "OnCap", "decide", "gather"]

PAUSED_FOR = timedelta(hours=1)
"""When a mail that met a paused journey asks again, should nobody say `resume`, which asks at once."""

Moment = Literal["claim", "data"]


class Gate:
    """Made once, in the composition root.

    Args:
        rules: those of `scenarios/mailing.py`.
        zone: the workspace's, for leads that have none.
        calendar: whose business days count.
        lacking: settings without which no mail has its legal footer; see `mebae.mail.legal.lacking`.
    """

    def __init__(self, rules: MailRules, zone: str, calendar: Calendar, lacking: Sequence[str] = ()) -> None:
        self.rules, self.zone = rules, zone
        self._rules = GateRules(rules, calendar, tuple(lacking))

    def ask(
        self,
        session: Session,
        lead: Lead,
        delivery: Delivery,
        moment: Moment,
        now: datetime,
        *,
        place: Place | None = None,
        on_cap: OnCap = "postpone",
    ) -> Answer:
        """May this mail go to this lead now? None: go. The lead is locked, the delivery has its id.

        `place`: the journey that sends it, which is asked about first; an exit closes its row. `on_cap`: what the step wants
        where a frequency cap is reached.
        """
        answer = self._journey(session, place, now) if place is not None else None
        if answer is None and delivery.kind == DeliveryKind.MARKETING:
            sheltered = place is not None and place.sheltered
            [facts] = gather(
                session, [(lead, delivery)], self.rules, self.zone, now, on_cap=on_cap, sheltered=sheltered
            )
            answer = decide(facts, self._rules, now)
            if isinstance(answer, Exited) and place is not None:
                close(place.row, answer, now)
        _record(session, [(delivery, answer)], moment, now)
        return answer

    def ask_many(
        self, session: Session, asked: Sequence[tuple[AskedLead, AskedDelivery]], moment: Moment, now: datetime
    ) -> list[Answer]:
        """`ask` for mails of no journey, each of another lead (all locked, in the order of their ids), in a few queries."""
        facts = gather(session, asked, self.rules, self.zone, now)
        answers = [decide(one, self._rules, now) for one in facts]
        answered = list(zip((delivery for _, delivery in asked), answers, strict=True))
        _record(session, [one for one in answered if one[1] is not None], moment, now)
        going = [delivery.id for delivery, answer in answered if answer is None]
        if going:
            session.connection().execute(_goes(), {"ids": going, "moment": moment, "now": now})
        return answers

    def _journey(self, session: Session, place: Place, now: datetime) -> Answer:
        out = exited(session, place, now)
        if out is not None:
            return out
        return Postponed(now + PAUSED_FOR, PAUSED) if place.row.paused else None


def _record(session: Session, answered: Sequence[tuple[AskedDelivery, Answer]], moment: Moment, now: datetime) -> None:
    session.flush()
    rows: list[dict[str, Any]] = [
        {
            "lead_id": delivery.lead_id, "entry": delivery.entry, "step": delivery.step, "visit": delivery.visit,
            "broadcast_id": delivery.broadcast_id, "delivery_id": delivery.id, "scope": delivery.scope, "mail": delivery.mail,
            "attempt": delivery.attempt, "moment": moment, "answer": str(_word(answer)),
            "reason": None if answer is None else answer.why,
            "until": answer.until if isinstance(answer, Postponed) else None, "asked_at": now,
        }
        for delivery, answer in answered
    ]  # fmt: skip
    if rows:
        session.connection().execute(_answers(), rows)


@cache
def _answers() -> Insert:
    """The table and not the class: as objects, rows with other empty columns become statements of their own."""
    return insert(SQLModel.metadata.tables["gate_answers"])


@cache
def _goes() -> Insert:
    """What the answer `go` says of many mails stands in their rows already: the database copies it. It is on the way of every
    mail, twice."""
    tables = SQLModel.metadata.tables
    mails, answers = tables["deliveries"], tables["gate_answers"]
    same = ("lead_id", "entry", "step", "visit", "broadcast_id", "scope", "mail", "attempt")
    given = {
        "delivery_id": mails.c.id, "moment": bindparam("moment", type_=String), "answer": literal(GateAnswer.GO.value, String),
        "asked_at": bindparam("now", type_=UtcDateTime()),
    }  # fmt: skip
    found = select(*(mails.c[name] for name in same), *given.values()).where(among(mails.c.id, "ids"))
    return insert(answers).from_select([*same, *given], found, include_defaults=False)


def _word(answer: Answer) -> GateAnswer:
    match answer:
        case None:
            return GateAnswer.GO
        case Refused():
            return GateAnswer.REFUSED
        case Postponed():
            return GateAnswer.POSTPONED
        case Exited():
            return GateAnswer.EXITED
