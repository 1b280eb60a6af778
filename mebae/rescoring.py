"""Another scoring model, or another table of titles: who would move, and then all leads counted anew from their events.

`preview` writes nothing. `rescore` makes the model active first and walks then: from that moment an event that arrives
counts its lead anew by itself, and a walk that is cut off goes on where leads of another version are left. Counting is
done in processes of its own, writing in this one, in short transactions; a lead that changed in between is counted again.
"""

from __future__ import annotations

import heapq
import os
import signal
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import chain
from multiprocessing import get_context
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import func, text
from sqlmodel import Session, col, select

from mebae.scoring_mapping import Mapping
from mebae.scoring_model import ScoringModel
from mebae.store import recount
from mebae.store.database import Database
from mebae.store.recount import Before, Chunk, Counted
from mebae.store.scoring import BY_RULES, Scoring
from mebae.store.tables import Lead, PublishedScoring

T = TypeVar("T")
Progress = Callable[[int, int], None]
Clock = Callable[[], datetime]

FEW = 3000
"""So many leads are counted before another process would have started."""
MOST_PROCESSES = 8
SHOWN = 5
"""Leads named in each of the preview's lists."""
EXAMPLES = 3
BANDS = (-50, -20, -10, 0, 10, 20, 50)
"""Where the bands of the preview's histogram end; the last is open."""

_YIELDS = 0.005
"""Seconds between two transactions on SQLite: others wait for the lock by sleeping, and would never meet a free moment."""
_PATIENCE = 60.0
"""Seconds that a transaction of before the change may still take."""


# What would change ------------------------------------------------------------------------------------------------------


class Shift(NamedTuple):
    """A lead whose score would change."""

    by: int
    name: str
    before: int
    after: int


@dataclass
class Group:
    """So many leads, and some of them by name."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.take(Group(1, [name]))

    def take(self, other: Group) -> None:
        self.count += other.count
        self.examples = [*self.examples, *other.examples][:EXAMPLES]


@dataclass
class Preview:
    """Who would move. It names leads by address: for the screen only."""

    leads: int = 0
    changed: int = 0
    """Leads with another score than now."""
    bands: Counter[int] = field(default_factory=Counter)
    """Changed scores by the end of their band (`BANDS`; those above the last under its end + 1)."""
    up: list[Shift] = field(default_factory=list)
    down: list[Shift] = field(default_factory=list)
    moves: defaultdict[tuple[str, str], Group] = field(default_factory=partial(defaultdict, Group))
    """Stage before and after."""
    qualified: Group = field(default_factory=Group)
    excluded: defaultdict[str, Group] = field(default_factory=partial(defaultdict, Group))
    """Newly, by the exclusion."""
    freed: Group = field(default_factory=Group)
    """Excluded until now, and no more."""

    def note(self, before: Before, after: dict[str, Any]) -> None:
        self.leads += 1
        name, by = before.name, after["score"] - before.score
        if by:
            self.changed += 1
            self.bands[next((end for end in BANDS if by <= end), BANDS[-1] + 1)] += 1
            (self.up if by > 0 else self.down).append(Shift(by, name, before.score, after["score"]))
        if after["stage"] != before.stage:
            self.moves[before.stage, after["stage"]].add(name)
        if after["qualification"] in BY_RULES and before.qualification not in BY_RULES:
            self.qualified.add(name)
        for rule in after["excluded"]:
            if rule not in before.excluded:
                self.excluded[rule].add(name)
        if before.excluded and not after["excluded"]:
            self.freed.add(name)

    def take(self, other: Preview) -> None:
        """Adds what another part of the leads came to."""
        self.leads += other.leads
        self.changed += other.changed
        self.bands += other.bands
        self.up, self.down = [*self.up, *other.up], [*self.down, *other.down]
        self.trim()
        for move, group in other.moves.items():
            self.moves[move].take(group)
        for rule, group in other.excluded.items():
            self.excluded[rule].take(group)
        self.qualified.take(other.qualified)
        self.freed.take(other.freed)

    def trim(self) -> None:
        self.up = heapq.nsmallest(SHOWN, self.up, key=lambda one: (-one.by, -one.after, one.name))
        self.down = heapq.nsmallest(SHOWN, self.down, key=lambda one: (one.by, one.after, one.name))


@dataclass
class Rescored:
    """What a rescore did."""

    leads: int = 0
    changes: int = 0
    """Rows of the ledger."""
    moved: int = 0
    """`Stage Reached` and `Qualified` events."""
    once_more: int = 0
    """Leads that changed while they were counted, and were counted again."""


def preview(
    database: Database,
    scoring: Scoring,
    *,
    clock: Clock,
    again: bool = False,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Preview:
    """Counts all leads that are not of this version yet (`again`: all) and says who would move. Nothing is written."""
    found, total = Preview(), database.read_now(recount.how_many, scoring.version, again)
    with _crew(database, scoring, _hands(processes, total)) as crew:
        for part in crew.each(_previewed, _leads(database, scoring.version, again), clock):
            found.take(part)
            if progress is not None:
                progress(found.leads, max(total, found.leads))
    return found


def rescore(
    database: Database,
    scoring: Scoring,
    *,
    clock: Clock,
    again: bool = False,
    wake: bool = False,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Rescored:
    """Makes a published model active and counts all leads by it. Cut off, the same call goes on where it was.

    `again`: also those that this version has scored, from the beginning. `wake`: the router hears of what leads became.
    """
    database.write_now(_activate, scoring.version)
    mark = _mark(database)
    done, total = Rescored(), database.read_now(recount.how_many, scoring.version, again)

    def walk(leads: Iterator[list[int]]) -> None:
        while True:
            missed: list[int] = []
            for chunk in crew.each(_counted, leads, clock):
                missed += _write(database, chunk, wake, done)
                if progress is not None:
                    progress(done.leads, max(total, done.leads))
            if not missed:
                return
            done.once_more += len(missed)
            leads = recount.pieces([(id, 0) for id in missed])

    with _crew(database, scoring, _hands(processes, total)) as crew:
        walk(_leads(database, scoring.version, again))
        # Whoever began before the model was active may have scored a lead by the one before.
        _wait_for_those_before(database, mark)
        walk(_leads(database, scoring.version, False))
    return done


def _write(database: Database, chunk: Chunk, wake: bool, done: Rescored) -> list[int]:
    missed = database.write_now(recount.write, chunk, wake=wake)
    left = set(missed)
    for one in chunk.leads:
        if one.id not in left:
            done.leads += 1
            done.changes += len(one.changes)
            done.moved += len(one.told)
    if database.sqlite:
        time.sleep(_YIELDS)
    return missed


def _activate(session: Session, version: str) -> None:
    row = session.exec(select(PublishedScoring).with_for_update()).one()
    row.active = version


def _leads(database: Database, version: str, again: bool) -> Iterator[list[int]]:
    last = 0
    while leads := database.read_now(recount.next_leads, version, again, last):
        last = leads[-1][0]
        yield from recount.pieces(leads)


def _mark(database: Database) -> int | None:
    """PostgreSQL: every transaction that may know the model before has a lower number."""
    if database.sqlite:
        return None  # one writing transaction at a time: whoever comes after the change knows of it
    return database.read_now(
        lambda s: int(s.execute(text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")).scalar_one())
    )


def _wait_for_those_before(database: Database, mark: int | None) -> None:
    lowest = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
    limit = time.monotonic() + _PATIENCE
    while mark is not None and time.monotonic() < limit:
        if database.read_now(lambda s: int(s.execute(lowest).scalar_one())) >= mark:
            return
        time.sleep(0.1)


# Processes --------------------------------------------------------------------------------------------------------------


class _Here(Executor):
    """Counts in this process, when asked for the result."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class _Crew:
    """Hands pieces of work out, some ahead of what has been taken, and gives the results in order."""

    def __init__(self, executor: Executor, ahead: int, *given: Any) -> None:
        self._executor, self._ahead, self._given = executor, ahead, given

    def each(self, work: Callable[..., T], leads: Iterator[list[int]], clock: Clock) -> Iterator[T]:
        under_way: deque[Future[T]] = deque()
        for ids in chain(leads, [None] * self._ahead):
            if ids is not None:
                under_way.append(self._executor.submit(work, *self._given, ids, clock()))
            if under_way and (ids is None or len(under_way) >= self._ahead):
                yield under_way.popleft().result()


