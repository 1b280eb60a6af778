"""Workers that die with something in their hands. Nobody has said no, so that nobody is to be left alone: it is asked again at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType

from mebae.authoring import Scenario, end, send
from mebae.errors import DatabaseUnavailable
from mebae.mail.bulk import BulkMailer
from mebae.store.database import Database
from tests.broadcasts import plan
from tests.house import house
from tests.test_broadcast_workflow import begin, leads, until

LOST = 5
"""Workers, one after the other."""


@contextlib.asynccontextmanager
async def no_heartbeats(_run: int) -> AsyncIterator[None]:
    yield


class Dying:
    """The first attempts say nothing any more, as those of a worker that was killed."""

    def __init__(self, times: int) -> None:
        self.attempts, self._times = 0, times

    async def live(self) -> None:
        self.attempts += 1
        if self.attempts <= self._times:
            await asyncio.sleep(3)
            raise RuntimeError("nobody hears it any more")


async def test_a_broadcast_whose_workers_are_lost_one_after_the_other_goes_on_at_once(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed for longer than Temporal tries by itself, it rested for five minutes, and between the tries for half a minute."""
    monkeypatch.setattr("workflows.broadcast.HEARTBEAT", timedelta(seconds=0.3), raising=False)
    monkeypatch.setattr("workflows.broadcast.AT_MOST", timedelta(seconds=1))
    monkeypatch.setattr("activities.broadcasts._heartbeats", no_heartbeats)
    dying, bulk = Dying(LOST), BulkMailer.send

    async def dies_first(self: BulkMailer, *of: object) -> object:
        await dying.live()
        return await bulk(self, *of)  # type: ignore[arg-type]

    monkeypatch.setattr(BulkMailer, "send", dies_first)
    async with house(sqlite_database) as mebae:
        await leads(mebae, 3)
        run, handle = await begin(mebae, plan())
        row = await until(mebae, run, lambda row: row.status == "done")
        assert row.counts == {"total": 3, "sent": 3}
        history = await handle.fetch_history()
        kinds = [event.event_type for event in history.events]
        assert kinds.count(EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT) == LOST, "each is told to the workflow, which asks again"
        assert EventType.EVENT_TYPE_TIMER_STARTED not in kinds


async def test_a_broadcast_whose_database_is_away_rests_for_longer(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.broadcast.AT_MOST", timedelta(seconds=1))

    async def away(self: BulkMailer, *of: object) -> object:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(BulkMailer, "send", away)
    async with house(sqlite_database) as mebae:
        await leads(mebae, 3)
        _, handle = await begin(mebae, plan())
        async with asyncio.timeout(20):
            while not (timers := [e async for e in handle.fetch_history_events() if e.HasField("timer_started_event_attributes")]):
                await asyncio.sleep(0.1)
        span = timers[0].timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
        assert timedelta(minutes=4) < span <= timedelta(minutes=5)


async def test_a_journey_whose_workers_were_lost_does_not_rest_for_minutes(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mail was tried in vain for as long as Temporal tries by itself; when a worker is back, so is the mail."""
    monkeypatch.setattr("workflows.journey.AT_MOST", timedelta(seconds=1))
    monkeypatch.setattr("workflows.journey.HEARTBEAT", timedelta(seconds=0.5), raising=False)
    monkeypatch.setattr("workflows.journey.LOST", timedelta(seconds=0.2), raising=False)
    dying = Dying(2)

    @contextlib.asynccontextmanager
    async def dies() -> AsyncIterator[None]:
        await dying.live()
        yield

    monkeypatch.setattr("activities.mail._heartbeats", dies)
    async with house(sqlite_database) as mebae:
        graph = await mebae.publish(Scenario("hello", steps=[send("hello"), end("greeted")]))
        await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        [row] = await mebae.ended()
        assert row.outcome == "greeted"
        assert mebae.relay.subjects() == ["hello"]
