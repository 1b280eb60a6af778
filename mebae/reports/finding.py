"""Finding the lead that a person means: by its address, the user's own id, or its number."""

from __future__ import annotations

import difflib

from sqlmodel import Session, col, or_, select

from mebae.errors import NotFound
from mebae.starting import find_lead
from mebae.store.tables import Lead


def lead_of(session: Session, who: str) -> Lead:
    """The lead of an address, a user id or a lead's number; `NotFound` with what is nearest."""
    who = who.strip()
    if "@" in who:
        return find_lead(session, who)
    found = session.exec(select(Lead).where(Lead.user_id == who)).first()
    number = who.removeprefix("#")
    if found is None and number.isascii() and number.isdigit() and len(number) <= 18:
        found = session.get(Lead, int(number))
    if found is not None:
        return found
    begins = col(Lead.user_id).startswith(who[:3], autoescape=True)
    mailbox = col(Lead.email).startswith(f"{who.lower()}@", autoescape=True)
    rows = session.exec(select(Lead.user_id, Lead.email).where(or_(begins, mailbox)).limit(200)).all()
    alike = difflib.get_close_matches(who, [user_id for user_id, _ in rows if user_id], n=2, cutoff=0.8)
    addresses = [email for _, email in rows if email and email.startswith(f"{who.lower()}@")][:2]
    error = NotFound("lead", who)
    if alike or addresses:
        error.args = (f"{error}, did you mean {' or '.join(repr(one) for one in (*alike, *addresses))}?",)
    else:
        error.args = (f"{error}: give its address, its user id or its number",)
    raise error


def called(lead: Lead) -> str:
    """How a list names a lead."""
    return lead.email or lead.user_id or f"lead {lead.id}"
