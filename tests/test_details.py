"""What ops read in the Temporal UI of a scored lead: the score, its main rules, the stage; nothing of the lead itself."""

from __future__ import annotations

from typing import Any

from temporalio.api.sdk.v1 import WorkflowMetadata

from mebae.authoring import Scenario, days, send, wait
from mebae.journey import JourneyState
from mebae.store.database import Database
from tests.house import FAST, House, house
from tests.leads import SATO, Diary, publish_model
from workflows.details import SUMMARY, step_summary


async def scored(mebae: House) -> int:
    """Somebody with 35 points for what it is, and a paper that was downloaded just now."""
    publish_model(mebae.database, now=mebae.now())
    diary = Diary(mebae.database, now=mebae.now())
    number = diary.is_someone(name="佐藤 健二", title="部長", industry="製造業", phone="03-0000-0000")
    diary.does("Content Downloaded", content="whitepaper-1")
    return number


def summaries(history: list[Any]) -> list[str]:
    return [text for event in history if (text := event.user_metadata.summary.data.decode().strip('"'))]


async def test_the_current_details_show_the_score_with_its_rules_and_the_stage(sqlite_database: Database) -> None:
    async with house(sqlite_database) as mebae:
        number = await scored(mebae)
        graph = await mebae.publish(Scenario("patient", steps=[send("hello"), wait(days(30)), send("again")]))
        row = await mebae.start(graph, number)
        await mebae.resting_at("hello/wait")
        await mebae.quiet(row)
        metadata = await mebae.handle(row).query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        shown = metadata.current_details
        assert "- **Stage**: interest" in shown
        assert "- **Score**: 54 (" in shown
        assert "部長以上 20" in shown
        assert "ターゲット業種 15" in shown
        assert "ホワイトペーパー 20" in shown
        for personal in ("佐藤", SATO, "03-0000", "aoba"):
            assert personal not in shown


async def test_a_scored_lead_costs_no_event_more_and_later_activities_say_how_it_stood(sqlite_database: Database) -> None:
    async with house(sqlite_database, speed=FAST) as mebae:
        number = await scored(mebae)
        graph = await mebae.publish(Scenario("two-mails", steps=[send("hello"), wait(days(1)), send("again")]))
        row = await mebae.start(graph, number)
        await mebae.ended()
        handle = mebae.handle(row)
        await handle.result()
        history = [event async for event in handle.fetch_history_events()]
        said = summaries(history)
        size = sum(event.ByteSize() for event in history) - len(graph.dump().encode())
        print(f"{size} bytes beyond the graph")
    assert len(history) == 22
    assert size <= 5 * 1024, size
    assert "hello" in said
    assert said[-1].startswith("again · interest · 54 (")
    assert not [text for text in said if "佐藤" in text or SATO in text]


def test_a_summary_stays_below_what_temporal_takes() -> None:
    state = JourneyState(lead=1, step="a", stage="検討", score="97 (" + "長" * 300)
    assert len(step_summary("a", state).encode()) <= SUMMARY
    assert step_summary("a", JourneyState(lead=1, step="a")) == "a"


