"""The worker's clock: Temporal's, which all workers share, and not that of the machine, which may be wrong or jump.

Temporal tells no time when asked, but every activity is told when it was started. So a workflow with an activity that does
nothing else is run when the worker starts, now and then, and when the machine's clock jumps; in between the time goes on by
what the machine counts in spans (its monotonic clock, which nobody sets).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from mebae import contracts
from mebae.clock import WorldClock

log = structlog.get_logger()

ASK_EVERY = timedelta(hours=6)
"""What counts spans may go wrong by a second in that time (50 ppm)."""
JUMP = timedelta(seconds=1)
"""So far may the machine's clock go from what it counts in spans, before Temporal is asked: it was set, or the machine slept."""
AT_MOST = timedelta(seconds=2)
"""An answer that took longer tells too little."""
TRY_AGAIN = 1.0
LOOK = 1.0
"""Seconds between looks at the machine's clock."""
TOLD = timedelta(seconds=2)
"""A machine whose clock is so far off is told to ops, as by `mebae doctor`."""


class RightTime:
    """What time it is for this process. Ask `ask` first.

    Args:
        workflow: the one that calls `hear` (`workflows.clock`).
        machine: the machine's clock.
        spans: what counts seconds, from any moment on.
    """

    def __init__(
        self,
        client: Client,
        workflow: type[Any],
        clock: WorldClock | None = None,
        *,
        machine: Callable[[], datetime] | None = None,
        spans: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._workflow, self._clock, self._spans = client, workflow, clock or WorldClock(), spans
        self._machine = machine or (lambda: datetime.now(UTC))
        self._there: datetime | None = None
        self._since, self._here = spans(), self._machine()

    def now(self) -> datetime:
        """The time in UTC, as Temporal has it."""
        assert self._there is not None, "nobody has asked Temporal yet"
        return self._there + timedelta(seconds=self._spans() - self._since)

    def world_now(self) -> datetime:
        """The world's time."""
        return self._clock.world(self.now())

    async def ask(self) -> None:
        """Learns Temporal's time; tries until it answers."""
        waiting = False
        while True:
            began = self._spans()
            try:
                await self._ask()
                if timedelta(seconds=self._spans() - began) <= AT_MOST:
                    break
            except (RPCError, RuntimeError, WorkflowFailureError) as error:  # RuntimeError: the SDK's word for "nobody there"
                if not waiting:
                    log.warning("clock.waiting", kind=type(error).__name__, cure="it goes on by itself when Temporal answers")
                waiting = True
            await asyncio.sleep(TRY_AGAIN)
        assert self._there is not None
        if abs(wrong := self._here - self._there) > TOLD:
            log.warning(
                "clock.wrong", seconds=round(wrong.total_seconds()), effect="none: Temporal's time is taken",
                cure="let this machine keep time by NTP",
            )  # fmt: skip

    @activity.defn(name=contracts.HEAR_TIME)
    async def hear(self) -> None:
        """Notes what Temporal's time is at this moment."""
        self._there = activity.info().started_time.astimezone(UTC)
        self._since, self._here = self._spans(), self._machine()

    async def run(self) -> None:
        """Asks again when it is time, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            passed = timedelta(seconds=self._spans() - self._since)
            if passed >= ASK_EVERY or abs(self._machine() - self._here - passed) > JUMP:
                await self.ask()

    async def _ask(self) -> None:
        """In this process, on a queue of its own: it waits for nobody, and no worker of another version meets it."""
        name = f"clock/{uuid.uuid4().hex}"
        async with Worker(
            self._client, task_queue=name, workflows=[self._workflow], activities=[self.hear],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):  # fmt: skip
            await self._client.execute_workflow(
                contracts.CLOCK, id=name, task_queue=name, execution_timeout=timedelta(seconds=10), static_summary="what time it is"
            )
