"""What all campaigns share: what they find, the databases that they run on, and the reckoning afterwards."""

from __future__ import annotations

import asyncio
import math
import os
import random
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, func, select

from mebae.applier import Applier
from mebae.clock import WorldClock
from mebae.scoring import Event as Done
from mebae.scoring import reckon, replay
from mebae.scoring_loading import load_scoring
from mebae.store.database import Database
from mebae.store.migrate import migrate
from mebae.store.scoring import active_scoring, profile_of, publish_scoring, stored_events, tally_of
from mebae.store.tables import IntakeRow, Lead
from tests.postgres import PostgresServer, running_postgres

ROOT = Path(__file__).resolve().parents[2]
Tick = Callable[[float], None]
"""Tells how far a campaign is: from 0 to 1."""


def silent(_: float) -> None:
    """For tests."""


@dataclass(frozen=True)
class Finding:
    """What came of one fault: a row of the table in docs/reliability.md."""

    fault: str
    done: str
    bar: str
    measured: str
    good: bool

    def __str__(self) -> str:
        return " | ".join(["", self.fault, self.done, self.bar, ("" if self.good else "**missed**: ") + self.measured, ""]).strip()


@dataclass
class Home:
    """A database of a campaign's own, with all tables, and a folder."""

    url: str
    folder: Path
    postgres: PostgresServer | None = None

    @property
    def kind(self) -> str:
        return "SQLite" if self.postgres is None else "PostgreSQL"


@contextmanager
def home(kind: str) -> Iterator[Home]:
    """`SQLite`, or `PostgreSQL` with a server of its own, which may be stopped."""
    with tempfile.TemporaryDirectory(prefix="mebae-fault-", ignore_cleanup_errors=True) as name:
        if kind == "SQLite":
            made = Home(f"sqlite:///{name}/mebae.db", Path(name))
            migrate(made.url)
            yield made
            return
        with running_postgres() as server:
            made = Home(server.url(server.create()), Path(name), server)
            migrate(made.url)
            yield made


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


def publish_sample_scoring(database: Database) -> None:
    """The scoring model of `scenarios/`: with caps, periods, half-lives, stages and qualifications."""
    loaded = load_scoring(ROOT)
    assert loaded is not None
    database.write_now(publish_scoring, loaded, datetime.now(UTC))


@asynccontextmanager
async def applying(database: Database, clock: WorldClock | None = None) -> AsyncIterator[None]:
    """The worker's applier, beside whatever happens to the server; what is kept at the end is applied before it goes."""
    running = asyncio.create_task(Applier(database, clock=clock or WorldClock()).run())
    try:
        yield
        while await database.read(kept_requests):
            assert not running.done(), "the applier gave up"
            await asyncio.sleep(0.05)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def kept_requests(session: Session) -> int:
    """Requests that are kept and not applied yet."""
    return session.exec(select(func.count(col(IntakeRow.id)))).one()


def miscounted(session: Session, now: datetime) -> list[str]:
    """Leads whose score or stage is not what a recount of their distinct events comes to; empty if all is well."""
    scoring = active_scoring(session)
    assert scoring is not None
    leads = session.exec(select(Lead).order_by(col(Lead.id))).all()
    events: dict[int, list[Done]] = defaultdict(list)
    for lead_id, event in stored_events(session, [lead.id for lead in leads if lead.id is not None]):
        events[lead_id].append(event)
    wrong = []
    for lead in leads:
        tally, profile = tally_of(lead, scoring), profile_of(lead, scoring.mapping)
        anew = replay(scoring.model, profile, events[lead.id or 0], now).score
        kept = None if tally is None else reckon(scoring.model, tally, profile, now, held=lead.stage)
        if kept is None or not math.isclose(kept.total, anew.total, abs_tol=1e-6) or lead.stage != anew.stage:
            wrong.append(f"lead {lead.id}: {kept and kept.total} {lead.stage}, recounted {anew.total} {anew.stage}")
    return wrong


def load_now() -> str:
    """How busy the machine is, for the record."""
    return f"load {os.getloadavg()[0]:.1f}"


def chance(seed: Any) -> random.Random:
    """Chance that is the same each time."""
    return random.Random(str(seed))


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] if times else math.nan
