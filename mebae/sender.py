"""The sender: delivers to Temporal what the router and `enter` wrote, in order per lead, and marks it done (DESIGN §6).

A crash between any two steps is harmless: a start that was made already is recognised by its entry number, and a nudge
given twice only makes a journey ask twice. Temporal away: the rows wait.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import ColumnElement, case, func, update
from sqlalchemy import select as columns
from sqlmodel import Session, col, or_, select
from temporalio.client import Client
from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from mebae import contracts
from mebae.clock import WorldClock
from mebae.entering import changed_mind
from mebae.errors import DatabaseUnavailable
from mebae.graph import Graph, waiting_for
from mebae.journey import first_rest
from mebae.store.database import Database
from mebae.store.graphs import graph_of
from mebae.store.tables import Event, JourneyRow, Lead, Nudge
from mebae.words import JourneyStatus

log = structlog.get_logger()

AT_ONCE = 200
WAITED_AT_ONCE = 50
"""Of those whose day has come: each is asked again whether it still wants to start."""
TRY_AGAIN = timedelta(seconds=2)
LEASE = timedelta(seconds=20)
"""For how long a start is in the hands of the sender that read it: longer than a call to Temporal takes. Of a sender that
died, another one takes it on afterwards. Without it two senders would do every start twice, and the slower one could make a
second run of a journey that is over already."""
NOT_FOR_NOW = timedelta(minutes=5)
"""When to try again what Temporal refuses for a reason that time may not cure."""
AWAY = {
    RPCStatusCode.ABORTED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.INTERNAL,
    RPCStatusCode.RESOURCE_EXHAUSTED,
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.UNKNOWN,
}
"""Temporal does not answer, or not now. Any other no is about the one call."""
CONNECTIONS = 16
"""Calls to Temporal under way at once."""


@dataclass
class Start:
    """A journey to be started, with all that Temporal is told."""

    entry: int
    lead: int
    scenario: str
    version: str
    key: str
    step: str
    """Where it will rest first, as far as that is known before: it saves the upsert there, which is dear."""
    waiting_for: str
    stage: str
    mark: int
    graph: dict[str, object]
    fairness: str

    @property
    def workflow_id(self) -> str:
        return contracts.workflow_id(self.scenario, self.lead, self.key)


class Told:
    """A nudge to be given."""

    def __init__(self, nudge: Nudge, row: JourneyRow) -> None:
        assert nudge.id is not None
        self.id, self.lead = nudge.id, row.lead_id
        self.workflow_id = contracts.workflow_id(row.scenario, row.lead_id, row.key)
        self.signal = contracts.Nudged(entry=nudge.entry, trigger=nudge.trigger, event=nudge.event_id)


@dataclass
class Delivered:
    """What came of one batch: entries and nudges by number."""

    started: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    untold: list[int] = field(default_factory=list)


class Sender:
    """Runs until cancelled; `wake()` makes it look at once."""

    def __init__(
        self, database: Database, client: Client, *, clock: WorldClock, machine: Callable[[], datetime] | None = None
    ):
        self._database, self._client, self._clock = database, client, clock
        self._machine = machine or (lambda: datetime.now(UTC))
        self._wake = asyncio.Event()
        self._calls = asyncio.Semaphore(CONNECTIONS)

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        away = False
        while True:
            try:
                delivered = await self.deliver()
                if away:
                    log.info("sender.back")
                away = False
            except (RPCError, DatabaseUnavailable) as error:
                if not away:
                    what = "Temporal" if isinstance(error, RPCError) else "the database"
                    log.warning(
                        "sender.waiting", for_=what, cure="nothing is lost; it goes on by itself when it answers"
                    )
                away, delivered = True, 0
            if not delivered:
                self._wake.clear()
                try:
                    await asyncio.wait_for(self._wake.wait(), 1.0 if away else 0.2)
                except TimeoutError:
                    continue

    async def deliver(self) -> int:
        """Delivers one batch; how many rows were done. Raises `RPCError` when Temporal is away, after marking what was done."""
        machine = self._machine()
        starts, nudges = await self._database.write(_taken, machine=machine, now=self._clock.world(machine))
        if not starts and not nudges:
            return 0
        return await self._deliver(starts, nudges, machine)

    async def start_one(self, entry: int) -> bool:
        """Starts one entry at once, for a person who waits for the answer; false when it stays for the sender's next round."""
        machine = self._machine()
        now = self._clock.world(machine)
        starts, nudges = await self._database.write(_taken, machine=machine, now=now, entry=entry)
        return bool(await self._deliver(starts, nudges, machine))

    async def _deliver(self, starts: Sequence[Start], nudges: Sequence[Told], machine: datetime) -> int:
        by_lead: dict[int, list[Start | Told]] = defaultdict(list)
        items: list[Start | Told] = [*starts, *nudges]
        for item in items:
            by_lead[item.lead].append(item)
        done = Delivered()
        results = await asyncio.gather(
            *(self._one_lead(items, done) for items in by_lead.values()), return_exceptions=True
        )
        settled = {*done.started, *done.refused}
        later = [start.entry for start in starts if start.entry not in settled]
        await self._database.write(_done, done, later=later, now=self._clock.world(machine), machine=machine)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return len(done.started) + len(done.told)

    async def _one_lead(self, items: Sequence[Start | Told], done: Delivered) -> None:
        async with self._calls:
            for item in items:
                try:
                    if isinstance(item, Start):
                        if await self._start(item):
                            done.started.append(item.entry)
                    else:
                        await self._tell(item)
                        done.told.append(item.id)
                except Exception as error:
                    if isinstance(error, RPCError) and error.status in AWAY:
                        raise
                    # Nobody else waits for it.
                    kind = error.status.name if isinstance(error, RPCError) else type(error).__name__
                    log.error("sender.refused", workflow=item.workflow_id, kind=kind, cure="tried again in 5 minutes")
                    (done.refused if isinstance(item, Start) else done.untold).append(
                        item.entry if isinstance(item, Start) else item.id
                    )

    async def _start(self, start: Start) -> bool:
        """True when this entry's workflow is there, whoever started it."""
        speed = self._clock if self._clock.speed != 1.0 else None
        try:
            await self._client.start_workflow(
                contracts.JOURNEY,
                contracts.JourneyInput(
                    entry=start.entry, lead=start.lead, graph=start.graph, mark=start.mark, stage=start.stage, clock=speed,
                    fairness=start.fairness,
                ),
                id=start.workflow_id,
                task_queue=contracts.JOURNEYS_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo={"entry": start.entry},
                search_attributes=attributes(
                    Scenario=start.scenario, Version=start.version, Step=start.step,
                    WaitingFor=start.waiting_for, Stage=start.stage,
                    LeadId=start.lead, Paused=False,
                ),
                static_summary=f"{start.scenario} · lead {start.lead}",
                request_eager_start=True,  # a worker in this process takes the first task with the answer
                priority=Priority(fairness_key=start.scenario[:64]),
            )
            return True
        except WorkflowAlreadyStartedError:
            # Ours, of a try whose answer was lost; or an earlier entry that is just closing: then later.
            description = await self._client.get_workflow_handle(start.workflow_id).describe()
            return await description.memo_value("entry", default=None, type_hint=int) == start.entry

    async def _tell(self, told: Told) -> None:
        try:
            await self._client.get_workflow_handle(told.workflow_id).signal(contracts.NUDGE, told.signal)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            # It ended meanwhile: nobody to tell.


