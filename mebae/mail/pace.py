"""How fast mail goes out, over all workers: every mail has a slot in time, and the database gives the slots out.

A journey's mail takes the next slot and goes: Temporal lets no more of them start a second (the mail queue's own limit). A
broadcast's waits until its slot has come, so what journeys send comes first, and a broadcast has what they leave. The slots
are of the machine's time: a mail server knows no other.
"""

from __future__ import annotations

import asyncio
from asyncio import sleep
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlmodel import Session, select

from mebae.store.database import Database
from mebae.store.tables import Workspace

AHEAD = timedelta(seconds=1)
"""How far ahead a broadcast takes slots: a second's worth in one transaction."""
WRONG = timedelta(minutes=1)
"""Slots further ahead, and ten mails, were given out by a clock that went wrong, since nobody takes more than a second's worth:
they bind nobody."""
_LOOK = 0.5
"""Seconds after which one who waits looks whether there is still something to wait for."""


class Pace:
    """Made once a worker.

    Args:
        rate: mails a second; 0: as fast as the mail server takes them, and nobody waits.
        machine: the machine's time.
    """

    def __init__(self, database: Database, rate: float, *, machine: Callable[[], datetime] | None = None) -> None:
        self.rate = rate
        self._database, self._machine = database, machine or (lambda: datetime.now(UTC))
        self._slots: deque[datetime] = deque()
        self._asking = asyncio.Lock()

    def charge(self, session: Session) -> None:
        """One mail goes now, in this transaction: a slot less for those that wait."""
        if self.rate:
            reserve(session, self.rate, 1, self._machine(), ahead=timedelta.max)

    async def turn(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """Waits for a slot, or until it is given up."""
        while self.rate and not given_up():
            slot = await self._slot()
            wait = (slot - self._machine()).total_seconds() if slot is not None else _LOOK
            while wait > 0 and not given_up():
                await sleep(min(wait, _LOOK))
                wait = (slot - self._machine()).total_seconds() if slot is not None else 0
            if slot is not None:
                return

    async def _slot(self) -> datetime | None:
        """The next one; None if there is none to be had yet."""
        async with self._asking:
            while self._slots and self._slots[0] < self._machine() - AHEAD:
                self._slots.popleft()  # nobody used it in time: later ones must not come all at once
            if not self._slots:
                most = max(1, int(self.rate * AHEAD.total_seconds()))
                self._slots.extend(await self._database.write(reserve, self.rate, most, self._machine()))
            return self._slots.popleft() if self._slots else None


def reserve(
    session: Session, rate: float, most: int, machine: datetime, *, ahead: timedelta = AHEAD
) -> list[datetime]:
    """Takes the next slots, at most so many; none if the first is further ahead."""
    row = session.exec(select(Workspace).with_for_update().execution_options(populate_existing=True)).one()
    first = max(row.mail_slot_at or machine, machine)
    if first - machine > WRONG + timedelta(seconds=10 / rate):
        first = machine
    if first - machine > ahead:
        return []
    row.mail_slot_at = first + timedelta(seconds=most / rate)
    session.flush()
    return [first + timedelta(seconds=n / rate) for n in range(most)]
