"""Router, sender and resting journeys: nothing is missed and nothing counts twice, whatever happens in between (DESIGN §6)."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlmodel import Session, col, func, select
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from mebae import contracts, resting
from mebae.authoring import Scenario, clicked, days, downloaded, end, lead, on, send, set_lead, visited, wait_for, when
from mebae.errors import DatabaseUnavailable
from mebae.events import IDENTIFIED
from mebae.graph import Graph, WaitFor
from mebae.journey import EXIT, Exited, Heard, Marks, Resting, Settling
from mebae.router import Router, route
from mebae.sender import LEASE, Delivered, Sender, _done
from mebae.settings import Settings
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Event, JourneyRow, Lead, Nudge
from mebae.timing import Calendar
from mebae.words import JourneyStatus
from tests.dev_server import dev_server
from tests.house import DAY, House, Relay, house, store_event

NOON = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
TOKYO = "Asia/Tokyo"
AT = resting.Setting(TOKYO, Calendar())

# An event meets a journey that goes to rest ------------------------------------------------------------------------------

TWO_WAITS = Scenario(
    "two-waits",
    exits_when=lead.qualification == "sql",
    steps=[
        wait_for(on(visited("/pricing")), when(lead.score >= 50), within=days(7), otherwise=[end("late")], id="first"),
        wait_for(on(visited("/pricing")), within=days(7), otherwise=[end("once")], id="second"),
        end("twice"),
    ],
)


@dataclass
class Meeting:
    """One lead whose journey goes to rest while something happens to it."""

    lead: int
    entry: int
    what: str
    """`visit`, `score` or `exit`."""
    answer: Any = None


def meetings(session: Session, graph: Graph, count: int) -> list[Meeting]:
    leads = [Lead(email=f"lead-{n}@aoba.example", created_at=NOON, updated_at=NOON) for n in range(count)]
    session.add_all(leads)
    session.flush()
    rows = [
        JourneyRow(
            cause=f"command:{one.id}", scenario=graph.scenario, version=graph.version, lead_id=one.id or 0,
            status=JourneyStatus.RUNNING, step=graph.start, entered_at=NOON,
        )
        for one in leads
    ]  # fmt: skip
    session.add_all(rows)
    session.flush()
    return [
        Meeting(row.lead_id, row.entry or 0, ("visit", "score", "visit", "exit")[n % 4]) for n, row in enumerate(rows)
    ]


def nap() -> None:
    """Lets the other one in, somewhere."""
    if random.random() < 0.7:
        time.sleep(random.random() * 0.004)


def settle(session: Session, entry: int, ask: Settling, pause: Callable[[], None] = lambda: None) -> Any:
    """What the resting activity does in its transaction, with pauses in which the world goes on."""
    place = resting.take(session, entry, turn=0)
    if isinstance(place, Exited):
        return place
    pause()
    answer = resting.settle(session, place, ask, NOON, AT)
    session.flush()
    pause()
    return answer


def happen(session: Session, meeting: Meeting) -> None:
    """What ingestion does: the event, and what it changes of the lead, in one transaction."""
    person = lock_lead(session, meeting.lead)
    assert person is not None
    if meeting.what == "visit":
        store_event(session, meeting.lead, f"m-{meeting.lead}", "Page Viewed", {"path": "/pricing"}, NOON)
    else:
        if meeting.what == "score":
            person.score = 70
        else:
            person.qualification = "sql"
        store_event(session, meeting.lead, f"m-{meeting.lead}", IDENTIFIED, {}, NOON)
    session.flush()
    nap()


def meet(database: Database, some: list[Meeting]) -> None:
    """Two threads a meeting: one puts the journey to rest, the other stores what happens."""
    together = Barrier(2)

    def rests() -> None:
        for one in some:
            together.wait(30)
            nap()
            one.answer = database.write_now(settle, one.entry, Settling("first", Marks()), nap)

    def happens() -> None:
        for one in some:
            together.wait(30)
            nap()
            database.write_now(happen, one)

    with ThreadPoolExecutor(2) as both:
        for future in [both.submit(rests), both.submit(happens)]:
            future.result()


def keep_routing(database: Database, over: threading.Event) -> None:
    """A router, until nothing more happens and nothing is left."""

    def routed(session: Session) -> int:
        done = route(session, now=NOON, zone=TOKYO)
        session.flush()
        nap()
        return done

    last = False
    while not last:
        last = over.is_set()
        while database.write_now(routed):
            pass
        nap()


def check(session: Session, graph: Graph, all_: list[Meeting]) -> Counter[str]:
    """In every meeting the journey hears of it exactly once: from its own look back, or from a nudge."""
    first = graph.step("first")
    assert isinstance(first, WaitFor)
    visit, score = (arm.id for arm in first.arms)
    wanted = {"visit": visit, "score": score, "exit": EXIT}
    nudges: dict[int, list[str]] = {}
    for nudge in session.exec(select(Nudge)):
        nudges.setdefault(nudge.entry, []).append(nudge.trigger)
    ways: Counter[str] = Counter()
    for one in all_:
        told, answer = nudges.get(one.entry, []), one.answer
        if isinstance(answer, Resting):
            assert told == [wanted[one.what]], f"{one} rests and was told {told}"
            answer = settle(session, one.entry, Settling("first", Marks(), since=answer.since))
            ways[f"{one.what}: nudged"] += 1
        else:
            assert told == [], f"{one} knew it and was told {told}"
            ways[f"{one.what}: seen"] += 1
        if one.what == "exit":
            assert answer == Exited("exits-when")
            continue
        seq = 1 if one.what == "visit" else 0
        assert answer == Heard(wanted[one.what], seq), one
        # The next wait wants the same event, and does not get it again.
        after = settle(session, one.entry, Settling("second", Marks(heard=seq)))
        assert isinstance(after, Resting), f"{one} counted twice"
    return ways


@pytest.mark.parametrize(
    ("kind", "count"), [("postgres", 500), ("sqlite", 300), pytest.param("postgres", 2000, marks=pytest.mark.slow)]
)
async def test_what_happens_while_a_journey_goes_to_rest_is_heard_exactly_once(
    kind: str, count: int, request: pytest.FixtureRequest
) -> None:
    url = str(request.getfixturevalue(f"{kind}_url"))
    if kind == "postgres":  # thousands of commits; what they show to each other does not depend on the disk
        url += "?options=-csynchronous_commit%3Doff"
    database = Database(url, threads=12)
    try:
        graph = await House(database, cast(Client, None), Relay(), Settings()).publish(TWO_WAITS)
        everybody = await database.write(meetings, graph, count)
        pairs, over = (5 if kind == "postgres" else 2), threading.Event()
        with ThreadPoolExecutor(pairs + 2) as pool:
            routers = [pool.submit(keep_routing, database, over) for _ in range(2)]
            try:
                met = [pool.submit(meet, database, everybody[n::pairs]) for n in range(pairs)]
                await asyncio.gather(*map(asyncio.wrap_future, met))
            finally:
                over.set()
            await asyncio.gather(*map(asyncio.wrap_future, routers))
        ways = await database.read(check, graph, everybody)
        # It proves something only if both ways were taken often.
        assert len(ways) == 6, ways
        assert min(ways.values()) >= count / 100, ways
    finally:
        database.close()


# Several routers and senders ---------------------------------------------------------------------------------------------

WAITING = Scenario(
    "waiting",
    enters_on=downloaded("whitepaper-*"),
    re_enter="always",
    steps=[wait_for(on(visited("/pricing"), [end("priced")]), within=days(7), otherwise=[end("late")], id="look")],
)
AT_ONCE_OVER = Scenario("at-once", enters_on=downloaded("whitepaper-*"), steps=[set_lead(plan="trial"), end("done")])


class Watched:
    """A Temporal client that counts what it really did: runs made, signals given."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.runs: Counter[int] = Counter()
        """By entry."""
        self.signals: Counter[tuple[int, str, int]] = Counter()
        self.around: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]] = lambda call: call()

    async def start_workflow(self, name: str, start: contracts.JourneyInput, **options: Any) -> Any:
        async def call() -> Any:
            handle = await self._client.start_workflow(name, start, **options)
            self.runs[start.entry] += 1
            return handle

        return await self.around(call)

    def get_workflow_handle(self, workflow_id: str) -> Any:
        handle = self._client.get_workflow_handle(workflow_id)

        async def signal(name: str, nudged: contracts.Nudged) -> None:
            async def call() -> None:
                await handle.signal(name, nudged)
                self.signals[(nudged.entry, nudged.trigger, nudged.event)] += 1

            await self.around(call)

        return SimpleNamespace(describe=handle.describe, signal=signal)

    def as_client(self) -> Client:
        return cast(Client, self)


