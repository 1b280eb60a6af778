"""The sweep: who becomes a member of a segment gets an event, once; and `starts_at_most` spreads what that starts over days."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from sqlalchemy import insert, update
from sqlmodel import Session, col, func, select
from temporalio.client import Client, ScheduleOverlapPolicy
from temporalio.testing import ActivityEnvironment

from activities.sweeps import SweepActivities
from mebae.authoring import (
    Scenario,
    days,
    did_not,
    downloaded,
    joined,
    lead,
    on,
    opened,
    per_day,
    send,
    visited,
    wait,
    wait_for,
)
from mebae.clock import WorldClock
from mebae.compiling import compile_scenario
from mebae.contracts import SweepInput, Swept
from mebae.entering import enter
from mebae.errors import AuthoringError, DatabaseUnavailable, ScenarioError
from mebae.graph import Graph, PerDay
from mebae.periodic import Daily, Every, Job, Mark, jobs, repeated
from mebae.router import route
from mebae.schedules import ensure_schedules, schedule_id
from mebae.segments import Saved
from mebae.sender import Sender
from mebae.settings import Settings
from mebae.store import segments
from mebae.store.database import Database, lock_lead
from mebae.store.places import place_for
from mebae.store.tables import Event, JourneyRow, Lead, SegmentMember, SegmentRow
from mebae.sweeping import sweep_segments
from tests.house import House, Relay, house, store_event

ROOT = Path(__file__).parents[1]
TOKYO = "Asia/Tokyo"
MORNING = datetime(2026, 4, 1, 6, 0, tzinfo=ZoneInfo(TOKYO)).astimezone(UTC)
DAY = timedelta(days=1)
LONG_AGO = MORNING - 200 * DAY
DORMANT = Saved("dormant", "休眠", lead.active_at.older_than(days(180)) & did_not(opened(), within=days(180)))


def winback(**how: Any) -> Scenario:
    return Scenario("win-back", enters_on=joined("dormant"), steps=[send("long-time-no-see"), wait(days(30))], **how)


def people(database: Database, many: int, **columns: Any) -> list[int]:
    """Leads that were last active long ago."""
    row = {
        "created_at": LONG_AGO, "updated_at": LONG_AGO, "active_at": LONG_AGO, "score": 0, "stage": "awareness",
        "qualification": "none", "language": "ja", "tags": [], "topics": [], "excluded": [], "attributes": {}, "last_seq": 0,
    } | columns  # fmt: skip

    def write(session: Session) -> list[int]:
        known = session.exec(select(func.count(col(Lead.id)))).one()
        rows = [row | {"email": f"lead{known + n}@aoba.example"} for n in range(many)]
        session.execute(insert(Lead), rows)
        return [id or 0 for id in session.exec(select(Lead.id).order_by(col(Lead.id)))][-many:]

    return database.write_now(write)


class Workspace:
    """Leads, a segment, a scenario, and the days that pass. Temporal is no part of it: a start is a row."""

    def __init__(self, database: Database, *saved: Saved) -> None:
        self.database, self.now = database, MORNING
        self.house = House(database, cast(Client, None), Relay(), Settings())
        database.write_now(segments.publish_segments, saved or (DORMANT,))
        self._events = 0

    def sweep(self, most: int = 500, **how: Any) -> dict[str, int]:
        """Sweeps and routes; what the sweep counted."""
        counts: dict[str, int] = {}
        for mark in sweep_segments(self.database, lambda: self.now, most=most, **how):
            counts = dict(mark.counts)
        self.route()
        return counts

    def route(self) -> None:
        while self.database.write_now(route, now=self.now, zone=TOKYO):
            pass

    def does(self, who: int, name: str, **properties: Any) -> None:
        """A lead does something, as ingestion stores it."""
        self._events += 1

        def store(session: Session) -> None:
            store_event(session, who, f"e{self._events}", name, properties, self.now)
            session.execute(update(Lead).where(col(Lead.id) == who).values(active_at=self.now))

        self.database.write_now(store)

    def joins(self) -> Counter[int]:
        """How often each lead was told to have joined."""
        return Counter(
            self.database.read_now(lambda s: s.exec(select(Event.lead_id).where(Event.name == segments.JOINED)).all())
        )

    def members(self) -> set[int]:
        return set(self.database.read_now(lambda s: s.exec(select(SegmentMember.lead_id)).all()))

    def rows(self) -> list[JourneyRow]:
        return self.database.read_now(lambda s: list(s.exec(select(JourneyRow).order_by(col(JourneyRow.entry)))))

    def by_day(self) -> list[int]:
        """How many journeys start on each local day, from the first on."""
        starts = [row.starts_at or row.entered_at for row in self.rows() if row.status != "refused"]
        found = Counter(start.astimezone(ZoneInfo(TOKYO)).date() for start in starts)
        return [found[day] for day in sorted(found)]


# Joining and leaving -------------------------------------------------------------------------------------------------


async def test_who_has_become_a_member_is_told_once(database: Database) -> None:
    here = Workspace(database)
    ids = people(database, 12)
    [awake] = people(database, 1, active_at=MORNING - DAY)
    assert here.sweep(most=5) == {"joined": 12, "left": 0}
    assert here.joins() == Counter(ids), "each once"
    assert here.members() == set(ids)
    assert here.sweep() == {}
    here.now += 179 * DAY
    assert here.sweep() == {"joined": 1, "left": 0}
    assert here.joins()[awake] == 1
    row = database.read_now(lambda s: s.get_one(SegmentRow, "dormant"))
    assert row.swept_at == here.now


async def test_the_event_says_which_segment_and_has_a_message_id_of_its_own(database: Database) -> None:
    here = Workspace(database)
    [sato] = people(database, 1)
    here.sweep()
    [event] = database.read_now(lambda s: s.exec(select(Event).where(Event.name == segments.JOINED)).all())
    assert event.properties == {"segment": "dormant"}
    assert event.message_id == f"segment-joined:dormant:{sato}:{int(MORNING.timestamp())}"
    assert event.routed_at is not None
    later = database.read_now(lambda s: s.get_one(Lead, sato))
    assert later.active_at == LONG_AGO, "to be found dormant is no sign of life"


async def test_who_left_can_join_again(database: Database) -> None:
    here = Workspace(database)
    [sato, suzuki] = people(database, 2)
    here.sweep()
    here.now += DAY
    here.does(sato, "Email Opened", mail="news")
    assert here.sweep() == {"joined": 0, "left": 1}
    assert here.members() == {suzuki}
    here.now += 181 * DAY
    assert here.sweep() == {"joined": 1, "left": 0}
    assert here.joins() == Counter({sato: 2, suzuki: 1})


async def test_to_leave_and_come_back_within_a_second_stops_no_sweep(database: Database) -> None:
    here = Workspace(database)
    [sato] = people(database, 1)
    here.sweep()
    database.write_now(lambda s: s.execute(update(Lead).values(active_at=MORNING)))
    here.sweep()
    database.write_now(lambda s: s.execute(update(Lead).values(active_at=LONG_AGO)))
    assert here.sweep() == {"joined": 1, "left": 0}
    assert (here.members(), here.joins()) == ({sato}, Counter({sato: 1}))


async def test_an_erased_lead_is_no_member(database: Database) -> None:
    here = Workspace(database)
    [sato] = people(database, 1)
    here.sweep()
    database.write_now(lambda s: s.execute(update(Lead).values(erased_at=MORNING)))
    assert here.sweep() == {"joined": 0, "left": 1}
    assert (here.members(), here.joins()[sato]) == (set(), 1)


async def test_a_segment_whose_file_is_gone_is_swept_no_more(database: Database) -> None:
    here = Workspace(database, DORMANT, Saved("all", "", lead.score >= 0))
    people(database, 3)
    database.write_now(segments.publish_segments, [DORMANT])
    assert here.sweep() == {"joined": 3, "left": 0}
    database.write_now(segments.publish_segments, [DORMANT, Saved("all", "", lead.score >= 0)])
    assert here.sweep(only="all") == {"joined": 3, "left": 0}


async def test_who_did_something_between_the_look_and_the_lock_does_not_join(database: Database) -> None:
    here = Workspace(database)
    [sato, suzuki] = people(database, 2)
    found = database.read_now(segments.joiners, DORMANT, here.now, after=0, most=10)
    here.does(sato, "Email Opened", mail="news")
    assert database.write_now(segments.join, DORMANT, found, here.now) == 1
    assert here.members() == {suzuki}


# Killed, twice, at once ----------------------------------------------------------------------------------------------


async def test_a_sweep_that_stops_in_the_middle_is_finished_by_the_next(database: Database) -> None:
    here = Workspace(database)
    ids = people(database, 30)
    steps = sweep_segments(database, lambda: MORNING, most=7)
    mark = [next(steps), next(steps)][-1].model_copy(deep=True)
    steps.close()
    assert 0 < len(here.members()) < 30
    again = [one.place["after"] for one in sweep_segments(database, lambda: MORNING, mark, most=7)]
    assert again == [ids[20], ids[27], ids[29]], "it goes on where it was"
    assert here.joins() == Counter(ids)


async def test_eight_sweeps_at_once_tell_each_lead_once(database: Database) -> None:
    here = Workspace(database)
    ids = people(database, 200)
    barrier = Barrier(8)

    def one() -> int:
        barrier.wait()
        return sum(1 for _ in sweep_segments(database, lambda: MORNING, most=40))

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda _: one(), range(8))) >= 5
    assert here.joins() == Counter(ids)
    assert here.members() == set(ids)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_kill_minus_9_in_the_middle_of_a_sweep(kind: str, request: pytest.FixtureRequest) -> None:
    """The command is killed, and run again: no lead is told twice, none is forgotten."""
    url = request.getfixturevalue(f"{kind}_url")
    database = Database(url)
    here = Workspace(database)
    ids = people(database, 6000, active_at=datetime.now(UTC) - 300 * DAY)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MEBAE_", "TEMPORAL_"))}
    words = (sys.executable, "-m", "mebae", "sweep")
    environment = {**clean, "DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    killed = await asyncio.create_subprocess_exec(*words, cwd=ROOT, env=environment, stdout=asyncio.subprocess.DEVNULL)
    async with asyncio.timeout(60):
        while not here.members():
            assert killed.returncode is None
            await asyncio.sleep(0.01)
    killed.kill()
    await killed.wait()
    assert 0 < len(here.members()) < 6000
    assert here.joins() == Counter(here.members())
    whole = await asyncio.create_subprocess_exec(*words, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE)
    said, _ = await whole.communicate()
    assert whole.returncode == 0, said
    assert here.joins() == Counter(ids)
    assert here.members() == set(ids)
    database.close()


# Spread over days ----------------------------------------------------------------------------------------------------


async def test_twelve_hundred_dormant_leads_start_over_three_days(database: Database) -> None:
    """The story of DESIGN §10: 500, 500 and 200; and who opens a mail meanwhile is not started."""
    here = Workspace(database)
    await here.house.publish(winback(starts_at_most=per_day(500)))
    ids = people(database, 1200)
    assert here.sweep() == {"joined": 1200, "left": 0}
    assert here.by_day() == [500, 500, 200]
    assert {(row.starts_at or MORNING) - MORNING for row in here.rows()} == {0 * DAY, DAY, 2 * DAY}, (
        "at the same local time"
    )
    assert here.sweep() == {}, "a second sweep adds nobody"

    started = Started()
    assert await started.on(database, here.now) == 500
    waked = here.rows()[600].lead_id
    here.now += DAY / 2
    here.does(waked, "Email Opened", mail="news")
    here.route()
    assert await started.on(database, here.now) == 0, "the next day has not come"
    here.now += DAY / 2
    assert await started.on(database, here.now) == 499
    row = here.rows()[600]
    assert (row.status, row.reason) == ("refused", "left-segment")
    assert here.sweep() == {"joined": 0, "left": 1}
    here.now += DAY
    assert await started.on(database, here.now) == 200
    assert started.leads == Counter(set(ids) - {waked})


class Started:
    """What the sender would start. It is asked what it takes; Temporal is no part of it (`test_a_journey_by_sweep` has it)."""

    def __init__(self) -> None:
        self.leads: Counter[int] = Counter()

    async def on(self, database: Database, now: datetime) -> int:
        sender = Sender(database, cast(Client, None), clock=WorldClock(), machine=lambda: now)
        before = self.leads.total()

        async def start(start: Any) -> bool:
            self.leads[start.lead] += 1
            return True

        sender._start = start  # type: ignore[method-assign]
        for _ in range(40):
            await sender.deliver()
        return self.leads.total() - before


async def test_the_local_day_of_the_workspace_counts(database: Database) -> None:
    here = Workspace(database, Saved("all", "", lead.score >= 0))
    scenario = Scenario("hello", enters_on=joined("all"), starts_at_most=per_day(2), steps=[send("hello")])
    await here.house.publish(scenario)
    here.now = datetime(2026, 4, 1, 14, 30, tzinfo=UTC)  # 23:30 in Tokyo
    people(database, 3)
    here.sweep()
    here.now += timedelta(hours=1)  # 0:30 of the next day, on which one place is taken
    people(database, 2)
    here.sweep()
    starts = [(row.starts_at or row.entered_at).astimezone(ZoneInfo(TOKYO)) for row in here.rows()]
    assert [f"{start:%d %H:%M}" for start in starts] == ["01 23:30", "01 23:30", "02 23:30", "02 00:30", "03 00:30"]


async def test_the_time_of_day_stays_over_the_change_of_clocks(database: Database) -> None:
    graph = compile_scenario(winback(starts_at_most=per_day(1)), file="x", mails=None)
    people(database, 2)
    before = datetime(2026, 3, 28, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    for who in (1, 2):
        await enter_once(database, graph, who, before, zone="Europe/Berlin")
    rows = database.read_now(lambda s: s.exec(select(JourneyRow).order_by(col(JourneyRow.entry))).all())
    assert [(row.starts_at or before) - before for row in rows] == [timedelta(0), timedelta(hours=23)]


async def enter_once(database: Database, graph: Graph, who: int, now: datetime, zone: str = TOKYO) -> None:
    def write(session: Session) -> None:
        locked = lock_lead(session, who)
        assert locked is not None
        enter(session, graph=graph, lead=locked, cause=f"c{who}-{now}", event=None, now=now, zone=zone)

    await database.write(write)


async def test_eight_entries_at_once_never_take_more_places_than_there_are(postgres_url: str) -> None:
    database = Database(postgres_url, threads=10)
    graph = compile_scenario(winback(starts_at_most=per_day(3)), file="x", mails=None)
    people(database, 80)
    # In tens, as eight routers do it: each holds its lead's lock and waits for the places.
    for tens in range(10):
        await asyncio.gather(*(enter_once(database, graph, tens * 8 + n, MORNING) for n in range(1, 9)))
    found = Counter(database.read_now(lambda s: s.exec(select(JourneyRow.starts_at)).all()))
    assert sorted(found.values(), reverse=True) == [3] * 26 + [2]
    assert max(found) == MORNING + 26 * DAY, "each on the first day with a place"  # type: ignore[type-var]
    database.close()


async def test_a_place_given_back_is_taken_by_the_next(database: Database) -> None:
    graph = compile_scenario(winback(starts_at_most=per_day(2)), file="x", mails=None)
    people(database, 7)
    for who in range(1, 7):
        await enter_once(database, graph, who, MORNING)
    refused = update(JourneyRow).where(col(JourneyRow.lead_id) == 3).values(status="refused", reason="audience")
    database.write_now(lambda s: s.execute(refused))
    await enter_once(database, graph, 7, MORNING)
    last = database.read_now(lambda s: s.exec(select(JourneyRow).where(JourneyRow.lead_id == 7)).one())
    assert last.starts_at == MORNING + DAY


async def test_forty_thousand_waiting_starts_cost_the_sender_nothing(sqlite_database: Database) -> None:
    """Five times a second it looks what is due: that must not read everybody whose day has not come."""
    graph = compile_scenario(winback(starts_at_most=per_day(500)), file="x", mails=None)
    people(sqlite_database, 1)
    sender = Sender(sqlite_database, cast(Client, None), clock=WorldClock(), machine=lambda: MORNING)

    async def quickest(work: Callable[[], Awaitable[object]]) -> float:
        """Of twenty, as others share the machine."""
        times = []
        for _ in range(20):
            begun = time.perf_counter()
            await work()
            times.append(time.perf_counter() - begun)
        return min(times)

    empty = await quickest(sender.deliver)
    rows = [
        {
            "cause": f"c{n}", "scenario": "win-back", "version": graph.version, "lead_id": 1, "key": str(n), "status": "starting",
            "entered_at": MORNING, "starts_at": MORNING + (1 + n // 500) * DAY, "paused": False, "turn": 0, "listening": [],
        }
        for n in range(40_000)
    ]  # fmt: skip
    sqlite_database.write_now(lambda s: s.execute(insert(JourneyRow), rows))
    assert await quickest(sender.deliver) < 3 * empty
    # The place of one more, behind eighty full days, is found by the index.
    found = sqlite_database.write_now(
        place_for, graph.model_copy(update={"starts_at_most": PerDay(count=1)}), MORNING + DAY, TOKYO
    )
    assert found == MORNING + 81 * DAY


# What a waiting start is asked when its day has come -----------------------------------------------------------------


async def waiting(database: Database, **how: Any) -> tuple[Workspace, int]:
    """A scenario of one start a day, and the lead that has to wait for tomorrow."""
    here = Workspace(database)
    await here.house.publish(
        Scenario("follow-up", enters_on=downloaded(), starts_at_most=per_day(1), steps=[send("thanks")], **how)
    )
    first, second = people(database, 2)
    for who in (first, second):
        here.does(who, "Content Downloaded", content="a")
        here.route()
    assert [row.starts_at for row in here.rows()] == [MORNING, MORNING + DAY]
    return here, second


async def test_the_audience_is_asked_again(database: Database) -> None:
    here, second = await waiting(database, audience=lead.stage == "awareness")
    database.write_now(lambda s: s.execute(update(Lead).values(stage="interest")))
    started = Started()
    await started.on(database, here.now + DAY)
    assert second not in started.leads
    assert (here.rows()[1].status, here.rows()[1].reason) == ("refused", "audience")
    here.now += 2 * DAY
    database.write_now(lambda s: s.execute(update(Lead).values(stage="awareness")))
    here.does(second, "Content Downloaded", content="a")
    here.route()
    assert here.rows()[2].status == "starting", "a refused entry keeps nobody out"


async def test_so_is_exits_when(database: Database) -> None:
    here, second = await waiting(database, exits_when=lead.qualification == "sql")
    database.write_now(lambda s: s.execute(update(Lead).values(qualification="sql")))
    started = Started()
    await started.on(database, here.now + DAY)
    assert (second not in started.leads, here.rows()[1].reason) == (True, "exits-when")


async def test_an_erased_lead_that_waits_is_not_started(database: Database) -> None:
    here, second = await waiting(database)
    database.write_now(lambda s: s.execute(update(Lead).where(col(Lead.id) == second).values(erased_at=MORNING)))
    started = Started()
    await started.on(database, here.now + DAY)
    assert (second not in started.leads, here.rows()[1].reason) == (True, "erased")


async def test_a_start_that_was_tried_is_not_taken_back(database: Database) -> None:
    """Of a try the answer may have been lost: then the journey runs, and its own gate asks."""
    here, second = await waiting(database, audience=lead.stage == "awareness")
    sender = Sender(database, cast(Client, None), clock=WorldClock(), machine=lambda: MORNING + DAY)

    async def lost(start: Any) -> bool:
        return False

    sender._start = lost  # type: ignore[method-assign]
    await sender.deliver()
    database.write_now(lambda s: s.execute(update(Lead).values(stage="interest")))
    started = Started()
    await started.on(database, here.now + DAY + timedelta(minutes=1))
    assert started.leads[second] == 1


async def test_a_person_who_starts_a_journey_is_told_when_it_begins(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    import starter

    database = Database(sqlite_url)
    here = Workspace(database)
    await here.house.publish(winback(starts_at_most=per_day(1)))
    people(database, 2)
    database.close()
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr("mebae.starting.PATIENCE", timedelta(seconds=0.2))
    words = ["start", "win-back", "--lead"]
    await asyncio.to_thread(CliRunner().invoke, starter.commands, [*words, "lead0@aoba.example"])
    said = (await asyncio.to_thread(CliRunner().invoke, starter.commands, [*words, "lead1@aoba.example"])).output
    tomorrow = (datetime.now(ZoneInfo(TOKYO)) + DAY).strftime("%Y-%m-%d")
    assert f"begins {tomorrow}" in said
    listed = (await asyncio.to_thread(CliRunner().invoke, starter.commands, ["list"])).output
    line = next(line for line in listed.splitlines() if "lead1@aoba.example" in line)
    assert "its day" in line
    assert tomorrow in line


# As written ----------------------------------------------------------------------------------------------------------


def test_a_limit_that_means_nothing_is_refused() -> None:
    with pytest.raises(AuthoringError, match=r"write starts_at_most=per_day\(500\)"):
        winback(starts_at_most=500)
    with pytest.raises(AuthoringError, match="write a whole number"):
        per_day(2.5)  # type: ignore[arg-type]
    with pytest.raises(ScenarioError, match=r"starts_at_most=per_day\(0\): write a number from 1"):
        compile_scenario(winback(starts_at_most=per_day(0)), file="x", mails=None)


def test_a_scenario_without_a_limit_has_the_version_that_it_had() -> None:
    plain, limited = (
        compile_scenario(winback(**how), file="x", mails=None)
        for how in (dict[str, Any](), {"starts_at_most": per_day(500)})
    )
    assert "starts_at_most" not in plain.dump()
    assert Graph.load(limited.dump()) == limited
    assert limited.version != plain.version


# By Temporal ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings() -> Settings:
    return Settings(sweep_at="06:00", time_zone=TOKYO)


async def test_a_journey_by_sweep(database: Database, settings: Settings) -> None:
    """A Schedule sweeps; a dormant lead joins, gets its mail, and opens it."""
    scenario = Scenario(
        "win-back",
        enters_on=joined("dormant"),
        starts_at_most=per_day(1),
        steps=[send("long-time-no-see"), wait_for(on(visited("/pricing")), within=days(7))],
    )
    async with house(database) as mebae:
        await mebae.publish(scenario)
        await database.write(segments.publish_segments, [DORMANT])
        old = datetime.now(UTC) - 300 * DAY
        sato = await mebae.lead("sato@aoba.example", active_at=old)
        suzuki = await mebae.lead("suzuki@aoba.example", active_at=old)
        every = jobs(settings)
        await ensure_schedules(mebae.client, every.values(), settings)
        await mebae.client.get_schedule_handle(schedule_id(every["segments"])).trigger()
        await mebae.resting_at("long-time-no-see/wait_for", sato)
        [row] = await mebae.rows(suzuki)
        assert (row.status, row.starts_at is not None) == ("starting", True)
        await mebae.event(sato, "Page Viewed", path="/pricing")
        await mebae.ended(sato)
        assert mebae.relay.subjects() == ["long-time-no-see"]
        [row] = await mebae.rows(suzuki)
        assert row.status == "starting", "its day has not come"
        found = [one async for one in mebae.client.list_workflows("WorkflowType = 'Sweep'")]
        assert len(found) == 1
        done: Swept = await mebae.client.get_workflow_handle(found[0].id, result_type=Swept).result()
        assert done == Swept(job="segments", counts={"joined": 2, "left": 0})


async def test_schedules_are_made_once_and_changed_when_their_times_change(
    sqlite_database: Database, settings: Settings
) -> None:
    async with house(sqlite_database, programs=False) as mebae:
        every = jobs(settings)
        await asyncio.gather(*(ensure_schedules(mebae.client, every.values(), settings) for _ in range(4)))
        handle = mebae.client.get_schedule_handle("sweep/segments")
        first = await handle.describe()
        [calendar] = first.schedule.spec.calendars
        assert (calendar.hour[0].start, calendar.minute[0].start) == (6, 0)
        assert first.schedule.spec.time_zone_name == TOKYO
        assert first.schedule.policy.overlap is ScheduleOverlapPolicy.SKIP
        assert first.info.next_action_times[0].astimezone(ZoneInfo(TOKYO)).strftime("%H:%M") == "06:00"
        await handle.pause()
        await ensure_schedules(mebae.client, every.values(), settings)
        assert (await handle.describe()).info.last_updated_at is None, "the same again touches nothing"
        moved = settings.model_copy(update={"sweep_at": "07:30"})
        await ensure_schedules(mebae.client, jobs(moved).values(), moved)
        second = await handle.describe()
        [calendar] = second.schedule.spec.calendars
        assert (calendar.hour[0].start, calendar.minute[0].start) == (7, 30)
        assert second.schedule.state.paused, "what ops paused stays paused"
        listed = {one.id async for one in await mebae.client.list_schedules()}
        assert listed <= {schedule_id(job) for job in every.values()}


def test_a_time_of_day_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEBAE_SWEEP_AT", "6:30")
    assert Settings().sweep_at == "06:30"
    monkeypatch.setenv("MEBAE_SWEEP_AT", "25:00")
    with pytest.raises(ValidationError, match="'25:00' is not a time of day"):
        Settings()


async def test_under_a_clock_of_its_own_there_are_no_schedules(sqlite_database: Database) -> None:
    settings = Settings(clock_speed=1000.0, clock_origin=MORNING)
    await ensure_schedules(cast(Client, None), jobs(settings).values(), settings)


async def test_an_interrupted_run_goes_on_at_its_last_heartbeat(sqlite_database: Database) -> None:
    database = sqlite_database
    here = Workspace(database)
    ids = people(database, 1100, active_at=datetime.now(UTC) - 300 * DAY)
    beats: list[Mark] = []
    env = ActivityEnvironment()
    env.on_heartbeat = lambda mark: beats.append(mark)
    env.info = env.info.__class__(**{**vars(env.info), "started_time": datetime.now(UTC)})
    activities = SweepActivities(database, {"segments": Job("segments", "", Every(DAY), Broken(2))})
    with pytest.raises(Exception, match="database-unavailable"):
        await env.run(activities.run_job, SweepInput(job="segments"))
    assert 0 < len(here.members()) < 1100
    env.info = env.info.__class__(**{**vars(env.info), "heartbeat_details": [beats[-1].model_dump()], "attempt": 2})
    activities = SweepActivities(database, {"segments": Job("segments", "", Every(DAY), sweep_segments)})
    done = await env.run(activities.run_job, SweepInput(job="segments"))
    assert done.counts == {"joined": 1100, "left": 0}, "it counts what was done before too"
    assert here.joins() == Counter(ids)


class Broken:
    """A sweep during which the database goes away after some chunks."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, database: Database, now: Any, mark: Mark | None = None, /) -> Iterator[Mark]:
        for one in sweep_segments(database, now, mark):
            yield one
            self.left -= 1
            if not self.left:
                raise DatabaseUnavailable


