"""The tables of mail: texts, deliveries, what the gate said, what came back, and broadcasts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from mebae.store.types import BigId
from mebae.store.types import json_column as _json
from mebae.store.types import time_column as _time


class MailText(SQLModel, table=True):
    """The source of a mail or layout by content hash, kept for ever: the delivery row records the hash."""

    __tablename__ = "mail_texts"

    hash: str = Field(primary_key=True)
    source: str = Field(sa_column=Column(Text, nullable=False))
    published_at: datetime = _time(nullable=False)


class PublishedMail(SQLModel, table=True):
    """Which text a mail id has now in a language; the last published one stays when the file is gone.

    `scope` is the scenario's id, or `layouts`.
    """

    __tablename__ = "mails"

    scope: str = Field(primary_key=True)
    mail: str = Field(primary_key=True)
    language: str = Field(primary_key=True)
    hash: str = Field(foreign_key="mail_texts.hash")


class Delivery(SQLModel, table=True):
    """One mail to one lead (or to sales about one): the ledger of DESIGN §8.

    One row per (entry, step, visit) of a journey, or per (broadcast, lead).
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("entry", "step", "visit"),
        UniqueConstraint("broadcast_id", "lead_id"),
        Index("ix_deliveries_lead", "lead_id", "sent_at"),
        Index("ix_deliveries_sent", "sent_at"),
        Index(
            "ix_deliveries_of_broadcast", "broadcast_id", "status", "next_at",
            sqlite_where=text("broadcast_id IS NOT NULL"), postgresql_where=text("broadcast_id IS NOT NULL"),
        ),
        Index(
            "ix_deliveries_bounced", "bounced_at",
            sqlite_where=text("bounced_at IS NOT NULL"), postgresql_where=text("bounced_at IS NOT NULL"),
        ),
        Index(
            "ix_deliveries_unknown", "id",
            sqlite_where=text("status = 'unknown'"), postgresql_where=text("status = 'unknown'"),
        ),
    )  # fmt: skip

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    entry: int | None = Field(default=None, foreign_key="journeys.entry", sa_type=BigId)
    """Of a journey; None for a broadcast."""
    step: str = ""
    visit: int = 1
    broadcast_id: int | None = Field(default=None, foreign_key="broadcasts.id", sa_type=BigId)
    variant: str | None = None
    """Of a broadcast's A/B test."""
    lead_id: int = Field(foreign_key="leads.id", sa_type=BigId)
    kind: str
    scope: str = ""
    """The scenario or broadcast that the mail is of."""
    mail: str
    piece: str | None = None
    """Of the content catalogue, if the mail is about one."""
    topic: str = ""
    language: str | None = None
    text_hash: str | None = None
    message_id: str = Field(unique=True)
    status: str
    attempt: int = 0
    failures: int = 0
    """How many attempts the mail server turned away for now; the back-off grows with it."""
    mark: int = 0
    """The lead's last event when it was claimed: what comes after may be an answer to this mail."""
    forms: list[str] = _json(list)
    reason: str | None = None
    raw: str | None = None
    """What the server really said. Personal data: wiped on erasure, never in logs or Temporal."""
    first_claimed_at: datetime | None = _time()
    claimed_at: datetime | None = _time()
    data_at: datetime | None = _time()
    sent_at: datetime | None = _time()
    next_at: datetime | None = _time()
    bounced_at: datetime | None = _time()
    bounce: str | None = None
    """`hard` or `soft`; the report itself is in `mail_reports`."""
    complained_at: datetime | None = _time()
    opened_at: datetime | None = _time()
    """The first time that a person opened it, as far as one can tell."""
    clicked_at: datetime | None = _time()
    """The first click of a person."""


