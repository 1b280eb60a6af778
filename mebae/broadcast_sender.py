"""Starts the workflows of runs by command: at once for the person who waits, and again from the worker for what was cut off."""

from __future__ import annotations

import asyncio

import structlog
from sqlmodel import Session, col, select
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from mebae import contracts
from mebae.clock import WorldClock
from mebae.contracts import BroadcastInput
from mebae.errors import DatabaseUnavailable
from mebae.store.database import Database
from mebae.store.tables import Broadcast

log = structlog.get_logger()

LOOK_EVERY = 5.0
"""Seconds between two looks for runs that were recorded and not started."""


async def start_run(client: Client, row: Broadcast, clock: WorldClock) -> None:
    """Starts a run's workflow; one that is there already is left alone. Raises `RPCError` when Temporal is away."""
    try:
        await client.start_workflow(
            contracts.BROADCAST,
            BroadcastInput(broadcast=row.broadcast, run=row.id, clock=clock if clock.speed != 1.0 else None),
            id=row.workflow_id,
            task_queue=contracts.BROADCASTS_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"{row.broadcast} · run {row.id}",
        )
    except WorkflowAlreadyStartedError:
        log.info("broadcast.started-before", broadcast=row.broadcast, run=row.id)


class BroadcastSender:
    """Runs in the worker until cancelled."""

    def __init__(self, database: Database, client: Client, *, clock: WorldClock) -> None:
        self._database, self._client, self._clock = database, client, clock

    async def run(self) -> None:
        while True:
            try:
                await self.deliver()
            except (RPCError, DatabaseUnavailable) as error:
                log.warning(
                    "broadcast.waiting",
                    kind=type(error).__name__,
                    cure="it is started when Temporal and database answer",
                )
            await asyncio.sleep(LOOK_EVERY)

    async def deliver(self) -> int:
        """Starts what was recorded and not started; how many."""
        rows = await self._database.read(_starting)
        for row in rows:
            await start_run(self._client, row, self._clock)
        return len(rows)


def _starting(session: Session) -> list[Broadcast]:
    query = select(Broadcast).where(Broadcast.status == "starting", Broadcast.workflow_id != "")
    return list(session.exec(query.order_by(col(Broadcast.id))))
