"""What the demo's leads do with the mails that they get: they look, and they click, in the mails themselves.

Nothing leaves the machine: a click ends at our own answer, and where that leads is not gone to.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import lxml.html  # type: ignore[import-untyped]
import structlog

from mebae.errors import NotFound
from mebae.mail.inbox import Inbox
from mebae.mail.tracking import CLICK, OPEN, TRAP

log = structlog.get_logger()

GATEWAY = "Mozilla/5.0 (compatible; Barracuda Email Gateway Defense)"
"""The words of a mail gateway that looks at every link."""


@dataclass(frozen=True)
class Received:
    """The addresses in a mail that lead to us."""

    image: str | None
    links: tuple[str, ...]
    trap: str | None


class MailReader:
    """Reads the embedded inbox, and asks for what stands in its mails."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="reader")
        self._client = httpx.Client(timeout=5, follow_redirects=False)

    def find(self, email: str, step: str) -> Received | None:
        """The newest mail of a step to this address."""
        entry = next((one for one in self._inbox.page(to=email) if one.step == step), None)
        if entry is None:
            return None
        try:
            html = self._inbox.get(entry.id).html
        except NotFound:
            return None
        tree = lxml.html.document_fromstring(html)
        hrefs = [str(href) for href in tree.xpath("//a/@href")]
        images = [str(src) for src in tree.xpath("//img/@src")]
        return Received(
            image=next((src for src in images if OPEN in src), None),
            links=tuple(href for href in hrefs if CLICK in href),
            trap=next((href for href in hrefs if TRAP in href), None),
        )

    def look(self, mail: Received, agent: str) -> None:
        """Shows the mail: its images are fetched."""
        if mail.image is not None:
            self._ask(mail.image, agent)

    def click(self, mail: Received, agent: str) -> None:
        """Clicks the first link."""
        if mail.links:
            self._ask(mail.links[0], agent)

    def scan(self, mail: Received) -> None:
        """Follows every link, as gateways do."""
        for url in filter(None, (mail.trap, *mail.links)):
            self._ask(url, GATEWAY)

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        self._client.close()

    def _ask(self, url: str, agent: str) -> None:
        self._pool.submit(self._get, url, agent)

    def _get(self, url: str, agent: str) -> None:
        try:
            self._client.get(url, headers={"User-Agent": agent})
        except httpx.HTTPError as error:
            log.warning("demo.no_answer", kind=type(error).__name__)
