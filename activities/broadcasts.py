"""What a broadcast's workflow calls: begin a run, send some batches of it, pause, resume or end it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import structlog
from sqlmodel import Session
from temporalio import activity

from activities.calling import coded, steady_now
from mebae import broadcast_opening, broadcasting, contracts
from mebae.broadcast_run import Place, World
from mebae.broadcasting import Again, Batch, Halted, Next, Over, Resting
from mebae.clock import WorldClock
from mebae.contracts import BroadcastOpened, BroadcastStanding, OpenRequest, RunRequest, SteerRequest
from mebae.mail.bulk import Bulk
from mebae.store.database import Database
from mebae.store.tables import Broadcast
from mebae.timing import Calendar

log = structlog.get_logger()

AT_A_TIME = 5.0
"""Seconds of batches in one activity: so often ops see what has been done."""
FEWEST, FIRST, MOST = 20, 100, 1000
"""Leads of a batch. It is made to take about a second, so that a pause is soon obeyed, by a slow mail server too."""
BEAT = 3.0


class BroadcastActivities:
    """Runs of broadcasts. The mail goes out by `bulk`."""

    def __init__(self, database: Database, bulk: Bulk, zone: str, calendar: Calendar) -> None:
        self._database, self._bulk, self._zone, self._calendar = database, bulk, zone, calendar

    @activity.defn(name=contracts.OPEN_BROADCAST)
    @coded
    async def open_broadcast(self, request: OpenRequest) -> BroadcastOpened:
        """Begins a run: the one by command that was asked for, or that of the time for which a Schedule has fired."""
        world, now = self._world(request.clock), steady_now(request.clock)()
        if request.run is not None:
            opened = await self._database.write(broadcast_opening.open_run, request.run, now)
        else:
            fired = request.fired or now
            workflow = activity.info().workflow_id or ""
            opened = await self._database.write(
                broadcast_opening.open_scheduled, request.broadcast, fired, workflow, world, now
            )
        log.info("broadcast.opened", broadcast=request.broadcast, run=opened.run, why=opened.why)
        return BroadcastOpened(run=opened.run, why=opened.why)

    @activity.defn(name=contracts.SEND_BROADCAST)
    @coded
    async def send_broadcast(self, request: RunRequest) -> BroadcastStanding:
        """Sends batches for some seconds, or until there is nothing to do for now, and says what comes next."""
        run, world, now = request.run, self._world(request.clock), steady_now(request.clock)
        began, sent = time.monotonic(), 0
        size = float(FIRST)
        async with _heartbeats(run):
            while True:
                most = int(size)
                looked = await self._database.read(broadcasting.look, run, world, now(), most=most)
                at = await self._database.write(broadcasting.take, run, looked, world, now(), most=most)
                if isinstance(at, Batch):
                    since = time.monotonic()
                    for group in at.groups:
                        await self._bulk.send(run, group.leads, group.content, now)
                    await self._database.write(broadcasting.taken, run, at, world, now())
                    sent += len(at.leads)
                    size = _fitting(size, time.monotonic() - since)
                if not isinstance(at, (Again, Batch)) or time.monotonic() - began >= AT_A_TIME:
                    break
        rate = sent / (time.monotonic() - began) if sent else 0.0
        standing = await self._database.read(_standing, run, at, round(rate, 1))
        if isinstance(at, Over):
            log.info("broadcast.over", run=run, outcome=standing.outcome, **standing.counts)
        return standing

    @activity.defn(name=contracts.STEER_BROADCAST)
    @coded
    async def steer_broadcast(self, request: SteerRequest) -> None:
        """Pauses, resumes or ends a run."""
        world, now = self._world(request.clock), steady_now(request.clock)()
        match request.verb:
            case "pause":
                await self._database.write(broadcasting.pause, request.run, world, now)
            case "resume":
                await self._database.write(broadcasting.resume, request.run, world, now)
            case "end":
                await self._database.write(broadcasting.end, request.run, request.outcome, world, now)

    def _world(self, clock: WorldClock | None) -> World:
        return World(self._zone, self._calendar, clock or WorldClock())


def _fitting(size: float, seconds: float) -> float:
    """The next batch's size: one that took about a second was right."""
    factor = min(max(1.0 / max(seconds, 0.001), 0.5), 2.0)
    return min(max(size * factor, FEWEST), MOST)


def _standing(session: Session, run: int, at: Next, rate: float) -> BroadcastStanding:
    row = session.get_one(Broadcast, run)
    standing = BroadcastStanding(
        next="more", status=row.status, part=Place.model_validate(row.place).part, counts=row.counts, rate=rate,
        winner=row.winner, outcome=row.outcome,
    )  # fmt: skip
    match at:
        case Resting():
            return standing.model_copy(update={"next": "rest", "until": at.until, "why": at.why})
        case Halted():
            return standing.model_copy(update={"next": "paused"})
        case Over():
            return standing.model_copy(update={"next": "over"})
        case _:
            return standing


@contextlib.asynccontextmanager
async def _heartbeats(run: int) -> AsyncIterator[None]:
    """Tells Temporal that this attempt lives; a dead worker's is tried again after 10 seconds."""

    async def beat() -> None:
        while True:
            activity.heartbeat(run)
            await asyncio.sleep(BEAT)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
