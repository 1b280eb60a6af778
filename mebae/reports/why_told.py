"""What `mebae.reports.why` tells, as data: the `--json` of `mebae why`."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from mebae.reports.explaining import Explained


class Told(BaseModel):
    model_config = ConfigDict(frozen=True)


class Entry(Told):
    """One row of the journeys: an entry, or that it was refused."""

    entry: int
    status: str
    key: str
    at: datetime
    cause: str
    """What it came from, in words."""
    reason: str | None
    words: str
    """What became of it, in a sentence."""
    audience: Explained | None = None
    """Of one that was refused for it: what of the audience holds by now."""


class Came(Told):
    """An event of the lead that has to do with a start event."""

    at: datetime
    words: str
    fate: str
    """What became of it, or why it is none."""


class StartEvent(Told):
    """One of the events that start the scenario."""

    words: str
    in_all: int
    """How many of the lead's events are such."""
    came: list[Came]
    near: list[Came]
    """Events that are nearly such: another property, or another name."""


class Check(Told):
    """One thing that an entry of now would be asked."""

    what: str
    holds: bool
    words: str
    of: Explained | None = None


class Listening(Told):
    """One thing that a resting journey listens for."""

    words: str
    to: str
    of: Explained | None = None


class UnderWay(Told):
    """A journey that has not ended."""

    entry: int
    workflow_id: str
    status: str
    paused: bool
    step: str | None
    words: str
    """Where it is and what it waits for, in a sentence."""
    until: datetime | None
    listens: list[Listening]
    otherwise: str | None
    exits: Explained | None
    """The scenario's `exits_when` as the journey's version has it."""
    signals: int
    """Signals that are still to be delivered to it."""


class WhyReport(Told):
    now: datetime
    lead: int
    called: str
    scenario: str
    title: str
    version: str
    is_active: bool
    """Whether new leads may enter: its file is there."""
    answer: str
    starts: list[StartEvent]
    entries: list[Entry]
    refused_in_all: int
    under_way: list[UnderWay]
    pending: list[Came]
    """Events that were acknowledged and are not stored yet."""
    checks: list[Check]
    """What an entry of this moment would be asked."""
