"""The one door into a scenario. Every start, whatever caused it, is a journey row written here (DESIGN §6).

A refused entry is a row too, with its reason: "why did this lead not enter?" always has an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from mebae.conditions import evaluate
from mebae.errors import BadInput
from mebae.events import BY_VERB, REQUESTED
from mebae.graph import Graph
from mebae.store.facts import LeadFacts
from mebae.store.places import place_for
from mebae.store.segments import find_segment
from mebae.store.tables import Event, JourneyRow, Lead
from mebae.timing import Calendar, Duration, first_zone, moment_after
from mebae.words import JourneyStatus

JOINED = BY_VERB["joined"]
OPEN = (JourneyStatus.STARTING, JourneyStatus.RUNNING, JourneyStatus.RESTING)


def enter(
    session: Session,
    *,
    graph: Graph,
    lead: Lead,
    cause: str,
    event: Event | None,
    now: datetime,
    zone: str,
) -> JourneyRow:
    """Writes the entry of a locked lead into a scenario, or why it was refused. Once per cause: the same cause again gives the same row.

    `zone`: the workspace's, for a lead that has none, and for the days that `starts_at_most` counts. The caller holds the
    lead's lock, so that two entries cannot race.
    """
    known = session.exec(select(JourneyRow).where(JourneyRow.cause == cause)).first()
    if known is not None:
        return known
    assert lead.id is not None
    properties: Mapping[str, Any] = event.properties if event is not None else {}
    key = _key(graph, properties)
    reason = _refusal(session, graph, lead, key or "", properties, now, first_zone(lead.time_zone, zone))
    if reason is None and key is None:
        reason = "no-key"
    row = JourneyRow(
        cause=cause,
        scenario=graph.scenario,
        version=graph.version,
        lead_id=lead.id,
        key=key or "",
        entry_event_id=event.id if event is not None else None,
        status=JourneyStatus.REFUSED if reason else JourneyStatus.STARTING,
        reason=reason,
        step=None if reason else graph.start,
        entered_at=now,
        starts_at=None if reason else place_for(session, graph, now, zone),
    )
    session.add(row)
    session.flush()
    return row


def request_entry(
    session: Session, *, graph: Graph, lead: Lead, command: str, properties: Mapping[str, Any], now: datetime, zone: str
) -> JourneyRow:
    """Enters a locked lead because a person or another scenario asked: the start event is written too. Once per command."""
    cause = f"command:{command}"
    event = session.exec(select(Event).where(Event.message_id == cause)).first()
    if event is not None and (event.lead_id != lead.id or event.properties.get("scenario") != graph.scenario):
        raise BadInput(f"command id '{command}' was used for another lead or scenario: use a new one")
    if event is None:
        assert lead.id is not None
        lead.last_seq += 1
        event = Event(
            lead_id=lead.id, seq=lead.last_seq, message_id=cause, name=REQUESTED,
            properties={**properties, "scenario": graph.scenario}, occurred_at=now, received_at=now,
        )  # fmt: skip
        session.add_all([lead, event])
        session.flush()
    return enter(session, graph=graph, lead=lead, cause=cause, event=event, now=now, zone=zone)


def changed_mind(session: Session, graph: Graph, lead: Lead, event: Event | None, now: datetime) -> str | None:
    """Why a lead whose entry had to wait for its day is not to start any more, as a code; None if all is as it was."""
    facts = LeadFacts(session, lead, now, event.properties if event is not None else {})
    if lead.erased_at is not None:
        return "erased"
    if graph.audience is not None and not evaluate(graph.audience, facts).value:
        return "audience"
    if event is not None and event.name == JOINED.name:
        segment = find_segment(session, str(event.properties.get(JOINED.property or "")))
        if segment is not None and not evaluate(segment.condition, facts).value:
            return "left-segment"
    if graph.exits_when is not None and evaluate(graph.exits_when, facts).value:
        return "exits-when"
    return None


def _key(graph: Graph, properties: Mapping[str, Any]) -> str | None:
    """The value of the scenario's key; None where the entry does not have it."""
    if graph.key is None:
        return ""
    value = properties.get(graph.key.removeprefix("entry."))
    return None if value is None or value == "" else str(value)[:500]


def _refusal(
    session: Session, graph: Graph, lead: Lead, key: str, properties: Mapping[str, Any], now: datetime, zone: str
) -> str | None:
    """Why this lead may not enter, as a code."""
    if lead.erased_at is not None:
        return "erased"
    if graph.audience is not None and not evaluate(graph.audience, LeadFacts(session, lead, now, properties)).value:
        return "audience"
    earlier = session.exec(
        select(JourneyRow)
        .where(
            JourneyRow.scenario == graph.scenario,
            JourneyRow.lead_id == lead.id,
            JourneyRow.key == key,
            JourneyRow.status != JourneyStatus.REFUSED,
        )
        .order_by(col(JourneyRow.entry).desc())
    ).first()
    if earlier is None:
        return None
    if earlier.status in OPEN:
        return "under-way"
    if graph.re_enter == "never":
        return "entered-before"
    if isinstance(graph.re_enter, Duration):
        ended = earlier.ended_at or earlier.entered_at
        if now < moment_after(graph.re_enter, ended, zone, Calendar()):
            return "too-soon"
    return None
