"""Which events really came, by SQL: how often each name, when, of how many leads; and a sample of the latest of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Table, func, select
from sqlmodel import Session, SQLModel

from mebae.store.database import Database
from mebae.store.tables import Event, VisitorEvent

CHUNK = 20_000
"""Events that are looked at in one read: some megabytes, and no long transaction."""

_EVENTS = SQLModel.metadata.tables[Event.__tablename__]
_ANONYMOUS = SQLModel.metadata.tables[VisitorEvent.__tablename__]


class Seen(NamedTuple):
    """One name of an event."""

    name: str
    times: int
    leads: int
    anonymous: int
    """How many of them are of visitors who have not said who they are. They are in `times`."""
    first: datetime
    last: datetime


def seen_names(session: Session, since: datetime | None = None) -> list[Seen]:
    """Every name under which events are stored, the most frequent first; `since`: those that occurred from then on."""
    found: dict[str, Seen] = {}
    # SQLite answers from the index over lead, name and time, without a look at the rows.
    one = _EVENTS.c
    query = select(
        one.name, func.count(), func.count(one.lead_id.distinct()), func.min(one.occurred_at), func.max(one.occurred_at)
    ).group_by(one.name)
    for name, count, leads, first, last in session.execute(_from(query, _EVENTS, since)):
        found[name] = Seen(name, count, leads, 0, first, last)
    one = _ANONYMOUS.c
    query = select(one.name, func.count(), func.min(one.occurred_at), func.max(one.occurred_at)).group_by(one.name)
    for name, count, first, last in session.execute(_from(query, _ANONYMOUS, since)):
        known = found.get(name, Seen(name, 0, 0, 0, first, last))
        found[name] = known._replace(
            times=known.times + count, anonymous=count, first=min(known.first, first), last=max(known.last, last)
        )
    return sorted(found.values(), key=lambda its: (-its.times, its.name))


def latest_events(
    database: Database,
    seen: Sequence[Seen],
    most: int,
    *,
    since: datetime | None = None,
    looked_at: Callable[[int], None] = lambda count: None,
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The properties of the latest `most` events of each name, the name beside them.

    Goes back from the newest stored event until every name has its share: a rare name costs a longer way, no table is
    ever held in memory. `looked_at` hears how many were passed.
    """
    for table, counts in (
        (_EVENTS, {one.name: one.times - one.anonymous for one in seen}),
        (_ANONYMOUS, {one.name: one.anonymous for one in seen}),
    ):
        left = {name: min(most, count) for name, count in counts.items() if count}
        before: int | None = None
        while left:
            rows = database.read_now(_names_before, table, before, since)
            if not rows:
                break
            wanted = []
            for id, name in rows:
                if name in left:
                    wanted.append(id)
                    left[name] -= 1
                    if not left[name]:
                        del left[name]
            before = rows[-1][0]
            yield from database.read_now(_properties, table, wanted)
            looked_at(len(rows))


def _names_before(session: Session, table: Table, before: int | None, since: datetime | None) -> list[tuple[int, str]]:
    query = select(table.c.id, table.c.name).order_by(table.c.id.desc()).limit(CHUNK)
    if before is not None:
        query = query.where(table.c.id < before)
    return [(id, name) for id, name in session.execute(_from(query, table, since))]


def _properties(session: Session, table: Table, ids: Sequence[int]) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for at in range(0, len(ids), 500):
        query = select(table.c.name, table.c.properties).where(table.c.id.in_(ids[at : at + 500]))
        found.extend((name, properties) for name, properties in session.execute(query))
    return found


def _from(query: Any, table: Table, since: datetime | None) -> Any:
    return query if since is None else query.where(table.c.occurred_at >= since)
