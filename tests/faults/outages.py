"""The server killed (R4), the database away (R5), PostgreSQL crashing under its users (R6)."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from mebae.store.database import Database
from tests.faults.campaign import (
    Finding,
    Home,
    Tick,
    applying,
    chance,
    miscounted,
    opened,
    publish_sample_scoring,
    silent,
)
from tests.faults_ingest import Load, Sent, kill_the_server, missing, take_the_database_away
from tests.postgres import PostgresServer
from tests.server_process import ServerProcess


async def server_killed(at: Home, *, kills: int, ready_in: float = 5.0, tick: Tick = silent) -> Finding:
    """R4: `kill -9` at moments left to chance, under single events and batches in turn, while the applier works."""
    dice, sents, ready = chance(f"R4 {at.kind}"), list[Sent](), list[float]()
    with opened(at.url) as database:
        publish_sample_scoring(database)
        with ServerProcess(at.url, at.folder) as server:
            async with applying(database):
                for number in range(kills):
                    one = await kill_the_server(server, after=dice.uniform(0.05, 1.5), size=(1, 20)[number % 2])
                    sents.append(one.sent)
                    ready += one.ready
                    tick((number + 1) / kills)
        lost, wrong = _lost(database, sents), database.read_now(miscounted, datetime.now(UTC))
    acknowledged = sum(len(sent.acknowledged) for sent in sents)
    cut = sum(sent.statuses[0] for sent in sents)
    return Finding(
        "R4",
        f"{at.kind}: server killed {kills} times under load",
        f"0 acknowledged events lost; ready within {ready_in:.0f} s",
        f"{lost} of {acknowledged:,} lost ({cut} requests cut off); ready after {max(ready):.1f} s at most, "
        f"{sorted(ready)[kills // 2]:.1f} s as a rule; {len(wrong)} leads miscounted",
        not lost and acknowledged > 0 and max(ready) <= ready_in and not wrong,
    )


async def database_away(at: Home, how: str, *, seconds: float, tick: Tick = silent) -> Finding:
    """R5: `stopped` or `frozen` (PostgreSQL), `held` by another writer (SQLite)."""
    away, back = _outage(at, how)
    with opened(at.url) as database, ServerProcess(at.url, at.folder) as server:
        publish_sample_scoring(database)
        async with applying(database):
            seen = await take_the_database_away(server.port, away, back, seconds=seconds)
            tick(0.9)
            returned = time.monotonic()
        applied = time.monotonic() - returned
        sents = [seen.before, seen.during, seen.after]
        lost, wrong = _lost(database, sents), database.read_now(miscounted, datetime.now(UTC))
        tick(1)
    no_word = sum(sent.without_retry_after for sent in sents)
    answers = seen.during.statuses
    silence = sum(sent.statuses[0] for sent in sents)
    return Finding(
        "R5",
        f"{at.kind} {how} for {seconds:.0f} s under load",
        "503 with Retry-After; 0 acknowledged lost; normal within 30 s of its return",
        f"{_statuses(answers)} while away, {no_word} without Retry-After, the slowest after {max(seen.during.times):.1f} s; "
        f"{lost} of {sum(len(sent.acknowledged) for sent in sents):,} lost; first 200 {seen.back:.1f} s after its return, "
        f"all applied {applied:.1f} s later; {len(wrong)} leads miscounted",
        not lost and not no_word and not silence and set(answers) <= {200, 503} and answers[503] > 0
        and seen.back <= 30 and applied <= 30 and seen.after.statuses[200] > 0 and not wrong,
    )  # fmt: skip


async def postgres_crashes(at: Home, *, rounds: int, down: float = 1.0, tick: Tick = silent) -> Finding:
    """R6: three ways to crash in turn: an immediate stop, `kill -9` of the server, `kill -9` of one connection's process."""
    postgres, sents, first = at.postgres, list[Sent](), list[float]()
    assert postgres is not None
    with opened(at.url) as database:
        publish_sample_scoring(database)
        with ServerProcess(at.url, at.folder) as server:
            async with applying(database):
                for number in range(rounds):
                    async with Load(server.port, connections=8, size=(1, 20)[number % 2]) as load:
                        await asyncio.sleep(0.7)
                        await asyncio.to_thread((_stop_at_once, _kill, _kill_one)[number % 3], postgres, down)
                        returned = time.monotonic()
                        while not any(at > returned for at in load.sent.good_at) and time.monotonic() < returned + 30:
                            await asyncio.sleep(0.02)
                        first.append(min((at for at in load.sent.good_at if at > returned), default=returned + 30) - returned)
                        await asyncio.sleep(0.3)
                    sents.append(load.sent)
                    tick((number + 1) / rounds)
        lost, wrong = _lost(database, sents), database.read_now(miscounted, datetime.now(UTC))
    acknowledged = sum(len(sent.acknowledged) for sent in sents)
    statuses = sum((sent.statuses for sent in sents), Counter[int]())
    return Finding(
        "R6",
        f"PostgreSQL crashed {rounds} times under load (immediate stop, `kill -9` of the server, `kill -9` of a connection)",
        "reconnects by itself; scores equal a recount of distinct events",
        f"first 200 {max(first):.1f} s at most after its return; {_statuses(statuses)}; {lost} of {acknowledged:,} acknowledged lost; "
        f"{len(wrong)} leads miscounted",
        not lost and not wrong and max(first) < 30 and set(statuses) <= {200, 503},
    )


# How a database goes away ---------------------------------------------------------------------------------------------


def _outage(at: Home, how: str) -> tuple[Callable[[], object], Callable[[], object]]:
    if at.postgres is None:
        assert how == "held"
        other = sqlite3.connect(at.url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False, timeout=10)
        return lambda: other.execute("BEGIN IMMEDIATE"), lambda: other.execute("ROLLBACK")
    if how == "stopped":
        return at.postgres.stop, at.postgres.start
    assert how == "frozen"
    postgres, frozen = at.postgres, list[int]()

    def freeze() -> None:
        frozen.extend([postgres.pid, *_children(postgres.pid)])
        _signal(frozen, signal.SIGSTOP)

    return freeze, lambda: _signal(frozen, signal.SIGCONT)


def _stop_at_once(postgres: PostgresServer, down: float) -> None:
    postgres.stop(signal.SIGQUIT)
    time.sleep(down)
    postgres.start()


def _kill(postgres: PostgresServer, down: float) -> None:
    children = _children(postgres.pid)
    postgres.stop(signal.SIGKILL)
    limit = time.monotonic() + 20  # it does not start while one of the old processes is there
    while any(Path(f"/proc/{child}/exe").exists() for child in children) and time.monotonic() < limit:
        time.sleep(0.05)
    time.sleep(down)
    postgres.start()


def _kill_one(postgres: PostgresServer, down: float) -> None:
    """The server throws out all the others and recovers by itself."""
    connections = [child for child in _children(postgres.pid) if b"mebae_test" in Path(f"/proc/{child}/cmdline").read_bytes()]
    _signal(connections[:1], signal.SIGKILL)
    time.sleep(down)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _signal(pids: list[int], what: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, what)


def _lost(database: Database, sents: list[Sent]) -> int:
    everything = Sent(acknowledged=[message_id for sent in sents for message_id in sent.acknowledged])
    return len(missing(database, everything))


def _statuses(statuses: Counter[int]) -> str:
    names = {0: "cut off"}
    return ", ".join(f"{count:,} × {names.get(status, status)}" for status, count in sorted(statuses.items()))
