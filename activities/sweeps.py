"""What a Schedule has done: one job, in chunks, with heartbeats that say where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import structlog
from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.calling import steady_now
from mebae import contracts
from mebae.clock import WorldClock
from mebae.contracts import SweepInput, Swept
from mebae.errors import DatabaseUnavailable, MebaeError
from mebae.periodic import Job, Mark
from mebae.store.database import Database

log = structlog.get_logger()

BEAT = 5.0
"""Seconds between heartbeats: one chunk may take longer than Temporal waits for one."""


class SweepActivities:
    """Runs the jobs of `mebae.periodic`."""

    def __init__(self, database: Database, jobs: Mapping[str, Job]) -> None:
        self._database, self._jobs = database, jobs

    @activity.defn(name=contracts.RUN_JOB)
    async def run_job(self, request: SweepInput) -> Swept:
        """Does the job to its end, or goes on where a try before was interrupted."""
        job = self._jobs.get(request.job)
        if job is None:  # of a newer worker, or gone
            raise ApplicationError("no-such-job", type="no-such-job", non_retryable=True)
        try:
            return await self._run(job, request.clock or WorldClock())
        except DatabaseUnavailable:
            code = DatabaseUnavailable.code
        except MebaeError as error:
            code = type(error).__name__
        except Exception as error:
            code = f"unexpected:{type(error).__name__}"
            log.exception("sweep.unexpected", job=job.name)
        raise ApplicationError(code, type=code)

    async def _run(self, job: Job, clock: WorldClock) -> Swept:
        mark = _last_mark()
        steps = job.work(self._database, steady_now(clock), mark)
        beating = asyncio.create_task(_beat(at := [mark or Mark()]))
        try:
            while (done := await asyncio.to_thread(next, steps, None)) is not None:
                at[0] = done.model_copy(deep=True)
                activity.heartbeat(at[0])
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating
        log.info("sweep.done", job=job.name, **at[0].counts)
        return Swept(job=job.name, counts=at[0].counts)


async def _beat(at: list[Mark]) -> None:
    while True:
        await asyncio.sleep(BEAT)
        activity.heartbeat(at[0])


def _last_mark() -> Mark | None:
    """Where the try before was."""
    details = activity.info().heartbeat_details
    try:
        mark = Mark.model_validate(details[0]) if details else None
    except ValidationError:  # of another version
        return None
    return mark if mark is not None and mark.place else None
