"""From a journey's step to the bytes of a mail: what to read under the lock (`Letter`), and what to do with it outside.

A mail that is sent is the newest published text of its id; the delivery row records which (DESIGN §4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session, col, select

from mebae.events import BY_VERB, IDENTIFIED, REQUESTED
from mebae.mail.message import build
from mebae.mail.publishing import layout_source, mail_sources
from mebae.mail.rendering import BrokenMail, Rendered, Sender, choose_language, lead_values, parse_mail, render
from mebae.mail.sales import SalesNote, SalesScore, event_line, sales_notification
from mebae.resting import Place
from mebae.scoring import Reason, is_human
from mebae.store.standing import Standing, standing
from mebae.store.tables import Delivery, Event, Lead
from mebae.timing import first_zone
from mebae.words import DeliveryKind, DeliveryStatus

RECENT = 10
"""How many of a lead's latest events sales is shown."""
REASONS = 5
"""How many of the rules that give most."""
NO_BEHAVIOUR = frozenset(
    {IDENTIFIED, REQUESTED} | {BY_VERB[verb].name for verb in ("created", "stage_reached", "qualified", "joined")}
)
"""Events that sales is not shown: they say nothing of what the lead does."""
LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Letter:
    """All that a mail is made of, read in the claim's transaction."""

    to: str
    to_name: str | None
    message_id: str
    date: datetime
    headers: tuple[tuple[str, str], ...]
    sender: Sender
    content: MailContent | SalesNote


@dataclass(frozen=True)
class MailContent:
    """A published text and what it is filled with."""

    source: str
    where: str
    layout: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Composed:
    """A message ready for the wire."""

    envelope_from: str
    to: str
    message: bytes
    forms: tuple[str, ...]


def letter_for_lead(
    session: Session, place: Place, delivery: Delivery, sender: Sender, *, zone: str, now: datetime
) -> Letter:
    """A scenario's mail in the lead's language. Raises `BrokenMail` where no text was ever published."""
    scenario, lead = place.graph.scenario, place.lead
    sources = mail_sources(session, scenario, delivery.mail)
    if not sources:
        raise BrokenMail(f"{scenario}: mail '{delivery.mail}' was never published", "mail-missing")
    language = choose_language(list(sources), lead.language)
    hash, source = sources[language]
    delivery.language, delivery.text_hash = language, hash
    values = {
        "lead": lead_values(lead),
        "entry": dict(place.entry),
        "scenario": {"id": scenario, "title": place.graph.title},
        "sender": sender,
        "unsubscribe_url": None,
        "language": language or lead.language,
        "time_zone": first_zone(lead.time_zone, zone),
    }
    where = f"{scenario}/{delivery.mail}.{language}.md" if language else f"{scenario}/{delivery.mail}.md"
    content = MailContent(source, where, layout_source(session), values)
    return Letter(lead.email or "", lead.name, delivery.message_id, now, _headers(place, delivery), sender, content)


def topic_of(session: Session, place: Place, mail: str) -> str:
    """The topic of a scenario's mail in the lead's language; "" if it has none, or cannot be read (then it is not sent)."""
    sources = mail_sources(session, place.graph.scenario, mail)
    if not sources:
        return ""
    try:
        return parse_mail(sources[choose_language(list(sources), place.lead.language)][1], mail).topic
    except BrokenMail:
        return ""


def letter_for_sales(
    session: Session,
    place: Place,
    delivery: Delivery,
    sender: Sender,
    *,
    to: str,
    language: str,
    zone: str,
    now: datetime,
) -> Letter:
    """The notice to sales: who, why, what the lead did lately and what it was sent."""
    lead = place.lead
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
    step = place.graph.step(delivery.step)
    note = SalesNote(
        lead=_about(lead, held),
        score=_score(session, lead, held, language),
        message=getattr(step, "message", ""),
        events=tuple(lines),
        mails=tuple((mail.sent_at, mail.mail) for mail in mails if mail.sent_at is not None),
        scenario=place.graph.title or place.graph.scenario,
        language=language,
        sender=sender,
        time_zone=zone,
    )
    delivery.language = language
    return Letter(to, None, delivery.message_id, now, _headers(place, delivery), sender, note)


def compose(letter: Letter) -> Composed:
    """Renders and builds; raises `BrokenMail`. No I/O: runs in a thread."""
    rendered: Rendered
    if isinstance(letter.content, SalesNote):
        rendered = sales_notification(letter.content)
    else:
        content = letter.content
        rendered = render(parse_mail(content.source, content.where), content.layout, content.values)
    message = build(
        rendered,
        to=letter.to,
        to_name=letter.to_name,
        sender=rendered.sender,
        message_id=letter.message_id,
        date=letter.date,
        headers=letter.headers,
    )
    return Composed(letter.sender.email, letter.to, message, rendered.forms)


def _headers(place: Place, delivery: Delivery) -> tuple[tuple[str, str], ...]:
    """For people who debug: which scenario, step and entry a mail is of. Nothing that says more of the lead."""
    return (
        ("X-Mebae-Scenario", place.graph.scenario),
        ("X-Mebae-Step", delivery.step),
        ("X-Mebae-Entry", str(delivery.entry)),
    )


def _about(lead: Lead, held: Standing | None) -> dict[str, Any]:
    """The lead as sales reads it, at this moment."""
    values = lead_values(lead) | {"rank": lead.rank, "topics": "、".join(lead.topics)}
    if held is None:
        return values
    return values | {
        "rank": held.profile.lead["rank"],
        "topics": "、".join(held.score.topics),
        "stage_title": held.scoring.model.stage_titles.get(lead.stage, ""),
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
    reasons = tuple(
        (points, f"{rule} ({words[event]})" if (event := latest[rule].event) in words else rule) for rule, points in top
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
