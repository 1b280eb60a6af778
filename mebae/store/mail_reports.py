"""The rows of what came back: each report once, whole as far as it may be kept, and not for ever."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from mebae.mail.bounce_reasons import Reason
from mebae.mail.reports import Kind, Report
from mebae.store.tables import MailReport

KEPT = 256 * 1024
"""Bytes of a report that are kept; what it says stands at its beginning."""
MOST_OF_ONE = 50
"""Reports about one delivery that are taken. A token is in its recipient's hands, who must not fill the disk with it."""
UNPROVEN_FOR = timedelta(days=30)
"""How long what came without proof is kept whole."""
UNPROVEN_A_DAY = 1_000
"""Reports without proof that are kept whole on one day; of more only that they came."""


def keep(
    session: Session,
    cause: str,
    report: Report,
    raw: bytes | None,
    now: datetime,
    *,
    lead: int | None,
    delivery: int | None,
) -> int | None:
    """The new row's id; None if the report was taken before. `delivery`: None without proof."""
    if delivery is None and _unproven_today(session, now) >= UNPROVEN_A_DAY:
        raw = None
    any_insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    row = {
        "cause": cause, "delivery_id": delivery, "lead_id": lead, "kind": report.kind.value,
        "status": report.status, "reason": report.reason.value if report.reason is not None else report.away,
        "raw": raw[:KEPT] if raw is not None else None, "at": now,
    }  # fmt: skip
    statement = any_insert(MailReport).values(**row).on_conflict_do_nothing(index_elements=["cause"])
    kept: int | None = session.execute(statement.returning(col(MailReport.id))).scalar()
    return kept


def is_one_too_many(session: Session, delivery: int, cause: str) -> bool:
    """Whether enough was said about a delivery, and this was not among it."""
    count = session.exec(select(func.count()).where(MailReport.delivery_id == delivery)).one()
    return count >= MOST_OF_ONE and session.exec(select(MailReport.id).where(MailReport.cause == cause)).first() is None


def bounce_reasons(session: Session, start: datetime, end: datetime) -> dict[Reason, int]:
    """Why mails came back, by what was proven, the most frequent first."""
    how_many = func.count(func.distinct(col(MailReport.delivery_id)))
    rows = session.exec(
        select(MailReport.reason, how_many)
        .where(
            col(MailReport.kind).in_((Kind.BOUNCE_HARD, Kind.BOUNCE_SOFT)), col(MailReport.delivery_id).is_not(None),
            col(MailReport.at) >= start, col(MailReport.at) < end,
        )
        .group_by(col(MailReport.reason))
        .order_by(how_many.desc(), col(MailReport.reason))
    )  # fmt: skip
    return {Reason(reason or Reason.UNKNOWN): count for reason, count in rows}


def forget_unproven(session: Session, now: datetime, most: int) -> int:
    """Wipes what old reports without proof say: they may name people whom nobody here knows. Returns how many."""
    old = (
        select(MailReport.id)
        .where(
            col(MailReport.delivery_id).is_(None),
            col(MailReport.raw).is_not(None),
            col(MailReport.at) < now - UNPROVEN_FOR,
        )
        .order_by(col(MailReport.id))
        .limit(most)
    )
    wiped = session.execute(update(MailReport).where(col(MailReport.id).in_(old)).values(raw=None))
    return int(wiped.rowcount)  # type: ignore[attr-defined]


def _unproven_today(session: Session, now: datetime) -> int:
    recently = col(MailReport.at) > now - timedelta(days=1)
    some = select(MailReport.id).where(col(MailReport.delivery_id).is_(None), recently).limit(UNPROVEN_A_DAY)
    return session.exec(select(func.count()).select_from(some.subquery())).one()