async def test_two_routers_and_two_senders_route_each_event_and_start_each_journey_once(database: Database) -> None:
    """Each lead walks two journeys; the one that is over at once leaves nothing behind to run into."""
    count = 100
    async with house(database, programs=False) as mebae:
        for scenario in (WAITING, AT_ONCE_OVER):
            await mebae.publish(scenario)
        leads = [await mebae.lead(f"lead-{n}@aoba.example") for n in range(count)]
        for one in leads:
            await mebae.event(one, "Content Downloaded", content="whitepaper-1")
        watched = Watched(mebae.client)
        handled = 0

        async def router() -> None:
            nonlocal handled
            while True:
                done = await database.write(route, now=mebae.now(), zone=TOKYO)
                handled += done
                await asyncio.sleep(0 if done else 0.02)

        senders = [Sender(database, watched.as_client(), clock=mebae.clock) for _ in range(2)]
        tasks = [asyncio.create_task(one) for one in (router(), router(), senders[0].run(), senders[1].run())]
        try:
            await mebae.until(
                lambda rows: (
                    Counter((row.scenario, row.status) for row in rows)
                    == {("waiting", "resting"): count, ("at-once", "ended"): count}
                ),
                seconds=60,
            )
            for one in leads:
                await mebae.event(one, "Page Viewed", path="/pricing")
            rows = await mebae.ended(seconds=60)
            await mebae.routed()
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
        assert Counter(row.outcome for row in rows) == {"priced": count, "done": count}
        assert Counter(row.lead_id for row in rows) == dict.fromkeys(leads, 2)
        stored = await database.read(lambda s: s.exec(select(func.count()).select_from(Event)).one())
        assert handled == stored, "an event was routed twice, or never"
        assert watched.runs == {row.entry: 1 for row in rows}
        assert {entry for entry, _, _ in watched.signals} == {row.entry for row in rows if row.scenario == "waiting"}


