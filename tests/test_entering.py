"""The one door into a scenario: who enters, who is refused and why. Every answer is a row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any, cast

from sqlmodel import Session, col, select, update
from temporalio.client import Client

from mebae.authoring import Scenario, after, days, downloaded, entry, lead, send
from mebae.entering import enter, request_entry
from mebae.graph import Graph
from mebae.router import route
from mebae.settings import Settings
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Event, JourneyRow
from mebae.words import JourneyStatus
from tests.house import House, Relay, store_event

NOON = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
TOKYO = "Asia/Tokyo"


def scenario(**how: Any) -> Scenario:
    return Scenario("follow-up", enters_on=downloaded("whitepaper-*"), steps=[send("thanks")], **how)


class Door:
    """A lead before a scenario's door, and the days that pass. No Temporal: an entry is a row."""

    def __init__(self, database: Database) -> None:
        self.database, self.now = database, NOON
        self._house = House(database, cast(Client, None), Relay(), Settings())
        self._downloads = 0

    async def publish(self, **how: Any) -> Graph:
        return await self._house.publish(scenario(**how))

    async def lead(self, email: str = "sato@aoba.example", **columns: Any) -> int:
        return await self._house.lead(email, **columns)

    def download(self, who: int, content: str | None = "whitepaper-1", **more: Any) -> int:
        """A download is stored and routed; the event's number."""
        self._downloads += 1
        properties = more | ({"content": content} if content is not None else {})
        event = self.database.write_now(
            store_event, who, f"d-{self._downloads}", "Content Downloaded", properties, self.now
        )
        while self.database.write_now(route, now=self.now, zone=TOKYO):
            pass
        return event

    def end(self, row: JourneyRow) -> None:
        """The journey ends, a day later."""
        self.now += timedelta(days=1)

        def ended(session: Session) -> None:
            session.execute(
                update(JourneyRow)
                .where(col(JourneyRow.entry) == row.entry)
                .values(status=JourneyStatus.ENDED, outcome="completed", ended_at=self.now)
            )

        self.database.write_now(ended)

    def rows(self) -> list[JourneyRow]:
        return self.database.write_now(lambda s: list(s.exec(select(JourneyRow).order_by(col(JourneyRow.entry)))))

    def answers(self) -> list[str]:
        """What became of each try to enter: `starting`, `ended`, or the reason of the refusal."""
        return [row.reason if row.status == "refused" and row.reason else row.status for row in self.rows()]


# Again? --------------------------------------------------------------------------------------------------------------


async def test_a_lead_enters_once_and_never_again_by_default(database: Database) -> None:
    door = Door(database)
    await door.publish()
    sato = await door.lead()
    door.download(sato)
    door.download(sato)
    assert door.answers() == ["starting", "under-way"]
    door.end(door.rows()[0])
    door.now += timedelta(days=3650)
    door.download(sato, "whitepaper-2")
    assert door.answers() == ["ended", "under-way", "entered-before"]


async def test_a_lead_who_may_always_come_back_still_walks_one_journey_at_a_time(database: Database) -> None:
    door = Door(database)
    await door.publish(re_enter="always")
    sato = await door.lead()
    door.download(sato)
    door.download(sato)
    door.end(door.rows()[0])
    door.download(sato)
    door.download(sato)
    assert door.answers() == ["ended", "under-way", "starting", "under-way"]
    first, _, second, _ = door.rows()
    assert first.entry != second.entry


async def test_a_lead_may_come_back_when_enough_time_has_passed_since_the_end(database: Database) -> None:
    door = Door(database)
    await door.publish(re_enter=after(days(30)))
    sato = await door.lead()
    door.download(sato)
    door.now += timedelta(days=60)  # a long journey: the thirty days count from its end, not from its entry
    door.end(door.rows()[0])
    door.now += timedelta(days=30, seconds=-1)
    door.download(sato)
    assert door.answers() == ["ended", "too-soon"]
    door.now += timedelta(seconds=1)
    door.download(sato)
    assert door.answers() == ["ended", "too-soon", "starting"]


async def test_thirty_days_keep_the_local_time_of_the_lead_over_the_change_of_clocks(database: Database) -> None:
    door = Door(database)
    await door.publish(re_enter=after(days(30)))
    berlin = await door.lead(time_zone="Europe/Berlin")
    door.now = datetime(2026, 3, 9, 11, 0, tzinfo=UTC)  # ends on the 10th at 12:00, before summer time
    door.download(berlin)
    door.end(door.rows()[0])
    door.now = datetime(2026, 4, 9, 9, 59, tzinfo=UTC)  # 11:59 there
    door.download(berlin)
    door.now = datetime(2026, 4, 9, 10, 0, tzinfo=UTC)  # 12:00 there, and only 29 days and 23 hours
    door.download(berlin)
    assert door.answers() == ["ended", "too-soon", "starting"]


# The key -------------------------------------------------------------------------------------------------------------


