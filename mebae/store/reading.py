"""What a lead was sent and has read, for choosing what it gets next (`mebae.content`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlmodel import Session, col, select

from mebae.content import Piece, Reader, next_piece
from mebae.events import BY_VERB
from mebae.graph import About, Series
from mebae.scoring import is_human
from mebae.store.standing import standing
from mebae.store.tables import Delivery, Event, Lead
from mebae.words import DeliveryStatus

GONE_OUT = (DeliveryStatus.CLAIMED, DeliveryStatus.DATA, DeliveryStatus.SENT, DeliveryStatus.UNKNOWN, DeliveryStatus.POSTPONED)
"""What is on its way counts as had: two journeys do not send one lead the same piece."""
READ = {BY_VERB["downloaded"].name: "content", BY_VERB["clicked"].name: "url", BY_VERB["visited"].name: "url"}
"""Events that say that a lead has read something, and the property that says what."""


def reader_of(session: Session, lead: Lead, now: datetime) -> Reader:
    """A lead as a reader of content, at this moment."""
    held = standing(session, lead, now, recount=False)
    events = session.exec(select(Event).where(Event.lead_id == lead.id, col(Event.name).in_(READ)))
    read = {str(event.properties.get(READ[event.name]) or "") for event in events if is_human(event)}
    had = select(Delivery.piece).where(
        Delivery.lead_id == lead.id, col(Delivery.piece).is_not(None), col(Delivery.status).in_(GONE_OUT)
    )
    return Reader(
        language=lead.language,
        stage=lead.stage,
        industry=lead.industry_group,
        topics=tuple(held.score.topics if held is not None else lead.topics),
        had=frozenset(piece for piece in session.exec(had) if piece),
        read=frozenset(read - {""}),
    )


def next_of_series(session: Session, lead: Lead, scope: str, series: Series) -> str | None:
    """The first mail of a series that this scenario has never sent the lead; None if it has had all."""
    had = _had(session, lead, scope, series.series)
    return next((mail for mail in series.series if mail not in had), None)


def next_from_catalogue(session: Session, lead: Lead, about: About, pieces: Sequence[Piece], now: datetime) -> Piece | None:
    """The piece that suits a lead best and is new to it."""
    reader = reader_of(session, lead, now)
    return next_piece(pieces, reader, topics=about.topics, kinds=about.kinds, stage=about.stage)


def _had(session: Session, lead: Lead, scope: str, mails: Collection[str]) -> set[str]:
    query = select(Delivery.mail).where(
        Delivery.lead_id == lead.id, Delivery.scope == scope, col(Delivery.mail).in_(mails), col(Delivery.status).in_(GONE_OUT)
    )
    return set(session.exec(query))
