"""Storing what leads did: once per message id, in each lead's order, scored, whole batches in one transaction.

The row is its own outbox: `routed_at` is empty until the router has taken it to the journeys that want it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import insert
from sqlmodel import Session, col, select

from mebae import scoring
from mebae.events import BY_SALES, BY_VERB, IDENTIFIED, REQUESTED
from mebae.store import suppressions, visitors
from mebae.store.companies import companies_for
from mebae.store.consents import BY_ITSELF, Given, basis_of, record_all
from mebae.store.leads import Found, Who, apply_traits, gather, rename, settle
from mebae.store.scoring import Touched, active_scoring, score_leads, stage_titles_of
from mebae.store.tables import Event, Lead, VisitorEvent
from mebae.store.traits import read_traits
from mebae.words import STAGE_TITLES

CREATED = BY_VERB["created"].name
CONTACTED = BY_VERB["contacted"].name
UNSUBSCRIBED = BY_VERB["unsubscribed"].name
UNSUBSCRIBED_TOPIC = BY_VERB["unsubscribed_topic"].name
RESUBSCRIBED = BY_VERB["resubscribed"].name
NOT_BY_THE_LEAD = frozenset(
    {IDENTIFIED, REQUESTED}
    | {BY_VERB[verb].name for verb in ("created", "imported", "stage_reached", "qualified", "joined", "contacted", *BY_SALES)}
    | {BY_VERB[verb].name for verb in ("bounced", "complained", "auto_replied")}
)  # fmt: skip
"""Events that tell of a lead without its having done anything."""

OUR_MESSAGE_IDS = (
    "lead-created:", "lead-changed:", "lead-imported:", "step:", "command:", "stage-reached:", "qualified:", "segment-joined:",
    "unsubscribed:", "resubscribed:", "email-bounced:", "email-complained:", "email-auto-replied:",
    "handover:", "call:",
    "mail-action:",
)  # fmt: skip
"""How our own message ids begin. Nobody else's may, or they could take the place of ours."""

STARTS_JOURNEYS_FOR = timedelta(days=1)
"""How old what a visitor did may be to start or wake journeys when it says who it is. Older events count for the score only."""

_ROUNDS = 5
"""A stage reached is an event too, and a rule may count it: so often, at most, is a lead scored anew for that."""


class ConsentGiven(BaseModel):
    """That the lead agreed to get mail, as an event brought it."""

    model_config = ConfigDict(frozen=True)

    how: str
    """`form` is its own word, and lifts an unsubscribe of before; everything else is what somebody says of it."""
    source: str = ""
    wording: str = ""
    basis: str = ""
    """One of `mebae.mailing.BASES`; by `how` if it is left out."""
    given_at: AwareDatetime | None = None
    """When, if not when the event occurred."""
    withdrawn: bool = False
    """The lead takes back what it agreed to: it wants no marketing mail."""


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
    previous_id: str | None = None
    """Of an alias: the anonymous id or user id that this lead was known by."""
    renames: bool = True
    """Whether the alias may give a lead another name. Of a public sender it joins visitors and no more."""
    source: str | None = None
    """Where the lead came from: a campaign's source, or the page that led here."""
    campaign: str | None = None
    consent: ConsentGiven | None = None


class Stored(BaseModel):
    """What became of a batch."""

    new: int = 0
    duplicates: int = 0
    """Stored before, or twice in the batch: nothing happened."""
    aside: int = 0
    """Of the new ones: kept for a visitor who is not known yet."""


def store_events(session: Session, incoming: Sequence[Incoming], now: datetime) -> Stored:
    """Stores events in their order, makes the leads that they are about, and scores them. Run it with `Database.write`.

    The same message id is stored once, whoever sends it, whenever and on however many connections. A lead that is made
    gets a `Lead Created` first. An identify always leaves its row, or a late repetition could undo a newer one; if it changed
    nothing the row counts as routed and wakes nobody. What a visitor does who is not known yet is kept until it is.
    """
    return settle(session, lambda: _store_in_turn(session, incoming, now))


def _store_in_turn(session: Session, incoming: Sequence[Incoming], now: datetime) -> Stored:
    """An alias may speak of a lead that an event before it makes: then those before it are stored first."""
    cuts: list[int] = []
    named: set[str | None] = set()
    if any(one.previous_id is not None for one in incoming):
        for at, one in enumerate(incoming):
            names = {one.who.user_id, one.who.email, one.previous_id} - {None}
            if one.previous_id is not None and not names.isdisjoint(named):
                cuts, named = [*cuts, at], set()
            named |= names
    parts = [
        _store(session, incoming[start:end], now)
        for start, end in zip([0, *cuts], [*cuts, len(incoming)], strict=True)
    ]  # fmt: skip
    return Stored(
        new=sum(part.new for part in parts),
        duplicates=sum(part.duplicates for part in parts),
        aside=sum(part.aside for part in parts),
    )


