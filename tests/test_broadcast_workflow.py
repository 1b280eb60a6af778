"""Broadcasts by a real Temporal, to a real mail server: tested, paused, scheduled; and what Temporal gets to know of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import Session, col, select
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import SearchAttributeKey

from mebae import contracts
from mebae.broadcast_opening import request_run
from mebae.broadcast_schedules import ensure_broadcast_schedules
from mebae.broadcast_sender import BroadcastSender, start_run
from mebae.broadcast_words import bar
from mebae.broadcasts import Ab, BroadcastPlan, Variant
from mebae.contracts import EndRequest
from mebae.mail.publishing import publish_layouts, publish_mails
from mebae.recurring import EveryMonth, EveryWeek, Once
from mebae.settings import Settings
from mebae.store.broadcasts import publish_broadcasts
from mebae.store.database import Database
from mebae.store.tables import Broadcast, Delivery
from mebae.timing import Duration
from tests.broadcasts import plan
from tests.house import LAYOUT, House, house
from workflows.broadcast_details import details, summary

PAUSED, BROADCAST = SearchAttributeKey.for_bool("Paused"), SearchAttributeKey.for_keyword("Broadcast")
SECRET = "secret@aoba.example"
MAIL = "---\nsubject: {}\ntopic: newsletter\n---\n{{{{ lead.name }}}}, read [this](https://example.com/paper).\n"
AB = Ab(
    variants=(Variant(id="a", mail="news"), Variant(id="b", mail="news", subjects={"": "other"})), share=50,
    after=Duration(hours=4),
)  # fmt: skip


async def publish(mebae: House, written: BroadcastPlan) -> None:
    def write(session: Session) -> None:
        texts = {("news", ""): MAIL.format("first"), ("news:b", ""): MAIL.format("other")}
        publish_mails(session, written.broadcast, texts, mebae.now())
        publish_layouts(session, {"default": LAYOUT}, mebae.now())
        publish_broadcasts(session, [written])

    await mebae.database.write(write)


async def begin(mebae: House, written: BroadcastPlan, command: str = "c1") -> tuple[int, WorkflowHandle[Any, Any]]:
    await publish(mebae, written)
    row = await mebae.database.write(request_run, written, command, mebae.now())
    await start_run(mebae.client, row, mebae.clock)
    return row.id or 0, mebae.client.get_workflow_handle(row.workflow_id)


async def until(mebae: House, run: int, what: Callable[[Broadcast], bool]) -> Broadcast:
    async with asyncio.timeout(60):
        while not what(row := await mebae.database.read(lambda session: session.get_one(Broadcast, run))):
            await asyncio.sleep(0.05)
    return row


async def leads(mebae: House, many: int) -> list[int]:
    return [await mebae.lead(f"{number}.{SECRET}") for number in range(many)]


async def test_a_newsletter_tries_two_subjects_and_sends_the_better_one(database: Database) -> None:
    """Four hours of the test pass in two seconds; Temporal learns numbers, and nobody's address."""
    async with house(database, speed=7200.0) as mebae:
        await leads(mebae, 40)
        run, handle = await begin(mebae, plan(ab=AB, title="お知らせ"))
        await until(mebae, run, lambda row: row.status == "waiting")

        def click(session: Session) -> None:
            for row in session.exec(select(Delivery).where(Delivery.variant == "b", col(Delivery.sent_at).is_not(None))):
                row.clicked_at = mebae.now()

        await database.write(click)
        assert await handle.result() == "completed"
        row = await until(mebae, run, lambda row: row.status == "done")
        assert (row.winner, row.counts) == ("b", {"total": 40, "sent": 40})
        subjects = Counter(mebae.relay.subjects())
        assert subjects["first"] == row.decision["variants"]["a"]["sent"]
        assert subjects.total() == 40
        history = await handle.fetch_history()
        said = history.to_json()
        assert "aoba" not in said
        assert "佐藤" not in said
        assert len(history.events) < 60
        kinds = Counter(event.event_type for event in history.events)
        assert kinds[EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED] <= 5, "one activity is many batches"


async def test_ops_pause_it_see_how_far_it_is_resume_it_and_end_it(sqlite_database: Database) -> None:
    async with house(sqlite_database) as mebae:
        await leads(mebae, 300)
        mebae.relay.at_data = slow = Counting()
        run, handle = await begin(mebae, plan())
        await until(mebae, run, lambda row: row.counts.get("sent", 0) > 20)
        await handle.execute_update(contracts.PAUSE)
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(contracts.PAUSE)
        assert "paused already" in str(refused.value.cause)
        await asyncio.sleep(0.5)
        sent = slow.mails
        await asyncio.sleep(0.5)
        assert slow.mails == sent < 300
        described = await handle.describe()
        assert described.typed_search_attributes.get(PAUSED) is True
        assert described.typed_search_attributes.get(BROADCAST) == "news"
        where = await handle.query(contracts.WHERE, result_type=contracts.BroadcastStanding)
        assert where.counts["total"] == 300
        await handle.execute_update(contracts.RESUME)
        await until(mebae, run, lambda row: row.counts.get("sent", 0) > sent)
        await handle.execute_update(contracts.END, EndRequest(outcome="enough"))
        assert await handle.result() == "enough"
        row = await until(mebae, run, lambda row: row.status == "ended")
        assert row.counts.get("unfinished", 0) == row.counts.get("postponed", 0) == 0
        assert slow.mails < 300


