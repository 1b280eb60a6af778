"""Events that could not be taken: kept with their reason, to be looked at and, when the cause is gone, taken after all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast

from pydantic import BaseModel
from sqlalchemy.exc import DataError, DBAPIError, StatementError
from sqlmodel import Session, col, func, select

from mebae.clock import WorldClock
from mebae.http.body import HttpError, parse, texts_of_events
from mebae.http.segment import Kind, read_batch
from mebae.store.ingest import store_events
from mebae.store.tables import Quarantined


class BadEvent(NamedTuple):
    """One event that cannot be taken."""

    place: int
    """Where it stood in the request."""
    reason: str
    body: bytes
    """Its JSON."""


class Line(BaseModel):
    """A row of the list. Nothing personal in it."""

    id: int
    kind: str | None
    reason: str
    received_at: datetime
    released_at: datetime | None
    size: int


class Outcome(BaseModel):
    """What became of a release."""

    id: int
    became: Literal["stored", "known", "bad", "released-before"]
    """`known`: an event with this message id is stored already."""
    reason: str = ""


def json_of_event(event: object, body: dict[str, Any], raw: bytes, index: int = 0) -> bytes:
    """An event's JSON, with what the batch says for all its events (`sentAt`, `context`) put on it, and no write key.

    `raw` serves where the event cannot be written again because it is nested too deeply: then it is kept as it came.
    """
    if event is None:
        return raw
    if isinstance(event, dict):
        event = {key: value for key, value in event.items() if key != "writeKey"}
        if body.get("sentAt") is not None:
            event["sentAt"] = body["sentAt"]  # a batch that is sent again has a newer one than its events
        if body.get("context") is not None and not event.get("context"):
            event["context"] = body["context"]
    try:
        return json.dumps(event).encode()
    except (RecursionError, ValueError):
        texts = texts_of_events(raw) if "batch" in body else []
        return texts[index].encode() if index < len(texts) else raw


def keep(
    session: Session,
    bad: BadEvent,
    *,
    request: int,
    kind: str | None,
    received: datetime,
    now: datetime,
    public: bool = False,
) -> Quarantined | None:
    """Quarantines one event of a request; None if it is there already.

    The cause holds the request's time too: SQLite gives an id again once all rows are gone.
    """
    cause = f"intake:{request}:{received.isoformat()}:{bad.place}"
    if session.exec(select(Quarantined.id).where(Quarantined.cause == cause)).first() is not None:
        return None
    row = Quarantined(
        cause=cause, kind=kind, public=public, reason=bad.reason, body=bad.body, received_at=received, quarantined_at=now
    )
    session.add(row)
    return row


def listed(session: Session, *, limit: int = 50, released: bool = False) -> list[Line]:
    """The newest first; those that were released only if asked for."""
    query = select(Quarantined).order_by(col(Quarantined.id).desc()).limit(limit)
    if not released:
        query = query.where(col(Quarantined.released_at).is_(None))
    return [Line(size=len(row.body), **row.model_dump(exclude={"body"})) for row in session.exec(query)]


def waiting(session: Session) -> int:
    """How many there are that are not released."""
    return session.exec(select(func.count()).where(col(Quarantined.released_at).is_(None))).one()


def open_ids(session: Session) -> list[int]:
    """All that are not released, the oldest first: so they come into the order in which they were sent."""
    query = select(Quarantined.id).where(col(Quarantined.released_at).is_(None)).order_by(col(Quarantined.id))
    return [cast(int, id) for id in session.exec(query)]


def release(session: Session, id: int, *, clock: WorldClock, now: datetime) -> Outcome | None:
    """Reads an event again with today's code and stores it; still bad, it stays and its reason is today's. None: no such row."""
    query = select(Quarantined).where(Quarantined.id == id).with_for_update()
    row = session.exec(query).first()
    if row is None:
        return None
    if row.released_at is not None:
        return Outcome(id=id, became="released-before")
    reason, new = _take(session, row, clock, now)
    if reason is not None:
        row.reason = reason
        return Outcome(id=id, became="bad", reason=reason)
    row.released_at = now
    return Outcome(id=id, became="stored" if new else "known")


def _take(session: Session, row: Quarantined, clock: WorldClock, now: datetime) -> tuple[str | None, int]:
    """Why it is still bad, or None, and how many events were new."""
    body = row.body if row.kind is not None or _is_batch(row.body) else b'{"batch":[' + row.body + b"]}"
    try:
        batch = read_batch(
            parse(body),
            clock=clock,
            received=row.received_at,
            size=len(body),
            kind=cast(Kind | None, row.kind),
            public=row.public,
        )
    except HttpError as error:
        return error.message, 0
    if batch.rejected:
        return batch.rejected[0].reason, 0
    try:
        with session.begin_nested():
            return None, store_events(session, batch.incoming, now).new
    except (DataError, StatementError) as error:
        if isinstance(error, DBAPIError) and not isinstance(error, DataError):
            raise
        return "holds something that cannot be stored", 0


def _is_batch(body: bytes) -> bool:
    """A request that could not be read at all was kept whole. An event has a type, a batch has none."""
    try:
        found: Sequence[str] | dict[str, Any] = parse(body)
    except HttpError:
        return False
    return isinstance(found, dict) and isinstance(found.get("batch"), list) and "type" not in found
