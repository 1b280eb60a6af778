"""What `mebae.reports.mails` and `mebae.reports.mail_standing` tell, as data: the `--json` of `mebae why`, part of `mebae lead show`."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class Told(BaseModel):
    model_config = ConfigDict(frozen=True)


class Ground(Told):
    """One record of why the lead may be written to."""

    basis: str
    title: str
    """The basis in Japanese, as the law calls it."""
    given_at: datetime
    how: str
    source: str
    wording: str
    withdrawn_at: datetime | None
    accepted: bool
    """Whether `mailing.py` takes this basis."""


class TopicTold(Told):
    topic: str
    title: str
    wanted: bool | None
    """None: the lead said nothing of it."""
    said_at: datetime | None
    heeded: bool = True
    """Whether what the lead said of it counts: not while it gets no marketing mail at all, nor of a transactional topic."""
    differs: str = ""
    """What its mails do not heed that others do; empty if nothing."""
    now: str = ""
    """Of a topic that differs: the gate's answer to a mail of it at this moment, in words."""


class CapTold(Told):
    words: str
    count: int
    used: int
    frees_at: datetime | None
    """When a place is free again, if none is now."""


class MailStanding(Told):
    """What the gate sees of a lead at this moment."""

    may: bool
    """Whether a marketing mail of no special topic would go out now."""
    words: str
    """The answer in words."""
    cure: str
    """What would change it; empty if it is yes."""
    until: datetime | None
    """When it would be yes, if it waits only."""
    grounds: list[Ground]
    opted_out_at: datetime | None
    suppressed: str | None
    suppressed_at: datetime | None
    topics: list[TopicTold]
    caps: list[CapTold]
    hours: str
    """When mail goes out; empty if at any time."""
    zone: str


class AnswerTold(Told):
    """One answer of the gate."""

    at: datetime
    moment: str
    attempt: int
    answer: str
    reason: str | None
    until: datetime | None
    words: str
    cure: str


class MailWhy(Told):
    """One mail to the lead, and every answer of the gate about it."""

    delivery: int
    mail: str
    scope: str
    title: str
    """Of the scenario or broadcast."""
    of_broadcast: bool
    step: str
    visit: int
    topic: str
    status: str
    at: datetime | None
    words: str
    """What became of it, in a sentence."""
    answers: list[AnswerTold]
    earlier: int
    """Answers before those."""
    forgotten: bool = False
    """The gate was asked, so long ago that its answers are kept no more (`MEBAE_GATE_DAYS`)."""


class NeverDue(Told):
    """A mail that was asked for by name and of which no delivery is."""

    scope: str
    words: str
    topic: str = ""
    """As its text says; empty if it says none, or there is no text any more."""


class MailsReport(Told):
    now: datetime
    lead: int
    called: str
    name: str | None
    zone: str
    standing: MailStanding
    mails: list[MailWhy]
    never: list[NeverDue]
