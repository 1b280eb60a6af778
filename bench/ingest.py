"""Events a second, kept and answered, beside a bare insert loop: `python -m bench.ingest [--short] [--only sqlite|postgres]`.

The server is a process of its own, as `mebae up` runs it; so is the client, which keeps its connections open, writes plain
HTTP and reads the answers: its cost is part of the figures. The bare loop writes the same bytes into a table of the same
shape from one process, without HTTP: one commit for each single event, `executemany` of 500 for the batched ones. Both
take turns in one run.

"Answered" means committed: a `kill -9` loses nothing. It does not mean scored: the worker's applier does that afterwards,
at its own pace, and that pace is measured here too, with the scoring model of `scenarios/scoring.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import uvloop
from sqlalchemy import text
from sqlmodel import Session, col, func, select

from mebae.applier import apply_once
from mebae.clock import WorldClock
from mebae.store.database import Database
from mebae.store.migrate import migrate
from mebae.store.tables import Event, IntakeRow
from tests.server_process import KEY, ServerProcess

BATCH = 100
LEADS = 5_000
VISIT = 5
"""Events that one lead brings in a row."""
REACH = {"single": 3_000, "batched": 20_000, "applied": 2_500}
ROOT = Path(__file__).parents[1]


def event(number: int) -> dict[str, Any]:
    """What a site or backend sends, in the size in which the SDKs send it (some 400 bytes)."""
    lead = number // VISIT % LEADS
    return {
        "type": "track",
        "event": ("Page Viewed", "Content Downloaded", "Trial Started")[number % 3],
        "messageId": f"bench-{number}-{os.getpid()}-{time.time_ns()}",
        "userId": f"crm-{lead}",
        "timestamp": datetime.now(UTC).isoformat(),
        "properties": {"path": f"/products/{number % 20}", "content": f"whitepaper-{number % 7}", "seconds": number % 300},
        "context": {"library": {"name": "analytics-python", "version": "2.4.0"}, "traits": {"email": f"lead{lead}@bench.example.com"}},
        "integrations": {},
    }  # fmt: skip


def request(path: str, body: bytes) -> bytes:
    authorization = base64.b64encode(f"{KEY}:".encode()).decode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


# The client ----------------------------------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """Sends one request after the other on one connection, as long as there are any."""

    def __init__(
        self, requests: Iterator[bytes], done: asyncio.Future[None], times: list[float], statuses: dict[int, int]
    ):
        self._requests, self._done, self._times, self._statuses = requests, done, times, statuses
        self._seen, self._began = b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        one = next(self._requests, None)
        if one is None:
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(one)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, found, body = self._seen.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return
        self._seen = b""
        self._times.append(time.perf_counter() - self._began)
        status = int(head[9:12])
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


class Sent(NamedTuple):
    """One round of the client."""

    seconds: float
    p50: float
    p99: float
    statuses: dict[int, int]


async def send_all(port: int, requests: list[bytes], connections: int) -> Sent:
    """Sends prepared requests as fast as they are answered."""
    loop = asyncio.get_running_loop()
    times: list[float] = []
    statuses: dict[int, int] = {}
    waiting = iter(requests)
    ends = [loop.create_future() for _ in range(connections)]
    began = time.perf_counter()
    for end in ends:
        await loop.create_connection(lambda end=end: Connection(waiting, end, times, statuses), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*ends)
    seconds = time.perf_counter() - began
    return Sent(seconds, statistics.median(times), statistics.quantiles(times, n=100)[98], statuses)


def client() -> None:
    """The client's process: `python -m bench.ingest client PORT PATH EVENTS EVENTS_A_REQUEST CONNECTIONS`; prints a `Sent`."""
    port, path, events, size, connections = sys.argv[2:]
    events_of = [range(at, min(at + int(size), int(events))) for at in range(0, int(events), int(size))]
    if int(size) == 1:
        bodies: list[Any] = [event(numbers[0]) for numbers in events_of]
    else:
        now = datetime.now(UTC).isoformat()
        bodies = [{"batch": [event(number) for number in numbers], "sentAt": now} for numbers in events_of]
    requests = [request(path, json.dumps(body).encode()) for body in bodies]
    del bodies
    gc.collect()
    gc.freeze()  # what was made beforehand is no part of sending
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(send_all(int(port), requests, int(connections)))))


