"""Erasing a lead, and showing it what is kept of it (GDPR arts. 15, 17, 20; 個人情報保護法 33条, 35条).

Every table that knows leads stands in `WHAT_BECOMES`: what of it goes, and what stays without saying who it was. A table
that is missing there is an error of ours, which a test finds. What stays lets scores, journeys and deliveries still add up:
the lead's row with its number, what happened (not its particulars), and when.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy import String, Table, case, cast, column, delete, func, null, update
from sqlalchemy import select as columns
from sqlmodel import Session, SQLModel, col, select

from mebae.contracts import wiped_key
from mebae.handing import Decision, decide, under_way
from mebae.handover import Move
from mebae.journey import CLOSED
from mebae.resting import Setting
from mebae.store import suppressions
from mebae.store.database import lock_lead
from mebae.store.tables import (
    Call,
    Company,
    CrmLink,
    CrmMessage,
    Handover,
    IntakeRow,
    JourneyRow,
    Lead,
    Nudge,
    Quarantined,
    Telling,
    Visitor,
    VisitorEvent,
)
from mebae.words import JourneyStatus

GONE = "gone"
"""Its rows are deleted."""

WHAT_BECOMES: Mapping[str, Mapping[str, Any] | str] = {
    "events": {"properties": {}},
    "consents": {},
    "score_changes": GONE,
    "segment_members": GONE,
    "topic_choices": GONE,
    "journeys": {"listening": []},
    "deliveries": {"raw": None},
    "gate_answers": {},
    "mail_reports": {"raw": None},
    "handovers": {"why": "", "note": "", "known_as": {}},
    "calls": {"note": ""},
    "tellings": {"raw": None, "details": {}},
    "crm_links": GONE,
    "crm_messages": {"their_id": None, "key": "erased:" + cast(column("id"), String)},
    "visitors": GONE,
}
"""Tables that hold a lead's number → columns that are emptied. A consent stays, without its lead's name: that it was given,
how and with which words is kept for the time that the law on mail asks for (`MEBAE_CONSENT_YEARS`)."""

_NOT_OF_A_CRM = case((column("cause", String).like("crm:%"), null()), else_=column("cause", String))
"""A CRM's messages name its record of the lead."""

BY_ANOTHER: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "mail_actions": ("delivery_id", "deliveries", {"client": "", "agent": ""}),
    "links": ("delivery_id", "deliveries", {"url": ""}),
    "handover_events": ("handover_id", "handovers", {"note": "", "cause": _NOT_OF_A_CRM}),
}
"""Tables that hold the number of a delivery or hand-over instead: its column, the table that it is of, and the same again."""

_STAYS = frozenset({"id", "language", "last_seq", "created_at", "updated_at", "opted_out_at", "erased_at", "stage", "qualification"})
"""Columns of the lead itself that say nothing of who it was."""


@dataclass
class Erased:
    """What was done, in numbers."""

    lead: int
    was_erased: bool = False
    """It had been erased before: nothing was left to do."""
    journeys: list[int] = field(default_factory=list)
    """Entries that were open and are ended."""


def erase_lead(session: Session, lead_id: int, now: datetime, at: Setting) -> Erased:
    """Wipes what is known of a lead, ends its journeys and keeps the hash of its address, so that nobody writes to it again.

    Idempotent. The journeys are told by nudges, which outlive a Temporal that is away; a mail that is under way is stopped
    at the gate before its bytes, if it is not past it.
    """
    lead = lock_lead(session, lead_id)
    assert lead is not None
    done = Erased(lead=lead_id)
    if lead.erased_at is not None:
        done.was_erased = True
        return done
    if lead.email is not None:
        suppressions.add(session, lead.email, "erased", now)
    _forget_unread(session, lead)
    _withdraw(session, lead, now, at)
    visitors = columns(col(Visitor.anonymous_id)).where(col(Visitor.lead_id) == lead_id)
    session.execute(delete(VisitorEvent).where(col(VisitorEvent.anonymous_id).in_(visitors)))
    done.journeys = _end_journeys(session, lead, now)
    _forget_keys(session, lead)
    for name, becomes in WHAT_BECOMES.items():
        table = SQLModel.metadata.tables[name]
        _wipe(session, table, table.c.lead_id == lead_id, becomes)
    for name, (_, _, becomes) in BY_ANOTHER.items():
        _wipe(session, SQLModel.metadata.tables[name], _of(name, lead_id), becomes)
    _forget_firm(session, lead)
    blank = Lead()
    for name in Lead.model_fields:
        if name not in _STAYS:
            setattr(lead, name, getattr(blank, name))
    lead.opted_out_at = lead.opted_out_at or now
    lead.erased_at = lead.updated_at = now
    session.flush()
    return done


def _of(name: str, lead_id: int) -> Any:
    """Which rows of such a table are about a lead."""
    column, parent, _ = BY_ANOTHER[name]
    owner = SQLModel.metadata.tables[parent]
    return SQLModel.metadata.tables[name].c[column].in_(columns(owner.c.id).where(owner.c.lead_id == lead_id))


