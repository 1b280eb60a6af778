"""Broadcasts where their rows are: published, and found again."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from sqlmodel import Session, col, select

from mebae.broadcasts import BroadcastPlan
from mebae.errors import NotFound
from mebae.store.tables import PublishedBroadcast

log = structlog.get_logger()


def publish_broadcasts(session: Session, plans: Sequence[BroadcastPlan]) -> None:
    """What the files say is what goes out next. The same again changes nothing; one that is gone is kept, and goes out no more.

    Runs that are under way keep the plan that they were started with.
    """
    known = {
        row.broadcast: row for row in session.exec(select(PublishedBroadcast).order_by(PublishedBroadcast.broadcast))
    }
    for plan in plans:
        row, written = known.get(plan.broadcast), plan.dump()
        if row is None:
            session.add(PublishedBroadcast(broadcast=plan.broadcast, plan=written))
        elif (row.plan, row.active) != (written, True):
            row.plan, row.active = written, True
        else:
            continue
        log.info("broadcast.published", broadcast=plan.broadcast, version=plan.version)
    present = {plan.broadcast for plan in plans}
    for name, row in known.items():
        if row.active and name not in present:
            row.active = False
            log.info("broadcast.gone", broadcast=name, effect="it goes out no more; a run that is under way goes on")
    session.flush()


def published_plans(session: Session) -> list[BroadcastPlan]:
    """What can go out, by id. One that a newer worker published, with words that are not known here, is left out."""
    query = select(PublishedBroadcast).where(col(PublishedBroadcast.active)).order_by(PublishedBroadcast.broadcast)
    return [plan for row in session.exec(query) if (plan := read_plan(row.broadcast, row.plan)) is not None]


def plan_to_send(session: Session, id: str) -> BroadcastPlan:
    """The published plan of this id; `NotFound` with the nearest names."""
    plans = {plan.broadcast: plan for plan in published_plans(session)}
    if id not in plans:
        error = NotFound("broadcast", id, plans)
        if not plans:
            error.args = (f"{error}: none is published yet, start the worker once",)
        elif "did you mean" not in str(error):  # files are read when the worker starts
            error.args = (f"{error}. One that was written since then is published when the worker starts again",)
        raise error
    return plans[id]


def read_plan(id: str, written: str) -> BroadcastPlan | None:
    """None for a plan that this version of Mebae does not know."""
    try:
        return BroadcastPlan.load(written)
    except ValueError as error:
        log.error("broadcast.unreadable", broadcast=id, kind=type(error).__name__, cure="upgrade this worker")
        return None
