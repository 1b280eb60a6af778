"""Calls for inside sales to make, in the database: asked for, made, or given up. The lead's lock is held in each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from mebae import handing
from mebae.business_time import business_moment
from mebae.crm import outbox as crm
from mebae.errors import BadInput, NotFound, did_you_mean
from mebae.events import BY_VERB
from mebae.graph import CALL_OUTCOMES, CALLED
from mebae.store.database import lock_lead
from mebae.store.ingest import CONTACTED, EventLog
from mebae.store.tables import Call, Lead, Telling
from mebae.timing import Calendar, Duration

REACHED = ("appointment", "talked")
"""Outcomes by which sales has spoken with the lead."""

assert BY_VERB["called"].name == CALLED


@dataclass(frozen=True)
class Wanted:
    """A call that somebody is to make."""

    cause: str
    """Once per cause: see `Call.cause`."""
    message: str
    method: str = "phone"
    script: str = ""
    due: Duration | None = None
    """In business time; None: what the rules say."""
    entry: int | None = None
    scope: str = ""
    owner: str | None = None


def ask_for(session: Session, lead: Lead, wanted: Wanted, now: datetime, zone: str, calendar: Calendar) -> Call:
    """Asks for a call of a locked lead, once per cause; whoever owns the lead is told."""
    known = session.exec(select(Call).where(Call.cause == wanted.cause)).first()
    if known is not None:
        return known
    assert lead.id is not None
    rules = handing.rules_of(session)
    owner = handing.owner_for(session, lead, rules, now) if wanted.owner is None else rules.person(wanted.owner)
    row = Call(
        cause=wanted.cause, lead_id=lead.id, company_id=lead.company_id, entry=wanted.entry, scope=wanted.scope, owner=owner.id,
        why=wanted.message, method=wanted.method, script=wanted.script, opened_at=now,
        due_at=business_moment(wanted.due or rules.call_within, now, zone, calendar, rules.hours),
    )  # fmt: skip
    session.add(row)
    session.flush()
    for channel in ("mail", *(("slack",) if owner.slack is not None else ())):
        session.add(
            Telling(
                key=f"call-{row.id}-{channel}-{owner.id}", channel=channel, target=owner.id, lane=f"{channel}:{owner.id}:call-{row.id}",
                what="call", lead_id=lead.id, call_id=row.id, created_at=now,
            )
        )  # fmt: skip
    session.flush()
    crm.on_call(session, row, now)
    return row


def done(session: Session, call_id: int, outcome: str, *, by: str, how: str, note: str = "", now: datetime) -> tuple[Call, bool]:
    """Somebody has called; whether that changed anything: the same said twice does not.

    Raises `NotFound`, or `BadInput` for an outcome that is none, for a call that had another one, and for an erased lead.
    """
    row = session.get(Call, call_id)
    if row is None:
        raise NotFound("call", str(call_id))
    if outcome not in CALL_OUTCOMES:
        raise BadInput(f"'{outcome}' is no outcome of a call{did_you_mean(outcome, CALL_OUTCOMES)}")
    lead = lock_lead(session, row.lead_id)
    assert lead is not None
    session.refresh(row)
    if row.outcome == outcome:
        return row, False
    if row.outcome is not None:
        raise BadInput(f"call {row.id} was made already, with the outcome '{row.outcome}'")
    if lead.erased_at is not None:
        raise BadInput(f"the lead of call {row.id} was erased: nothing is noted of it any more")
    log = EventLog(now)
    said = {"outcome": outcome, "call": row.id, "method": row.method, "owner": row.owner, "by": by}
    log.add(lead, f"call:{row.id}:done", CALLED, said)
    row.seq = lead.last_seq
    if outcome in REACHED:
        log.add(lead, f"call:{row.id}:contacted", CONTACTED, {"channel": row.method})
    lead.updated_at = now
    row.status, row.outcome, row.note, row.by, row.how, row.done_at = "done", outcome, note, by, how, now
    log.write(session)
    _drop(session, row)
    return row, True


def expire(session: Session, row: Call, now: datetime) -> None:
    """Nobody made it within the step's limit."""
    if row.status == "open":
        row.status, row.done_at = "expired", now
        _drop(session, row)


def _drop(session: Session, row: Call) -> None:
    """Nobody needs to be told of it any more."""
    for one in session.exec(select(Telling).where(Telling.call_id == row.id, col(Telling.status) == "waiting")):
        one.status, one.reason = "dropped", "closed"
