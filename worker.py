"""The worker: runs journeys, sends their mail, applies what the server kept, judges opens and clicks, and takes events to their journeys.

Composition root: settings → adapters → Temporal. It publishes the scenarios that it finds; a broken one stops it before
anything has changed, with every problem listed. Several workers may run. SIGTERM or Ctrl-C ends it cleanly; `kill -9` loses nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.broadcasts import BroadcastActivities
from activities.handover import HandoverActivities
from activities.journeys import JourneyActivities
from activities.leads import LeadActivities
from activities.mail import MailActivities
from activities.registered import REGISTERED, RegisteredActivities
from activities.sweeps import SweepActivities
from mebae import contracts, wiring
from mebae.applier import Applier
from mebae.broadcast_schedules import ensure_broadcast_schedules
from mebae.broadcast_sender import BroadcastSender
from mebae.channels import channels
from mebae.crm.wiring import crm_inbox, crm_jobs
from mebae.files import read_files
from mebae.handover_sender import HandoverSender
from mebae.judging import Judge
from mebae.logs import configure_logging
from mebae.mail.composing_beside import Beside
from mebae.mail.pace import Pace
from mebae.mail.transport import Transport, look_for_mail_server
from mebae.mail.wiring import bulk_mailer, composing_process, mail_settings, transport_of
from mebae.mailing import MailRules
from mebae.periodic import Job, jobs
from mebae.publishing import publish
from mebae.right_time import RightTime
from mebae.router import Router
from mebae.schedules import ensure_schedules
from mebae.sender import Sender
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.telling import Teller
from mebae.temporal import connect, ensure_search_attributes, watch
from workflows.broadcast import BroadcastWorkflow
from workflows.clock import ClockWorkflow
from workflows.handover import HandoverWorkflow
from workflows.journey import JourneyWorkflow
from workflows.sweep import SweepWorkflow

GRACE = timedelta(seconds=5)
"""What a mail that is under way gets when the worker is told to end."""


async def run(settings: Settings, ready_file: Path | None) -> None:
    """Runs until cancelled."""
    loaded, broadcasts, beside = read_files(settings.scenarios, activities=REGISTERED)
    database = await wiring.open_database(settings)
    transport, composing = transport_of(settings), composing_process(settings, beside.mailing)
    try:
        client = await connect()
        await ensure_search_attributes(client)
        clock = settings.clock()
        time = RightTime(client, ClockWorkflow, clock)
        await time.ask()  # nothing that this process decides or notes goes by the machine's clock
        await database.write(
            publish, loaded, root=settings.scenarios, scoring=beside.scoring, segments=beside.segments or (), broadcasts=broadcasts,
            sales=beside.sales, crm=beside.crm, now=time.world_now(),
        )  # fmt: skip
        crm = crm_jobs(beside.crm, wiring.setting_of(settings), os.environ)
        await ensure_schedules(client, jobs(settings, crm).values(), settings)
        await ensure_broadcast_schedules(client, [one.plan for one in broadcasts], settings)
        sender = Sender(database, client, clock=clock, machine=time.now)
        zone, calendar = settings.time_zone, settings.calendar()
        router = Router(database, now=time.world_now, zone=zone, on_routed=sender.wake, calendar=calendar)
        async with asyncio.TaskGroup() as tasks:
            for worker in workers(client, database, transport, settings, beside.mailing, crm, composing, time.now):
                tasks.create_task(worker.run())
            tasks.create_task(time.run())
            tasks.create_task(Applier(database, clock=clock, machine=time.now).run())
            tasks.create_task(Judge(database, now=time.world_now, tuning=settings.tuning()).run())
            tasks.create_task(router.run())
            tasks.create_task(sender.run())
            tasks.create_task(BroadcastSender(database, client, clock=clock).run())
            tasks.create_task(HandoverSender(database, client, clock=clock, machine=time.now).run())
            outward = channels(database, transport, mail_settings(settings), beside.crm, os.environ)
            tasks.create_task(Teller(database, outward, clock=clock, machine=time.now).run())
            tasks.create_task(crm_inbox(database, outward, wiring.setting_of(settings), clock, time.now).run())
            tasks.create_task(watch(client))
            tasks.create_task(look_for_mail_server(*settings.mail_server()))
            wiring.say_ready("worker", ready_file)
    finally:
        if composing is not None:
            await composing.close()
        await transport.aclose()
        await asyncio.to_thread(database.close)


def workers(
    client: Client, database: Database, transport: Transport, settings: Settings, rules: MailRules | None = None,
    more: Sequence[Job] = (), composing: Beside | None = None, machine: Callable[[], datetime] | None = None,
) -> list[Worker]:  # fmt: skip
    """One a task queue, so that a slow mail server never holds up a journey."""
    setting = wiring.setting_of(settings)
    journeys = JourneyActivities(database, setting)
    leads = LeadActivities(database, setting)
    handovers = HandoverActivities(database, setting)
    sweeps = SweepActivities(database, jobs(settings, more))
    registered = RegisteredActivities(database, setting, REGISTERED)
    pace = Pace(database, settings.smtp_rate, machine=machine)
    mail = MailActivities(database, transport, setting, mail_settings(settings, rules), pace)
    broadcasts = BroadcastActivities(database, bulk_mailer(database, transport, settings, rules, pace, composing), *setting)
    # The sandbox guards against workflow code that is not deterministic. Ours are thin drivers of what is decided elsewhere,
    # held by replay tests under several hash seeds; authors write data. Without the sandbox a task costs less.
    on = partial(Worker, client, workflow_runner=UnsandboxedWorkflowRunner(), graceful_shutdown_timeout=GRACE)
    mails = 4 * settings.smtp_connections  # more at once would only wait for a connection
    return [
        on(
            task_queue=contracts.JOURNEYS_QUEUE,
            workflows=[JourneyWorkflow],
            activities=[
                journeys.rest, journeys.choose, journeys.finish, journeys.pause_journey,
                leads.set_lead, leads.tag_lead, leads.enroll, registered.run,
            ],
            max_cached_workflows=1000,  # about 100 MB; histories are short, so a replay is cheap
        ),
        on(
            task_queue=contracts.MAIL_QUEUE,
            activities=[mail.send_mail],
            max_concurrent_activities=mails,
            # Held by Temporal over all workers: mails that wait there are served fairly, by their recipients' domains.
            max_task_queue_activities_per_second=settings.smtp_rate or None,
        ),
        on(
            task_queue=contracts.SALES_QUEUE,
            workflows=[HandoverWorkflow],
            activities=[mail.notify_sales, handovers.tend_handover],
            max_concurrent_activities=mails,
        ),
        on(task_queue=contracts.SWEEPS_QUEUE, workflows=[SweepWorkflow], activities=[sweeps.run_job]),
        on(
            task_queue=contracts.BROADCASTS_QUEUE,
            workflows=[BroadcastWorkflow],
            activities=[broadcasts.open_broadcast, broadcasts.send_broadcast, broadcasts.steer_broadcast],
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    ready_file = wiring.arguments("Runs journeys: publishes the scenarios, sends mail, takes events to their journeys.")
    configure_logging()
    sys.exit(wiring.run_until_told(lambda: run(wiring.load_settings(), ready_file)))