def _store(session: Session, incoming: Sequence[Incoming], now: datetime) -> Stored:
    first: dict[str, Incoming] = {}
    for one in incoming:
        first.setdefault(one.message_id, one)
    # Before any lead is made: a repeated event must not bring back a lead that was erased meanwhile.
    known = stored_before(session, first)
    fresh = [one for message_id, one in first.items() if message_id not in known]
    if not fresh:
        return Stored(duplicates=len(incoming))
    renamed = {
        one.message_id: rename(session, one.previous_id, one.who, now)
        for one in fresh
        if one.previous_id is not None and one.renames
    }
    seen = visitors.recognise(session, fresh)
    stored = Stored(aside=visitors.keep(session, seen.strangers, now))
    named = [(one, who) for one, who in zip(fresh, seen.whos, strict=True) if who is not None]
    stored.new = stored.aside
    if named:
        stored.new += _store_named(session, named, seen, renamed, now)
    stored.duplicates = len(incoming) - stored.new
    return stored


def _store_named(
    session: Session,
    named: Sequence[tuple[Incoming, Who]],
    seen: visitors.Seen,
    renamed: Mapping[str, dict[str, Any]],
    now: datetime,
) -> int:
    """`renamed`: what aliases have written on leads, by message id."""
    found = gather(session, [who for _, who in named], now)
    # Again under the locks, where the same event on another connection has either been stored or waits for us.
    known = stored_before(session, [one.message_id for one, _ in named])
    log, new = EventLog(now), 0
    log.scores, log.stages = active_scoring(session) is not None, stage_titles_of(session)
    for (one, who), its in zip(named, found, strict=True):
        if one.message_id in known:
            continue
        new += 1
        its.learned |= renamed.get(one.message_id, {})
        log.greet(its)
        for anonymous_id in (who.anonymous_id, one.previous_id):
            seen.leads[anonymous_id] = its.lead
            if anonymous_id in seen.joining:
                _join(log, its.lead, seen.joining.pop(anonymous_id), now)
        _store_one(log, one, its, now)
    visitors.link(session, seen, now)
    companies_for(session, log.to_place, now)
    log.write(session)
    return new


def _join(log: EventLog, lead: Lead, kept: Sequence[VisitorEvent], now: datetime) -> None:
    """Gives a lead what it did before it said who it is, in the order in which it was received."""
    for event in kept:
        _came_from(log, lead, event.source, event.campaign)
        if event.traits:
            reading = read_traits(event.traits, stages=log.stages)
            reading.columns = {name: value for name, value in reading.columns.items() if getattr(lead, name) is None}
            reading.attributes = {
                name: value for name, value in reading.attributes.items() if name not in lead.attributes
            }
            if changed := apply_traits(lead, reading, now):
                log.changed(lead, changed)
        silent = event.name == IDENTIFIED or event.occurred_at < now - STARTS_JOURNEYS_FOR
        properties = change({}) if event.name == IDENTIFIED else event.properties
        log.add(lead, event.message_id, event.name, properties, event.occurred_at, event.received_at, routed=silent)


def _store_one(log: EventLog, one: Incoming, its: Found, now: datetime) -> None:
    lead = its.lead
    _came_from(log, lead, one.source, one.campaign)
    if one.consent is not None and one.consent.withdrawn:
        log.opt_out(lead)
        log.add(lead, f"unsubscribed:{one.message_id}", UNSUBSCRIBED, {"how": one.consent.how}, one.occurred_at, one.received_at)
    elif one.consent is not None:
        log.consent(lead, one.consent, one.occurred_at, one.message_id)
    if one.name == IDENTIFIED:
        reading = read_traits(one.traits, stages=log.stages)
        if log.scores and "score" in reading.columns:
            # The score is ours to reckon. What another system says of it is kept as an attribute of its own.
            reading.attributes["their_score"] = reading.columns.pop("score")
        changed = its.learned | apply_traits(lead, reading, now)
        log.add(lead, one.message_id, IDENTIFIED, change(changed), one.occurred_at, one.received_at, routed=not changed)
        if changed:
            log.touch(lead, changed)
        return
    if its.learned:
        log.changed(lead, its.learned)
    if one.name == UNSUBSCRIBED:  # the user's own systems have a page for it too
        log.opt_out(lead)
    elif one.name == UNSUBSCRIBED_TOPIC and isinstance(topic := one.properties.get("topic"), str):
        log.opt_out(lead, topic)
    log.add(lead, one.message_id, one.name, one.properties, one.occurred_at, one.received_at)


def _came_from(log: EventLog, lead: Lead, source: str | None, campaign: str | None) -> None:
    """The first that is known stays, the last is the newest. Rules may ask for them."""
    if source is None and campaign is None:
        return
    if lead.first_source is None and lead.first_campaign is None:
        lead.first_source, lead.first_campaign = source, campaign
    elif (lead.last_source, lead.last_campaign) == (source, campaign):
        return
    lead.last_source, lead.last_campaign = source, campaign
    log.touch(lead)


def change(changed: dict[str, Any]) -> dict[str, Any]:
    """The properties of a `Lead Identified`: the names of what changed, and the new values."""
    return {"changed": sorted(changed), "values": changed}


