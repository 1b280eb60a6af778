"""The published rules of hand-over, and which leads are with sales."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlmodel import Session, col, select

from mebae.handover import NOT_JUDGED, UNDER_WAY
from mebae.sales import MailWaits, SalesRules
from mebae.store.tables import Handover, PublishedSales

_MAIL_WAITS = {"until-judged": NOT_JUDGED, "until-closed": UNDER_WAY, "never": ()}


def rules_of(session: Session) -> SalesRules:
    """What `scenarios/sales.py` said when it was last published; without it the plain rules."""
    row = session.get(PublishedSales, 1)
    return SalesRules() if row is None else SalesRules.load(row.rules)


def publish_sales(session: Session, rules: SalesRules | None, now: datetime) -> None:
    """Publishes the rules. A file that is gone takes the rules with it; hand-overs under way keep their owners."""
    row = session.get(PublishedSales, 1)
    if rules is None:
        if row is not None:
            session.delete(row)
    elif row is None:
        session.add(PublishedSales(rules=rules.dump(), published_at=now))
    elif row.rules != rules.dump():
        row.rules, row.published_at = rules.dump(), now


def under_way(session: Session, lead_id: int) -> Handover | None:
    """The lead's hand-over that is not closed, if there is one."""
    query = select(Handover).where(Handover.lead_id == lead_id, col(Handover.status).in_(UNDER_WAY))
    return session.exec(query).first()


def held_by_sales(session: Session, opened: Sequence[tuple[int, str, datetime]]) -> dict[int, datetime]:
    """Of leads with a hand-over under way (lead, its status, since when) those whose marketing mail waits."""
    if not opened:
        return {}
    waits: MailWaits = rules_of(session).mail_waits
    return {lead_id: since for lead_id, status, since in opened if status in _MAIL_WAITS[waits]}
