"""From a journey's step to the bytes of a mail: what to read under the lock (`Letter`), and what to do with it outside.

A mail that is sent is the newest published text of its id; the delivery row records which (DESIGN §4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from mebae.events import BY_NAME
from mebae.mail.message import build
from mebae.mail.publishing import layout_source, mail_sources
from mebae.mail.rendering import BrokenMail, Rendered, Sender, choose_language, lead_values, parse_mail, render
from mebae.mail.sales import SalesNote, sales_notification
from mebae.resting import Place
from mebae.store.tables import Delivery, Event
from mebae.timing import first_zone
from mebae.words import DeliveryKind, DeliveryStatus

RECENT = 10
"""How many of a lead's latest events sales is shown."""


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
    events = session.exec(
        select(Event).where(Event.lead_id == lead.id).order_by(col(Event.seq).desc()).limit(RECENT)
    ).all()
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
        lead=lead_values(lead),
        message=getattr(step, "message", ""),
        events=tuple((event.occurred_at, _words(event)) for event in events),
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


def _words(event: Event) -> str:
    """An event in a line: its name and the property that its verb names."""
    spec = BY_NAME.get(event.name)
    value = event.properties.get(spec.property) if spec is not None and spec.property else None
    return f"{event.name}: {value}" if value else event.name
