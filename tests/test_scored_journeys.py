"""Journeys that live on what becomes of a lead: they start on a stage, wait for a qualification, leave when a score has faded."""

from __future__ import annotations

from datetime import timedelta

from mebae.authoring import (
    Scenario,
    branch,
    days,
    end,
    lead,
    notify_sales,
    on,
    qualified,
    send,
    stage_reached,
    wait,
    wait_for,
    when,
)
from mebae.store.database import Database
from tests.house import FAST, house
from tests.test_lead_scoring import publish as publish_scoring


async def test_a_journey_starts_on_a_stage_and_waits_for_the_mql(database: Database) -> None:
    publish_scoring(database)
    scenario = Scenario(
        "warm-up",
        enters_on=stage_reached("interest"),
        steps=[
            send("case"),
            wait_for(on(qualified("mql"), [notify_sales("MQLになりました"), end("mql")]), within=days(30), otherwise=[end("cold")]),
        ],
    )
    async with house(database, speed=FAST / 24) as mebae:
        await mebae.publish(scenario)
        sato = await mebae.lead("sato@aoba.example", title="部長")
        await mebae.event(sato, "Content Downloaded", content="whitepaper-1")
        await mebae.routed()
        assert await mebae.rows(sato) == [], "40 points: still awareness"

        await mebae.event(sato, "Page Viewed", path="/pricing")
        await mebae.resting_at("case/wait_for", sato)
        await mebae.event(sato, "Seminar Attended", seminar="spring")
        [row] = await mebae.ended(sato)
        assert row.outcome == "mql"
        assert mebae.relay.subjects()[0] == "case"
        assert len(mebae.relay.mails) == 2


async def test_a_journey_leaves_in_the_middle_of_a_wait_when_the_score_has_faded(database: Database) -> None:
    """No event comes: the moment at which the score falls below 60 is computed, and the journey wakes then."""
    publish_scoring(database)
    scenario = Scenario(
        "while-warm",
        enters_on=stage_reached(),
        exits_when=lead.score < 60,
        steps=[send("case"), wait(days(300)), send("late")],
    )
    async with house(database, speed=FAST * 15) as mebae:
        await mebae.publish(scenario)
        sato = await mebae.lead("sato@aoba.example", title="部長")
        await mebae.event(sato, "Content Downloaded", content="whitepaper-1")
        await mebae.event(sato, "Page Viewed", path="/pricing")
        [row] = await mebae.ended(sato, seconds=60)
        assert (row.outcome, row.reason) == ("exited", "exits-when")
        assert row.ended_at is not None
        # 20 points stay; the other 50 are 40 after 90 · log2(50/40) = 29 days.
        assert timedelta(days=15) < row.ended_at - row.entered_at < timedelta(days=120)
        assert mebae.relay.subjects() == ["case"]


async def test_a_branch_asks_for_the_score_of_that_moment(database: Database) -> None:
    publish_scoring(database)
    scenario = Scenario(
        "later",
        enters_on=stage_reached("interest"),
        steps=[wait(days(90)), branch(when(lead.score >= 50, [send("warm")]), otherwise=[send("cooled")])],
    )
    async with house(database, speed=FAST * 30) as mebae:
        await mebae.publish(scenario)
        sato = await mebae.lead("sato@aoba.example", title="部長")
        await mebae.event(sato, "Content Downloaded", content="whitepaper-1")
        await mebae.event(sato, "Page Viewed", path="/pricing")
        await mebae.ended(sato)
        assert mebae.relay.subjects() == ["cooled"]
