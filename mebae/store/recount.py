"""Leads counted anew from their stored events: read, counted and written by columns, many at once.

What comes out is what `score_leads` would come to; objects of 400,000 leads and 2,000,000 events would cost more than the
counting. Counting needs no lock and writes nothing: whoever writes the result locks the leads, and leaves out those that
have changed since they were read.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, and_, bindparam, func, insert, select, text, true
from sqlmodel import Session, SQLModel

from mebae.scoring import Event, EventLike, _counted, decayed, micros
from mebae.store.conditions_sql import COLUMNS
from mebae.store.scoring import Account, Scoring, Tale, Touched, _tell, _Work, scoring_version, stored_events
from mebae.store.tables import Event as EventRow
from mebae.store.tables import Lead, ScoreChange

LEADS_AT_ONCE = 500
"""Leads of one transaction: short enough that nobody waits for it."""
EVENTS_AT_ONCE = 10_000
"""Events, at most, that are read together (a lead with more of its own comes alone), so that memory stays flat."""
ROUNDS = 5
"""A stage reached is an event too, and a rule may count it: so often, at most, is a lead counted anew for that."""

SEEN = ("last_seq", "updated_at", "scored_at", "scoring_version", "stage", "qualification")
"""Whoever changes a lead changes one of these."""
WRITTEN = {
    "score": "integer", "rank": "text", "industry_group": "text", "topics": "jsonb", "excluded": "jsonb", "tally": "text",
    "scoring_version": "text", "scored_at": "timestamptz", "score_changes_at": "timestamptz", "stage": "text",
    "qualification": "text", "last_seq": "integer",
}  # fmt: skip
"""What a count writes on a lead, with PostgreSQL's types."""
_LEDGER = {
    "lead_id": "bigint", "at": "timestamptz", "rule": "text", "message_id": "text", "points": "float8", "version": "text",
}  # fmt: skip

_table = SQLModel.metadata.tables[Lead.__tablename__]
_leads = _table.c
_others = ("id", "attributes", "tally", "score_changes_at", "nurtured_since", "rests_until", "erased_at")
_read = tuple(dict.fromkeys((*COLUMNS, *SEEN, *_others)))


class Before(NamedTuple):
    """What a lead was before it was counted."""

    name: str
    """Its address: for the person at the screen, never for a log."""
    score: int
    """By the model that scored it, at this moment."""
    stage: str
    qualification: str
    excluded: tuple[str, ...]


class Counted(NamedTuple):
    """What a lead came to."""

    id: int
    seen: tuple[Any, ...]
    values: dict[str, Any]
    changes: list[tuple[str, str | None, float]]
    """For the ledger: rule, event, points gained or lost."""
    told: list[tuple[int, str, str, dict[str, Any]]]
    """Events that tell what it became: place, message id, name, properties."""


class Chunk(NamedTuple):
    """Some leads counted at one moment."""

    at: datetime
    version: str
    leads: list[Counted]


# Which leads ------------------------------------------------------------------------------------------------------------


def to_count(version: str, again: bool) -> ColumnElement[bool]:
    """The leads that are to be counted: those of another version, or (`again`) all."""
    other = true() if again else _leads.scoring_version.is_distinct_from(version)
    return and_(_leads.erased_at.is_(None), other)


def how_many(session: Session, version: str, again: bool) -> int:
    query = select(func.count()).select_from(_table).where(to_count(version, again))
    return int(session.execute(query).scalar_one())


def next_leads(session: Session, version: str, again: bool, after: int) -> list[tuple[int, int]]:
    """Leads in the order of their ids, each with how many events it has."""
    query = select(_leads.id, _leads.last_seq).where(to_count(version, again), _leads.id > after)
    return [(id, events) for id, events in session.execute(query.order_by(_leads.id).limit(LEADS_AT_ONCE))]


