"""What another system is to be told, written in the transaction of what it tells of; the teller does the rest (`mebae.telling`).

Three verbs: `lead`, `activity`, `task`. One lane per system and lead, so that an activity never comes before its lead. A telling of a
lead says what it is when it is told: changes that come while one waits untried go with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlmodel import Session, col, func, or_, select

from mebae.conditions import evaluate
from mebae.crm.model import Occasion, System
from mebae.store.crm import crm_of, link_of
from mebae.store.facts import LeadFacts
from mebae.store.tables import Call, CrmCursor, Handover, HandoverEvent, Lead, Telling

LEAD, ACTIVITY, TASK = "lead", "activity", "task"
LATE = timedelta(minutes=5)
"""How long after its own moment a change may be committed: it waited for a lock, or for a database that was away."""
TASKS_FOR = ("opened", "pass")
"""What of a hand-over asks somebody to do something."""


def on_became(session: Session, lead: Lead, occasions: Iterable[Occasion], now: datetime) -> None:
    """A locked lead has reached a stage, or another qualification."""
    wanted = set(occasions)
    if not wanted:
        return
    for system in crm_of(session).systems:
        if wanted & set(system.sending.at_once):
            tell_lead(session, system, lead, now)


def on_handover(session: Session, row: Handover, what: str, now: datetime) -> None:
    """Something happened to a hand-over, whose lead is locked. `what`: `opened`, or a move."""
    for system in crm_of(session).systems:
        lead = session.get_one(Lead, row.lead_id)
        if "handover" not in system.sending.at_once or lead.erased_at is not None:
            continue
        if not tell_lead(session, system, lead, now):
            continue
        if what != "opened" and _said_by(session, row) == system.channel:
            continue  # it knows, for it said so
        key = f"crm-{system.name}-handover-{row.id}-{row.version}-{what}"
        if system.sending.activities:
            _tell(session, system, ACTIVITY, lead, now, f"{key}-activity", what=what, handover=row)
        if system.sending.tasks and what in TASKS_FOR:
            _tell(session, system, TASK, lead, now, f"{key}-task", what=what, handover=row)


def on_call(session: Session, row: Call, now: datetime) -> None:
    """Somebody is to call a locked lead."""
    for system in crm_of(session).systems:
        lead = session.get_one(Lead, row.lead_id)
        if "call" not in system.sending.at_once or not system.sending.tasks or lead.erased_at is not None:
            continue
        if tell_lead(session, system, lead, now):
            _tell(session, system, TASK, lead, now, f"crm-{system.name}-call-{row.id}-task", what="call", call=row)


def tell_lead(session: Session, system: System, lead: Lead, now: datetime, *, force: bool = False) -> bool:
    """Has a locked lead made or brought up to date there; whether it goes there at all.

    `force`: also if nothing has changed and the rules would leave it out.
    """
    assert lead.id is not None
    if lead.email is None or lead.erased_at is not None:
        return False
    lane = _lane(system, lead)
    if not force and not _goes(session, system, lead, now, lane):
        return False
    # Of a telling that was tried nobody knows what has arrived; one that was not says what is so when it is. The lock keeps the teller
    # from taking it before what we write here is there to be read.
    untried = select(Telling).where(
        Telling.lane == lane, Telling.what == LEAD, col(Telling.status) == "waiting", Telling.attempts == 0
    )
    found = session.exec(untried.with_for_update()).first()
    if found is None:
        count = session.exec(select(func.count()).where(Telling.lane == lane, Telling.what == LEAD)).one()
        _tell(session, system, LEAD, lead, now, f"crm-{system.name}-lead-{lead.id}-{count + 1}", force=force)
    elif force:
        found.details = {**found.details, "force": True}
    session.flush()
    return True


def changed_leads(session: Session, system: System, after: int, until: datetime, most: int) -> list[int]:
    """Leads of which something changed since the last look, or shortly before it, by id; those after one id.

    What the last look has seen already is told to nobody twice: it is the same as what was told.
    """
    cursor = session.get(CrmCursor, system.name)
    since = None if cursor is None else cursor.swept_until
    query = select(Lead.id).where(col(Lead.id) > after, col(Lead.erased_at).is_(None), col(Lead.email).is_not(None))
    if since is not None:
        query = query.where(or_(col(Lead.updated_at) > since - LATE, col(Lead.scored_at) > since - LATE))
    query = query.where(col(Lead.created_at) <= until)
    return [id for id in session.exec(query.order_by(col(Lead.id)).limit(most)) if id is not None]


def swept(session: Session, system: System, until: datetime) -> None:
    """Our leads have been looked through for this system."""
    row = session.get(CrmCursor, system.name) or CrmCursor(system=system.name)
    row.swept_until = until
    session.add(row)


def retry(session: Session, system: str | None, lead_id: int | None) -> int:
    """Has refused tellings told again, each lead's in its order, with the same keys; how many."""
    query = select(Telling).where(Telling.status == "refused", col(Telling.channel).startswith("crm:"))
    if system is not None:
        query = query.where(Telling.channel == f"crm:{system}")
    if lead_id is not None:
        query = query.where(Telling.lead_id == lead_id)
    rows = session.exec(query.with_for_update()).all()
    for row in rows:
        row.status, row.reason, row.next_at, row.attempts = "waiting", None, None, 1
    return len(rows)


def _said_by(session: Session, row: Handover) -> str:
    """Who decided what has just happened."""
    query = select(HandoverEvent.by).where(HandoverEvent.handover_id == row.id).order_by(col(HandoverEvent.id).desc())
    return session.exec(query).first() or ""


def _goes(session: Session, system: System, lead: Lead, now: datetime, lane: str) -> bool:
    """Whether the lead goes to this system: by its condition, or because it is there or on its way already."""
    only = system.sending.only
    assert lead.id is not None
    if only is None or link_of(session, system.name, lead.id) is not None:
        return True
    on_its_way = select(Telling.id).where(Telling.lane == lane, col(Telling.status) == "waiting").limit(1)
    return evaluate(only, LeadFacts(session, lead, now)).value or session.exec(on_its_way).first() is not None


def _tell(
    session: Session, system: System, verb: str, lead: Lead, now: datetime, key: str, *, what: str = "", handover: Handover | None = None,
    call: Call | None = None, force: bool = False,
) -> None:  # fmt: skip
    details = {**({"about": what} if what else {}), **({"force": True} if force else {})}
    session.add(
        Telling(
            key=key, channel=system.channel, target=system.name, lane=_lane(system, lead), what=verb, lead_id=lead.id,
            handover_id=None if handover is None else handover.id, call_id=None if call is None else call.id,
            version=1 if handover is None else handover.version, details=details, created_at=now,
        )
    )  # fmt: skip
    session.flush()


def _lane(system: System, lead: Lead) -> str:
    return f"{system.channel}:{lead.id}"

