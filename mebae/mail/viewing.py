"""A mail that went out, once more: for whoever reads it as a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlmodel import Session

from mebae.mail.composing import MailContent, Texts, marketing_letter, rendered_for
from mebae.mail.links import Tracking
from mebae.mail.outgoing import MailSettings
from mebae.mail.plain import as_page
from mebae.mail.publishing import shared_texts
from mebae.mail.tracking import links_of
from mebae.store.graphs import graph_of
from mebae.store.tables import Broadcast, Company, Delivery, Event, JourneyRow, Lead, MailText
from mebae.words import DeliveryKind


class Again(NamedTuple):
    """The mail as a page."""

    html: str
    links: Mapping[int, str]
    """What must stand in the table of links. It mostly does since the mail went out, unless the lead is another today."""
    own: Mapping[int, int] = {}
    """Of these, the ones that hold values of the lead, each with the delivery."""


def mail_again(session: Session, delivery_id: int, settings: MailSettings, now: datetime) -> Again | None:
    """The HTML of a delivery: its own text in today's layout, for the lead as it is today. None where it or its text is no
    more. Raises `BrokenMail` where it cannot be rendered any more."""
    delivery = session.get(Delivery, delivery_id)
    lead = session.get(Lead, delivery.lead_id) if delivery is not None else None
    if delivery is None or lead is None or lead.erased_at is not None or delivery.kind != DeliveryKind.MARKETING:
        return None
    text = session.get(MailText, delivery.text_hash) if delivery.text_hash is not None else None
    if text is None:
        return None
    title, entry = _sent_by(session, delivery)
    sources = {delivery.language or "": (text.hash, text.source)}
    letter = marketing_letter(
        Texts(f"{delivery.scope}/{delivery.mail}", sources, shared_texts(session), settings.rules.languages), lead,
        session.get(Company, lead.company_id) if lead.company_id is not None else None,
        delivery_id, delivery.message_id, settings, entry=entry, scope=(delivery.scope, title), headers=(), now=now,
    )  # fmt: skip
    assert isinstance(letter.content, MailContent)
    links = links_of(settings, delivery_id, now, letter.content.values, letter.content.source)
    # No image of one dot: who reads the page has opened the mail before, or a scanner has.
    tracking = Tracking(links.link, trap=links.trap) if links is not None else None
    rendered = rendered_for(letter.content, settings, links, tracking, view_url=None)  # it is there already
    html = rendered.html or as_page(rendered.text, rendered.subject, delivery.language or lead.language)
    return Again(html, links.links, dict.fromkeys(links.own, delivery_id)) if links is not None else Again(html, {})


def _sent_by(session: Session, delivery: Delivery) -> tuple[str, Mapping[str, Any]]:
    """The title of what it was sent by, and the properties of the event that started the journey."""
    if delivery.entry is None:
        run = session.get(Broadcast, delivery.broadcast_id) if delivery.broadcast_id is not None else None
        return (run.broadcast if run is not None else delivery.scope), {}
    row = session.get(JourneyRow, delivery.entry)
    event = session.get(Event, row.entry_event_id) if row is not None and row.entry_event_id is not None else None
    title = graph_of(session, row.version).title if row is not None else ""
    return title or delivery.scope, event.properties if event is not None else {}
