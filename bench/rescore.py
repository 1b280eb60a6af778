"""All leads rescored from their events, beside a plain recount by hand: `python -m bench.rescore [LEADS] [--postgres] [--new]`.

It makes its own leads and five times as many events, scores them by the sample model (`scenarios/scoring.py`), doubles the
points of the pricing page, and measures what `mebae rescore` then does: who would move, and the rescore itself (every rule
with its caps and decay, stages, MQL, topics, the reasons on the ledger). The baseline reads the same events in the same
order, adds up the points of one rule without decay or reasons, and writes one column. `--new` leaves the first scoring out:
then every point of every lead is new to the ledger, the most that can be to write.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text
from sqlmodel import Session

from mebae.rescoring import Preview, Rescored, preview, rescore
from mebae.scoring_loading import LoadedScoring, load_scoring
from mebae.store.database import Database
from mebae.store.migrate import migrate
from mebae.store.scoring import Scoring, publish_scoring
from mebae.store.tables import Event, Lead

ROOT = Path(__file__).parents[1]
EVENTS_A_LEAD = 5
PUBLISHED = 400_000, 160
"""A commercial product's figure for rescoring: so many leads, in so many minutes."""
NOW = datetime(2026, 11, 1, tzinfo=UTC)

TITLES = ("部長", "営業部 課長", "担当", "代表取締役", "主任", None)
INDUSTRIES = ("自動車部品製造業", "建設業", "物流", "小売", None)
KINDS: tuple[tuple[int, str, tuple[dict[str, Any], ...]], ...] = (
    (55, "Page Viewed", tuple({"path": path, "seconds": seconds} for seconds in (10, 90)
                              for path in ("/", "/pricing", "/blog/automation-1", "/blog/news", "/products/a", "/about", "/careers"))),
    (20, "Email Opened", ({"mail": "hello", "verdict": "human"}, {"mail": "hello", "verdict": "scanner"})),
    (8, "Email Link Clicked", ({"mail": "hello", "url": "https://example.com/"},)),
    (10, "Content Downloaded", tuple({"content": f"whitepaper-{number}"} for number in range(9))),
    (2, "Seminar Attended", ({"seminar": "spring"},)),
    (5, "Form Answered", ({"budget": "検討中"}, {"timing": "3か月以内"})),
)  # fmt: skip


def make(database: Database, leads: int) -> int:
    """Leads and their events, as ingestion would have left them before any model was published; how many events."""
    dice, events, when = random.Random(7), 0, NOW - timedelta(days=800)
    weights = [weight for weight, *_ in KINDS]

    def write(session: Session, first: int, last: int) -> int:
        people, done = [], []
        for id in range(first, last):
            many = min(int(dice.expovariate(1 / EVENTS_A_LEAD) + 0.5), 60)
            people.append(
                {
                    "id": id, "email": f"lead{id}@bench.example", "name": "Lead", "title": dice.choice(TITLES), "language": "ja",
                    "industry": dice.choice(INDUSTRIES), "company_size": dice.choice((10, 80, None)), "last_seq": many,
                    "created_at": when, "updated_at": when, "score": 0, "stage": "awareness", "qualification": "none",
                }
            )  # fmt: skip
            for seq in range(1, many + 1):
                _, name, properties = dice.choices(KINDS, weights)[0]
                at = NOW - timedelta(seconds=dice.randrange(700 * 86_400))
                done.append(
                    {
                        "lead_id": id, "seq": seq, "message_id": f"b{id}-{seq}", "name": name, "properties": dice.choice(properties),
                        "occurred_at": at, "received_at": at, "routed_at": at,
                    }
                )  # fmt: skip
        lists = {"tags": [], "topics": [], "excluded": [], "attributes": {"plan": "standard"}}
        session.execute(insert(Lead), [one | lists for one in people])
        if done:
            session.execute(insert(Event), done)
        return len(done)

    for first in range(1, leads + 1, 5000):
        events += database.write_now(write, first, min(first + 5000, leads + 1))
    return events


def changed(loaded: LoadedScoring) -> LoadedScoring:
    """The same model with 60 points for the pricing page."""
    rules = [rule.model_copy(update={"points": 60}) if rule.points == 30 else rule for rule in loaded.model.engagement]
    model = loaded.model.model_copy(update={"engagement": tuple(rules)})
    return LoadedScoring(type(loaded.model).load(model.dump()), loaded.mapping, loaded.file)


