"""Records open journeys and broadcasts, one at each kind of wait: `python -m tests.record_histories [NAME…]`.

Run it once for a new kind of wait, and commit the file. Never record an old one again to make `test_replay.py` pass:
a history that no longer replays is a journey of a user that would get stuck.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from sqlmodel import Session
from temporalio.client import WorkflowHandle

from mebae import contracts
from mebae.authoring import (
    Scenario,
    branch,
    call_task,
    clicked,
    days,
    entry,
    go_to,
    hand_to_sales,
    hours,
    lead,
    notify_sales,
    on,
    run,
    send,
    set_lead,
    share,
    split,
    tag,
    visited,
    wait,
    wait_for,
    wait_until,
    when,
)
from mebae.broadcast_opening import request_run
from mebae.broadcast_sender import start_run
from mebae.broadcasts import Ab, BroadcastPlan, Variant
from mebae.calling import done
from mebae.handing import Decision, decide
from mebae.handover import Move
from mebae.mail.publishing import publish_layouts, publish_mails
from mebae.recurring import EveryMonth
from mebae.store.database import Database
from mebae.store.migrate import migrate
from mebae.store.tables import JourneyRow
from mebae.timing import Duration
from tests.broadcasts import plan
from tests.house import FAST, LAYOUT, MAIL, House, house

HISTORIES = Path(__file__).parent / "histories"

Story = Callable[[House], Awaitable[JourneyRow]]


async def at_a_wait(mebae: House) -> JourneyRow:
    graph = await mebae.publish(Scenario("at-a-wait", steps=[send("hello"), wait(days(300)), send("again")]))
    row = await mebae.start(graph, await mebae.lead("a@aoba.example"))
    await mebae.resting_at("hello/wait")
    return row


async def at_a_second_wait(mebae: House) -> JourneyRow:
    """With a timer that fired, acts of every kind, a branch and a split behind it."""
    graph = await mebae.publish(
        Scenario(
            "at-a-second-wait",
            exits_when=lead.qualification == "sql",
            steps=[
                send("hello"),
                wait(hours(12)),
                tag("seen"),
                set_lead(plan="pro"),
                run("note"),
                branch(when(lead.score >= 50, [notify_sales("熱い")]), otherwise=[send("basics")]),
                split(share("a", 50, [send("again")]), share("b", 50, [send("other")])),
                wait(days(300), id="long"),
            ],
        )
    )
    row = await mebae.start(graph, await mebae.lead("b@aoba.example", score=60))
    await mebae.resting_at("long")
    return row


async def at_a_wait_for(mebae: House) -> JourneyRow:
    """Heard once, and nudged once more for something that is no longer waited for."""
    graph = await mebae.publish(
        Scenario(
            "at-a-wait-for",
            steps=[
                send("hello"),
                wait_for(on(visited("/pricing"), [send("prices")]), within=days(300), otherwise=[]),
                wait_for(
                    on(clicked("hello"), []), when(lead.score >= 90, []), within=days(300), otherwise=[], id="second"
                ),
            ],
        )
    )
    person = await mebae.lead("c@aoba.example")
    row = await mebae.start(graph, person)
    await mebae.resting_at("hello/wait_for")
    await mebae.event(person, "Page Viewed", path="/pricing")
    await mebae.event(person, "Page Viewed", path="/pricing")
    await mebae.resting_at("second")
    return row


async def at_a_wait_until(mebae: House) -> JourneyRow:
    graph = await mebae.publish(
        Scenario("at-a-wait-until", steps=[wait_until(entry.ends_at, plus=hours(1), id="seminar"), send("thanks")])
    )
    row = await mebae.start(graph, await mebae.lead("d@aoba.example"), ends_at="2035-04-01T15:00:00+09:00")
    await mebae.resting_at("seminar")
    return row


async def postponed(mebae: House) -> JourneyRow:
    mebae.relay.at_rcpt = lambda _to: "451 4.7.1 greylisted"
    graph = await mebae.publish(Scenario("postponed", steps=[send("hello"), wait(days(1)), send("again")]))
    row = await mebae.start(graph, await mebae.lead("e@aoba.example"))
    await mebae.resting_at("hello")
    return row


async def paused(mebae: House) -> JourneyRow:
    row = await at_a_wait(mebae)
    await mebae.quiet(row)
    await mebae.handle(row).execute_update(contracts.PAUSE)
    return row


async def resumed(mebae: House) -> JourneyRow:
    row = await paused(mebae)
    await mebae.handle(row).execute_update(contracts.RESUME)
    return row


async def continued_as_new(mebae: House) -> JourneyRow:
    graph = await mebae.publish(
        Scenario(
            "continued-as-new",
            steps=[
                send("hello"),
                wait_for(
                    on(clicked("hello"), [wait(days(300), id="long")]), within=hours(6), otherwise=[go_to("hello")]
                ),
            ],
        )
    )
    person = await mebae.lead("f@aoba.example")
    row = await mebae.start(graph, person)
    await mebae.until(lambda _rows: len(mebae.relay.mails) >= 12)
    await mebae.event(person, "Email Link Clicked", mail="hello")
    await mebae.resting_at("long")
    return row


async def at_a_hand_over(mebae: House) -> JourneyRow:
    """Accepted, on the way through that path, and back at the step; the scenario exits on what it waits for."""
    graph = await mebae.publish(
        Scenario(
            "at-a-hand-over",
            exits_when=lead.qualification == "sql",
            steps=[
                send("hello"),
                hand_to_sales(
                    "料金ページを閲覧", id="sales", accepted=[send("intro"), wait(hours(6)), go_to("sales")], sql=[send("thanks")]
                ),
                send("news"),
            ],
        )
    )
    row = await mebae.start(graph, await mebae.lead("g@aoba.example"))
    await mebae.resting_at("sales")
    said = Decision(Move.ACCEPT, "sales", "command")
    await mebae.database.write(decide, 1, said, mebae.now(), "Asia/Tokyo", mebae.settings.calendar())
    await mebae.resting_at("intro/wait")
    await mebae.resting_at("sales")
    return row


async def at_a_call(mebae: House) -> JourneyRow:
    """Nobody answered the telephone, so it is asked for a second time."""
    graph = await mebae.publish(
        Scenario("at-a-call", steps=[call_task("面談希望", id="call", within=days(300), no_answer=[wait(hours(12)), go_to("call")])])
    )
    row = await mebae.start(graph, await mebae.lead("h@aoba.example"))
    await mebae.resting_at("call")
    await mebae.database.write(done, 1, "no_answer", by="sales", how="command", now=mebae.now())
    await mebae.resting_at("call/wait")
    await mebae.resting_at("call")
    return row


STORIES: list[Story] = [
    at_a_wait, at_a_second_wait, at_a_wait_for, at_a_wait_until, postponed, paused, resumed, continued_as_new, at_a_hand_over,
    at_a_call,
]  # fmt: skip


async def broadcast_in_its_test(mebae: House) -> WorkflowHandle[Any, Any]:
    """It was paused and resumed, and waits for the end of its A/B test."""
    test = Ab(variants=(Variant(id="a", mail="news"), Variant(id="b", mail="short")), share=50, after=Duration(days=300))
    handle = await _broadcast(mebae, plan(ab=test))
    await _rests(handle, "test")
    await handle.execute_update(contracts.PAUSE)
    await handle.execute_update(contracts.RESUME)
    await _rests(handle, "test")
    return handle


async def broadcast_paused(mebae: House) -> WorkflowHandle[Any, Any]:
    """By local time, in the middle of its zones."""
    when = EveryMonth(day=1, at="10:00")
    handle = await _broadcast(mebae, plan(schedule=when, local_time=True, give_up_after=Duration(days=300)))
    await _rests(handle, "zone")
    await handle.execute_update(contracts.PAUSE)
    return handle


async def broadcast_continued_as_new(mebae: House) -> WorkflowHandle[Any, Any]:
    """Its mails find no mail server, again and again."""
    mebae.relay.at_rcpt = lambda _to: "451 4.7.1 greylisted"
    handle = await _broadcast(mebae, plan(give_up_after=Duration(days=3000)))
    await _rests(handle, "mail-server-unavailable")
    for _ in range(12):
        await handle.execute_update(contracts.PAUSE)
        await handle.execute_update(contracts.RESUME)
    await _rests(handle, "late")
    return handle


async def _broadcast(mebae: House, written: BroadcastPlan) -> WorkflowHandle[Any, Any]:
    def publish(session: Session) -> None:
        texts = {(name, ""): MAIL.format(name=name) for name in ("news", "short")}
        publish_mails(session, written.broadcast, texts, mebae.now())
        publish_layouts(session, {"default": LAYOUT}, mebae.now())

    for number in range(8):
        await mebae.lead(f"{number}@aoba.example")
    await mebae.database.write(publish)
    row = await mebae.database.write(request_run, written, "the-command", mebae.now())
    await start_run(mebae.client, row, mebae.clock)
    return mebae.client.get_workflow_handle(row.workflow_id)


async def _rests(handle: WorkflowHandle[Any, Any], why: str) -> None:
    async with asyncio.timeout(30):
        while (await handle.query(contracts.WHERE))["why"] != why:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)


BROADCASTS = [broadcast_in_its_test, broadcast_paused, broadcast_continued_as_new]


async def record(names: Sequence[str]) -> None:
    for story in (*STORIES, *BROADCASTS):
        if names and story.__name__ not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/mebae.db"
            migrate(url)
            database = Database(url)
            async with house(database, speed=FAST) as mebae:
                found = await story(mebae)
                if isinstance(found, JourneyRow) and story is not paused:
                    await mebae.quiet(found)
                await asyncio.sleep(0.3)
                handle = mebae.handle(found) if isinstance(found, JourneyRow) else found
                history = await handle.fetch_history()
                (HISTORIES / f"{story.__name__}.json").write_text(history.to_json() + "\n")
                print(f"{story.__name__}: {len(history.events)} events")
                if story is at_a_hand_over:
                    clock = await mebae.client.get_workflow_handle(contracts.handover_id(1)).fetch_history()
                    (HISTORIES / "handover.json").write_text(clock.to_json() + "\n")
            database.close()
    await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1:]))
