"""The published rules of CRM, and what a lead is called elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import structlog
from sqlmodel import Session, select

from mebae.crm.model import CrmRules
from mebae.store.database import lock_lead
from mebae.store.tables import CrmLink, PublishedCrm

log = structlog.get_logger()
NOTHING = CrmRules()


def crm_of(session: Session) -> CrmRules:
    """What `scenarios/crm.py` said when it was last published; without it no system at all."""
    row = session.get(PublishedCrm, 1)
    if row is None:
        return NOTHING
    try:
        return CrmRules.load(row.rules)
    except ValueError:  # of a newer worker: what is due waits for it
        log.error("crm.unreadable", cure="upgrade this program")
        return NOTHING


def publish_crm(session: Session, rules: CrmRules | None, now: datetime) -> None:
    """Publishes the rules. A file that is gone takes the systems with it; what waits for them is kept."""
    row = session.get(PublishedCrm, 1)
    if rules is None:
        if row is not None:
            session.delete(row)
    elif row is None:
        session.add(PublishedCrm(rules=rules.dump(), published_at=now))
    elif row.rules != rules.dump():
        row.rules, row.published_at = rules.dump(), now


def link_of(session: Session, system: str, lead_id: int) -> CrmLink | None:
    """What the lead is called there, if it has been taken."""
    return session.get(CrmLink, (system, lead_id))


def linked(session: Session, system: str, their_id: str) -> CrmLink | None:
    """Whose record this is; None for one that is none of ours."""
    query = select(CrmLink).where(CrmLink.system == system, CrmLink.their_id == their_id).order_by(CrmLink.lead_id)  # type: ignore[arg-type]
    return session.exec(query).first()


def note_link(
    session: Session, system: str, lead_id: int, now: datetime, *, their_id: str | None, digest: str, written: Mapping[str, str],
    created: bool,
) -> None:  # fmt: skip
    """Notes that a lead was taken. `written`: outcome fields of theirs that we ourselves have filled; they are no news when read.

    Of one that was made just now all outcome fields that we did not fill are empty; of others they are still to be looked at.
    Of a lead that was erased while it was on its way nothing is noted.
    """
    lead = lock_lead(session, lead_id)
    if lead is None or lead.erased_at is not None:
        return
    row = session.get(CrmLink, (system, lead_id), with_for_update=True)
    if row is None:
        row = CrmLink(system=system, lead_id=lead_id, pushed_at=now)
        session.add(row)
    if their_id is not None and row.their_id not in (None, their_id):
        row.known, row.seen = False, {}  # another record than before: it was deleted there, or joined with another
    row.their_id = their_id or row.their_id
    row.digest, row.pushed_at = digest, now
    row.known = row.known or created
    row.seen = {**row.seen, **written}


def note_seen(session: Session, system: str, their_id: str, values: Mapping[str, str]) -> None:
    """What their outcome fields hold, where nobody knew: it was so before, and is no news."""
    row = linked(session, system, their_id)
    if row is not None and not row.known:
        row.seen, row.known = {**values, **row.seen}, True
