"""The leads of a broadcast's run, a page at a time: whose turn it is, who waits, and what has become of all of them.

Conditions are asked in SQL, for each page anew: who has left the segment meanwhile is not in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, case, exists, or_, true, update
from sqlalchemy import select as columns
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, func

from mebae.ab import Tried
from mebae.broadcasts import BroadcastPlan
from mebae.ledger import DIED, RETRIED
from mebae.segments import Saved
from mebae.store.segments import belongs
from mebae.store.tables import Delivery, Lead
from mebae.words import DeliveryKind, DeliveryStatus

HOLDOUT = "holdout"
UNFINISHED = (DeliveryStatus.CLAIMED, DeliveryStatus.DATA)
"""Left by an attempt that died."""


class Zones(NamedTuple):
    """Which zones' leads a part is for, as they stand in `leads.time_zone`."""

    named: tuple[str, ...]
    others: bool = False
    """Those who are in none of `named`, or in no zone at all."""
    missed: bool = False
    """Only those for whom the run has done nothing yet."""

    def where(self, run: int) -> ColumnElement[bool]:
        zone = col(Lead.time_zone)
        here = or_(zone.is_(None), zone.not_in(self.named)) if self.others else zone.in_(self.named)
        done = exists().where(col(Delivery.broadcast_id) == run, col(Delivery.lead_id) == col(Lead.id))
        return and_(here, ~done) if self.missed else here


class Turn(NamedTuple):
    """A lead of a page, with what this run has done for it so far."""

    lead: int
    status: str | None = None
    variant: str | None = None


def members(session: Session, plan: BroadcastPlan, now: datetime) -> ColumnElement[bool]:
    """The `WHERE` over leads: who the run is for at this moment."""
    if plan.only is not None:
        return and_(col(Lead.erased_at).is_(None), col(Lead.id).in_(plan.only))
    return belongs(session, Saved(plan.segment, "", plan.to), now)


def count_members(session: Session, plan: BroadcastPlan, now: datetime) -> int:
    return int(session.execute(columns(func.count()).select_from(Lead).where(members(session, plan, now))).scalar_one())


def zones_of(session: Session, plan: BroadcastPlan, now: datetime) -> list[str | None]:
    """Every zone that stands with these leads, as it was said: not all of them are zones."""
    query = columns(col(Lead.time_zone)).where(members(session, plan, now)).distinct().order_by(col(Lead.time_zone))
    return list(session.execute(query).scalars())


def page(
    session: Session, run: int, plan: BroadcastPlan, now: datetime, *, after: int, most: int, zones: Zones | None = None
) -> list[Turn]:
    """The next members after a lead, by id. Empty: there are none any more."""
    where = true() if zones is None else zones.where(run)
    query = columns(col(Lead.id)).where(col(Lead.id) > after, members(session, plan, now), where)
    ids = session.execute(query.order_by(col(Lead.id)).limit(most)).scalars().all()
    known = {turn.lead: turn for turn in _turns(session, run, ids)}
    return [known.get(id, Turn(id)) for id in ids]


def _turns(session: Session, run: int, ids: Sequence[int]) -> Iterable[Turn]:
    query = columns(col(Delivery.lead_id), col(Delivery.status), col(Delivery.variant))
    found = session.execute(query.where(col(Delivery.broadcast_id) == run, col(Delivery.lead_id).in_(ids)))
    return [Turn(*row) for row in found]


def hold_out(session: Session, run: int, plan: BroadcastPlan, ids: Sequence[int]) -> None:
    """Records that these leads get no mail, once each, so that they can be compared with the others."""
    if not ids:
        return
    rows = [
        {
            "broadcast_id": run, "lead_id": id, "kind": DeliveryKind.MARKETING, "scope": plan.broadcast, "mail": plan.mail,
            "step": "", "visit": 1, "topic": "", "attempt": 0, "failures": 0, "mark": 0, "forms": [],
            "message_id": f"<{HOLDOUT}.{run}.{id}>",  # of no mail, and so without a domain
            "status": DeliveryStatus.REFUSED, "reason": HOLDOUT,
        }
        for id in ids
    ]  # fmt: skip
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(insert(Delivery).on_conflict_do_nothing(), rows)


# Who waits --------------------------------------------------------------------------------------------------------------


def waiting(session: Session, run: int, now: datetime, *, after: int, most: int) -> list[Turn]:
    """Mails whose time has come again, and those that a dead attempt left unfinished; by lead."""
    due = and_(col(Delivery.status) == DeliveryStatus.POSTPONED, col(Delivery.next_at) <= now)
    query = columns(col(Delivery.lead_id), col(Delivery.status), col(Delivery.variant)).where(
        col(Delivery.broadcast_id) == run,
        col(Delivery.lead_id) > after,
        or_(due, col(Delivery.status).in_(UNFINISHED)),
    )
    return [Turn(*row) for row in session.execute(query.order_by(col(Delivery.lead_id)).limit(most))]


