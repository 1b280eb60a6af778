"""A run of a broadcast: what comes next, and what has been done. Transactions that decide; the sending is `mebae.mail.bulk`.

    begin ─► [test ─► wait ─► decide] ─► main ─┐
          └► zone ─► zone ─► … ─► missed ──────┴─► late: what had to wait ─► done

A run goes through its leads in the order of their ids, a batch at a time, and keeps the place in its row: `take` says whose
turn it is, the mails go out, `taken` moves the place on. A worker that dies in between leaves the place where it was; the
next one takes the same batch again, and the ledger knows which of its mails are out.

Every batch asks anew who is in the segment, so who leaves it before its turn is not mailed. What had to wait (quiet hours, a
cap, the mail server) is taken up at its time between the batches and after them, until `give_up_after`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlmodel import Session

from mebae.broadcast_parts import GAVE_UP, next_part
from mebae.broadcast_run import Run, World, by_word, plus, recount, run_of
from mebae.broadcasts import draw
from mebae.mail.bulk import BulkContent
from mebae.store import broadcast_leads as leads
from mebae.store.broadcast_leads import Turn, Zones
from mebae.words import DeliveryStatus

READ_AT_MOST = 5000
"""Leads that are looked at for one batch: of a small share of them a batch needs many."""
LATE_OFTEN, LATE_SELDOM = timedelta(minutes=1), timedelta(minutes=15)
"""Mails that had to wait are collected: the longer the run has been through, the longer."""
STALL_AT_MOST = timedelta(minutes=15)
SOON = timedelta(seconds=1)
PAUSED, ENDED, LEFT = "paused", "ended", "left-segment"
STALLS = ("mail-server-unavailable", "sending-paused", "footer-unset")
"""When a whole batch has to wait for one of these, the next would too: the run rests."""


class Group(NamedTuple):
    """Leads of a batch that get the same mail."""

    content: BulkContent
    leads: tuple[int, ...]


class Batch(NamedTuple):
    """Whose turn it is."""

    turn: int
    groups: tuple[Group, ...]
    after: int
    """The last lead that was looked at."""
    late: bool = False

    @property
    def leads(self) -> list[int]:
        return [lead for group in self.groups for lead in group.leads]


class Resting(NamedTuple):
    until: datetime
    why: str
    """`zone`, `test`, `late`, or what the mail server or the gate said to a whole batch."""


class Halted(NamedTuple):
    """Paused."""


class Over(NamedTuple):
    outcome: str


class Again(NamedTuple):
    """Nobody for this batch: look again."""


Next = Again | Batch | Resting | Halted | Over


# What comes next --------------------------------------------------------------------------------------------------------


class Looked(NamedTuple):
    """Who is next. Found without a lock, for that looks at many leads; `take` uses it if nothing has moved since."""

    turn: int
    turns: Sequence[Turn] = ()
    zones: Sequence[str | None] = ()


def look(session: Session, run: int, world: World, now: datetime, *, most: int) -> Looked:
    """The next leads of the part under way; when it is through, the zones that leads are in. Only reads."""
    it = run_of(session, run, world, now, lock=False)
    plan, place = it.plan, it.place
    if place.part and not place.through:
        share = plan.ab.share if plan.ab is not None and place.part == "test" else 100
        read = min(most * 100 // share, READ_AT_MOST)
        zones = Zones(place.zones, place.all_others, place.missed) if place.part == "zone" else None
        return Looked(place.turn, leads.page(session, run, plan, now, after=place.after, most=read, zones=zones))
    if place.day is not None or place.since is not None:
        return Looked(place.turn, zones=leads.zones_of(session, plan, now))
    return Looked(place.turn)


def take(session: Session, run: int, looked: Looked, world: World, now: datetime, *, most: int) -> Next:
    """What comes next: a batch of at most so many leads, a rest, or the end. Asked twice, it says the same."""
    it = run_of(session, run, world, now)
    if it.row.status == "done":
        return Over(it.row.outcome or "completed")
    if it.row.status == "ended":
        return _closing(session, it)
    if it.row.paused:
        return Halted()
    if it.place.rest_until is not None and it.place.rest_until > now:
        return Resting(it.place.rest_until, it.place.rest_why)
    if it.place.turn != looked.turn:
        return Again()
    if it.place.part and not it.place.through:
        return _batch(session, it, looked.turns, most)
    late, it = _late(session, it, most)
    if late is not None:
        return late
    following = next_part(session, it, looked.zones)
    if following is None:
        return _rest_or_end(session, it)
    if isinstance(following, Run):
        it.row.status = "running"
        return Again()
    it.row.status = "waiting"
    return Resting(min(following.until, _next_late(session, it) or following.until), following.why)


def _batch(session: Session, it: Run, turns: Sequence[Turn], most: int) -> Batch | Again:
    """The part's next leads."""
    plan, place = it.plan, it.place
    if not turns:
        recount(session, it)
        it.keep(through=True)
        return Again()
    held, wanted = [], []
    for turn in turns:
        part, variant = ("main", None) if plan.only is not None else draw(plan, it.id, turn.lead)
        if turn.status is not None:
            if turn.status in leads.UNFINISHED:
                wanted.append(turn)
        elif part == "holdout":
            held.append(turn.lead)
        elif place.part != "test":  # who should have tried a variant and came too late gets the winner
            wanted.append(turn)
        elif part == "test":
            wanted.append(turn._replace(variant=variant))
    after = turns[-1].lead
    if len(wanted) > most:
        wanted, after = wanted[:most], wanted[most - 1].lead
    held = [lead for lead in held if lead <= after]
    leads.hold_out(session, it.id, plan, held)
    it.row.counts = plus(it.row.counts, {leads.HOLDOUT: len(held)})
    if not wanted:
        it.keep(after=after)
        return Again()
    it.row.status = "running"
    return Batch(place.turn, _groups(it, wanted), after)


