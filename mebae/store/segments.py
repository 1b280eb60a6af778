"""Segments where the leads are: published, counted, listed, and who is a member as of the last sweep.

Finding is one thing, writing another: who may have become a member is read without any lock, for that looks at every lead;
what is written is asked again under the locks of the few that were found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from sqlalchemy import ColumnElement, and_, delete, exists, insert, not_
from sqlalchemy import select as columns
from sqlmodel import Session, col, func, select

from mebae.errors import NotFound
from mebae.events import BY_VERB
from mebae.segments import Saved
from mebae.store.conditions_sql import to_sql
from mebae.store.ingest import EventLog, stored_before
from mebae.store.scoring import stages_of
from mebae.store.tables import Lead, SegmentMember, SegmentRow

log = structlog.get_logger()

JOINED = BY_VERB["joined"].name
READ_AT_ONCE = 1000


def publish_segments(session: Session, segments: Sequence[Saved]) -> None:
    """What the files say is what the next sweep looks for. The same again changes nothing; one that is gone is kept, unswept."""
    known = {row.segment: row for row in session.exec(select(SegmentRow).order_by(SegmentRow.segment))}
    for one in segments:
        row, condition = known.get(one.id), one.dump()
        if row is None:
            session.add(SegmentRow(segment=one.id, title=one.title, condition=condition))
            log.info("segment.published", segment=one.id)
        elif (row.title, row.condition, row.active) != (one.title, condition, True):
            row.title, row.condition, row.active = one.title, condition, True
            log.info("segment.published", segment=one.id)
    present = {one.id for one in segments}
    for id, row in known.items():
        if row.active and id not in present:
            row.active = False
            log.info("segment.gone", segment=id, effect="nobody joins it any more")
    session.flush()


def saved_segments(session: Session) -> list[Saved]:
    """What is swept, by id. One that a newer worker published, with words that are not known here, is left out."""
    rows = session.exec(select(SegmentRow).where(col(SegmentRow.active)).order_by(SegmentRow.segment)).all()
    return [saved for row in rows if (saved := _load(row)) is not None]


def find_segment(session: Session, id: str) -> Saved | None:
    """The segment as it was published last, also if its file is gone; None if there never was one, or it cannot be read here."""
    row = session.get(SegmentRow, id)
    return None if row is None else _load(row)


def segment_to_sweep(session: Session, id: str) -> Saved:
    """The published segment of this id; `NotFound` with the nearest names."""
    saved = saved_segments(session)
    for one in saved:
        if one.id == id:
            return one
    raise NotFound("segment", id, [one.id for one in saved])


def _load(row: SegmentRow) -> Saved | None:
    try:
        return Saved.load(row.segment, row.title, row.condition)
    except ValueError as error:
        log.error("segment.unreadable", segment=row.segment, kind=type(error).__name__, cure="upgrade this worker")
        return None


# Asking -----------------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A lead of a segment, for a list."""

    id: int
    email: str | None
    name: str | None
    company: str | None
    score: int
    stage: str
    since: datetime | None
    """When a sweep found that it had become a member; None if none has yet."""


class Size(NamedTuple):
    """How many leads."""

    now: int
    swept: int
    """Of these, how many the last sweep knew of."""
    scored_at: datetime | None
    """The oldest moment that a score of these leads is of; None if none of them has been scored."""


def belongs(session: Session, saved: Saved, now: datetime) -> ColumnElement[bool]:
    """The `WHERE` over the leads table. Erased leads belong nowhere."""
    return and_(col(Lead.erased_at).is_(None), to_sql(saved.condition, now, stages=stages_of(session)))


def _is_member(id: str) -> ColumnElement[bool]:
    return exists().where(col(SegmentMember.segment) == id, col(SegmentMember.lead_id) == col(Lead.id)).correlate(Lead)


def size_of(session: Session, saved: Saved, now: datetime) -> Size:
    """Counts in the database, without reading a lead."""
    query = columns(
        func.count(), func.count(col(SegmentMember.lead_id)), func.min(Lead.scored_at)
    ).select_from(Lead).outerjoin(SegmentMember, _membership(saved.id))  # fmt: skip
    now_in, swept, scored_at = session.execute(query.where(belongs(session, saved, now))).one()
    return Size(now_in, swept, scored_at)


def members(
    session: Session, saved: Saved, now: datetime, *, limit: int | None = None, after: int = 0
) -> Iterator[Row]:
    """The leads that are in the segment now, by id; a page at a time, so that a million needs no more memory than a hundred."""
    left = limit
    while left is None or left > 0:
        page = _page(session, saved, now, after, READ_AT_ONCE if left is None else min(left, READ_AT_ONCE))
        yield from page
        if not page:
            return
        after, left = page[-1].id, None if left is None else left - len(page)


