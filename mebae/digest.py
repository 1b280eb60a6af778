"""The weekly digest: when it is due and to whom, and of which leads it tells.

The rule stands in `scenarios/sales.py`; the job `digest` looks every ten minutes, by a Temporal Schedule. What is due is written once
for each week and person, as a `Telling`, which is then sent, tried again and never sent twice (`mebae.telling`). The mail is made
when it is told, from the leads as they are then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

from sqlalchemy import select as columns
from sqlmodel import Session, col, func, select

from mebae.mail.digest import DigestNote, Given, Warm
from mebae.mail.outgoing import MailSettings
from mebae.periodic import Mark
from mebae.sales import Digest, Person, SalesRules, Weekday
from mebae.segments import Saved
from mebae.store.companies import colleagues
from mebae.store.database import Database
from mebae.store.sales import rules_of
from mebae.store.segments import belongs
from mebae.store.standing import standing
from mebae.store.tables import Company, Handover, Lead, ScenarioVersion, Telling
from mebae.timing import parse_time

DIGEST = "digest"
"""What such a telling is called."""
LATE = timedelta(hours=24)
"""A digest that is later than this is not sent any more: better next week's than an old one."""
WEEK = timedelta(days=7)


def last_due(digest: Digest, now: datetime, zone: str) -> datetime:
    """The last moment at which it was due, now or before.

    >>> from mebae.sales_language import digest, lead
    >>> weekly = digest(every="fri", at="09:00", when=lead.score >= 50)
    >>> last_due(weekly, datetime.fromisoformat("2026-04-10T00:30:00+00:00"), "Asia/Tokyo").isoformat()
    '2026-04-10T09:00:00+09:00'
    >>> last_due(weekly, datetime.fromisoformat("2026-04-09T23:30:00+00:00"), "Asia/Tokyo").isoformat()
    '2026-04-03T09:00:00+09:00'
    """
    local, at = now.astimezone(ZoneInfo(zone)), parse_time(digest.at)
    back = (local.weekday() - get_args(Weekday).index(digest.every)) % 7
    due = datetime.combine(local.date() - timedelta(days=back), at, ZoneInfo(zone))
    return due if due <= now else datetime.combine(due.date() - WEEK, at, ZoneInfo(zone))


def digest_job(zone: str) -> Callable[..., Iterator[Mark]]:
    """The work of the job: writes what is due."""

    def work(database: Database, now: Callable[[], datetime], mark: Mark | None = None, /) -> Iterator[Mark]:
        at = mark or Mark(counts={"written": 0})
        if written := database.write_now(write_due, now(), zone):
            at.counts["written"] += written
            yield at

    return work


def write_due(session: Session, now: datetime, zone: str) -> int:
    """Writes the digest that is due to each person, once; how many were written."""
    rules = rules_of(session)
    if rules.digest is None:
        return 0
    due = last_due(rules.digest, now, zone)
    began = session.exec(select(func.min(ScenarioVersion.published_at))).one()
    if began is not None and due < began:  # nobody waits for what was due before all of this was set up
        return 0
    return 0 if due + LATE < now else write(session, rules, f"{due:%Y-%m-%d}", now)


def write(session: Session, rules: SalesRules, name: str, now: datetime) -> int:
    """Writes the digest of this name to everybody who has something to read in it and was not told of it yet."""
    assert rules.digest is not None
    written = 0
    found = _found(session, rules.digest, now)
    for person in recipients(rules):
        key = f"{DIGEST}-{name}-mail-{person.id}"
        known = session.exec(select(Telling.id).where(Telling.key == key)).first()
        if known is None and any(_is_for(person, owner, rules) for _, owner in found):
            lane = f"mail:{person.id}:{DIGEST}"
            session.add(Telling(key=key, channel="mail", target=person.id, lane=lane, what=DIGEST, created_at=now))
            written += 1
    session.flush()
    return written


def recipients(rules: SalesRules) -> tuple[Person, ...]:
    """Who gets one, in the order of the rules."""
    to = rules.digest.to if rules.digest is not None else ()
    return tuple(one for one in rules.people if not to or one.id in to)


