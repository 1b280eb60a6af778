"""The tables of CRM: what `crm.py` says, what a lead is called elsewhere, and what came back. What goes out are tellings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from mebae.store.types import BigId
from mebae.store.types import json_column as _json
from mebae.store.types import time_column as _time


class PublishedCrm(SQLModel, table=True):
    """One row: what `scenarios/crm.py` says, for worker, server and commands alike (`mebae.crm.model.CrmRules`)."""

    __tablename__ = "crm"

    id: int = Field(default=1, primary_key=True)
    rules: str = Field(sa_column=Column(Text, nullable=False))
    """Their JSON. Secrets are not in it: only the names of the variables that hold them."""
    published_at: datetime = _time(nullable=False)


class CrmLink(SQLModel, table=True):
    """A lead in another system."""

    __tablename__ = "crm_links"
    __table_args__ = (Index("ix_crm_links_their_id", "system", "their_id"), Index("ix_crm_links_lead", "lead_id"))

    system: str = Field(primary_key=True)
    lead_id: int = Field(primary_key=True, foreign_key="leads.id", sa_type=BigId)
    their_id: str | None = None
    """What the other system calls it. None: it has not said (a webhook)."""
    digest: str = ""
    """Of the values that it was last sent: the same again is not sent by schedule."""
    pushed_at: datetime = _time(nullable=False)
    known: bool = False
    """Whether `seen` says what their fields hold."""
    seen: dict[str, Any] = _json(dict)
    """Their outcome fields as we last saw or wrote them: only another value is news."""


class CrmCursor(SQLModel, table=True):
    """How far a system has been read, and how far our leads have been looked through for it."""

    __tablename__ = "crm_cursors"

    system: str = Field(primary_key=True)
    read_until: datetime | None = _time()
    """Their clock: changes before it have been read."""
    swept_until: datetime | None = _time()
    """Our clock: leads that changed before it have been told."""


class CrmMessage(SQLModel, table=True):
    """Something that another system said, once per message. Nothing personal: what it says of a lead is read there, or decided at once."""

    __tablename__ = "crm_messages"
    __table_args__ = (
        UniqueConstraint("system", "key"),
        Index("ix_crm_messages_waiting", "id", sqlite_where=text("status = 'waiting'"), postgresql_where=text("status = 'waiting'")),
        Index("ix_crm_messages_lead", "lead_id"),
    )  # fmt: skip

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    system: str
    key: str
    """What the other system calls its message."""
    their_id: str | None = None
    """Of the record that it is about."""
    lead_id: int | None = Field(default=None, foreign_key="leads.id", sa_type=BigId)
    handover_id: int | None = Field(default=None, foreign_key="handovers.id", sa_type=BigId)
    move: str | None = None
    status: str = "waiting"
    """`waiting` (its record is still to be read), `done`, `ignored`, `refused`."""
    reason: str | None = None
    """Why it was ignored or is not read yet, as a code."""
    attempts: int = 0
    next_at: datetime | None = _time()
    """Machine time before which it is not tried again."""
    created_at: datetime = _time(nullable=False)
    done_at: datetime | None = _time()

