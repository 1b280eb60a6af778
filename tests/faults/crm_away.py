"""R14: HubSpot, kintone and a signed webhook are away for an hour in the middle of a campaign; sales' mail goes on beside them.

The hour is the teller's own clock, so that it takes seconds; databases, HTTP and SMTP are real. The outage begins with answers that
are lost after everything was done there, goes on with refused connections, 503 and 429, and the teller is made anew in between, as after a
`kill -9`: what it held in its hands is told again when its lease is over.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from sqlmodel import col, select

from mebae import handing
from mebae.clock import WorldClock
from mebae.crm.channel import CrmChannel
from mebae.crm.model import CrmRules
from mebae.crm.wiring import adapter_of
from mebae.mail.transport import SmtpTransport
from mebae.sales_channels import SalesMail
from mebae.store.crm import publish_crm
from mebae.store.database import Database
from mebae.store.tables import Telling
from mebae.telling import Teller
from tests.crm.doubles import HubSpotDouble, KintoneDouble
from tests.crm.people import SALES, SETTINGS, hand_over
from tests.crm.site import Said, Site, running
from tests.crm.test_adapters import HOUSES, a_hubspot, a_kintone
from tests.crm.test_webhook import Receiver, environ, system
from tests.faults.campaign import Finding, Home, Tick, opened
from tests.leads import NOW, Diary, publish_model
from tests.mail.relays import Relay, relay

HOUR = 60
"""Minutes of the outage."""
AWAY = (Said(503), Said(429, None, {"Retry-After": "120"}), Said(500, b"<html>"))
BAR = "told once on its return, same idempotency key; mail goes on"


async def crm_away(at: Home, *, leads: int, tick: Tick, seed: int = 14) -> Finding:
    """`leads` are handed over, one third before the outage, the others while it lasts."""
    chance = random.Random(seed)
    with opened(at.url) as database:
        async with AsyncExitStack() as stack:
            post = await stack.enter_async_context(relay())
            hub, kin, hook = [await stack.enter_async_context(running(one())) for one in (HubSpotDouble, KintoneDouble, Receiver)]
            sites: list[Site] = [hub, kin, hook]
            house = _House(database, post, hub, kin, hook)
            house.given(leads)
            stack.push_async_callback(house.transport.aclose)
            stack.push_async_callback(house.aclose)
            before = leads // 3
            for n in range(1, before + 1):
                hand_over(database, n, f"command:{n}")
            await house.tell()
            told_before = house.taken()
            for site in sites:
                site.cuts = 10
            n, tried_before = before, sum(len(site.asked) for site in sites)
            for minute in range(HOUR):
                # At first answers get lost; then nobody answers, or says no.
                if minute == 1:
                    for site in sites:
                        site.away = AWAY[0]
                elif minute > 1 and minute % 10 == 0:
                    for site in sites:
                        site.away, site.cuts = chance.choice(AWAY), 0
                for _ in range(-(-(leads - before) // HOUR)):
                    if n < leads:
                        n += 1
                        hand_over(database, n, f"command:{n}")
                if minute % 17 == 5:
                    await house.killed()
                await house.tell()
                house.machine += timedelta(minutes=1)
                tick(0.1 + 0.7 * minute / HOUR)
            tried = sum(len(site.asked) for site in sites) - tried_before
            mails_meanwhile, waited = len(post.mails), house.waiting()
            for site in sites:
                site.away, site.cuts = None, 0
            minutes = 0
            while house.waiting() and minutes < 60:
                await house.tell()
                house.machine += timedelta(minutes=1)
                minutes += 1
                tick(0.8 + 0.2 * minutes / 60)
            lost, twice, unordered = house.reckoned(leads)
            mails = mails_meanwhile == leads
    measured = (
        f"{waited:,} messages waited at its end, after {tried:,} requests in vain; all told {minutes} minutes after the return. "
        f"{lost} of {leads * 9:,} lost, {twice} with a second effect, {unordered} before their lead; "
        f"{told_before:,} were told before; {mails_meanwhile} of {leads} mails to sales went out meanwhile, none twice"
    )
    done = (
        f"{at.kind}: {leads} leads handed over to HubSpot, kintone and a signed webhook, a third of them before an hour's outage; "
        "answers lost at its beginning, then 503, 429, 500; the teller gone four times with messages in its hands "
        "(made anew in one process, no real kill)"
    )
    good = not lost and not twice and not unordered and mails and minutes <= 16 and len(post.mails) == leads
    return Finding("R14", done, BAR, measured, good)


class _House:
    """One worker's teller with all channels, and what arrived at the other ends."""

    def __init__(self, database: Database, post: Relay, hub: HubSpotDouble, kin: KintoneDouble, hook: Receiver) -> None:
        self.database, self.post, self.hub, self.kin, self.hook, self.machine = database, post, hub, kin, hook, NOW
        self.systems = [a_hubspot(hub), a_kintone(kin), system(hook.port)]
        self.environ = HOUSES["hubspot"].environ | HOUSES["kintone"].environ | environ(hook)
        self.transport = SmtpTransport("127.0.0.1", post.port)
        self._made()

    def _made(self) -> None:
        crm = {one.channel: CrmChannel(self.database, one, adapter_of(one, self.environ), SETTINGS) for one in self.systems}
        self.crm = crm
        channels: dict[str, Any] = {"mail": SalesMail(self.database, self.transport, SETTINGS), **crm}
        self.teller = Teller(self.database, channels, clock=WorldClock(), machine=lambda: self.machine)
        self.channels = list(channels)

    def given(self, leads: int) -> None:
        publish_model(self.database, now=NOW - timedelta(days=200))
        self.database.write_now(handing.publish_sales, SALES, NOW)
        self.database.write_now(publish_crm, CrmRules(systems=tuple(self.systems)), NOW)
        diary = Diary(self.database, NOW)
        for n in range(1, leads + 1):
            diary.is_someone(f"lead{n}@firm{n}.example", name=f"姓{n} 名", company=f"会社{n}", ago=timedelta(days=1))

    async def tell(self) -> None:
        """Every channel until nothing is due: as their loops do, each by itself."""
        for channel in self.channels:
            while await self.teller.deliver(channel):
                pass

    async def killed(self) -> None:
        """Takes what is due into its hands and is gone; another one begins."""
        from mebae.telling import _take

        for channel in self.channels:
            if channel != "mail":
                await self.database.write(_take, channel, self.machine, 8)
        await self.aclose()
        self._made()

    async def aclose(self) -> None:
        for one in self.crm.values():
            await one.aclose()

    def waiting(self) -> int:
        query = select(Telling.id).where(Telling.status == "waiting")
        return self.database.read_now(lambda session: len(session.exec(query).all()))

    def taken(self) -> int:
        return len(self.hub.records) + len(self.kin.records) + len(self.hub.activities) + len(self.kin.activities) + len(self.keys())

    def keys(self) -> Counter[str]:
        return Counter(key for key, _ in self.hook.taken)

    def reckoned(self, leads: int) -> tuple[int, int, int]:
        """Lost, with a second effect, and told before their lead. A webhook that comes again has the id by which its receiver knows it."""
        query = select(Telling).where(col(Telling.channel).startswith("crm:"))
        rows = self.database.read_now(lambda session: session.exec(query).all())
        lost = sum(row.status != "told" for row in rows) + leads * 9 - len(rows)
        lost += leads - len(self.hub.records) + leads - len(self.kin.records) + leads * 3 - len(self.keys())
        activities = Counter(str(one.get("mebae_key") or one.get("キー")) for one in (*self.hub.activities, *self.kin.activities))
        lost += leads * 4 - len(activities)
        twice = sum(count - 1 for count in activities.values())
        emails = Counter(one["email"] for one in self.hub.records.values())
        twice += sum(count - 1 for count in emails.values())
        seen: set[int] = set()
        unordered = 0
        for _, message in self.hook.taken:
            lead = message["data"]["lead"]["id"]
            unordered += message["type"] != "lead.upserted" and lead not in seen
            seen |= {lead} if message["type"] == "lead.upserted" else set()
        return lost, twice, unordered