class Counting:
    """A mail server that counts what it takes."""

    def __init__(self) -> None:
        self.mails = 0

    def __call__(self, _mail: object) -> None:
        self.mails += 1


async def test_a_broadcast_that_the_database_calls_paused_rests_and_can_be_resumed(sqlite_database: Database) -> None:
    """Its workflow did not hear of the pause (the answer was lost, or somebody reset it): it must not ask again and again."""
    async with house(sqlite_database) as mebae:
        await leads(mebae, 3)
        await publish(mebae, plan())
        row = await mebae.database.write(request_run, plan(), "c1", mebae.now())
        await mebae.database.write(_pause, row.id)
        await start_run(mebae.client, row, mebae.clock)
        handle = mebae.client.get_workflow_handle(row.workflow_id)
        async with asyncio.timeout(60):
            while (await handle.query(contracts.WHERE, result_type=contracts.BroadcastStanding)).next != "paused":
                await asyncio.sleep(0.05)
        before = await handle.describe()
        await asyncio.sleep(0.5)  # one that spins asks some twenty times meanwhile, and is continued as new
        after = await handle.describe()
        assert (after.run_id, after.history_length <= before.history_length + 2) == (before.run_id, True)
        assert mebae.relay.mails == []
        await handle.execute_update(contracts.RESUME)
        assert await handle.result() == "completed"
        assert len(mebae.relay.mails) == 3


def _pause(session: Session, run: int) -> None:
    session.get_one(Broadcast, run).paused = True


async def test_a_long_run_is_continued_as_new_and_stays_paused(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflows.broadcast.EVENTS_A_RUN", 12)
    monkeypatch.setattr("activities.broadcasts.AT_A_TIME", 0.0)
    monkeypatch.setattr("activities.broadcasts.FIRST", 5)
    monkeypatch.setattr("activities.broadcasts.MOST", 5)
    monkeypatch.setattr("activities.broadcasts.FEWEST", 5)
    async with house(sqlite_database) as mebae:
        await leads(mebae, 60)
        run, handle = await begin(mebae, plan())
        await until(mebae, run, lambda row: row.counts.get("sent", 0) > 20)
        await handle.execute_update(contracts.PAUSE)
        await asyncio.sleep(0.3)
        await handle.execute_update(contracts.RESUME)
        assert await handle.result(follow_runs=True) == "completed"
        assert Counter(mebae.relay.subjects()) == {"first": 60}
        first = await mebae.client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id).fetch_history()
        assert len(first.events) < 40


async def test_what_was_recorded_and_not_started_is_started_by_the_worker(sqlite_database: Database) -> None:
    async with house(sqlite_database) as mebae:
        await leads(mebae, 3)
        await publish(mebae, plan())
        row = await mebae.database.write(request_run, plan(), "c1", mebae.now())
        sender = BroadcastSender(mebae.database, mebae.client, clock=mebae.clock)
        assert await sender.deliver() == 1
        await until(mebae, row.id or 0, lambda row: row.status == "done")
        assert await sender.deliver() == 0
        await start_run(mebae.client, row, mebae.clock)  # once more, by whom the answer was lost
        assert len(mebae.relay.mails) == 3


# Schedules -----------------------------------------------------------------------------------------------------------


MONTHLY = plan(broadcast="monthly", schedule=EveryMonth(day=31, at="10:00"))
SECOND_TUESDAY = EveryWeek(days=("tue",), at="02:30", every=2, starting=date(2026, 4, 7))
FORTNIGHT = plan(broadcast="fortnight", schedule=SECOND_TUESDAY, zone="America/New_York")
ONCE = plan(broadcast="once", schedule=Once(day=date(2030, 12, 1), at="10:00"))
LOCAL = plan(broadcast="local", schedule=EveryWeek(days=("sun",), at="10:00"), local_time=True)
BY_HAND = plan(broadcast="by-hand")


