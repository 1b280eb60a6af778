"""What happens to hand-overs in the database. `mebae.handover` says what may happen; here it is written, with all that follows.

Every function is one transaction that holds the lead's lock: the hand-over, its history, the lead's qualification, the event that
journeys and scoring see, and what the outside must be told stand together or not at all. A decision is complete when it is
committed; its workflow, which only keeps the clocks, is told afterwards (`told` < `version`) and may be away for as long as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlmodel import Session, col, func, or_, select

from mebae.conditions import evaluate
from mebae.crm import outbox as crm
from mebae.errors import BadInput, NotFound
from mebae.handover import (
    BACK,
    CLOSED,
    EVENT,
    NOT_JUDGED,
    OPENED,
    QUALIFICATION,
    UNDER_WAY,
    WITH_REASON,
    Alarm,
    BusinessTime,
    Move,
    Status,
    after,
    clock_of,
    due_next,
    is_repeated,
    way,
)
from mebae.sales import Person, SalesRules, in_turn
from mebae.store.database import lock_lead
from mebae.store.facts import LeadFacts
from mebae.store.ingest import EventLog
from mebae.store.sales import publish_sales, rules_of, under_way
from mebae.store.scoring import BY_RULES, NOT_QUALIFIED
from mebae.store.standing import standing
from mebae.store.tables import Company, Handover, HandoverEvent, Lead, Telling
from mebae.timing import Calendar, moment_after

__all__ = ["publish_sales", "rules_of", "under_way"]

REASONS = 8
"""How many of the rules that give most are kept with a hand-over."""
_ASSIGNING = 0x6D656261_6F776E65
"""The advisory lock of those who look whose turn it is, on PostgreSQL."""

def business_time(rules: SalesRules, zone: str, calendar: Calendar) -> BusinessTime:
    """By what clocks count."""
    return BusinessTime(zone, calendar, rules.hours)


# Opening ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Why:
    """What opens a hand-over."""

    cause: str
    """Once per cause: see `Handover.cause`."""
    how: str
    """`rule`, `journey` or `command`."""
    by: str = "marketing"
    message: str = ""
    entry: int | None = None
    scope: str = ""
    owner: str | None = None
    """Somebody named; else the rules say whose it is."""


def open_or_join(session: Session, lead: Lead, why: Why, now: datetime, zone: str, calendar: Calendar) -> Handover:
    """Gives a locked lead to sales, once per cause. One that is with sales already stays the one it is: this joins it."""
    joined = select(HandoverEvent.handover_id).where(HandoverEvent.cause == why.cause)
    known = session.exec(select(Handover).where(or_(Handover.cause == why.cause, col(Handover.id).in_(joined)))).first()
    if known is not None:
        return known
    assert lead.id is not None
    there = under_way(session, lead.id)
    if there is not None:
        _note(session, there, "joined", why.by, why.how, lead.last_seq, now, note=why.message, cause=why.cause)
        return there
    rules = rules_of(session)
    owner = owner_for(session, lead, rules, now) if why.owner is None else rules.person(why.owner)
    _keep_owner(session, lead, owner.id)
    score, reasons = _score(session, lead, now)
    row = Handover(
        cause=why.cause, lead_id=lead.id, company_id=lead.company_id, status=Status.OPEN, owner=owner.id, why=why.message,
        entry=why.entry, scope=why.scope, was=lead.qualification, score=score, reasons=reasons, opened_at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    _wind(row, rules, business_time(rules, zone, calendar), None, now)
    said = {"handover": row.id, "owner": owner.id, "score": score}
    # Who is given to sales is ripe, whatever the rules say.
    ripe = QUALIFICATION[Status.OPEN] if lead.qualification in NOT_QUALIFIED else lead.qualification
    seq = _happened(session, lead, f"handover:{row.id}:{row.version}:open", OPENED, said, ripe, now)
    _note(session, row, "open", why.by, why.how, seq, now, note=why.message)
    tell_owner(session, row, "opened", rules, now)
    tell_others(session, row, "opened", now)
    return row


def owner_for(session: Session, lead: Lead, rules: SalesRules, now: datetime) -> Person:
    """Whose this lead is: its firm's owner, else by territory, else whose turn it is."""
    owned = _owner_of_firm(session, lead)
    if owned is not None and any(one.id == owned for one in rules.people):
        return rules.person(owned)
    facts = LeadFacts(session, lead, now, {})
    named = next((one.people for one in rules.territories if evaluate(one.when, facts).value), ())
    people = [one for one in rules.people if (one.id in named if named else one.takes_leads and one.role != "manager")]
    # Inside sales answers first where there is some; the field is passed to.
    first = people if named else [one for one in people if one.role == "inside"] or people
    candidates = [one.id for one in first or rules.people]
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ASSIGNING})
    latest = select(Handover.owner, func.max(Handover.id)).where(col(Handover.owner).in_(candidates)).group_by(Handover.owner)
    return rules.person(in_turn(candidates, {owner: int(last or 0) for owner, last in session.exec(latest)}))


