"""The applier: turns the requests that were kept (`mebae.store.intake`) into stored, scored events.

Requests are taken in their order, in chunks, and read again with the code that read them before they were answered. One
transaction stores and scores their events, quarantines the bad ones and removes the requests: all of it or nothing, so a
crash at any point loses nothing and stores nothing twice. One applier works at a time, over all processes.

What can go wrong with one request holds up no other: an event that cannot be read, or that the database refuses, goes to
the quarantine with its reason; a request that our own code fails over is set aside, kept, and tried again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import structlog
from sqlalchemy import delete, func, text
from sqlalchemy import select as select_columns
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError, StatementError
from sqlmodel import Session, col, select

from mebae.clock import WorldClock
from mebae.errors import DatabaseUnavailable
from mebae.http.body import HttpError, Unparsed, parse
from mebae.http.segment import Kind, read_batch
from mebae.quarantine import BadEvent, json_of_event, keep
from mebae.store.database import Database
from mebae.store.ingest import Incoming, store_events
from mebae.store.tables import IntakeRow

log = structlog.get_logger()

EVENTS_AT_ONCE = 500
"""Events of one transaction (a request is never split)."""
EVENTS_AT_ONCE_ON_SQLITE = 100
"""Nobody else writes there meanwhile, and every answer of the server waits for its commit."""
BYTES_AT_ONCE = 4 * 1024 * 1024
IDLE = 0.1
"""Seconds between looks when nothing waits."""
FIRST_ASIDE, LONGEST_ASIDE = 5.0, 600.0
"""Seconds for which a request that our code fails over is left alone: the first time, and at most."""
UNSTORABLE = "holds something that cannot be stored"

_LOCK = 0x6D6562616501  # one applier at a time on PostgreSQL; SQLite lets one write at a time anyway


@dataclass(frozen=True)
class Request:
    """A kept request."""

    id: int
    kind: str | None
    body: bytes
    received_at: datetime
    """By the machine's clock."""
    public: bool = False
    """Sent with a key that stands in web pages."""


@dataclass
class Read:
    """A request, read: its events, each with its place in it, and those that cannot be taken."""

    request: Request
    incoming: list[Incoming] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    bad: list[BadEvent] = field(default_factory=list)


@dataclass
class Applied:
    """What became of a chunk."""

    requests: int = 0
    events: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    """How many for which reason."""


class Applier:
    """Runs until cancelled. `on_applied` is called after each chunk."""

    def __init__(
        self, database: Database, *, clock: WorldClock, on_applied: Callable[[], None] = lambda: None,
        machine: Callable[[], datetime] | None = None,
    ) -> None:  # fmt: skip
        self._database, self._clock, self._on_applied = database, clock, on_applied
        self._machine = machine or (lambda: datetime.now(UTC))
        self._aside: dict[int, tuple[float, float]] = {}
        """Requests that our code failed over: until when (machine, monotonic), and for how long next time."""

    async def run(self) -> None:
        away = False
        while True:
            try:
                applied = await self.round()
                away = False
            except DatabaseUnavailable:
                if not away:
                    log.warning("applier.database_away", cure="it goes on by itself when the database answers")
                away, applied = True, 0
                await asyncio.sleep(1)
            if applied:
                self._on_applied()
            else:
                await asyncio.sleep(IDLE)

    async def round(self) -> int:
        """One chunk; if it fails, its requests one by one, so that what is wrong with one holds up no other. How many went."""
        now = asyncio.get_running_loop().time()
        aside = [id for id, (until, _) in self._aside.items() if until > now]
        most = EVENTS_AT_ONCE_ON_SQLITE if self._database.sqlite else EVENTS_AT_ONCE
        requests = await self._database.read(waiting, aside, most=most)
        if not requests:
            return 0
        try:
            return await self._apply(requests)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            log.error("applier.chunk_failed", kind=type(error).__name__, requests=len(requests))
        done = 0
        for request in requests:
            try:
                done += await self._apply([request])
                self._aside.pop(request.id, None)
            except DatabaseUnavailable:
                raise
            except Exception:
                _, pause = self._aside.get(request.id, (0.0, FIRST_ASIDE))
                self._aside[request.id] = (now + pause, min(2 * pause, LONGEST_ASIDE))
                cure = "it is kept and tried again; with a newer release it may pass"
                log.exception("applier.request_set_aside", request=request.id, seconds=pause, cure=cure)
        return done

    async def _apply(self, requests: Sequence[Request]) -> int:
        machine = self._machine()
        # Read outside the transaction: on SQLite the server waits while it lasts.
        reads = await asyncio.to_thread(read_all, requests, self._clock, machine)
        now = self._clock.world(machine)
        applied = await self._database.write(apply, reads, now)
        if applied.quarantined:
            log.warning("applier.quarantined", reasons=applied.quarantined, cure="see `mebae quarantine list`")
        return applied.requests


def apply_once(session: Session, *, clock: WorldClock, most: int = EVENTS_AT_ONCE) -> Applied:
    """One chunk in one transaction, for tests and commands: `while database.write_now(apply_once, clock=clock).requests: …`"""
    reads = read_all(waiting(session, most=most), clock)
    return apply(session, reads, clock.world(datetime.now(UTC)))


