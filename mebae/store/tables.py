"""The tables. Times are aware UTC, of the world clock. What a lead said or is stands only here, never in Temporal.

Those of mail are in `mail_tables`, those of sales in `sales_tables`, those of CRM in `crm_tables`; all can be imported from here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, LargeBinary, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from mebae.store.crm_tables import CrmCursor as CrmCursor
from mebae.store.crm_tables import CrmLink as CrmLink
from mebae.store.crm_tables import CrmMessage as CrmMessage
from mebae.store.crm_tables import PublishedCrm as PublishedCrm
from mebae.store.mail_tables import Broadcast as Broadcast
from mebae.store.mail_tables import Delivery as Delivery
from mebae.store.mail_tables import GateRow as GateRow
from mebae.store.mail_tables import Link as Link
from mebae.store.mail_tables import MailAction as MailAction
from mebae.store.mail_tables import MailReport as MailReport
from mebae.store.mail_tables import MailText as MailText
from mebae.store.mail_tables import PublishedBroadcast as PublishedBroadcast
from mebae.store.mail_tables import PublishedMail as PublishedMail
from mebae.store.mail_tables import Suppression as Suppression
from mebae.store.mail_tables import TopicChoice as TopicChoice
from mebae.store.mail_tables import Workspace as Workspace
from mebae.store.sales_tables import Call as Call
from mebae.store.sales_tables import Handover as Handover
from mebae.store.sales_tables import HandoverEvent as HandoverEvent
from mebae.store.sales_tables import HandoverJoin as HandoverJoin
from mebae.store.sales_tables import PublishedSales as PublishedSales
from mebae.store.sales_tables import Telling as Telling
from mebae.store.types import BigId as BigId
from mebae.store.types import Json as Json
from mebae.store.types import UtcDateTime as UtcDateTime
from mebae.store.types import json_column as _json
from mebae.store.types import time_column as _time


class Lead(SQLModel, table=True):
    """A person with an address, attributes and consent."""

    __tablename__ = "leads"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    email: str | None = Field(default=None, unique=True, index=True)
    """Normalised (lower case, stripped); as the person wrote it otherwise."""
    user_id: str | None = Field(default=None, unique=True, index=True)
    """The id that the user's own systems call this lead by."""
    name: str | None = None
    company: str | None = None
    title: str | None = None
    industry: str | None = None
    company_size: int | None = None
    language: str = "ja"
    time_zone: str | None = None
    company_id: int | None = Field(default=None, foreign_key="companies.id", sa_type=BigId, index=True)
    score: int = 0
    """As of `scored_at`, under the model of `scoring_version`. What one lead has right now: `LeadFacts`."""
    stage: str = "awareness"
    qualification: str = "none"
    rank: str | None = None
    """What the title means, by the mapping table."""
    industry_group: str | None = None
    topics: list[str] = _json(list)
    """What it is interested in, by what it read."""
    excluded: list[str] = _json(list)
    """The exclusions of the scoring model that hold."""
    tally: str | None = Field(default=None, sa_column=Column(Text))
    """What scoring keeps of the events (`mebae.scoring.Tally`)."""
    scoring_version: str | None = None
    scored_at: datetime | None = _time()
    score_changes_at: datetime | None = _time(index=True)
    """When time alone changes score, stage, topics or qualification next; the refreshing sweep takes it up."""
    active_at: datetime | None = _time()
    """When it last did something that a person does; when it became known, if it never did."""
    contacted_at: datetime | None = _time()
    """When sales last spoke with it."""
    first_source: str | None = None
    first_campaign: str | None = None
    last_source: str | None = None
    last_campaign: str | None = None
    tags: list[str] = _json(list)
    attributes: dict[str, Any] = _json(dict)
    """Everything else that identify or an import brought."""
    nurtured_since: datetime | None = _time()
    """When it last came back from sales: only what it did since then makes it an MQL again."""
    rests_until: datetime | None = _time()
    """Not before this, however much it does: the rest of the reason for which it came back."""
    opted_out_at: datetime | None = _time()
    soft_bounces: int = 0
    """Mails in a row that came back for now (4.x.x)."""
    erased_at: datetime | None = _time()
    last_seq: int = 0
    """How many events this lead has: the next event's place in its order. Given out under the lead's lock."""
    created_at: datetime = _time(nullable=False)
    updated_at: datetime = _time(nullable=False)


