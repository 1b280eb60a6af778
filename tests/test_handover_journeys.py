"""Hand-overs on a real Temporal: the clocks run, a decision wakes the journey, and marketing mail waits meanwhile."""

from __future__ import annotations

import asyncio

from sqlmodel import Session, select

from mebae import handing
from mebae.authoring import Scenario, days, end, hand_to_sales, hours, lead, send, wait
from mebae.handing import Decision
from mebae.handover import Move
from mebae.store.database import Database
from mebae.store.tables import Event, Handover, Lead
from tests.house import FAST, House, house

HANDS_OVER = Scenario(
    "hands-over",
    exits_when=lead.qualification == "sql",
    steps=[
        send("hello"),
        hand_to_sales("料金ページを閲覧", id="sales", sql=[send("thanks"), end("sql")], expired=[end("expired")], returned=[send("offer")]),
        end("done"),
    ],
)


async def decide(mebae: House, move: Move, handover: int = 1, **more: object) -> None:
    said = Decision(move, **({"by": "sales", "how": "command"} | more))  # type: ignore[arg-type]
    await mebae.database.write(handing.decide, handover, said, mebae.now(), "Asia/Tokyo", mebae.settings.calendar())


async def the_handover(mebae: House) -> Handover:
    return await mebae.database.read(lambda session: session.exec(select(Handover)).one())


async def test_nobody_answers_and_the_lead_comes_back_by_the_clock(sqlite_database: Database) -> None:
    """Given a lead that was handed over; when sales says nothing, it is reminded, escalated and expires, and the journey goes on."""
    async with house(sqlite_database, speed=FAST) as mebae:
        graph = await mebae.publish(HANDS_OVER)
        one = await mebae.lead("sato@aoba.example")
        await mebae.start(graph, one)
        [row] = await mebae.ended(one, seconds=60)
        assert row.outcome == "expired"
        given = await the_handover(mebae)
        assert (given.status, given.reminders, given.escalations) == ("expired", 1, 1)
        names = await mebae.database.read(lambda session: list(session.exec(select(Event.name).where(Event.lead_id == one))))
        assert names.count("Handover Expired") == 1
        assert (await mebae.database.read(lambda session: session.get_one(Lead, one))).qualification == "none"


async def test_sql_opens_its_path_though_the_scenario_exits_on_sql(database: Database) -> None:
    async with house(database) as mebae:
        graph = await mebae.publish(HANDS_OVER)
        one = await mebae.lead("sato@aoba.example")
        await mebae.start(graph, one)
        await mebae.resting_at("sales", one)
        await decide(mebae, Move.ACCEPT)
        await decide(mebae, Move.SQL)
        [row] = await mebae.ended(one)
        assert row.outcome == "sql"
        assert mebae.relay.subjects() == ["hello", "thanks"]
        async with asyncio.timeout(20):  # the clock's workflow has nothing more to wait for
            while (given := await the_handover(mebae)).told < given.version:
                await asyncio.sleep(0.05)
            assert await mebae.client.get_workflow_handle("handover/1").result() == "over"


async def test_marketing_mail_of_another_scenario_waits_while_the_lead_is_with_sales(sqlite_database: Database) -> None:
    async with house(sqlite_database, speed=FAST) as mebae:
        await mebae.publish(HANDS_OVER)
        news = await mebae.publish(Scenario("news", steps=[wait(hours(1)), send("news"), wait(days(300))]))
        one = await mebae.lead("sato@aoba.example")

        def give(session: Session) -> None:
            locked = session.get_one(Lead, one)
            handing.open_or_join(session, locked, handing.Why("command:1", "command"), mebae.now(), "Asia/Tokyo", mebae.settings.calendar())

        await mebae.database.write(give)
        await mebae.start(news, one)
        await mebae.until(lambda rows: rows[0].waiting_for == "postponed", one)
        await decide(mebae, Move.REJECT, reason="other")
        await mebae.resting_at("news/wait", one)
        assert mebae.relay.subjects() == ["news"]
