"""The router: takes stored events to the journeys that want them (DESIGN §6).

Routing is a transaction: lock the leads' rows, take their unrouted events in stored order, write entries and nudges, set
`routed_at`. No call leaves the process while a lock is held; the sender delivers the rows afterwards. An event that no
journey wants costs the journey nothing: no signal, no history.

Several routers may run: on PostgreSQL each skips the leads that another has locked.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import structlog
from sqlmodel import Session, col, select

from mebae import handing
from mebae.conditions import Condition, evaluate, matches
from mebae.crm import outbox as crm
from mebae.crm.model import Occasion
from mebae.entering import enter
from mebae.errors import DatabaseUnavailable
from mebae.graph import Arm, Graph, arms_of
from mebae.journey import EXIT
from mebae.store.database import Database
from mebae.store.facts import LeadFacts
from mebae.store.graphs import active_graphs, graph_of
from mebae.store.sales import rules_of, under_way
from mebae.store.scoring import QUALIFIED, STAGE_REACHED
from mebae.store.tables import Event, JourneyRow, Lead, Nudge
from mebae.timing import Calendar
from mebae.words import JourneyStatus

log = structlog.get_logger()

LEADS_AT_ONCE = 50
ASIDE_FOR = 60.0
"""Seconds for which a lead whose events cannot be routed is left alone. Its events stay; everybody else's go on."""
IDLE = 0.1
"""Seconds between looks when there is nothing to route."""
_BECAME: dict[str, Occasion] = {STAGE_REACHED: "stage", QUALIFIED: "qualification"}
"""Events by which a lead becomes something that other systems are told at once."""


class Router:
    """Runs until cancelled. `on_routed` is called after each batch that wrote something for the sender."""

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], datetime],
        zone: str,
        on_routed: Callable[[], None] = lambda: None,
        calendar: Calendar | None = None,
    ) -> None:
        self._database, self._now, self._zone, self._on_routed = database, now, zone, on_routed
        self._calendar = calendar or Calendar()

        self._set_aside: dict[int, float] = {}
        """Leads whose events could not be routed, until when (machine, monotonic)."""

    async def run(self) -> None:
        away = False
        while True:
            try:
                routed = await self._round()
                away = False
            except DatabaseUnavailable:
                if not away:
                    log.warning("router.database_away", cure="it goes on by itself when the database answers")
                away, routed = True, 0
                await asyncio.sleep(1)
            if routed:
                self._on_routed()
            else:
                await asyncio.sleep(IDLE)

    async def _round(self) -> int:
        """One batch; if it fails, its leads one by one, so that what is wrong with one holds up nobody else."""
        clock = asyncio.get_running_loop().time()
        self._set_aside = {lead: until for lead, until in self._set_aside.items() if until > clock}
        aside = list(self._set_aside)
        try:
            return await self._database.write(
                route, now=self._now(), zone=self._zone, calendar=self._calendar, aside=aside
            )
        except DatabaseUnavailable:
            raise
        except Exception as error:
            log.error("router.batch_failed", kind=type(error).__name__)
        routed = 0
        for lead in await self._database.read(waiting_leads, LEADS_AT_ONCE, aside):
            try:
                routed += await self._database.write(
                    route, now=self._now(), zone=self._zone, calendar=self._calendar, only=lead
                )
            except DatabaseUnavailable:
                raise
            except Exception:
                self._set_aside[lead] = clock + ASIDE_FOR
                log.exception(
                    "router.lead_set_aside", lead=lead, seconds=ASIDE_FOR, cure="its events are kept and tried again"
                )
        return routed


def waiting_leads(session: Session, most: int, aside: Collection[int] = ()) -> list[int]:
    """Leads with unrouted events, those of the oldest events first, in the order in which they are to be locked."""
    query = select(Event.lead_id).where(col(Event.routed_at).is_(None))
    if aside:
        query = query.where(col(Event.lead_id).not_in(aside))
    return sorted(set(session.exec(query.order_by(col(Event.id)).limit(most * 4)).all()))[:most]


