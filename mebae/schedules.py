"""The Temporal Schedules that run the jobs of `mebae.periodic`. Every worker makes sure of them when it starts."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Literal

import structlog
from pydantic import BaseModel
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError

from mebae import contracts
from mebae.contracts import SweepInput
from mebae.periodic import Daily, Every, Job
from mebae.settings import Settings
from mebae.timing import parse_time

log = structlog.get_logger()

CRM = "sweep/crm-"
"""How the schedules begin that `scenarios/crm.py` asks for."""
CATCH_UP = timedelta(hours=12)
"""A run that was missed because Temporal was away is made up for if it is not older than this."""


async def ensure_schedules(client: Client, jobs: Iterable[Job], settings: Settings) -> None:
    """Makes the schedules, and changes those whose times have changed. Any number of workers may do it at once.

    A paused one stays paused. Under a world clock that runs at its own speed there are none: Temporal's time is the machine's.
    """
    if settings.clock_speed != 1.0:
        return
    jobs = list(jobs)
    for job in jobs:
        try:
            await _ensure(client, job)
        except RPCError as error:
            log.warning(
                "schedule.missing",
                job=job.name,
                problem=error.status.name.lower(),
                cure="until Temporal takes it, let a cron job call mebae sweep",
            )
    try:
        await _drop(client, {schedule_id(job) for job in jobs})
    except RPCError as error:
        log.warning("schedule.not_dropped", problem=error.status.name.lower(), cure="the next worker that starts tries again")


async def _drop(client: Client, wanted: set[str]) -> None:
    """Those of CRM systems that `crm.py` names no more."""
    async for one in await client.list_schedules():
        if one.id.startswith(CRM) and one.id not in wanted:
            with suppress(RPCError):  # another worker was faster
                await client.get_schedule_handle(one.id).delete()
                log.info("schedule.dropped", job=one.id)


async def _ensure(client: Client, job: Job) -> None:
    change = await ensure_schedule(client, schedule_id(job), _schedule(job), _input(job))
    if change is not None:
        log.info(f"schedule.{change}", job=job.name, when=str(job.when))


async def ensure_schedule(
    client: Client, id: str, wanted: Schedule, start: BaseModel
) -> Literal["made", "changed"] | None:
    """Makes a schedule, or changes one that starts its workflow with something else than `start`; None if it was right."""
    try:
        await client.create_schedule(id, wanted)
        return "made"
    except ScheduleAlreadyRunningError:
        changed = False

        async def change(there: ScheduleUpdateInput) -> ScheduleUpdate | None:
            nonlocal changed
            schedule = there.description.schedule
            # An update that changes nothing would still make Temporal forget the runs that are to be made up for.
            if changed := await _input_of(client, schedule, type(start)) != start:
                schedule.spec, schedule.action, schedule.policy = wanted.spec, wanted.action, wanted.policy
                return ScheduleUpdate(schedule)
            return None

        await client.get_schedule_handle(id).update(change)
        return "changed" if changed else None


def schedule_id(job: Job) -> str:
    return f"sweep/{job.name}"


def _input(job: Job) -> SweepInput:
    return SweepInput(job=job.name, when=str(job.when))


async def _input_of(client: Client, schedule: Schedule, kind: type[BaseModel]) -> BaseModel | None:
    """What a schedule that is there starts its workflow with."""
    action = schedule.action
    if not isinstance(action, ScheduleActionStartWorkflow):
        return None
    try:
        [found] = await client.data_converter.decode(action.args, [kind])
    except (ValueError, RuntimeError):  # of another version
        return None
    return found if isinstance(found, kind) else None


def _schedule(job: Job) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            contracts.SWEEP,
            _input(job),
            id=schedule_id(job),  # Temporal puts the time behind it
            task_queue=contracts.SWEEPS_QUEUE,
            static_summary=job.title,
        ),
        spec=_spec(job.when),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
    )


def _spec(when: Daily | Every) -> ScheduleSpec:
    if isinstance(when, Every):
        return ScheduleSpec(intervals=[ScheduleIntervalSpec(every=when.span)])
    at = parse_time(when.at)
    calendar = ScheduleCalendarSpec(hour=[ScheduleRange(at.hour)], minute=[ScheduleRange(at.minute)], comment=str(when))
    return ScheduleSpec(calendars=[calendar], time_zone_name=when.zone)