def _owner_of_firm(session: Session, lead: Lead) -> str | None:
    """The firm's owner; of a lead without a firm, who had it last."""
    if lead.company_id is not None:
        firm = session.get(Company, lead.company_id)
        return None if firm is None else firm.owner
    query = select(Handover.owner).where(Handover.lead_id == lead.id).order_by(col(Handover.id).desc())
    return session.exec(query).first()


def _keep_owner(session: Session, lead: Lead, owner: str) -> None:
    """One owner per company: its other leads come to the same person."""
    if lead.company_id is not None:
        firm = session.get(Company, lead.company_id, with_for_update=True)
        if firm is not None and firm.owner != owner:
            firm.owner = owner
            session.flush()


def _score(session: Session, lead: Lead, now: datetime) -> tuple[int, list[dict[str, Any]]]:
    held = standing(session, lead, now)
    if held is None:
        return lead.score, []
    return held.score.whole, [{"rule": rule, "points": round(points, 1)} for rule, points in held.by_rule[:REASONS]]


# Deciding -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decision:
    """What somebody says of a hand-over."""

    move: Move
    by: str
    """A sales person's id, or the system that said it. No address."""
    how: str
    """`button`, `api`, `command`, `csv`, `crm`."""
    reason: str | None = None
    note: str = ""
    amount: int | None = None
    to: str | None = None
    """To whom it is passed on."""
    version: int | None = None
    """What whoever decides has seen: a hand-over that has moved since then is not decided by it."""
    cause: str | None = None
    """What an outside system calls its message: the same again changes nothing."""
    skipping: bool = False
    """A system that says only how it ended: the moves between are written too (`handover.way`)."""


@dataclass(frozen=True)
class Decided:
    """What came of a decision."""

    handover: Handover
    changed: bool
    """False: it was so already, and nothing was written."""


class Outdated(BadInput):
    """Somebody else decided meanwhile; nothing was changed."""

    def __init__(self, handover: Handover) -> None:
        self.handover = handover
        super().__init__(f"hand-over {handover.id} has moved on meanwhile: it is {handover.status} now; look at it and decide again")


def take(session: Session, handover_id: int) -> tuple[Handover, Lead]:
    """The hand-over with its lead, locked, as they are now. Raises `NotFound`."""
    row = session.get(Handover, handover_id)
    if row is None:
        raise NotFound("hand-over", str(handover_id))
    lead = lock_lead(session, row.lead_id)
    session.refresh(row)
    assert lead is not None
    return row, lead


def decide(session: Session, handover_id: int, said: Decision, now: datetime, zone: str, calendar: Calendar) -> Decided:
    """Carries out what somebody decided.

    Said again, or pressed twice, it changes nothing. Raises `NotFound` for the hand-over, the reason or the person, `IllegalMove`
    for what is not possible from where it stands, `Outdated` if it moved since the decider looked, `BadInput` for what is missing.
    """
    row, lead = take(session, handover_id)
    if said.cause is not None and session.exec(select(HandoverEvent.id).where(HandoverEvent.cause == said.cause)).first():
        return Decided(row, False)
    status, rules = Status(row.status), rules_of(session)
    if is_repeated(status, said.move):
        return Decided(row, False)
    moves = way(status, said.move) if said.skipping else (said.move,)
    at = status
    for move in moves:
        at = after(at, move, skipping=said.skipping)
    if said.version is not None and said.version != row.version:
        raise Outdated(row)
    _check(said, row, rules)
    for move in moves:
        _move(session, row, lead, move, said, rules, now, business_time(rules, zone, calendar), last=move is moves[-1])
    return Decided(row, True)


