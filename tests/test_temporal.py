"""What Temporal holds of a journey: few events, nothing personal, everything that ops need."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError

from mebae import contracts
from mebae.authoring import (
    Scenario,
    clicked,
    days,
    end,
    entry,
    go_to,
    lead,
    minutes,
    notify_sales,
    on,
    send,
    visited,
    wait,
    wait_for,
)
from mebae.contracts import EndRequest
from mebae.store.database import Database, lock_lead
from tests.house import FAST, house, start_test_server

TWO_MAILS = Scenario("two-mails", title="二通", steps=[send("hello"), wait(days(1)), send("again")])


async def events_of(handle: WorkflowHandle[Any, Any]) -> list[Any]:
    return [event async for event in handle.fetch_history_events()]


async def test_start_mail_wait_mail_end_costs_22_events_and_5_kilobytes(sqlite_database: Database) -> None:
    async with house(sqlite_database, speed=FAST) as mebae:
        graph = await mebae.publish(TWO_MAILS)
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        await mebae.ended()
        handle = mebae.handle(row)
        await handle.result()
        history = await events_of(handle)
        kinds = Counter(type_name(event) for event in history)
        size = sum(event.ByteSize() for event in history) - len(graph.dump().encode())
        assert len(history) == 22, kinds
        assert size <= 5 * 1024, size


async def test_an_event_that_no_journey_listens_for_costs_no_history(sqlite_database: Database) -> None:
    async with house(sqlite_database) as mebae:
        graph = await mebae.publish(
            Scenario(
                "patient", steps=[send("hello"), wait_for(on(visited("/pricing"), []), within=days(7), otherwise=[])]
            )
        )
        lead = await mebae.lead("sato@aoba.example")
        row = await mebae.start(graph, lead)
        await mebae.resting_at("hello/wait_for")
        await mebae.quiet(row)
        before = len(await events_of(mebae.handle(row)))
        for number in range(20):
            await mebae.event(lead, "Page Viewed", path=f"/blog/{number}")
            await mebae.event(lead, "Something Else")
        await mebae.routed()
        assert len(await events_of(mebae.handle(row))) == before
        await mebae.event(lead, "Page Viewed", path="/pricing")
        await mebae.ended()


async def test_half_a_year_passes_in_a_second(sqlite_database: Database) -> None:
    """180 days on Temporal's own time-skipping test server: the journey's code does not know."""
    env = await start_test_server()
    try:
        async with house(sqlite_database, env=env) as mebae:
            graph = await mebae.publish(
                Scenario("long", steps=[send("hello"), wait(days(90)), send("again"), wait(days(90)), send("last")])
            )
            await mebae.start(graph, await mebae.lead("sato@aoba.example"))
            await mebae.resting_at("hello/wait")
            began = time.perf_counter()
            await env.sleep(timedelta(days=181))
            await mebae.ended()
            took = time.perf_counter() - began
            sent = [delivery.sent_at for delivery in await mebae.deliveries()]
            assert all(sent)
            assert sent[2] - sent[0] >= timedelta(days=180)  # type: ignore[operator]
            print(f"180 days took {took:.2f} s")
    finally:
        await env.shutdown()


async def test_temporal_holds_nothing_personal_not_even_of_a_failure(sqlite_database: Database) -> None:
    """The mail server names the lead in its refusal, and a key of the entry is personal too."""
    async with house(sqlite_database, speed=FAST) as mebae:
        mebae.relay.at_rcpt = lambda to: f"550 5.1.1 <{to}>: Kenji Sato is not here"
        graph = await mebae.publish(
            Scenario(
                "discreet",
                key=entry.note,
                exits_when=lead.qualification == "sql",
                steps=[
                    send("hello"),
                    wait_for(on(clicked("hello"), []), within=days(2), otherwise=[]),
                    notify_sales("ご連絡ください"),
                ],
            )
        )
        secrets = ["sato", "himitsu", "佐藤", "健二", "青葉", "aoba", "Kenji"]
        lead_id = await mebae.lead(
            "sato.himitsu@aoba.example",
            name="佐藤 健二",
            company="青葉精機",
            attributes={"first": "Kenji"},
            time_zone="Asia/Tokyo",
        )
        row = await mebae.start(graph, lead_id, note="himitsu no shiryo", email="sato.himitsu@aoba.example")
        await mebae.ended()
        handle = mebae.handle(row)
        seen = [MessageToJson(event, ensure_ascii=False) for event in await events_of(handle)]
        description = await handle.describe()
        seen.append(MessageToJson(description.raw_description, ensure_ascii=False))
        text = "\n".join(seen + [decoded(one) for one in seen])
        assert "recipient-refused" in text, "the failure is there, as a code"
        assert [secret for secret in secrets if secret in text] == []
        [mail, _] = await mebae.deliveries()
        assert "Kenji Sato" in (mail.raw or ""), "the ledger keeps what the server said"


async def test_an_activity_that_breaks_tells_temporal_a_code_only(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from activities import mail

    failures = iter([True])

    def broken(letter: Any, settings: Any) -> Any:
        if next(failures, False):
            raise RuntimeError(f"cannot send to {letter.to}") from ValueError(letter.to)
        return compose(letter, settings)

    compose = mail.compose
    monkeypatch.setattr(mail, "compose", broken)
    async with house(sqlite_database, speed=FAST) as mebae:
        graph = await mebae.publish(TWO_MAILS)
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        await mebae.until(lambda rows: rows[0].status == "resting")
        seen = [MessageToJson(event, ensure_ascii=False) for event in await events_of(mebae.handle(row))]
        text = "\n".join(seen + [decoded(one) for one in seen])
        assert "unexpected:RuntimeError" in text
        assert "sato" not in text


async def test_a_lead_who_becomes_sql_leaves_in_the_middle_of_a_wait(database: Database) -> None:
    async with house(database) as mebae:
        graph = await mebae.publish(
            Scenario(
                "exit", exits_when=lead.qualification == "sql", steps=[send("hello"), wait(days(30)), send("again")]
            )
        )
        person = await mebae.lead("sato@aoba.example")
        await mebae.start(graph, person)
        await mebae.resting_at("hello/wait")

        await mebae.database.write(set_column, person, "qualification", "sql")
        await mebae.event(person, "Lead Identified")
        [row] = await mebae.ended()
        assert (row.outcome, row.reason) == ("exited", "exits-when")
        assert mebae.relay.subjects() == ["hello"]


async def test_a_long_journey_continues_as_new_and_forgets_nothing(sqlite_database: Database) -> None:
    """A loop of mails: visits, marks and the wait go on in the next run."""
    async with house(sqlite_database, speed=FAST * 10) as mebae:
        graph = await mebae.publish(
            Scenario(
                "loop",
                steps=[
                    send("hello"),
                    wait_for(on(clicked("hello"), [end("clicked")]), within=days(1), otherwise=[go_to("hello")]),
                ],
            )
        )
        lead_id = await mebae.lead("sato@aoba.example")
        row = await mebae.start(graph, lead_id)
        await mebae.until(lambda _rows: len(mebae.relay.mails) >= 14)
        handle = mebae.handle(row)
        description = await handle.describe()
        first_run = (await mebae.client.get_workflow_handle(handle.id).describe()).raw_description
        assert first_run.workflow_execution_info.first_run_id != description.run_id, "it was continued as new"
        where = await handle.query(contracts.WHERE)
        assert where["visits"]["hello"] >= 13
        assert description.typed_search_attributes, "search attributes stay"
        # It listens for a tenth of a second a turn, and a click between two waits is no answer to either.
        async with asyncio.timeout(30):
            while (await mebae.rows())[0].status != "ended":
                await mebae.event(lead_id, "Email Link Clicked", mail="hello")
                await asyncio.sleep(0.05)
        [ended] = await mebae.rows()
        assert ended.outcome == "clicked"
        visits = [delivery.visit for delivery in await mebae.deliveries()]
        assert visits == list(range(1, len(visits) + 1)), "no mail twice for one visit"


async def test_ops_pause_resume_and_end_a_journey(sqlite_database: Database) -> None:
    async with house(sqlite_database, speed=FAST) as mebae:
        graph = await mebae.publish(
            Scenario("steered", steps=[send("hello"), wait(days(1)), send("again"), wait(days(300)), send("never")])
        )
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        await mebae.resting_at("hello/wait")
        handle = mebae.handle(row)
        await handle.execute_update(contracts.PAUSE)
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update(contracts.PAUSE)
        await asyncio.sleep(2)
        assert mebae.relay.subjects() == ["hello"], "a paused journey sends nothing"
        await handle.execute_update(contracts.RESUME)
        await mebae.resting_at("again/wait")
        assert mebae.relay.subjects() == ["hello", "again"]
        await handle.execute_update(contracts.END, EndRequest(outcome="moved-away"))
        [ended] = await mebae.ended()
        assert (ended.outcome, await handle.result()) == ("moved-away", "moved-away")


async def test_ops_see_where_a_journey_is(sqlite_database: Database) -> None:
    async with house(sqlite_database) as mebae:
        graph = await mebae.publish(
            Scenario(
                "seen",
                title="見える化",
                steps=[send("hello"), wait_for(on(visited("/pricing"), []), within=days(7), otherwise=[])],
            )
        )
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example", stage="interest"))
        await mebae.resting_at("hello/wait_for")
        await mebae.quiet(row)
        handle = mebae.handle(row)
        description = await handle.describe()
        attributes = {pair.key.name: pair.value for pair in description.typed_search_attributes}
        del attributes["BuildIds"]
        assert attributes == {
            "Scenario": "seen", "Version": graph.version, "Step": "hello/wait_for", "WaitingFor": "Page Viewed",
            "Stage": "interest", "LeadId": 1, "Paused": False,
        }  # fmt: skip
        details = await handle.query("__temporal_workflow_metadata")
        assert "見える化" in details.current_details
        assert "`hello/wait_for`" in details.current_details


async def test_an_end_after_minutes_is_no_error(sqlite_database: Database) -> None:
    async with house(sqlite_database, speed=FAST) as mebae:
        graph = await mebae.publish(Scenario("short", steps=[wait(minutes(5)), end("done")]))
        await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        [row] = await mebae.ended()
        assert row.outcome == "done"


def set_column(session: Any, lead_id: int, name: str, value: Any) -> None:
    setattr(lock_lead(session, lead_id), name, value)


def type_name(event: Any) -> str:
    return str(event.WhichOneof("attributes")).removesuffix("_event_attributes")


def decoded(text: str) -> str:
    """Payloads are base64 in the JSON of a history."""
    blobs = re.findall(r'"data": "([A-Za-z0-9+/=]+)"', text)
    return "\n".join(base64.b64decode(blob).decode("utf-8", "replace") for blob in blobs)