def _page(session: Session, saved: Saved, now: datetime, after: int, most: int) -> list[Row]:
    query = _rows(saved).where(col(Lead.id) > after, belongs(session, saved, now)).limit(most)
    return [Row(*row) for row in session.execute(query)]


def first_joiners(session: Session, saved: Saved, now: datetime, most: int) -> list[Row]:
    """The first of those who would join, for a list."""
    ids = joiners(session, saved, now, after=0, most=most)
    return [Row(*row) for row in session.execute(_rows(saved).where(_among(ids)))]


def _rows(saved: Saved) -> Any:
    return (
        columns(
            col(Lead.id), col(Lead.email), col(Lead.name), col(Lead.company), col(Lead.score), col(Lead.stage),
            col(SegmentMember.since),
        )
        .outerjoin(SegmentMember, _membership(saved.id))
        .order_by(col(Lead.id))
    )  # fmt: skip


def _membership(id: str) -> ColumnElement[bool]:
    return and_(col(SegmentMember.lead_id) == col(Lead.id), col(SegmentMember.segment) == id)


# Sweeping ---------------------------------------------------------------------------------------------------------------


def would_join(session: Session, saved: Saved, now: datetime) -> ColumnElement[bool]:
    """The `WHERE` over the leads table: belongs, and is no member yet."""
    return and_(belongs(session, saved, now), not_(_is_member(saved.id)))


def joiners(session: Session, saved: Saved, now: datetime, *, after: int, most: int) -> list[int]:
    """Leads that belong to the segment and are no members yet, by id, those after one id."""
    query = select(Lead.id).where(col(Lead.id) > after, would_join(session, saved, now))
    return [id for id in session.exec(query.order_by(col(Lead.id)).limit(most)) if id is not None]


def leavers(session: Session, saved: Saved, now: datetime, *, after: int, most: int) -> list[int]:
    """Members that belong to the segment no more."""
    query = (
        select(Lead.id)
        .join(SegmentMember, _membership(saved.id))
        .where(col(SegmentMember.lead_id) > after, not_(belongs(session, saved, now)))
    )
    return [id for id in session.exec(query.order_by(col(SegmentMember.lead_id)).limit(most)) if id is not None]


def count_joiners(session: Session, saved: Saved, now: datetime) -> int:
    query = select(func.count(col(Lead.id))).where(would_join(session, saved, now))
    return session.exec(query).one()


def count_leavers(session: Session, saved: Saved, now: datetime) -> int:
    query = select(func.count(col(Lead.id))).join(SegmentMember, _membership(saved.id))
    return session.exec(query.where(not_(belongs(session, saved, now)))).one()


def join(session: Session, saved: Saved, ids: Sequence[int], now: datetime) -> int:
    """Makes these leads members and tells of it: row and event in one transaction. How many were still to be.

    Two sweeps at once, or a sweep that is repeated: under the lock each sees what the other has done.
    """
    leads = _lock(session, ids)
    really = set(session.exec(select(Lead.id).where(_among(ids), would_join(session, saved, now))))
    messages = {lead.id: f"segment-joined:{saved.id}:{lead.id}:{int(now.timestamp())}" for lead in leads}
    told = stored_before(session, list(messages.values()))
    events, rows = EventLog(now), []
    for lead in leads:
        if lead.id in really:
            rows.append({"segment": saved.id, "lead_id": lead.id, "since": now})
            if messages[lead.id] not in told:  # it left and came back within one second
                events.add(lead, messages[lead.id], JOINED, {"segment": saved.id})
    if rows:
        session.execute(insert(SegmentMember), rows)
    events.write(session)
    return len(rows)


def leave(session: Session, saved: Saved, ids: Sequence[int], now: datetime) -> int:
    """Ends the membership of those of these leads that belong no more, so that they can join again. How many these were."""
    _lock(session, ids)
    gone = list(session.exec(select(Lead.id).where(_among(ids), not_(belongs(session, saved, now)))))
    left = session.execute(
        delete(SegmentMember).where(col(SegmentMember.segment) == saved.id, col(SegmentMember.lead_id).in_(gone))
    )
    return int(left.rowcount)  # type: ignore[attr-defined]


def note_swept(session: Session, id: str, now: datetime) -> None:
    row = session.get(SegmentRow, id, with_for_update=True)
    if row is not None:
        row.swept_at = now


def _among(ids: Sequence[int]) -> ColumnElement[bool]:
    return col(Lead.id).in_(ids)


def _lock(session: Session, ids: Sequence[int]) -> Sequence[Lead]:
    """In the order of their ids, as everybody does."""
    query = select(Lead).where(_among(ids)).order_by(col(Lead.id)).with_for_update()
    return session.exec(query.execution_options(populate_existing=True)).all()


def swept_at(session: Session) -> dict[str, datetime | None]:
    """When each published segment was swept last."""
    return {row.segment: row.swept_at for row in session.exec(select(SegmentRow))}
