"""Journeys whose mail comes back: a relay takes the mail, reports later to its return address, and the next mail never goes."""

from __future__ import annotations

import asyncio
import smtplib
from email import message_from_bytes

from sqlmodel import Session, select

from mebae.authoring import Scenario, auto_replied, days, end, on, send, tracked, wait_for
from mebae.mail.incoming import Incoming, IncomingRules
from mebae.mail.return_server import ReturnServer
from mebae.store.database import Database
from mebae.store.tables import Delivery
from tests.house import House, house
from tests.mail.report_cases import DOMAIN, TOKENS, load

FOLLOW_UP = Scenario(
    "follow-up",
    steps=[
        send("thanks"),
        wait_for(
            on(auto_replied(says="left"), [end("left")]),
            on(tracked("Quarter Began"), []),
            within=days(300),
            otherwise=[end("quiet")],
        ),
        send("news"),
        end("told"),
    ],
)
LEADS = {
    "sato@aoba.example": "postfix-mailbox-unknown",
    "mori@tsubaki.example": "arf-redacted",
    "abe@hinoki.example": "unsubscribe-by-mail",
    "kato@kaede.example": "taishoku-japanese",
    "ueda@keyaki.example": "blocked-by-list",
}


def reports(mebae: House, server: ReturnServer, leads: dict[str, int]) -> None:
    """What the world's mail servers have to say, by SMTP; each says it twice."""

    def delivery(session: Session, lead: int) -> tuple[int, str]:
        row = session.exec(select(Delivery).where(Delivery.lead_id == lead, Delivery.mail == "thanks")).one()
        return row.id or 0, row.message_id

    for email, name in LEADS.items():
        number, message_id = mebae.database.read_now(delivery, leads[email])
        raw = load(name, delivery=number, to=email, message_id=message_id, crlf=True)
        to = str(message_from_bytes(raw)["To"])
        if "bounce+" in to:
            to = mebae.relay.senders[email]
        for _ in range(2):
            with smtplib.SMTP("127.0.0.1", server.port, local_hostname="mx.aoba.example", timeout=30) as client:
                assert client.sendmail("", [to], raw) == {}


async def test_leads_whose_mail_came_back_get_none_that_waited(database: Database) -> None:
    async with house(database, bounce_domain=DOMAIN, token_keys="20260101:a-secret-of-the-tests") as mebae:
        graph = await mebae.publish(FOLLOW_UP)
        leads = {email: await mebae.lead(email) for email in LEADS}
        for lead in leads.values():
            await mebae.start(graph, lead)
        for lead in leads.values():
            await mebae.resting_at("thanks/wait_for", lead)
        assert len(set(mebae.relay.senders.values())) == len(leads), "each mail has a return address of its own"
        incoming = Incoming(database, IncomingRules(TOKENS), mebae.now)
        server = ReturnServer(incoming, TOKENS, DOMAIN, mebae.now)
        await asyncio.to_thread(server.start)
        try:
            await asyncio.to_thread(reports, mebae, server, leads)
        finally:
            await asyncio.to_thread(server.stop)

        for email, lead in leads.items():
            if email != "kato@kaede.example":
                await mebae.event(lead, "Quarter Began")
        rows = await mebae.ended()

        outcomes = {row.lead_id: row.outcome for row in rows}
        assert outcomes.pop(leads["kato@kaede.example"]) == "left", "the automatic reply has woken the journey"
        assert set(outcomes.values()) == {"told"}
        news = {row.lead_id: (str(row.status), row.reason) for row in await mebae.deliveries() if row.mail == "news"}
        assert news == {
            leads["sato@aoba.example"]: ("refused", "bounced"),
            leads["mori@tsubaki.example"]: ("refused", "complained"),
            leads["abe@hinoki.example"]: ("refused", "opted-out"),
            leads["ueda@keyaki.example"]: ("sent", None),
        }
