"""Leads' stories on a real Temporal server, with real mail and a real database."""

from __future__ import annotations

from mebae.authoring import (
    Scenario,
    branch,
    clicked,
    days,
    downloaded,
    end,
    lead,
    notify_sales,
    on,
    send,
    visited,
    wait,
    wait_for,
    when,
)
from mebae.store.database import Database
from tests.house import FAST, house


def follow_up() -> Scenario:
    return Scenario(
        "follow-up",
        title="資料DL後フォロー",
        enters_on=downloaded("whitepaper-*"),
        exits_when=lead.qualification == "sql",
        steps=[
            send("thanks"),
            wait(days(3)),
            branch(when(lead.score >= 50, [send("case")]), otherwise=[send("basics")]),
            wait_for(
                on(visited("/pricing"), [notify_sales("料金ページを閲覧"), end("told")]),
                on(clicked("thanks"), [send("demo")]),
                within=days(7),
                otherwise=[send("seminar")],
            ),
        ],
    )


async def test_a_lead_who_looks_at_prices_is_told_to_sales(database: Database) -> None:
    async with house(database, speed=FAST) as mebae:
        await mebae.publish(follow_up())
        lead = await mebae.lead("sato@aoba.example", score=70)
        await mebae.event(lead, "Content Downloaded", content="whitepaper-1")
        await mebae.resting_at("thanks/wait_for", lead)
        await mebae.event(lead, "Page Viewed", path="/pricing")
        [row] = await mebae.ended(lead)
        assert row.outcome == "told"
        assert mebae.relay.subjects()[:2] == ["thanks", "case"]
        assert "佐藤 健二" in mebae.relay.subjects()[2]
        assert [str(d.status) for d in await mebae.deliveries()] == ["sent"] * 3
