"""What a run of a broadcast has brought: mails, opens, clicks, unsubscribes; and what leads did with the mail and without."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, case, exists, or_
from sqlalchemy import select as columns
from sqlmodel import Session, col, func, select

from mebae.conditions import Pattern
from mebae.events import BY_VERB, IDENTIFIED, REQUESTED
from mebae.store.broadcast_leads import HOLDOUT
from mebae.store.conditions_sql import pattern_sql
from mebae.store.tables import Broadcast, Delivery, Event, UtcDateTime
from mebae.words import DeliveryStatus

WITHIN = timedelta(days=30)
"""How long after a run what leads do is counted for its comparison."""
NOTED = tuple(
    BY_VERB[verb].name
    for verb in (
        "created", "imported", "stage_reached", "qualified", "joined", "contacted", "handed_over", "handover_accepted",
        "handover_rejected", "handover_returned", "handover_expired",
    )
)  # fmt: skip
"""Events that tell what became of a lead, and not what it did."""
OF_MAILS = (
    "opened",
    "clicked",
    "bounced",
    "complained",
    "auto_replied",
    "unsubscribed",
    "unsubscribed_topic",
    "resubscribed",
)
"""What only those can do who got the mail."""


class Result(NamedTuple):
    """Of some mails of a run."""

    mails: int = 0
    """Leads that were meant to get it."""
    sent: int = 0
    delivered: int = 0
    """Sent, and not bounced so far."""
    opens: int = 0
    clicks: int = 0
    """Mails that a person opened, or clicked in."""
    unsubscribes: int = 0
    complaints: int = 0
    bounces: int = 0


class Group(NamedTuple):
    """Leads of a run, with or without the mail."""

    leads: int
    active: int
    """Of whom so many did something within the time: a visit, a form, a download, a seminar, an event of your own."""
    qualified: int
    """Of whom so many became MQL."""


def results(session: Session, run: Broadcast) -> dict[str | None, Result]:
    """By variant of the test; None stands for all others. Without those held out."""
    sent = col(Delivery.status) == DeliveryStatus.SENT
    bounced = and_(sent, col(Delivery.bounced_at).is_not(None))
    delivered = and_(sent, col(Delivery.bounced_at).is_(None))
    numbers = (
        func.count(), _count(sent), _count(delivered), _count(and_(sent, col(Delivery.opened_at).is_not(None))),
        _count(and_(sent, col(Delivery.clicked_at).is_not(None))), _count(and_(sent, _unsubscribed(session, run))),
        _count(and_(sent, col(Delivery.complained_at).is_not(None))), _count(bounced),
    )  # fmt: skip
    query = columns(col(Delivery.variant), *numbers).where(col(Delivery.broadcast_id) == run.id, ~_held())
    return {variant: Result(*found) for variant, *found in session.execute(query.group_by(col(Delivery.variant)))}


def refusals(session: Session, run: int) -> dict[str, int]:
    """Why mails were refused, or wait; how many. Without those held out."""
    query = columns(col(Delivery.reason), func.count()).where(
        col(Delivery.broadcast_id) == run,
        col(Delivery.status).in_((DeliveryStatus.REFUSED, DeliveryStatus.POSTPONED, DeliveryStatus.UNKNOWN)),
        ~_held(),
    )
    found = {reason or "": many for reason, many in session.execute(query.group_by(col(Delivery.reason)))}
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def comparison(session: Session, run: Broadcast, now: datetime) -> tuple[Group, Group] | None:
    """Those who were meant to get the mail, and those held out; None where nobody is.

    All who drew the mail count, also those to whom it was refused: else the two groups were not alike.
    """
    since = run.started_at or run.due_at
    until = min(now, since + WITHIN)
    did = exists().where(_of_lead(since, until), _behaviour())
    became = exists().where(
        _of_lead(since, until), pattern_sql(Pattern(event=BY_VERB["qualified"].name, where={"qualification": "mql"}))
    )
    held = case((_held(), 1), else_=0)
    query = columns(held, func.count(), _count(did), _count(became)).where(col(Delivery.broadcast_id) == run.id)
    found = {bool(one): Group(*numbers) for one, *numbers in session.execute(query.group_by(held))}
    return (found.get(False, Group(0, 0, 0)), found[True]) if True in found else None


def runs_of(session: Session, broadcast: str, *, limit: int) -> list[Broadcast]:
    """The newest first."""
    query = select(Broadcast).where(Broadcast.broadcast == broadcast).order_by(col(Broadcast.id).desc()).limit(limit)
    return list(session.exec(query))


def open_runs(session: Session, broadcast: str) -> list[Broadcast]:
    """Those that are not over."""
    where = (Broadcast.broadcast == broadcast, col(Broadcast.status).not_in(("done", "ended")))
    return list(session.exec(select(Broadcast).where(*where).order_by(col(Broadcast.id))))


def _held() -> ColumnElement[bool]:
    return func.coalesce(col(Delivery.reason) == HOLDOUT, False)


def _of_lead(since: datetime, until: datetime) -> ColumnElement[bool]:
    return and_(
        col(Event.lead_id) == col(Delivery.lead_id), col(Event.occurred_at) >= since, col(Event.occurred_at) <= until
    )


def _behaviour() -> ColumnElement[bool]:
    none = (*NOTED, *(BY_VERB[verb].name for verb in OF_MAILS), IDENTIFIED, REQUESTED)
    return col(Event.name).not_in(none)


def _unsubscribed(session: Session, run: Broadcast) -> ColumnElement[bool]:
    """Whether the lead unsubscribed by a mail of this broadcast, before its next run: the next one's are the next run's."""
    following = columns(func.min(col(Broadcast.started_at), type_=UtcDateTime())).where(
        col(Broadcast.broadcast) == run.broadcast, col(Broadcast.started_at) > (run.started_at or run.due_at)
    )
    until = session.execute(following).scalar()
    by_this = [
        pattern_sql(Pattern(event=BY_VERB[verb].name, where={"broadcast": run.broadcast}))
        for verb in ("unsubscribed", "unsubscribed_topic")
    ]
    where = [
        col(Event.lead_id) == col(Delivery.lead_id),
        col(Event.occurred_at) >= col(Delivery.sent_at),
        or_(*by_this),
    ]
    if until is not None:
        where.append(col(Event.occurred_at) < until)
    return exists().where(*where)


def _count(where: ColumnElement[Any]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((where, 1), else_=0)), 0)
