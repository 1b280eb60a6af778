"""More than comes on the busiest day, for a minute (R12): server, worker and Temporal as processes, and journeys that wait."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, func, select

from mebae.store.tables import Event, IntakeRow, JourneyRow, Nudge
from mebae.words import JourneyStatus
from tests.dev_server import dev_server
from tests.faults.campaign import ROOT, Finding, Home, Tick, load_now, miscounted, opened, percentile, silent
from tests.faults_ingest import Sent, exchange, missing
from tests.house import LAYOUT
from tests.server_process import ServerProcess
from tests.test_crashes import WorkerProcess

SCENARIO = """
from mebae.authoring import *

scenario = Scenario(
    "patient",
    enters_on=downloaded("whitepaper-*"),
    steps=[wait_for(on(visited("/pricing"), [end("moved")]), within=days(7), otherwise=[end("late")], id="interest")],
)
"""
WANTED = 0.01
"""The share of events that a journey listens for."""


@dataclass
class Flooded:
    """What the clients saw."""

    sent: Sent = field(default_factory=Sent)
    accepted: list[float] = field(default_factory=list)
    """Seconds from when a request was due to its 200: a client that falls behind counts its own lateness."""
    wanted: list[str] = field(default_factory=list)
    """Message ids that were acknowledged and that a journey listens for."""
    began: float = 0.0
    ended: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.sent.acknowledged) / (self.ended - self.began)


class Clients:
    """Clients that send so many events a second, whatever the server does: requests are due at their times."""

    def __init__(self, port: int, event: Callable[[int], dict[str, Any]], *, rate: float, size: int, connections: int) -> None:
        self._port, self._event, self._rate, self._size, self._connections = port, event, rate, size, connections

    async def send(self, events: int, tick: Tick = silent) -> Flooded:
        seen, numbers = Flooded(began=time.monotonic()), iter(range(0, events, self._size))
        await asyncio.gather(*(self._client(numbers, events, seen, tick) for _ in range(self._connections)))
        seen.ended = time.monotonic()
        return seen

    async def _client(self, numbers: Iterator[int], events: int, seen: Flooded, tick: Tick) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        for start in numbers:
            due = seen.began + start / self._rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            batch = [self._event(number) for number in range(start, min(start + self._size, events))]
            said = batch[0] if self._size == 1 else {"batch": batch}
            body = json.dumps(said | {"sentAt": datetime.now(UTC).isoformat()}).encode()
            try:
                status, headers, _ = await exchange(reader, writer, "/v1/track" if self._size == 1 else "/v1/batch", body)
            except (OSError, asyncio.IncompleteReadError):
                seen.sent.statuses[0] += 1
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                continue
            seen.sent.statuses[status] += 1
            if status == 200:
                seen.accepted.append(time.monotonic() - due)
                seen.sent.acknowledged += [event["messageId"] for event in batch]
                seen.wanted += [event["messageId"] for event in batch if event["messageId"].startswith("wanted-")]
            else:
                seen.sent.without_retry_after += "retry-after" not in headers
            tick(start / events)
        writer.close()


async def flooded(
    at: Home,
    *,
    rate: float = 5_000,
    seconds: float = 60,
    size: int = 20,
    connections: int = 64,
    leads: int = 10_000,
    within: float = 120.0,
    slowest: float = 0.5,
    patience: float = 600.0,
    tick: Tick = silent,
) -> Finding:
    """R12. As many journeys rest as there are wanted events, each of which moves one.

    `within` and `slowest` are the bars, in seconds; `patience` is how long is waited to see what it really takes.
    """
    events = int(rate * seconds)
    every = round(1 / WANTED)
    journeys = math.ceil(events / every)
    leads = max(leads, journeys)

    def event(number: int) -> dict[str, Any]:
        wanted = number % every == 0
        lead = number // every if wanted else (number * 7919) % leads
        path = "/pricing" if wanted else f"/blog/{number % 30}"
        return {
            "type": "track", "event": "Page Viewed", "messageId": f"{'wanted' if wanted else 'flood'}-{number}",
            "userId": f"crm-{lead}", "timestamp": datetime.now(UTC).isoformat(), "properties": {"path": path},
        }  # fmt: skip

    with opened(at.url) as database, ServerProcess(at.url, at.folder) as server:
        async with working(at) as worker:
            before = Clients(server.port, _entering, rate=400, size=size, connections=4)
            entered = await before.send(journeys)
            assert set(entered.sent.statuses) == {200}, entered.sent.statuses
            async with asyncio.timeout(60 + journeys / 10):
                while (resting := await database.read(_journeys, JourneyStatus.RESTING)) < journeys:
                    tick(0.2 * resting / journeys)
                    await asyncio.sleep(0.5)
            await asyncio.sleep(1)
            busy = load_now()
            seen = await Clients(server.port, event, rate=rate, size=size, connections=connections).send(
                events, lambda part: tick(0.2 + 0.3 * part)
            )
            over, limit = datetime.now(UTC), time.monotonic() + patience
            left = await database.read(_backlog)
            while not (now := await database.read(_settled)).all and time.monotonic() < limit:
                tick(0.5 + 0.5 * now.told / len(seen.wanted))
                await asyncio.sleep(0.5)
            worker_memory = worker.memory()
        lost = len(missing(database, seen.sent))
        moved = database.read_now(_moved, seen.wanted)
        wrong = database.read_now(miscounted, datetime.now(UTC))
    told_after, ended_after = _seconds(over, moved.last_told), _seconds(over, moved.last_ended)
    p99 = percentile(seen.accepted, 0.99)
    statuses = ", ".join(f"{count:,} × {status or 'cut off'}" for status, count in sorted(seen.sent.statuses.items()))
    tick(1)
    return Finding(
        "R12",
        f"{at.kind}: {rate:,.0f} events/s for {seconds:.0f} s in requests of {size}, {WANTED:.0%} wanted by {journeys:,} resting journeys",
        f"0 acknowledged lost; accepted p99 ≤ {slowest * 1e3:.0f} ms or 429; nudges delivered within {within:.0f} s after",
        f"{statuses} ({seen.rate:,.0f} events/s); accepted p50 {percentile(seen.accepted, 0.5) * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms; "
        f"{lost} of {len(seen.sent.acknowledged):,} lost; {left:,} events waited to be applied at the end; "
        f"{moved.told:,} of {len(seen.wanted):,} nudges delivered, the last {told_after:.0f} s after the end, {moved.ended:,} journeys "
        f"moved, the last after {ended_after:.0f} s; {len(wrong)} leads miscounted; worker {worker_memory:.0f} MB ({busy} before it)",
        not lost and p99 <= slowest and set(seen.sent.statuses) <= {200, 429} and not seen.sent.without_retry_after and not wrong
        and moved.told == moved.ended == len(seen.wanted) and told_after <= within,
    )  # fmt: skip


def _seconds(since: datetime, until: datetime | None) -> float:
    return math.inf if until is None else max(0.0, (until - since).total_seconds())


def _entering(number: int) -> dict[str, Any]:
    return {
        "type": "track", "event": "Content Downloaded", "messageId": f"enters-{number}", "userId": f"crm-{number}",
        "properties": {"content": "whitepaper-1"},
    }  # fmt: skip


@asynccontextmanager
async def working(at: Home) -> AsyncIterator[Worker]:
    """A Temporal server and a worker of our own, with one scenario and the sample's scoring."""
    async with dev_server(at.folder) as temporal:
        worker = Worker(
            at.folder,
            {
                "DATABASE_URL": at.url,
                "TEMPORAL_ADDRESS": temporal.address,
                "MEBAE_STATE": str(at.folder / "state"),
                "MEBAE_SCENARIOS": str(_scenarios(at.folder / "scenarios")),
                "MEBAE_SMTP_PORT": "1",  # nobody sends mail here
            },
        )
        try:
            await worker.start()
            yield worker
        finally:
            await worker.kill()


