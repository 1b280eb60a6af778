"""What comes back from other systems, in the database: once per message, and nothing that we ourselves have written.

Two ways in, one way on. A *decision* says what it means (our own webhook's `lead.won`). A *record* is looked at: only an outcome field
that holds another value than when it was last seen is news, whoever changed it last, so that what we pushed does not come back, and a
value of years ago decides nothing today. Either is carried out by `handing.decide` with the message as its cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from mebae import handing
from mebae.crm.adapter import Theirs
from mebae.crm.model import System
from mebae.errors import BadInput
from mebae.handing import Decision
from mebae.handover import WITH_REASON, IllegalMove, Move
from mebae.store.crm import linked
from mebae.store.database import lock_lead
from mebae.store.sales import rules_of, under_way
from mebae.store.tables import CrmLink, CrmMessage, Handover
from mebae.timing import Calendar

IGNORED = {
    "not-ours": "no lead of ours is this record, or has this number or address",
    "first-seen": "the record was there before us: what it holds is noted and is no news",
    "no-news": "no outcome field holds another value than when it was last seen: others changed, or we wrote it",
    "no-meaning": "the new value is in no table of `outcomes`",
    "not-with-sales": "the lead has no hand-over under way",
    "before": "it happened before the hand-over was opened",
    "as-it-is": "the hand-over stands there already",
    "impossible": "from where the hand-over stands this cannot follow: a lead that is lost there was never won here, or the like",
    "erased": "the lead was erased",
}
"""Why a message changed nothing."""

OTHER = "other"
"""The reason of a loss for which the table has no code. `sales.py` may lack it: then its first one."""
_NOTE = 500


@dataclass(frozen=True)
class Said:
    """What another system says of one of our leads."""

    key: str
    """What it calls its message."""
    lead: int
    move: Move
    at: datetime | None = None
    """When it happened there."""
    reason: str = ""
    """In its own words."""
    amount: int | None = None
    note: str = ""


def known(session: Session, system: str, key: str) -> bool:
    """Whether this message came before."""
    query = select(CrmMessage.id).where(CrmMessage.system == system, CrmMessage.key == key)
    return session.exec(query).first() is not None


def nudge(session: Session, system: System, key: str, their_id: str, now: datetime) -> bool:
    """Notes that a record has changed there and is to be read; whether that is new."""
    if known(session, system.name, key):
        return False
    session.add(CrmMessage(system=system.name, key=key, their_id=their_id, created_at=now))
    session.flush()
    return True


def decided(session: Session, system: System, said: Said, now: datetime, zone: str, calendar: Calendar) -> CrmMessage:
    """Carries out what another system says, once; the message with what came of it."""
    lead = lock_lead(session, said.lead)
    row = _message(session, system, said.key, now)
    if row.status != "waiting":
        return row
    row.lead_id, row.move = said.lead, said.move
    if lead is None or lead.erased_at is not None:
        return _closed(row, "ignored", "not-ours" if lead is None else "erased", now)
    handover = under_way(session, said.lead)
    if handover is None:
        return _closed(row, "ignored", "not-with-sales", now)
    row.handover_id = handover.id
    if said.at is not None and said.at < handover.opened_at:
        return _closed(row, "ignored", "before", now)
    return _carried_out(session, system, said, handover, row, now, zone, calendar)


def read(
    session: Session, system: System, theirs: Theirs, key: str | None, now: datetime, zone: str, calendar: Calendar
) -> CrmMessage | None:
    """Takes in a record of theirs. `key`: of the message that said it has changed; None of a pull, which notes only what is news."""
    link = linked(session, system.name, theirs.id)
    if link is not None:
        lock_lead(session, link.lead_id)
        session.expire(link)
        link = linked(session, system.name, theirs.id)  # whoever had the lock before may have erased the lead
    if key is not None and not known(session, system.name, key):
        return None  # the same: the message was wiped with it, and is not written anew
    if link is None:
        return None if key is None else _closed(_message(session, system, key, now), "ignored", "not-ours", now)
    why, move = _news(system, link, theirs)
    if move is None:
        if key is None:
            return None
        row = _message(session, system, key, now)
        row.lead_id = link.lead_id
        return row if row.status != "waiting" else _closed(row, "ignored", why, now)
    outcomes = system.outcomes
    said = Said(
        key or f"{theirs.id}@{theirs.at:%Y%m%d%H%M%S}:{move}", link.lead_id, move, theirs.at,
        reason=theirs.values.get(outcomes.reason, "") if outcomes.reason else "",
        amount=amount_of(theirs.values.get(outcomes.amount, "")) if outcomes.amount else None,
    )  # fmt: skip
    return decided(session, system, said, now, zone, calendar)


def ours(session: Session, system: str, ids: Sequence[str]) -> set[str]:
    """Which of these records of theirs are leads of ours."""
    query = select(CrmLink.their_id).where(CrmLink.system == system, col(CrmLink.their_id).in_(ids))
    return {id for id in session.exec(query) if id is not None}


def amount_of(text: str) -> int | None:
    """
    >>> amount_of("1200000.00"), amount_of("¥1,200,000"), amount_of(""), amount_of("-5"), amount_of("tbd")
    (1200000, 1200000, None, None, None)
    """
    digits = text.replace(",", "").lstrip("¥￥$€ ").strip()
    try:
        found = int(float(digits)) if digits else None
    except (ValueError, OverflowError):
        return None
    return found if found is not None and found >= 0 else None


def _news(system: System, link: CrmLink, theirs: Theirs) -> tuple[str, Move | None]:
    """What has changed in a record since it was last seen, and what that means; it counts as seen from here on."""
    if not link.known:
        link.seen, link.known = {**theirs.values, **link.seen}, True
        return "first-seen", None
    # A field that was never seen is one that nobody had filled.
    changed = [name for name, _ in system.outcomes.fields if theirs.values.get(name, "") != link.seen.get(name, "")]
    link.seen = {**link.seen, **theirs.values}
    for name, table in system.outcomes.fields:
        if name in changed and theirs.values.get(name, "") in table:
            return "", Move(table[theirs.values[name]])
    return ("no-meaning" if changed else "no-news"), None


def _carried_out(
    session: Session, system: System, said: Said, handover: Handover, row: CrmMessage, now: datetime, zone: str, calendar: Calendar
) -> CrmMessage:
    reason, note = _reason(session, system, said)
    decision = Decision(
        said.move, by=f"crm:{system.name}", how="crm", reason=reason, note=note[:_NOTE], amount=said.amount,
        cause=f"crm:{system.name}:{said.key}", skipping=True,
    )  # fmt: skip
    assert handover.id is not None
    try:
        done = handing.decide(session, handover.id, decision, now, zone, calendar)
    except IllegalMove:
        return _closed(row, "ignored", "impossible", now)
    except BadInput:
        return _closed(row, "refused", "bad", now)
    return _closed(row, "done", None, now) if done.changed else _closed(row, "ignored", "as-it-is", now)


def _reason(session: Session, system: System, said: Said) -> tuple[str | None, str]:
    """The code of the reason, and their own words as the note where there is no code for them."""
    if said.move not in WITH_REASON:
        return None, said.note
    codes = [one.code for one in rules_of(session).reasons_for(said.move)]
    code = system.outcomes.reasons.get(said.reason, said.reason)
    if code in codes:
        return code, said.note
    words = "\n".join(part for part in (said.reason, said.note) if part)
    return (OTHER if OTHER in codes else codes[0] if codes else OTHER), words


def _message(session: Session, system: System, key: str, now: datetime) -> CrmMessage:
    row = session.exec(select(CrmMessage).where(CrmMessage.system == system.name, CrmMessage.key == key)).first()
    if row is None:
        row = CrmMessage(system=system.name, key=key, created_at=now)
        session.add(row)
        session.flush()
    return row


def _closed(row: CrmMessage, status: str, reason: str | None, now: datetime) -> CrmMessage:
    row.status, row.reason, row.next_at, row.done_at = status, reason, None, now
    return row