def by_hand(database: Database) -> float:
    """The baseline: one rule, one pass, one column."""
    began = time.perf_counter()
    connection = database.engine.raw_connection()
    own = connection.driver_connection
    assert own is not None
    query = "SELECT lead_id, name, properties FROM events ORDER BY lead_id, seq"
    points: dict[int, int] = {}
    if database.sqlite:
        reading = own.execute(query)
    else:
        reading = own.cursor("by_hand")
        reading.itersize = 5000
        reading.execute(query)
    for lead_id, name, properties in reading:
        said = json.loads(properties) if isinstance(properties, str) else properties
        if name == "Page Viewed" and said.get("path") == "/pricing":
            points[lead_id] = points.get(lead_id, 0) + 30
        else:
            points.setdefault(lead_id, 0)
    reading.close()
    mark = "?" if database.sqlite else "%s"
    if database.sqlite:
        own.execute("BEGIN IMMEDIATE")
    own.cursor().executemany(
        f"UPDATE leads SET score = {mark} WHERE id = {mark}", [(its, id) for id, its in points.items()]
    )
    own.rollback()  # what it wrote is no lead's score
    connection.close()
    return time.perf_counter() - began


def _cpu() -> float:
    """Seconds that this process, and those that it started and saw end, have computed; PostgreSQL is none of them."""
    return sum(os.times()[:4])


class Memory:
    """What this process and those that it started hold, in MB, as the work goes on."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        if time.perf_counter() - self._last > 0.25 or done == total:
            self._last = time.perf_counter()
            self.samples.append(sum(_megabytes(pid) for pid in (os.getpid(), *_children(os.getpid()))))

    def __str__(self) -> str:
        its = self.samples
        middle = its[len(its) // 4 : len(its) // 2] or its
        return f"{max(middle):.0f} MB in the second quarter, {max(its[len(its) * 3 // 4 :]):.0f} MB in the last"


def _megabytes(pid: int) -> float:
    """Without what is shared with others, so that no page is counted twice."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")) / 1024
    except OSError:
        return 0.0


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@contextmanager
def a_database(postgres: bool) -> Iterator[Database]:
    if postgres:
        from tests.postgres import running_postgres

        with running_postgres() as server:
            yield from _opened(server.url(server.create()))
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield from _opened(f"sqlite:///{folder}/mebae.db")


def _opened(url: str) -> Iterator[Database]:
    migrate(url)
    database = Database(url)
    yield database
    database.close()


def run(leads: int, *, postgres: bool, processes: int | None, new: bool) -> None:
    first = load_scoring(ROOT)
    assert first is not None
    second = changed(first)
    with a_database(postgres) as database:
        began = time.perf_counter()
        events = make(database, leads)
        if postgres:
            with database.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
        kind, took = "PostgreSQL" if postgres else "SQLite", time.perf_counter() - began
        print(f"{leads:,} leads with {events:,} events on {kind} (made in {took:.0f} s)")
        plain = by_hand(database)
        print(f"by hand, one rule:            {plain:8.1f} s", flush=True)

        def publish(loaded: LoadedScoring) -> Scoring:
            database.write_now(publish_scoring, loaded, NOW)
            return Scoring(loaded.version, loaded.model, loaded.mapping)

        def timed(what: str, work: Any, loaded: LoadedScoring) -> tuple[Any, float]:
            memory, began, cpu = Memory(), time.perf_counter(), _cpu()
            found = work(database, publish(loaded), clock=lambda: NOW, processes=processes, progress=memory)
            took = time.perf_counter() - began
            print(
                f"{what:<30}{took:8.1f} s   {leads / took:6.0f} leads/s   {took / plain:5.1f} × by hand   "
                f"CPU {_cpu() - cpu:.0f} s   {memory}",
                flush=True,
            )
            return found, took

        if not new:
            scored: Rescored
            scored, _ = timed("scored for the first time:", rescore, first)
            assert scored.leads == leads
            print(f"    {scored.changes:,} rows of the ledger, {scored.moved:,} events")
        seen: Preview
        seen, looking = timed("who would move:", preview, second)
        again, working = timed("rescored:", rescore, second)
        assert again.leads == seen.leads == leads
        print(f"    {seen.changed:,} scores changed, {again.changes:,} rows of the ledger, {again.moved:,} events")
        per, minutes = PUBLISHED
        print(
            f"\n{looking + working:.0f} s for both, which is {(looking + working) / leads * per / 60:.1f} min for {per:,} leads "
            f"(reach: 10 min; a published commercial figure: {minutes // 60} h {minutes % 60} min)"
        )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("leads", type=int, nargs="?", default=20_000)
    options.add_argument("--postgres", action="store_true")
    options.add_argument("--processes", type=int)
    options.add_argument("--new", action="store_true")
    given = options.parse_args()
    run(given.leads, postgres=given.postgres, processes=given.processes, new=given.new)
