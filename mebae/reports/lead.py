"""Everything of one lead at one moment, from one read transaction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

from sqlmodel import Session, col, func, select

from mebae import contracts
from mebae.conditions import Compare, Condition, parts_of
from mebae.errors import NotFound
from mebae.mailing import MailRules
from mebae.programs.wording import happened_words, span_words
from mebae.reports.explaining import explain
from mebae.reports.finding import called
from mebae.reports.lead_told import (
    Colleague,
    Counted,
    EventTold,
    Firm,
    JourneyTold,
    LeadReport,
    LedgerLine,
    MailTold,
    Membership,
    Move,
    Person,
    Ripeness,
    Rule,
    ScoreTold,
    Stage,
    Threshold,
    WithSales,
)
from mebae.reports.mail_standing import Rules, mail_standing
from mebae.scoring import Reason, Tally, facts_at
from mebae.scoring_decay import crossing, next_change
from mebae.scoring_model import LIMIT, Engagement
from mebae.starting import REASONS
from mebae.store.companies import colleagues
from mebae.store.graphs import graph_of
from mebae.store.scoring import BY_RULES, QUALIFIED, STAGE_REACHED, stored_events
from mebae.store.standing import Standing, standing
from mebae.store.tables import (
    Company,
    Delivery,
    Event,
    Handover,
    JourneyRow,
    Lead,
    PublishedScoring,
    ScoreChange,
    SegmentMember,
    SegmentRow,
    Visitor,
)
from mebae.timing import Calendar, check_zone
from mebae.words import JourneyStatus

JOURNEYS, MAILS, COLLEAGUES = 50, 50, 20
"""How many of each are shown, the newest first."""
LEDGER = 1000
_NEXT = {"none": BY_RULES[0], "lost": BY_RULES[0], "mql": "sql", "accepted": "sql"}
"""What a lead may become next, by the model's rules."""


def report(
    session: Session, lead: Lead, now: datetime, *, events: int = 20, ledger: bool = False, rules: Rules | None = None, zone: str = "UTC"
) -> LeadReport:
    """The report on a lead, not locked.

    `events`: how many of the latest; `rules`: what mail to it is held to; `zone`: of the times that stand within words.
    """
    assert lead.id is not None
    held = standing(session, lead, now)
    stage, title = lead.stage, ""
    by_rules = None
    if held is not None:
        title = held.scoring.model.stage_titled(stage)
        by_rules = held.score.stage if held.score.stage != stage else None
    return LeadReport(
        now=now,
        person=_person(session, lead, held),
        firm=_firm(session, lead, now),
        stage=Stage(stage=stage, title=title, by_rules=by_rules),
        qualification=lead.qualification,
        score=None if held is None else _score(session, lead, held, now),
        row_score=lead.score,
        moves=_moves(session, lead.id),
        ripeness=None if held is None else ripeness(session, lead, held, now, zone),
        with_sales=_with_sales(session, lead),
        excluded=list(lead.excluded if held is None else held.score.excluded),
        mail=mail_standing(session, lead, rules or Rules(MailRules(), "UTC", Calendar()), now),
        segments=_segments(session, lead.id),
        journeys=_journeys(session, lead.id),
        mails=_mails(session, lead.id),
        events=_events(session, lead.id, events),
        events_in_all=lead.last_seq,
        ledger=_ledger(session, lead.id) if ledger else None,
    )