def _hands(processes: int | None, leads: int) -> int:
    if processes is not None:
        return processes
    return 0 if leads < FEW else min(os.cpu_count() or 1, MOST_PROCESSES)


@contextmanager
def _crew(database: Database, scoring: Scoring, processes: int) -> Iterator[_Crew]:
    if processes == 0:
        yield _Crew(_Here(), 1, database, scoring)
        return
    # Spawned and not forked: a copy of this process would have its database connections and threads half.
    executor = ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(database.url, scoring.version, scoring.model.dump(), scoring.mapping.model_dump_json()),
    )
    try:
        yield _Crew(executor, 2 * processes + 1, None, None)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


_own: tuple[Database, Scoring] | None = None
"""In a counting process: what it counts with."""


def _begin(url: str, version: str, model: str, mapping: str) -> None:
    global _own
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was started, which ends this one
    _own = Database(url, threads=1), Scoring(version, ScoringModel.load(model), Mapping.model_validate_json(mapping))


def _counted(database: Database | None, scoring: Scoring | None, ids: Sequence[int], now: datetime) -> Chunk:
    database, scoring = _mine(database, scoring)
    leads = database.read_now(_list, ids, scoring, now)
    return Chunk(now, scoring.version, [counted for _, counted in leads])


def _previewed(database: Database | None, scoring: Scoring | None, ids: Sequence[int], now: datetime) -> Preview:
    database, scoring = _mine(database, scoring)
    found = Preview()
    for before, counted in database.read_now(_list, ids, scoring, now):
        found.note(before, counted.values)
    found.trim()
    return found


def _list(session: Session, ids: Sequence[int], scoring: Scoring, now: datetime) -> list[tuple[Before, Counted]]:
    return list(recount.count(session, ids, scoring, now))


def _mine(database: Database | None, scoring: Scoring | None) -> tuple[Database, Scoring]:
    if database is not None and scoring is not None:
        return database, scoring
    assert _own is not None
    return _own


# The table of titles and industries -------------------------------------------------------------------------------------


class Unmapped(NamedTuple):
    """Raw values that no row of the table fits, each with how many leads have it, the most frequent first."""

    titles: list[tuple[str, int]]
    industries: list[tuple[str, int]]


def unmapped(session: Session, mapping: Mapping) -> Unmapped:
    """The titles (役職) and industries (業種) of all leads that no row of the table fits."""

    def missed(column: Any, means: Callable[[object], str | None]) -> list[tuple[str, int]]:
        query = select(column, func.count()).where(column.is_not(None), col(Lead.erased_at).is_(None)).group_by(column)
        found = [(raw, count) for raw, count in session.exec(query) if raw.strip() and means(raw) is None]
        return sorted(found, key=lambda one: (-one[1], one[0]))

    return Unmapped(missed(col(Lead.title), mapping.rank), missed(col(Lead.industry), mapping.group))
