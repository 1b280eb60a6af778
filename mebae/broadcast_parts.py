"""The parts of a run, one after the other: the test and the rest, or the zones of the world, each at its time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlmodel import Session

from mebae.ab import decide
from mebae.broadcast_run import Place, Run
from mebae.errors import BadInput
from mebae.recurring import moment
from mebae.store import broadcast_leads as leads
from mebae.timing import check_zone, first_zone, window
from mebae.words import DeliveryStatus


class Later(NamedTuple):
    """The next part may not begin yet."""

    until: datetime
    why: str
    """`zone`, `test`, or `late`: too many of the test's mails still wait."""


GAVE_UP = "gave-up"
WAITING_AT_MOST = 0.1
"""Of the test's mails, when its time begins: with quiet hours it would otherwise be over before anybody has got one."""


def next_part(session: Session, it: Run, zones: Sequence[str | None]) -> Run | Later | None:
    """The next part, begun; or when it may begin; None when there is none any more.

    `zones`: every zone that stands with the leads at this moment, of a run by local time.
    """
    plan, place = it.plan, it.place
    if place.day is not None or place.since is not None:
        return _next_zone(it, zones)
    if not place.part:
        return _begin(it, "test" if plan.ab is not None and plan.only is None else "main", it.now)
    if place.part == "main":
        return None
    assert plan.ab is not None
    if place.decide_at is None:
        variants, waiting = leads.waiting_of_test(session, it.id)
        if waiting > variants * WAITING_AT_MOST:
            assert place.limit is not None
            leads.refuse(session, it.id, GAVE_UP, statuses=[DeliveryStatus.POSTPONED], beyond=place.limit)
            return Later(place.limit, "late")
        it = it.keep(decide_at=it.now + window(plan.ab.after))
        place = it.place
    assert place.decide_at is not None
    if place.decide_at > it.now:
        return Later(place.decide_at, "test")
    found = leads.tried(session, it.id, [variant.id for variant in plan.ab.variants])
    decision = decide(found, plan.ab.winner_by)
    it.row.winner = decision.winner
    it.row.decision = {
        "at": it.now.isoformat(), "by": plan.ab.winner_by, "why": decision.why,
        "variants": {id: one._asdict() for id, one in found.items()},
    }  # fmt: skip
    return _begin(it, "main", it.now)


def _next_zone(it: Run, zones: Sequence[str | None]) -> Run | Later | None:
    """The zones where it is time next, counted from those that had their turn; after them all whom they missed."""
    when = it.plan.schedule
    assert when is not None
    own = first_zone(it.plan.zone, it.world.zone)
    named: dict[str, datetime] = {}
    moments: set[datetime] = set()
    for written in zones:
        zone = _zone(written)
        moments.add(due := _local(it.place, when.at, zone or own))
        if zone is not None:
            named[zone] = due
    coming = [due for due in moments if it.place.moment is None or due > it.place.moment]
    if not coming:
        return None if it.place.missed else _begin(it, "zone", it.now, zones=(), all_others=True, missed=True)
    first = min(coming)
    if first > it.now:
        return Later(first, "zone")
    mine = tuple(sorted(zone for zone, due in named.items() if due == first))
    if _local(it.place, when.at, own) == first:
        others = tuple(sorted(zone for zone, due in named.items() if due != first))
        return _begin(it, "zone", first, moment=first, zones=others, all_others=True, missed=False)
    return _begin(it, "zone", first, moment=first, zones=mine, all_others=False, missed=False)


def _begin(it: Run, part: str, at: datetime, **more: object) -> Run:
    limit = max(at, it.now) + window(it.plan.give_up_after)
    return it.keep(part=part, after=0, through=False, limit=limit, **more)


def _zone(written: str | None) -> str | None:
    """What stands with a lead, if it is a zone."""
    try:
        return check_zone(written).key if written else None
    except BadInput:
        return None


def _local(place: Place, at: str, zone: str) -> datetime:
    """When it is time in a zone."""
    if place.day is not None:
        return moment(place.day, at, zone)
    assert place.since is not None
    today = place.since.astimezone(check_zone(zone)).date()
    due = moment(today, at, zone)
    return due if due >= place.since else moment(today + timedelta(days=1), at, zone)