class Worker(WorkerProcess):
    """With a look at its memory."""

    def memory(self) -> float:
        """The most that it had, in megabytes."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _scenarios(home: Path) -> Path:
    for path, text in {"patient/scenario.py": SCENARIO, "layouts/default.html": LAYOUT}.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    for name in ("scoring.py", "mapping.csv"):
        shutil.copy(ROOT / "scenarios" / name, home / name)
    return home


# Looking --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settled:
    """How far things are."""

    kept: int
    unrouted: int
    untold: int
    told: int
    open: int

    @property
    def all(self) -> bool:
        """Nothing is on its way any more. Journeys that nobody told anything rest on."""
        return not (self.kept or self.unrouted or self.untold or self.open)


def _settled(session: Session) -> Settled:
    kept = session.exec(select(IntakeRow.id).limit(1)).first()
    unrouted = session.exec(select(Event.id).where(col(Event.routed_at).is_(None)).limit(1)).first()
    untold = session.exec(select(func.count(col(Nudge.id))).where(col(Nudge.sent_at).is_(None))).one()
    told = session.exec(select(func.count(col(Nudge.id))).where(col(Nudge.sent_at).is_not(None))).one()
    unmoved = select(func.count()).select_from(JourneyRow).join(Nudge, col(Nudge.entry) == col(JourneyRow.entry))
    waiting = session.exec(unmoved.where(col(JourneyRow.status) != JourneyStatus.ENDED)).one()
    return Settled(int(kept is not None), int(unrouted is not None), untold, told, waiting)


def _backlog(session: Session) -> int:
    return int(session.exec(select(func.coalesce(func.sum(col(IntakeRow.events)), 0))).one())


def _journeys(session: Session, status: JourneyStatus) -> int:
    return session.exec(select(func.count(col(JourneyRow.entry))).where(JourneyRow.status == status)).one()


@dataclass(frozen=True)
class Moved:
    """What came of the wanted events."""

    told: int
    last_told: datetime | None
    ended: int
    last_ended: datetime | None


def _moved(session: Session, wanted: list[str]) -> Moved:
    told, ended = list[datetime](), list[datetime]()
    for start in range(0, len(wanted), 500):
        chunk = wanted[start : start + 500]
        query = (
            select(Nudge.sent_at, JourneyRow.ended_at, JourneyRow.outcome)
            .join(Event, col(Event.id) == col(Nudge.event_id))
            .join(JourneyRow, col(JourneyRow.entry) == col(Nudge.entry))
            .where(col(Event.message_id).in_(chunk))
        )
        for sent_at, ended_at, outcome in session.exec(query):
            told += [sent_at] if sent_at is not None else []
            ended += [ended_at] if ended_at is not None and outcome == "moved" else []
    return Moved(len(told), max(told, default=None), len(ended), max(ended, default=None))