def _check(said: Decision, row: Handover, rules: SalesRules) -> None:
    """What a move needs beside itself."""
    if said.move in WITH_REASON:
        known = ", ".join(one.code for one in rules.reasons_for(said.move))
        if said.reason is None:
            raise BadInput(f"'{said.move}' needs a reason: one of {known}")
        if not said.skipping:
            rules.reason(said.reason, said.move)
    if said.move is Move.PASS:
        if said.to is None:
            raise BadInput(f"'pass' needs a person to pass it on to: one of {', '.join(one.id for one in rules.people)}")
        if rules.person(said.to).id == row.owner:
            raise BadInput(f"the hand-over is {said.to}'s already")
    if said.amount is not None and said.amount < 0:
        raise BadInput("an amount is 0 or more")


def _move(
    session: Session, row: Handover, lead: Lead, move: Move, said: Decision, rules: SalesRules, now: datetime, time: BusinessTime,
    *, last: bool,
) -> None:  # fmt: skip
    """One move with all that follows from it."""
    before = Status(row.status)
    to = after(before, move, skipping=said.skipping)
    row.status, row.version = to, row.version + 1
    reason = said.reason if move in WITH_REASON else None
    if last:
        row.reason, row.note = reason or row.reason, said.note or row.note
        row.amount = said.amount if said.amount is not None else row.amount
    if move is Move.PASS and said.to is not None:
        row.owner, row.owner_since = said.to, row.version
        _keep_owner(session, lead, said.to)
    row.accepted_at = now if move is Move.ACCEPT else row.accepted_at
    row.judged_at = now if before in NOT_JUDGED and to not in NOT_JUDGED else row.judged_at
    row.closed_at = now if to in CLOSED else None
    if move is Move.PASS or clock_of(before, rules) is not clock_of(to, rules):
        _wind(row, rules, time, None, now)
    properties = {
        "handover": row.id, "owner": row.owner, "by": said.by, "reason": reason,
        "amount": row.amount if move in (Move.OPPORTUNITY, Move.WON) else None,
        "currency": rules.currency if move is Move.WON and row.amount is not None else None,
        "clock": ("response" if before is Status.OPEN else "judgement") if move is Move.EXPIRE else None,
    }  # fmt: skip
    said_of_it = {key: value for key, value in properties.items() if value is not None}
    if to in BACK:
        lead.nurtured_since = now
        lead.rests_until = moment_after(rules.rest_of(reason), now, time.zone, time.calendar)
    elif move is Move.ACCEPT:
        lead.nurtured_since = lead.rests_until = None
    becomes = lead.qualification if move is Move.PASS else QUALIFICATION[to]
    if becomes == "none" and row.was not in (*NOT_QUALIFIED, *BY_RULES):
        becomes = row.was  # a customer whom sales hands back is a customer still
    if becomes == "lost" and row.was == "won":
        becomes = row.was  # and so is one whose new deal is lost
    seq = _happened(session, lead, f"handover:{row.id}:{row.version}:{move}", EVENT[move], said_of_it, becomes, now)
    note, amount, cause = (said.note, said.amount, said.cause) if last else ("", None, None)
    _note(session, row, move, said.by, said.how, seq, now, reason=reason, note=note, amount=amount, cause=cause)
    if move is Move.PASS:
        tell_owner(session, row, "passed", rules, now)
    if to in CLOSED:
        drop_tellings(session, row, now)
    tell_others(session, row, move, now)


def _happened(
    session: Session, lead: Lead, message_id: str, name: str, properties: dict[str, Any], qualification: str, now: datetime
) -> int:
    """The event of what happened, and what the lead is by it; the event's place in the lead's order."""
    log = EventLog(now)
    log.add(lead, message_id, name, properties)
    seq = lead.last_seq
    if lead.tally is None:  # what a lead is when it is first looked at is no news, and this is
        log.write(session)
        log = EventLog(now)
    if lead.qualification != qualification:
        lead.qualification = qualification
        log.touch(lead)
    lead.updated_at = now
    log.write(session)
    return seq


# The clocks ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tended:
    """What the workflow of a hand-over learns when it looks."""

    over: bool
    """No clock will run any more: sales has judged, or it is closed."""
    until: datetime | None = None
    """When to look again."""
    did: str = ""
    """What the clock has just done."""


def tend(session: Session, handover_id: int, now: datetime, zone: str, calendar: Calendar) -> Tended:
    """Does what the clock says is due, once. Whoever comes early, late or twice does no harm."""
    try:
        row, lead = take(session, handover_id)
    except NotFound:
        return Tended(over=True)
    rules = rules_of(session)
    time = business_time(rules, zone, calendar)
    if lead.erased_at is not None and row.status in UNDER_WAY:
        _move(session, row, lead, Move.WITHDRAW, Decision(Move.WITHDRAW, "clock", "clock"), rules, now, time, last=True)
    did = ""
    if row.due is not None and row.due_at is not None and row.due_at <= now:
        what = Alarm(row.due)
        did = str(what)
        if what is Alarm.EXPIRE:
            _move(session, row, lead, Move.EXPIRE, Decision(Move.EXPIRE, "clock", "clock"), rules, now, time, last=True)
        else:
            _sound(session, row, lead, what, rules, time, now)
    row.told = row.version
    return Tended(over=row.due is None, until=row.due_at, did=did)


