"""A run of a broadcast: its row, its plan, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import NamedTuple

from pydantic import AwareDatetime, BaseModel
from sqlmodel import Session, select

from mebae.broadcasts import BroadcastPlan
from mebae.clock import WorldClock
from mebae.errors import Permanent, Temporary
from mebae.store import broadcast_leads as leads
from mebae.store.broadcasts import read_plan
from mebae.store.tables import Broadcast
from mebae.timing import Calendar


class World(NamedTuple):
    """What of the workspace bears on a run."""

    zone: str
    calendar: Calendar
    clock: WorldClock = WorldClock()


class Place(BaseModel):
    """How far a run is. In its row, as JSON."""

    turn: int = 0
    """Raised by each move: an attempt that was given up for dead moves nothing any more."""
    part: str = ""
    """`test`, `main` or `zone`; empty before the first."""
    after: int = 0
    """The last lead of it that was taken."""
    through: bool = False
    """Whether the part has no leads left."""
    day: date | None = None
    """By local time: on which date."""
    since: AwareDatetime | None = None
    """By local time, and on no date: from when on, each zone's next."""
    moment: AwareDatetime | None = None
    """Of the zones under way."""
    zones: tuple[str, ...] = ()
    all_others: bool = False
    """See `Zones`."""
    missed: bool = False
    """The zones are through, and this part is for whom they missed: who moved to one that had had its turn."""
    decide_at: AwareDatetime | None = None
    """Set when the test's mails are out, but for a few."""
    limit: AwareDatetime | None = None
    """After it nothing that had to wait is sent any more."""
    late_after: int = 0
    late_from: AwareDatetime | None = None
    through_at: AwareDatetime | None = None
    """Since when there is only what had to wait."""
    stalls: int = 0
    """Batches in a row that had to wait as a whole."""
    rest_until: AwareDatetime | None = None
    rest_why: str = ""
    paused_at: AwareDatetime | None = None


class Run(NamedTuple):
    """A run under its row's lock."""

    row: Broadcast
    id: int
    plan: BroadcastPlan
    place: Place
    world: World
    now: datetime

    def keep(self, **changed: object) -> Run:
        place = self.place.model_copy(update={**changed, "turn": self.place.turn + 1})
        self.row.place = place.model_dump(mode="json", exclude_defaults=True)
        return self._replace(place=place)


def run_of(session: Session, run: int, world: World, now: datetime, *, lock: bool = True) -> Run:
    """The run. `lock`: its row is locked until the transaction ends.

    Raises `Permanent` if there is none, and `Temporary` for a plan of a newer worker.
    """
    query = select(Broadcast).where(Broadcast.id == run).execution_options(populate_existing=True)
    row = session.exec(query.with_for_update() if lock else query).first()
    if row is None:
        raise Permanent("no-such-run")
    plan = read_plan(row.broadcast, row.plan)
    if plan is None:
        raise Temporary("plan-unreadable")
    return Run(row, run, plan, Place.model_validate(row.place), world, now)


def recount(session: Session, it: Run) -> None:
    """Counts all of its deliveries anew."""
    session.flush()
    it.row.counts = {"total": it.row.counts.get("total", 0)} | by_word(leads.tally(session, it.id))


def by_word(tally: Mapping[tuple[str, str | None], int]) -> dict[str, int]:
    """Numbers for people: by status, with those held out apart from the refused, and those under way as one."""
    found: dict[str, int] = {}
    for (status, reason), many in tally.items():
        word = leads.HOLDOUT if reason == leads.HOLDOUT else "unfinished" if status in leads.UNFINISHED else str(status)
        found[word] = found.get(word, 0) + many
    return found


def plus(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {word: max(0, counts.get(word, 0) + more.get(word, 0)) for word in dict.fromkeys([*counts, *more])}
