"""Visitors: browsers that have not said whose they are, and what they did until they do.

An event that names both an anonymous id and a lead links the two. What the visitor did before is given to the lead, and
from then on the anonymous id alone names it too. On a computer that two people share, the last who said who it is counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, update
from sqlmodel import Session, col, select

from mebae.store.leads import Who
from mebae.store.tables import Lead, Visitor, VisitorEvent

if TYPE_CHECKING:
    from mebae.store.ingest import Incoming

KEPT_FOR = timedelta(days=90)
"""What a visitor did is kept for so long after its last visit; who has not said by then who it is, is forgotten."""


@dataclass
class Seen:
    """Whom a batch is about."""

    whos: list[Who | None] = field(default_factory=list)
    """For each event, its lead; None for a visitor who is not known."""
    strangers: list[Incoming] = field(default_factory=list)
    """The events of those."""
    joining: dict[str | None, Sequence[VisitorEvent]] = field(default_factory=dict)
    """Of visitors who say here for the first time who they are: what was kept of them."""
    linked: dict[str, int | None] = field(default_factory=dict)
    """Visitors that have a row, and their leads as they stood before."""
    naming: set[str] = field(default_factory=set)
    """Anonymous ids that this batch gives to a lead."""
    leads: dict[str | None, Lead] = field(default_factory=dict)
    """The leads of anonymous ids, as storing finds them."""


def recognise(session: Session, events: Sequence[Incoming]) -> Seen:
    """Says of each event whom it is about, and takes what was kept of visitors who now say who they are."""
    seen = Seen()
    mentioned = {one.who.anonymous_id for one in events if one.who.anonymous_id is not None}
    mentioned |= {one.previous_id for one in events if one.previous_id is not None}
    if not mentioned:
        seen.whos = [one.who for one in events]
        return seen
    known: dict[str, Who] = {}
    # Locked: nobody keeps an event of a visitor aside while it is being given to its lead, nor the other way round. The leads
    # come after that: PostgreSQL would join what they were before the lock.
    rows = select(Visitor.anonymous_id, Visitor.lead_id).where(col(Visitor.anonymous_id).in_(mentioned))
    seen.linked = dict(session.exec(rows.order_by(col(Visitor.anonymous_id)).with_for_update()).all())
    if leads := {lead_id for lead_id in seen.linked.values() if lead_id is not None}:
        names = session.exec(select(Lead.id, Lead.email, Lead.user_id).where(col(Lead.id).in_(leads)))
        who_is = {lead_id: Who(email=email, user_id=user_id) for lead_id, email, user_id in names if email or user_id}
        for anonymous_id, lead_id in seen.linked.items():
            if lead_id in who_is:
                known[anonymous_id] = who_is[lead_id].model_copy(update={"anonymous_id": anonymous_id})
    before = dict(known)
    said: list[Who | None] = []
    for one in events:
        who: Who | None = one.who
        if one.who.email is not None or one.who.user_id is not None:
            for name in (one.who.anonymous_id, one.previous_id):
                if name is not None:
                    known[name] = Who(email=one.who.email, user_id=one.who.user_id, anonymous_id=name)
                    seen.naming.add(name)
        else:
            who = known.get(one.who.anonymous_id or "")
        said.append(who)
    for one, who in zip(events, said, strict=True):
        if who is None:  # it may have said later in the batch who it is
            who = known.get(one.who.anonymous_id or "")
        seen.whos.append(who)
        if who is None:
            seen.strangers.append(one)
    _take_kept(session, seen, [one for one in seen.naming if one in seen.linked and one not in before])
    return seen


def _take_kept(session: Session, seen: Seen, joining: Sequence[str]) -> None:
    if not joining:
        return
    kept: dict[str | None, list[VisitorEvent]] = defaultdict(list)
    query = select(VisitorEvent).where(col(VisitorEvent.anonymous_id).in_(joining)).order_by(col(VisitorEvent.id))
    for event in session.exec(query):
        kept[event.anonymous_id].append(event)
        session.expunge(event)
    seen.joining.update(kept)
    if kept:
        session.execute(delete(VisitorEvent).where(col(VisitorEvent.anonymous_id).in_(list(kept))))


def keep(session: Session, strangers: Sequence[Incoming], now: datetime) -> int:
    """Keeps what visitors did who are not known; how many events that were."""
    if not strangers:
        return 0
    ids = sorted({one.who.anonymous_id or "" for one in strangers})
    _see(session, dict.fromkeys(ids), now)
    rows = [
        {
            "anonymous_id": one.who.anonymous_id or "",
            "message_id": one.message_id,
            "name": one.name,
            "properties": one.properties,
            "traits": one.traits,
            "source": one.source,
            "campaign": one.campaign,
            "occurred_at": min(one.occurred_at, one.received_at),
            "received_at": one.received_at,
        }
        for one in strangers
    ]
    session.execute(insert(VisitorEvent), rows)
    return len(rows)


def link(session: Session, seen: Seen, now: datetime) -> None:
    """Writes which leads the visitors turned out to be."""
    changed = {
        anonymous_id: lead.id
        for anonymous_id, lead in seen.leads.items()
        if anonymous_id in seen.naming and seen.linked.get(anonymous_id) != lead.id
    }
    _see(session, changed, now)


def _see(session: Session, visitors: Mapping[str | None, int | None] | Mapping[str, int | None], now: datetime) -> None:
    if not visitors:
        return
    known = set(session.exec(select(Visitor.anonymous_id).where(col(Visitor.anonymous_id).in_(list(visitors)))))
    new = [
        {"anonymous_id": one, "lead_id": lead, "first_seen_at": now, "last_seen_at": now}
        for one, lead in visitors.items()
        if one is not None and one not in known
    ]
    if new:
        session.execute(insert(Visitor), new)
    for one, lead in visitors.items():
        if one in known:
            values = {"last_seen_at": now} if lead is None else {"last_seen_at": now, "lead_id": lead}
            session.execute(update(Visitor).where(col(Visitor.anonymous_id) == one).values(values))


def purge(session: Session, now: datetime, most: int = 1000) -> int:
    """Forgets visitors who have not come for `KEPT_FOR` and never said who they are; how many. Call it until it answers 0."""
    old = list(
        session.exec(
            select(Visitor.anonymous_id)
            .where(col(Visitor.lead_id).is_(None), col(Visitor.last_seen_at) < now - KEPT_FOR)
            .limit(most)
            .with_for_update(skip_locked=True)  # one that is coming back just now stays
        )
    )
    if old:
        session.execute(delete(VisitorEvent).where(col(VisitorEvent.anonymous_id).in_(old)))
        session.execute(delete(Visitor).where(col(Visitor.anonymous_id).in_(old)))
    return len(old)
