"""What a lead says of our mail on its own pages: no more, none of a topic, again, in another language.

Each is a transaction under the lead's lock; the same wish twice changes nothing the second time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from mebae.events import IDENTIFIED
from mebae.store import suppressions
from mebae.store.database import lock_lead
from mebae.store.ingest import ConsentGiven, EventLog
from mebae.store.tables import Delivery, Event, Lead, TopicChoice

HOW = "preferences"
"""How consents and opt-outs of these pages came."""


@dataclass(frozen=True)
class Wishes:
    """What is known of a lead, as its pages show it."""

    email: str | None
    language: str
    speaks: tuple[str | None, ...]
    """The languages to speak to it, the likeliest first: the one that it has chosen since the mail that brought it here; else
    that mail's, since it read that; else its own, which may be no more than what nobody has said otherwise."""
    topic: str
    """That mail's."""
    stopped: bool
    can_resume: bool
    """Not if its mail came back or it complained: then the address is no good, or somebody has to look."""
    choices: Mapping[str, bool]


def wishes(session: Session, delivery_id: int) -> Wishes | None:
    """What the lead of a delivery has said so far; None where there is no such delivery or its lead is erased."""
    found = session.exec(
        select(Delivery, Lead).join(Lead, col(Lead.id) == col(Delivery.lead_id)).where(Delivery.id == delivery_id)
    ).first()
    if found is None or found[1].erased_at is not None:
        return None
    delivery, lead = found
    entry = suppressions.find(session, lead.email) if lead.email else None
    choices = session.exec(select(TopicChoice).where(TopicChoice.lead_id == lead.id)).all()
    return Wishes(
        email=lead.email,
        language=lead.language,
        speaks=_speaks(session, delivery, lead),
        topic=delivery.topic,
        stopped=lead.opted_out_at is not None or entry is not None,
        can_resume=lead.email is not None and (entry is None or entry.reason in suppressions.LIFTED_BY_CONSENT),
        choices={choice.topic: choice.wanted for choice in choices},
    )


def _speaks(session: Session, delivery: Delivery, lead: Lead) -> tuple[str | None, ...]:
    since = select(Event.properties).where(Event.lead_id == lead.id, Event.name == IDENTIFIED, col(Event.seq) > delivery.mark)
    if any("language" in properties.get("changed", ()) for properties in session.exec(since)):
        return lead.language, delivery.language
    return delivery.language, lead.language


def stop(session: Session, delivery_id: int, now: datetime, *, how: str, topic: str | None = None) -> None:
    """No more mail, or none of a topic. Of a delivery that is no more, or an erased lead, there is nothing to stop."""
    its = _of(session, delivery_id)
    if its is not None:
        delivery, lead = its
        suppressions.unsubscribe(session, lead, now, delivery=delivery, topic=topic, how=how)


def resume(session: Session, delivery_id: int, now: datetime, *, wording: str, topic: str | None = None) -> None:
    """Mail again: a new consent, with the words that it was given to, or a topic chosen again."""
    its = _of(session, delivery_id)
    if its is None:
        return
    delivery, lead = its
    assert lead.id is not None
    if topic is not None:
        suppressions.choose_topic(session, lead.id, topic, wanted=True, now=now)
        return
    log = EventLog(now)
    given = ConsentGiven(how=HOW, source=delivery.mail, wording=wording)
    log.consent(lead, given, now, f"resubscribed:{lead.id}:{lead.last_seq + 1}", lifts=True)
    log.write(session)


def save(
    session: Session,
    delivery_id: int,
    now: datetime,
    *,
    shown: Collection[str],
    wanted: Collection[str],
    language: str | None,
) -> None:
    """What was chosen among the topics that were shown, and the language."""
    its = _of(session, delivery_id)
    if its is None:
        return
    delivery, lead = its
    assert lead.id is not None
    for topic in sorted(shown):
        if topic in wanted:
            suppressions.choose_topic(session, lead.id, topic, wanted=True, now=now)
        else:
            suppressions.unsubscribe(session, lead, now, delivery=delivery, topic=topic, how=HOW)
    if language is not None and not lead.language.lower().startswith(language):
        lead.language, lead.updated_at = language, now
        log = EventLog(now)
        log.changed(lead, {"language": language})
        log.write(session)


def _of(session: Session, delivery_id: int) -> tuple[Delivery, Lead] | None:
    """A delivery and its lead, locked."""
    delivery = session.get(Delivery, delivery_id)
    lead = lock_lead(session, delivery.lead_id) if delivery is not None else None
    return (delivery, lead) if delivery is not None and lead is not None and lead.erased_at is None else None
