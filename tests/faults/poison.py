"""Requests that break parsers, databases and memory (R11)."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from datetime import UTC, datetime
from unittest.mock import patch

from sqlmodel import Session, col, func, select

from mebae.clock import WorldClock
from mebae.quarantine import open_ids, release
from mebae.store.tables import Event
from tests.faults.campaign import Finding, Home, Tick, applying, opened, publish_sample_scoring, silent
from tests.faults_ingest import POISON, Load, exchange, missing, poisoned_batch
from tests.server_process import ServerProcess

BOMBS = ("gzip bomb, 5 GB", "gzip bomb, 5 MB of blanks", "4 MB of brackets", "damaged gzip")


def _bomb(name: str) -> bytes:
    if name == "gzip bomb, 5 GB":
        # Members one after the other unpack to one stream; a single one of 50 MB would take minutes to make for 5 GB.
        return gzip.compress(b"[" * 50_000_000, 9) * 100
    if name == "gzip bomb, 5 MB of blanks":
        return gzip.compress(b" " * 5_000_000)
    if name == "4 MB of brackets":
        return b"[" * 4_000_000
    return gzip.compress(b'{"batch": []}' * 100)[:-20] + b"?" * 20


async def poisoned(at: Home, *, rounds: int, connections: int = 4, tick: Tick = silent) -> Finding:
    """R11: each poison as one of a hundred events, and each bomb, `rounds` times on `connections` at once, beside ordinary load."""
    bombs = {name: await asyncio.to_thread(_bomb, name) for name in BOMBS}
    statuses: Counter[tuple[str, int]] = Counter()
    sent = 0
    with opened(at.url) as database:
        publish_sample_scoring(database)
        with ServerProcess(at.url, at.folder) as server:
            async with applying(database), Load(server.port, connections=4) as load:
                await asyncio.sleep(2)  # it has worked before it is measured
                before = server.memory()

                async def post(name: str, body: bytes) -> None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                    try:
                        statuses[name, (await exchange(reader, writer, "/v1/batch", body))[0]] += 1
                    except (OSError, asyncio.IncompleteReadError):
                        statuses[name, 0] += 1
                    finally:
                        writer.close()

                for number in range(rounds):
                    # Every request its own message ids, or all but the first would be known.
                    mark = f"r{number}-".encode()
                    batches = {name: poisoned_batch(name).replace(b'"messageId": "', b'"messageId": "' + mark) for name in POISONS}
                    batches = {name: body.replace(b"good-", name.encode() + b"-good-") for name, body in batches.items()}
                    todo = [*batches.items(), *bombs.items()] * connections
                    for start in range(0, len(todo), connections):
                        await asyncio.gather(*(post(*one) for one in todo[start : start + connections]))
                    sent += len(batches)
                    tick(0.9 * (number + 1) / rounds)
                grown = server.memory(highest=True) - before
        good = database.read_now(_good)
        quarantined = len(database.read_now(open_ids))
        lost = len(missing(database, load.sent))
        # A newer release takes larger events: what was kept out for its size is taken after all.
        with patch("mebae.http.segment.LARGEST_EVENT", 4 * 1024 * 1024):
            released = Counter(
                outcome.became
                for id in database.read_now(open_ids)
                if (outcome := database.write_now(release, id, clock=WorldClock(), now=datetime.now(UTC))) is not None
            )
        tick(1)
    bad = sum(reason is not None for _, reason in POISON.values()) + 1  # and depth 1000
    # The same batch comes on several connections: its events are stored once, a bad one is put aside each time.
    wrong = {name: status for name, status in statuses if status not in ((400, 413) if name in BOMBS else (200,))}
    served = set(load.sent.statuses) == {200}
    cleaned = len(POISONS) - bad
    return Finding(
        "R11",
        f"{at.kind}: {len(POISONS)} poisons, each one of 100 events of a batch, and {len(BOMBS)} bombs, "
        f"{rounds * connections} times each beside ordinary load",
        "99 accepted, 1 quarantined and replayable; memory grows less than 100 MB",
        f"{good:,} of {sent * 99:,} good events stored ({cleaned} poisons are cleaned and taken), {quarantined} bad ones quarantined, "
        f"{released['stored']} of them stored on release after a changed limit ({released['known']} repetitions known); server grew by "
        f"{grown:.0f} MB at most; ordinary requests beside it: {'all 200' if served else dict(load.sent.statuses)}, "
        f"p99 {load.sent.p99() * 1e3:.0f} ms; {lost} lost" + (f"; wrong answers {wrong}" if wrong else ""),
        good == sent * 99 and quarantined == bad * rounds * connections and grown < 100 and served and not lost and not wrong
        and released["stored"] == rounds,
    )  # fmt: skip


POISONS = [*POISON, "depth 1000"]


def _good(session: Session) -> int:
    return session.exec(select(func.count(col(Event.id))).where(col(Event.message_id).contains("-good-"))).one()