class Event(SQLModel, table=True):
    """One thing that a lead did or that happened to it. The row is its own outbox: `routed_at`."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("lead_id", "seq"),
        Index("ix_events_unrouted", "id", sqlite_where=text("routed_at IS NULL"), postgresql_where=text("routed_at IS NULL")),
        Index("ix_events_lead_name", "lead_id", "name", "occurred_at"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    lead_id: int = Field(foreign_key="leads.id", sa_type=BigId)
    seq: int
    """The place in the lead's stored order, from 1."""
    message_id: str = Field(unique=True)
    name: str
    properties: dict[str, Any] = _json(dict)
    occurred_at: datetime = _time(nullable=False)
    received_at: datetime = _time(nullable=False)
    routed_at: datetime | None = _time()


class Company(SQLModel, table=True):
    """A firm. Leads of one firm belong together: by the domain of their addresses, else by the firm's name."""

    __tablename__ = "companies"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    name: str | None = None
    """As it was first written."""
    name_key: str | None = Field(default=None, index=True)
    """The name as it is compared: without 株式会社, spaces, width and case."""
    domain: str | None = Field(default=None, unique=True)
    """Of the addresses; None for a firm known by its name only."""
    owner: str | None = None
    """The sales person whose all leads of this firm are, by id."""
    created_at: datetime = _time(nullable=False)


class Consent(SQLModel, table=True):
    """That a lead agreed to get mail: who, when, how, and the words that it was shown (特定電子メール法, GDPR)."""

    __tablename__ = "consents"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    lead_id: int = Field(foreign_key="leads.id", sa_type=BigId, index=True)
    given_at: datetime = _time(nullable=False)
    how: str
    """`form`, `import`, `api`, `business-card` …"""
    source: str = ""
    """Which form, list or system."""
    wording: str = Field(default="", sa_column=Column(Text, nullable=False))
    cause: str = Field(unique=True)
    """The message id or row that brought it: once per cause."""
    basis: str = "consent"
    """`consent`, or the named exemption of 特定電子メール法 art. 3: `dealings`, `business-card`, `published-address`."""
    withdrawn_at: datetime | None = _time()


class Visitor(SQLModel, table=True):
    """A browser by its anonymous id, and the lead that it turned out to be."""

    __tablename__ = "visitors"

    anonymous_id: str = Field(primary_key=True)
    lead_id: int | None = Field(default=None, foreign_key="leads.id", sa_type=BigId, index=True)
    first_seen_at: datetime = _time(nullable=False)
    last_seen_at: datetime = _time(nullable=False, index=True)


class VisitorEvent(SQLModel, table=True):
    """What a visitor did who has not said who it is. Given to the lead when it does."""

    __tablename__ = "visitor_events"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    anonymous_id: str = Field(foreign_key="visitors.anonymous_id", index=True)
    message_id: str = Field(unique=True)
    name: str
    properties: dict[str, Any] = _json(dict)
    traits: dict[str, Any] = _json(dict)
    source: str | None = None
    campaign: str | None = None
    occurred_at: datetime = _time(nullable=False)
    received_at: datetime = _time(nullable=False)


class IntakeRow(SQLModel, table=True):
    """A request as it came, committed before it was answered; gone once its events are stored and scored."""

    __tablename__ = "intake"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    kind: str | None = None
    """`track`, `page` … for a single event; None for a batch."""
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """JSON, unpacked."""
    events: int
    """How many events it says to hold."""
    public: bool = False
    """Sent with a key that stands in web pages: anybody may have written it."""
    received_at: datetime = _time(nullable=False)
    """By the machine's clock."""


class Quarantined(SQLModel, table=True):
    """An event that could not be taken, kept with its reason, to be looked at and released. Holds personal data."""

    __tablename__ = "quarantine"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    cause: str = Field(unique=True)
    """The intake row and the place in it: once, however often it is tried."""
    kind: str | None = None
    public: bool = False
    """As the request's: released, it may say no more than before."""
    reason: str
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """The event's JSON, with the batch's `sentAt` and `context` put on it."""
    received_at: datetime = _time(nullable=False)
    quarantined_at: datetime = _time(nullable=False)
    released_at: datetime | None = _time()


class ScoringVersionRow(SQLModel, table=True):
    """A published scoring model with its mapping table, kept for ever: the ledger names it."""

    __tablename__ = "scoring_versions"

    version: str = Field(primary_key=True)
    model: str = Field(sa_column=Column(Text, nullable=False))
    mapping: str = Field(sa_column=Column(Text, nullable=False))
    published_at: datetime = _time(nullable=False)


class PublishedScoring(SQLModel, table=True):
    """One row: the model that scores, and the one that the files say; they differ until `mebae rescore` is run."""

    __tablename__ = "scoring"

    id: int = Field(default=1, primary_key=True)
    active: str = Field(foreign_key="scoring_versions.version")
    published: str = Field(foreign_key="scoring_versions.version")


