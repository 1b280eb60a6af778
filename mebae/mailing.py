"""The rules of marketing mail that a team sets in `scenarios/mailing.py`: topics, frequency caps, sending hours, consent.

Pure data: the gate asks them (`mebae.gate`), the preference page shows the topics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from mebae.content import Piece
from mebae.timing import Duration, window

BASES: Mapping[str, str] = {
    "consent": "同意",
    "dealings": "取引関係",
    "business-card": "名刺",
    "published-address": "公表アドレス",
}
"""On what ground a lead may be written to: it agreed (特定電子メール法 第3条第1項第1号), or one of the exemptions: it is
in continuing dealings with us (第3号), it gave us its address in writing, as on a business card (第2号), or it has
published its address for its business without refusing mail (第4号)."""


ANY = "any"
"""In a chain of languages: the text that is for every language (`thanks.md`)."""
LANGUAGES = (ANY, "ja", "en")
"""What a lead gets whose own language has no text: the first of these that there is."""


@dataclass(frozen=True)
class Topic:
    """What a mail is about, as leads choose it on their preference page."""

    id: str
    titles: Mapping[str, str] = field(default_factory=dict)
    """By language."""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    transactional: bool = False
    """Its mails give what the lead asked for and advertise nothing (a paper that it requested, a ticket): they need no
    consent and heed neither topics, caps nor hours, nor an opt-out; but never go to an address that bounced or complained."""
    capped: bool = True
    """Whether its mails wait for the frequency caps and count in them."""
    at_any_time: bool = False
    """Whether its mails go out without regard to the sending hours: an answer to what the lead has just done."""

    def title(self, language: str) -> str:
        """In this language, else in any, else the id."""
        return self.titles.get(language) or next(iter(self.titles.values()), self.id)

    def description(self, language: str) -> str:
        return self.descriptions.get(language) or next(iter(self.descriptions.values()), "")


@dataclass(frozen=True)
class Cap:
    """At most so many marketing mails in a rolling window, over all journeys and broadcasts."""

    count: int
    within: Duration

    @property
    def span(self) -> timedelta:
        """A day is 24 hours."""
        return window(self.within)


@dataclass(frozen=True)
class SendingHours:
    """Local times between which marketing mail may go out, in the lead's zone; with `business_days` on those only.

    From `start` on, before `end`; the end may be `24:00`.
    """

    start: str = "00:00"
    end: str = "24:00"
    business_days: bool = False


@dataclass(frozen=True)
class MailRules:
    """All of it. The defaults ask for consent and for nothing else."""

    topics: tuple[Topic, ...] = ()
    caps: tuple[Cap, ...] = ()
    hours: SendingHours | None = None
    needs_consent: bool = True
    catalogue: tuple[Piece, ...] = ()
    """What `send_next` and the recommendations in mails choose from (`scenarios/content.py`)."""
    bases: tuple[str, ...] = tuple(BASES)
    """Which grounds are accepted."""
    languages: tuple[str, ...] = LANGUAGES

    def topic(self, id: str) -> Topic | None:
        return next((topic for topic in self.topics if topic.id == id), None)

    def is_transactional(self, topic: str) -> bool:
        found = self.topic(topic)
        return found is not None and found.transactional

    def is_capped(self, topic: str) -> bool:
        """Whether mails of this topic wait for the caps and count in them."""
        found = self.topic(topic)
        return found is None or (found.capped and not found.transactional)

    def hours_for(self, topic: str) -> SendingHours | None:
        """The sending hours that mails of this topic heed."""
        found = self.topic(topic)
        return None if found is not None and (found.at_any_time or found.transactional) else self.hours

    @property
    def longest(self) -> timedelta | None:
        """The longest window of a cap: how far back mails are counted."""
        return max((cap.span for cap in self.caps), default=None)
