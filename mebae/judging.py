"""The judge: says of each open and click whether a person did it, a moment after it came in, and makes it an event.

It runs in the worker beside the applier. Several may run: what one has taken, the others skip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from mebae.errors import DatabaseUnavailable
from mebae.store.database import Database
from mebae.store.mail_actions import AT_ONCE, judge_actions, waiting
from mebae.verdicts import Tuning

log = structlog.get_logger()

IDLE = 0.2
"""Seconds between looks when nothing is old enough."""
ASIDE_FOR = 60.0
"""Seconds for which an action that cannot be judged is left alone; the others go on."""


class Judge:
    """Runs until cancelled. `now` is the world's."""

    def __init__(self, database: Database, *, now: Callable[[], datetime], tuning: Tuning) -> None:
        self._database, self._now, self._tuning = database, now, tuning
        self._aside: dict[int, float] = {}
        """Actions that could not be judged, until when (machine, monotonic)."""

    async def run(self) -> None:
        away = False
        while True:
            try:
                judged = await self.round()
                away = False
            except DatabaseUnavailable:
                if not away:
                    log.warning("judge.database_away", cure="it goes on by itself when the database answers")
                away, judged = True, 0
                await asyncio.sleep(1)
            if judged < AT_ONCE:
                await asyncio.sleep(IDLE)

    async def round(self) -> int:
        """One batch; if it fails, its actions one by one, so that what is wrong with one holds up no other."""
        clock = asyncio.get_running_loop().time()
        self._aside = {id: until for id, until in self._aside.items() if until > clock}
        now = self._now()
        ids = await self._database.read(waiting, now - self._tuning.wait, AT_ONCE, list(self._aside))
        if not ids:
            return 0
        try:
            return await self._database.write(judge_actions, ids, now, self._tuning)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            log.error("judge.batch_failed", kind=type(error).__name__, actions=len(ids))
        judged = 0
        for id in ids:
            try:
                judged += await self._database.write(judge_actions, [id], now, self._tuning)
            except DatabaseUnavailable:
                raise
            except Exception:
                self._aside[id] = clock + ASIDE_FOR
                log.exception("judge.action_set_aside", action=id, seconds=ASIDE_FOR, cure="it is kept and tried again")
        return judged
