"""The sweep: who has become a member of a segment since the last time, and who is one no more.

It goes through the leads by id, in chunks of one transaction each; what a chunk has written is there for good. Killed
anywhere and run again it finds the rest, for it looks at what is and not at what it did; the mark only saves time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from sqlmodel import Session

from mebae.periodic import Mark
from mebae.segments import Saved
from mebae.store import segments
from mebae.store.database import Database
from mebae.store.scoring import refresh

LEADS_AT_ONCE = 200
"""Leads of one transaction: a tenth of a second or two, in which nobody else writes on SQLite."""


def sweep_segments(
    database: Database,
    now: Callable[[], datetime],
    mark: Mark | None = None,
    *,
    only: str | None = None,
    most: int = LEADS_AT_ONCE,
) -> Iterator[Mark]:
    """Sweeps all published segments, or only one, and says after each chunk where it is. `mark`: where to go on.

    Scores are brought up to date first, as SQL knows them as of their last scoring only.
    """
    at = mark or Mark(counts={"joined": 0, "left": 0})
    if not at.place:
        while database.write_now(refresh, now(), most):
            yield at
    for saved in database.read_now(_to_sweep, only):
        yield from _sweep_one(database, now, saved, at, most)


def _to_sweep(session: Session, only: str | None) -> Sequence[Saved]:
    return segments.saved_segments(session) if only is None else [segments.segment_to_sweep(session, only)]


def _sweep_one(database: Database, now: Callable[[], datetime], saved: Saved, at: Mark, most: int) -> Iterator[Mark]:
    # Those who left go first: a segment's place in the order is its id, the phase and the last lead.
    for phase, find, write, count in (
        ("1-leave", segments.leavers, segments.leave, "left"),
        ("2-join", segments.joiners, segments.join, "joined"),
    ):
        if (saved.id, phase) < (at.place.get("segment", ""), at.place.get("phase", "")):
            continue
        same = (saved.id, phase) == (at.place.get("segment"), at.place.get("phase"))
        after = int(at.place["after"]) if same else 0
        while ids := database.read_now(find, saved, now(), after=after, most=most):
            done = database.write_now(write, saved, ids, now())
            after = ids[-1]
            at.place = {"segment": saved.id, "phase": phase, "after": after}
            at.counts[count] += done
            yield at
    database.write_now(segments.note_swept, saved.id, now())
