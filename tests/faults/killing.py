"""A worker that is killed (`kill -9`) again and again while mails go out, each time as soon as it is seen to work."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession

from tests.faults.campaign import Tick
from tests.house import Relay
from tests.test_crashes import WorkerProcess

PATIENCE = 150.0
"""Seconds without a mail, after which a campaign is over and is reckoned up as it stands. A dead worker is noticed after ten."""
STANDSTILL = 30.0
"""Seconds without a mail, after which the next kill comes all the same."""
BLINDLY = 0.1
"""The share of kills that wait for no mail: in the first seconds after a start, wherever the worker is then."""
FIRST_SECONDS = 3.0


class Slow(Relay):
    """Takes its time between the final dot and its answer, so that a kill meets mails whose fate nobody knows."""

    def __init__(self, delay: float = 0.02) -> None:
        super().__init__()
        self._delay = delay
        self.taken: Counter[str] = Counter()
        """How often each Message-ID came whole: the final dot was there."""

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:
        answer = await super().handle_DATA(server, session, envelope)
        self.taken[str(self.mails.pop()["Message-ID"])] += 1
        await asyncio.sleep(self._delay)
        return answer


class Killing:
    """One campaign's kills. `killed`: how many there were. `gave_up`: why it ended before all was done; empty if it did not.

    Args:
        over: whether all is done. It is asked now and then.
        mails: how many go out in all, over which the kills are spread.
    """

    def __init__(self, worker: WorkerProcess, relay: Slow, *, over: Callable[[], bool], mails: int, dice: random.Random) -> None:
        self._worker, self._relay, self._over, self._mails, self._dice = worker, relay, over, mails, dice
        self.killed, self.gave_up = 0, ""

    async def run(self, kills: int, tick: Tick, before: Callable[[int], Awaitable[int]] | None = None) -> None:
        """Kills so often, then lets it come to its end. `before`: what happens before each of them, the worker being there; it
        says how many mails have been asked for by then."""
        for kill in range(kills):
            asked = self._mails if before is None else await before(kill)
            so_far = self._relay.taken.total()
            # What is left is spread over the kills that are left, whatever came more or less than was meant.
            left = (0.95 * self._mails - so_far) / (kills - kill)
            goal = min(so_far + self._dice.randint(1, max(1, round(2 * left) - 1)), round(0.9 * asked))
            if self._dice.random() < BLINDLY:
                await asyncio.sleep(self._dice.uniform(0, FIRST_SECONDS))
            elif not await self._until(goal, STANDSTILL):
                break
            await self._worker.kill()
            self.killed += 1
            tick((kill + 1) / (kills + 1))
            try:
                await self._worker.start()
            except (TimeoutError, AssertionError):
                self.gave_up = f"given up after {self.killed} kills, as the worker did not start again"
                return
        if await self._until(None, PATIENCE):
            self.gave_up = f"given up after {self.killed} kills, as no mail came for {PATIENCE:.0f} s"

    async def _until(self, goal: int | None, patience: float) -> bool:
        """Waits for so many mails in all, as long as one comes now and then; false if all is done."""
        loop = asyncio.get_running_loop()
        seen, since, looked = self._relay.taken.total(), loop.time(), loop.time()
        while goal is None or self._relay.taken.total() < goal:
            await asyncio.sleep(0.005)
            now = loop.time()
            if now - looked > 0.5:
                if await asyncio.to_thread(self._over):
                    return False
                looked = loop.time()
            if self._relay.taken.total() > seen:
                seen, since = self._relay.taken.total(), now
            if now - since > patience:
                return True
        return True