_KEYWORDS = {
    name: SearchAttributeKey.for_keyword(name)
    for name, kind in contracts.SEARCH_ATTRIBUTES.items()
    if kind == "Keyword"
}


def attributes(*, LeadId: int, Paused: bool, **keywords: str) -> TypedSearchAttributes:
    """The search attributes of a start."""
    pairs: list[SearchAttributePair] = [  # type: ignore[type-arg]
        SearchAttributePair(_KEYWORDS[name], value) for name, value in keywords.items()
    ]
    pairs.append(SearchAttributePair(SearchAttributeKey.for_int("LeadId"), LeadId))
    pairs.append(SearchAttributePair(SearchAttributeKey.for_bool("Paused"), Paused))
    return TypedSearchAttributes(pairs)


def _taken(
    session: Session, *, machine: datetime, now: datetime, entry: int | None = None
) -> tuple[list[Start], list[Told]]:
    """What is to be delivered, each lead's in order; the starts are this sender's for a while. `entry`: that start alone,
    in whosever hands it is, for a person is waiting for it."""
    starts = _due(session, col(JourneyRow.starts_at).is_(None), machine, now, AT_ONCE, entry)
    # In a query of its own, which reads only those whose day has come, however many wait for theirs.
    starts += _due(session, col(JourneyRow.starts_at) <= now, machine, now, WAITED_AT_ONCE, entry)
    if starts:
        mine_now = col(JourneyRow.entry).in_([start.entry for start in starts])
        session.execute(update(JourneyRow).where(mine_now).values(retry_at=machine + LEASE))
    if entry is not None:
        return starts, []
    unsent = (
        select(Nudge, JourneyRow)
        .join(JourneyRow, col(Nudge.entry) == col(JourneyRow.entry))
        .where(
            col(Nudge.sent_at).is_(None),
            or_(col(Nudge.retry_at).is_(None), col(Nudge.retry_at) <= machine),
        )
        .order_by(col(Nudge.id))
        .limit(AT_ONCE)
    )
    return starts, [Told(nudge, row) for nudge, row in session.exec(unsent).all()]


