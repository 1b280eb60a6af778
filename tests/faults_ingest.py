"""Faults of ingestion, as functions that a test runs short and a campaign long (FAULTS.md R4, R5, R11).

Clients note what was acknowledged; afterwards all of that must be in the database, as a kept request or as an event.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, select

from mebae.http.body import parse
from mebae.store.database import Database
from mebae.store.tables import Event, IntakeRow, VisitorEvent
from tests.server_process import KEY, ServerProcess

_RUNS = itertools.count(1)


def track(message_id: str, **more: Any) -> dict[str, Any]:
    """An ordinary event, of one of a hundred leads."""
    lead = sum(message_id.encode()) % 100
    return {
        "type": "track",
        "event": "Page Viewed",
        "userId": f"lead{lead}@load.example",
        "messageId": message_id,
        "properties": {"path": "/pricing"},
    } | more


@dataclass
class Sent:
    """What clients saw."""

    acknowledged: list[str] = field(default_factory=list)
    """Message ids of requests that were answered 200."""
    statuses: Counter[int] = field(default_factory=Counter)
    """How many answers of which kind; 0 is a connection that broke."""
    without_retry_after: int = 0
    """Answers 429 and 503 that did not say when to come again."""
    times: list[float] = field(default_factory=list)
    """Seconds until the answer."""
    good_at: list[float] = field(default_factory=list)
    """When each 200 came (monotonic)."""

    def p99(self) -> float:
        return sorted(self.times)[int(len(self.times) * 0.99)] if self.times else 0.0


class Load:
    """Clients that send until told to stop, each event under an id of its own. `size` events a request; 1: single ones.

    A client whose connection breaks connects again, and does not send the same again: only what was acknowledged counts.
    """

    def __init__(self, port: int, *, connections: int = 8, size: int = 1, rate: float | None = None) -> None:
        self.sent = Sent()
        self._port, self._connections, self._size = port, connections, size
        self._pause = connections * size / rate if rate else 0.0
        self._stopped = asyncio.Event()
        self._prefix = f"load-{time.time_ns()}-{next(_RUNS)}"
        self._numbers = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._connections)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped.set()
        await asyncio.gather(*self._tasks)

    async def _client(self) -> None:
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        while not self._stopped.is_set():
            ids = [f"{self._prefix}-{next(self._numbers)}" for _ in range(self._size)]
            events = [track(message_id) for message_id in ids]
            body: Any = events[0] if self._size == 1 else {"batch": events}
            began = time.monotonic()
            try:
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                path = "/v1/track" if self._size == 1 else "/v1/batch"
                status, headers, _ = await exchange(reader, writer, path, json.dumps(body).encode())
            except (OSError, asyncio.IncompleteReadError):
                self.sent.statuses[0] += 1
                if writer is not None:
                    writer.close()
                reader = writer = None
                await asyncio.sleep(0.05)
                continue
            self.sent.statuses[status] += 1
            self.sent.times.append(time.monotonic() - began)
            if status == 200:
                self.sent.acknowledged += ids
                self.sent.good_at.append(time.monotonic())
            elif status in (429, 503):
                self.sent.without_retry_after += "retry-after" not in headers
                await asyncio.sleep(0.02)
            if self._pause:
                await asyncio.sleep(max(0.0, self._pause - (time.monotonic() - began)))
        if writer is not None:
            writer.close()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """One request on an open connection: status, headers, body."""
    authorization = base64.b64encode(f"{KEY}:".encode()).decode()
    head = f"POST {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Basic {authorization}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answered = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in answered[1:] if line)
    return int(answered[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


def kept_ids(session: Session) -> set[str]:
    """The message ids of everything that the database holds: as kept requests, as events, as a visitor's."""
    ids = set(session.exec(select(Event.message_id))) | set(session.exec(select(VisitorEvent.message_id)))
    for body in session.exec(select(IntakeRow.body)):
        request = parse(body)
        ids |= {event["messageId"] for event in request.get("batch", [request])}
    return ids


def missing(database: Database, sent: Sent) -> set[str]:
    """What was acknowledged and is not there. Must be empty, whatever happened."""
    return set(sent.acknowledged) - database.read_now(kept_ids)


# The faults ----------------------------------------------------------------------------------------------------------


@dataclass
class Killed:
    """R4."""

    sent: Sent
    ready: list[float]
    """Seconds from each start to readiness."""


async def kill_the_server(
    server: ServerProcess, *, kills: int = 1, after: float = 1.0, connections: int = 16, size: int = 1
) -> Killed:
    """Kills the running server under load (`kill -9`), `kills` times, and starts it again each time."""
    ready = []
    async with Load(server.port, connections=connections, size=size) as load:
        for _ in range(kills):
            await asyncio.sleep(after)
            await asyncio.to_thread(server.kill)
            ready.append(await asyncio.to_thread(server.start))
        await asyncio.sleep(after / 2)
    return Killed(load.sent, ready)


@dataclass
class Away:
    """R5."""

    before: Sent
    during: Sent
    after: Sent
    back: float
    """Seconds from the database's return to the first 200."""


async def take_the_database_away(
    port: int, away: Callable[[], object], back: Callable[[], object], *, seconds: float, connections: int = 8
) -> Away:
    """Sends before, while and after the database is away; `away` and `back` take it and return it, in a thread."""
    async with Load(port, connections=connections) as before:
        await asyncio.sleep(0.5)
    await asyncio.to_thread(away)
    async with Load(port, connections=connections) as during:
        await asyncio.sleep(seconds)
    async with Load(port, connections=connections) as after:
        await asyncio.to_thread(back)
        returned = time.monotonic()
        limit = returned + 30
        while not [at for at in after.sent.good_at if at > returned] and time.monotonic() < limit:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
    first = next((at for at in after.sent.good_at if at > returned), limit)
    return Away(before.sent, during.sent, after.sent, first - returned)


POISON: dict[str, tuple[Any, str | None]] = {
    "no name": ({"type": "track", "userId": "u"}, "without an event name"),
    "a 1 MB string": (track("big", properties={"text": "x" * 1024 * 1024}), "larger than 32 KB"),
    "no object": ("nonsense", "no JSON object"),
    "nobody": ({"type": "track", "event": "Trial Started"}, "says of nobody"),
    "depth 40": (track("deep", properties={"x": json.loads("[" * 40 + "]" * 40)}), "nested too deeply"),
    "NUL": (track("nul\x00", event="a\x00b", properties={"a\x00": "b\x00"}), None),
    "half a character": (track("half", properties={"text": "\ud800"}), None),
    "an endless number": (track("endless", properties={"n": 10**4000}), None),
}  # fmt: skip
"""Events that real code has sent to real collectors, and part of the reason for which each is quarantined; None: it is
cleaned and taken, since nothing that anybody meant is lost."""


def poisoned_batch(poison: str) -> bytes:
    """99 good events and one bad one in the middle, as bytes. `depth 1000` is not JSON that Python can write."""
    good = [json.dumps(track(f"good-{number}")) for number in range(99)]
    if poison == "depth 1000":
        bad = json.dumps(track("deep")).replace('"/pricing"', "[" * 1000 + "]" * 1000)
    else:
        bad = json.dumps(POISON[poison][0])
    return f'{{"batch": [{", ".join([*good[:50], bad, *good[50:]])}]}}'.encode()