async def test_a_sender_that_stands_still_with_a_start_in_its_hands_does_not_make_a_second_run(
    database: Database,
) -> None:
    """By the time it goes on, the journey may be over, and nothing in Temporal would stop a second run of the same entry."""
    async with house(database, programs=False) as mebae:
        await mebae.publish(AT_ONCE_OVER)
        who = await mebae.lead("sato@aoba.example")
        await mebae.event(who, "Content Downloaded", content="whitepaper-1")
        await database.write(route, now=mebae.now(), zone=TOKYO)
        quick, slow = Watched(mebae.client), Watched(mebae.client)
        stands_still, goes_on = asyncio.Event(), asyncio.Event()

        async def hold(call: Callable[[], Awaitable[Any]]) -> Any:
            stands_still.set()
            await goes_on.wait()
            return await call()

        slow.around = hold
        delivery = asyncio.create_task(Sender(database, slow.as_client(), clock=mebae.clock).deliver())
        await stands_still.wait()
        await Sender(database, quick.as_client(), clock=mebae.clock).deliver()
        await asyncio.sleep(0.5)
        goes_on.set()
        await delivery
        [row] = await mebae.ended(who)
        assert quick.runs + slow.runs == {row.entry: 1}


async def test_starts_of_a_sender_that_died_are_taken_on_by_another_one(database: Database) -> None:
    async with house(database, programs=False) as mebae:
        await mebae.publish(WAITING)
        who = await mebae.lead("sato@aoba.example")
        await mebae.event(who, "Content Downloaded", content="whitepaper-1")
        watched = Watched(mebae.client)
        with pytest.raises(Crash):  # route, nothing more to route, read
            await run_programs(mebae, watched, Fuse(3, "after"))
        sender = Sender(database, watched.as_client(), clock=mebae.clock, machine=lambda: mebae.machine())
        assert await sender.deliver() == 0, "it may still be alive"
        mebae.machine = lambda: datetime.now(UTC) + LEASE
        assert await sender.deliver() == 1
        await mebae.resting_at("look", who)
        # A clock that is days wrong holds up nobody else.
        other = await mebae.lead("suzuki@midori.example")
        await mebae.event(other, "Content Downloaded", content="whitepaper-1")
        mebae.machine = lambda: datetime.now(UTC) + timedelta(days=3)
        with pytest.raises(Crash):
            await run_programs(mebae, watched, Fuse(3, "after"))
        mebae.machine = lambda: datetime.now(UTC)
        assert await sender.deliver() == 1
        await mebae.resting_at("look", other)


