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
from typing import Any, NamedTuple

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
"""How late an answer may be: by so much at most the time is too early. A slower one tells too little."""
TRIES = 5
"""Where so many were slow, the quickest is taken: machines and networks may be always so, and a worker must begin some time."""
SOON = timedelta(minutes=1)
"""When a better one is asked for then."""
TRY_AGAIN = 1.0
LOOK = 1.0
"""Seconds between looks at the machine's clock."""
TOLD = timedelta(seconds=2)
"""A machine whose clock is so far off is told to ops, as by `mebae doctor`."""


class _Heard(NamedTuple):
    """What Temporal's time was at a moment, and what this machine counted and showed then."""

    there: datetime
    since: float
    here: datetime


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
        self._taken: _Heard | None = None
        self._heard: _Heard | None = None
        self.ask_every = ASK_EVERY

    def now(self) -> datetime:
        """The time in UTC, as Temporal has it."""
        assert self._taken is not None, "nobody has asked Temporal yet"
        return self._taken.there + timedelta(seconds=self._spans() - self._taken.since)

    def world_now(self) -> datetime:
        """The world's time."""
        return self._clock.world(self.now())

    async def ask(self) -> None:
        """Learns Temporal's time; tries until it answers."""
        waiting = False
        found: list[tuple[timedelta, _Heard]] = []
        while True:
            began = self._spans()
            try:
                heard = await self._ask()
                found.append((timedelta(seconds=heard.since - began), heard))
                if found[-1][0] <= AT_MOST or len(found) >= TRIES:
                    break
            except (RPCError, RuntimeError, WorkflowFailureError) as error:  # RuntimeError: the SDK's word for "nobody there"
                if not waiting:
                    log.warning("clock.waiting", kind=type(error).__name__, cure="it goes on by itself when Temporal answers")
                waiting = True
            await asyncio.sleep(TRY_AGAIN)
        late, self._taken = min(found)
        self.ask_every = ASK_EVERY if late <= AT_MOST else SOON
        if late > AT_MOST:
            log.warning(
                "clock.coarse", seconds=round(late.total_seconds(), 1), effect="so much may this worker be behind Temporal at most",
                cure="it asks again in a minute; see whether machine or network are overloaded",
            )  # fmt: skip
        if abs(wrong := self._taken.here - self._taken.there) > max(TOLD, late):
            log.warning(
                "clock.wrong", seconds=round(wrong.total_seconds()), effect="none: Temporal's time is taken",
                cure="let this machine keep time by NTP",
            )  # fmt: skip

    @activity.defn(name=contracts.HEAR_TIME)
    async def hear(self) -> None:
        """Notes what Temporal's time is at this moment."""
        self._heard = _Heard(activity.info().started_time.astimezone(UTC), self._spans(), self._machine())

    async def run(self) -> None:
        """Asks again when it is time, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            assert self._taken is not None
            passed = timedelta(seconds=self._spans() - self._taken.since)
            if passed >= self.ask_every or abs(self._machine() - self._taken.here - passed) > JUMP:
                await self.ask()

    async def _ask(self) -> _Heard:
        """In this process, on a queue of its own: it waits for nobody, and no worker of another version meets it."""
        name = f"clock/{uuid.uuid4().hex}"
        async with Worker(
            self._client, task_queue=name, workflows=[self._workflow], activities=[self.hear],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):  # fmt: skip
            await self._client.execute_workflow(
                contracts.CLOCK, id=name, task_queue=name, execution_timeout=timedelta(seconds=10), static_summary="what time it is"
            )
        assert self._heard is not None
        return self._heard
