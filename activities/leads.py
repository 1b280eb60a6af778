"""What a scenario writes on a lead: values, tags, the enrolment in another scenario. Local activities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sqlmodel import Session, select
from temporalio import activity

from activities.calling import coded, world_now
from mebae import contracts, resting
from mebae.conditions import Scalar
from mebae.contracts import StepInput
from mebae.entering import request_entry
from mebae.errors import NotFound
from mebae.events import IDENTIFIED
from mebae.graph import Enroll, SetLead, Tag
from mebae.journey import Done, Ended, Exited, Postponed, Refused
from mebae.resting import Place, Setting
from mebae.store.database import Database
from mebae.store.graphs import newest
from mebae.store.ingest import EventLog
from mebae.store.tables import Event, Lead

Answer = Done | Refused | Postponed | Exited | Ended


class LeadActivities:
    """Changes of a lead. A change is an event too (`Lead Identified`), so that journeys that wait for it wake up."""

    def __init__(self, database: Database, setting: Setting) -> None:
        self._database, self._setting = database, setting

    @activity.defn(name=contracts.SET_LEAD)
    @coded
    async def set_lead(self, request: StepInput) -> Answer:
        """Sets attributes of the lead."""
        return await self._database.write(_change, request, world_now(request), self._setting, _set_lead)

    @activity.defn(name=contracts.TAG_LEAD)
    @coded
    async def tag_lead(self, request: StepInput) -> Answer:
        """Adds and removes tags."""
        return await self._database.write(_change, request, world_now(request), self._setting, _tag)

    @activity.defn(name=contracts.ENROLL)
    @coded
    async def enroll(self, request: StepInput) -> Answer:
        """Enters the lead into another scenario, once per visit of the step."""
        return await self._database.write(_change, request, world_now(request), self._setting, _enroll)


Change = Callable[[Session, Place, StepInput, datetime, Setting], Done | Refused]


def _change(session: Session, request: StepInput, now: datetime, at: Setting, change: Change) -> Answer:
    """Exit check and re-check of the wake-up, then the change, then what follows: one transaction."""
    place = resting.take(session, request.entry, request.turn, sheltered=request.sheltered)
    if not isinstance(place, Place):
        return place
    stop = resting.exited(session, place, now) or resting.still_early(session, place, request.woke, now, at)
    if stop is not None:
        return stop
    again = session.exec(select(Event).where(Event.message_id == _once(request))).first() is not None
    done = Done() if again else change(session, place, request, now, at)
    done.then = resting.follow(session, place, request.plan, now, at)
    return done


def _set_lead(session: Session, place: Place, request: StepInput, now: datetime, at: Setting) -> Done:
    step = place.graph.step(request.step)
    assert isinstance(step, SetLead)
    changed = _set(place.lead, step.values)
    _note(session, place, request, sorted(step.values) if changed else [], now)
    return Done()


def _set(lead: Lead, values: Mapping[str, Scalar]) -> bool:
    """Sets columns, and anything else among the attributes; whether that changed something."""
    columns = {name: value for name, value in values.items() if name in Lead.model_fields}
    others = {name: value for name, value in values.items() if name not in Lead.model_fields}
    changed = any(getattr(lead, name) != value for name, value in columns.items())
    for name, value in columns.items():
        setattr(lead, name, value)
    if others.items() <= lead.attributes.items():
        return changed
    lead.attributes = {**lead.attributes, **others}
    return True


def _tag(session: Session, place: Place, request: StepInput, now: datetime, at: Setting) -> Done:
    step = place.graph.step(request.step)
    assert isinstance(step, Tag)
    before = set(place.lead.tags)
    after = (before | set(step.add)) - set(step.remove)
    place.lead.tags = sorted(after)
    _note(session, place, request, ["tags"] if after != before else [], now)
    return Done()


def _enroll(session: Session, place: Place, request: StepInput, now: datetime, at: Setting) -> Done | Refused:
    step = place.graph.step(request.step)
    assert isinstance(step, Enroll)
    try:
        graph = newest(session, step.scenario)
    except NotFound:
        return Refused("no-such-scenario")
    row = request_entry(
        session, graph=graph, lead=place.lead, command=_once(request), properties=place.entry, now=now, zone=at.zone
    )
    return Refused(f"entry-{row.reason}") if row.reason else Done()


def _once(request: StepInput) -> str:
    return f"step:{request.entry}:{request.step}:{request.visit}"


def _note(session: Session, place: Place, request: StepInput, changed: list[str], now: datetime) -> None:
    """The event of a change: it marks the visit as done, and wakes whoever waits for it unless nothing changed."""
    place.lead.updated_at = now
    log = EventLog(now)
    log.add(place.lead, _once(request), IDENTIFIED, {"changed": changed}, routed=not changed)
    if changed:
        log.touch(place.lead, changed)
    log.write(session)