# A crash between any two steps -------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process is gone."""


class Fuse:
    """Counts steps, and kills the process before or after the n-th of them."""

    def __init__(self, at: int, moment: str) -> None:
        self.at, self.moment, self.steps = at, moment, 0

    async def around(self, call: Callable[[], Awaitable[Any]]) -> Any:
        self.steps += 1
        if self.steps == self.at and self.moment == "before":
            raise Crash
        result = await call()
        if self.steps == self.at:
            raise Crash
        return result


class Fragile:
    """A database whose transactions count as steps."""

    def __init__(self, database: Database, fuse: Fuse) -> None:
        self._database, self._fuse = database, fuse

    async def write(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        return await self._fuse.around(partial(self._database.write, work, *args, **kwargs))

    read = write


async def run_programs(mebae: House, watched: Watched, fuse: Fuse) -> None:
    """A router and a sender at work until there is nothing left to do."""
    fragile = cast(Database, Fragile(mebae.database, fuse))
    watched.around = fuse.around
    sender = Sender(fragile, watched.as_client(), clock=mebae.clock, machine=mebae.machine)
    while await fragile.write(route, now=mebae.now(), zone=TOKYO) or await sender.deliver():
        pass


async def test_a_crash_between_any_two_steps_loses_nothing_and_starts_nothing_twice(database: Database) -> None:
    """Commit, start, signal, mark: the process dies before or after each of them, and a fresh one goes on."""
    async with house(database, programs=False) as mebae:
        await mebae.publish(WAITING)
        crashes = 0
        for moment in ("before", "after"):
            for at in range(1, 100):
                watched = Watched(mebae.client)
                who = await mebae.lead(f"lead-{moment}-{at}@aoba.example")
                fuse = Fuse(at, moment)
                crashes_here = 0

                async def work(fuse: Fuse = fuse, watched: Watched = watched) -> None:
                    nonlocal crashes_here
                    try:
                        await run_programs(mebae, watched, fuse)
                    except Crash:
                        crashes_here += 1
                        mebae.machine = lambda: datetime.now(UTC) + LEASE
                        await run_programs(mebae, watched, Fuse(0, "never"))
                        mebae.machine = lambda: datetime.now(UTC)

                await mebae.event(who, "Content Downloaded", content="whitepaper-1")
                await work()
                [row] = await mebae.resting_at("look", who)
                page = await mebae.event(who, "Page Viewed", path="/pricing")
                await work()
                [row] = await mebae.ended(who)
                assert (row.outcome, row.status) == ("priced", "ended")
                assert row.entry is not None
                assert watched.runs == {row.entry: 1}, (moment, at)
                [(told, times)] = watched.signals.items()
                assert (told[0], told[2]) == (row.entry, page)
                assert times >= 1
                crashes += crashes_here
                if not crashes_here:
                    break
            else:
                raise AssertionError("it never came to an end")
        assert crashes >= 2 * 8, "route, read, start, mark; route, read, signal, mark"
        assert (
            await mebae.database.read(lambda s: s.exec(select(func.count()).where(col(Nudge.sent_at).is_(None))).one())
            == 0
        )


async def test_the_answer_to_a_start_is_lost_after_the_journey_has_ended(database: Database) -> None:
    """Nobody knows that it was started; its row does."""
    async with house(database, programs=False) as mebae:
        await mebae.publish(AT_ONCE_OVER)
        watched = Watched(mebae.client)
        who = await mebae.lead("sato@aoba.example")
        await mebae.event(who, "Content Downloaded", content="whitepaper-1")
        with pytest.raises(Crash):  # route, nothing more to route, read, start
            await run_programs(mebae, watched, Fuse(4, "after"))
        [row] = await mebae.ended(who)
        await run_programs(mebae, watched, Fuse(0, "never"))
        assert watched.runs == {row.entry: 1}
        assert await mebae.handle(row).result() == "done"


# Causes, late signals ------------------------------------------------------------------------------------------------


async def test_an_event_that_is_routed_again_enters_once(database: Database) -> None:
    mebae = House(database, cast(Client, None), Relay(), Settings())
    await mebae.publish(WAITING)
    who = await mebae.lead("sato@aoba.example")
    event = await mebae.event(who, "Content Downloaded", content="whitepaper-1")
    assert await database.write(route, now=NOON, zone=TOKYO) == 1

    def as_if_never(session: Session) -> None:
        session.get_one(Event, event).routed_at = None
        for row in session.exec(select(JourneyRow)):  # over already: only the cause stands in the way
            row.status = JourneyStatus.ENDED

    await database.write(as_if_never)
    assert await database.write(route, now=NOON, zone=TOKYO) == 1
    assert len(await mebae.rows()) == 1


async def test_a_late_signal_of_an_ended_entry_does_not_move_the_next_run(database: Database) -> None:
    async with house(database, programs=False) as mebae:
        graph = await mebae.publish(WAITING)
        look = graph.step("look")
        assert isinstance(look, WaitFor)
        who = await mebae.lead("sato@aoba.example")
        watched = Watched(mebae.client)
        work = partial(run_programs, mebae, watched, Fuse(0, "never"))

        await mebae.event(who, "Content Downloaded", content="whitepaper-1")
        await work()
        await mebae.resting_at("look", who)
        await mebae.event(who, "Page Viewed", path="/pricing")
        # Routed, and the sender reads the nudge and then stands still, while the journey ends in another way …
        await database.write(route, now=mebae.now(), zone=TOKYO)
        [row] = await mebae.rows(who)
        first = mebae.handle(row)
        await first.execute_update(contracts.END, contracts.EndRequest())
        await first.result()
        # … and the lead comes back.
        again = await mebae.event(who, "Content Downloaded", content="whitepaper-2")
        await database.write(route, now=mebae.now(), zone=TOKYO)
        _, second = await mebae.rows(who)
        assert second.entry_event_id == again
        await Sender(database, watched.as_client(), clock=mebae.clock).start_one(second.entry or 0)
        await mebae.until(lambda rows: rows[-1].status == "resting", who)
        await mebae.quiet(second)
        before = (await mebae.handle(second).describe()).history_length

        await work()  # now the old nudge goes out, to the workflow id that both entries share
        assert [entry for entry, _, _ in watched.signals] == [row.entry]
        with suppress(TimeoutError):
            await asyncio.wait_for(mebae.handle(second).result(), 0.5)
        description = await mebae.handle(second).describe()
        assert description.status is WorkflowExecutionStatus.RUNNING
        # The signal and one workflow task: it asked the database nothing.
        assert description.history_length - before <= 4
        [_, second] = await mebae.rows(who)
        assert (second.status, second.step) == ("resting", "look")

        # Its own page view still counts.
        await mebae.event(who, "Page Viewed", path="/pricing")
        await work()
        assert [row.outcome for row in await mebae.ended(who)] == ["ended-by-hand", "priced"]


async def test_a_start_that_meets_the_run_before_it_is_tried_again(database: Database) -> None:
    """The row of the first entry says ended a moment before its workflow closes."""
    async with house(database, programs=False) as mebae:
        await mebae.publish(WAITING)
        who = await mebae.lead("sato@aoba.example")
        watched = Watched(mebae.client)
        work = partial(run_programs, mebae, watched, Fuse(0, "never"))
        await mebae.event(who, "Content Downloaded", content="whitepaper-1")
        await work()
        [first] = await mebae.resting_at("look", who)

        def ends(session: Session) -> None:
            row = session.get_one(JourneyRow, first.entry)
            row.status, row.ended_at, row.listening = JourneyStatus.ENDED, mebae.now(), []

        await database.write(ends)
        await mebae.event(who, "Content Downloaded", content="whitepaper-2")
        await work()
        _, second = await mebae.rows(who)
        assert second.status == "starting"
        assert second.retry_at is not None
        await mebae.handle(first).terminate()
        mebae.machine = lambda: datetime.now(UTC) + timedelta(seconds=3)
        await work()
        await mebae.until(lambda rows: rows[-1].status == "resting", who)
        assert watched.runs == {first.entry: 1, second.entry: 1}


# Temporal away -------------------------------------------------------------------------------------------------------

ANSWER = Scenario(
    "answer",
    enters_on=downloaded("whitepaper-*"),
    steps=[
        send("thanks"),
        wait_for(
            on(clicked("thanks"), [send("more"), end("clicked")]),
            on(visited("/pricing"), [end("priced")]),
            within=days(7),
            otherwise=[end("late")],
        ),
    ],
)


@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=[pytest.mark.slow, pytest.mark.timeout(240)])])
async def test_what_happens_while_temporal_is_away_reaches_its_journeys_afterwards(
    sqlite_database: Database, tmp_path: Path, seconds: float
) -> None:
    async with dev_server(tmp_path) as server:
        env = WorkflowEnvironment.from_client(await server.connect())
        async with house(sqlite_database, env=env) as mebae:
            await mebae.publish(ANSWER)
            early = [await mebae.lead(f"early-{n}@aoba.example") for n in range(10)]
            late = [await mebae.lead(f"late-{n}@aoba.example") for n in range(10)]
            for one in early:
                await mebae.event(one, "Content Downloaded", content="whitepaper-1")
            await mebae.resting_at("thanks/wait_for")

            await server.kill()
            for one in early[:5]:
                await mebae.event(one, "Email Link Clicked", mail="thanks")
            for one in late:
                await mebae.event(one, "Content Downloaded", content="whitepaper-1")
            await asyncio.sleep(seconds / 2)
            for one in early[5:]:
                await mebae.event(one, "Page Viewed", path="/pricing")
            await asyncio.sleep(seconds / 2)
            assert len(await mebae.rows()) == 20, "routing does not need Temporal"
            await server.start()

            await mebae.until(
                lambda rows: [row.status for row in rows] == ["ended"] * 10 + ["resting"] * 10, seconds=max(60, seconds)
            )
            assert [row.outcome for row in await mebae.rows()][:10] == ["clicked"] * 5 + ["priced"] * 5
            for one in late:
                await mebae.event(one, "Email Link Clicked", mail="thanks")
            await mebae.ended(seconds=40)
            assert Counter(mebae.relay.subjects()) == {"thanks": 20, "more": 15}
            assert {str(row.status) for row in await mebae.deliveries()} == {"sent"}