async def test_schedules_are_what_the_files_say(sqlite_database: Database) -> None:
    settings = Settings()
    async with house(sqlite_database, programs=False) as mebae:
        every = [MONTHLY, FORTNIGHT, ONCE, LOCAL, BY_HAND]
        await asyncio.gather(*(ensure_broadcast_schedules(mebae.client, every, settings) for _ in range(3)))
        found = {one.broadcast: await mebae.client.get_schedule_handle(f"broadcast/{one.broadcast}").describe() for one in every[:4]}
        spec = found["monthly"].schedule.spec
        assert [one.start for one in spec.calendars[0].day_of_month] == [28, 29, 30, 31]
        assert spec.time_zone_name == "Asia/Tokyo"
        spec = found["fortnight"].schedule.spec
        assert [(one.hour[0].start, one.day_of_week[0].start) for one in spec.calendars] == [(2, 2), (3, 2)], "the gap of March"
        assert found["once"].info.next_action_times == [datetime(2030, 12, 1, 1, 0, tzinfo=UTC)]
        assert found["local"].schedule.spec.time_zone_name == "Pacific/Kiritimati"
        assert found["local"].info.next_action_times[0].weekday() == 5, "Saturday evening in Greenwich"
        await mebae.client.get_schedule_handle("broadcast/monthly").pause()
        moved = plan(broadcast="monthly", schedule=EveryMonth(day=1, at="09:00"))
        await until_listed(mebae.client, 4)
        await ensure_broadcast_schedules(mebae.client, [moved, LOCAL], settings)
        second = await mebae.client.get_schedule_handle("broadcast/monthly").describe()
        assert (second.schedule.spec.calendars[0].hour[0].start, second.schedule.state.paused) == (9, True)
        again = await mebae.client.get_schedule_handle("broadcast/local").describe()
        assert again.info.last_updated_at is None, "the same again touches nothing"
        await until_listed(mebae.client, 2)


async def until_listed(client: Client, many: int) -> None:
    """The list of schedules comes a moment later."""
    async with asyncio.timeout(30):
        while len([one async for one in await client.list_schedules()]) != many:
            await asyncio.sleep(0.1)


async def test_a_triggered_schedule_sends_and_the_run_is_known_by_its_workflow(sqlite_database: Database) -> None:
    soon = datetime.now(UTC) + timedelta(days=40)
    written = plan(broadcast="monthly", schedule=Once(day=soon.date(), at="10:00"))
    async with house(sqlite_database) as mebae:
        await leads(mebae, 5)
        await publish(mebae, written)
        await ensure_broadcast_schedules(mebae.client, [written], mebae.settings)
        await mebae.client.get_schedule_handle("broadcast/monthly").trigger()
        async with asyncio.timeout(30):
            while not (rows := await sqlite_database.read(lambda session: session.exec(select(Broadcast)).all())):
                await asyncio.sleep(0.1)
        [row] = rows
        done = await until(mebae, row.id or 0, lambda row: row.status == "done")
        assert done.cause.startswith("trigger:monthly:")
        assert done.workflow_id.startswith("broadcast/monthly-")
        assert await mebae.client.get_workflow_handle(done.workflow_id).result() == "completed"
        assert len(mebae.relay.mails) == 5


async def test_under_a_clock_of_its_own_there_are_no_schedules() -> None:
    await ensure_broadcast_schedules(None, [MONTHLY], Settings(clock_speed=1000.0))  # type: ignore[arg-type]


def test_ops_read_how_far_how_fast_and_what_for() -> None:
    until = datetime(2026, 4, 1, 5, 0, tzinfo=UTC)
    counts = {"total": 100_000, "sent": 20_000, "refused": 300, "postponed": 12, "holdout": 5_000}
    standing = contracts.BroadcastStanding(next="rest", until=until, why="test", status="waiting", part="test", counts=counts, rate=512.3)
    assert details("news", 7, standing, paused=False).splitlines() == [
        "**news** · run 7",
        "",
        "`███████░░░░░░░░░░░░░░░░░░░░░░░ 25 %`",
        "",
        "- **Rests** until 2026-04-01 05:00 UTC: waits for the end of the A/B test",
        "- **Done**: 25,300 of 100,000 leads; part `test`",
        "- **Rate**: 512 mails a second",
        "- **So far**: 20,000 sent, 300 refused, 12 postponed, 5,000 holdout",
    ]
    assert summary(standing) == "test · 25300 of 100000"
    over = standing.model_copy(update={"next": "paused", "winner": "b"})
    said = details("news", 7, over, paused=True)
    assert "- **Paused**: resume it" in said
    assert "- **Winner of the A/B test**: b" in said


def test_the_bar_grows() -> None:
    assert bar({"total": 0}, 10) == "░░░░░░░░░░ 0 %"
    assert bar({"total": 10, "sent": 3, "holdout": 1, "refused": 1, "postponed": 5}, 10) == "█████░░░░░ 50 %"
    assert bar({"total": 3, "sent": 4}, 10) == "██████████ 100 %", "who joined meanwhile"
