"""The one gate before every mail. Every answer is a row, so "why did this lead (not) get this mail?" always has an answer.

It is asked twice for each attempt: with the claim, and right before the message's bytes. So far it knows: closed entries
(`resting.take`), pause, `exits_when`, opt-out and a missing address. Consent, topics, caps and quiet hours come with the
mail issue, in the order of DESIGN §8.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from sqlmodel import Session

from mebae.journey import PAUSED, Exited, Postponed, Refused
from mebae.resting import Place, exited
from mebae.store.tables import Delivery, GateRow
from mebae.words import DeliveryKind, GateAnswer

PAUSED_FOR = timedelta(hours=1)
"""When a mail that met a paused journey asks again, should nobody say `resume`, which asks at once."""


def gate(
    session: Session, place: Place, delivery: Delivery, moment: Literal["claim", "data"], now: datetime
) -> Refused | Postponed | Exited | None:
    """None: go. The lead's lock is held."""
    answer = _ask(session, place, delivery, now)
    session.add(
        GateRow(
            lead_id=delivery.lead_id,
            entry=delivery.entry,
            step=delivery.step,
            visit=delivery.visit,
            delivery_id=delivery.id,
            scope=delivery.scope,
            mail=delivery.mail,
            attempt=delivery.attempt,
            moment=moment,
            answer=_word(answer),
            reason=answer.why if answer is not None else None,
            until=answer.until if isinstance(answer, Postponed) else None,
            asked_at=now,
        )
    )
    return answer


def _ask(session: Session, place: Place, delivery: Delivery, now: datetime) -> Refused | Postponed | Exited | None:
    out = exited(session, place, now)
    if out is not None:
        return out
    if place.row.paused:
        return Postponed(now + PAUSED_FOR, PAUSED)
    if delivery.kind == DeliveryKind.SALES:
        return None
    if place.lead.opted_out_at is not None:
        return Refused("opted-out")
    if not place.lead.email:
        return Refused("no-address")
    return None


def _word(answer: Refused | Postponed | Exited | None) -> GateAnswer:
    match answer:
        case None:
            return GateAnswer.GO
        case Refused():
            return GateAnswer.REFUSED
        case Postponed():
            return GateAnswer.POSTPONED
        case Exited():
            return GateAnswer.EXITED
