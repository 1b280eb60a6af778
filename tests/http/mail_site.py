"""A server with mails that went out: leads, deliveries, their links, and visitors from anywhere at any time."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
import uvicorn
from fastapi import APIRouter
from pydantic import PrivateAttr
from sqlmodel import Session, col, select

from mebae.clock import WorldClock
from mebae.http.app import create_app
from mebae.http.lead_side import LeadSide
from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import Sender
from mebae.mail.tracking import MailLinks, links_of
from mebae.mailing import MailRules, Topic
from mebae.store.database import Database
from mebae.store.links import store_links
from mebae.store.mail_actions import judge_all
from mebae.store.tables import Delivery, Event, Lead
from mebae.tokens import Tokens
from mebae.verdicts import Tuning

SENT = datetime(2026, 4, 1, 0, 30, tzinfo=UTC)
TOKENS = Tokens.read_keys(["20260101:a-secret-of-the-tests"])
TOPICS = MailRules(
    topics=(
        Topic("product", {"ja": "製品情報", "en": "Products"}, {"ja": "新機能と使い方", "en": "What is new"}),
        Topic("seminar", {"ja": "セミナー", "en": "Seminars"}),
        Topic("requested", {"ja": "お申し込みの資料"}, transactional=True),
    )
)
SETTINGS = MailSettings(
    Sender("点検ノート編集部", "hello@mebae.example", postal="〒100-0000 東京都千代田区架空町1-2-3", contact="hello@mebae.example"),
    "sales@mebae.example", rules=TOPICS, tokens=TOKENS, public_url="http://mail.example", bounce_domain="back.mebae.example",
)  # fmt: skip
LINKS = ("https://example.com/paper", "https://example.com/pricing?from=mail#plans", "https://example.com/料金")
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)


class Dial(WorldClock):
    """A clock that shows what it is set to."""

    _shows: datetime = PrivateAttr(SENT)

    def world(self, machine: datetime) -> datetime:
        return self._shows

    def set(self, moment: datetime) -> None:
        self._shows = moment


class Mail(NamedTuple):
    """A mail that went out."""

    lead: int
    delivery: int
    links: MailLinks
    hrefs: tuple[str, ...]
    """What its links look like."""


class MailSite:
    """The server and all that happens to it."""

    def __init__(
        self, database: Database, settings: MailSettings = SETTINGS, *, routers: Sequence[APIRouter] = ()
    ) -> None:
        self.database, self.settings, self.dial = database, settings, Dial()
        self.side = LeadSide(database, settings, self.dial)
        self.app = create_app(
            database, write_keys=["key"], clock=self.dial, extra_routers=[*self.side.routers, *routers]
        )
        self._mails = 0
        self.first: Mail | None = None

    def send(self, email: str = "", *, links: Sequence[str] = LINKS, **columns: Any) -> Mail:
        return self.send_all([email or f"lead-{self._mails}@aoba.example"], links=links, **columns)[0]

    def send_all(self, emails: Sequence[str], *, links: Sequence[str] = LINKS, **columns: Any) -> list[Mail]:
        """As if a mail had gone out to each, at `SENT`."""

        def write(session: Session) -> list[Mail]:
            known = {lead.email: lead for lead in session.exec(select(Lead).where(col(Lead.email).in_(emails)))}
            leads = [known.get(email) or Lead(email=email, created_at=SENT, updated_at=SENT) for email in emails]
            session.add_all(leads)
            session.flush()
            rows = [
                Delivery(
                    **{
                        "lead_id": lead.id, "kind": "marketing", "scope": "trial", "mail": "thanks", "topic": "product",
                        "message_id": f"<{self._mails + nth}@mebae.example>", "status": "sent", "sent_at": SENT, "step": "thanks",
                    }
                    | columns
                )
                for nth, lead in enumerate(leads)
            ]  # fmt: skip
            self._mails += len(rows)
            session.add_all(rows)
            session.flush()
            mails = [self._mail(row, links) for row in rows]
            store_links(session, mails[0].links.links)
            return mails

        mails = self.database.write_now(write)
        self.first = self.first or mails[0]
        return mails

    def _mail(self, row: Delivery, links: Sequence[str]) -> Mail:
        assert row.id is not None
        mine = links_of(self.settings, row.id, SENT)
        assert mine is not None
        hrefs = tuple(mine.link(url) for url in links)
        return Mail(row.lead_id, row.id, mine, hrefs)

    def visit(
        self, url: str, *, after: float = 60.0, method: str = "GET", agent: str | None = CHROME, address: str = "203.0.113.7",
        **more: Any,
    ) -> httpx.Response:  # fmt: skip
        """One request, so many seconds after the mails went out."""
        self.dial.set(SENT + timedelta(seconds=after))
        headers = {"user-agent": agent or "", "x-forwarded-for": address} | more.pop("headers", {})

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=(address, 4711))
            async with httpx.AsyncClient(transport=transport, base_url="http://mail.example") as client:
                return await client.request(method, self.path(url), headers=headers, **more)

        return asyncio.run(send())

    def path(self, url: str) -> str:
        assert url.startswith(self.settings.public_url)
        return url[len(self.settings.public_url) :]

    def judge(self, after: float = 7200.0) -> int:
        return self.database.write_now(judge_all, SENT + timedelta(seconds=after), Tuning())

    def events(self, lead: int) -> list[Event]:
        query = select(Event).where(Event.lead_id == lead).order_by(col(Event.seq))
        return list(self.database.read_now(lambda session: session.exec(query).all()))

    def lead(self, lead: int) -> Lead:
        return self.database.read_now(lambda session: session.get_one(Lead, lead))

    def delivery(self, mail: Mail) -> Delivery:
        return self.database.read_now(lambda session: session.get_one(Delivery, mail.delivery))


@contextmanager
def open_site(database: Database, *, routers: Sequence[APIRouter] = ()) -> Iterator[tuple[MailSite, str]]:
    """The same with sockets; and its address, where the links lead."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        site = MailSite(database, replace(SETTINGS, public_url=address), routers=routers)
        server = uvicorn.Server(uvicorn.Config(site.app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield site, address
        finally:
            server.should_exit = True
            thread.join()