def _sound(session: Session, row: Handover, lead: Lead, what: Alarm, rules: SalesRules, time: BusinessTime, now: datetime) -> None:
    """A reminder to the owner, or an escalation to those above."""
    if what is Alarm.REMIND:
        row.reminders += 1
        tell_owner(session, row, "reminder", rules, now, turn=row.reminders)
    else:
        row.escalations += 1
        for person in rules.managers() or (rules.somebody(row.owner),):
            tell_person(session, row, "escalation", person, rules, now, turn=row.escalations)
    _note(session, row, "reminded" if what is Alarm.REMIND else "escalated", "clock", "clock", lead.last_seq, now)
    _wind(row, rules, time, what, now)


def _wind(row: Handover, rules: SalesRules, time: BusinessTime, done: Alarm | None, now: datetime) -> None:
    """Sets what the clock does next, after its last alarm (None: it begins)."""
    due = due_next(Status(row.status), done, now, rules, time)
    row.clock_since = now if done is None else row.clock_since
    row.due_at, row.due = (None, None) if due is None else (due.at, due.what)


# Telling ------------------------------------------------------------------------------------------------------------------

Others = Callable[[Session, Handover, str, datetime], None]
OTHERS: list[Others] = [crm.on_handover]
"""Who else writes a `Telling` when something happens to a hand-over, in whichever program it happens."""


def tell_owner(session: Session, row: Handover, what: str, rules: SalesRules, now: datetime, *, turn: int = 1) -> None:
    """Tells the owner, and the team's channel."""
    tell_person(session, row, what, rules.somebody(row.owner), rules, now, turn=turn)
    if rules.slack is not None and what in ("opened", "passed"):
        _tell(session, row, "slack", "team", what, now, turn)


def tell_person(
    session: Session, row: Handover, what: str, person: Person, rules: SalesRules, now: datetime, *, turn: int = 1
) -> None:
    """By mail, and by webhook where the person has one."""
    _tell(session, row, "mail", person.id, what, now, turn)
    if person.slack is not None:
        _tell(session, row, "slack", person.id, what, now, turn)


def tell_others(session: Session, row: Handover, what: str, now: datetime) -> None:
    for other in OTHERS:
        other(session, row, what, now)


def drop_tellings(session: Session, row: Handover, now: datetime) -> None:
    """What nobody needs to be told any more: a hand-over that is closed asks nobody to take it."""
    waiting = select(Telling).where(
        Telling.handover_id == row.id, Telling.status == "waiting", col(Telling.channel).in_(("mail", "slack"))
    )
    for one in session.exec(waiting):
        one.status, one.reason = "dropped", "closed"


def _tell(session: Session, row: Handover, channel: str, target: str, what: str, now: datetime, turn: int) -> None:
    session.add(
        Telling(
            key=f"handover-{row.id}-{what}-{row.version}-{turn}-{channel}-{target}", channel=channel, target=target,
            lane=f"{channel}:{target}:{row.id}", what=what, lead_id=row.lead_id, handover_id=row.id, version=row.version, created_at=now,
        )
    )  # fmt: skip


def _note(
    session: Session, row: Handover, move: str, by: str, how: str, seq: int, now: datetime, *, reason: str | None = None, note: str = "",
    amount: int | None = None, cause: str | None = None,
) -> None:  # fmt: skip
    """A line of its history."""
    assert row.id is not None
    session.add(
        HandoverEvent(
            handover_id=row.id, move=move, status=row.status, version=row.version, by=by, how=how, reason=reason, note=note,
            amount=amount, owner=row.owner, cause=cause, seq=seq, at=now,
        )
    )  # fmt: skip
    session.flush()


def history_of(session: Session, handover_ids: Iterable[int]) -> list[HandoverEvent]:
    """All that happened to these, in order."""
    query = select(HandoverEvent).where(col(HandoverEvent.handover_id).in_(list(handover_ids)))
    return list(session.exec(query.order_by(col(HandoverEvent.id))).all())
