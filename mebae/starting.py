"""Starting journeys and telling them things, for people and back-end systems: what `starter.py` and its callers use."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, or_, select
from temporalio.service import RPCError

from mebae import contracts, wiring
from mebae.conditions import Scalar
from mebae.entering import request_entry
from mebae.errors import BadInput, MebaeError, NotFound
from mebae.events import IDENTIFIED, canonical
from mebae.graph import Graph
from mebae.publishing import published
from mebae.sender import Sender
from mebae.settings import Settings
from mebae.store import leads
from mebae.store.database import lock_lead
from mebae.store.graphs import newest
from mebae.store.ingest import OUR_MESSAGE_IDS, Incoming, Stored, store_events
from mebae.store.leads import Who, normalise_email
from mebae.store.tables import JourneyRow, Lead
from mebae.temporal import TemporalAway, connect
from mebae.words import JourneyStatus

PATIENCE = timedelta(seconds=3)
"""How long a person waits for Temporal; then the entry stays recorded and the worker starts it."""

REASONS = {
    "audience": "the lead is not in the scenario's audience",
    "under-way": "the lead is on this journey already",
    "entered-before": "the lead has been on this journey before, and the scenario lets nobody in twice",
    "too-soon": "the lead's last journey ended too recently for this scenario's re_enter",
    "no-key": "the scenario has a key that the entry does not give: add it with --prop",
    "erased": "the lead was erased",
    "left-segment": "the lead was no longer in the segment when the day of its start came",
    "exits-when": "the scenario's exits_when was true when the day of its start came",
}


class EntryRefused(MebaeError):
    """A scenario did not let the lead in. `reason` is the code, the message says it in words."""

    def __init__(self, scenario: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"'{scenario}' did not take the lead: {REASONS.get(reason, reason)}")


@dataclass(frozen=True)
class Started:
    """An entry that is recorded. `running` is false when Temporal was away: it starts as soon as that answers; or when the
    scenario's places of today are taken (`starts_at_most`): then it starts at `starts_at`."""

    entry: int
    workflow_id: str
    running: bool
    starts_at: datetime | None = None


@dataclass(frozen=True)
class JourneyLine:
    """A journey, for a list."""

    entry: int
    workflow_id: str
    scenario: str
    lead: str
    status: str
    step: str | None
    waiting_for: str | None
    deadline: datetime | None
    entered_at: datetime
    outcome: str | None
    reason: str | None
    paused: bool


async def start(
    scenario: str,
    lead: str,
    *,
    properties: Mapping[str, Scalar] | None = None,
    command: str | None = None,
    settings: Settings | None = None,
) -> Started:
    """Enters the lead with this address into a scenario, and starts the journey.

    `properties` are what the scenario reads as `entry.…`. `command` is an id of the caller's own: the same one again gives
    the same entry and starts nothing twice.

    Raises `NotFound` for an unknown scenario or lead, `EntryRefused` when the scenario does not take the lead.
    """
    settings = settings or wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        row = await database.write(
            _enter,
            scenario,
            lead,
            command or uuid.uuid4().hex,
            dict(properties or {}),
            wiring.world_now(settings),
            settings.time_zone,
        )
        assert row.entry is not None
        if row.status == JourneyStatus.REFUSED:
            raise EntryRefused(scenario, row.reason or "refused")
        workflow_id = contracts.workflow_id(row.scenario, row.lead_id, row.key)
        if row.status != JourneyStatus.STARTING:  # the same command again
            return Started(row.entry, workflow_id, True)
        if _waits(row):
            return Started(row.entry, workflow_id, False, row.starts_at)
        try:
            client = await connect(patience=PATIENCE)
            await Sender(database, client, clock=settings.clock()).start_one(row.entry)
        except (TemporalAway, RPCError):
            return Started(row.entry, workflow_id, False)
        return Started(row.entry, workflow_id, await database.read(_is_running, row.entry))
    finally:
        database.close()


async def signal(
    lead: str,
    event: str,
    *,
    properties: Mapping[str, Any] | None = None,
    message_id: str | None = None,
    settings: Settings | None = None,
) -> bool:
    """Stores an event of the lead with this address, as if it had come over HTTP; the worker takes it to its journeys.

    False when the same `message_id` was stored before. Raises `NotFound` for an unknown lead.
    """
    settings = settings or wiring.load_settings()
    now = wiring.world_now(settings)
    incoming = Incoming(
        message_id=message_id or f"starter:{uuid.uuid4().hex}",
        name=canonical(event),
        properties=dict(properties or {}),
        traits=dict(properties or {}) if canonical(event) == IDENTIFIED else {},
        occurred_at=now,
        received_at=now,
        who=Who(),
    )
    if incoming.message_id.startswith(OUR_MESSAGE_IDS):
        raise BadInput(f"a message id cannot begin like '{incoming.message_id}': that is ours; choose another one")
    database = wiring.open_now(settings)
    try:
        stored = await database.write(_store, lead, incoming, now)
        return stored.new > 0
    finally:
        database.close()