async def test_a_sender_goes_on_after_temporal_did_not_answer(database: Database) -> None:
    """Longer than the SDK tries by itself: what was not started is in nobody's hands, and tried again."""
    async with house(database, programs=False) as mebae:
        await mebae.publish(WAITING)
        for n in range(3):
            await mebae.event(await mebae.lead(f"lead-{n}@aoba.example"), "Content Downloaded", content="whitepaper-1")
        await database.write(route, now=mebae.now(), zone=TOKYO)
        watched = Watched(mebae.client)
        away = 6

        async def sometimes(call: Callable[[], Awaitable[Any]]) -> Any:
            nonlocal away
            if away:
                away -= 1
                raise RPCError("transport error", RPCStatusCode.UNAVAILABLE, b"")
            return await call()

        watched.around = sometimes
        sender = asyncio.create_task(Sender(database, watched.as_client(), clock=mebae.clock).run())
        try:
            await mebae.resting_at("look")
            assert away == 0
            rows = await mebae.rows()
            assert watched.runs == {row.entry: 1 for row in rows}
            assert len(rows) == 3
        finally:
            sender.cancel()
            with suppress(asyncio.CancelledError):
                await sender


# Deadlock ------------------------------------------------------------------------------------------------------------


async def test_two_writers_that_lock_leads_in_opposite_order_both_succeed(postgres_database: Database) -> None:
    mebae = House(postgres_database, cast(Client, None), Relay(), Settings())
    leads = [await mebae.lead(f"lead-{n}@aoba.example") for n in range(2)]
    both_hold_one = Barrier(2)
    tries = 0

    def add(session: Session, order: list[int]) -> None:
        nonlocal tries
        tries += 1
        for place, one in enumerate(order):
            person = lock_lead(session, one)
            assert person is not None
            person.score += 1
            if place == 0 and tries <= 2:
                session.flush()
                both_hold_one.wait(10)

    await asyncio.gather(postgres_database.write(add, leads), postgres_database.write(add, leads[::-1]))
    assert tries == 3, "there was no deadlock to survive"
    scores = await postgres_database.read(lambda s: [s.get_one(Lead, one).score for one in leads])
    assert scores == [2, 2]


