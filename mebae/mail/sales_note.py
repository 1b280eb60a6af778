"""What sales is told of a lead (`SalesNote`), gathered from the database: for mails, other channels, and CRMs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session, col, select

from mebae.events import BY_VERB, IDENTIFIED, REQUESTED
from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import lead_values
from mebae.mail.sales import SalesNote, SalesScore, event_line
from mebae.scoring import Reason, is_human
from mebae.store.standing import Standing, standing
from mebae.store.tables import Delivery, Event, Lead
from mebae.words import DeliveryKind, DeliveryStatus, spoken

RECENT = 10
"""How many of a lead's latest events sales is shown."""
REASONS = 5
"""How many of the rules that give most."""
NO_BEHAVIOUR = frozenset(
    {IDENTIFIED, REQUESTED} | {BY_VERB[verb].name for verb in ("created", "stage_reached", "qualified", "joined", "handed_over")}
)
"""Events that sales is not shown: they say nothing of what the lead does."""
LONG_AGO = datetime.min.replace(tzinfo=UTC)


def note_on(
    session: Session, lead: Lead, settings: MailSettings, *, message: str, scenario: str, language: str, now: datetime
) -> SalesNote:
    """What sales is told of a lead: who, why, what it did lately and what it was sent."""
    held = standing(session, lead, now)
    lines = [(event.occurred_at, event_line(event.name, event.properties, language)) for event in _behaviour(session, lead)]
    mails = session.exec(
        select(Delivery)
        .where(
            Delivery.lead_id == lead.id,
            Delivery.kind == DeliveryKind.MARKETING,
            Delivery.status == DeliveryStatus.SENT,
        )
        .order_by(col(Delivery.sent_at).desc())
        .limit(RECENT)
    ).all()
    return SalesNote(
        lead=_about(lead, held, language),
        score=_score(session, lead, held, language),
        message=message,
        events=tuple(lines),
        mails=tuple((mail.sent_at, mail.mail) for mail in mails if mail.sent_at is not None),
        scenario=scenario,
        language=language,
        sender=settings.sender,
        time_zone=settings.zone,
    )


def _about(lead: Lead, held: Standing | None, language: str) -> dict[str, Any]:
    """The lead as sales reads it, at this moment."""
    between = "、" if spoken(language) == "ja" else ", "
    values = lead_values(lead) | {"rank": lead.rank, "topics": between.join(lead.topics)}
    if held is None:
        return values
    return values | {
        "rank": held.profile.lead["rank"],
        "topics": between.join(held.score.topics),
        "stage_title": held.scoring.model.stage_titled(lead.stage, language),
    }


def _score(session: Session, lead: Lead, held: Standing | None, language: str) -> SalesScore | None:
    """What the lead has now, with the rules that give most, each with the latest event that it counts."""
    if held is None:
        return None
    latest: dict[str, Reason] = {}
    for reason in held.score.reasons:
        known = latest.get(reason.rule)
        if known is None or (reason.occurred_at or LONG_AGO) > (known.occurred_at or LONG_AGO):
            latest[reason.rule] = reason
    top = held.by_rule[:REASONS]
    wanted = [latest[rule].event for rule, _ in top if latest[rule].event is not None]
    events = session.exec(select(Event).where(Event.lead_id == lead.id, col(Event.message_id).in_(wanted))).all()
    words = {event.message_id: event_line(event.name, event.properties, language) for event in events}
    titled = held.scoring.model.titled
    reasons = tuple(
        (points, titled(rule, language) + (f" ({words[event]})" if (event := latest[rule].event) in words else ""))
        for rule, points in top
    )
    return SalesScore(held.score.whole, held.score.fit, held.score.engagement, reasons)


def _behaviour(session: Session, lead: Lead) -> list[Event]:
    """What the lead did lately and people care for: not what we noted of it, nor what machines opened."""
    latest_first = (col(Event.occurred_at).desc(), col(Event.seq).desc())
    events = session.exec(
        select(Event)
        .where(Event.lead_id == lead.id, col(Event.name).not_in(NO_BEHAVIOUR))
        .order_by(*latest_first)
        .limit(RECENT * 5)
    )
    return [event for event in events if is_human(event)][:RECENT]
