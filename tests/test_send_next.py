"""Leads that get the next thing they have not had: of a series, or of the catalogue."""

from __future__ import annotations

from typing import cast

import pytest
from sqlmodel import Session
from temporalio.client import Client

from activities.mail import MailActivities
from mebae import ledger, resting
from mebae.authoring import Scenario, downloaded, end, go_to, minutes, send_next, wait
from mebae.compiling import compile_scenario
from mebae.content import Piece
from mebae.contracts import StepInput
from mebae.errors import AuthoringError, ScenarioError
from mebae.graph import Graph, Send, targets
from mebae.journey import NOTHING_LEFT, Act, Done, Finish, Journey, Refused, Rest, Resting
from mebae.mail.transport import Transport
from mebae.mail.wiring import mail_settings
from mebae.mailing import MailRules
from mebae.resting import Place, Setting
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.timing import Calendar
from mebae.vocabulary import Vocabulary
from mebae.words import DeliveryKind
from tests.house import FAST, LAWFUL, House, Relay, house
from tests.leads import NOW

TIPS = Scenario(
    "tips",
    enters_on=downloaded(),
    re_enter="always",
    steps=[send_next("tip-1", "tip-2", id="tip", otherwise=[end("all-sent")]), wait(minutes(5)), go_to("tip")],
)
MAILS = ["tip-1", "tip-2"]


def compiled(scenario: Scenario, known: Vocabulary | None = None) -> Graph:
    return compile_scenario(scenario, file="x/scenario.py", mails=None, known=known)


# The graph and the core ------------------------------------------------------------------------------------------------


def test_the_way_out_of_a_series_is_a_path_of_its_own() -> None:
    step = compiled(TIPS).step("tip")
    assert isinstance(step, Send)
    assert targets(step) == ("end/all-sent", "tip/wait")


def test_a_graph_with_a_series_is_of_the_new_format_and_survives_being_stored() -> None:
    graph = compiled(TIPS)
    assert graph.format == 2
    assert Graph.load(graph.dump()).version == graph.version


def test_a_lead_that_has_had_all_leaves_the_loop() -> None:
    journey = Journey.begin(compiled(TIPS), 1)
    act = journey.next()
    assert isinstance(act, Act)
    rest = journey.next(Done(mark=1, then=Resting(NOW, NOW, NOW)))
    assert isinstance(rest, Rest)
    journey.state.phase, journey.state.step = "ready", "tip"
    journey.state.visits["tip"] = 2

    assert journey.next(Refused(NOTHING_LEFT)) == Finish("all-sent")
    assert journey.state.refused == 0


def test_without_a_way_of_its_own_the_journey_goes_straight_on() -> None:
    journey = Journey.begin(compiled(Scenario("s", steps=[send_next("a", id="tip"), end("over")])), 1)
    journey.next()
    assert journey.next(Refused(NOTHING_LEFT)) == Finish("over")


# What an author is told ------------------------------------------------------------------------------------------------


def test_a_series_and_the_catalogue_are_two_ways() -> None:
    with pytest.raises(AuthoringError, match="write the mails of a series"):
        send_next("tip-1", mail="recommendation", id="x")
    with pytest.raises(AuthoringError, match="choose from the catalogue"):
        send_next("tip-1", topic="cost", id="x")


def test_slips_are_told_all_at_once() -> None:
    wrong = Scenario(
        "s", steps=[send_next("a", "a", id="one"), send_next(mail="m", topic="csot", stage="interst", id="two"), send_next("b")]
    )
    with pytest.raises(ScenarioError) as refused:
        compiled(wrong, Vocabulary(topics=("cost",), pieces=()))
    told = str(refused.value)
    for words in ("holds 'a' twice", "did you mean 'cost'?", "did you mean 'interest'?", "needs a catalogue", "needs a name of its own"):
        assert words in told


# On a real Temporal ----------------------------------------------------------------------------------------------------


async def test_a_lead_gets_each_tip_once_also_when_it_enters_again(sqlite_database: Database) -> None:
    async with house(sqlite_database, speed=FAST) as mebae:
        await mebae.publish(TIPS, MAILS)
        lead = await mebae.lead("sato@aoba.example")
        await mebae.event(lead, "Content Downloaded", content="a")
        [first] = await mebae.ended(lead)
        await mebae.event(lead, "Content Downloaded", content="b")
        rows = await mebae.until(lambda rows: len(rows) == 2 and all(row.status == "ended" for row in rows), lead)

        assert first.outcome == "all-sent"
        assert rows[1].outcome == "all-sent"
        assert [mail["Subject"] for mail in mebae.relay.mails] == ["tip-1", "tip-2"]
        assert [(one.mail, one.status) for one in await mebae.deliveries()] == [("tip-1", "sent"), ("tip-2", "sent")]


PIECES = tuple(
    Piece(id, {"ja": id}, {"ja": f"https://example.com/{id}"}, industries=industries)
    for id, industries in (("basics", ()), ("case-mfg", ("manufacturing",)), ("case-build", ("construction",)))
)
NEXT = Scenario(
    "next",
    enters_on=downloaded(),
    steps=[
        send_next(mail="recommendation", id="piece", otherwise=[end("all-read")]),
        wait(minutes(5)),
        go_to("piece"),
    ],
)


async def test_a_lead_gets_the_pieces_that_suit_it_and_that_it_has_not_read(sqlite_database: Database) -> None:
    rules = MailRules(catalogue=PIECES)
    async with house(sqlite_database, speed=FAST, rules=rules) as mebae:
        body = "{{ piece.title }}: <{{ piece.link }}>{% for one in related %} +{{ one.title }}{% endfor %}"
        await mebae.publish(NEXT, recommendation=body)
        lead = await mebae.lead("sato@aoba.example", industry_group="manufacturing")
        await mebae.event(lead, "Content Downloaded", content="whitepaper-1")
        [row] = await mebae.ended(lead)

        assert row.outcome == "all-read"
        assert [one.piece for one in await mebae.deliveries()] == ["case-mfg", "basics"]
        first, last = (mail.get_body(("plain",)).get_content() for mail in mebae.relay.mails)
        assert "case-mfg: " in first
        assert "+basics" in first
        assert "+" not in last


async def test_what_an_attempt_has_chosen_the_next_attempt_sends(database: Database) -> None:
    """What was claimed is not new any more, and yet is what must be sent."""
    mebae = House(database, cast(Client, None), Relay(), Settings())
    graph = await mebae.publish(TIPS, MAILS)
    row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
    assert row.entry is not None
    sends = MailActivities(database, cast(Transport, None), Setting("Asia/Tokyo", Calendar()), mail_settings(Settings(**LAWFUL)))

    def choose(session: Session, visit: int) -> tuple[str, str | None] | None:
        assert row.entry is not None
        place, request = resting.take(session, row.entry, 0), StepInput(entry=row.entry, step="tip", visit=visit)
        assert isinstance(place, Place)
        chosen = sends._choose(session, place, request, NOW)
        if chosen is not None:
            ledger.claim(
                session, place, request, kind=DeliveryKind.MARKETING, mail=chosen[0], domain="x.example", policy="hold", now=NOW
            )
        return chosen

    chosen = [database.write_now(choose, visit) for visit in (1, 1, 2, 2, 3)]
    assert chosen == [("tip-1", None), ("tip-1", None), ("tip-2", None), ("tip-2", None), None]
