"""Tells the workflows of hand-overs what happened: starts those of new ones, nudges those of others.

The row is its own outbox: `told` is behind `version` until Temporal has taken it. Started or told twice, a workflow only looks
once more; Temporal away, the rows wait, and every decision holds all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from sqlalchemy import update
from sqlmodel import Session, col, or_, select
from temporalio.client import Client
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.service import RPCError

from mebae import contracts
from mebae.clock import WorldClock
from mebae.errors import DatabaseUnavailable
from mebae.sender import AWAY, NOT_FOR_NOW, TRY_AGAIN
from mebae.store.database import Database
from mebae.store.tables import Handover

log = structlog.get_logger()

_LEAD, _WAITING_FOR = SearchAttributeKey.for_int("LeadId"), SearchAttributeKey.for_keyword("WaitingFor")
AT_ONCE = 50
IDLE = 0.5
"""Seconds between looks when there is nothing to tell."""


class HandoverSender:
    """Runs until cancelled."""

    def __init__(
        self, database: Database, client: Client, *, clock: WorldClock, machine: Callable[[], datetime] | None = None
    ) -> None:
        self._database, self._client, self._clock = database, client, clock
        self._machine = machine or (lambda: datetime.now(UTC))

    async def run(self) -> None:
        while True:
            try:
                told = await self.deliver()
            except DatabaseUnavailable:
                told = 0
                await asyncio.sleep(1)
            if not told:
                await asyncio.sleep(IDLE)

    async def deliver(self) -> int:
        """Tells what is to be told now; how many were."""
        told = 0
        for handover, version, lead in await self._database.read(_untold, self._machine()):
            try:
                await self._tell(handover, lead)
            except RPCError as error:
                span = TRY_AGAIN if error.status in AWAY else NOT_FOR_NOW
                if error.status not in AWAY:
                    log.error("handover.untold", handover=handover, kind=error.status.name, cure="tried again in 5 minutes")
                await self._database.write(_later, handover, self._machine() + span)
                continue
            await self._database.write(_told, handover, version)
            told += 1
        return told

    async def _tell(self, handover: int, lead: int) -> None:
        clock = self._clock if self._clock.speed != 1.0 else None
        await self._client.start_workflow(
            contracts.HANDOVER,
            contracts.HandoverInput(handover=handover, clock=clock),
            id=contracts.handover_id(handover),
            task_queue=contracts.SALES_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal=contracts.LOOK,
            search_attributes=TypedSearchAttributes([SearchAttributePair(_LEAD, lead), SearchAttributePair(_WAITING_FOR, "sales")]),
            static_summary=f"hand-over {handover} · lead {lead}",
        )


def _untold(session: Session, machine: datetime) -> list[tuple[int, int, int]]:
    due = or_(col(Handover.tell_at).is_(None), col(Handover.tell_at) <= machine, col(Handover.tell_at) > machine + 2 * NOT_FOR_NOW)
    query = select(Handover.id, Handover.version, Handover.lead_id).where(col(Handover.told) < col(Handover.version), due)
    return [(id or 0, version, lead) for id, version, lead in session.exec(query.order_by(col(Handover.id)).limit(AT_ONCE))]


def _told(session: Session, handover: int, version: int) -> None:
    mine = update(Handover).where(col(Handover.id) == handover, col(Handover.told) < version)
    session.execute(mine.values(told=version, tell_at=None))


def _later(session: Session, handover: int, at: datetime) -> None:
    session.execute(update(Handover).where(col(Handover.id) == handover).values(tell_at=at))
