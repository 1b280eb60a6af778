"""Whether marketing mail goes out at all (the one row `workspace`), and the counts that this is judged by."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, case, func, or_
from sqlmodel import Session, col, select

from mebae.mail.reputation import WINDOW, Counts
from mebae.store.tables import Delivery, Lead, Workspace
from mebae.words import DeliveryKind, DeliveryStatus

BY_COMPLAINTS, BY_HAND = "complaints", "by-hand"
"""Why sending is paused."""
ERASED = "(erased)"


def workspace(session: Session, *, lock: bool = False) -> Workspace:
    """The one row; locked, nobody else judges the complaints meanwhile."""
    query = select(Workspace).execution_options(populate_existing=True)
    return session.exec(query.with_for_update() if lock else query).one()


def pause_sending(session: Session, why: str, now: datetime) -> bool:
    """No marketing mail passes the gate from now on; whether that is news. What waits is asked about again later."""
    row = workspace(session, lock=True)
    if row.sending_paused_at is not None:
        return False
    row.sending_paused_at, row.sending_paused_why = now, why
    return True


def resume_sending(session: Session, now: datetime) -> bool:
    """A person has looked: sending goes on, and the complaints so far pause it no more. Whether it was paused."""
    row = workspace(session, lock=True)
    if row.sending_paused_at is None:
        return False
    row.sending_paused_at = row.sending_paused_why = None
    row.sending_resumed_at = now
    return True


def recent(session: Session, now: datetime, *, complaints_after: datetime | None = None) -> Counts:
    """The marketing mails of the last seven days, and what came back about them.

    `complaints_after`: earlier ones do not count; a person has looked at them.
    """
    return between(session, now - WINDOW, now + timedelta(microseconds=1), complaints_after=complaints_after)


def between(session: Session, start: datetime, end: datetime, *, complaints_after: datetime | None = None) -> Counts:
    """The same of the mails of a time."""
    complained: ColumnElement[bool] = col(Delivery.complained_at).is_not(None)
    if complaints_after is not None:
        complained = col(Delivery.complained_at) > complaints_after
    sums = (_how_many(col(Delivery.bounce) == "hard"), _how_many(col(Delivery.bounce) == "soft"), _how_many(complained))
    sent, hard, soft, complaints = session.exec(
        select(func.count(), *sums).where(
            Delivery.kind == DeliveryKind.MARKETING, col(Delivery.sent_at) >= start, col(Delivery.sent_at) < end
        )
    ).one()
    # Refused in the session: not sent, and a bounce all the same.
    refused = session.exec(
        select(func.count()).where(
            Delivery.kind == DeliveryKind.MARKETING, col(Delivery.sent_at).is_(None), Delivery.bounce == "hard",
            col(Delivery.bounced_at) >= start, col(Delivery.bounced_at) < end,
        )
    ).one()  # fmt: skip
    unknown = session.exec(
        select(func.count()).where(
            Delivery.status == DeliveryStatus.UNKNOWN, Delivery.kind == DeliveryKind.MARKETING,
            col(Delivery.data_at) >= start, col(Delivery.data_at) < end,
        )
    ).one()  # fmt: skip
    return Counts(sent, hard + refused, soft, complaints, unknown)


def by_day(session: Session, now: datetime, zone: str, days: int) -> list[tuple[date, Counts]]:
    """The last days in the workspace's zone, today first."""
    today = now.astimezone(ZoneInfo(zone)).date()
    counted = []
    for back in range(days):
        day = today - timedelta(days=back)
        start, end = (datetime.combine(one, time(), ZoneInfo(zone)) for one in (day, day + timedelta(days=1)))
        counted.append((day, between(session, start, end)))
    return counted


def by_domain(session: Session, start: datetime, end: datetime, limit: int) -> list[tuple[str, Counts]]:
    """The domains that were sent to, those with the most trouble first, then those with the most mails."""
    email = col(Lead.email)
    if session.get_bind().dialect.name == "postgresql":
        domain = func.split_part(email, "@", -1)
    else:
        domain = func.substr(email, func.instr(email, "@") + 1)  # of an address that is normalised: it has one
    named = func.coalesce(domain, ERASED).label("domain")
    hard, soft = _how_many(col(Delivery.bounce) == "hard"), _how_many(col(Delivery.bounce) == "soft")
    complaints = _how_many(col(Delivery.complained_at).is_not(None))
    unknown = _how_many(col(Delivery.status) == DeliveryStatus.UNKNOWN)
    sent_then = (col(Delivery.sent_at) >= start) & (col(Delivery.sent_at) < end)
    unknown_then = (
        (col(Delivery.status) == DeliveryStatus.UNKNOWN)
        & (col(Delivery.data_at) >= start)
        & (col(Delivery.data_at) < end)
    )
    refused_then = (
        col(Delivery.sent_at).is_(None)
        & (col(Delivery.bounce) == "hard")
        & (col(Delivery.bounced_at) >= start)
        & (col(Delivery.bounced_at) < end)
    )
    rows = session.exec(
        select(named, _how_many(col(Delivery.sent_at).is_not(None)), hard, soft, complaints, unknown)  # type: ignore[call-overload]
        .join(Lead, col(Lead.id) == col(Delivery.lead_id))
        .where(Delivery.kind == DeliveryKind.MARKETING, or_(sent_then, unknown_then, refused_then))
        .group_by(named)
        .order_by((complaints + hard + soft + unknown).desc(), func.count().desc(), named)
        .limit(limit)
    )
    return [(name, Counts(*counts)) for name, *counts in rows]


def _how_many(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