def run_client(port: int, events: int, size: int, connections: int) -> Sent:
    path = "/v1/track" if size == 1 else "/v1/batch"
    command = [sys.executable, "-m", "bench.ingest", "client", str(port), path, *map(str, (events, size, connections))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    seconds, p50, p99, statuses = json.loads(done.stdout)
    return Sent(seconds, p50, p99, {int(status): count for status, count in statuses.items()})


# The baseline --------------------------------------------------------------------------------------------------------


def bare_loop(url: str, events: int, size: int) -> float:
    """Seconds that it takes to insert the same bytes without us."""
    engine = Database(url, threads=1)
    mark = "?" if engine.sqlite else "%s"
    insert = f"INSERT INTO bare (kind, body, events, received_at) VALUES ({mark}, {mark}, {mark}, {mark})"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f") if engine.sqlite else datetime.now(UTC)
    rows = [("track", json.dumps(event(number)).encode(), 1, now) for number in range(events)]
    engine.write_now(lambda session: session.execute(text(_BARE[engine.sqlite])))
    connection = engine.engine.raw_connection()
    cursor = connection.cursor()
    began = time.perf_counter()
    for at in range(0, events, size):
        if engine.sqlite:
            cursor.execute("BEGIN IMMEDIATE")
        if size == 1:
            cursor.execute(insert, rows[at])
        else:
            cursor.executemany(insert, rows[at : at + size])
        connection.commit()
    seconds = time.perf_counter() - began
    connection.close()
    engine.write_now(lambda session: session.execute(text("DELETE FROM bare")))
    engine.close()
    return seconds


_BARE = {
    True: "CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, kind TEXT, body BLOB, events INTEGER, received_at TEXT)",
    False: "CREATE TABLE IF NOT EXISTS bare (id BIGSERIAL PRIMARY KEY, kind TEXT, body BYTEA, events INTEGER, received_at TIMESTAMPTZ)",
}


# Measuring -----------------------------------------------------------------------------------------------------------


def measure(name: str, url: str, folder: Path, *, seconds: float, rounds: int) -> bool:
    """One kind of database; whether everything that should be reached was."""
    migrate(url)
    rates: dict[str, list[float]] = {"single": [], "batched": []}
    bare: dict[str, list[float]] = {"single": [], "batched": []}
    with ServerProcess(url, folder, MEBAE_INTAKE_BACKLOG="100000") as server:
        port = server.port
        run_client(port, 2_000, 1, 32)  # warms up
        for round in range(1, rounds + 1):
            for what, size, at_once, loop_size in (("single", 1, 64, 1), ("batched", BATCH, 16, 500)):
                events = int(seconds * REACH[what] * 1.3) // BATCH * BATCH
                sent = run_client(port, events, size, at_once)
                alone = bare_loop(url, events // (4 if size == 1 else 1), loop_size) * (4 if size == 1 else 1)
                if set(sent.statuses) != {200}:
                    print(f"  not all were taken: {sent.statuses}")
                rates[what].append(events * sent.statuses.get(200, 0) / sum(sent.statuses.values()) / sent.seconds)
                bare[what].append(events / alone)
                print(
                    f"{name:9} {round} {what:8} answered {rates[what][-1]:8,.0f} events/s "
                    f"(p50 {sent.p50 * 1e3:5.1f} ms, p99 {sent.p99 * 1e3:6.1f} ms)   bare loop {bare[what][-1]:8,.0f}/s   "
                    f"ratio {rates[what][-1] / bare[what][-1]:5.2f}",
                    flush=True,
                )
    applied = measure_applier(url, seconds)
    print()
    fine = True
    for what in rates:
        rate, ratio = (
            statistics.median(rates[what]),
            statistics.median(a / b for a, b in zip(rates[what], bare[what], strict=True)),
        )
        print(
            f"{name}: {what:8} {rate:8,.0f} events/s answered, {ratio:.2f} × the bare loop (reach: {REACH[what]:,}/s)"
        )
        fine &= rate >= REACH[what]
    print(f"{name}: applied  {applied:8,.0f} events/s stored and scored (reach: {REACH['applied']:,}/s)\n", flush=True)
    return fine and applied >= REACH["applied"]


def measure_applier(url: str, seconds: float) -> float:
    """Events a second that go from kept to stored and scored, while nobody sends. What the rounds left is what there is to do."""
    database = Database(url)
    database.write_now(publish_scoring)
    before = database.read_now(count, Event)
    began = time.perf_counter()
    while time.perf_counter() - began < 2 * seconds and database.write_now(apply_once, clock=WorldClock()).requests:
        pass
    spent = time.perf_counter() - began
    rate = (database.read_now(count, Event) - before) / spent
    database.close()
    return rate


def publish_scoring(session: Session) -> None:
    """The project's own scoring model."""
    from mebae.publishing import publish
    from mebae.scoring_loading import load_scoring

    folder = ROOT / "scenarios"
    publish(session, [], root=folder, scoring=load_scoring(folder), now=datetime.now(UTC))


def count(session: Session, table: type[Event] | type[IntakeRow]) -> int:
    return session.exec(select(func.count(col(table.id)))).one()


@contextmanager
def databases(only: str | None) -> Iterator[list[tuple[str, str, Path]]]:
    """(name, URL, folder) of what is measured. PostgreSQL is started here, with fsync on."""
    from tests.postgres import running_postgres

    folder = Path(tempfile.mkdtemp(prefix="mebae-bench-"))
    try:
        found = [("SQLite", f"sqlite:///{folder}/mebae.db", folder)] if only != "postgres" else []
        if only == "sqlite":
            yield found
            return
        with running_postgres() as server:
            yield [*found, ("PostgreSQL", server.url(server.create()), folder)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one short round each: to see that it runs, not to quote")
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    options = parser.parse_args()
    with databases(options.only) as found:
        short = options.short
        fine = [measure(*one, seconds=1.0 if short else 5.0, rounds=1 if short else 3) for one in found]
    if not all(fine):
        print("not everything was reached")


if __name__ == "__main__":
    if sys.argv[1:2] == ["client"]:
        client()
    else:
        main()
