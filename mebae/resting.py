"""Putting a journey to rest, and saying how a rest ended: the journey's half of the handshake with the router (DESIGN §6).

Both halves hold the lead's lock. The router, in its transaction, takes an event and looks which resting journeys want it;
`settle`, in its own, writes what a journey wants and looks back over the events stored since the wait's start. Whichever
comes second sees what the first wrote, so nothing is missed; and as only `settle` decides, nothing counts twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlmodel import Session, col, select

from mebae import asking_sales
from mebae.conditions import evaluate
from mebae.graph import (
    HAND_OVER_WITHIN,
    RESTS,
    WITH_SALES,
    Arm,
    Branch,
    CallTask,
    Graph,
    HandToSales,
    WaitFor,
    WaitUntil,
    arms_of,
    waiting_for,
)
from mebae.graph import Wait as WaitStep
from mebae.journey import (
    EXIT,
    Chosen,
    Ended,
    Ending,
    Exited,
    Heard,
    Marks,
    Passed,
    Plan,
    Postponed,
    Resting,
    Settling,
)
from mebae.store.database import lock_lead
from mebae.store.facts import LeadFacts
from mebae.store.graphs import graph_of
from mebae.store.tables import Event, JourneyRow, Lead
from mebae.timing import Calendar, date_moment, first_zone, moment_after
from mebae.words import JourneyStatus

EARLY = timedelta(seconds=1)
"""Clocks of two machines differ; a timer that fired is not called early for that."""
SOONEST = timedelta(minutes=1)
"""A condition that may change with time is asked again no sooner than this."""


class Setting(NamedTuple):
    """What of the workspace bears on when a journey wakes."""

    zone: str
    calendar: Calendar


class Place(NamedTuple):
    """A journey under its lead's lock."""

    row: JourneyRow
    lead: Lead
    graph: Graph
    entry: Mapping[str, Any]
    sheltered: bool = False
    """On a path that sales opened: it runs to its end before `exits_when` is asked."""

    def facts(self, session: Session, now: datetime) -> LeadFacts:
        return LeadFacts(session, self.lead, now, self.entry)


def take(session: Session, entry: int, turn: int, *, sheltered: bool = False) -> Place | Exited | Ended:
    """Locks the lead of an entry, for a turn of its journey. `sheltered`: it is on a path that sales opened.

    `Ended` or `Exited` where the entry is closed: a lost answer is given again, and a run that should not be is ended.
    An earlier turn than the row's is let in: when a workflow task fails after several local activities, Temporal runs
    them again from the first, and that is no late one (docs/decisions/0013).
    """
    row = session.get(JourneyRow, entry)
    if row is None:
        return Exited("no-such-entry")
    lead = lock_lead(session, row.lead_id)
    session.refresh(row)
    if row.status == JourneyStatus.ENDED:
        return Exited(row.reason) if row.reason is not None else Ended(row.outcome or "")
    if row.status == JourneyStatus.REFUSED:
        return Exited("closed")
    row.turn = turn
    assert lead is not None
    if lead.erased_at is not None:
        return close(row, Exited("erased"), lead.erased_at)
    event = session.get(Event, row.entry_event_id) if row.entry_event_id is not None else None
    return Place(row, lead, graph_of(session, row.version), event.properties if event is not None else {}, sheltered)


def close(row: JourneyRow, how: Exited, now: datetime) -> Exited:
    """Ends a journey's row by exit."""
    _end(row, "exited", how.why, now)
    return how


def finish(session: Session, place: Place, outcome: str, now: datetime) -> Ended:
    """Writes a journey's end."""
    _end(place.row, outcome, None, now)
    return Ended(outcome)


def exited(session: Session, place: Place, now: datetime) -> Exited | None:
    """Asks `exits_when`, and closes the row if it is true. On a path that sales opened it is not asked."""
    condition = None if place.sheltered else place.graph.exits_when
    if condition is not None and evaluate(condition, place.facts(session, now)).value:
        return close(place.row, Exited("exits-when"), now)
    return None


def still_early(
    session: Session, place: Place, woke: Settling | None, now: datetime, at: Setting
) -> Postponed | Exited | None:
    """Whether the rest that a timer ended is, by today's zone and calendar, not over yet. Then the row rests again,
    unless it is time to leave."""
    if woke is None or woke.since is None:
        return None
    deadline = _deadline(place, woke, woke.since, at)
    if deadline is None or deadline <= now + EARLY:
        return None
    out = exited(session, place, now)
    if out is not None:
        return out
    rest(place, woke.step, "time", [], deadline)
    return Postponed(deadline, "early")


