"""All that leads reach from their mails: tracking and their own pages. For the composition root."""

from __future__ import annotations

import structlog
from fastapi import APIRouter

from mebae.clock import WorldClock
from mebae.http.lead_pages import LeadPages
from mebae.http.tracking import Tracker
from mebae.machines import Machines
from mebae.mail.outgoing import MailSettings
from mebae.store.database import Database

log = structlog.get_logger()


class LeadSide:
    """The routes, and what must be ended with the server. Without a key for tokens there are none."""

    def __init__(
        self, database: Database, mail: MailSettings, clock: WorldClock, *, machines: Machines | None = None
    ) -> None:
        self.routers: list[APIRouter] = []
        self._tracker: Tracker | None = None
        if mail.tokens is None:
            log.warning("server.no_token_keys", cure="set MEBAE_TOKEN_KEYS; until then nobody can click or unsubscribe")
            return
        self._tracker = Tracker(database, mail.tokens, clock, machines=machines)
        self.routers = [self._tracker.routes(), LeadPages(database, mail, clock).routes()]

    async def aclose(self) -> None:
        """Keeps what came in last."""
        if self._tracker is not None:
            await self._tracker.aclose()
