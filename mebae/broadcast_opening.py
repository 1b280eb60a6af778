"""A run begins: once for each time of the schedule, once for each command."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, select

from mebae import contracts
from mebae.broadcast_run import Place, World
from mebae.broadcasts import BroadcastPlan
from mebae.errors import Permanent, Temporary
from mebae.recurring import EARLIEST, moment, occurrence
from mebae.store import broadcast_leads as leads
from mebae.store.broadcasts import published_plans, read_plan
from mebae.store.tables import Broadcast
from mebae.timing import first_zone, window

TOO_LATE = "too-late"


class Opened(NamedTuple):
    """A run that may go on, or why there is none: `gone` (from the files), `not-due`, `sent-before` or `too-late`."""

    run: int | None
    why: str = ""


def request_run(
    session: Session,
    plan: BroadcastPlan,
    command: str,
    now: datetime,
    *,
    only: Iterable[int] | None = None,
    at_once: bool = False,
) -> Broadcast:
    """Records a run by command, to be started. The same command again, of the same broadcast, gives the same run.

    Args:
        only: these leads alone, without test and holdout, whoever is in the segment.
        at_once: not at the local time of each lead.
    """
    changed: dict[str, Any] = {"local_time": False} if at_once or only is not None else {}
    if only is not None:
        changed |= {"only": tuple(sorted(set(only))), "ab": None, "holdout": 0}
    # Not a copy: its version would be the original's.
    plan = BroadcastPlan.model_validate(plan.model_dump() | changed)
    place = Place(since=now) if plan.local_time else Place()
    row = _row(session, plan, f"command:{plan.broadcast}:{command}", now, place)
    if not row.workflow_id:
        assert row.id is not None
        row.workflow_id = contracts.broadcast_workflow_id(row.broadcast, row.id)
    return row


def open_run(session: Session, run: int, now: datetime) -> Opened:
    """A run by command begins. Twice is once."""
    row = session.get(Broadcast, run, with_for_update=True)
    if row is None:
        raise Permanent("no-such-run")
    return _begin(session, row, now)


def open_scheduled(
    session: Session, broadcast: str, fired: datetime, workflow_id: str, world: World, now: datetime
) -> Opened:
    """A Schedule has fired: if this is one of the broadcast's times, its run begins.

    A Schedule fires on the minute, and more often than the broadcast goes out (`mebae.recurring`). What fires at another time
    is a person who triggers it in Temporal: that is a run too.

    Args:
        fired: for which time, by Temporal; not when a worker got to it.
        workflow_id: whose run it is. The same workflow asking again is given the same run.
    """
    plan = next((one for one in published_plans(session) if one.broadcast == broadcast), None)
    if plan is None or plan.schedule is None:
        return Opened(None, "gone")
    zone = first_zone(plan.zone, world.zone)
    if fired.second or fired.microsecond:
        day, due, cause = None, fired, f"trigger:{broadcast}:{fired.isoformat()}"
    else:
        day = occurrence(plan.schedule, EARLIEST if plan.local_time else zone, fired, world.calendar)
        if day is None:
            return Opened(None, "not-due")
        due, cause = moment(day, plan.schedule.at, zone), f"schedule:{broadcast}:{day}T{plan.schedule.at}"
    row = _row(session, plan, cause, due, _place(plan, day, fired))
    if row.workflow_id not in ("", workflow_id):
        return Opened(None, "sent-before")
    row.workflow_id = workflow_id
    return _begin(session, row, now)


def _place(plan: BroadcastPlan, day: date | None, fired: datetime) -> Place:
    if not plan.local_time:
        return Place()
    return Place(since=fired) if day is None else Place(day=day)


def _row(session: Session, plan: BroadcastPlan, cause: str, due: datetime, place: Place) -> Broadcast:
    """The run of this cause, made if there is none."""
    values = {
        "cause": cause, "broadcast": plan.broadcast, "plan": plan.dump(), "status": "starting", "paused": False, "workflow_id": "",
        "due_at": due, "place": place.model_dump(mode="json", exclude_defaults=True), "counts": {}, "decision": {},
    }  # fmt: skip
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(insert(Broadcast).values(**values).on_conflict_do_nothing(index_elements=["cause"]))
    return session.exec(select(Broadcast).where(Broadcast.cause == cause).with_for_update()).one()


def _begin(session: Session, row: Broadcast, now: datetime) -> Opened:
    if row.status == "starting":
        plan = read_plan(row.broadcast, row.plan)
        if plan is None:
            raise Temporary("plan-unreadable")
        if now - row.due_at > window(plan.give_up_after):
            # Nobody was there to send it: old news is no news.
            row.status, row.outcome, row.ended_at = "ended", TOO_LATE, now
        else:
            row.status, row.started_at, row.counts = "running", now, {"total": leads.count_members(session, plan, now)}
    return Opened(None, TOO_LATE) if row.outcome == TOO_LATE else Opened(row.id)