def next_wait(session: Session, run: int) -> datetime | None:
    """When the first of those that wait is due; None when nobody waits. What is unfinished is due since ever."""
    query = columns(col(Delivery.next_at)).where(
        col(Delivery.broadcast_id) == run, col(Delivery.status) == DeliveryStatus.POSTPONED
    )
    return session.execute(query.order_by(col(Delivery.next_at)).limit(1)).scalar()


def unfinished(session: Session, run: int) -> bool:
    query = columns(col(Delivery.id)).where(col(Delivery.broadcast_id) == run, col(Delivery.status).in_(UNFINISHED))
    return session.execute(query.limit(1)).first() is not None


def still_members(session: Session, plan: BroadcastPlan, ids: Sequence[int], now: datetime) -> set[int]:
    query = columns(col(Lead.id)).where(col(Lead.id).in_(ids), members(session, plan, now))
    return set(session.execute(query).scalars())


def refuse(
    session: Session,
    run: int,
    why: str,
    *,
    leads: Collection[int] | None = None,
    statuses: Sequence[str] = (DeliveryStatus.POSTPONED, DeliveryStatus.CLAIMED),
    beyond: datetime | None = None,
) -> int:
    """Gives up mails that wait: those of some leads, or those that would go out after a moment. How many.

    A mail in `data` is none of them: nobody can say any more that it was not sent. Of one that waits to be sent once more
    neither can they: it becomes unknown (`ledger.no_more`).
    """
    where = [col(Delivery.broadcast_id) == run, col(Delivery.status).in_(statuses)]
    if leads is not None:
        where.append(col(Delivery.lead_id).in_(leads))
    if beyond is not None:
        where.append(col(Delivery.next_at) > beyond)
    status = case((col(Delivery.reason) == RETRIED, DeliveryStatus.UNKNOWN), else_=DeliveryStatus.REFUSED)
    values = {"status": status, "reason": why, "next_at": None}
    done = session.execute(update(Delivery).where(*where).values(**values).execution_options(synchronize_session=False))
    return int(done.rowcount)  # type: ignore[attr-defined]


def died(session: Session, run: int) -> None:
    """No attempt is under way any more: what is in `data` was left by one that died."""
    where = (col(Delivery.broadcast_id) == run, col(Delivery.status) == DeliveryStatus.DATA)
    values = {"status": DeliveryStatus.UNKNOWN, "reason": DIED}
    session.execute(update(Delivery).where(*where).values(**values).execution_options(synchronize_session=False))


def due_now(session: Session, run: int, why: str, now: datetime) -> None:
    """Mails that wait for this reason wait no longer."""
    where = (
        col(Delivery.broadcast_id) == run,
        col(Delivery.status) == DeliveryStatus.POSTPONED,
        col(Delivery.reason) == why,
    )
    session.execute(update(Delivery).where(*where).values(next_at=now).execution_options(synchronize_session=False))


# What has become of them ------------------------------------------------------------------------------------------------


def tally(session: Session, run: int, ids: Sequence[int] | None = None) -> dict[tuple[str, str | None], int]:
    """How many deliveries there are by status and reason: of the whole run, or of some leads."""
    status, reason = col(Delivery.status), col(Delivery.reason)
    if ids is not None:
        # Not grouped in SQL: for that SQLite would rather go through the whole run.
        query = columns(status, reason).where(col(Delivery.broadcast_id) == run, col(Delivery.lead_id).in_(ids))
        return dict(Counter((status, reason) for status, reason in session.execute(query)))
    whole = columns(status, reason, func.count()).where(col(Delivery.broadcast_id) == run).group_by(status, reason)
    return {(status, reason): many for status, reason, many in session.execute(whole)}


def waiting_of_test(session: Session, run: int) -> tuple[int, int]:
    """How many mails the test has, and how many of them still wait."""
    waits = col(Delivery.status).in_((DeliveryStatus.POSTPONED, *UNFINISHED))
    query = columns(func.count(), _count(waits)).where(
        col(Delivery.broadcast_id) == run, col(Delivery.variant).is_not(None)
    )
    many, waiting = session.execute(query).one()
    return many, waiting


def tried(session: Session, run: int, variants: Sequence[str]) -> dict[str, Tried]:
    """What has become of each variant of the test so far, in their order."""
    sent = col(Delivery.status) == DeliveryStatus.SENT
    delivered = and_(sent, col(Delivery.bounced_at).is_(None))
    parts = (
        _count(sent), _count(delivered),
        _count(and_(delivered, col(Delivery.opened_at).is_not(None))), _count(and_(delivered, col(Delivery.clicked_at).is_not(None))),
    )  # fmt: skip
    query = columns(col(Delivery.variant), *parts).where(
        col(Delivery.broadcast_id) == run, col(Delivery.variant).is_not(None)
    )
    found = {variant: Tried(*numbers) for variant, *numbers in session.execute(query.group_by(col(Delivery.variant)))}
    return {id: found.get(id, Tried()) for id in variants}


def _count(where: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((where, 1), else_=0)), 0)
