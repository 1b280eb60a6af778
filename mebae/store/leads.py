"""Leads by who they are: finding, making and changing them.

A lead is known by its address, by the id that the user's own systems give it (`user_id`), or by both. Where the two
point at different leads, the rule is that mail must stay possible: a lead without an address gives its user id to the one
that has the address; one with an address of its own stays apart, and the user id says which of the two is meant.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import structlog
from email_validator import EmailNotValidError, validate_email
from pydantic import BaseModel, ConfigDict
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, SQLModel, col, or_, select

from mebae.errors import BadInput
from mebae.store.scoring import stage_titles_of, stages_of
from mebae.store.tables import Lead
from mebae.store.traits import COLUMNS, Reading, fitting, full_name, read_traits
from mebae.words import QUALIFICATIONS

T = TypeVar("T")
log = structlog.get_logger()

LONGEST_ID = 255
"""Characters of a user id, message id or event name: an index of PostgreSQL takes 2,700 bytes."""

_TRIES = 6
_CARRIERS = re.compile(
    r"(docomo\.ne\.jp|ezweb\.ne\.jp|au\.com|softbank\.ne\.jp|i\.softbank\.jp|ymobile\.ne\.jp|ymobile1\.ne\.jp|disney\.ne\.jp"
    r"|uqmobile\.jp|emobile\.ne\.jp|willcom\.com|pdx\.ne\.jp|([a-z0-9-]+\.)(vodafone|pdx|ezweb|biz\.ezweb)\.ne\.jp)"
)
_CARRIER_LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}")


def normalise_email(written: str) -> str:
    """The address in its one spelling: lower case, half width, without what people paste around it. Raises `BadInput`.

    Japanese carriers gave out addresses that break RFC 5321 (two dots in a row, a dot before the @) and still deliver to
    them, so those are taken as they are.

    >>> normalise_email(" Ｓａｔｏ@Example.JP ")
    'sato@example.jp'
    >>> normalise_email("a..b.@docomo.ne.jp")
    'a..b.@docomo.ne.jp'
    """
    address = unicodedata.normalize("NFKC", written).strip().removeprefix("mailto:").strip("<>").strip().lower()
    local, _, domain = address.rpartition("@")
    if _CARRIERS.fullmatch(domain):
        local = local[1:-1] if len(local) > 2 and local[0] == local[-1] == '"' else local
        if _CARRIER_LOCAL.fullmatch(local):
            return f"{local}@{domain}"
    try:
        return validate_email(address, check_deliverability=False, test_environment=True).normalized.lower()
    except EmailNotValidError as error:
        raise BadInput(f"not a mail address ({str(error).rstrip('.')})") from None


class Who(BaseModel):
    """Whom something is about."""

    model_config = ConfigDict(frozen=True)

    email: str | None = None
    """Normalised."""
    user_id: str | None = None
    anonymous_id: str | None = None
    """A browser that has not said whose it is. It names no lead."""
    moves: bool = False
    """The address given replaces the one that the lead of `user_id` has: an identify says so, a form field does not."""


@dataclass
class Found:
    """The lead of one `Who`, locked."""

    lead: Lead
    created: bool
    learned: dict[str, Any]
    """What this `Who` added to a known lead: its address or its user id."""


def find_lead(session: Session, *, email: str | None = None, user_id: str | None = None) -> Lead | None:
    """The lead with this address or user id, not locked. `BadInput` for an address that is none."""
    if user_id is not None:
        found = session.exec(select(Lead).where(Lead.user_id == user_id)).first()
        if found is not None or email is None:
            return found
    if email is None:
        raise BadInput("a lead is found by its address or its user id: give one")
    return session.exec(select(Lead).where(Lead.email == normalise_email(email))).first()


def upsert_lead(
    session: Session, *, email: str | None, user_id: str | None, traits: Mapping[str, Any], now: datetime
) -> tuple[Lead, bool, dict[str, Any]]:
    """Finds or makes the lead, locks it and writes the traits on it: (lead, was it made, what changed with its new value).

    Stores no event: `ingest.store_events` does. What cannot be read in the traits is left out.
    """
    if email is None and user_id is None:
        raise BadInput("a lead needs an address or a user id: give one")
    who = Who(email=normalise_email(email) if email is not None else None, user_id=user_id, moves=True)

    def work() -> tuple[Lead, bool, dict[str, Any]]:
        [found] = gather(session, [who], now)
        changed = found.learned | apply_traits(found.lead, read_traits(traits, stages=stage_titles_of(session)), now)
        return found.lead, found.created, changed

    return settle(session, work)


def rename(session: Session, previous: str, who: Who, now: datetime) -> dict[str, Any]:
    """An alias: the lead known by `previous` (a user id or an address) is now called as `who` says; what that changed.

    Unless another lead is called so already: then both stay as they are. Run it before `gather`.
    """
    names = {name for name in (previous, who.user_id, who.email) if name is not None}
    query = select(Lead).where(or_(col(Lead.user_id).in_(names), col(Lead.email).in_(names))).order_by(col(Lead.id))
    leads = session.exec(query.with_for_update()).all()
    known = next((lead for lead in leads if previous in (lead.user_id, lead.email)), None)
    if known is None:
        return {}
    if any(lead is not known for lead in leads):
        log.info("leads.same_person_twice", count=1)
        return {}
    called = {"user_id": who.user_id or known.user_id, "email": who.email or known.email}
    changed = {name: value for name, value in called.items() if getattr(known, name) != value}
    for name, value in changed.items():
        setattr(known, name, value)
    if changed:
        known.updated_at = now
    session.flush()
    return changed


def apply_traits(lead: Lead, reading: Reading, now: datetime) -> dict[str, Any]:
    """Writes what traits came to on a lead (locked by the caller); what changed, with its new value."""
    columns = dict(reading.columns)
    if "name" not in columns:
        first, last = (reading.attributes.get(key, "") for key in ("first_name", "last_name"))
        if first or last:
            known = lead.attributes
            parts = first or known.get("first_name", ""), last or known.get("last_name", "")
            columns["name"] = full_name(*parts, columns.get("language", lead.language))
    changed = set_values(lead, columns | reading.attributes)
    if changed:
        lead.updated_at = now
    return changed


def set_values(lead: Lead, values: Mapping[str, Any]) -> dict[str, Any]:
    """Sets columns and, under every other name, attributes of a lead; what changed, with its new value.

    Attributes beyond 32 KB are left out: the lead matters more than its thousandth trait.
    """
    changed = {key: value for key, value in values.items() if key in COLUMNS and getattr(lead, key) != value}
    for key, value in changed.items():
        setattr(lead, key, value)
    own = {
        key: value
        for key, value in values.items()
        if key not in COLUMNS and (key not in lead.attributes or not _same(lead.attributes[key], value))
    }
    fit = fitting(lead.attributes, own)
    if len(fit) < len(own):
        log.warning("lead.attributes_full", left_out=len(own) - len(fit))
    if fit:
        lead.attributes = {**lead.attributes, **fit}
    return changed | fit


def _same(one: Any, other: Any) -> bool:
    """Equal and of the same kind: for Python True is 1, for a condition it is not."""
    return type(one) is type(other) and one == other


# Many leads at once ---------------------------------------------------------------------------------------------------


class _Raced(Exception):
    """Somebody changed who a lead is between our looking and our lock."""


def settle(session: Session, work: Callable[[], T]) -> T:
    """Runs `work` in a savepoint, and again when another transaction took an address, a user id or a message id first."""
    for attempt in range(_TRIES):
        try:
            with session.begin_nested():
                return work()
        except (IntegrityError, _Raced):
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


@dataclass(eq=False)
class _Slot:
    """A lead as it stands in the book: known (with an id) or to be made."""

    id: int | None = None
    email: str | None = None
    user_id: str | None = None
    was: tuple[str | None, str | None] = (None, None)
    same_as: _Slot | None = None
    lead: Lead | None = None

    @property
    def final(self) -> _Slot:
        return self.same_as.final if self.same_as is not None else self


@dataclass
class _Book:
    """Who is who, while a batch is read in its order: a lead made by the first event is found by the second."""

    by_email: dict[str, _Slot] = field(default_factory=dict)
    by_user: dict[str, _Slot] = field(default_factory=dict)
    slots: list[_Slot] = field(default_factory=list)
    two_leads: int = 0

    def enter(self, slot: _Slot) -> _Slot:
        self.slots.append(slot)
        if slot.email is not None:
            self.by_email[slot.email] = slot
        if slot.user_id is not None:
            self.by_user[slot.user_id] = slot
        return slot

    def take(self, who: Who) -> tuple[_Slot, dict[str, Any]]:
        """The slot of this person, and what was learned about it."""
        ours = self.by_user.get(who.user_id) if who.user_id is not None else None
        theirs = self.by_email.get(who.email) if who.email is not None else None
        if ours is not None and theirs is not None and ours is not theirs:
            self.two_leads += 1
            return self._choose(ours, theirs)
        slot = ours or theirs
        if slot is None:
            return self.enter(_Slot(email=who.email, user_id=who.user_id)), {}
        learned: dict[str, Any] = {}
        if who.user_id is not None and slot.user_id is None:
            slot.user_id = learned["user_id"] = who.user_id
            self.by_user[who.user_id] = slot
        if who.email is not None and (slot.email is None or (who.moves and slot.email != who.email)):
            slot.email = learned["email"] = who.email
            self.by_email[who.email] = (
                slot  # the old address means this lead until the batch ends, or both would claim it
            )
        return slot, learned

    def _choose(self, ours: _Slot, theirs: _Slot) -> tuple[_Slot, dict[str, Any]]:
        """The user id names one lead, the address another."""
        if ours.email is not None:
            return ours, {}
        if theirs.user_id is not None:
            return theirs, {}
        user_id, email = ours.user_id, theirs.email
        assert user_id is not None
        assert email is not None
        if theirs.id is None:
            theirs.same_as, ours.email, self.by_email[email] = ours, email, ours
            return ours, {"email": email}
        ours.user_id, theirs.user_id, self.by_user[user_id] = None, user_id, theirs
        if ours.id is None:
            ours.same_as = theirs
        return theirs, {"user_id": user_id}


def gather(session: Session, whos: Sequence[Who], now: datetime) -> list[Found]:
    """The leads of all these people, found or made, one for each `Who` in its order. To be run by `settle`.

    Every one is locked until the transaction ends, in the order of their ids: in any other order two batches deadlock.
    """
    book = _Book()
    emails, users = {who.email for who in whos if who.email}, {who.user_id for who in whos if who.user_id}
    known = (
        select(Lead.id, Lead.email, Lead.user_id)
        .where(or_(col(Lead.email).in_(emails), col(Lead.user_id).in_(users)))
        .order_by(col(Lead.id))
    )
    for lead_id, email, user_id in session.exec(known):
        book.enter(_Slot(lead_id, email, user_id, was=(email, user_id)))
    taken = [book.take(who) for who in whos]
    made = _make(session, (slot for slot in book.slots if slot.id is None and slot.same_as is None), now)
    _lock(session, {slot.id: slot for slot in book.slots if slot.id is not None}, now)
    if book.two_leads:
        log.info("leads.same_person_twice", count=book.two_leads)
    found = []
    for slot, learned in taken:
        lead = slot.final.lead
        assert lead is not None
        found.append(Found(lead, slot.final in made, {} if slot.final in made else learned))
    return found


def _make(session: Session, slots: Iterable[_Slot], now: datetime) -> set[_Slot]:
    """Inserts new leads, in an order that all writers share, so that two who make the same ones wait and do not deadlock."""
    new = sorted(slots, key=lambda slot: (slot.email or "", slot.user_id or ""))
    if new:
        # Not as objects: making 500 of them takes longer than inserting their rows.
        table, first = SQLModel.metadata.tables["leads"], stages_of(session)[0]
        rows = [
            _blank(first)
            | {"email": slot.email, "user_id": slot.user_id, "active_at": now, "created_at": now, "updated_at": now}
            for slot in new
        ]
        ids = session.execute(insert(table).returning(table.c.id, sort_by_parameter_order=True), rows).scalars()
        for slot, lead_id in zip(new, ids, strict=True):
            slot.id, slot.was = lead_id, (slot.email, slot.user_id)
    return set(new)


def _blank(first: str) -> dict[str, Any]:
    """What a new lead has in every column that needs a value."""
    return {
        "language": "ja", "score": 0, "stage": first, "qualification": QUALIFICATIONS[0], "last_seq": 0,
        "tags": [], "attributes": {}, "topics": [], "excluded": [],
    }  # fmt: skip


def _lock(session: Session, slots: Mapping[int, _Slot], now: datetime) -> None:
    """Locks known leads by id and writes on them what the book says of who they are."""
    if not slots:
        return
    query = select(Lead).where(col(Lead.id).in_(slots)).order_by(col(Lead.id)).with_for_update()
    leads = session.exec(query.execution_options(populate_existing=True)).all()
    if len(leads) < len(slots):
        raise _Raced
    giving = False
    for lead in leads:
        assert lead.id is not None
        slot = slots[lead.id]
        slot.lead = lead
        if (lead.email, lead.user_id) != slot.was:
            raise _Raced
        if lead.user_id is not None and slot.user_id is None:
            lead.user_id, lead.updated_at, giving = None, now, True
    if giving:
        session.flush()  # a user id is let go before another lead takes it
    for lead in leads:
        assert lead.id is not None
        slot = slots[lead.id]
        if (lead.email, lead.user_id) != (slot.email, slot.user_id):
            lead.email, lead.user_id, lead.updated_at = slot.email, slot.user_id, now
