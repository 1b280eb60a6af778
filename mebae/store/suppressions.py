"""The suppression list: addresses that no mail goes to, as keyed hashes, so that it outlives an erased lead.

An entry is of an address; `leads.opted_out_at` is the wish of a person, and holds for whatever address it has. Who
unsubscribes gets both. All of it acts at once, also on mail that is on its way: the gate is asked again right before the
message's bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from mebae.errors import BadInput
from mebae.store.leads import normalise_email
from mebae.store.tables import Delivery, Lead, Suppression, TopicChoice, Workspace

Reason = Literal["unsubscribed", "hard-bounce", "soft-bounces", "complaint", "erased", "by-hand", "imported"]
REASONS: tuple[str, ...] = get_args(Reason)
_AT_ONCE = 200
LIFTED_BY_CONSENT: tuple[Reason, ...] = ("unsubscribed",)
STRENGTH = ("unsubscribed", "imported", "by-hand", "soft-bounces", "hard-bounce", "complaint", "erased")
"""Of two reasons the later one of these is kept: a lead that agrees again lifts an unsubscribe and nothing else."""


_SALTS: WeakKeyDictionary[Engine | Connection, str] = WeakKeyDictionary()


def salt_of(session: Session) -> str:
    """The salt of this workspace's hashes. It never changes, and the gate wants it for every mail: read once an engine."""
    engine = session.get_bind()
    salt = _SALTS.get(engine)
    if salt is None:
        salt = _SALTS[engine] = session.exec(select(Workspace.address_salt)).one()
    return salt


def address_hash(salt: str, address: str) -> str:
    """What stands for an address in the list: HMAC-SHA256 over its normalised spelling.

    >>> address_hash("salt", "Sato@Aoba.example") == address_hash("salt", " sato@aoba.example ")
    True
    """
    try:
        written = normalise_email(address)
    except BadInput:  # what came back in a report may be no address that we would take
        written = unicodedata.normalize("NFKC", address).strip().lower()
    return hash_of(salt, written)


def hash_of(salt: str, normalised: str) -> str:
    """`address_hash` of an address that is normalised already, as a lead's is."""
    return hmac.new(salt.encode(), normalised.encode(), hashlib.sha256).hexdigest()


def add(session: Session, address: str, reason: Reason, now: datetime, *, delivery_id: int | None = None) -> bool:
    """Puts an address on the list; whether that changed anything. Of two reasons the stronger one is kept."""
    return add_hashes(session, [address_hash(salt_of(session), address)], reason, now, delivery_id=delivery_id) > 0


def add_hashes(
    session: Session, hashes: Iterable[str], reason: Reason, now: datetime, *, delivery_id: int | None = None
) -> int:
    """Puts hashes of addresses on the list; how many were new or got a stronger reason."""
    wanted = sorted(set(hashes))
    weaker = STRENGTH[: STRENGTH.index(reason)]
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    changed = 0
    for at in range(0, len(wanted), _AT_ONCE):
        rows = [{"hash": one, "reason": reason, "at": now, "delivery_id": delivery_id} for one in wanted[at : at + _AT_ONCE]]
        statement = insert(Suppression).values(rows)
        statement = statement.on_conflict_do_update(
            index_elements=["hash"],
            set_={name: statement.excluded[name] for name in ("reason", "at", "delivery_id")},
            where=col(Suppression.reason).in_(weaker),
        )
        changed += len(session.execute(statement.returning(col(Suppression.hash))).all())
    return changed


def lift(session: Session, address: str, *, only: Reason | None = None) -> Suppression | None:
    """Takes an address off the list, if it is there (for the reason `only`, if given); the entry that was taken off."""
    found = find(session, address)
    if found is None or (only is not None and found.reason != only):
        return None
    session.execute(delete(Suppression).where(col(Suppression.hash) == found.hash))
    session.expunge(found)
    return found


def lift_for_consent(session: Session, address: str, given_at: datetime) -> bool:
    """What the lead's own later consent lifts: that it unsubscribed. Never a bounce or a complaint.

    Nor an erasure: it covers what was known before it, a complaint too, and who fills in a form with an address need not be
    whom it belongs to. A person lifts that.
    """
    found = find(session, address)
    if found is None or found.reason not in LIFTED_BY_CONSENT or given_at <= found.at:
        return False
    return lift(session, address) is not None


def find(session: Session, address: str) -> Suppression | None:
    """The address's entry."""
    return session.get(Suppression, address_hash(salt_of(session), address), populate_existing=True)


def unsubscribe(
    session: Session,
    lead: Lead,
    now: datetime,
    *,
    delivery: Delivery | None = None,
    topic: str | None = None,
    how: str = "link",
) -> bool:
    """The lead wants no marketing mail any more, or none of one topic; whether that is news.

    Writes the opt-out, the suppression of its address and the event `Unsubscribed`; for a topic the choice and the event
    `Topic Unsubscribed`. The lead is locked by the caller. `delivery`: the mail by which it said so; `how`: `link`,
    `one-click`, `mail`, `preferences`, `by-hand`, `api`.
    """
    from mebae.store.ingest import EventLog  # it uses this module itself

    assert lead.id is not None
    log = EventLog(now)
    properties: dict[str, Any] = {"how": how}
    if delivery is not None:
        of = "scenario" if delivery.broadcast_id is None else "broadcast"
        properties |= {"mail": delivery.mail, of: delivery.scope}
    if topic is not None:
        if not choose_topic(session, lead.id, topic, wanted=False, now=now):
            return False
        name, properties = "Topic Unsubscribed", {"topic": topic, **properties}
    else:
        news = lead.opted_out_at is None
        refuse(lead, now)
        if lead.email is not None:
            delivery_id = delivery.id if delivery is not None else None
            news |= unsubscribe_address(session, lead.email, now, delivery_id=delivery_id)
        if not news:
            return False
        name = "Unsubscribed"
    log.add(lead, f"unsubscribed:{lead.id}:{lead.last_seq + 1}", name, properties)
    log.write(session)
    return True


def refuse(lead: Lead, now: datetime) -> None:
    """The lead's no. Said again it counts from now: a consent that comes late, given before it, does not undo it."""
    if lead.opted_out_at is None:
        lead.updated_at = now
    lead.opted_out_at = max(lead.opted_out_at or now, now)


def unsubscribe_address(session: Session, address: str, now: datetime, *, delivery_id: int | None = None) -> bool:
    """Suppresses an address that unsubscribed; whether that changed anything. Said again it counts from now, which is no news."""
    if add(session, address, "unsubscribed", now, delivery_id=delivery_id):
        return True
    found = find(session, address)
    if found is not None and found.reason == "unsubscribed":
        found.at = max(found.at, now)
        session.flush()
    return False


def choose_topic(session: Session, lead_id: int, topic: str, *, wanted: bool, now: datetime) -> bool:
    """What a lead (locked) says of one topic; whether that is news."""
    row = session.get(TopicChoice, (lead_id, topic), populate_existing=True)
    if row is None:
        session.add(TopicChoice(lead_id=lead_id, topic=topic, wanted=wanted, at=now))
        session.flush()
        return not wanted
    if row.wanted == wanted:
        return False
    row.wanted, row.at = wanted, now
    session.flush()
    return True
