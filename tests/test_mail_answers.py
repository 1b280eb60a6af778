"""What leads do with real mails, in a whole house: a click ends the wait for it, an unsubscribe ends all mail."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from email.message import EmailMessage
from html import unescape
from typing import cast

import httpx
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlmodel import select

from mebae.authoring import Scenario, clicked, days, end, on, send, wait, wait_for
from mebae.http.app import create_app
from mebae.http.lead_side import LeadSide
from mebae.judging import Judge
from mebae.mail.wiring import mail_settings
from mebae.store.database import Database
from mebae.store.tables import MailAction
from mebae.verdicts import Tuning
from tests.house import FAST, House, Relay, house

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)
SCANNER = "Mozilla/5.0 (compatible; Barracuda)"
AT_ONCE = Tuning(too_soon=timedelta(0), wait=timedelta(seconds=0.1))
PAPER = "https://example.com/paper"


@asynccontextmanager
async def answering(mebae: House) -> AsyncIterator[httpx.AsyncClient]:
    """The server of this house, and its judge."""
    side = LeadSide(mebae.database, mail_settings(mebae.settings), mebae.clock)
    app = create_app(mebae.database, write_keys=["key"], clock=mebae.clock, extra_routers=side.routers)
    judging = asyncio.create_task(Judge(mebae.database, now=mebae.now, tuning=AT_ONCE).run())
    transport = httpx.ASGITransport(app, client=("203.0.113.7", 1))
    try:
        async with httpx.AsyncClient(transport=transport, headers={"user-agent": CHROME}) as lead:
            yield lead
    finally:
        judging.cancel()
        with suppress(asyncio.CancelledError):
            await judging
        await side.aclose()


def html_of(mail: EmailMessage) -> str:
    part = mail.get_body(("html",))
    assert part is not None
    return cast(str, part.get_content())


def hrefs(mail: EmailMessage) -> list[str]:
    return [unescape(url) for url in re.findall(r'href="([^"]+/t/c/[^"]+)"', html_of(mail))]


def one_click(mail: EmailMessage) -> str:
    found = re.match(r"<(http[^>]+)>", str(mail["List-Unsubscribe"]))
    assert found is not None
    return found[1]


async def test_lead_who_clicks_in_a_real_mail_gets_what_comes_next(database: Database) -> None:
    """A scanner clicks first, and nothing comes of it."""
    scenario = Scenario(
        "trial",
        steps=[
            send("thanks"),
            wait_for(on(clicked("thanks"), [send("more"), end("clicked")]), within=days(7), otherwise=[end("late")]),
        ],
    )
    async with house(database) as mebae, answering(mebae) as lead:
        graph = await mebae.publish(scenario, thanks=f"[資料]({PAPER})")
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        await mebae.resting_at("thanks/wait_for", row.lead_id)
        [url] = hrefs(mebae.relay.mails[0])
        assert (await lead.get(url, headers={"user-agent": SCANNER})).status_code == 302
        async with asyncio.timeout(20):
            while not await mebae.database.read(lambda session: session.exec(select(MailAction.verdict)).first()):
                await asyncio.sleep(0.05)
        await mebae.routed()
        assert [row.status for row in await mebae.rows()] == ["resting"]
        answer = await lead.get(url)
        assert (answer.status_code, answer.headers["location"]) == (302, PAPER)
        [row] = await mebae.ended(row.lead_id)
        assert row.outcome == "clicked"
        assert mebae.relay.subjects() == ["thanks", "more"]
        first, _ = await mebae.deliveries()
        assert first.clicked_at is not None


class Held(Relay):
    """A relay that turns every mail away for now; or, told so, keeps one recipient waiting until the lead has unsubscribed."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = False
        self.asked, self.unsubscribed = asyncio.Event(), asyncio.Event()

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, to: str, options: list[str]) -> str:
        if self.holds:
            self.holds = False
            self.asked.set()
            await self.unsubscribed.wait()
        return await super().handle_RCPT(server, session, envelope, to, options)


async def test_lead_who_unsubscribes_gets_no_mail_that_waited(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One waits for its day, another for the mail server, a third is between RCPT and DATA (C3)."""
    monkeypatch.setattr("tests.house.Relay", Held)
    monkeypatch.setattr("mebae.ledger.BACK_OFF", [timedelta(milliseconds=200)])
    async with house(database, speed=FAST) as mebae, answering(mebae) as lead:
        relay = cast(Held, mebae.relay)
        who = await mebae.lead("sato@aoba.example")
        await mebae.start(await mebae.publish(Scenario("first", steps=[send("thanks")])), who)
        await mebae.ended(who)
        [mail] = relay.mails

        relay.at_rcpt = lambda _to: "451 4.7.1 greylisted"
        await mebae.start(await mebae.publish(Scenario("turned-away", steps=[send("again")])), who)
        await mebae.until(lambda rows: rows[-1].waiting_for == "postponed", who)
        await mebae.start(await mebae.publish(Scenario("timed", steps=[wait(days(1)), send("tomorrow")])), who)
        relay.holds = True
        await mebae.start(await mebae.publish(Scenario("half-way", steps=[send("half")])), who)
        await relay.asked.wait()

        assert (await lead.post(one_click(mail), data={"List-Unsubscribe": "One-Click"})).status_code == 200
        relay.at_rcpt = lambda _to: None
        relay.unsubscribed.set()
        await mebae.ended(who)
        assert relay.subjects() == ["thanks"]
        told = {delivery.mail: (delivery.status, delivery.reason) for delivery in await mebae.deliveries()}
        stopped = ("refused", "opted-out")
        assert told == {"thanks": ("sent", None), "again": stopped, "tomorrow": stopped, "half": stopped}
