"""The demo's sales: what it makes of the leads that it is given, some hours or days later. Who does what is fixed, as in the cast.

It decides in the database, as a button or a command does; its people are those of `scenarios/sales.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlmodel import Session, col, select

from mebae import calling, handing
from mebae.handing import Decision
from mebae.handover import NOT_JUDGED, UNDER_WAY, Move
from mebae.store.tables import Call, Handover
from mebae.timing import Calendar

HOURS = timedelta(hours=1)
AMOUNT = 1_800_000
"""Of the demo's opportunity, in the currency of the rules."""
CALLED_AFTER = 3 * HOURS


class Said(NamedTuple):
    """One word of sales: so long after the hand-over was opened."""

    after: timedelta
    move: Move
    reason: str | None = None
    amount: int | None = None


TAKEN = (Said(3 * HOURS, Move.ACCEPT), Said(28 * HOURS, Move.SQL))
WAYS: Sequence[Sequence[Said]] = (
    (Said(5 * HOURS, Move.ACCEPT), Said(30 * HOURS, Move.SQL)),
    (Said(3 * HOURS, Move.ACCEPT), Said(50 * HOURS, Move.RETURN, "too-early")),
    (Said(8 * HOURS, Move.REJECT, "no-need"),),
    (Said(2 * HOURS, Move.ACCEPT), Said(20 * HOURS, Move.SQL)),
    (),
)
"""One hand-over after the other. The last one nobody answers."""
BY_ROLE: Mapping[str, Sequence[Sequence[Said]]] = {
    "becomes an opportunity": ((*TAKEN, Said(70 * HOURS, Move.OPPORTUNITY, amount=AMOUNT)),),
    "comes back": ((Said(6 * HOURS, Move.REJECT, "no-contact"),), TAKEN),
    "is forgotten": ((), TAKEN),
    "asks for a meeting": (TAKEN,),
}
"""Of whom the second act tells: what is said of the first hand-over, and of the next ones."""


def answer(session: Session, now: datetime, zone: str, calendar: Calendar, roles: Mapping[int, str]) -> int:
    """Says what is due of the hand-overs that are under way, and makes the calls; how many still wait for a word or for the clock.

    `roles`: leads of whom something special is said.
    """
    for call in session.exec(select(Call).where(Call.status == "open", Call.opened_at <= now - CALLED_AFTER)).all():
        assert call.id is not None
        calling.done(session, call.id, "appointment", by=call.owner, how="command", now=now)
    left = 0
    rows = session.exec(select(Handover).where(col(Handover.status).in_(UNDER_WAY)).order_by(col(Handover.id))).all()
    for row in rows:
        assert row.id is not None
        way, done = _way(session, row, roles), row.version - 1
        if done < len(way) and row.opened_at + way[done].after <= now:
            said = way[done]
            known = {one.code for one in handing.rules_of(session).reasons_for(said.move)}
            code = said.reason if said.reason is None or said.reason in known else next(iter(sorted(known)), None)
            decision = Decision(said.move, row.owner, "button", reason=code, amount=said.amount)
            handing.decide(session, row.id, decision, now, zone, calendar)
            done += 1
        left += done < len(way) or row.status in NOT_JUDGED
    return left


def _way(session: Session, row: Handover, roles: Mapping[int, str]) -> Sequence[Said]:
    ways = BY_ROLE.get(roles.get(row.lead_id, ""))
    if ways is None:
        return WAYS[((row.id or 0) - 1) % len(WAYS)]
    before = len(session.exec(select(Handover.id).where(Handover.lead_id == row.lead_id, col(Handover.id) < row.id)).all())
    return ways[min(before, len(ways) - 1)]
