"""A journey that asks something of sales: handed over once, answered by its own hand-over only; on both databases."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlmodel import Session, col, select

from mebae import calling, handing, resting
from mebae.authoring import (
    Scenario,
    call_task,
    days,
    end,
    go_to,
    hand_to_sales,
    hours,
    lead,
    on,
    send,
    visited,
    wait_for,
)
from mebae.compiling import compile_scenario
from mebae.errors import ScenarioError
from mebae.graph import Graph, HandToSales
from mebae.handing import Decision
from mebae.handover import Move
from mebae.journey import Exited, Heard, Marks, Passed, Resting, Settling
from mebae.router import route
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Call, Event, Handover, JourneyRow, Lead, Nudge, Telling
from mebae.timing import Calendar
from tests.leads import NOW, publish_scenario

AT = resting.Setting("Asia/Tokyo", Calendar())
DAY = timedelta(days=1)

HANDS_OVER = Scenario(
    "hands-over",
    exits_when=lead.qualification == "sql",
    steps=[
        hand_to_sales(
            "料金ページを閲覧", id="sales",
            accepted=[send("intro"), go_to("sales")], sql=[send("thanks"), end("sql")], returned=[send("offer")],
        ),
        end("done"),
    ],
)  # fmt: skip
CALLS = Scenario(
    "calls",
    steps=[call_task("面談希望", id="call", due=hours(4), appointment=[end("appointment")], expired=[end("nobody")], within=days(5))],
)


def entered(database: Database, graph: Graph, email: str = "sato@aoba.example", lead_id: int | None = None) -> tuple[int, int]:
    """A lead on its journey, and its entry."""

    def write(session: Session) -> tuple[int, int]:
        one = session.get(Lead, lead_id) if lead_id is not None else None
        if one is None:
            one = Lead(email=email, name="佐藤", created_at=NOW, updated_at=NOW)
            session.add(one)
            session.flush()
        row = JourneyRow(
            cause=f"command:{graph.scenario}:{one.id}", scenario=graph.scenario, version=graph.version, lead_id=one.id or 0,
            status="running", step=graph.start, entered_at=NOW,
        )  # fmt: skip
        session.add(row)
        session.flush()
        return one.id or 0, row.entry or 0

    return database.write_now(write)


def settle(database: Database, entry: int, step: str = "sales", now: datetime = NOW, **ask: object) -> object:
    def write(session: Session) -> object:
        place = resting.take(session, entry, turn=0)
        if not isinstance(place, resting.Place):
            return place
        return resting.settle(session, place, Settling(step, **({"marks": Marks()} | ask)), now, AT)  # type: ignore[arg-type]

    return database.write_now(write)


def say(database: Database, move: Move, now: datetime = NOW, handover: int = 1, **more: object) -> None:
    said = Decision(move, **({"by": "sales", "how": "command"} | more))  # type: ignore[arg-type]
    database.write_now(handing.decide, handover, said, now, "Asia/Tokyo", Calendar())


def handovers(database: Database) -> list[Handover]:
    return database.read_now(lambda session: list(session.exec(select(Handover).order_by(col(Handover.id)))))


def seq(database: Database, name: str) -> int:
    return database.read_now(lambda session: session.exec(select(Event.seq).where(Event.name == name)).one())


def test_a_journey_that_comes_to_a_hand_over_opens_it_once_however_often_it_is_asked(database: Database) -> None:
    graph = publish_scenario(database, HANDS_OVER)
    _, entry = entered(database, graph)
    for _ in range(3):  # an answer that was lost is asked for again
        assert isinstance(settle(database, entry), Resting)
    [given] = handovers(database)
    assert (given.cause, given.scope, given.why) == (f"step:{entry}:sales:1", "hands-over", "料金ページを閲覧")


def test_a_decision_wakes_the_journey_and_opens_its_path_before_exits_when_is_asked(database: Database) -> None:
    graph = publish_scenario(database, HANDS_OVER)
    _, entry = entered(database, graph)
    settle(database, entry)
    database.write_now(route, now=NOW, zone="Asia/Tokyo")
    say(database, Move.ACCEPT)
    say(database, Move.SQL)
    database.write_now(route, now=NOW, zone="Asia/Tokyo")
    nudges = database.read_now(lambda session: [one.trigger for one in session.exec(select(Nudge).order_by(col(Nudge.id)))])
    assert {"sales:accepted", "sales:sql", "exit"} <= set(nudges)
    # It is an SQL, on which the scenario exits; the path of what it had not heard yet comes first, in order.
    accepted = settle(database, entry, since=NOW)
    assert accepted == Heard("sales:accepted", seq(database, "Handover Accepted"))
    again = settle(database, entry, visit=2, marks=Marks(heard=accepted.seq))  # type: ignore[union-attr]
    assert again == Heard("sales:sql", seq(database, "Sales Qualified"))
    assert settle(database, entry, visit=3, marks=Marks(heard=again.seq)) == Exited("exits-when")  # there is no more to hear


def test_in_the_path_of_an_outcome_the_way_back_to_the_hand_over_hears_what_came_meanwhile(database: Database) -> None:
    graph = publish_scenario(database, HANDS_OVER)
    _, entry = entered(database, graph)
    settle(database, entry)
    say(database, Move.ACCEPT)
    heard = settle(database, entry, since=NOW)
    assert isinstance(heard, Heard)
    assert isinstance(settle(database, entry, visit=2, marks=Marks(heard=heard.seq)), Resting)  # accepted is no news
    say(database, Move.SQL)
    assert settle(database, entry, visit=2, since=NOW, marks=Marks(heard=heard.seq)) == Heard("sales:sql", seq(database, "Sales Qualified"))
    assert len(handovers(database)) == 1


def test_a_second_scenario_joins_and_hears_how_it_stands(database: Database) -> None:
    first, second = publish_scenario(database, HANDS_OVER), publish_scenario(
        database, Scenario("second", steps=[hand_to_sales("資料", id="sales", accepted=[end("taken")])])
    )  # fmt: skip
    one, entry = entered(database, first)
    settle(database, entry)
    say(database, Move.ACCEPT)
    _, other = entered(database, second, lead_id=one)
    assert settle(database, other) == Heard("sales:accepted", seq(database, "Handover Accepted"))
    assert len(handovers(database)) == 1


def test_another_hand_over_of_the_same_lead_answers_nobody(database: Database) -> None:
    graph = publish_scenario(database, HANDS_OVER)
    one, entry = entered(database, graph)
    settle(database, entry)
    say(database, Move.RETURN, reason="other")

    def again(session: Session) -> None:
        locked = lock_lead(session, one)
        assert locked is not None
        handing.open_or_join(session, locked, handing.Why("command:x", "command"), NOW + DAY, "Asia/Tokyo", Calendar())

    database.write_now(again)
    say(database, Move.REJECT, handover=2, reason="other")
    assert settle(database, entry, since=NOW) == Heard("sales:returned", seq(database, "Handover Returned"))


def test_a_call_is_due_in_business_hours_and_its_outcome_is_a_path_and_an_event(database: Database) -> None:
    graph = publish_scenario(database, CALLS)
    one, entry = entered(database, graph)
    assert isinstance(settle(database, entry, "call"), Resting)
    assert isinstance(settle(database, entry, "call"), Resting)
    [call] = database.read_now(lambda session: list(session.exec(select(Call))))
    assert (call.due_at, call.owner) == (NOW + 4 * timedelta(hours=1), "sales")
    row, changed = database.write_now(calling.done, call.id or 0, "appointment", by="sales", how="command", now=NOW)
    assert changed
    assert not database.write_now(calling.done, call.id or 0, "appointment", by="sales", how="command", now=NOW)[1]
    assert settle(database, entry, "call", since=NOW) == Heard("call:appointment", row.seq or 0)
    found = database.read_now(lambda session: session.get_one(Lead, one))
    assert found.contacted_at == NOW
    assert database.read_now(lambda session: [one.status for one in session.exec(select(Telling))]) == ["dropped"]


def test_a_call_that_nobody_makes_is_asked_for_no_more(database: Database) -> None:
    graph = publish_scenario(database, CALLS)
    _, entry = entered(database, graph)
    settle(database, entry, "call")
    assert isinstance(settle(database, entry, "call", now=NOW + 6 * DAY, since=NOW), Passed)
    assert database.read_now(lambda session: session.exec(select(Call.status)).one()) == "expired"


def test_the_graph_knows_which_steps_a_path_holds_and_only_then_has_the_newer_format(sqlite_database: Database) -> None:
    graph = publish_scenario(sqlite_database, HANDS_OVER)
    step = graph.step("sales")
    assert isinstance(step, HandToSales)
    assert step.inside == ("intro", "thanks", "offer")
    assert [(path.outcome, path.to) for path in step.paths] == [("accepted", "intro"), ("sql", "thanks"), ("returned", "offer")]
    assert graph.format == 2
    assert Graph.load(graph.dump()) == graph
    assert compile_scenario(Scenario("plain", steps=[send("hello")]), file="x", mails=None).format == 1


def test_a_path_that_can_never_be_taken_is_refused_with_the_cure() -> None:
    hidden = Scenario("hidden", steps=[hand_to_sales("x", id="sales", accepted=[send("intro")], sql=[end("sql")], won=[end("won")])])
    with pytest.raises(ScenarioError) as refused:
        compile_scenario(hidden, file="x", mails=None)
    assert [one.message.partition(",")[0] for one in refused.value.problems] == ["accepted= ends this step", "sql= ends this step"]
    assert 'go_to("sales")' in refused.value.problems[0].message
    with pytest.raises(ScenarioError, match="sales wants to know why"):
        compile_scenario(Scenario("silent", steps=[hand_to_sales(" ")]), file="x", mails=None)


def test_a_hand_over_in_a_loop_slows_it() -> None:
    loop = Scenario("loop", steps=[hand_to_sales("x", id="sales", returned=[wait_for(on(visited()), within=days(9)), go_to("sales")])])
    assert compile_scenario(loop, file="x", mails=None).has("sales/wait_for")
