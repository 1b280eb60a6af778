"""The pulls and pushes of `crm.py` as Temporal Schedules."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from mebae.crm.model import CrmRules
from mebae.crm.wiring import crm_jobs
from mebae.crm_language import minutes, sending
from mebae.periodic import jobs
from mebae.resting import Setting
from mebae.schedules import ensure_schedules, schedule_id
from mebae.settings import Settings
from mebae.store.crm import publish_crm
from mebae.store.database import Database
from mebae.timing import Calendar
from tests.crm.doubles import HubSpotDouble
from tests.crm.site import running
from tests.crm.test_adapters import HOUSES, a_hubspot, outcomes
from tests.house import house

SETTING = Setting("Asia/Tokyo", Calendar())


async def test_systems_have_their_schedules_and_lose_them_when_the_file_names_them_no_more(sqlite_database: Database) -> None:
    async with running(HubSpotDouble()) as site, house(sqlite_database, programs=False) as mebae:
        system = a_hubspot(
            site, send=sending(every=minutes(30)), outcomes=outcomes({"lifecyclestage": {"customer": "won"}}, every=minutes(15))
        )
        await sqlite_database.write(publish_crm, CrmRules(systems=(system,)), datetime.now(UTC))
        settings = Settings()
        every = jobs(settings, crm_jobs(CrmRules(systems=(system,)), SETTING, HOUSES["hubspot"].environ))
        await ensure_schedules(mebae.client, every.values(), settings)
        made = {id: await mebae.client.get_schedule_handle(id).describe() for id in ("sweep/crm-pull-hubspot", "sweep/crm-push-hubspot")}
        spans = [one.schedule.spec.intervals[0].every.total_seconds() / 60 for one in made.values()]
        assert spans == [15, 30]

        async def listed() -> set[str]:
            return {one.id async for one in await mebae.client.list_schedules()}

        while "sweep/crm-push-hubspot" not in await listed():  # the list of schedules is a moment behind
            await asyncio.sleep(0.05)
        less = jobs(settings)
        await ensure_schedules(mebae.client, less.values(), settings)
        while await listed() - {schedule_id(job) for job in less.values()}:
            await ensure_schedules(mebae.client, less.values(), settings)
            await asyncio.sleep(0.05)