def ripeness(session: Session, lead: Lead, held: Standing, now: datetime, zone: str = "UTC") -> Ripeness | None:
    """How near the next qualification is, by the model's rule; None if no rule leads further.

    Of a lead that came back from sales only what it did since then counts.
    """
    to = _NEXT.get(lead.qualification)
    rule = next((one for one in held.scoring.model.qualifications if one.to == to), None)
    if rule is None or to is None:
        return None
    back = lead.nurtured_since if to in BY_RULES else None
    facts = held.facts(lead, now)
    if back is not None:
        assert lead.id is not None
        since = (event for _, event in stored_events(session, [lead.id]) if event.occurred_at > back)
        facts = facts_at(held.scoring.model, Tally.of(held.scoring.model, since), held.profile, now)
    told = explain(rule.when, facts, zone)
    missing = told.missing
    if back is not None:
        missing = _after_sales(lead, back, missing, now, zone)
    if held.score.excluded:
        barred = f"excluded as {', '.join(held.score.excluded)}: such a lead is never qualified"
        missing = f"{missing}; {barred}" if missing else barred
    return Ripeness(to=to, holds=told.value, missing=missing, of=told)


def _with_sales(session: Session, lead: Lead) -> WithSales | None:
    query = select(Handover).where(Handover.lead_id == lead.id).order_by(col(Handover.id).desc())
    row = session.exec(query).first()
    return None if row is None else WithSales(**{name: getattr(row, name) for name in WithSales.model_fields})


def _after_sales(lead: Lead, back: datetime, missing: str, now: datetime, zone: str) -> str:
    """What is missing of a lead that has been with sales."""
    day = f"{back.astimezone(check_zone(zone)):%Y-%m-%d}"
    said = f"counting what it did since it came back from sales on {day}: {missing}" if missing else ""
    if lead.rests_until is not None and now < lead.rests_until:
        rest = f"it rests until {lead.rests_until.astimezone(check_zone(zone)):%Y-%m-%d}, as sales said why"
        said = f"{rest}; {said}" if said else rest
    return said


def _person(session: Session, lead: Lead, held: Standing | None) -> Person:
    browsers = session.exec(select(func.count()).where(Visitor.lead_id == lead.id)).one()
    values = {name: getattr(lead, name) for name in Person.model_fields if name not in ("browsers", "topics")}
    topics = list(lead.topics) if held is None else list(held.score.topics)
    if held is not None:
        values["rank"], values["industry_group"] = held.profile.lead["rank"], held.profile.lead["industry_group"]
    return Person(**values, topics=topics, browsers=browsers)


def _firm(session: Session, lead: Lead, now: datetime) -> Firm | None:
    if lead.company_id is None:
        return None
    company = session.get_one(Company, lead.company_id)
    theirs = colleagues(session, lead)
    return Firm(
        id=lead.company_id,
        name=company.name,
        domain=company.domain,
        colleagues=[_colleague(session, one, now) for one in theirs[:COLLEAGUES]],
        others=max(0, len(theirs) - COLLEAGUES),
    )


def _colleague(session: Session, lead: Lead, now: datetime) -> Colleague:
    assert lead.id is not None
    return Colleague(
        id=lead.id, called=called(lead), name=lead.name, title=lead.title, rank=lead.rank,
        score=score_now(session, lead, now), stage=lead.stage, qualification=lead.qualification,
    )  # fmt: skip


def score_now(session: Session, lead: Lead, now: datetime) -> int:
    """The score at this moment; the row's where it has not been scored by the active model."""
    held = standing(session, lead, now, recount=False)
    return lead.score if held is None else held.score.whole


# The score ------------------------------------------------------------------------------------------------------------


def _score(session: Session, lead: Lead, held: Standing, now: datetime) -> ScoreTold:
    model, score = held.scoring.model, held.score
    published = session.get_one(PublishedScoring, 1).published
    return ScoreTold(
        total=score.total,
        score=score.whole,
        fit=score.fit,
        engagement=score.engagement,
        rules=_rules(session, lead, held),
        changes_at=next_change(model, held.tally, held.profile, now),
        thresholds=list(_thresholds(lead, held, now)),
        version=held.scoring.version,
        is_recounted=held.is_recounted,
        published=published if published != held.scoring.version else None,
    )


