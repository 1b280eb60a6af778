"""The tables of sales: hand-overs with all that happened to them, calls, and what is still to be told to the outside."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Text, text
from sqlmodel import Field, SQLModel

from mebae.store.types import BigId
from mebae.store.types import json_column as _json
from mebae.store.types import time_column as _time

UNDER_WAY = "status IN ('open', 'accepted', 'sql', 'opportunity')"


class PublishedSales(SQLModel, table=True):
    """One row: what `scenarios/sales.py` says, for worker, server and commands alike (`mebae.sales.SalesRules`)."""

    __tablename__ = "sales"

    id: int = Field(default=1, primary_key=True)
    rules: str = Field(sa_column=Column(Text, nullable=False))
    """Their JSON. Secrets are not in it: only the names of the variables that hold them."""
    published_at: datetime = _time(nullable=False)


class Handover(SQLModel, table=True):
    """A ripe lead given to sales. One under way per lead; where it stands by `mebae.handover`."""

    __tablename__ = "handovers"
    __table_args__ = (
        Index("ux_handovers_under_way", "lead_id", unique=True, sqlite_where=text(UNDER_WAY), postgresql_where=text(UNDER_WAY)),
        Index("ix_handovers_status", "status", "opened_at"),
        Index("ix_handovers_owner", "owner", "status"),
        Index("ix_handovers_lead", "lead_id", "id"),
        Index("ix_handovers_company", "company_id", "id"),
        Index("ix_handovers_untold", "id", sqlite_where=text("told < version"), postgresql_where=text("told < version")),
    )  # fmt: skip

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    cause: str = Field(unique=True)
    """What opened it: `event:<id>` (of the MQL), `step:<entry>:<step>:<visit>`, `command:<id>`. Once per cause."""
    lead_id: int = Field(foreign_key="leads.id", sa_type=BigId)
    company_id: int | None = Field(default=None, foreign_key="companies.id", sa_type=BigId)
    status: str
    version: int = 1
    """Raised by every move: a button knows by it whether it is still about what its reader saw."""
    owner: str
    """The id of the sales person."""
    owner_since: int = 1
    """The version since which it is this one's."""
    why: str = Field(default="", sa_column=Column(Text, nullable=False))
    """What the scenario's author wrote."""
    entry: int | None = Field(default=None, foreign_key="journeys.entry", sa_type=BigId)
    """The journey that opened it."""
    scope: str = ""
    """The scenario of that journey."""
    was: str = "none"
    """What the lead was before it was opened: a customer whom sales hands back is a customer still."""
    score: int = 0
    reasons: list[dict[str, Any]] = _json(list)
    """Which rules had given how many points when it was opened."""
    opened_at: datetime = _time(nullable=False)
    due_at: datetime | None = _time()
    """When its clock next does something: a reminder, an escalation, the expiry. None: no clock runs."""
    due: str | None = None
    """What it then does."""
    clock_since: datetime | None = _time()
    """From when the clock that runs counts: the opening, a passing on, the acceptance."""
    accepted_at: datetime | None = _time()
    judged_at: datetime | None = _time()
    closed_at: datetime | None = _time()
    reminders: int = 0
    escalations: int = 0
    reason: str | None = None
    """Why it was rejected, returned or lost, as a code of the rules."""
    note: str = Field(default="", sa_column=Column(Text, nullable=False))
    """What sales said with it. Personal data: wiped on erasure."""
    amount: int | None = Field(default=None, sa_type=BigId)
    """Of a deal, in whole units of the currency."""
    known_as: dict[str, Any] = _json(dict)
    """What other systems call it, by their name."""
    told: int = 0
    """The version that its workflow was last told of. Behind `version`: the workflow is to be started or nudged."""
    tell_at: datetime | None = _time()
    """Machine time before which nobody tries again to tell it."""