def _due(
    session: Session, due: ColumnElement[bool], machine: datetime, now: datetime, most: int, entry: int | None
) -> list[Start]:
    """The starts that are due. One that had to wait for its day is asked again first."""
    query = (
        # Columns and not whole rows: this is on the way of every start.
        columns(
            col(JourneyRow.entry),
            col(JourneyRow.lead_id),
            col(JourneyRow.scenario),
            col(JourneyRow.version),
            col(JourneyRow.key),
            col(Lead.stage),
            col(Lead.email),
            col(Event.seq),
            col(Lead.last_seq),
            col(JourneyRow.starts_at) > col(JourneyRow.entered_at),
            col(JourneyRow.retry_at),
        )
        .join(Lead, col(JourneyRow.lead_id) == col(Lead.id))
        .outerjoin(Event, col(JourneyRow.entry_event_id) == col(Event.id))
        .where(col(JourneyRow.status) == JourneyStatus.STARTING, due)
    )
    if entry is not None:
        query = query.where(col(JourneyRow.entry) == entry)
    else:
        # A time further off than any of ours was written by a clock that goes wrong, and binds nobody.
        mine = or_(
            col(JourneyRow.retry_at).is_(None),
            col(JourneyRow.retry_at) <= machine,
            col(JourneyRow.retry_at) > machine + NOT_FOR_NOW,
        )
        query = query.where(mine).with_for_update(of=JourneyRow, skip_locked=True)
    graphs: dict[str, dict[str, object]] = {}
    starts = []
    for number, lead, scenario, version, key, stage, email, seq, last, waited, tried in session.execute(
        query.order_by(col(JourneyRow.starts_at), col(JourneyRow.entry)).limit(most)  # as the index has them
    ).all():
        graph = graph_of(session, version)
        # Once only: of a start that was tried the answer may have been lost, and then the journey runs.
        if waited and tried is None and not _still_wants(session, graph, number, now):
            continue
        if version not in graphs:
            graphs[version] = json.loads(graph.dump())
        rest = first_rest(graph, lead)
        mark = last if waited else seq or 0  # a journey hears what comes after its start
        starts.append(
            Start(
                number, lead, scenario, version, key, rest.id, waiting_for(rest), stage, mark, graphs[version],
                contracts.fairness_of(email),
            )
        )
    return starts


def _still_wants(session: Session, graph: Graph, entry: int, now: datetime) -> bool:
    """Whether an entry that had to wait for its day may start; if not, it is refused now."""
    row = session.get_one(JourneyRow, entry)
    lead = session.get_one(Lead, row.lead_id)
    event = session.get(Event, row.entry_event_id) if row.entry_event_id is not None else None
    reason = changed_mind(session, graph, lead, event, now)
    if reason is not None:
        row.status, row.reason, row.step = JourneyStatus.REFUSED, reason, None
        session.flush()
    return reason is None


def _done(session: Session, done: Delivered, *, later: list[int], now: datetime, machine: datetime) -> None:
    """Marks what was delivered. A journey that has gone on meanwhile keeps its status."""
    started, told = done.started, done.told
    if done.refused:
        late = update(JourneyRow).where(col(JourneyRow.entry).in_(done.refused))
        session.execute(late.values(retry_at=machine + NOT_FOR_NOW))
    if done.untold:
        session.execute(update(Nudge).where(col(Nudge.id).in_(done.untold)).values(retry_at=machine + NOT_FOR_NOW))
    if started:
        # One statement: when a transaction changes a row twice, PostgreSQL looks at its foreign keys, and so at the lead, which
        # a journey on its way to rest holds while it waits for this row.
        running = case((col(JourneyRow.status) == JourneyStatus.STARTING, JourneyStatus.RUNNING), else_=col(JourneyRow.status))
        marked = update(JourneyRow).where(col(JourneyRow.entry).in_(started))
        session.execute(marked.values(status=running, started_at=func.coalesce(col(JourneyRow.started_at), now)))
    if later:
        session.execute(update(JourneyRow).where(col(JourneyRow.entry).in_(later)).values(retry_at=machine + TRY_AGAIN))
    if told:
        session.execute(update(Nudge).where(col(Nudge.id).in_(told)).values(sent_at=now))