def _rules(session: Session, lead: Lead, held: Standing) -> list[Rule]:
    """Each rule that gives something, in the order of the model."""
    of_rule: dict[str, list[Reason]] = {}
    for reason in held.score.reasons:
        of_rule.setdefault(reason.rule, []).append(reason)
    words = _words_of(session, lead, [one.event for one in held.score.reasons if one.event is not None])
    by_id: dict[str, Engagement] = {rule.id: rule for rule in held.scoring.model.engagement}
    found = []
    for id, reasons in of_rule.items():
        rule = by_id.get(id)
        capped = rule is not None and rule.at_most < LIMIT
        found.append(
            Rule(
                rule=id,
                title=held.scoring.model.titled(id),
                kind="fit" if rule is None else "engagement",
                points=math.fsum(one.points for one in reasons),
                worth=math.fsum(one.worth for one in reasons),
                at_most=rule.at_most if rule is not None and capped else None,
                per=span_words(rule.per) if rule is not None and rule.per is not None else None,
                half_life=span_words(rule.half_life) if rule is not None and rule.half_life is not None else None,
                events=[
                    Counted(
                        words=words.get(one.event, "an event"), at=one.occurred_at, message_id=one.event,
                        points=one.points, worth=one.worth,
                    )
                    for one in sorted(reasons, key=lambda one: (one.occurred_at or lead.created_at), reverse=True)
                    if one.event is not None
                ],
            )
        )  # fmt: skip
    return found


