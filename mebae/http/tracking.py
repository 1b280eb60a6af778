"""Opens and clicks of mails: `/t/c/{token}` sends on to the link's target, `/t/o/{token}.gif` is the image of one dot, and
`/t/x/{token}` the link that no person sees.

Where a click leads is looked up by the token's numbers and is never read from the address (T1), so that nobody makes our
links lead elsewhere. What comes in is kept before the answer, and judged in the worker (`mebae.judging`).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from base64 import b64decode
from collections import OrderedDict
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlmodel import Session, col, select

from mebae.clock import WorldClock
from mebae.errors import DatabaseUnavailable
from mebae.http.lead_words import language_asked
from mebae.http.pages import NEVER_KEPT, later_page, nothing_page, unknown_page
from mebae.machines import Machines, known_machines
from mebae.mail.tracking import is_trackable, location
from mebae.store.action_writer import ActionWriter
from mebae.store.database import Database
from mebae.store.links import is_own, target
from mebae.store.mail_actions import NewAction
from mebae.store.tables import Link
from mebae.tokens import Kind, Tokens
from mebae.verdicts import CLICK, OPEN, TRAP

log = structlog.get_logger()

DOT = b64decode("R0lGODlhAQABAIAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
"""A transparent GIF of one dot, 43 bytes."""
REMEMBERED = 20_000
"""Links that the server knows by heart: a click reaches its target also while the database is away."""
WARMED_EVERY = 600.0
"""Seconds after which it looks again for links that it does not know yet."""

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Links:
    """Where links lead, remembered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[int, str] = OrderedDict()
        self._warm_at = 0.0
        self._warming: asyncio.Task[None] | None = None

    async def find(self, number: int) -> str | None:
        """Where it leads; empty if its lead was erased, None if there is no such link. `DatabaseUnavailable` if only the database
        could say: it alone knows those that hold values of a lead, so that none outlives an erasure here."""
        if time.monotonic() >= self._warm_at:
            self._warm_at = time.monotonic() + WARMED_EVERY
            self._warming = asyncio.create_task(self._warm())
        known = self._known.get(number)
        if known is not None:
            self._known.move_to_end(number)
            return known
        url, own = await self._database.read(_target, number)
        if url is not None and not own:
            self._remember(number, url)
        return url

    async def _warm(self) -> None:
        """Learns links ahead of their clicks, for the time when the database may be away."""
        try:
            found = await self._database.read(_some_links, REMEMBERED - len(self._known))
        except DatabaseUnavailable:
            self._warm_at = 0.0
            return
        for number, url in found:
            if number not in self._known:
                self._remember(number, url)

    def _remember(self, number: int, url: str) -> None:
        self._known[number] = url
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


class Tracker:
    """Takes opens and clicks. `aclose` at the end."""

    def __init__(
        self, database: Database, tokens: Tokens, clock: WorldClock, *, machines: Machines | None = None
    ) -> None:
        self._tokens, self._clock = tokens, clock
        self._machines = machines or known_machines()
        self._links, self._writer = Links(database), ActionWriter(database)
        self._key = hashlib.sha256(b"mebae-client\0" + tokens.keys[0][1]).digest()

    async def aclose(self) -> None:
        await self._writer.aclose()

    def routes(self) -> APIRouter:
        routes = APIRouter(include_in_schema=False)
        for path, takes in (("/t/c/{token}", self._click), ("/t/o/{token}", self._open), ("/t/x/{token}", self._trap)):
            routes.add_api_route(path, takes, methods=_METHODS)
        return routes

    async def _click(self, token: str, request: Request) -> Response:
        numbers = self._tokens.read(Kind.CLICK, token, now=self._now())
        language = language_asked(request)
        if numbers is None or len(numbers) != 2:
            return unknown_page(language)
        delivery, link = numbers
        try:
            url = await self._links.find(link)
        except DatabaseUnavailable:
            log.warning("tracking.link_not_found", why="the database is away", delivery=delivery)
            return later_page(language)
        if url == "":
            return unknown_page(language)
        if url is None or not is_trackable(url):
            log.error("tracking.no_such_link", delivery=delivery, cure="its mail was sent without storing its links")
            return unknown_page(language)
        await self._keep(request, CLICK, delivery, link)
        if request.method not in ("GET", "HEAD"):
            return Response(status_code=405, headers=NEVER_KEPT | {"Allow": "GET, HEAD"})
        return Response(status_code=302, headers=NEVER_KEPT | {"Location": location(url)})

    async def _open(self, token: str, request: Request) -> Response:
        numbers = self._tokens.read(Kind.OPEN, token.removesuffix(".gif"), now=self._now())
        if numbers is not None and len(numbers) == 1:
            await self._keep(request, OPEN, numbers[0])
        # Always the dot: a broken image in a mail helps nobody.
        return Response(DOT, media_type="image/gif", headers=NEVER_KEPT)

    async def _trap(self, token: str, request: Request) -> Response:
        numbers = self._tokens.read(Kind.TRAP, token, now=self._now())
        language = language_asked(request)
        if numbers is None or len(numbers) != 1:
            return unknown_page(language)
        await self._keep(request, TRAP, numbers[0])
        return nothing_page(language)

    async def _keep(self, request: Request, kind: str, delivery: int, link: int | None = None) -> None:
        agent = request.headers.get("user-agent", "")[:1000]
        address = request.client.host if request.client is not None else ""
        action = NewAction(
            delivery=delivery,
            kind=kind,
            link=link,
            method=request.method,
            client=self._client(address, agent),
            agent=self._machines.said(kind, agent, address, request.headers),
            at=self._now(),
        )
        await self._writer.put(action)

    def _now(self) -> datetime:
        return self._clock.world(datetime.now(UTC))

    def _client(self, address: str, agent: str) -> str:
        """What tells visitors apart without saying who they are. Of an IPv6 address its network: hosts change the rest daily."""
        try:
            its = ip_address(address)
            if its.version == 6 and its.ipv4_mapped is None:
                address = str(ip_network((its, 64), strict=False))
        except ValueError:
            pass
        return hmac.digest(self._key, f"{address}\n{agent}".encode(errors="replace"), "sha256")[:12].hex()


def _some_links(session: Session, most: int) -> list[tuple[int, str]]:
    everybodys = select(Link.id, Link.url).where(col(Link.delivery_id).is_(None))
    return [(id, url) for id, url in session.exec(everybodys.limit(max(most, 0)))]


def _target(session: Session, number: int) -> tuple[str | None, bool]:
    return target(session, number), is_own(session, number)