# Reading -------------------------------------------------------------------------------------------------------------


def waiting(session: Session, aside: Collection[int] = (), *, most: int = EVENTS_AT_ONCE) -> list[Request]:
    """The oldest requests, as many as go into one transaction; at least one, however large it is."""
    size = func.length(col(IntakeRow.body))
    query = select(IntakeRow.id, IntakeRow.events, size).order_by(col(IntakeRow.id)).limit(most)
    if aside:
        query = query.where(col(IntakeRow.id).not_in(aside))
    chosen: list[int] = []
    events_left, bytes_left = most, BYTES_AT_ONCE
    for id, events, length in session.exec(query):
        events_left -= events
        bytes_left -= length
        if chosen and (events_left < 0 or bytes_left < 0):
            break
        chosen.append(cast(int, id))
    if not chosen:
        return []
    row = IntakeRow
    columns = (col(row.id), col(row.kind), col(row.body), col(row.received_at), col(row.public))
    rows = select_columns(*columns).where(
        col(IntakeRow.id).in_(chosen)
    )
    return [Request(cast(int, one[0]), *one[1:]) for one in session.execute(rows.order_by(col(IntakeRow.id)))]


def read_all(requests: Iterable[Request], clock: WorldClock, machine: datetime | None = None) -> list[Read]:
    return [read_request(request, clock, machine) for request in requests]


def read_request(request: Request, clock: WorldClock, machine: datetime | None = None) -> Read:
    """The events of a request. What is bad in it is part of what comes back: bad input raises nothing.

    `machine`: the machine's time. What is here was not received later than that, and a server whose clock is fast dates no
    events into the future.
    """
    received = request.received_at if machine is None else min(request.received_at, machine)
    read = Read(request)
    try:
        body = parse(request.body)
        batch = read_batch(
            body,
            clock=clock,
            received=received,
            size=len(request.body),
            kind=cast(Kind | None, request.kind),
            public=request.public,
        )
    except HttpError as error:  # it was checked before it was kept, so only a release in between brings us here
        read.bad.append(BadEvent(0, error.message, request.body))
        return read
    read.incoming, read.places = batch.incoming, batch.places
    read.bad = [BadEvent(one.index, one.reason, _json_of(request, body, one.index)) for one in batch.rejected]
    return read


def _json_of(request: Request, body: dict[str, object], index: int) -> bytes:
    if request.kind is not None:
        return json_of_event(body, {}, request.body)
    events = cast(list[object], body["batch"])
    event = events[index]
    if isinstance(event, Unparsed):
        return json_of_event(None, body, event.text.encode())
    return json_of_event(event, body, request.body, index)


# Storing -------------------------------------------------------------------------------------------------------------


def apply(session: Session, reads: Sequence[Read], now: datetime) -> Applied:
    """Stores what was read and removes the requests, in the caller's transaction. `now` is the world's time.

    Requests that are gone meanwhile were applied by another process. None goes while another one is at it.
    """
    applied = Applied()
    if not reads or not _my_turn(session):
        return applied
    ids = [read.request.id for read in reads]
    rows = session.exec(select(IntakeRow.id, IntakeRow.received_at).where(col(IntakeRow.id).in_(ids)))
    there = {(id, received) for id, received in rows}
    # By its time too: SQLite gives an id again once all rows are gone, and then it is another request, not read yet.
    reads = [read for read in reads if (read.request.id, read.request.received_at) in there]
    ids = [read.request.id for read in reads]
    events = [(one, read, place) for read in reads for one, place in zip(read.incoming, read.places, strict=True)]
    refused = _store(session, events, now)
    bad_of = {read.request.id: list(read.bad) for read in reads}
    for _, read, place in refused:
        body = _json_of(read.request, parse(read.request.body), place)
        bad_of[read.request.id].append(BadEvent(place, UNSTORABLE, body))
    for read in reads:
        for bad in bad_of[read.request.id]:
            keep(
                session,
                bad,
                request=read.request.id,
                kind=read.request.kind,
                public=read.request.public,
                received=read.request.received_at,
                now=now,
            )
            applied.quarantined[bad.reason] = applied.quarantined.get(bad.reason, 0) + 1
    session.execute(delete(IntakeRow).where(col(IntakeRow.id).in_(ids)))
    applied.requests += len(reads)
    applied.events += len(events) - len(refused)
    return applied


_Event = tuple[Incoming, Read, int]


def _store(session: Session, events: Sequence[_Event], now: datetime) -> list[_Event]:
    """Stores events; those that the database cannot keep come back, found by halving: the others go in, in their order."""
    if not events:
        return []
    try:
        with session.begin_nested():
            store_events(session, [one for one, _, _ in events], now)
        return []
    except (DataError, StatementError) as error:
        if not _is_about_data(error):
            raise
    if len(events) == 1:
        return list(events)
    half = len(events) // 2
    return _store(session, events[:half], now) + _store(session, events[half:], now)


def _is_about_data(error: SQLAlchemyError) -> bool:
    """Whether the values are at fault, and not the database."""
    return isinstance(error, DataError) or not isinstance(error, DBAPIError)


def _my_turn(session: Session) -> bool:
    if session.get_bind().dialect.name == "sqlite":
        return True
    return bool(session.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}).scalar())
