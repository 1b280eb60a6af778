"""What a run would do now: who is in the segment, and what the gate would say to each. Writes nothing, sends nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select as columns
from sqlmodel import Session, col

from mebae.broadcasts import BroadcastPlan
from mebae.gating import GateRules, decide
from mebae.journey import Postponed
from mebae.store.broadcast_leads import members
from mebae.store.gate_facts import gather
from mebae.store.tables import Lead

READ_AT_ONCE = 1000


class Text(NamedTuple):
    """What a lead would read."""

    topic: str
    language: str
    """Empty: of the text for every language."""


TextOf = Callable[[str | None], Text]
"""The mail's text for a lead of this language."""


@dataclass
class Foretold:
    """How many leads."""

    members: int = 0
    go: int = 0
    """To whom the mail would go at once."""
    refused: Counter[str] = field(default_factory=Counter)
    """By the gate's reason."""
    postponed: Counter[str] = field(default_factory=Counter)
    until: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    """For each reason to wait: when the first of them are asked about again, and when the last."""
    readers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Those that would get it, at once or later, by their language and the text's."""

    def wait(self, why: str, until: datetime) -> None:
        """One more that waits."""
        self.postponed[why] += 1
        first, last = self.until.get(why, (until, until))
        self.until[why] = (min(first, until), max(last, until))


class _Lead(NamedTuple):
    id: int | None
    email: str | None
    time_zone: str | None
    opted_out_at: datetime | None
    erased_at: datetime | None
    language: str | None


class _Mail(NamedTuple):
    """A delivery that there is not."""

    lead_id: int
    scope: str
    mail: str
    topic: str
    id: int | None = None
    entry: int | None = None
    step: str = ""
    visit: int = 1
    broadcast_id: int | None = None
    message_id: str = ""
    attempt: int = 1


def foretell(
    session: Session, plan: BroadcastPlan, text_of: TextOf, rules: GateRules, zone: str, now: datetime
) -> Foretold:
    """Asks the gate about every lead of the segment, a page at a time. Of those held out nothing is known yet: lots are drawn
    by the run's number."""
    found = Foretold()
    for page in _pages(session, plan, now):
        found.members += len(page)
        asked = [(lead, _Mail(lead.id or 0, plan.broadcast, plan.mail, text_of(lead.language).topic)) for lead in page]
        for (lead, _), facts in zip(asked, gather(session, asked, rules.mail, zone, now), strict=True):
            answer = decide(facts, rules, now)
            if answer is None or isinstance(answer, Postponed):
                found.readers[lead.language or "", text_of(lead.language).language] += 1
            if answer is None:
                found.go += 1
            elif isinstance(answer, Postponed):
                found.wait(answer.why, answer.until)
            else:
                found.refused[answer.why] += 1
    return found


def _pages(session: Session, plan: BroadcastPlan, now: datetime) -> Iterator[list[_Lead]]:
    after = 0
    wanted = [getattr(Lead, name) for name in _Lead._fields]
    while True:
        query = columns(*wanted).where(col(Lead.id) > after, members(session, plan, now))
        page = [_Lead(*row) for row in session.execute(query.order_by(col(Lead.id)).limit(READ_AT_ONCE))]
        if not page:
            return
        yield page
        after = page[-1].id or 0
