"""What `mebae.reports.lead` tells, as data: the `--json` of `mebae lead show`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mebae.reports.explaining import Explained
from mebae.reports.mails_told import MailStanding


class Told(BaseModel):
    """A part of the report."""

    model_config = ConfigDict(frozen=True)


class Person(Told):
    id: int
    email: str | None
    user_id: str | None
    name: str | None
    company: str | None
    title: str | None
    rank: str | None
    industry: str | None
    industry_group: str | None
    company_size: int | None
    language: str
    time_zone: str | None
    tags: list[str]
    topics: list[str]
    attributes: dict[str, Any]
    created_at: datetime
    active_at: datetime | None
    contacted_at: datetime | None
    opted_out_at: datetime | None
    erased_at: datetime | None
    first_source: str | None
    first_campaign: str | None
    last_source: str | None
    last_campaign: str | None
    browsers: int
    """How many anonymous ids turned out to be this lead."""


class Colleague(Told):
    id: int
    called: str
    name: str | None
    title: str | None
    rank: str | None
    score: int
    stage: str
    qualification: str


class Firm(Told):
    id: int
    name: str | None
    domain: str | None
    colleagues: list[Colleague]
    others: int
    """Colleagues beyond those."""


class Counted(Told):
    """One event that a rule counts."""

    words: str
    at: datetime | None
    message_id: str
    points: float
    """Now, after decay."""
    worth: float
    """When it occurred."""


class Rule(Told):
    """What one rule of the model gives."""

    rule: str
    title: str
    """In English, where the rule has such a title; else its name."""
    kind: Literal["fit", "engagement"]
    points: float
    worth: float
    at_most: int | None
    """How many events of it can count (of each period); None: any number."""
    per: str | None
    half_life: str | None
    events: list[Counted]


class Threshold(Told):
    """A score that decides something, seen from where the lead is."""

    score: int
    of: str
    """Which stage or qualification asks for it."""
    is_reached: bool
    until: datetime | None
    """When the score falls below it if nothing happens; None if it is below now, or never falls."""
    then: str
    """What happens then."""


class ScoreTold(Told):
    """The score at this moment."""

    total: float
    score: int
    """Rounded down: what conditions compare."""
    fit: float
    engagement: float
    rules: list[Rule]
    changes_at: datetime | None
    """When time alone makes it another whole number."""
    thresholds: list[Threshold]
    version: str
    is_recounted: bool
    published: str | None
    """The model that the files say, if `mebae rescore` has yet to make it count."""


class Stage(Told):
    stage: str
    title: str
    by_rules: str | None
    """What the rules say at this moment, where the next refresh will move the lead."""


class Move(Told):
    at: datetime
    kind: Literal["stage", "qualification"]
    to: str
    was: str | None
    score: int | None


class Ripeness(Told):
    """How near the next qualification is."""

    to: str
    holds: bool
    missing: str
    of: Explained


class Membership(Told):
    segment: str
    title: str
    since: datetime


class JourneyTold(Told):
    entry: int
    workflow_id: str
    scenario: str
    title: str
    key: str
    status: str
    paused: bool
    step: str | None
    waiting_for: str | None
    until: datetime | None
    starts_at: datetime | None
    entered_at: datetime
    ended_at: datetime | None
    outcome: str | None
    reason: str | None
    reason_words: str | None


class MailTold(Told):
    mail: str
    kind: str
    scenario: str
    """Or the broadcast."""
    step: str
    status: str
    reason: str | None
    language: str | None
    at: datetime | None
    next_at: datetime | None
    opened_at: datetime | None
    """The first time that a person opened it, as far as one can tell."""
    clicked_at: datetime | None
    bounced_at: datetime | None


class EventTold(Told):
    seq: int
    name: str
    words: str
    properties: dict[str, Any]
    occurred_at: datetime
    received_at: datetime
    is_routed: bool
    message_id: str


class LedgerLine(Told):
    at: datetime
    rule: str
    points: float
    event: str | None
    """In words; None for what the lead is."""
    message_id: str | None
    version: str


class WithSales(Told):
    """A hand-over of the lead, the newest."""

    id: int
    status: str
    owner: str
    opened_at: datetime
    closed_at: datetime | None
    reason: str | None
    due_at: datetime | None


class LeadReport(Told):
    now: datetime
    person: Person
    firm: Firm | None
    stage: Stage
    qualification: str
    score: ScoreTold | None
    row_score: int
    """What the row says, and all there is without a scoring model."""
    moves: list[Move]
    ripeness: Ripeness | None
    with_sales: WithSales | None
    excluded: list[str]
    mail: MailStanding
    """Whether it may be written to, on what ground, how often and when."""
    segments: list[Membership]
    journeys: list[JourneyTold]
    mails: list[MailTold]
    events: list[EventTold]
    events_in_all: int
    ledger: list[LedgerLine] | None
