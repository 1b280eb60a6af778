"""The rules of marketing mail that a team sets in `scenarios/mailing.py`: topics, frequency caps, sending hours.

Pure data: the gate asks them (`mebae.gate`), the preference page shows the topics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mebae.timing import Duration


@dataclass(frozen=True)
class Topic:
    """What a mail is about, as leads choose it on their preference page."""

    id: str
    titles: Mapping[str, str] = field(default_factory=dict)
    """By language."""
    descriptions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cap:
    """At most so many marketing mails in a rolling window, over all journeys and broadcasts."""

    count: int
    within: Duration


@dataclass(frozen=True)
class SendingHours:
    """Local times between which marketing mail may go out, in the lead's zone; with `business_days` on those only."""

    start: str
    end: str
    business_days: bool = False


@dataclass(frozen=True)
class MailRules:
    """All of it. The defaults ask for consent and for nothing else."""

    topics: tuple[Topic, ...] = ()
    caps: tuple[Cap, ...] = ()
    hours: SendingHours | None = None
    needs_consent: bool = True

    def topic(self, id: str) -> Topic | None:
        return next((topic for topic in self.topics if topic.id == id), None)