async def list_journeys(
    *,
    scenario: str | None = None,
    lead: str | None = None,
    status: str | None = None,
    limit: int = 100,
    settings: Settings | None = None,
) -> list[JourneyLine]:
    """Journeys from our database, the newest first. `status` is a journey's, or `open` for all that have not ended."""
    if status is not None and status not in (*JourneyStatus, "open"):
        raise BadInput(f"no such status '{status}': one of open, {', '.join(JourneyStatus)}")
    settings = settings or wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        return await database.read(_lines, scenario, lead, status, limit)
    finally:
        database.close()


def find_lead(session: Session, email: str) -> Lead:
    """The lead of an address; `NotFound` with the nearest ones, `BadInput` for what is none."""
    address = normalise_email(email)
    lead = leads.find_lead(session, email=address)
    if lead is not None:
        return lead
    local, _, domain = address.partition("@")
    near = or_(
        col(Lead.email).startswith(local[:3], autoescape=True), col(Lead.email).endswith("@" + domain, autoescape=True)
    )
    known = session.exec(select(Lead.email).where(near).limit(200)).all()
    # Only what is nearly the same address: other people's are no help, and none of anybody's business.
    alike = difflib.get_close_matches(address, [one for one in known if one], n=2, cutoff=0.8)
    error = NotFound("lead", email, alike)
    if session.exec(select(Lead.id).limit(1)).first() is None:
        error.args = (f"{error}: there are no leads yet, import some with mebae import-leads FILE",)
    raise error


def _enter(
    session: Session, scenario: str, email: str, command: str, properties: dict[str, Scalar], now: datetime, zone: str
) -> JourneyRow:
    graph = _newest(session, scenario)
    found = find_lead(session, email)
    assert found.id is not None
    lead = lock_lead(session, found.id)
    assert lead is not None
    # A refused entry is a row too: it is returned here, and raised only after the commit.
    return request_entry(session, graph=graph, lead=lead, command=command, properties=properties, now=now, zone=zone)


def _store(session: Session, email: str, incoming: Incoming, now: datetime) -> Stored:
    lead = find_lead(session, email)  # an unknown address is a slip here, and makes no lead
    return store_events(session, [incoming.model_copy(update={"who": Who(email=lead.email)})], now)


def _newest(session: Session, scenario: str) -> Graph:
    try:
        return newest(session, scenario)
    except NotFound as error:
        if not published(session):
            error.args = (f"{error}: no scenario is published yet, start the worker once",)
        raise


def _known(session: Session, scenario: str) -> str:
    """The name, if there ever was such a scenario."""
    if session.exec(select(JourneyRow.entry).where(JourneyRow.scenario == scenario).limit(1)).first() is None:
        return _newest(session, scenario).scenario
    return scenario


def _waits(row: JourneyRow) -> bool:
    """Whether it is one for whom there was no place on the day of its entry."""
    return row.status == JourneyStatus.STARTING and row.starts_at is not None and row.starts_at > row.entered_at


def _is_running(session: Session, entry: int) -> bool:
    return session.get_one(JourneyRow, entry).status != JourneyStatus.STARTING


def _lines(
    session: Session, scenario: str | None, lead: str | None, status: str | None, limit: int
) -> list[JourneyLine]:
    query = select(JourneyRow, Lead).join(Lead).order_by(col(JourneyRow.entry).desc()).limit(limit)
    if scenario is not None:
        query = query.where(JourneyRow.scenario == _known(session, scenario))
    if lead is not None:
        query = query.where(JourneyRow.lead_id == find_lead(session, lead).id)
    if status == "open":
        query = query.where(
            col(JourneyRow.status).in_((JourneyStatus.STARTING, JourneyStatus.RUNNING, JourneyStatus.RESTING))
        )
    elif status is not None:
        query = query.where(JourneyRow.status == status)
    return [
        JourneyLine(
            entry=row.entry or 0,
            workflow_id=contracts.workflow_id(row.scenario, row.lead_id, row.key),
            scenario=row.scenario,
            lead=person.email or person.user_id or f"lead {person.id}",
            status=row.status,
            step=row.step,
            waiting_for="its day" if _waits(row) else row.waiting_for,
            deadline=row.starts_at if _waits(row) else row.deadline,
            entered_at=row.entered_at,
            outcome=row.outcome,
            reason=row.reason,
            paused=row.paused,
        )
        for row, person in session.exec(query).all()
    ]
