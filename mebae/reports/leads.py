"""Leads as a list: the best by score, or those that a scoring model keeps out, with the reasons."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement
from sqlmodel import Session, col, func, select

from mebae.errors import BadInput, did_you_mean
from mebae.reports.finding import called
from mebae.reports.lead import score_now
from mebae.store.scoring import stages_of
from mebae.store.segments import belongs, saved_segments
from mebae.store.tables import Lead
from mebae.words import QUALIFICATIONS

_MORE = 50
"""Leads that are looked at beyond the limit: a row's score may be a day old, so that the order may be another by now."""


class LeadLine(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: int
    called: str
    name: str | None
    company: str | None
    title: str | None
    rank: str | None
    score: int
    """At this moment."""
    stage: str
    qualification: str
    active_at: datetime | None
    excluded: list[str]


class LeadList(BaseModel):
    model_config = ConfigDict(frozen=True)

    now: datetime
    in_all: int
    """How many there are, shown or not."""
    excluded: dict[str, int]
    """How many each exclusion keeps out, if that was asked."""
    leads: list[LeadLine]


def lead_list(
    session: Session,
    now: datetime,
    *,
    limit: int = 20,
    stage: str | None = None,
    qualification: str | None = None,
    segment: str | None = None,
    excluded: bool = False,
) -> LeadList:
    """The leads with the most points, of those that are asked for. `BadInput` for a word that means nothing."""
    where = _where(session, now, stage, qualification, segment, excluded)
    in_all = session.exec(select(func.count(col(Lead.id))).where(*where)).one()
    query = select(Lead).where(*where).order_by(col(Lead.score).desc(), col(Lead.id)).limit(limit + _MORE)
    lines = [_line(session, lead, now) for lead in session.exec(query)]
    lines.sort(key=lambda line: (-line.score, line.id))
    return LeadList(now=now, in_all=in_all, excluded=_exclusions(session, where) if excluded else {}, leads=lines[:limit])


def _where(
    session: Session, now: datetime, stage: str | None, qualification: str | None, segment: str | None, excluded: bool
) -> list[ColumnElement[bool]]:
    where: list[Any] = [col(Lead.erased_at).is_(None)]
    if stage is not None:
        _check("stage", stage, stages_of(session))
        where.append(Lead.stage == stage)
    if qualification is not None:
        _check("qualification", qualification, QUALIFICATIONS)
        where.append(Lead.qualification == qualification)
    if segment is not None:
        saved = {one.id: one for one in saved_segments(session)}
        _check("segment", segment, saved)
        where.append(belongs(session, saved[segment], now))
    if excluded:
        where.append(col(Lead.excluded) != [])
    return where


def _check(what: str, word: str, known: Any) -> None:
    if word not in known:
        raise BadInput(f"no such {what} '{word}'{did_you_mean(word, known)}")


def _exclusions(session: Session, where: list[ColumnElement[bool]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    query = select(Lead.excluded, func.count(col(Lead.id))).where(*where).group_by(col(Lead.excluded))
    for rules, count in session.exec(query):
        found.update(dict.fromkeys(rules, count))
    return dict(found.most_common())


def _line(session: Session, lead: Lead, now: datetime) -> LeadLine:
    assert lead.id is not None
    return LeadLine(
        id=lead.id, called=called(lead), name=lead.name, company=lead.company, title=lead.title, rank=lead.rank,
        score=score_now(session, lead, now), stage=lead.stage, qualification=lead.qualification, active_at=lead.active_at,
        excluded=list(lead.excluded),
    )  # fmt: skip