async def test_a_lead_has_one_journey_for_each_paper(database: Database) -> None:
    door = Door(database)
    await door.publish(key=entry.content)
    sato = await door.lead()
    for paper in ("whitepaper-1", "whitepaper-2", "whitepaper-1"):
        door.download(sato, paper)
    assert [(row.key, row.reason) for row in door.rows()] == [
        ("whitepaper-1", None),
        ("whitepaper-2", None),
        ("whitepaper-1", "under-way"),
    ]
    door.end(door.rows()[0])
    door.download(sato, "whitepaper-1")
    assert door.answers() == ["ended", "starting", "under-way", "entered-before"]


async def test_an_entry_without_the_key_is_refused_and_the_next_one_with_it_enters(database: Database) -> None:
    door = Door(database)
    graph = await door.publish(key=entry.campaign)
    sato = await door.lead()
    door.download(sato)
    door.download(sato, campaign="")
    door.download(sato, campaign="spring")
    assert door.answers() == ["no-key", "no-key", "starting"]

    def by_command(session: Session) -> JourneyRow:
        person = lock_lead(session, sato)
        assert person is not None
        return request_entry(
            session, graph=graph, lead=person, command="c-1", properties={}, now=door.now, zone=TOKYO
        )  # fmt: skip

    assert database.write_now(by_command).reason == "no-key"


# The audience --------------------------------------------------------------------------------------------------------


async def test_a_lead_outside_the_audience_is_refused_with_a_row_and_may_enter_once_inside(database: Database) -> None:
    door = Door(database)
    await door.publish(audience=lead.industry.in_("manufacturing", "construction"))
    sato = await door.lead(industry="finance")
    event = door.download(sato)
    [refused] = door.rows()
    assert (refused.status, refused.reason, refused.step) == ("refused", "audience", None)
    assert (refused.entry_event_id, refused.entered_at) == (event, NOON)

    def moves(session: Session) -> None:
        person = lock_lead(session, sato)
        assert person is not None
        person.industry = "construction"

    database.write_now(moves)
    door.download(sato)
    assert door.answers() == ["audience", "starting"]


async def test_the_audience_sees_what_the_lead_came_with(database: Database) -> None:
    door = Door(database)
    await door.publish(audience=(entry.pages >= 10) & (lead.qualification == "none"))
    sato, suzuki = await door.lead(), await door.lead("suzuki@midori.example", qualification="sql")
    door.download(sato, pages=3)
    door.download(sato, pages=12)
    door.download(suzuki, pages=12)
    assert door.answers() == ["audience", "starting", "audience"]


async def test_an_erased_lead_enters_nothing(database: Database) -> None:
    door = Door(database)
    await door.publish()
    gone = await door.lead(erased_at=NOON)
    door.download(gone)
    assert door.answers() == ["erased"]


# Once per cause ------------------------------------------------------------------------------------------------------


async def test_the_same_event_twice_is_one_entry_even_when_the_scenario_always_takes_back(database: Database) -> None:
    door = Door(database)
    graph = await door.publish(re_enter="always")
    sato = await door.lead()
    event = door.download(sato)
    door.end(door.rows()[0])

    def again(session: Session) -> JourneyRow:
        person, cause = lock_lead(session, sato), session.get_one(Event, event)
        assert person is not None
        return enter(
            session, graph=graph, lead=person, cause=f"event:{event}:follow-up", event=cause, now=door.now, zone=TOKYO
        )

    assert database.write_now(again).entry == door.rows()[0].entry
    assert door.answers() == ["ended"]


async def test_the_same_command_from_eight_callers_at_once_is_one_entry_and_one_event(database: Database) -> None:
    door = Door(database)
    graph = await door.publish(re_enter="always")
    sato = await door.lead()
    together = Barrier(8)

    def ask(session: Session) -> int | None:
        person = lock_lead(session, sato)
        assert person is not None
        row = request_entry(
            session, graph=graph, lead=person, command="import-7", properties={"list": "fair"}, now=NOON, zone=TOKYO
        )
        return row.entry

    def caller(_: int) -> int | None:
        together.wait(10)
        return database.write_now(ask)

    with ThreadPoolExecutor(8) as callers:
        entries = list(callers.map(caller, range(8)))
    assert len(set(entries)) == 1
    assert door.answers() == ["starting"]
    events = database.write_now(lambda s: list(s.exec(select(Event))))
    assert [(one.name, one.seq, one.properties["list"]) for one in events] == [("Scenario Requested", 1, "fair")]


async def test_one_event_may_open_two_scenarios(database: Database) -> None:
    door = Door(database)
    await door.publish()
    await door._house.publish(Scenario("welcome", enters_on=downloaded(), steps=[send("hello")]))
    sato = await door.lead()
    door.download(sato)
    assert sorted(row.scenario for row in door.rows()) == ["follow-up", "welcome"]
    assert door.answers() == ["starting", "starting"]


async def test_a_refused_entry_does_not_stand_in_the_way_of_a_later_one(database: Database) -> None:
    """`never` means never twice on the journey, not never asked twice."""
    door = Door(database)
    await door.publish(audience=entry.pages >= 10)
    sato = await door.lead()
    for pages in (1, 2, 10, 11):
        door.download(sato, pages=pages)
    assert door.answers() == ["audience", "audience", "starting", "under-way"]
