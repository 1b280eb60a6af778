"""Transactions. A transaction is a plain function of a session; `Database` runs it in a thread, once or, after a deadlock, again.

On SQLite every writing transaction is `BEGIN IMMEDIATE`: deferred ones failed 29-77 % of the time with two processes.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlmodel import Session, create_engine, select

from mebae.errors import DatabaseUnavailable
from mebae.private import private_file, private_folder
from mebae.store.tables import Lead
from mebae.store.turns import Turns

P = ParamSpec("P")
T = TypeVar("T")
log = structlog.get_logger()

_TRIES = 8
_BUSY = 30.0
"""Seconds that a transaction waits for another process to let go of SQLite."""
_POSTGRES_ANSWERS = {
    "connect_timeout": 5,
    # A server that vanished without a word (a cable, a firewall) is noticed in seconds and not in the kernel's two hours.
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}


class Database:
    """One database, SQLite or PostgreSQL by its URL. Made in the composition roots, closed by them."""

    def __init__(self, url: str, *, threads: int = 8) -> None:
        self.url = url
        self.sqlite = url.startswith("sqlite")
        self.engine = _engine(url, threads)
        self._reading = self.engine.execution_options(mebae_reads=True)
        # SQLite lets one write at a time, and those that wait sleep up to 100 ms between two looks: 16 mails at once took
        # 0.8 s each. A turn of our own hands over at once, to other processes too.
        self._turns = Turns(_file_of(url)) if self.sqlite else None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="db")

    async def write(self, work: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `work(session, …)` in one transaction and commits it. Work may run twice: it must do nothing outside the session."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, partial(self.write_now, work, *args, **kwargs)
        )

    async def read(self, work: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` for work that only reads: on SQLite it neither waits for writers nor holds them up."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, partial(self.read_now, work, *args, **kwargs)
        )

    def write_now(self, work: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`write`, in this thread."""
        return self._run(self.engine, self._turns, lambda session: work(session, *args, **kwargs))

    def read_now(self, work: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """`read`, in this thread."""
        return self._run(self._reading, None, lambda session: work(session, *args, **kwargs))

    def _run(self, engine: Engine, turns: Turns | None, work: Callable[[Session], T]) -> T:
        for attempt in range(_TRIES):
            try:
                turn = nullcontext() if turns is None else turns.turn(_BUSY)
                with turn, Session(engine, expire_on_commit=False) as session, session.begin():
                    return work(session)
            except (OperationalError, InterfaceError, DBAPIError) as error:
                if not _may_pass(error):
                    if isinstance(error, (OperationalError, InterfaceError)):
                        log.warning("database.unavailable", kind=type(error.orig).__name__)
                        raise DatabaseUnavailable from None
                    raise
                if attempt == _TRIES - 1:
                    raise DatabaseUnavailable from None
                time.sleep(random.uniform(0.005, 0.02) * 2**attempt)  # noqa: S311
        raise AssertionError("unreachable")

    @contextmanager
    def driver(self, patience: float) -> Iterator[Any]:
        """One writing transaction on the driver's own connection, for the hot path of ingestion. The driver's errors come through.

        It is given up after `patience` seconds of waiting for a lock or for an answer, and committed at the end of the block.
        """
        if not self.sqlite:
            with self._borrowed() as connection:
                connection.execute(f"SET LOCAL statement_timeout = {int(patience * 1000)}")
                yield connection
                connection.commit()
            return
        assert self._turns is not None
        try:
            with self._turns.turn(patience, need=True) as left, self._borrowed() as connection:
                connection.execute(f"PRAGMA busy_timeout={int(left * 1000)}")
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.rollback()
                    connection.execute(f"PRAGMA busy_timeout={int(_BUSY * 1000)}")
        except TimeoutError:
            raise DatabaseUnavailable from None

    @contextmanager
    def _borrowed(self) -> Iterator[Any]:
        """A connection of the pool; one that went wrong does not come back to it."""
        borrowed = self.engine.raw_connection()
        try:
            yield borrowed.driver_connection
        except BaseException:
            borrowed.invalidate()
            raise
        finally:
            borrowed.close()

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        self.engine.dispose()
        if self._turns is not None:
            self._turns.close()


def lock_lead(session: Session, lead_id: int) -> Lead | None:
    """The lead, locked until the transaction ends: everything that must not interleave for one lead goes through here.

    Read anew, also where the session knows the row already: what it knows may be older than the lock.
    """
    query = select(Lead).where(Lead.id == lead_id).with_for_update().execution_options(populate_existing=True)
    return session.exec(query).first()


def _file_of(url: str) -> Path | None:
    """The file of a SQLite database; None for one in memory."""
    path = url.removeprefix("sqlite:///")
    return Path(path) if path and path != url and path != ":memory:" else None


def _engine(url: str, threads: int) -> Engine:
    if not url.startswith("sqlite"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        return create_engine(
            url, pool_size=threads, max_overflow=2, pool_pre_ping=True, pool_recycle=1800, json_serializer=_to_json,
            connect_args=_POSTGRES_ANSWERS,
        )  # fmt: skip
    path = _file_of(url)
    if path is not None:
        private_folder(path.parent)
    engine = create_engine(
        url,
        connect_args={"timeout": _BUSY, "check_same_thread": False},
        pool_size=threads,
        max_overflow=2,
        json_serializer=_to_json,
    )

    @event.listens_for(engine, "do_connect")
    def _make(*_: object) -> None:
        # SQLite gives its other files (-wal, -shm) the mode of this one.
        if path is not None:
            with suppress(OSError):  # SQLite says what is wrong
                private_file(path)

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's BEGIN, below, and not the driver's
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={int(_BUSY * 1000)}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        reads = connection.get_execution_options().get("mebae_reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _to_json(value: Any) -> str:
    """Japanese as it is; NaN and Infinity, which are no JSON and would break every later query, are refused here."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _may_pass(error: DBAPIError) -> bool:
    """Deadlock, serialisation failure or a busy SQLite: the same transaction may pass a moment later."""
    state = getattr(error.orig, "sqlstate", None)
    return state in ("40P01", "40001") or (
        isinstance(error.orig, sqlite3.OperationalError) and "locked" in str(error.orig)
    )
