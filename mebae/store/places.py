"""`starts_at_most`: which day a journey starts on. Every start of such a scenario takes a place on a day of the workspace.

A place is the row itself: its `starts_at`. A row that is refused when its day has come gives its place back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import Integer, literal, text, union_all
from sqlalchemy import select as columns
from sqlmodel import Session, col, func, select

from mebae.graph import Graph
from mebae.store.tables import JourneyRow, UtcDateTime
from mebae.timing import Calendar, Duration, check_zone, date_moment, moment_after
from mebae.words import JourneyStatus

DAYS_AT_ONCE = 32
"""How many days are looked at in one query."""
FARTHEST = 3650
"""Days after which one stops looking: ten years of full days are a slip."""

_LOCK = 0x6D6562616573
_KNOWN = "mebae.places"


def place_for(session: Session, graph: Graph, now: datetime, zone: str) -> datetime | None:
    """When an entry of now starts: now, or at the same local time on the first later day with a place; None without a limit.

    Holds a lock until the transaction ends, so that any number of entries at once never take more places than there are. It is
    one lock for all scenarios, as two that are taken in different orders would deadlock.
    """
    if graph.starts_at_most is None:
        return None
    most = graph.starts_at_most.count
    days = _days(session, graph.scenario, now, zone)
    for ahead in range(FARTHEST):
        if ahead >= len(days):
            days += _taken(session, graph.scenario, now, zone, ahead)
        if days[ahead] < most:
            break
    days[ahead] += 1
    return _same_time(now, ahead, zone)


def places_taken_today(session: Session, scenario: str, now: datetime, zone: str) -> int:
    """How many places of today are taken."""
    return _count(session, scenario, [(_midnight(now, 0, zone), _midnight(now, 1, zone))])[0]


def _days(session: Session, scenario: str, now: datetime, zone: str) -> list[int]:
    """Today and the days after it, with how many places are taken, as far as this transaction has asked.

    Remembered while the transaction lasts: nobody else can take a place meanwhile, and a sweep enters thousands.
    """
    transaction = session.get_transaction()
    known = session.info.get(_KNOWN)
    if known is None or known[0] is not transaction:
        if session.get_bind().dialect.name == "postgresql":  # on SQLite every writing transaction is alone anyway
            session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        booked: dict[tuple[str, datetime], list[int]] = defaultdict(list)
        known = session.info[_KNOWN] = (transaction, booked)
    days: list[int] = known[1][scenario, _midnight(now, 0, zone)]
    return days


def _taken(session: Session, scenario: str, now: datetime, zone: str, ahead: int) -> list[int]:
    edges = [_midnight(now, ahead + day, zone) for day in range(DAYS_AT_ONCE + 1)]
    return _count(session, scenario, list(pairwise(edges)))


def _count(session: Session, scenario: str, spans: Sequence[tuple[datetime, datetime]]) -> list[int]:
    """How many journeys start in each span: one query, each count by the index."""
    counts = [
        columns(
            literal(number, Integer).label("number"),
            select(func.count())
            .where(
                JourneyRow.scenario == scenario,
                col(JourneyRow.starts_at) >= literal(begin, UtcDateTime),
                col(JourneyRow.starts_at) < literal(end, UtcDateTime),
                JourneyRow.status != JourneyStatus.REFUSED,
            )
            .scalar_subquery()
            .label("taken"),
        )
        for number, (begin, end) in enumerate(spans)
    ]
    found = dict(session.execute(union_all(*counts)).all())
    return [found[number] for number in range(len(spans))]


def _same_time(now: datetime, ahead: int, zone: str) -> datetime:
    return moment_after(Duration(days=ahead), now, zone, Calendar()) if ahead else now


def _midnight(now: datetime, ahead: int, zone: str) -> datetime:
    day = now.astimezone(check_zone(zone)).date() + timedelta(days=ahead)
    moment = date_moment(day.isoformat(), zone)
    assert moment is not None
    return moment
