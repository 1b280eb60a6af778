"""Group commit: what many ask of the database at once is written in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlmodel import Session

from mebae.errors import Temporary
from mebae.store.database import Database

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """While one transaction runs, what is asked for meanwhile waits for the next one: the busier, the fewer commits a piece.

    Args:
        work: answers all of them in one transaction, in their order.
        most: how many share one, so that none holds its locks for long.
        linger: seconds that the first one waits for company. A commit costs nearly the same for one as for twenty.
    """

    def __init__(
        self,
        database: Database,
        work: Callable[[Session, Sequence[T]], Sequence[R]],
        *,
        most: int = 100,
        linger: float = 0.0,
    ) -> None:
        self._database, self._work, self._most, self._linger = database, work, most, linger
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, one: T) -> R:
        """The answer, committed. Raises what the transaction raised."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, future))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            if len(self._waiting) < self._most:
                await asyncio.sleep(self._linger)
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            if not await self._together(batch):
                for one in batch:  # what is wrong with one is no reason to keep the others from their answers
                    await self._together([one])

    async def _together(self, batch: list[tuple[T, asyncio.Future[R]]]) -> bool:
        try:
            answers = await self._database.write(self._work, [one for one, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, Temporary):
                return False
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return True
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
        return True