async def test_marking_a_start_waits_for_no_lead(postgres_database: Database) -> None:
    """A journey that goes to rest holds its lead and wants its row; whoever holds that row must not want the lead.

    PostgreSQL looks at a row's foreign keys when one transaction changes it a second time.
    """
    mebae = House(postgres_database, cast(Client, None), Relay(), Settings())
    graph = await mebae.publish(WAITING)
    who = await mebae.lead("sato@aoba.example")
    entry = (await mebae.start(graph, who)).entry
    assert entry is not None
    with Session(postgres_database.engine) as resting_one, resting_one.begin():
        lock_lead(resting_one, who)
        done = postgres_database.write(_done, Delivered(started=[entry]), later=[], now=NOON, machine=NOON)
        async with asyncio.timeout(5):
            await done
    [row] = await mebae.rows()
    assert (row.status, row.started_at) == (JourneyStatus.RUNNING, NOON)
    await postgres_database.write(_done, Delivered(started=[entry]), later=[], now=NOON + DAY, machine=NOON)
    [row] = await mebae.rows()
    assert (row.status, row.started_at) == (JourneyStatus.RUNNING, NOON)


async def test_a_router_goes_on_after_the_database_was_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    mebae = House(database, cast(Client, None), Relay(), Settings())
    await mebae.publish(WAITING)
    who = await mebae.lead("sato@aoba.example")
    await mebae.event(who, "Content Downloaded", content="whitepaper-1")
    away = [DatabaseUnavailable(), DatabaseUnavailable()]
    write = database.write

    async def sometimes(work: Any, /, *args: Any, **kwargs: Any) -> Any:
        if work is route and away:
            raise away.pop()
        return await write(work, *args, **kwargs)

    monkeypatch.setattr(database, "write", sometimes)
    told = asyncio.Event()
    router = asyncio.create_task(Router(database, now=mebae.now, zone=TOKYO, on_routed=told.set).run())
    await asyncio.wait_for(told.wait(), 10)
    router.cancel()
    with suppress(asyncio.CancelledError):
        await router
    assert [row.status for row in await mebae.rows()] == ["starting"]
