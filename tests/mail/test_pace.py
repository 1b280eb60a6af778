"""How fast mail goes out: over all workers together, journeys' first, and no domain behind another's backlog."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mebae import contracts
from mebae.authoring import Scenario, end, send
from mebae.gate import Gate
from mebae.mail.bulk import BulkMailer
from mebae.mail.pace import AHEAD, Pace, reserve
from mebae.store.database import Database
from mebae.timing import Calendar
from tests.house import House, house
from tests.mail.test_bulk import NEWS, post

NOON = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
THANKS = Scenario("thanks", steps=[send("thanks"), end("thanked")])


class Clock:
    """The machine's time, as the test says."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def test_slots_follow_each_other_for_whoever_asks(database: Database) -> None:
    first = database.write_now(reserve, 10.0, 5, NOON)
    second = database.write_now(reserve, 10.0, 5, NOON)
    assert [(slot - NOON).total_seconds() for slot in first + second] == pytest.approx([n / 10 for n in range(10)])
    assert database.write_now(reserve, 10.0, 5, NOON + 60 * SECOND)[0] == NOON + 60 * SECOND, "what was not used is gone"


def test_who_asks_too_far_ahead_gets_none(database: Database) -> None:
    database.write_now(reserve, 1.0, 5, NOON)
    assert database.write_now(reserve, 1.0, 1, NOON) == []
    assert database.write_now(reserve, 1.0, 1, NOON + 4 * SECOND) == [NOON + 5 * SECOND]


def test_slots_that_a_wrong_clock_gave_out_bind_nobody(database: Database) -> None:
    database.write_now(reserve, 10.0, 5, NOON + timedelta(days=3))
    assert database.write_now(reserve, 10.0, 1, NOON) == [NOON]


def test_a_mail_an_hour_is_a_mail_an_hour(database: Database) -> None:
    hour = timedelta(hours=1)
    assert database.write_now(reserve, 1 / 3600, 1, NOON) == [NOON]
    assert database.write_now(reserve, 1 / 3600, 1, NOON + SECOND) == []
    assert database.write_now(reserve, 1 / 3600, 1, NOON + hour) == [NOON + hour]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time passes only where somebody sleeps."""
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.now += timedelta(seconds=seconds)

    monkeypatch.setattr("mebae.mail.pace.sleep", sleep)
    return clock


async def test_a_broadcast_has_what_journeys_leave(sqlite_database: Database, slept: Clock) -> None:
    """Of 10 mails a second journeys send 7: the broadcast gets 3, and they never wait for it."""
    pace = Pace(sqlite_database, 10.0, machine=slept)
    began, sent = slept.now, 0
    while (slept.now - began) < 20 * SECOND:
        before = slept.now
        await pace.turn()
        sent += 1
        for _ in range(round((slept.now - before).total_seconds() * 7)):
            sqlite_database.write_now(pace.charge)
    assert 2.5 * 20 <= sent <= 5 * 20


async def test_two_workers_share_one_rate(sqlite_database: Database, slept: Clock) -> None:
    paces = [Pace(sqlite_database, 20.0, machine=slept), Pace(sqlite_database, 20.0, machine=slept)]
    for n in range(200):
        await paces[n % 2].turn()
    assert 200 / 20 - AHEAD.total_seconds() - 0.1 <= (slept.now - NOON).total_seconds() <= 200 / 20 + 2


async def test_slots_that_nobody_used_do_not_come_all_at_once(sqlite_database: Database, slept: Clock) -> None:
    pace = Pace(sqlite_database, 100.0, machine=slept)
    await pace.turn()
    slept.now += 60 * SECOND
    began = slept.now
    for _ in range(100):
        await pace.turn()
    assert (slept.now - began).total_seconds() >= 0.9


async def test_a_broadcast_goes_out_at_its_rate_and_ends_at_once_when_told(sqlite_database: Database) -> None:
    async with post(sqlite_database) as at:
        gate = Gate(at.rules, "Asia/Tokyo", Calendar())
        pace = Pace(sqlite_database, 5.0)
        mailer = BulkMailer(sqlite_database, at.transport, gate, at.settings, at_once=4, pace=pace)
        leads = at.leads(50)
        sending = asyncio.create_task(mailer.send(at.broadcast, leads, NEWS, lambda: at.now))
        while len(at.relay.mails) < 6:
            await asyncio.sleep(0.02)
        assert len(at.relay.mails) < 20, "ten seconds are needed for fifty"
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert len(at.relay.mails) < 30


# On Temporal ---------------------------------------------------------------------------------------------------------


async def started(mebae: House, emails: list[str]) -> None:
    graph = await mebae.publish(THANKS)
    for email in emails:
        await mebae.start(graph, await mebae.lead(email))


async def test_a_journeys_mail_waits_in_the_queue_under_its_recipients_domain_and_says_no_more_of_it(
    sqlite_database: Database,
) -> None:
    async with house(sqlite_database) as mebae:
        graph = await mebae.publish(THANKS)
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        await mebae.ended()
        history = (await mebae.handle(row).fetch_history()).to_json()
    assert f'"fairnessKey": "{contracts.fairness_of("sato@aoba.example")}"' in history
    assert "aoba" not in history


@pytest.mark.slow
async def test_a_few_recipients_at_one_domain_do_not_wait_behind_many_at_another(sqlite_database: Database) -> None:
    many, few = [f"lead{n}@aoba.example" for n in range(40)], [f"lead{n}@tsubaki.example" for n in range(4)]
    assert contracts.fairness_of(many[0]) != contracts.fairness_of(few[0])
    async with house(sqlite_database, smtp_rate=2) as mebae:
        await started(mebae, [*many, *few])
        await mebae.ended(seconds=100)
        order = [str(mail["To"]) for mail in mebae.relay.mails]
    places = [place for place, to in enumerate(order) if "tsubaki" in to]
    assert max(places) < 36, f"they came at {places}"


def test_buckets_name_no_domain() -> None:
    buckets = {contracts.fairness_of(f"a@company{n}.example") for n in range(5000)}
    assert len(buckets) == 256
    assert contracts.fairness_of(None) == contracts.fairness_of("") == ""