class HandoverEvent(SQLModel, table=True):
    """One thing that happened to a hand-over: who, when, how. Append-only."""

    __tablename__ = "handover_events"
    __table_args__ = (Index("ix_handover_events_handover", "handover_id", "id"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    handover_id: int = Field(foreign_key="handovers.id", sa_type=BigId)
    move: str
    """As `mebae.handover.Move`, or `joined`, `reminded`, `escalated`."""
    status: str
    """Where it stood afterwards."""
    version: int
    by: str
    """A sales person's id, `marketing`, `clock`, or the system that said it. No address."""
    how: str
    """`journey`, `rule`, `button`, `api`, `command`, `csv`, `crm`, `clock`."""
    reason: str | None = None
    note: str = Field(default="", sa_column=Column(Text, nullable=False))
    """Personal data: wiped on erasure."""
    amount: int | None = Field(default=None, sa_type=BigId)
    owner: str
    """Whose it was afterwards."""
    cause: str | None = Field(default=None, unique=True)
    """What an outside system calls the message that said so: once per message."""
    seq: int
    """The place of its event in the lead's order: what journeys that wait for it have seen."""
    at: datetime = _time(nullable=False)


class HandoverJoin(SQLModel, table=True):
    """A journey's step that gave its lead to sales, and the hand-over that it opened or joined."""

    __tablename__ = "handover_joins"

    entry: int = Field(primary_key=True, foreign_key="journeys.entry", sa_type=BigId)
    step: str = Field(primary_key=True)
    visit: int = Field(primary_key=True)
    handover_id: int = Field(foreign_key="handovers.id", sa_type=BigId, index=True)
    after: int = 0
    """Outcomes up to this place in the lead's order have opened a path of this journey before."""


class Call(SQLModel, table=True):
    """A telephone call for inside sales to make."""

    __tablename__ = "calls"
    __table_args__ = (
        Index("ix_calls_lead", "lead_id", "id"),
        Index("ix_calls_open", "due_at", sqlite_where=text("status = 'open'"), postgresql_where=text("status = 'open'")),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    cause: str = Field(unique=True)
    """`step:<entry>:<step>:<visit>` or `command:<id>`."""
    lead_id: int = Field(foreign_key="leads.id", sa_type=BigId)
    company_id: int | None = Field(default=None, foreign_key="companies.id", sa_type=BigId)
    entry: int | None = Field(default=None, foreign_key="journeys.entry", sa_type=BigId)
    scope: str = ""
    owner: str
    status: str = "open"
    """`open`, `done`, or `expired`: nobody made it within the step's limit."""
    why: str = Field(default="", sa_column=Column(Text, nullable=False))
    method: str = "phone"
    script: str = Field(default="", sa_column=Column(Text, nullable=False))
    """What to say and ask."""
    opened_at: datetime = _time(nullable=False)
    due_at: datetime = _time(nullable=False)
    outcome: str | None = None
    """`appointment`, `talked` or `no_answer`."""
    note: str = Field(default="", sa_column=Column(Text, nullable=False))
    """Personal data: wiped on erasure."""
    by: str | None = None
    how: str | None = None
    seq: int | None = None
    """The place of the outcome's event in the lead's order."""
    done_at: datetime | None = _time()


class Telling(SQLModel, table=True):
    """Something that the outside must be told, written with what it tells of, and told until it has been heard.

    The message itself is made when it is told, from the rows that it is about: nothing personal is kept twice.
    """

    __tablename__ = "tellings"
    __table_args__ = (
        Index("ix_tellings_waiting", "id", sqlite_where=text("status = 'waiting'"), postgresql_where=text("status = 'waiting'")),
        Index("ix_tellings_lane", "lane", "id"),
        Index("ix_tellings_handover", "handover_id"),
        Index("ix_tellings_lead", "lead_id"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    key: str = Field(unique=True)
    """The idempotency key: the same at every attempt, and never given to another message."""
    channel: str
    """`mail`, `slack`, or the name of an adapter."""
    target: str
    """A sales person's id, or what the adapter names it by. No address, no URL."""
    lane: str
    """Messages of one lane are told in their order: an activity never comes before its lead."""
    what: str
    """`opened`, `reminder`, `escalation`, `passed`, `call`, `digest`, or a verb of the adapter."""
    lead_id: int | None = Field(default=None, foreign_key="leads.id", sa_type=BigId)
    handover_id: int | None = Field(default=None, foreign_key="handovers.id", sa_type=BigId)
    call_id: int | None = Field(default=None, foreign_key="calls.id", sa_type=BigId)
    version: int = 1
    """Of the hand-over, when it was written."""
    details: dict[str, Any] = _json(dict)
    """What an adapter needs beside the rows. No personal data."""
    status: str = "waiting"
    """`waiting`, `told`, `refused` (never again), `dropped` (nobody needs to know any more)."""
    attempts: int = 0
    next_at: datetime | None = _time()
    """Machine time before which it is not tried again."""
    reason: str | None = None
    """Why it was not told yet, as a code."""
    raw: str | None = None
    """What the other side really said. May be personal: wiped on erasure, never in logs or Temporal."""
    created_at: datetime = _time(nullable=False)
    told_at: datetime | None = _time()
