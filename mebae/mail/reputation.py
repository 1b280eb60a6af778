"""When complaints and bounces are too many: what mailbox providers look at before they put a sender's mail aside.

Gmail and Yahoo ask bulk senders to stay below 0.1 % of complaints and never to reach 0.3 %; above it mail goes to spam, for
everybody. So at 0.1 % Mebae warns and at 0.3 % it stops sending by itself, until a person has looked. Hard bounces tell of
a bad list; from 2 % on Mebae warns.

The rates are of the marketing mails that went out in the last seven days. Few mails make no rate: one complaint of fifty mails is
no 2 %. So at least `LEAST` mails are reckoned, which also stops the sender of 300 mails at its third complaint.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

Verdict = Literal["fine", "warn", "pause"]

WINDOW = timedelta(days=7)
LEAST = 1_000
LEAST_FOR_BOUNCES = 200
WARN_AT, PAUSE_AT = 1, 3
"""Complaints for 1,000 mails."""
BOUNCES_WARN_AT = 20
"""Hard bounces for 1,000 mails."""


@dataclass(frozen=True)
class Counts:
    """Marketing mails that went out in some time, and what came back about them."""

    sent: int = 0
    hard: int = 0
    """Also those that the mail server refused in the session; they are not among the sent ones."""
    soft: int = 0
    complaints: int = 0
    unknown: int = 0
    """Nobody can say whether they went out; not among the sent ones."""

    @property
    def complaint_rate(self) -> float:
        return self.complaints / max(self.sent, LEAST)

    @property
    def hard_rate(self) -> float:
        return self.hard / max(self.sent, LEAST_FOR_BOUNCES)


def judge_complaints(counts: Counts) -> Verdict:
    """What the complaints ask for.

    >>> judge_complaints(Counts(sent=10_000, complaints=9)), judge_complaints(Counts(sent=10_000, complaints=10))
    ('fine', 'warn')
    >>> judge_complaints(Counts(sent=10_000, complaints=30)), judge_complaints(Counts(sent=50, complaints=3))
    ('pause', 'pause')
    """
    complaints, sent = counts.complaints * 1_000, max(counts.sent, LEAST)
    if complaints >= PAUSE_AT * sent:
        return "pause"
    return "warn" if complaints >= WARN_AT * sent else "fine"


def judge_bounces(counts: Counts) -> Literal["fine", "warn"]:
    """Whether the hard bounces tell of a bad list.

    >>> judge_bounces(Counts(sent=1_000, hard=19)), judge_bounces(Counts(sent=1_000, hard=20))
    ('fine', 'warn')
    """
    return "warn" if counts.hard * 1_000 >= BOUNCES_WARN_AT * max(counts.sent, LEAST_FOR_BOUNCES) else "fine"


def percent(rate: float) -> str:
    """A rate for a person.

    >>> percent(0.00123), percent(0)
    ('0.12 %', '0.00 %')
    """
    return f"{rate * 100:.2f} %"
