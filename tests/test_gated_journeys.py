"""Journeys before the gate: what is postponed comes back at its time by itself, and what a cap does is what the step says."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from sqlmodel import Session, col, select
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.mail import MailActivities
from mebae.authoring import Scenario, end, send
from mebae.contracts import StepInput
from mebae.journey import Done, Ending, Postponed
from mebae.mail.transport import SmtpTransport
from mebae.mail.wiring import mail_settings
from mebae.mailing import Cap, MailRules, SendingHours
from mebae.mailing_hours import SPREAD
from mebae.resting import Setting
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.tables import Delivery, GateRow, Lead
from mebae.timing import Calendar, Duration
from tests.house import FAST, LAWFUL, House, Relay, house

WEEKLY = MailRules(caps=(Cap(1, Duration(days=7)),))


async def answers(mebae: House, who: int) -> list[tuple[str, str, str, str | None]]:
    def read(session: Session) -> list[tuple[str, str, str, str | None]]:
        query = select(GateRow).where(GateRow.lead_id == who).order_by(col(GateRow.id))
        return [(row.step, row.moment, row.answer, row.reason) for row in session.exec(query)]

    return await mebae.database.read(read)


async def mails(mebae: House, who: int) -> dict[str, Delivery]:
    return {row.step: row for row in await mebae.deliveries() if row.lead_id == who}


async def test_mail_that_meets_the_night_waits_with_its_journey_and_goes_out_in_the_morning(database: Database) -> None:
    """The activity as Temporal would call it, at two moments: no timer has to run for a night."""
    relay = Relay()
    port = await relay.start()
    transport = SmtpTransport("127.0.0.1", port, timeout=2.0)
    mebae = House(database, cast(Client, None), relay, Settings(**LAWFUL))
    rules = MailRules(hours=SendingHours("08:00", "20:00", business_days=True))
    mail = MailActivities(database, transport, Setting("Asia/Tokyo", Calendar()), mail_settings(mebae.settings, rules))
    try:
        graph = await mebae.publish(Scenario("letter", steps=[send("hello"), end("done")]))
        who = await mebae.lead("sato@aoba.example")
        entry = (await mebae.start(graph, who)).entry
        assert entry is not None

        async def sends(now: datetime) -> Any:
            return await ActivityEnvironment().run(mail.send_mail, StepInput(entry=entry, step="hello", plan=Ending("done"), now=now))

        evening = datetime(2026, 9, 18, 13, 0, tzinfo=UTC)  # Friday, 22:00 in Tokyo, before three holidays
        later = await sends(evening)
        assert isinstance(later, Postponed)
        assert later.why == "quiet-hours"
        eight = datetime(2026, 9, 23, 23, 0, tzinfo=UTC)
        assert eight <= later.until < eight + SPREAD
        [row] = await mebae.rows(who)
        assert (row.status, row.waiting_for, row.deadline) == ("resting", "postponed", later.until)
        assert relay.mails == []

        assert isinstance(await sends(later.until), Done)
        assert relay.subjects() == ["hello"]
        assert await answers(mebae, who) == [
            ("hello", "claim", "postponed", "quiet-hours"), ("hello", "claim", "go", None), ("hello", "data", "go", None),
        ]  # fmt: skip
        assert (await mebae.rows(who))[0].outcome == "done"
    finally:
        await transport.aclose()
        await relay.stop()


async def test_what_a_full_cap_does_is_what_the_step_says(database: Database) -> None:
    """To wait, to skip the mail, or to end: each lead has had its mail of the week."""

    def scenario(name: str, **how: Any) -> Scenario:
        return Scenario(name, steps=[send("first"), send("second", **how), end("done")])

    async with house(database, speed=FAST, rules=WEEKLY) as mebae:
        leads = {}
        for name, how in (("waits", {}), ("skips", {"on_cap": "skip"}), ("ends", {"on_cap": "end"})):
            leads[name] = await mebae.lead(f"{name}@aoba.example")
            await mebae.start(await mebae.publish(scenario(name, **how)), leads[name])
        rows = {row.scenario: row for row in await mebae.ended()}
        waits, skips, ends = [await mails(mebae, leads[name]) for name in ("waits", "skips", "ends")]

        assert (rows["waits"].outcome, rows["skips"].outcome) == ("done", "done")
        assert (rows["ends"].outcome, rows["ends"].reason) == ("exited", "frequency-cap")
        first, second = waits["first"].sent_at, waits["second"].sent_at
        assert first is not None
        assert second is not None
        assert timedelta(days=7) <= second - first < timedelta(days=7) + FAST * timedelta(seconds=20)
        assert (skips["second"].status, skips["second"].reason) == ("refused", "frequency-cap")
        assert (ends["second"].status, ends["second"].reason) == ("refused", "frequency-cap")
        assert ("second", "claim", "exited", "frequency-cap") in await answers(mebae, leads["ends"])


async def test_of_two_journeys_that_race_for_one_place_the_other_ones_mail_follows_a_week_later(database: Database) -> None:
    async with house(database, speed=FAST, rules=WEEKLY) as mebae:
        graphs = [await mebae.publish(Scenario(name, steps=[send("hello"), end("done")])) for name in ("one", "two", "three")]
        leads = [await mebae.lead(f"lead-{nth}@aoba.example") for nth in range(4)]
        await asyncio.gather(*(mebae.start(graph, who) for who in leads for graph in graphs))
        await mebae.ended(seconds=60)
        for who in leads:
            sent = sorted(row.sent_at for row in await mebae.deliveries() if row.lead_id == who and row.sent_at is not None)
            assert len(sent) == 3
            assert min(later - earlier for earlier, later in itertools.pairwise(sent)) >= timedelta(days=7)


async def test_what_changes_while_the_mail_server_is_asked_counts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lead's address, then the hour: quiet hours begin between RCPT and DATA. What the server says at last has strange bytes."""
    relay = Relay()
    port = await relay.start()
    transport = SmtpTransport("127.0.0.1", port, timeout=2.0)
    mebae = House(database, cast(Client, None), relay, Settings(**LAWFUL))
    rules = MailRules(hours=SendingHours("08:00", "20:00"))
    mail = MailActivities(database, transport, Setting("Asia/Tokyo", Calendar()), mail_settings(mebae.settings, rules))
    now = datetime(2026, 9, 18, 10, 59, tzinfo=UTC)  # 19:59 in Tokyo
    monkeypatch.setattr("activities.mail.moving_now", lambda _request: lambda: now)
    try:
        graph = await mebae.publish(Scenario("letter", steps=[send("hello"), end("done")]))
        who = await mebae.lead("sato@aoba.example")
        entry = (await mebae.start(graph, who)).entry
        assert entry is not None
        asked: list[str] = []

        def at_rcpt(to: str) -> None:
            nonlocal now
            asked.append(to)
            if len(asked) == 1:
                database.write_now(lambda session: setattr(session.get_one(Lead, who), "email", "mori@aoba.example"))
            elif len(asked) == 2:
                now += timedelta(minutes=2)

        relay.at_rcpt = at_rcpt
        relay.at_data = lambda _mail: "550 5.7.1 no \x00 thanks"
        whys = []
        for _ in range(3):
            answer = await ActivityEnvironment().run(mail.send_mail, StepInput(entry=entry, step="hello", plan=Ending("done")))
            whys.append(answer.why)
            now = getattr(answer, "until", now)
        assert whys == ["address-changed", "quiet-hours", "recipient-refused"]
        assert asked == ["sato@aoba.example", "mori@aoba.example", "mori@aoba.example"]
        assert (await mails(mebae, who))["hello"].raw == "550 5.7.1 no  thanks"
    finally:
        await transport.aclose()
        await relay.stop()
