"""The demo's sales: what it makes of the leads that it is given, some hours or days later. Who does what is fixed, as in the cast.

It decides in the database, as a button or a command does; its people are those of `scenarios/sales.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlmodel import Session, col, select

from mebae import handing
from mebae.handing import Decision
from mebae.handover import UNDER_WAY, Move
from mebae.store.tables import Handover
from mebae.timing import Calendar

HOURS = timedelta(hours=1)
WAYS: Sequence[Sequence[tuple[timedelta, Move, str | None]]] = (
    ((5 * HOURS, Move.ACCEPT, None), (30 * HOURS, Move.SQL, None)),
    ((3 * HOURS, Move.ACCEPT, None), (50 * HOURS, Move.RETURN, "too-early")),
    ((8 * HOURS, Move.REJECT, "no-need"),),
    ((2 * HOURS, Move.ACCEPT, None), (20 * HOURS, Move.SQL, None)),
    (),
)
"""One hand-over after the other: how long after its opening what is said of it. The last one nobody answers."""


def answer(session: Session, now: datetime, zone: str, calendar: Calendar) -> int:
    """Says what is due of the hand-overs that are under way; how much that was."""
    rows = session.exec(select(Handover).where(col(Handover.status).in_(UNDER_WAY)).order_by(col(Handover.id))).all()
    said = 0
    for row in rows:
        assert row.id is not None
        done = row.version - 1
        way = WAYS[(row.id - 1) % len(WAYS)]
        if done < len(way) and row.opened_at + way[done][0] <= now:
            _, move, reason = way[done]
            known = {one.code for one in handing.rules_of(session).reasons_for(move)}
            code = reason if reason is None or reason in known else next(iter(sorted(known)), None)
            handing.decide(session, row.id, Decision(move, row.owner, "button", reason=code), now, zone, calendar)
            said += 1
    return said
