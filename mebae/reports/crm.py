"""How the exchange with other systems stands, for `mebae crm`. From one read transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select as columns
from sqlmodel import Session, col, func, select

from mebae.crm.adapter import CODES
from mebae.store.crm import crm_of
from mebae.store.tables import CrmCursor, CrmLink, CrmMessage, Lead, Telling


class SystemLine(BaseModel):
    """One system."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    """Empty: `crm.py` names it no more, and something waits for it still."""
    leads: int
    """Leads of ours that are there."""
    waiting: int
    oldest: datetime | None
    """Since when the first of them waits."""
    told: int
    last_told: datetime | None
    refused: int
    to_read: int
    """Messages of theirs that are not read yet."""
    read_until: datetime | None


class Trouble(BaseModel):
    """Something that was refused, or that waits and was tried."""

    model_config = ConfigDict(frozen=True)

    id: int
    system: str
    what: str
    lead: str
    status: str
    reason: str
    cure: str
    since: datetime
    attempts: int
    raw: str


def systems(session: Session) -> list[SystemLine]:
    """Every system of `crm.py`, and those that something is still to be told to."""
    kinds = {one.name: str(one.kind) for one in crm_of(session).systems}
    counted: dict[str, dict[str, tuple[int, datetime | None, datetime | None]]] = {}
    row = (col(Telling.target), col(Telling.status))
    query = columns(*row, func.count(), func.min(Telling.created_at), func.max(Telling.told_at)).group_by(*row)
    query = query.where(col(Telling.channel).startswith("crm:"))
    for name, status, count, first, last in session.execute(query):
        counted.setdefault(name, {})[status] = (count, first, last)
    there = columns(col(CrmLink.system), func.count()).group_by(col(CrmLink.system))
    leads: dict[str, int] = {row[0]: row[1] for row in session.execute(there)}
    unread = columns(col(CrmMessage.system), func.count()).where(col(CrmMessage.status) == "waiting").group_by(col(CrmMessage.system))
    to_read: dict[str, int] = {row[0]: row[1] for row in session.execute(unread)}
    read = {row.system: row.read_until for row in session.exec(select(CrmCursor))}
    still = [name for name, found in counted.items() if name not in kinds and found.keys() & {"waiting", "refused"}]
    nothing = (0, None, None)
    return [
        SystemLine(
            name=name, kind=kinds.get(name, ""), leads=leads.get(name, 0),
            waiting=counted.get(name, {}).get("waiting", nothing)[0], oldest=counted.get(name, {}).get("waiting", nothing)[1],
            told=counted.get(name, {}).get("told", nothing)[0], last_told=counted.get(name, {}).get("told", nothing)[2],
            refused=counted.get(name, {}).get("refused", nothing)[0], to_read=to_read.get(name, 0), read_until=read.get(name),
        )
        for name in (*kinds, *sorted(still))
    ]  # fmt: skip


def troubles(session: Session, most: int) -> Sequence[Trouble]:
    """What was refused, and what waits though it was tried; the oldest first."""
    query = (
        select(Telling, Lead.email)
        .join(Lead, col(Telling.lead_id) == col(Lead.id))
        .where(
            col(Telling.channel).startswith("crm:"), col(Telling.status).in_(("waiting", "refused")), col(Telling.reason).is_not(None)
        )
        .order_by(col(Telling.id))
        .limit(most)
    )
    return [
        Trouble(
            id=row.id or 0, system=row.target, what=" ".join(filter(None, (row.what, str(row.details.get("about", ""))))),
            lead=email or f"lead {row.lead_id}", status=row.status, reason=row.reason or "", cure=CODES.get(row.reason or "", ""),
            since=row.created_at, attempts=row.attempts, raw=row.raw or "",
        )
        for row, email in session.exec(query)
    ]  # fmt: skip