def settle(
    session: Session, place: Place, ask: Settling, now: datetime, at: Setting
) -> Resting | Heard | Passed | Exited:
    """Puts a journey to rest at a step, or says how the rest ended: heard, passed by time, or exited."""
    step = place.graph.step(ask.step)
    assert isinstance(step, RESTS)
    # Where the rest stands, which may be past the path on which the act before it was.
    place = place._replace(sheltered=ask.sheltered)
    if isinstance(step, WITH_SALES):
        # The path that its outcome opens runs before `exits_when` is asked.
        answered = asking_sales.answer(session, place, step, ask)
        if answered is not None:
            return answered
    facts = place.facts(session, now)
    moments: list[datetime] = []
    exits_when = None if place.sheltered else place.graph.exits_when
    if exits_when is not None:
        verdict = evaluate(exits_when, facts)
        if verdict.value:
            return close(place.row, Exited("exits-when"), now)
        if verdict.valid_until is not None:
            moments.append(verdict.valid_until)
    since = ask.since or now
    deadline = _deadline(place, ask, since, at)
    if deadline is None:  # a date that the lead or the entry does not have: nothing to wait for
        return Passed(late=True)
    triggers: list[dict[str, Any]] = []
    if isinstance(step, WITH_SALES):
        asking_sales.ask(session, place, step, ask, now, at)
        answered = asking_sales.answer(session, place, step, ask)  # one that is joined may have been judged
        if answered is not None:
            return answered
        triggers += [{"id": arm.id, "after": 0} for arm in arms_of(step)]
    if isinstance(step, WaitFor):
        heard = _look_back(session, place, step.arms, ask.marks, deadline)
        if heard is not None:
            return heard
        for arm in step.arms:
            if arm.when is not None:
                verdict = evaluate(arm.when, facts)
                if verdict.value:
                    return Heard(arm.id, 0)
                if verdict.valid_until is not None:
                    moments.append(verdict.valid_until)
            triggers.append(trigger(arm, ask.marks))
    if deadline <= now:
        if isinstance(step, CallTask):
            asking_sales.give_up(session, place, step, ask, now)
        return Passed(late=isinstance(step, WaitUntil) and ask.since is None)
    rest(place, step.id, waiting_for(step), triggers, deadline)
    until = min([deadline, *(max(moment, now + SOONEST) for moment in moments)])
    held = facts.standing
    return Resting(since, until, deadline, place.lead.stage, held.in_brief if held is not None else None)


def follow(
    session: Session, place: Place, plan: Plan | None, now: datetime, at: Setting
) -> Resting | Heard | Passed | Exited | Ended | None:
    """What statically comes after an act, written in the act's own transaction."""
    match plan:
        case Ending():
            return finish(session, place, plan.outcome, now)
        case Settling():
            return settle(session, place, plan, now, at)
        case None:
            place.row.status = JourneyStatus.RUNNING
            return None


def choose(session: Session, place: Place, step: str, now: datetime) -> Chosen:
    """The first true case of a branch."""
    branch = place.graph.step(step)
    assert isinstance(branch, Branch)
    facts = place.facts(session, now)
    place.row.status = JourneyStatus.RUNNING
    return Chosen(next((case.to for case in branch.cases if evaluate(case.when, facts).value), branch.otherwise))


def rest(place: Place, step: str, waits_for: str, triggers: list[dict[str, Any]], deadline: datetime) -> None:
    """Writes what a journey listens for until when. The router reads it under the same lock."""
    row = place.row
    row.status = JourneyStatus.RESTING
    row.step, row.waiting_for, row.deadline = step, waits_for, deadline
    row.listening = [*triggers, *([] if place.sheltered else exit_triggers(place.graph))]


def trigger(arm: Arm, marks: Marks) -> dict[str, Any]:
    """An arm as the router sees it; what it means stands in the pinned graph."""
    return {"id": arm.id, "after": marks.after(arm)}


def exit_triggers(graph: Graph) -> list[dict[str, Any]]:
    """What `exits_when` makes a resting journey listen for."""
    return [] if graph.exits_when is None else [{"id": EXIT, "after": 0}]


def _look_back(session: Session, place: Place, arms: tuple[Arm, ...], marks: Marks, deadline: datetime) -> Heard | None:
    """The first stored event that ends the wait; of two arms that want it, the first written."""
    listening = [(arm, marks.after(arm)) for arm in arms if arm.on is not None]
    if not listening:
        return None
    events = session.exec(
        select(Event)
        .where(
            Event.lead_id == place.lead.id,
            Event.seq > min(after for _, after in listening),
            col(Event.name).in_({arm.on.event for arm, _ in listening if arm.on is not None}),
            Event.received_at <= deadline,
        )
        .order_by(col(Event.seq))
    )
    for event in events:
        for arm, after in listening:
            if event.seq > after and arm.hears(place.graph.scenario, event.name, event.properties):
                return Heard(arm.id, event.seq)
    return None


def _deadline(place: Place, ask: Settling, since: datetime, at: Setting) -> datetime | None:
    """When a rest is over, in the lead's zone of now; None where the date is missing or unreadable."""
    step = place.graph.step(ask.step)
    zone = first_zone(place.lead.time_zone, at.zone)
    match step:
        case WaitStep():
            return moment_after(step.span, since, zone, at.calendar, at=step.at, business=step.business)
        case WaitFor():
            return moment_after(step.within, since, zone, at.calendar)
        case HandToSales():
            return moment_after(step.within or HAND_OVER_WITHIN, since, zone, at.calendar)
        case CallTask():
            return moment_after(step.within, since, zone, at.calendar)
        case WaitUntil():
            value = place.facts(None, since).value(step.date)  # type: ignore[arg-type]
            return date_moment(value, zone, plus=step.plus, minus=step.minus, at=step.at, calendar=at.calendar)
        case _:
            raise AssertionError(step)


def _end(row: JourneyRow, outcome: str, why: str | None, now: datetime) -> None:
    row.status, row.outcome, row.reason = JourneyStatus.ENDED, outcome, why
    row.listening, row.deadline, row.waiting_for = [], None, None
    row.ended_at = now