class GateRow(SQLModel, table=True):
    """One answer of the gate. Append-only: why did this lead (not) get this mail?"""

    __tablename__ = "gate_answers"
    __table_args__ = (Index("ix_gate_lead", "lead_id", "asked_at"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    lead_id: int = Field(sa_type=BigId)
    entry: int | None = Field(default=None, sa_type=BigId)
    step: str = ""
    visit: int = 1
    broadcast_id: int | None = Field(default=None, sa_type=BigId)
    delivery_id: int | None = Field(default=None, sa_type=BigId)
    scope: str = ""
    mail: str = ""
    attempt: int
    moment: str
    """`claim` or `data`."""
    answer: str
    reason: str | None = None
    until: datetime | None = _time()
    asked_at: datetime = _time(nullable=False)


class Link(SQLModel, table=True):
    """Where a tracked link leads. The redirect looks it up here, and never reads a target from an address (no open redirect)."""

    __tablename__ = "links"
    __table_args__ = (
        Index(
            "ix_links_delivery", "delivery_id",
            sqlite_where=text("delivery_id IS NOT NULL"), postgresql_where=text("delivery_id IS NOT NULL"),
        ),
    )  # fmt: skip

    id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    """Of the address itself, or of the delivery and the address: the first 63 bits of its SHA-256."""
    url: str = Field(sa_column=Column(Text, nullable=False))
    delivery_id: int | None = Field(default=None, sa_type=BigId)
    """Of a link that holds values of its lead: it is in this mail alone. Empty after an erasure."""


class MailAction(SQLModel, table=True):
    """An open or click as it came in. Judged a moment later, when it is known what else the same client did, and then an event."""

    __tablename__ = "mail_actions"
    __table_args__ = (
        Index("ix_mail_actions_unjudged", "id", sqlite_where=text("judged_at IS NULL"), postgresql_where=text("judged_at IS NULL")),
        Index("ix_mail_actions_client", "client", "at"),
        Index("ix_mail_actions_delivery", "delivery_id", "at"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    delivery_id: int = Field(foreign_key="deliveries.id", sa_type=BigId)
    kind: str
    """`open`, `click`, or `trap`: the link that no person sees."""
    link_id: int | None = Field(default=None, sa_column=Column(BigInteger))
    method: str = "GET"
    client: str
    """A keyed hash of address and program: tells clients apart, and not who they are."""
    agent: str = ""
    """The kind of program by its own words: `browser`, `scanner`, `proxy`, `none`."""
    at: datetime = _time(nullable=False)
    """By the world clock, on receipt."""
    judged_at: datetime | None = _time()
    verdict: str | None = None
    """`human`, `scanner` or `proxy`."""
    why: str | None = None
    """The rule that said so, as a code."""


class MailReport(SQLModel, table=True):
    """What came back about a mail: a bounce, a delay, a complaint, an unsubscribe by mail, an automatic reply."""

    __tablename__ = "mail_reports"
    __table_args__ = (Index("ix_mail_reports_kind", "kind", "at"), Index("ix_mail_reports_delivery", "delivery_id", "at"))

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    cause: str = Field(unique=True)
    """The report's own Message-ID, or the hash of its bytes: once, however often it is read."""
    delivery_id: int | None = Field(default=None, foreign_key="deliveries.id", sa_type=BigId)
    lead_id: int | None = Field(default=None, foreign_key="leads.id", sa_type=BigId, index=True)
    kind: str
    status: str | None = None
    """The enhanced status code (RFC 3463), such as 5.1.1."""
    reason: str | None = None
    """One normalised word."""
    raw: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    """The report as it came. Personal data: wiped on erasure."""
    at: datetime = _time(nullable=False)


class Suppression(SQLModel, table=True):
    """An address that no mail goes to, as a hash: it outlives the lead (erasure), and an import does not bring it back."""

    __tablename__ = "suppressions"

    hash: str = Field(primary_key=True)
    """See `mebae.store.suppressions.address_hash`."""
    reason: str
    """`unsubscribed`, `hard-bounce`, `soft-bounces`, `complaint`, `erased`, `by-hand` or `imported`."""
    at: datetime = _time(nullable=False)
    delivery_id: int | None = Field(default=None, sa_type=BigId)


class TopicChoice(SQLModel, table=True):
    """What a lead said of one topic on its preference page. No row: nothing was said."""

    __tablename__ = "topic_choices"

    lead_id: int = Field(primary_key=True, foreign_key="leads.id", sa_type=BigId)
    topic: str = Field(primary_key=True)
    wanted: bool
    at: datetime = _time(nullable=False)


class Workspace(SQLModel, table=True):
    """One row: what concerns all mail."""

    __tablename__ = "workspace"

    id: int = Field(default=1, primary_key=True)
    address_salt: str
    """Of the hashes of addresses. No secret; without it they could be looked up in a table made beforehand."""
    sending_paused_at: datetime | None = _time()
    sending_paused_why: str | None = None
    """`complaints`, or `by-hand`."""
    sending_resumed_at: datetime | None = _time()
    """Complaints before it were looked at by a person: they do not pause sending again."""
    mail_slot_at: datetime | None = _time()
    """When the next mail may go, by the machine's time, where `MEBAE_SMTP_RATE` is set (`mebae.mail.pace`)."""


class PublishedBroadcast(SQLModel, table=True):
    """A broadcast as the files say it. `active` is false when it is gone from them."""

    __tablename__ = "published_broadcasts"

    broadcast: str = Field(primary_key=True)
    plan: str = Field(sa_column=Column(Text, nullable=False))
    """Its JSON (`mebae.broadcasts`)."""
    active: bool = True


class Broadcast(SQLModel, table=True):
    """One run of a broadcast: one mail to one segment, at one time."""

    __tablename__ = "broadcasts"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    cause: str = Field(unique=True)
    """What made it: `schedule:<broadcast>:<time>`, `trigger:…` or `command:<broadcast>:<id>`. Once per cause."""
    broadcast: str = Field(index=True)
    plan: str = Field(sa_column=Column(Text, nullable=False))
    """The plan that it was started with."""
    status: str
    """`starting`, `running`, `waiting` (for a local time, or for the A/B test's end), `done` or `ended`."""
    paused: bool = False
    workflow_id: str = ""
    """By which it is paused, resumed and ended."""
    due_at: datetime = _time(nullable=False)
    started_at: datetime | None = _time()
    ended_at: datetime | None = _time()
    winner: str | None = None
    """The variant that the test's winner was."""
    decision: dict[str, Any] = _json(dict)
    """Of the test: when, why, and the numbers at that moment (`mebae.ab`)."""
    outcome: str | None = None
    place: dict[str, Any] = _json(dict)
    """How far it is: the part under way and the last lead that was taken up."""
    counts: dict[str, int] = _json(dict)
