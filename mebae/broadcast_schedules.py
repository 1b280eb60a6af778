"""The Temporal Schedules of broadcasts: made, changed and taken away when a worker starts, as the files say.

A Schedule fires wherever an occurrence may be; whether it is one, the run's first activity says (`mebae.recurring`).
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
)
from temporalio.service import RPCError

from mebae import contracts
from mebae.broadcasts import BroadcastPlan
from mebae.contracts import BroadcastInput
from mebae.recurring import EARLIEST, WEEKDAYS, Fire, fires, words
from mebae.schedules import CATCH_UP, ensure_schedule
from mebae.settings import Settings
from mebae.timing import first_zone

log = structlog.get_logger()

PREFIX = "broadcast/"


async def ensure_broadcast_schedules(client: Client, plans: Iterable[BroadcastPlan], settings: Settings) -> None:
    """Makes Temporal's Schedules what the plans say. Any number of workers may do it at once; what ops paused stays paused.

    Under a world clock that runs at its own speed there are none: broadcasts go out by command.
    """
    if settings.clock_speed != 1.0:
        return
    wanted = {PREFIX + plan.broadcast: plan for plan in plans if plan.schedule is not None}
    try:
        for id, plan in wanted.items():
            start = _input(plan, settings)
            change = await ensure_schedule(client, id, _schedule(id, plan, start, settings), start)
            if change is not None:
                log.info(f"schedule.{change}", broadcast=plan.broadcast, when=start.when)
        for id in await _known(client):
            if id not in wanted:
                await client.get_schedule_handle(id).delete()
                log.info("schedule.gone", broadcast=id.removeprefix(PREFIX))
    except RPCError as error:
        log.warning(
            "schedule.missing",
            problem=error.status.name.lower(),
            cure="until Temporal takes it, let a cron job call mebae broadcasts send",
        )


async def _known(client: Client) -> list[str]:
    return [one.id async for one in await client.list_schedules() if one.id.startswith(PREFIX)]


def _input(plan: BroadcastPlan, settings: Settings) -> BroadcastInput:
    assert plan.schedule is not None
    zone = first_zone(plan.zone, settings.time_zone)
    said = f"{words(plan.schedule)}, {'each zone of a lead, or ' if plan.local_time else ''}{zone}"
    return BroadcastInput(broadcast=plan.broadcast, when=said)


def _schedule(id: str, plan: BroadcastPlan, start: BroadcastInput, settings: Settings) -> Schedule:
    zone = EARLIEST if plan.local_time else first_zone(plan.zone, settings.time_zone)
    assert plan.schedule is not None
    return Schedule(
        action=ScheduleActionStartWorkflow(
            contracts.BROADCAST,
            start,
            id=id,  # Temporal puts the time behind it
            task_queue=contracts.BROADCASTS_QUEUE,
            static_summary=plan.title or plan.broadcast,
        ),
        spec=ScheduleSpec(
            calendars=[_calendar(fire, start.when) for fire in fires(plan.schedule, zone)], time_zone_name=zone
        ),
        # A run that waits for its last mails does not hold up the next one.
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL, catchup_window=CATCH_UP),
    )


def _calendar(fire: Fire, comment: str) -> ScheduleCalendarSpec:
    times = {"hour": [ScheduleRange(fire.hour)], "minute": [ScheduleRange(fire.minute)], "comment": comment}
    if fire.on is not None:
        day = {"year": fire.on.year, "month": fire.on.month, "day_of_month": fire.on.day}
        return ScheduleCalendarSpec(**times, **{name: [ScheduleRange(number)] for name, number in day.items()})  # type: ignore[arg-type]
    if fire.days:
        return ScheduleCalendarSpec(**times, day_of_month=[ScheduleRange(day) for day in fire.days])  # type: ignore[arg-type]
    # Temporal's week begins on Sunday.
    weekdays = [ScheduleRange((WEEKDAYS.index(day) + 1) % 7) for day in fire.weekdays or WEEKDAYS]
    return ScheduleCalendarSpec(**times, day_of_week=weekdays)  # type: ignore[arg-type]