def pieces(leads: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Leads as they are read together, so that few have many events or many have few."""
    ids: list[int] = []
    events = 0
    for id, its in leads:
        if ids and (events + its > EVENTS_AT_ONCE or len(ids) >= LEADS_AT_ONCE):
            yield ids
            ids, events = [], 0
        ids.append(id)
        events += its
    if ids:
        yield ids


# Counting ---------------------------------------------------------------------------------------------------------------


def count(session: Session, ids: Sequence[int], scoring: Scoring, now: datetime) -> Iterator[tuple[Before, Counted]]:
    """Counts these leads from their events, as the model has it."""
    query = select(*(_leads[name] for name in _read)).where(_leads.id.in_(ids), _leads.erased_at.is_(None))
    rows = session.execute(query.order_by(_leads.id)).all()
    history: dict[int, list[Event]] = defaultdict(list)
    for lead_id, event in stored_events(session, [row.id for row in rows if row.last_seq]):
        history[lead_id].append(event)
    for row in rows:
        lead = SimpleNamespace(**row._asdict())
        before = _before(session, lead, now)
        yield before, _counted_anew(lead, history.pop(lead.id, []), scoring, now)


def _before(session: Session, lead: SimpleNamespace, now: datetime) -> Before:
    score = lead.score
    if lead.scoring_version is not None:
        account = Account.of(cast(Lead, lead))
        if account.tally is not None:
            model, at = scoring_version(session, lead.scoring_version).model, micros(now)
            fit = [worth for (_, event), worth in account.given.items() if event is None]
            done = [
                decayed(one.points, one.at, half, at=at)
                for _, half, kept in _counted(model, account.tally)
                for one in kept
            ]
            score = math.floor(math.fsum((*fit, *done)))
    name = lead.email or lead.user_id or f"lead {lead.id}"
    return Before(name, score, lead.stage, lead.qualification, tuple(lead.excluded))


def _counted_anew(lead: SimpleNamespace, events: Sequence[Event], scoring: Scoring, now: datetime) -> Counted:
    """`score_leads` for one lead of which nothing is known but its events."""
    seen = tuple(getattr(lead, name) for name in SEEN)
    row, tale = cast(Lead, lead), Tale()
    lead.scoring_version = None
    history: list[EventLike] = list(events)
    told: list[tuple[int, str, str, dict[str, Any]]] = []
    touched = Touched(row)
    for _ in range(ROUNDS):
        work = _Work(touched, scoring, now)
        work.score(scoring, history, now, tale)
        _tell(row, work.account, tale)
        lead.tally = work.account.dump()
        if len(tale.told) == len(told):
            break
        history += touched.events
        touched = Touched(row)
        for _, name, properties in tale.told[len(told) :]:
            lead.last_seq += 1
            message_id = f"{name.lower().replace(' ', '-')}:{lead.id}:{lead.last_seq}"
            told.append((lead.last_seq, message_id, name, properties))
            touched.events.append(Event(message_id, name, properties, now))
    changes = [(one["rule"], one["message_id"], one["points"]) for one in tale.changes]
    return Counted(lead.id, seen, {name: getattr(lead, name) for name in WRITTEN}, changes, told)


# Writing ----------------------------------------------------------------------------------------------------------------


def write(session: Session, chunk: Chunk, *, wake: bool) -> list[int]:
    """Writes what leads came to, and says which have changed since they were read: those are to be counted once more.

    A lead that an event brought under the same version meanwhile is right as it is. `wake`: whether the events that tell
    what leads became go to the router, where they may start journeys.
    """
    ids = [one.id for one in chunk.leads]
    seen = (_leads.id, *(_leads[name] for name in SEEN))
    locked = select(*seen).where(_leads.id.in_(ids), _leads.erased_at.is_(None)).order_by(_leads.id).with_for_update()
    rows = {row[0]: tuple(row[1:]) for row in session.execute(locked)}
    version = SEEN.index("scoring_version")
    good = [one for one in chunk.leads if rows.get(one.id) == one.seen]
    missed = [
        one.id
        for one in chunk.leads
        if one.id in rows
        and rows[one.id] != one.seen
        and (rows[one.id][version] != chunk.version or one.seen[version] == chunk.version)
    ]
    if good:
        _write_leads(session, good)
        _write_ledger(session, chunk, good)
        _write_told(session, chunk, good, wake)
    return missed


def _write_leads(session: Session, good: Sequence[Counted]) -> None:
    if _on_postgres(session):
        sets = ", ".join(f"{name} = v.{name}" for name in WRITTEN)
        update = f"UPDATE leads SET {sets} FROM {_recordset({'id': 'bigint', **WRITTEN})} WHERE leads.id = v.id"  # noqa: S608
        session.execute(text(update), {"rows": _as_json([{"id": one.id, **one.values} for one in good])})
        return
    values: dict[Any, Any] = {_leads[name]: bindparam(f"to_{name}") for name in WRITTEN}
    changed = [{"of": one.id, **{f"to_{name}": value for name, value in one.values.items()}} for one in good]
    session.connection().execute(_table.update().where(_leads.id == bindparam("of")).values(values), changed)


def _write_ledger(session: Session, chunk: Chunk, good: Sequence[Counted]) -> None:
    rows = [
        {
            "lead_id": one.id,
            "at": chunk.at,
            "rule": rule,
            "message_id": event,
            "points": points,
            "version": chunk.version,
        }
        for one in good
        for rule, event, points in one.changes
    ]
    if not rows:
        return
    if _on_postgres(session):
        names = ", ".join(_LEDGER)
        every = ", ".join(f"v.{name}" for name in _LEDGER)
        added = f"INSERT INTO score_changes ({names}) SELECT {every} FROM {_recordset(_LEDGER)}"  # noqa: S608
        session.execute(text(added), {"rows": _as_json(rows)})
        return
    session.connection().execute(insert(SQLModel.metadata.tables[ScoreChange.__tablename__]), rows)


def _write_told(session: Session, chunk: Chunk, good: Sequence[Counted], wake: bool) -> None:
    rows = [
        {
            "lead_id": one.id, "seq": seq, "message_id": message_id, "name": name, "properties": properties,
            "occurred_at": chunk.at, "received_at": chunk.at, "routed_at": None if wake else chunk.at,
        }
        for one in good
        for seq, message_id, name, properties in one.told
    ]  # fmt: skip
    if rows:
        session.execute(insert(EventRow), rows)


def _on_postgres(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"


def _recordset(columns: dict[str, str]) -> str:
    """One parameter for all rows: PostgreSQL plans once, and no statement is sent a row."""
    return f"jsonb_to_recordset(CAST(:rows AS jsonb)) AS v({', '.join(f'{name} {kind}' for name, kind in columns.items())})"


def _as_json(rows: Sequence[dict[str, Any]]) -> str:
    return json.dumps(rows, ensure_ascii=False, allow_nan=False, default=datetime.isoformat)