def _withdraw(session: Session, lead: Lead, now: datetime, at: Setting) -> None:
    """Takes the lead back from sales, and tells nobody any more what was to be told of it."""
    assert lead.id is not None
    row = under_way(session, lead.id)
    if row is not None and row.id is not None:
        decide(session, row.id, Decision(move=Move.WITHDRAW, by="marketing", how="command"), now, at.zone, at.calendar)
    calls = update(Call).where(col(Call.lead_id) == lead.id, col(Call.status) == "open").values(status="expired", done_at=now)
    session.execute(calls)
    waiting = update(Telling).where(col(Telling.lead_id) == lead.id, col(Telling.status) == "waiting")
    session.execute(waiting.values(status="dropped"))
    _forget_their_messages(session, lead.id, now)


def _forget_their_messages(session: Session, lead_id: int, now: datetime) -> None:
    """What CRMs said of their records of the lead becomes the lead's, so that it goes with the rest; none is read there any more."""
    for link in session.exec(select(CrmLink).where(CrmLink.lead_id == lead_id, col(CrmLink.their_id).is_not(None))).all():
        theirs = update(CrmMessage).where(col(CrmMessage.system) == link.system, col(CrmMessage.their_id) == link.their_id)
        session.execute(theirs.where(col(CrmMessage.lead_id).is_(None)).values(lead_id=lead_id))
    unread = update(CrmMessage).where(col(CrmMessage.lead_id) == lead_id, col(CrmMessage.status) == "waiting")
    session.execute(unread.values(status="ignored", reason="erased", next_at=None, done_at=now))


def _wipe(session: Session, table: Table, which: Any, becomes: Mapping[str, Any] | str) -> None:
    if becomes == GONE:
        session.execute(delete(table).where(which))
    elif becomes:
        assert not isinstance(becomes, str)
        session.execute(update(table).where(which).values(dict(becomes)))


def _end_journeys(session: Session, lead: Lead, now: datetime) -> list[int]:
    query = select(JourneyRow).where(
        JourneyRow.lead_id == lead.id,
        col(JourneyRow.status).in_((JourneyStatus.STARTING, JourneyStatus.RUNNING, JourneyStatus.RESTING)),
    )
    entries = []
    for row in session.exec(query.order_by(col(JourneyRow.entry))):
        assert row.entry is not None
        if row.status == JourneyStatus.STARTING:
            row.status, row.step = JourneyStatus.REFUSED, None
        else:
            row.status, row.outcome = JourneyStatus.ENDED, "exited"
            session.add(Nudge(entry=row.entry, trigger=CLOSED, event_id=0, created_at=now))
            entries.append(row.entry)
        row.reason, row.ended_at, row.deadline, row.waiting_for = "erased", now, None, None
    session.flush()
    return entries


def _forget_keys(session: Session, lead: Lead) -> None:
    """What the scenarios' keys were, which may be a name or an address; their hashes stay, by which the workflows are called."""
    for row in session.exec(select(JourneyRow).where(JourneyRow.lead_id == lead.id, JourneyRow.key != "")):
        row.key = wiped_key(row.key)
    session.flush()


def newest_request(session: Session) -> int:
    """The newest request that came in; 0 if none waits to be applied."""
    return session.exec(select(func.max(IntakeRow.id))).one() or 0


def requests_waiting(session: Session, up_to: int) -> int:
    """How many requests up to this one are not applied yet: what they say of a lead would come after its erasure."""
    return session.exec(select(func.count()).where(col(IntakeRow.id) <= up_to)).one()


def _forget_unread(session: Session, lead: Lead) -> None:
    """Events in quarantine that name the lead: nobody has read them, and nobody shall."""
    names = [name.encode() for name in (lead.email, lead.user_id) if name]
    for row in session.exec(select(Quarantined)):
        if any(name in row.body.lower() or name.lower() in row.body.lower() for name in names):
            session.delete(row)


def _forget_firm(session: Session, lead: Lead) -> None:
    """A firm is no person; but one of which nobody else is known (a sole trader's) goes with its lead."""
    firm, lead.company_id = lead.company_id, None
    session.flush()
    if firm is None or session.exec(select(Lead.id).where(Lead.company_id == firm).limit(1)).first() is not None:
        return
    for table in (Handover, Call):
        session.execute(update(table).where(col(table.company_id) == firm).values(company_id=None))
    session.execute(delete(Company).where(col(Company.id) == firm))


# What is kept of a lead ------------------------------------------------------------------------------------------------


def everything_of(session: Session, lead_id: int) -> dict[str, list[dict[str, Any]]]:
    """Every row that is kept of a lead, by table, as plain values: what the lead may ask for, and may take elsewhere."""
    found = {"leads": _rows(session, SQLModel.metadata.tables["leads"], SQLModel.metadata.tables["leads"].c.id == lead_id)}
    for name in WHAT_BECOMES:
        table = SQLModel.metadata.tables[name]
        found[name] = _rows(session, table, table.c.lead_id == lead_id)
    for name in BY_ANOTHER:
        found[name] = _rows(session, SQLModel.metadata.tables[name], _of(name, lead_id))
    return {name: rows for name, rows in found.items() if rows}


def _rows(session: Session, table: Table, which: Any) -> list[dict[str, Any]]:
    rows = session.execute(columns(table).where(which).order_by(*table.primary_key.columns))
    return [{name: _plain(value) for name, value in row._mapping.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def tables_of_leads() -> Iterator[str]:
    """The tables that hold a lead's number, or that of something of a lead, for the test that holds the lists above complete."""
    for name, table in SQLModel.metadata.tables.items():
        if not {"lead_id", "delivery_id", "handover_id"}.isdisjoint(table.c.keys()):
            yield name
