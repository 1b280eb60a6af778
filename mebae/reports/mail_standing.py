"""What the gate sees of a lead at this moment: may it be written to, on what ground, how often and when."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlmodel import Session, col, select

from mebae.gating import Answer, GateFacts, GateRules, decide
from mebae.journey import Postponed
from mebae.mailing import BASES, Cap, MailRules
from mebae.reports.explaining import moment_words
from mebae.reports.mail_words import OF_AN_ERASED, cap_words, hours_words, topic_words, words_of
from mebae.reports.mails_told import CapTold, Ground, MailStanding, TopicTold
from mebae.store.consents import consents_of
from mebae.store.gate_facts import gather
from mebae.store.suppressions import find
from mebae.store.tables import Delivery, Lead, TopicChoice
from mebae.timing import Calendar, first_zone
from mebae.words import DeliveryKind


class Rules(NamedTuple):
    """What a report needs to know of the workspace."""

    mail: MailRules
    zone: str
    calendar: Calendar


def mail_standing(session: Session, lead: Lead, rules: Rules, now: datetime) -> MailStanding:
    """The report on a lead, not locked. What the settings lack for the footer is the worker's to say."""
    assert lead.id is not None
    facts = facts_of(session, lead, rules, now)
    answer = decide(facts, GateRules(rules.mail, rules.calendar), now)
    until = answer.until if isinstance(answer, Postponed) else None
    entry = find(session, lead.email) if lead.email else None
    # A consent is asked for first; of an erased address it would help nothing.
    erased = entry is not None and entry.reason == "erased"
    said = OF_AN_ERASED if erased and answer is not None else words_of(answer.why if answer is not None else None)
    return MailStanding(
        may=answer is None,
        words=_answer(answer, said.said, facts, rules.mail, now),
        cure=said.cure,
        until=until,
        grounds=[
            Ground(
                basis=one.basis, title=BASES.get(one.basis, one.basis), given_at=one.given_at, how=one.how, source=one.source,
                wording=one.wording, withdrawn_at=one.withdrawn_at, accepted=one.basis in rules.mail.bases,
            )
            for one in consents_of(session, lead.id)
        ],
        opted_out_at=lead.opted_out_at,
        suppressed=entry.reason if entry is not None else None,
        suppressed_at=entry.at if entry is not None else None,
        topics=_topics(session, lead, rules, now, silent=facts.opted_out or facts.suppressed is not None),
        caps=[_cap(cap, facts.counted, now) for cap in rules.mail.caps],
        hours=hours_words(rules.mail.hours),
        zone=facts.zone,
    )  # fmt: skip


def facts_of(session: Session, lead: Lead, rules: Rules, now: datetime, *, topic: str = "") -> GateFacts:
    """The facts of a mail of this topic that does not exist."""
    assert lead.id is not None
    mail = Delivery(lead_id=lead.id, kind=DeliveryKind.MARKETING, mail="", message_id="", status="", topic=topic)
    with session.no_autoflush:
        [facts] = gather(session, [(lead, mail)], rules.mail, rules.zone, now)
    return facts


def zone_of(lead: Lead, workspace: str) -> str:
    """In which a lead's times are told."""
    return first_zone(lead.time_zone, workspace)


def _answer(answer: Answer, said: str, facts: GateFacts, rules: MailRules, now: datetime) -> str:
    if answer is None:
        grounds = ", ".join(f"{basis} ({BASES[basis]})" for basis in facts.bases if basis in BASES)
        return f"yes: {grounds}" if grounds else "yes"
    if not isinstance(answer, Postponed):
        return f"no: {said}"
    if answer.why in ("quiet-hours", "no-business-day"):
        said = f"it is {moment_words(now, facts.zone)} in {facts.zone}, and mail goes out {hours_words(rules.hours)}"
    return f"not now: {said}; from {moment_words(answer.until, facts.zone)} on"


def _topics(session: Session, lead: Lead, rules: Rules, now: datetime, *, silent: bool) -> list[TopicTold]:
    """Every topic of the rules, and what the lead said of others that were once there. `silent`: it gets no marketing mail at all."""
    choices = {one.topic: one for one in session.exec(select(TopicChoice).where(col(TopicChoice.lead_id) == lead.id))}
    found = []
    for topic in dict.fromkeys([*(topic.id for topic in rules.mail.topics), *sorted(choices)]):
        choice, rule = choices.get(topic), rules.mail.topic(topic)
        differs = topic_words(rule)
        found.append(
            TopicTold(
                topic=topic,
                title=rule.title(lead.language) if rule is not None else "",
                wanted=choice.wanted if choice is not None else None,
                said_at=choice.at if choice is not None else None,
                heeded=not silent and not rules.mail.is_transactional(topic),
                differs=differs,
                now=_now(session, lead, rules, now, topic) if differs else "",
            )
        )
    return found


def _now(session: Session, lead: Lead, rules: Rules, now: datetime, topic: str) -> str:
    """The gate's answer to a mail of this topic."""
    facts = facts_of(session, lead, rules, now, topic=topic)
    answer = decide(facts, GateRules(rules.mail, rules.calendar), now)
    if answer is None and rules.mail.is_transactional(topic):
        return "yes"
    return _answer(answer, words_of(answer.why if answer is not None else None).said, facts, rules.mail, now)


def _cap(cap: Cap, counted: tuple[datetime, ...], now: datetime) -> CapTold:
    within = sorted(at for at in counted if at > now - cap.span)
    frees = within[-cap.count] + cap.span if len(within) >= cap.count else None
    return CapTold(words=cap_words(cap), count=cap.count, used=len(within), frees_at=frees)