class ScoreChange(SQLModel, table=True):
    """Why a score changed: points that a rule gave or took. Append-only. Decay is no change."""

    __tablename__ = "score_changes"
    __table_args__ = (Index("ix_score_changes_lead", "lead_id", "id"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    lead_id: int = Field(foreign_key="leads.id", sa_type=BigId)
    at: datetime = _time(nullable=False)
    rule: str
    message_id: str | None = None
    """The event that counts; None for what the lead is."""
    points: float
    version: str


class SegmentRow(SQLModel, table=True):
    """A published segment. `active` is false when it is gone from the files."""

    __tablename__ = "segments"

    segment: str = Field(primary_key=True)
    title: str = ""
    condition: str = Field(sa_column=Column(Text, nullable=False))
    """The condition's JSON."""
    active: bool = True
    swept_at: datetime | None = _time()


class SegmentMember(SQLModel, table=True):
    """A lead that is in a segment, as of the last sweep."""

    __tablename__ = "segment_members"

    segment: str = Field(primary_key=True)
    lead_id: int = Field(primary_key=True, foreign_key="leads.id", sa_type=BigId, index=True)
    since: datetime = _time(nullable=False)


class ScenarioVersion(SQLModel, table=True):
    """A published graph, kept for ever: journeys are pinned to it."""

    __tablename__ = "scenario_versions"

    version: str = Field(primary_key=True)
    scenario: str = Field(index=True)
    graph: str = Field(sa_column=Column(Text, nullable=False))
    published_at: datetime = _time(nullable=False)


class PublishedScenario(SQLModel, table=True):
    """Which version of a scenario new entries take. `active` is false when its file is gone."""

    __tablename__ = "scenarios"

    scenario: str = Field(primary_key=True)
    version: str = Field(foreign_key="scenario_versions.version")
    active: bool = True


class JourneyRow(SQLModel, table=True):
    """One entry of a lead into a scenario; also the refused ones, with their reason. `entry` is the entry number."""

    __tablename__ = "journeys"
    __table_args__ = (
        Index(
            "ux_journeys_open", "scenario", "lead_id", "key", unique=True,
            sqlite_where=text("status IN ('starting', 'running', 'resting')"),
            postgresql_where=text("status IN ('starting', 'running', 'resting')"),
        ),
        Index(
            "ix_journeys_starting", "starts_at", "entry",
            sqlite_where=text("status = 'starting'"), postgresql_where=text("status = 'starting'"),
        ),
        Index("ix_journeys_lead", "lead_id", "status"),
        Index("ix_journeys_starts", "scenario", "starts_at"),
    )  # fmt: skip

    entry: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    cause: str = Field(unique=True)
    """What made it: `event:<id>:<scenario>` or `command:<id>`. Once per cause."""
    scenario: str = Field(index=True)
    version: str
    lead_id: int = Field(foreign_key="leads.id", sa_type=BigId)
    key: str = ""
    entry_event_id: int | None = Field(default=None, foreign_key="events.id", sa_type=BigId)
    status: str
    reason: str | None = None
    """Why it was refused, or how it ended by exit."""
    outcome: str | None = None
    paused: bool = False
    turn: int = 0
    """The turn of the journey that wrote here last."""
    step: str | None = None
    """The step at which it rests (or last rested)."""
    waiting_for: str | None = None
    listening: list[dict[str, Any]] = _json(list)
    """What it listens for while it rests: each trigger's id, and after which place in the lead's order it counts."""
    deadline: datetime | None = _time()
    entered_at: datetime = _time(nullable=False)
    starts_at: datetime | None = _time()
    """The world's time before which it is not started: `starts_at_most` spreads entries over days."""
    started_at: datetime | None = _time()
    ended_at: datetime | None = _time()
    retry_at: datetime | None = _time()
    """Machine time before which the sender does not try to start it again."""


class Nudge(SQLModel, table=True):
    """A signal to be delivered: something that a resting journey listens for may have happened."""

    __tablename__ = "nudges"
    __table_args__ = (
        UniqueConstraint("entry", "trigger", "event_id"),
        Index("ix_nudges_unsent", "id", sqlite_where=text("sent_at IS NULL"), postgresql_where=text("sent_at IS NULL")),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    entry: int = Field(foreign_key="journeys.entry", sa_type=BigId)
    trigger: str
    event_id: int = Field(sa_type=BigId)
    created_at: datetime = _time(nullable=False)
    sent_at: datetime | None = _time()
    retry_at: datetime | None = _time()
    """Machine time before which the sender does not try again to give it."""
