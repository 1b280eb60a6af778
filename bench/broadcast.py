"""A broadcast to many leads: does the worker's memory stay flat? `python -m bench.broadcast [LEADS] [--postgres]`.

The whole way: a real Temporal, a worker of its own, the gate and the ledger, a sample mail with its layout, a local sink.
Says how far it is, mails a second, and the worker's resident memory; at the end the slope of that over the run, and whether a
mail costs more the longer it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import insert
from sqlmodel import Session, col, select

from bench.mail import sink
from mebae.broadcast_opening import request_run
from mebae.broadcast_sender import start_run
from mebae.broadcast_words import bar, done
from mebae.clock import WorldClock
from mebae.store.broadcast_leads import tally
from mebae.store.broadcasts import plan_to_send
from mebae.store.consents import Given, record_all
from mebae.store.database import Database
from mebae.store.migrate import migrate
from mebae.store.tables import Broadcast, Lead
from tests.dev_server import dev_server
from tests.house import LAWFUL
from tests.postgres import running_postgres
from tests.test_crashes import WorkerProcess

ROOT = Path(__file__).resolve().parents[1]
AT_ONCE = 5_000
BROADCAST = """
from mebae.broadcasts_language import *

broadcast = Broadcast("bench", to=(lead.score >= 50) & lead.language.in_("ja", "en"), mail="news", holdout=1)
"""
"""A condition that the database has to look at each lead for."""
WARM = 0.1
"""Of the run, before memory is judged: by then every module is loaded and every cache is full."""


class Sample(NamedTuple):
    seconds: float
    done: int
    resident: float
    """MB."""
    cpu: float
    """Seconds of the worker's, so far: other work on the machine does not count."""


def prepare(database: Database, count: int) -> None:
    """Leads that agreed."""
    made = Lead(created_at=_now(), updated_at=_now(), name="佐藤 健二", company="青葉精機", language="ja").model_dump(exclude={"id"})

    def some(session: Session, first: int, last: int) -> None:
        rows = [made | {"email": f"lead{n}@domain{n % 997}.example", "score": 60} for n in range(first, last)]
        session.execute(insert(Lead), rows)
        ids = session.exec(select(Lead.id).order_by(col(Lead.id).desc()).limit(last - first)).all()
        record_all(session, [Given(id or 0, _now(), "form", "bench", "はい", f"bench:{id}") for id in ids])

    for first in range(0, count, AT_ONCE):
        database.write_now(some, first, min(first + AT_ONCE, count))


def scenarios(folder: Path) -> Path:
    home = folder / "scenarios"
    sample = ROOT / "scenarios"
    (home / "broadcasts" / "bench").mkdir(parents=True)
    (home / "layouts").mkdir()
    (home / "broadcasts" / "bench" / "broadcast.py").write_text(BROADCAST)
    (home / "broadcasts" / "bench" / "news.ja.md").write_text((sample / "broadcasts/monthly_news/news.ja.md").read_text())
    for layout in (sample / "layouts").iterdir():
        (home / "layouts" / layout.name).write_text(layout.read_text())
    return home


async def measure(url: str, folder: Path, count: int) -> list[Sample]:
    database = Database(url)
    samples: list[Sample] = []
    try:
        prepare(database, count)
        with sink() as port:
            async with dev_server(folder) as server:
                worker = WorkerProcess(folder, _settings(url, folder, port, server.address))
                await worker.start()
                try:
                    client = await server.connect()
                    row = await database.write(lambda session: request_run(session, plan_to_send(session, "bench"), "bench", _now()))
                    await start_run(client, row, WorldClock())
                    began = time.perf_counter()
                    while True:
                        await asyncio.sleep(1)
                        now = await database.read(lambda session: session.get_one(Broadcast, row.id))
                        seconds = time.perf_counter() - began
                        samples.append(Sample(seconds, done(now.counts), *_of(worker.pid)))
                        _say(now.counts, samples)
                        if now.status == "done":
                            break
                    history = await client.get_workflow_handle(row.workflow_id).fetch_history()
                    print(f"\nthe last run of its workflow has {len(history.events)} events")
                finally:
                    await worker.kill()
        counts = database.read_now(tally, row.id or 0)
        assert counts.keys() <= {("sent", None), ("refused", "holdout")}, counts
        assert sum(counts.values()) == count, counts
    finally:
        database.close()
    return samples


def report(samples: list[Sample], count: int, kind: str) -> None:
    judged = [one for one in samples if one.done >= WARM * count]
    slope, _ = statistics.linear_regression([one.done / 10_000 for one in judged], [one.resident for one in judged])
    middle = next(one for one in judged if one.done >= count * (1 + WARM) / 2)
    halves = [1000 * (b.cpu - a.cpu) / (b.done - a.done) for a, b in ((judged[0], middle), (middle, judged[-1]))]
    whole = samples[-1].seconds
    print(
        f"{kind}: {count:,} leads in {whole:.0f} s, {count / whole:.0f} mails/s\n"
        f"the worker's memory: {judged[0].resident:.0f} MB at {WARM:.0%}, {judged[-1].resident:.0f} MB at the end, "
        f"{slope:+.2f} MB for each 10,000 leads\n"
        f"its CPU time: {halves[0]:.2f} ms a mail in the first half after that, {halves[1]:.2f} ms in the second"
    )


def _say(counts: dict[str, int], samples: list[Sample]) -> None:
    last = samples[-1]
    rate = last.done / last.seconds
    print(f"\r{bar(counts, 30)}  {last.done:,}  {rate:,.0f}/s  {last.resident:.0f} MB ", end="", flush=True)


def _of(pid: int) -> tuple[float, float]:
    """A process's resident memory in MB, and its CPU time in seconds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _settings(url: str, folder: Path, smtp: int, temporal: str) -> dict[str, str]:
    return {
        "DATABASE_URL": url,
        "TEMPORAL_ADDRESS": temporal,
        "MEBAE_STATE": str(folder / "state"),
        "MEBAE_SCENARIOS": str(scenarios(folder)),
        "MEBAE_SMTP_PORT": str(smtp),
        "MEBAE_SMTP_CONNECTIONS": "16",
        **{f"MEBAE_{name.upper()}": value for name, value in LAWFUL.items()},
    }


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _database(folder: Path, *, postgres: bool) -> Iterator[str]:
    with ExitStack() as stack:
        url = f"sqlite:///{folder / 'mebae.db'}"
        if postgres:
            server = stack.enter_context(running_postgres())
            url = server.url(server.create())
        migrate(url)
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("leads", nargs="?", type=int, default=20_000)
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL; SQLite if left out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mebae-bench-") as name, _database(Path(name), postgres=options.postgres) as url:
        samples = asyncio.run(measure(url, Path(name), options.leads))
    report(samples, options.leads, "PostgreSQL" if options.postgres else "SQLite")


if __name__ == "__main__":
    main()
