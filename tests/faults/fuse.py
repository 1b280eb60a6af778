"""Failures at an exact place: a database and a transport that break at the k-th point where they touch the world.

A point is a moment between two things that the world sees: before a transaction, after its commit (the answer is lost),
before MAIL, between RCPT and the ledger's last word, after that before the first byte, after the final dot (the answer is
lost). What is behind them is real.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

from mebae.errors import DatabaseUnavailable
from mebae.mail.transport import Receipt, RelayUnavailable, Transport
from mebae.store.database import Database

DB, LINE = "database", "line"
CLAIMED = f"{DB}: after write 1"
ENTERED = f"{DB}: after write 2"
CONCLUDED = f"{DB}: after write 3"
"""The three transactions of a journey's mail."""
BEFORE_MAIL, BEFORE_DATA = f"{LINE}: before MAIL", f"{LINE}: before the last word"
IN_DATA, AFTER_DOT = f"{LINE}: in data", f"{LINE}: after the dot"


class Fault(Enum):
    """What happens at a point."""

    KILLED = "the process dies"
    DATABASE = "the database is away"
    LINE = "the line to the mail server breaks"

    def can_happen(self, point: str) -> bool:
        return self is Fault.KILLED or point.startswith(DB if self is Fault.DATABASE else LINE)


class Killed(BaseException):
    """The process is dead: no code may catch it and go on."""


class Fuse:
    """Counts the points of one process, and blows at one of them. After a death the process does nothing that the world sees."""

    def __init__(self, fault: Fault = Fault.KILLED, at: int | None = None) -> None:
        self.fault, self.at = fault, at
        self.points: list[str] = []
        self.writes = 0
        self.blown = self.dead = False

    def alive(self) -> None:
        if self.dead:
            raise Killed

    def point(self, name: str) -> None:
        self.alive()
        self.points.append(name)
        # How commits are grouped is chance, so that another thing may come at this point than the last time.
        if self.blown or self.at != len(self.points) - 1 or not self.fault.can_happen(name):
            return
        self.blown = True
        if self.fault is Fault.KILLED:
            self.dead = True
            raise Killed
        if self.fault is Fault.DATABASE:
            raise DatabaseUnavailable
        raise RelayUnavailable(name, after_data=name in (IN_DATA, AFTER_DOT))


class FusedDatabase:
    """A database whose transactions, and the answers to them, may fail."""

    def __init__(self, database: Database, fuse: Fuse) -> None:
        self._database, self._fuse = database, fuse

    async def write(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self._fuse.writes += 1
        number = self._fuse.writes
        self._fuse.point(f"{DB}: before write {number}")
        answer = await self._database.write(work, *args, **kwargs)
        self._fuse.point(f"{DB}: after write {number}")
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


class FusedTransport:
    """A transport whose line may break, and whose process may die, around each thing that it does."""

    def __init__(self, transport: Transport, fuse: Fuse) -> None:
        self._transport, self._fuse = transport, fuse

    async def deliver(
        self, envelope_from: str, to: str, message: bytes, *, before_data: Callable[[], Awaitable[None]]
    ) -> Receipt:
        async def last_word() -> None:
            self._fuse.point(BEFORE_DATA)
            await before_data()
            self._fuse.point(IN_DATA)

        self._fuse.point(BEFORE_MAIL)
        receipt = await self._transport.deliver(envelope_from, to, message, before_data=last_word)
        self._fuse.point(AFTER_DOT)
        return receipt

    async def aclose(self) -> None:
        await self._transport.aclose()


async def lived(fuse: Fuse, work: Callable[[], Awaitable[Any]]) -> Any:
    """Runs one process to its end, or to its death: then all its tasks are gone, and the answer is None.

    Raises what the process raised.
    """
    loop, tasks = asyncio.get_running_loop(), list[asyncio.Task[Any]]()

    def made(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
        tasks.append(asyncio.Task(coro, loop=loop, **more))
        return tasks[-1]

    loop.set_task_factory(made)
    try:
        task = asyncio.ensure_future(work())
        while not task.done() and not fuse.dead:
            await asyncio.wait([task], timeout=0.002)
        return None if fuse.dead else await task
    finally:
        while left := [one for one in tasks if not one.done()]:
            for one in left:
                one.cancel()
            await asyncio.wait(left, timeout=1)
        loop.set_task_factory(None)
        for one in tasks:
            if not one.cancelled():
                one.exception()  # its death is no news
