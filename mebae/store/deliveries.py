"""Many rows of the ledger at once, by statements over sets: what broadcasts need (DESIGN §8). What they say is `mebae.ledger`'s.

The leads of all rows are locked by the caller, in the order of their ids.
"""

from __future__ import annotations

from collections import defaultdict, namedtuple
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, cast

from sqlalchemy import Table, Update, bindparam, insert, select, update
from sqlmodel import Session

from mebae.store.among import among
from mebae.store.tables import Broadcast, Delivery, Lead
from mebae.words import DeliveryKind, DeliveryStatus

TABLE: Table = Delivery.__table__  # type: ignore[attr-defined]


@dataclass(slots=True)
class Row:
    """What of a broadcast's delivery bears on what it does next."""

    id: int
    lead_id: int
    broadcast_id: int
    scope: str
    mail: str
    message_id: str
    status: str = DeliveryStatus.CLAIMED
    reason: str | None = None
    attempt: int = 1
    failures: int = 0
    first_claimed_at: datetime | None = None
    next_at: datetime | None = None
    topic: str = ""
    kind: str = DeliveryKind.MARKETING
    # A journey's deliveries have more to say here.
    entry: None = None
    step: str = ""
    visit: int = 1


_COLUMNS = [
    TABLE.c[name]
    for name in (
        "id", "lead_id", "broadcast_id", "scope", "mail", "message_id", "status", "reason", "attempt", "failures",
        "first_claimed_at", "next_at", "topic",
    )
]  # fmt: skip


class LockedLead(NamedTuple):
    """What the gate asks of a lead."""

    id: int
    email: str | None
    time_zone: str | None
    opted_out_at: datetime | None
    erased_at: datetime | None


_LEADS: Table = Lead.__table__  # type: ignore[attr-defined]
_ReadLead = namedtuple("_ReadLead", [column.name for column in _LEADS.c])  # type: ignore[misc]
# Made once, and on the tables themselves: to build them anew and to look through the ORM costs more than to carry them out.
_LEAD = len(LockedLead._fields)
_LOCKED = (
    select(*(_LEADS.c[name] for name in LockedLead._fields), *_COLUMNS)
    .join_from(TABLE, _LEADS, TABLE.c.lead_id == _LEADS.c.id)
    .where(among(TABLE.c.id, "ids"))
    .order_by(_LEADS.c.id)
    .with_for_update(of=[_LEADS, TABLE])
)
_WHOLE = select(_LEADS).where(among(_LEADS.c.id, "ids")).order_by(_LEADS.c.id).with_for_update()
_ROWS = select(*_COLUMNS).where(among(TABLE.c.id, "ids"))
_RUNS: Table = Broadcast.__table__  # type: ignore[attr-defined]
_STATES = select(_RUNS.c.id, _RUNS.c.status, _RUNS.c.paused).where(among(_RUNS.c.id, "ids"))
_OF_BROADCAST = select(*_COLUMNS).where(TABLE.c.broadcast_id == bindparam("broadcast"), among(TABLE.c.lead_id, "ids"))


def lock_leads(session: Session, ids: Iterable[int]) -> list[Lead]:
    """Those of these leads that there are, whole, locked until the transaction ends, in the order of their ids: two
    transactions that lock many wait for each other and do not deadlock.

    They are to be read, and are none of the session's: as its objects each would cost more.
    """
    session.flush()
    found = session.connection().execute(_WHOLE, {"ids": sorted(set(ids))}).all()
    return cast(list[Lead], [_ReadLead._make(row) for row in found])


def lock_rows(session: Session, ids: Iterable[int]) -> dict[int, tuple[LockedLead, Row]]:
    """Deliveries by their numbers, each with what the gate asks of its lead; both locked, in the order of the leads' ids.

    Both, since a row that is not locked may be read as it was before the wait for the lead's lock.
    """
    found = session.connection().execute(_LOCKED, {"ids": list(ids)}).all()
    return {row[_LEAD]: (LockedLead(*row[:_LEAD]), Row(*row[_LEAD:])) for row in found}


def of_broadcast(session: Session, broadcast: int, leads: Iterable[int]) -> list[Row]:
    """The deliveries of a broadcast to these leads."""
    found = session.connection().execute(_OF_BROADCAST, {"broadcast": broadcast, "ids": list(leads)}).all()
    return [Row(*row) for row in found]


def rows_of(session: Session, ids: Iterable[int]) -> dict[int, Row]:
    """Deliveries by their numbers."""
    return {row[0]: Row(*row) for row in session.connection().execute(_ROWS, {"ids": list(ids)}).all()}


def states_of(session: Session, broadcasts: Iterable[int]) -> list[tuple[int, str, bool]]:
    """Number, status and whether it is paused, of these broadcasts."""
    session.flush()
    return [(row[0], row[1], row[2]) for row in session.connection().execute(_STATES, {"ids": sorted(set(broadcasts))})]


def insert_rows(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """New rows, each with the same columns; those left out have their defaults."""
    if rows:
        defaults: dict[str, Any] = {"step": "", "visit": 1, "failures": 0, "forms": []}
        session.connection().execute(insert(TABLE), [{**defaults, **row} for row in rows])


def write_moves(session: Session, moves: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """Writes each row's move: one statement for all that change the same columns."""
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for id, move in moves:
        if move:
            alike[tuple(sorted(move))].append({"row": id, **{f"new_{name}": value for name, value in move.items()}})
    for names, values in alike.items():
        session.connection().execute(_update(names), values)


@cache
def _update(names: tuple[str, ...]) -> Update:
    return update(TABLE).where(TABLE.c.id == bindparam("row")).values({name: bindparam(f"new_{name}") for name in names})
