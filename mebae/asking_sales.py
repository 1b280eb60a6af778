"""What a journey asks of sales, and how it learns the answer: the steps `hand_to_sales` and `call_task` in the database.

Putting the journey to rest there asks, in the same transaction, once per visit; looking again only looks. What counts is the
hand-over or the call itself and not the event that tells of it, so that another hand-over of the same lead answers nobody.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlmodel import Session, col, select

from mebae import calling, handing
from mebae.graph import CallTask, HandToSales, outcomes_of
from mebae.handover import OUTCOME
from mebae.journey import Heard, Settling
from mebae.store.tables import Call, HandoverEvent, HandoverJoin

if TYPE_CHECKING:
    from mebae.resting import Place, Setting

_MOVES = {outcome: move for move, outcome in OUTCOME.items()}


def ask(session: Session, place: Place, step: HandToSales | CallTask, asked: Settling, now: datetime, at: Setting) -> None:
    """Opens or joins the hand-over, or asks for the call; nothing at a second look. The lead is locked."""
    entry = place.row.entry
    assert entry is not None
    if isinstance(step, CallTask):
        wanted = calling.Wanted(
            cause=_cause(entry, step.id, asked.visit), message=step.message, method=step.method, script=step.script, due=step.due,
            entry=entry, scope=place.graph.scenario,
        )  # fmt: skip
        calling.ask_for(session, place.lead, wanted, now, at.zone, at.calendar)
        return
    if session.get(HandoverJoin, (entry, step.id, asked.visit)) is not None:
        return
    why = handing.Why(
        cause=_cause(entry, step.id, asked.visit), how="journey", message=step.message, entry=entry, scope=place.graph.scenario
    )
    found = handing.open_or_join(session, place.lead, why, now, at.zone, at.calendar)
    assert found.id is not None
    before = select(HandoverJoin).where(HandoverJoin.entry == entry, HandoverJoin.handover_id == found.id)
    again = session.exec(before).first() is not None
    # What this journey has heard of it opened a path already; one that joins hears everything so far.
    join = HandoverJoin(
        entry=entry, step=step.id, visit=asked.visit, handover_id=found.id, after=asked.marks.heard if again else 0
    )
    session.add(join)
    session.flush()


def answer(session: Session, place: Place, step: HandToSales | CallTask, asked: Settling) -> Heard | None:
    """The outcome that ends this rest, if there is one by now."""
    entry = place.row.entry
    assert entry is not None
    if isinstance(step, CallTask):
        call = _call(session, entry, step.id, asked.visit)
        if call is None or call.outcome is None:
            return None
        return Heard(f"{step.id}:{call.outcome}", call.seq or 0)
    join, after = session.get(HandoverJoin, (entry, step.id, asked.visit)), asked.marks.heard
    if join is not None:
        after = join.after
    else:
        # Back at the step by `go_to`: what came while it was on the path is as good as what comes later.
        earlier = select(HandoverJoin).where(HandoverJoin.entry == entry, HandoverJoin.step == step.id)
        join = session.exec(earlier.order_by(col(HandoverJoin.visit).desc())).first()
    if join is None:
        return None
    ends = [_MOVES[outcome] for outcome in outcomes_of(step)]
    query = (
        select(HandoverEvent)
        .where(HandoverEvent.handover_id == join.handover_id, HandoverEvent.seq > after, col(HandoverEvent.move).in_(ends))
        .order_by(col(HandoverEvent.id))
    )
    found = session.exec(query).first()
    if found is None:
        return None
    outcome = next(name for name, move in _MOVES.items() if move == found.move)
    return Heard(f"{step.id}:{outcome}", found.seq)


def give_up(session: Session, place: Place, step: CallTask, asked: Settling, now: datetime) -> None:
    """The step's limit is over: nobody is asked for this call any more."""
    assert place.row.entry is not None
    call = _call(session, place.row.entry, step.id, asked.visit)
    if call is not None:
        calling.expire(session, call, now)


def _call(session: Session, entry: int, step: str, visit: int) -> Call | None:
    return session.exec(select(Call).where(Call.cause == _cause(entry, step, visit))).first()


def _cause(entry: int, step: str, visit: int) -> str:
    return f"step:{entry}:{step}:{visit}"