def _words_of(session: Session, lead: Lead, message_ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for at in range(0, len(message_ids), 500):
        query = select(Event.message_id, Event.name, Event.properties).where(
            Event.lead_id == lead.id, col(Event.message_id).in_(message_ids[at : at + 500])
        )
        found |= {id: happened_words(name, properties) for id, name, properties in session.exec(query)}
    return found


def _thresholds(lead: Lead, held: Standing, now: datetime) -> Iterator[Threshold]:
    """The scores that stages and qualifications ask for, the lowest first."""
    model = held.scoring.model
    asked: dict[tuple[int, str], str] = {}
    for stage in model.stages:
        then = "the lead goes back a stage" if stage.falls else "the stage stays"
        for threshold in _asked(stage.when):
            asked[threshold, model.stage_titled(stage.id) or stage.id] = then
    for rule in model.qualifications:
        has = lead.qualification != "none"
        for threshold in _asked(rule.when):
            asked[threshold, rule.to.upper()] = "the qualification stays" if has else "its rule no longer holds"
    for (threshold, of), then in sorted(asked.items()):
        reached = held.score.total >= threshold
        until = crossing(model, held.tally, held.profile, threshold, now) if reached else None
        yield Threshold(score=threshold, of=of, is_reached=reached, until=until, then=then)


def _asked(condition: Condition | None) -> Iterator[int]:
    for part in parts_of(condition) if condition is not None else ():
        match part:
            case Compare(ref="lead.score", op="ge", to=int() | float() as to):
                yield math.ceil(to)
            case Compare(ref="lead.score", op="gt", to=int() | float() as to):
                yield math.floor(to) + 1
            case _:
                pass


# What happened ----------------------------------------------------------------------------------------------------------


def _moves(session: Session, lead_id: int) -> list[Move]:
    """What it became when, as the events say that scenarios start on; the oldest first."""
    query = select(Event).where(Event.lead_id == lead_id, col(Event.name).in_((STAGE_REACHED, QUALIFIED)))
    found = []
    for event in session.exec(query.order_by(col(Event.seq))):
        kind: Literal["stage", "qualification"] = "stage" if event.name == STAGE_REACHED else "qualification"
        said, score = event.properties, event.properties.get("score")
        found.append(
            Move(
                at=event.occurred_at, kind=kind, to=str(said.get(kind, "?")),
                was=str(said["from"]) if said.get("from") else None, score=score if isinstance(score, int) else None,
            )
        )  # fmt: skip
    return found


def _segments(session: Session, lead_id: int) -> list[Membership]:
    query = (
        select(SegmentMember, SegmentRow)
        .outerjoin(SegmentRow, col(SegmentRow.segment) == col(SegmentMember.segment))
        .where(SegmentMember.lead_id == lead_id)
        .order_by(col(SegmentMember.since), SegmentMember.segment)
    )
    rows: Sequence[tuple[SegmentMember, SegmentRow | None]] = session.exec(query).all()
    return [
        Membership(segment=member.segment, title=row.title if row is not None else "", since=member.since)
        for member, row in rows
    ]


def _journeys(session: Session, lead_id: int) -> list[JourneyTold]:
    query = select(JourneyRow).where(JourneyRow.lead_id == lead_id).order_by(col(JourneyRow.entry).desc()).limit(JOURNEYS)
    return [
        JourneyTold(
            entry=row.entry or 0,
            workflow_id=contracts.workflow_id(row.scenario, row.lead_id, row.key),
            scenario=row.scenario,
            title=title_of(session, row.version),
            key=row.key,
            status=row.status,
            paused=row.paused,
            step=row.step,
            waiting_for=row.waiting_for,
            until=row.deadline,
            starts_at=row.starts_at,
            entered_at=row.entered_at,
            ended_at=row.ended_at,
            outcome=row.outcome,
            reason=row.reason,
            reason_words=reason_words(row),
        )
        for row in session.exec(query)
    ]


def title_of(session: Session, version: str) -> str:
    """The scenario's title in this version; empty if it has none, or a newer worker wrote it."""
    try:
        return graph_of(session, version).title
    except (NotFound, ValueError):
        return ""


def reason_words(row: JourneyRow) -> str | None:
    """Why an entry was refused, or a journey ended before its end, in words."""
    if row.reason is None:
        return None
    known = REASONS if row.status == JourneyStatus.REFUSED else _EXITS
    return known.get(row.reason, row.reason)


_EXITS = {
    "exits-when": "the scenario's exits_when became true",
    "erased": "the lead was erased",
    "closed": "the entry was closed already",
}


def _mails(session: Session, lead_id: int) -> list[MailTold]:
    query = select(Delivery).where(Delivery.lead_id == lead_id).order_by(col(Delivery.id).desc()).limit(MAILS)
    return [
        MailTold(
            mail=row.mail, kind=row.kind, scenario=row.scope, step=row.step, status=row.status, reason=row.reason,
            language=row.language, at=row.sent_at or row.data_at or row.claimed_at, next_at=row.next_at,
            opened_at=row.opened_at, clicked_at=row.clicked_at, bounced_at=row.bounced_at,
        )
        for row in session.exec(query)
    ]  # fmt: skip


def _events(session: Session, lead_id: int, most: int) -> list[EventTold]:
    latest_first = (col(Event.occurred_at).desc(), col(Event.seq).desc())
    query = select(Event).where(Event.lead_id == lead_id).order_by(*latest_first).limit(most)
    return [
        EventTold(
            seq=event.seq, name=event.name, words=happened_words(event.name, event.properties),
            properties=event.properties, occurred_at=event.occurred_at, received_at=event.received_at,
            is_routed=event.routed_at is not None, message_id=event.message_id,
        )
        for event in session.exec(query)
    ]  # fmt: skip


def _ledger(session: Session, lead_id: int) -> list[LedgerLine]:
    """Every change of the score with its rule and event, the newest first."""
    query = (
        select(ScoreChange, Event)
        .outerjoin(Event, col(Event.message_id) == col(ScoreChange.message_id))
        .where(ScoreChange.lead_id == lead_id)
        .order_by(col(ScoreChange.id).desc())
        .limit(LEDGER)
    )
    rows: Sequence[tuple[ScoreChange, Event | None]] = session.exec(query).all()
    return [
        LedgerLine(
            at=change.at, rule=change.rule, points=change.points,
            event=happened_words(event.name, event.properties) if event is not None else None,
            message_id=change.message_id, version=change.version,
        )
        for change, event in rows
    ]  # fmt: skip