def route(
    session: Session,
    *,
    now: datetime,
    zone: str,
    most: int = LEADS_AT_ONCE,
    aside: Collection[int] = (),
    only: int | None = None,
    calendar: Calendar | None = None,
) -> int:
    """Routes the unrouted events of up to `most` leads, or of one, in one transaction; how many events that were."""
    ids = [only] if only is not None else waiting_leads(session, most, aside)
    if not ids:
        return 0
    leads = session.exec(
        select(Lead)
        .where(col(Lead.id).in_(ids))
        .order_by(col(Lead.id))
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    ).all()
    by_lead: dict[int, list[Event]] = defaultdict(list)
    mine = [lead.id for lead in leads]
    for event in session.exec(
        select(Event).where(col(Event.lead_id).in_(mine), col(Event.routed_at).is_(None)).order_by(col(Event.seq))
    ):
        by_lead[event.lead_id].append(event)
    resting: dict[int, list[JourneyRow]] = defaultdict(list)
    for row in session.exec(
        select(JourneyRow).where(col(JourneyRow.lead_id).in_(mine), JourneyRow.status == JourneyStatus.RESTING)
    ):
        resting[row.lead_id].append(row)
    graphs = active_graphs(session)
    routed = 0
    for lead in leads:
        assert lead.id is not None
        events = by_lead[lead.id]
        if not events:
            continue
        for event in events:
            _enter_all(session, graphs, lead, event, now, zone)
            if event.name == QUALIFIED:
                _hand_over(session, lead, event, now, zone, calendar or Calendar())
            event.routed_at = now
        crm.on_became(session, lead, [_BECAME[event.name] for event in events if event.name in _BECAME], now)
        for row in resting[lead.id]:
            _nudge(session, row, lead, events, now)
        routed += len(events)
    return routed


def _enter_all(session: Session, graphs: Sequence[Graph], lead: Lead, event: Event, now: datetime, zone: str) -> None:
    """Enters the lead wherever this event is a start event."""
    for graph in graphs:
        if any(matches(pattern, event.name, event.properties) for pattern in graph.enters_on):
            cause = f"event:{event.id}:{graph.scenario}"
            enter(session, graph=graph, lead=lead, cause=cause, event=event, now=now, zone=zone)


def _hand_over(session: Session, lead: Lead, event: Event, now: datetime, zone: str, calendar: Calendar) -> None:
    """Gives a new MQL to sales, where the rules say so and nobody has yet."""
    if lead.qualification != "mql" or lead.erased_at is not None or event.properties.get("qualification") != "mql":
        return
    assert lead.id is not None
    if not rules_of(session).on_mql or under_way(session, lead.id) is not None:
        return
    handing.open_or_join(session, lead, handing.Why(f"event:{event.id}", "rule"), now, zone, calendar)


def _nudge(session: Session, row: JourneyRow, lead: Lead, events: Sequence[Event], now: datetime) -> None:
    """Writes a nudge for everything that this resting journey listens for and that may have come true."""
    assert row.entry is not None
    graph = graph_of(session, row.version)
    entry = session.get(Event, row.entry_event_id) if row.entry_event_id is not None else None
    facts = LeadFacts(session, lead, now, entry.properties if entry is not None else {})
    for trigger in row.listening:
        arm, condition = _wanted(graph, row.step, trigger["id"])
        if arm is not None and arm.on is not None:
            new = (e for e in events if e.seq > trigger["after"])
            wanted = (e for e in new if arm.hears(graph.scenario, e.name, e.properties))
            event = next(wanted, None)
        else:
            event = events[-1] if condition is not None and evaluate(condition, facts).value else None
        if event is not None:
            assert event.id is not None
            session.add(Nudge(entry=row.entry, trigger=trigger["id"], event_id=event.id, created_at=now))


def _wanted(graph: Graph, step: str | None, trigger: str) -> tuple[Arm | None, Condition | None]:
    """What a trigger of the pinned graph means: an arm, and its condition if it has one."""
    if trigger == EXIT:
        return None, graph.exits_when
    assert step is not None
    arm = next(arm for arm in arms_of(graph.step(step)) if arm.id == trigger)
    return arm, arm.when