def _late(session: Session, it: Run, most: int) -> tuple[Batch | None, Run]:
    """Those who had to wait and whose time has come, if it is time to collect them."""
    if it.place.late_from is not None and it.place.late_from > it.now:
        return None, it
    while turns := leads.waiting(session, it.id, it.now, after=it.place.late_after, most=most):
        # Of a mail in `data` it must be said whether it went out, whatever became of the lead.
        asked = [turn.lead for turn in turns if turn.status != DeliveryStatus.DATA]
        gone = set(asked) - leads.still_members(session, it.plan, asked, it.now)
        leads.refuse(session, it.id, LEFT, leads=gone)
        if wanted := [turn for turn in turns if turn.lead not in gone]:
            it.row.status = "running"
            return Batch(it.place.turn, _groups(it, wanted), turns[-1].lead, late=True), it
        it = it.keep(late_after=turns[-1].lead)
    if it.place.late_after:
        recount(session, it)
        it = it.keep(late_after=0, late_from=it.now + _gap(it))
    return None, it


def _rest_or_end(session: Session, it: Run) -> Resting | Over:
    """All parts are through: what is left has to wait, or there is nothing left."""
    if it.place.through_at is None:
        it = it.keep(through_at=it.now)
    leads.refuse(session, it.id, GAVE_UP, statuses=[DeliveryStatus.POSTPONED], beyond=it.place.limit)
    later = _next_late(session, it)
    if later is not None:
        it.row.status = "waiting"
        return Resting(later, "late")
    recount(session, it)
    it.row.status, it.row.ended_at, it.row.outcome = "done", it.now, "completed"
    return Over("completed")


def _next_late(session: Session, it: Run) -> datetime | None:
    """When to collect those who wait; None when nobody does."""
    due = it.now if leads.unfinished(session, it.id) else leads.next_wait(session, it.id)
    return None if due is None else max(due, it.place.late_from or due, it.now + it.world.clock.worldly(SOON))


def _gap(it: Run) -> timedelta:
    since = it.place.through_at or it.row.started_at or it.now
    return min(max((it.now - since) / 10, LATE_OFTEN), LATE_SELDOM)


def _closing(session: Session, it: Run) -> Over:
    """Ended by hand: what waits is given up. Whether what a dead attempt left in `data` went out, nobody can say."""
    leads.refuse(session, it.id, ENDED)
    leads.died(session, it.id)
    recount(session, it)
    return Over(it.row.outcome or ENDED)


def _groups(it: Run, turns: Iterable[Turn]) -> tuple[Group, ...]:
    by_variant: dict[str | None, list[int]] = {}
    for turn in turns:
        by_variant.setdefault(turn.variant, []).append(turn.lead)
    return tuple(Group(_content(it, variant), tuple(found)) for variant, found in sorted(by_variant.items(), key=str))


def _content(it: Run, variant: str | None) -> BulkContent:
    """Who tries a variant gets that, now and later; everybody else the winner, or the mail itself."""
    mail = it.plan.variant(variant or it.row.winner)
    text = None if mail.text == mail.mail else mail.text
    return BulkContent(it.plan.broadcast, mail.mail, it.plan.title, variant, text)


# What has been done -----------------------------------------------------------------------------------------------------


def taken(session: Session, run: int, batch: Batch, world: World, now: datetime) -> None:
    """A batch has been through: the place moves on, unless another attempt has moved it."""
    it = run_of(session, run, world, now)
    if it.place.turn != batch.turn:
        return
    found = leads.tally(session, run, batch.leads)
    before = {"postponed": -len(batch.leads)} if batch.late else {}
    it.row.counts = plus(plus(it.row.counts, before), by_word(found))
    moved: dict[str, object] = {"late_after" if batch.late else "after": batch.after}
    [reason] = {reason for _, reason in found} if len({reason for _, reason in found}) == 1 else [None]
    if reason in STALLS and all(status == DeliveryStatus.POSTPONED for status, _ in found):
        stalls = it.place.stalls + 1
        rest = min(LATE_OFTEN * 2 ** min(stalls - 1, 10), STALL_AT_MOST)
        moved |= {"stalls": stalls, "rest_until": now + world.clock.worldly(rest), "rest_why": reason}
    else:
        moved |= {"stalls": 0, "rest_until": None, "rest_why": ""}
    it.keep(**moved)


# Steering ---------------------------------------------------------------------------------------------------------------


def pause(session: Session, run: int, world: World, now: datetime) -> None:
    """No further batch, and mails of the one under way that are not in `data` yet wait. Twice is once."""
    it = run_of(session, run, world, now)
    if not it.row.paused:
        it.row.paused = True
        it.keep(paused_at=now)  # a move: the batch under way moves nothing any more, so that all of it comes again


def resume(session: Session, run: int, world: World, now: datetime) -> None:
    """Goes on; the time of the pause does not count against what had to wait."""
    it = run_of(session, run, world, now)
    if it.row.paused:
        it.row.paused = False
        leads.due_now(session, run, PAUSED, now)
        recount(session, it)
        limit, since = it.place.limit, it.place.paused_at
        longer = limit + (now - since) if limit is not None and since is not None else limit
        it.keep(paused_at=None, limit=longer, late_from=None, rest_until=None)


def end(session: Session, run: int, outcome: str, world: World, now: datetime) -> None:
    """No further mail. What is in `data` goes out; what waits is given up."""
    it = run_of(session, run, world, now)
    if it.row.status not in ("done", "ended"):
        it.row.status, it.row.ended_at, it.row.outcome, it.row.paused = "ended", now, outcome, False
