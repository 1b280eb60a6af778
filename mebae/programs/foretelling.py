"""What the next sweep would start: for `mebae check`, which says so where there is a database that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import ColumnElement, exists, or_, true
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, func, select

from mebae import wiring
from mebae.conditions import matches
from mebae.entering import JOINED, OPEN
from mebae.errors import BadInput, MebaeError
from mebae.graph import Graph
from mebae.loading import Loaded
from mebae.segments import Saved
from mebae.settings import Settings
from mebae.store import segments
from mebae.store.conditions_sql import to_sql
from mebae.store.database import Database
from mebae.store.migrate import is_current
from mebae.store.places import places_taken_today
from mebae.store.scoring import stages_of
from mebae.store.tables import JourneyRow, Lead
from mebae.words import JourneyStatus

T = TypeVar("T")

MANY = 200
"""Starts on one morning that are worth a word about `starts_at_most`."""
PATIENCE = 2
"""Seconds for a PostgreSQL to answer."""


def entering_next(loaded: Iterable[Loaded], saved: Sequence[Saved], settings: Settings, root: Path) -> list[str]:
    """A line for each scenario that a sweep starts; nothing where there is no database with today's tables."""
    started = [
        (one.graph, named) for one in loaded if (named := [segment for segment in saved if _starts(one.graph, segment)])
    ]
    if not started:
        return []

    def ask(database: Database) -> list[str]:
        now = wiring.world_now(settings)
        return [database.read_now(_line, *one, now, settings.time_zone) for one in started]

    return asked(settings, root, ask) or []


def asked(settings: Settings, root: Path, ask: Callable[[Database], T]) -> T | None:
    """What the database says; None where there is none with today's tables that answers: a check is about the files."""
    url = settings.database_url or f"sqlite:///{root / settings.state / 'mebae.db'}"
    if url.startswith("postgres"):
        url += f"{'&' if '?' in url else '?'}connect_timeout={PATIENCE}"
    try:
        if not is_current(url):
            return None
        database = Database(url, threads=1)
        try:
            return ask(database)
        finally:
            database.close()
    except (MebaeError, SQLAlchemyError, OSError):
        return None


def _starts(graph: Graph, segment: Saved) -> bool:
    return any(matches(pattern, JOINED.name, {"segment": segment.id}) for pattern in graph.enters_on)


def _line(session: Session, graph: Graph, named: Sequence[Saved], now: datetime, zone: str) -> str:
    many = session.exec(select(func.count(col(Lead.id))).where(_enters(session, graph, named, now))).one()
    leads = "1 lead" if many == 1 else f"{many:,} leads"
    said = f"{graph.scenario}: {leads} would enter at the next sweep of {', '.join(one.id for one in named)}"
    if graph.starts_at_most is None:
        return said + (f"; starts_at_most=per_day({MANY}) would spread them over days" if many > MANY else "")
    left = max(0, graph.starts_at_most.count - places_taken_today(session, graph.scenario, now, zone))
    if many <= left:
        return f"{said}, today"
    return f"{said}: {left:,} today, the rest on the days after, {graph.starts_at_most.count:,} a day"


def _enters(session: Session, graph: Graph, named: Sequence[Saved], now: datetime) -> ColumnElement[bool]:
    """Who would join, is in the audience, and has not entered before."""
    joins = or_(*(segments.would_join(session, one, now) for one in named))
    try:
        audience = true() if graph.audience is None else to_sql(graph.audience, now, stages=stages_of(session))
    except BadInput:  # it asks for the entry, which there is not yet
        audience = true()
    earlier = exists().where(
        col(JourneyRow.lead_id) == col(Lead.id),
        col(JourneyRow.scenario) == graph.scenario,
        col(JourneyRow.status) != JourneyStatus.REFUSED
        if graph.re_enter == "never"
        else col(JourneyRow.status).in_(OPEN),
    )
    return joins & audience & ~earlier.correlate(Lead)
