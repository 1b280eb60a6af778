"""Broadcasts as commands and pages show them: what there is, when it goes out next, and what its runs have brought."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlmodel import Session

from mebae.ab import Difference, difference
from mebae.broadcast_run import Place, World, by_word
from mebae.broadcasts import BroadcastPlan
from mebae.errors import NotFound
from mebae.recurring import EARLIEST, next_moment, words
from mebae.store.broadcast_leads import tally
from mebae.store.broadcast_results import Group, Result, comparison, refusals, results, runs_of
from mebae.store.broadcasts import published_plans, read_plan
from mebae.store.tables import Broadcast
from mebae.timing import first_zone

SHOWN = 12
"""Runs that are listed."""


class Line(NamedTuple):
    """One broadcast, for a list."""

    plan: BroadcastPlan
    published: bool
    """Whether this is what goes out; false for an edited file that no worker has read yet."""
    when: str
    next: datetime | None
    last: Broadcast | None


class Held(NamedTuple):
    """With the mail and without."""

    mailed: Group
    held: Group
    active: Difference | None
    qualified: Difference | None


class RunTold(NamedTuple):
    """One run with its results."""

    row: Broadcast
    plan: BroadcastPlan | None
    part: str
    counts: dict[str, int]
    """At this moment; those of the row are of the last batch."""
    whole: Result
    by_variant: dict[str, Result]
    """Of the test, by variant."""
    rest: Result
    refusals: dict[str, int]
    held: Held | None


def lines(session: Session, written: list[BroadcastPlan], world: World, now: datetime) -> list[Line]:
    """Every broadcast of the files, and those that are only published, by id."""
    published = {plan.broadcast: plan for plan in published_plans(session)}
    both = published | {plan.broadcast: plan for plan in written}
    found = []
    for id, plan in sorted(both.items()):
        last = runs_of(session, id, limit=1)
        found.append(
            Line(
                plan,
                id in published and published[id].version == plan.version,
                words(plan.schedule) if plan.schedule is not None else "by hand",
                next_time(plan, world, now),
                last[0] if last else None,
            )
        )
    return found


def next_time(plan: BroadcastPlan, world: World, now: datetime) -> datetime | None:
    """When it goes out next; by local time: where it is that time first."""
    if plan.schedule is None:
        return None
    zone = EARLIEST if plan.local_time else first_zone(plan.zone, world.zone)
    return next_moment(plan.schedule, zone, now, world.calendar)


def runs(session: Session, broadcast: str, known: list[str]) -> list[Broadcast]:
    """Its runs, the newest first; `NotFound` for one that there never was."""
    found = runs_of(session, broadcast, limit=SHOWN)
    if not found and broadcast not in known:
        raise NotFound("broadcast", broadcast, known)
    return found


def told(session: Session, run: Broadcast, now: datetime) -> RunTold:
    """A run with all that is known of it."""
    assert run.id is not None
    found = results(session, run)
    by_variant = {variant: found[variant] for variant in sorted(id for id in found if id is not None)}
    both = comparison(session, run, now)
    held = None
    if both is not None:
        mailed, without = both
        active = difference((mailed.active, mailed.leads), (without.active, without.leads))
        qualified = difference((mailed.qualified, mailed.leads), (without.qualified, without.leads))
        held = Held(mailed, without, active, qualified)
    rest = found.get(None, Result())
    whole = Result(*(sum(column) for column in zip(rest, *by_variant.values(), strict=True)))
    part = Place.model_validate(run.place).part
    plan = read_plan(run.broadcast, run.plan)
    counts = {"total": run.counts.get("total", 0)} | by_word(tally(session, run.id))
    return RunTold(run, plan, part, counts, whole, by_variant, rest, refusals(session, run.id), held)


def as_json(run: RunTold) -> dict[str, Any]:
    """For programs; times in UTC."""
    row = run.row
    return {
        "run": row.id, "broadcast": row.broadcast, "status": row.status, "paused": row.paused, "outcome": row.outcome,
        "due_at": row.due_at.isoformat(), "started_at": row.started_at and row.started_at.isoformat(),
        "ended_at": row.ended_at and row.ended_at.isoformat(), "workflow_id": row.workflow_id, "counts": run.counts,
        "results": run.whole._asdict(), "variants": {id: one._asdict() for id, one in run.by_variant.items()},
        "winner": row.winner, "decision": row.decision, "reasons": run.refusals,
        "holdout": None if run.held is None else {
            "mailed": run.held.mailed._asdict(), "held": run.held.held._asdict(),
            "active": run.held.active and run.held.active._asdict(),
            "qualified": run.held.qualified and run.held.qualified._asdict(),
        },
    }  # fmt: skip
