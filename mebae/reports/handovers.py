"""Which leads are with sales, for lists; and the calls that are to be made. Each from one read transaction."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict
from sqlmodel import Session, col, func, select

from mebae.errors import BadInput, did_you_mean
from mebae.handover import UNDER_WAY, Status
from mebae.store.sales import rules_of
from mebae.store.tables import Call, Handover, Lead, Telling


class Line(BaseModel):
    """A hand-over or a call, for a list."""

    model_config = ConfigDict(frozen=True)

    id: int
    lead: str
    company: str
    status: str
    owner: str
    why: str
    score: int = 0
    opened_at: datetime
    due_at: datetime | None
    due: str | None = None
    overdue: bool
    reason: str | None = None
    amount: int | None = None
    outcome: str | None = None
    closed_at: datetime | None = None
    script: str = ""
    method: str = ""

    def age(self, now: datetime) -> str:
        """How long it has been there, until it was closed."""
        span = (self.closed_at or now) - self.opened_at
        hours = int(span.total_seconds() // 3600)
        return f"{hours // 24} d {hours % 24} h" if hours >= 24 else f"{hours} h"


def handovers(
    session: Session, now: datetime, *, status: str | None = None, owner: str | None = None, overdue: bool = False, limit: int = 50
) -> list[Line]:
    """Hand-overs, those that wait longest first. `status`: one of them, `closed` or `all`; else all that are under way.

    Raises `BadInput` for a status that is none, `NotFound` for an owner who is nobody.
    """
    query = select(Handover, Lead).join(Lead, col(Handover.lead_id) == col(Lead.id))
    if status is None:
        query = query.where(col(Handover.status).in_(UNDER_WAY))
    elif status == "closed":
        query = query.where(col(Handover.status).not_in(UNDER_WAY))
    elif status != "all":
        if status not in set(Status):
            raise BadInput(f"no hand-over is '{status}'{did_you_mean(status, ['closed', 'all', *Status])}")
        query = query.where(Handover.status == status)
    if owner is not None:
        query = query.where(Handover.owner == rules_of(session).person(owner).id)
    if overdue:
        query = query.where((col(Handover.reminders) > 0) | (col(Handover.due_at) <= now), col(Handover.status).in_(UNDER_WAY))
    rows = session.exec(query.order_by(col(Handover.opened_at), col(Handover.id)).limit(limit)).all()
    return [
        Line(
            id=row.id or 0, lead=lead.name or lead.email or f"lead {lead.id}", company=lead.company or "", status=row.status,
            owner=row.owner, why=row.why, score=row.score, opened_at=row.opened_at, due_at=row.due_at, due=row.due,
            overdue=bool(row.reminders) and row.due_at is not None, reason=row.reason, amount=row.amount, closed_at=row.closed_at,
        )
        for row, lead in rows
    ]  # fmt: skip


def calls(session: Session, now: datetime, *, done: bool = False, owner: str | None = None, limit: int = 50) -> list[Line]:
    """Calls that are to be made, those due first first; with `done` also those that are over."""
    query = select(Call, Lead).join(Lead, col(Call.lead_id) == col(Lead.id))
    if not done:
        query = query.where(Call.status == "open")
    if owner is not None:
        query = query.where(Call.owner == rules_of(session).person(owner).id)
    rows = session.exec(query.order_by(col(Call.due_at), col(Call.id)).limit(limit)).all()
    return [
        Line(
            id=row.id or 0, lead=lead.name or lead.email or f"lead {lead.id}", company=lead.company or "", status=row.status,
            owner=row.owner, why=row.why, opened_at=row.opened_at, due_at=row.due_at, overdue=row.status == "open" and row.due_at <= now,
            outcome=row.outcome, closed_at=row.done_at, script=row.script, method=row.method,
        )
        for row, lead in rows
    ]  # fmt: skip


def untold(session: Session) -> dict[tuple[str, str, str], int]:
    """Messages to sales and other systems that have trouble: channel, status and reason, and how many."""
    count = func.count()
    query = (
        select(Telling.channel, Telling.status, Telling.reason, count)
        .where(col(Telling.status).in_(("waiting", "refused")), col(Telling.reason).is_not(None))
        .group_by(Telling.channel, Telling.status, col(Telling.reason))
    )
    return {(channel, status, reason or ""): number for channel, status, reason, number in session.exec(query)}