def stored_before(session: Session, message_ids: Collection[str]) -> set[str]:
    """Which of these message ids are stored, for a lead or for a visitor."""
    known = set(session.exec(select(Event.message_id).where(col(Event.message_id).in_(message_ids))))
    if len(known) < len(message_ids):
        known.update(session.exec(select(VisitorEvent.message_id).where(col(VisitorEvent.message_id).in_(message_ids))))
    return known


class EventLog:
    """Gives events their places in their leads' orders, scores the leads, and writes it all. Leads must be locked."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._rows: list[dict[str, Any]] = []
        self._consents: list[Given] = []
        self._no_longer: list[tuple[Lead, str | None]] = []
        self._again: list[tuple[Lead, datetime]] = []
        self._touched: dict[int, Touched] = {}
        self.scores = False
        """Whether there is a model, so that scores are reckoned and not told."""
        self.stages: Mapping[str, str] = STAGE_TITLES
        self.to_place: list[Lead] = []
        """Leads whose company is to be found: made here, or with another address or company."""

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
        occurred_at = min(occurred_at or received_at, received_at)
        lead.last_seq += 1
        row = {
            "lead_id": lead.id,
            "seq": lead.last_seq,
            "message_id": message_id,
            "name": name,
            "properties": properties,
            "occurred_at": occurred_at,
            "received_at": received_at,
            "routed_at": received_at if routed else None,
        }
        self._rows.append(row)
        event = scoring.Event(message_id, name, properties, occurred_at)
        self._touch(lead).events.append(event)
        if name == CONTACTED:
            lead.contacted_at = max(lead.contacted_at or occurred_at, occurred_at)
        elif name not in NOT_BY_THE_LEAD and scoring.is_human(event):
            lead.active_at = max(lead.active_at or occurred_at, occurred_at)

    def touch(self, lead: Lead, changed: Collection[str] = ()) -> None:
        """Has a lead scored anew although no event came: it has changed, or it is time."""
        self._touch(lead).changed = True
        if "email" in changed or "company" in changed:
            self.to_place.append(lead)

    def greet(self, its: Found) -> None:
        """`Lead Created`, if this lead was made in this transaction and has no event yet."""
        if its.created and its.lead.last_seq == 0:
            self.to_place.append(its.lead)
            self.add(its.lead, f"lead-created:{its.lead.id}", CREATED, {})

    def changed(self, lead: Lead, changed: dict[str, Any]) -> None:
        """`Lead Identified` for a change that no message of a client names."""
        self.add(lead, f"lead-changed:{lead.id}:{lead.last_seq + 1}", IDENTIFIED, change(changed))
        self.touch(lead, changed)

    def consent(self, lead: Lead, given: ConsentGiven, at: datetime, cause: str, *, lifts: bool | None = None) -> None:
        """A consent that an event brought. One that the lead itself gave, later than it unsubscribed, lifts that.

        `lifts`: whether it is such a one, where somebody says so; else by how it was given.
        """
        assert lead.id is not None
        given_at = min(given.given_at or at, self._now)
        one = Given(lead.id, given_at, given.how, given.source, given.wording, cause, given.basis or basis_of(given.how))
        self._consents.append(one)
        if one.basis != "consent" or not (given.how == BY_ITSELF if lifts is None else lifts):
            return
        self._again.append((lead, given_at))
        if lead.opted_out_at is not None and given_at > lead.opted_out_at:
            lead.opted_out_at, lead.updated_at = None, self._now
            said = {"how": given.how, "source": given.source}
            self.add(lead, f"resubscribed:{lead.id}:{lead.last_seq + 1}", RESUBSCRIBED, said)

    def opt_out(self, lead: Lead, topic: str | None = None) -> None:
        """The lead wants no more marketing mail, or none of one topic. The event that says so is added by the caller."""
        if topic is None:
            suppressions.refuse(lead, self._now)
        self._no_longer.append((lead, topic))

    def write(self, session: Session) -> None:
        """Writes leads and events. `IntegrityError` if another connection stored one of the message ids: see `leads.settle`."""
        scored: defaultdict[int, list[scoring.EventLike]] = defaultdict(list)
        for _ in range(_ROUNDS):
            touched, self._touched = list(self._touched.values()), {}
            if not touched:
                break
            for one in touched:
                assert one.lead.id is not None
                one.unstored = list(scored[one.lead.id])
                scored[one.lead.id] += one.events
            for lead, name, properties in score_leads(session, touched, self._now).told:
                prefix = name.lower().replace(" ", "-")
                self.add(lead, f"{prefix}:{lead.id}:{lead.last_seq + 1}", name, properties)
        session.flush()
        if self._rows:
            session.execute(insert(Event), self._rows)
        record_all(session, self._consents)
        for lead, given_at in self._again:
            if lead.email is not None:
                suppressions.lift_for_consent(session, lead.email, given_at)
        for lead, topic in self._no_longer:
            assert lead.id is not None
            if topic is not None:
                suppressions.choose_topic(session, lead.id, topic, wanted=False, now=self._now)
            elif lead.email is not None:
                suppressions.unsubscribe_address(session, lead.email, self._now)

    def _touch(self, lead: Lead) -> Touched:
        assert lead.id is not None
        return self._touched.setdefault(lead.id, Touched(lead))
