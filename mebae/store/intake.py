"""Keeping requests before they are answered: everything that waits goes into one transaction (group commit).

One `fsync` for each request would allow a few hundred a second. So requests hand over what they brought and wait; one
thread takes all that wait, commits it, and all are answered together. The more come at once, the more share a commit.
What is kept here, the applier (`mebae.applier`) turns into stored and scored events.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
from sqlalchemy import func
from sqlmodel import Session, col, select

from mebae.errors import DatabaseUnavailable, Overloaded
from mebae.store.database import Database
from mebae.store.tables import IntakeRow

log = structlog.get_logger()

PATIENCE = 4.0
"""Seconds that a commit waits for a lock, and for an answer of PostgreSQL."""
LONGEST = 8.0
"""Seconds after which requests that wait for a commit are told to come again, even if nothing has been heard of it."""
PAUSE = 0.005
"""Seconds between two commits on SQLite, in which another process gets its turn to write."""
LINGER = 0.002
"""The same on PostgreSQL, so that a few more share the next commit."""
ROWS_AT_ONCE = 2_000
BYTES_AT_ONCE = 8 * 1024 * 1024

_SQLITE = "INSERT INTO intake (kind, body, events, public, received_at) VALUES (?, ?, ?, ?, ?)"
# One statement with four arrays: a tenth of the cost of as many statements as rows.
_POSTGRES = (
    "INSERT INTO intake (kind, body, events, public, received_at) "
    "SELECT * FROM unnest(%b::text[], %b::bytea[], %b::int[], %b::bool[], %b::timestamptz[])"
)


@dataclass(frozen=True)
class Limits:
    """From where on requests are turned away with 429, so that memory, disk and waiting stay bounded."""

    waiting: int = 2_000
    """Requests that wait for a commit."""
    held: int = 64 * 1024 * 1024
    """Bytes of requests that are being read or wait for a commit."""
    stored: int = 1024 * 1024 * 1024
    """Bytes of requests that are kept and not applied yet: the applier is away or too slow."""


class _Row(NamedTuple):
    kind: str | None
    body: bytes
    events: int
    public: bool
    received: datetime


class IntakeWriter:
    """Keeps requests. Belongs to one event loop at a time; needs no starting, and `Database.close` ends what it has open."""

    def __init__(self, database: Database, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._database = database
        self._waiting: deque[tuple[_Row, asyncio.Future[None]]] = deque()
        self._held = 0
        self._draining: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="intake")
        self._stuck = False
        self._stored = 0
        """Bytes that wait to be applied: as last counted, and what was written since."""
        self._counting: asyncio.Task[None] | None = None
        self._count_at = 0.0

    def hold(self, size: int) -> None:
        """Says that a request takes so many bytes of memory. `Overloaded` if that would be too many; `let_go` gives them back."""
        if self._held + size > self.limits.held:
            raise Overloaded
        self._held += size

    def let_go(self, size: int) -> None:
        self._held -= size

    async def put(
        self, kind: str | None, body: bytes, events: int, received: datetime, *, public: bool = False
    ) -> None:
        """Keeps one request; returns when it is committed. `received` is the machine's time, `public`: by a page's key.

        Raises `Overloaded` or `DatabaseUnavailable`. After the latter it may have been kept all the same: what comes again
        is known by its message ids.
        """
        loop = asyncio.get_running_loop()
        if time.monotonic() >= self._count_at and (self._counting is None or self._counting.done()):
            self._counting = loop.create_task(self._count())
        if self._stuck:
            raise DatabaseUnavailable
        if len(self._waiting) >= self.limits.waiting or self._stored > self.limits.stored:
            raise Overloaded
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append((_Row(kind, body, events, public, received), waiter))
        if self._draining is None or self._draining.done():
            self._draining = loop.create_task(self._drain())
        await waiter

    async def _drain(self) -> None:
        """Commits until nobody waits."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)  # whoever is about to hand something over comes along
        while self._waiting:
            rows, waiters = self._take()
            work = loop.run_in_executor(self._thread, self._commit, rows)
            done, _ = await asyncio.wait({work}, timeout=LONGEST)
            if not done:
                log.warning("intake.no_answer", waited=LONGEST, requests=len(rows))
                self._stuck = True
                _answer(waiters, kept=False)
                _answer([waiter for _, waiter in self._waiting], kept=False)
                self._waiting.clear()
                try:
                    with suppress(DatabaseUnavailable):
                        await work
                finally:
                    self._stuck = False
                continue
            failed = work.exception()
            if failed is None:
                self._stored += sum(len(row.body) for row in rows)
            _answer(waiters, kept=failed is None)
            await asyncio.sleep(PAUSE if self._database.sqlite else LINGER)

    def _take(self) -> tuple[list[_Row], list[asyncio.Future[None]]]:
        """What goes into the next transaction."""
        rows: list[_Row] = []
        waiters: list[asyncio.Future[None]] = []
        size = 0
        while self._waiting and len(rows) < ROWS_AT_ONCE and size < BYTES_AT_ONCE:
            row, waiter = self._waiting.popleft()
            if waiter.cancelled():  # the client went away
                continue
            rows.append(row)
            waiters.append(waiter)
            size += len(row.body)
        return rows, waiters

    def _commit(self, rows: list[_Row]) -> None:
        """One transaction, in the writer's thread. Whatever goes wrong: it was not kept, the client sends it again."""
        if not rows:
            return
        try:
            with self._database.driver(PATIENCE) as connection:
                if self._database.sqlite:
                    connection.executemany(_SQLITE, [(*row[:4], _sqlite_time(row.received)) for row in rows])
                else:
                    connection.execute(_POSTGRES, [list(column) for column in zip(*rows, strict=True)])
        except Exception as error:
            log.warning("intake.not_kept", kind=type(error).__name__, requests=len(rows))
            raise DatabaseUnavailable from None

    async def _count(self) -> None:
        """Counts what waits to be applied, at most a twentieth of the time."""
        began, before = time.monotonic(), self._stored
        try:
            counted = await self._database.read(stored_bytes)
        except Exception as error:
            log.warning("intake.not_counted", kind=type(error).__name__)
        else:
            self._stored = counted + self._stored - before
            if self._stored > self.limits.stored:
                cure = "is the worker running? Requests are answered 429 until it has applied some"
                log.warning("intake.backlog", megabytes=self._stored >> 20, cure=cure)
        self._count_at = time.monotonic() + max(1.0, 20 * (time.monotonic() - began))


def stored_bytes(session: Session) -> int:
    """Bytes of the requests that are kept and not applied yet. Reads no body: its length stands beside it."""
    return int(session.exec(select(func.coalesce(func.sum(func.length(col(IntakeRow.body))), 0))).one())


def _answer(waiters: list[asyncio.Future[None]], *, kept: bool) -> None:
    for waiter in waiters:
        if not waiter.done():
            if kept:
                waiter.set_result(None)
            else:
                waiter.set_exception(DatabaseUnavailable())


def _sqlite_time(moment: datetime) -> Any:
    """As SQLAlchemy writes it there."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
