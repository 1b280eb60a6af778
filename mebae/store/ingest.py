"""Storing what leads did: once per message id, in each lead's order, whole batches in one transaction.

The row is its own outbox: `routed_at` is empty until the router has taken it to the journeys that want it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import insert
from sqlmodel import Session, col, select

from mebae.events import BY_VERB, IDENTIFIED
from mebae.store.leads import Found, Who, apply_traits, gather, settle
from mebae.store.tables import Event, Lead
from mebae.store.traits import read_traits

CREATED = BY_VERB["created"].name

KEPT_ASIDE = "mebae:anonymous"
"""The user id of the one row that holds the events of visitors who have not said who they are.

It is no person: it has no address and is opted out, and its events are stored as routed, so that no journey sees them. They
wait there, each with its anonymous id, until identity resolution gives them to a lead.
"""

OUR_MESSAGE_IDS = ("lead-created:", "lead-changed:", "lead-imported:", "step:", "command:")
"""How our own message ids begin. Nobody else's may, or they could take the place of ours."""


class Incoming(BaseModel):
    """One thing that a lead did, read and checked, not yet stored."""

    model_config = ConfigDict(frozen=True)

    message_id: str
    name: str
    """Canonical. `Lead Identified` writes the traits on the lead."""
    properties: dict[str, Any] = {}
    occurred_at: AwareDatetime
    received_at: AwareDatetime
    who: Who
    traits: dict[str, Any] = {}


class Stored(BaseModel):
    """What became of a batch."""

    new: int = 0
    duplicates: int = 0
    """Stored before, or twice in the batch: nothing happened."""
    aside: int = 0
    """Of the new ones: kept for a visitor who is not known yet."""


def store_events(session: Session, incoming: Sequence[Incoming], now: datetime) -> Stored:
    """Stores events in their order and makes the leads that they are about. Run it with `Database.write`.

    The same message id is stored once, whoever sends it, whenever and on however many connections. A lead that is made
    gets a `Lead Created` first. An identify always leaves its row, or a late repetition could undo a newer one; if it changed
    nothing the row counts as routed and wakes nobody.
    """
    return settle(session, lambda: _store(session, incoming, now))


def _store(session: Session, incoming: Sequence[Incoming], now: datetime) -> Stored:
    first = {one.message_id: one for one in reversed(incoming)}
    # Before any lead is made: a repeated event must not bring back a lead that was erased meanwhile.
    known = stored_before(session, first)
    fresh = [one for one in incoming if one.message_id not in known and first[one.message_id] is one]
    if not fresh:
        return Stored(duplicates=len(incoming))
    found = gather(session, [_named(one.who) for one in fresh], now)
    # Again under the locks, where the same event on another connection has either been stored or waits for us.
    known = stored_before(session, [one.message_id for one in fresh])
    log = EventLog(now)
    stored = Stored()
    for one, its in zip(fresh, found, strict=True):
        if one.message_id in known:
            continue
        stored.new += 1
        if its.lead.user_id == KEPT_ASIDE:
            stored.aside += 1
            its.lead.opted_out_at = its.lead.opted_out_at or now
            log.add(its.lead, one.message_id, one.name, _aside(one), one.occurred_at, one.received_at, routed=True)
        else:
            _store_one(log, one, its, now)
    stored.duplicates = len(incoming) - stored.new
    log.write(session)
    return stored


def _store_one(log: EventLog, one: Incoming, its: Found, now: datetime) -> None:
    log.greet(its)
    if one.name == IDENTIFIED:
        changed = its.learned | apply_traits(its.lead, read_traits(one.traits), now)
        log.add(
            its.lead, one.message_id, IDENTIFIED, change(changed), one.occurred_at, one.received_at, routed=not changed
        )
        return
    if its.learned:
        log.changed(its.lead, its.learned)
    log.add(its.lead, one.message_id, one.name, one.properties, one.occurred_at, one.received_at)


def _named(who: Who) -> Who:
    return who if who.email is not None or who.user_id is not None else Who(user_id=KEPT_ASIDE)


def _aside(one: Incoming) -> dict[str, Any]:
    return {"anonymous_id": one.who.anonymous_id, "properties": one.properties, "traits": one.traits}


def change(changed: dict[str, Any]) -> dict[str, Any]:
    """The properties of a `Lead Identified`: the names of what changed, and the new values."""
    return {"changed": sorted(changed), "values": changed}


def stored_before(session: Session, message_ids: Collection[str]) -> set[str]:
    """Which of these message ids are stored."""
    return set(session.exec(select(Event.message_id).where(col(Event.message_id).in_(message_ids))).all())


class EventLog:
    """Gives events their places in their leads' orders, and writes them in one statement. Leads must be locked."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._rows: list[dict[str, Any]] = []

    def add(
        self,
        lead: Lead,
        message_id: str,
        name: str,
        properties: dict[str, Any],
        occurred_at: datetime | None = None,
        received_at: datetime | None = None,
        *,
        routed: bool = False,
    ) -> None:
        """One event of a lead. It occurred before it was received, whatever the sender's clock says."""
        received_at = received_at or self._now
        lead.last_seq += 1
        self._rows.append(
            {
                "lead_id": lead.id,
                "seq": lead.last_seq,
                "message_id": message_id,
                "name": name,
                "properties": properties,
                "occurred_at": min(occurred_at or received_at, received_at),
                "received_at": received_at,
                "routed_at": received_at if routed else None,
            }
        )

    def greet(self, its: Found) -> None:
        """`Lead Created`, if this lead was made in this transaction and has no event yet."""
        if its.created and its.lead.last_seq == 0:
            self.add(its.lead, f"lead-created:{its.lead.id}", CREATED, {})

    def changed(self, lead: Lead, changed: dict[str, Any]) -> None:
        """`Lead Identified` for a change that no message of a client names."""
        self.add(lead, f"lead-changed:{lead.id}:{lead.last_seq + 1}", IDENTIFIED, change(changed))

    def write(self, session: Session) -> None:
        """Writes leads and events. `IntegrityError` if another connection stored one of the message ids: see `leads.settle`."""
        session.flush()
        if self._rows:
            session.execute(insert(Event), self._rows)
