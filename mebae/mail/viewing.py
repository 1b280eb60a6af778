"""A mail that went out, once more: for whoever reads it as a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlmodel import Session

from mebae.mail.links import Tracking
from mebae.mail.outgoing import MailSettings
from mebae.mail.publishing import layout_source
from mebae.mail.rendering import lead_values, parse_mail, render
from mebae.mail.tracking import links_of
from mebae.store.graphs import graph_of
from mebae.store.tables import Broadcast, Delivery, Event, JourneyRow, Lead, MailText
from mebae.timing import first_zone


class Again(NamedTuple):
    """The mail as a page."""

    html: str
    links: Mapping[int, str]
    """What must stand in the table of links. It mostly does since the mail went out, unless the lead is another today."""


def mail_again(session: Session, delivery_id: int, settings: MailSettings, now: datetime) -> Again | None:
    """The HTML of a delivery: its own text in today's layout, for the lead as it is today. None where it or its text is no
    more. Raises `BrokenMail` where it cannot be rendered any more."""
    delivery = session.get(Delivery, delivery_id)
    lead = session.get(Lead, delivery.lead_id) if delivery is not None else None
    if delivery is None or lead is None or lead.erased_at is not None or delivery.text_hash is None:
        return None
    text = session.get(MailText, delivery.text_hash)
    if text is None:
        return None
    links = links_of(settings, delivery_id, now)
    title, entry = _of(session, delivery)
    values = {
        "lead": lead_values(lead),
        "entry": dict(entry),
        "scenario": {"id": delivery.scope, "title": title},
        "sender": settings.sender,
        "unsubscribe_url": links.unsubscribe if links else None,
        "preferences_url": links.preferences if links else None,
        "view_url": links.view if links else None,
        "language": delivery.language or lead.language,
        "time_zone": first_zone(lead.time_zone, settings.zone),
    }
    # No image of one dot: who reads the page has opened the mail before, or a scanner has.
    tracking = Tracking(links.link, trap=links.trap) if links else None
    where = f"{delivery.scope}/{delivery.mail}"
    html = render(parse_mail(text.source, where), layout_source(session), values, tracking=tracking).html
    return Again(html, links.links if links else {})


def _of(session: Session, delivery: Delivery) -> tuple[str, Mapping[str, Any]]:
    """The title of what it was sent by, and the properties of the event that started the journey."""
    if delivery.entry is None:
        run = session.get(Broadcast, delivery.broadcast_id)
        return (run.broadcast if run is not None else ""), {}
    row = session.get(JourneyRow, delivery.entry)
    event = session.get(Event, row.entry_event_id) if row is not None and row.entry_event_id is not None else None
    title = graph_of(session, row.version).title if row is not None else ""
    return title or delivery.scope, event.properties if event is not None else {}