def gather(session: Session, person: Person | None, settings: MailSettings, language: str, now: datetime) -> DigestNote | None:
    """What this person is told now; None: everything, for whoever asks. None where there is no rule any more."""
    rules = rules_of(session)
    if rules.digest is None:
        return None
    mine = [(lead, owner) for lead, owner in _found(session, rules.digest, now) if person is None or _is_for(person, owner, rules)]
    oldest = datetime.min.replace(tzinfo=now.tzinfo)
    mine.sort(key=lambda one: one[0].active_at or oldest, reverse=True)
    # Who gives points for what is reckoned for as many as may be shown, and not for a whole list of ten thousand.
    warm = [(_warm(session, lead, language, now), owner) for lead, owner in mine[: 4 * rules.digest.most]]
    warm.sort(key=lambda one: (one[0].newest or oldest, one[0].total), reverse=True)
    new = sum(one.newest is not None and one.newest > now - WEEK for one, _ in warm)
    shown = warm[: rules.digest.most]
    groups = [
        (_name(owner, rules), tuple(one for one, whose in shown if whose == owner))
        for owner in dict.fromkeys([*((person.id,) if person is not None else ()), *(one.id for one in rules.people), None])
    ]
    gone = {owner for _, owner in shown} - {one.id for one in rules.people} - {None}
    groups += [(owner, tuple(one for one, whose in shown if whose == owner)) for owner in sorted(one for one in gone if one)]
    return DigestNote(
        groups=tuple(one for one in groups if one[1]), sender=settings.sender, now=now, new=new, left=len(mine) - len(shown),
        grouped=len(rules.people) > 1, language=language, time_zone=settings.zone,
    )  # fmt: skip


def _is_for(person: Person, owner: str | None, rules: SalesRules) -> bool:
    if rules.digest is not None and rules.digest.to:
        return True
    return person.role == "manager" or owner is None or owner == person.id


def _name(owner: str | None, rules: SalesRules) -> str:
    return "" if owner is None else rules.somebody(owner).name or owner


def _found(session: Session, digest: Digest, now: datetime) -> list[tuple[Lead, str | None]]:
    """Whom the rule names, each with its owner. Who is kept out of scoring is not told of, nor who was erased."""
    where = belongs(session, Saved(DIGEST, "", digest.when), now)
    leads = [one for one in session.exec(select(Lead).where(where).order_by(col(Lead.id))) if not one.excluded]
    firms = {one.company_id for one in leads if one.company_id is not None}
    owners = dict(session.exec(select(Company.id, Company.owner).where(col(Company.id).in_(firms))).all())
    latest = columns(func.max(Handover.id)).where(col(Handover.lead_id).in_([one.id for one in leads])).group_by(col(Handover.lead_id))
    had = dict(session.exec(select(Handover.lead_id, Handover.owner).where(col(Handover.id).in_(latest))).all())
    return [(one, owners.get(one.company_id) if one.company_id is not None else had.get(one.id or 0)) for one in leads]


def _warm(session: Session, lead: Lead, language: str, now: datetime) -> Warm:
    held = standing(session, lead, now)
    given: list[Given] = []
    if held is not None:
        points: dict[str, tuple[float, datetime | None]] = {}
        for one in held.score.reasons:
            before, since = points.get(one.rule, (0.0, None))
            latest = max((at for at in (since, one.occurred_at) if at is not None), default=None)
            points[one.rule] = (before + one.points, latest)
        model = held.scoring.model
        given = [Given(model.titled(rule, language), worth, since) for rule, (worth, since) in points.items() if round(worth, 1)]
        oldest = datetime.min.replace(tzinfo=now.tzinfo)
        given.sort(key=lambda one: (one.since or oldest, one.points), reverse=True)
    under_way = session.exec(
        select(Handover.status).where(Handover.lead_id == lead.id, col(Handover.closed_at).is_(None)).order_by(col(Handover.id).desc())
    ).first()
    others = tuple(f"{one.name or '?'} {one.score}" for one in sorted(colleagues(session, lead), key=lambda one: -one.score))
    stage = "" if held is None else held.scoring.model.stage_titled(lead.stage, language)
    score = held.score if held is not None else None
    assert lead.id is not None
    return Warm(
        id=lead.id, name=lead.name or "", company=lead.company or "", title=lead.title or "",
        total=score.whole if score is not None else lead.score, fit=score.fit if score is not None else 0.0,
        engagement=score.engagement if score is not None else 0.0, stage=stage or lead.stage,
        qualification=lead.qualification, given=tuple(given), colleagues=others, handover=under_way or "",
    )  # fmt: skip