async def test_a_job_of_a_newer_worker_fails_for_good(sqlite_database: Database) -> None:
    with pytest.raises(Exception, match="no-such-job") as failed:
        await ActivityEnvironment().run(SweepActivities(sqlite_database, {}).run_job, SweepInput(job="moon"))
    assert failed.value.non_retryable  # type: ignore[attr-defined]


# The other jobs ------------------------------------------------------------------------------------------------------


async def test_a_job_of_one_function_is_called_until_nothing_is_left(sqlite_database: Database) -> None:
    left = [5, 5, 2, 0]

    def step(session: Session, now: datetime, most: int) -> int:
        assert (now, most) == (MORNING, 5)
        return left.pop(0)

    marks = [dict(mark.counts) for mark in repeated(step, "done", most=5)(sqlite_database, lambda: MORNING)]
    assert marks == [{"done": 5}, {"done": 10}, {"done": 12}]


async def test_every_job_runs_on_an_empty_database(database: Database, settings: Settings) -> None:
    found = jobs(settings)
    assert {name: str(job.when) for name, job in found.items()} == {
        "segments": "daily at 06:00, Asia/Tokyo",
        "scores": "every 10 minutes",
        "gate": "daily at 06:00, Asia/Tokyo",
        "digest": "every 10 minutes",
        "clients": "daily at 06:00, Asia/Tokyo",
        "consents": "daily at 06:00, Asia/Tokyo",
        "reports": "daily at 06:00, Asia/Tokyo",
        "visitors": "daily at 06:00, Asia/Tokyo",
    }
    assert isinstance(found["segments"].when, Daily)
    for job in found.values():
        assert list(job.work(database, lambda: MORNING)) == []
