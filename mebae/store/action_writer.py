"""Keeping opens and clicks before they are answered: what comes together shares a transaction (group commit).

Who clicks is never kept waiting for it: while the database is away the answer goes out all the same, and the actions wait
in memory until it is back.
"""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from mebae.errors import DatabaseUnavailable
from mebae.store.database import Database
from mebae.store.mail_actions import NewAction, store_actions

log = structlog.get_logger()

PATIENCE = 0.5
"""Seconds that an answer waits for its action's commit."""
PAUSE = 0.02
"""Seconds between two commits: on SQLite ingestion has its turn, and a few more share the next."""
AT_ONCE = 500
MOST = 20_000
"""Actions that wait in memory at most; what comes then is not recorded."""
AGAIN = 1.0
"""Seconds between two tries while the database is away."""


class ActionWriter:
    """Keeps actions. Belongs to one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[tuple[NewAction, asyncio.Future[None]]] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._lost = 0
        self._away = self._closing = False

    async def put(self, action: NewAction) -> None:
        """Keeps one; returns when it is committed, or when that takes too long: then it is still tried."""
        if len(self._waiting) >= MOST:
            self._lost += 1
            if self._lost % 1000 == 1:
                log.error("actions.not_recorded", so_far=self._lost, cure="the database is away for long")
            return
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = loop.create_future()
        self._waiting.append((action, kept))
        if self._draining is None or self._draining.done():
            self._draining = loop.create_task(self._drain())
        if not self._away:
            await asyncio.wait({kept}, timeout=PATIENCE)

    async def aclose(self) -> None:
        """Tries once more what still waits, and says how much is lost."""
        self._closing = True
        if self._draining is not None:
            await self._draining
        if self._waiting:
            log.error("actions.lost", opens_and_clicks=len(self._waiting), why="the database was away at the end")

    async def _drain(self) -> None:
        """Commits until nothing waits."""
        await asyncio.sleep(0)  # whoever is about to hand something over comes along
        while self._waiting:
            batch = [self._waiting[at] for at in range(min(AT_ONCE, len(self._waiting)))]
            if not await self._keep([action for action, _ in batch]):
                if self._closing:
                    return
                await asyncio.sleep(AGAIN)
                continue
            for _ in batch:
                _, kept = self._waiting.popleft()
                if not kept.done():
                    kept.set_result(None)
            await asyncio.sleep(PAUSE)

    async def _keep(self, actions: list[NewAction]) -> bool:
        """Whether they are dealt with: kept, or impossible to keep."""
        try:
            await self._database.write(store_actions, actions)
        except DatabaseUnavailable:
            if not self._away:
                log.warning("actions.database_away", cure="opens and clicks wait in memory until it answers")
            self._away = True
            return False
        except Exception as error:
            if len(actions) > 1:  # one by one: what is wrong with one costs no other
                return all([await self._keep([action]) for action in actions])
            log.error("actions.not_recorded", kind=type(error).__name__, delivery=actions[0].delivery)
        self._away = False
        return True
