"""The way out to any Python: what the scenario step `run("name", …)` may call.

Write an async function that takes a `RunTask`, and put it into `REGISTERED` under the name that scenarios use. It may be
called again after a failure, with the same `key`: let the key make a second call harmless. An error is tried again for
ten minutes and then once an hour; raise `mebae.errors.Permanent("a-code")` where trying again cannot help, and the
journey goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlmodel import Session
from temporalio import activity

from activities.calling import coded, world_now
from mebae import contracts, resting
from mebae.conditions import Scalar
from mebae.contracts import StepInput
from mebae.graph import Run
from mebae.journey import Done, Ended, Exited, Postponed
from mebae.resting import Place, Setting
from mebae.store.database import Database
from mebae.words import JourneyStatus


@dataclass(frozen=True)
class RunTask:
    """What a registered function is given. `lead` is the lead's number: read the rest from the database."""

    lead: int
    key: str
    args: Mapping[str, Scalar]


Registered = Callable[[RunTask], Awaitable[None]]


async def note(task: RunTask) -> None:
    """Writes a line into the worker's log: the smallest example, and a probe for a new scenario."""
    structlog.get_logger().info("run.note", lead=task.lead, key=task.key)


REGISTERED: dict[str, Registered] = {"note": note}


class RegisteredActivities:
    """Calls what `REGISTERED` names."""

    def __init__(self, database: Database, setting: Setting, registered: Mapping[str, Registered]) -> None:
        self._database, self._setting, self._registered = database, setting, registered

    @activity.defn(name=contracts.RUN)
    @coded
    async def run(self, request: StepInput) -> Done | Postponed | Exited | Ended:
        """Exit check, the call, and what follows."""
        now = world_now(request)
        task = await self._database.write(self._before, request, now)
        if not isinstance(task, tuple):
            return task
        name, call = task
        await self._registered[name](call)
        return await self._database.write(self._after, request, now)

    def _before(
        self, session: Session, request: StepInput, now: datetime
    ) -> tuple[str, RunTask] | Postponed | Exited | Ended:
        place = resting.take(session, request.entry, request.turn, sheltered=request.sheltered)
        if not isinstance(place, Place):
            return place
        stop = resting.exited(session, place, now) or resting.still_early(
            session, place, request.woke, now, self._setting
        )
        if stop is not None:
            return stop
        step = place.graph.step(request.step)
        assert isinstance(step, Run)
        place.row.status = JourneyStatus.RUNNING  # however long it takes, it listens for nothing meanwhile
        key = f"{request.entry}:{request.step}:{request.visit}"
        return step.activity, RunTask(lead=place.row.lead_id, key=key, args=step.args)

    def _after(self, session: Session, request: StepInput, now: datetime) -> Done | Exited | Ended:
        place = resting.take(session, request.entry, request.turn, sheltered=request.sheltered)
        if not isinstance(place, Place):
            return place
        return Done(then=resting.follow(session, place, request.plan, now, self._setting))
