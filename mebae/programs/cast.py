"""What the demo's leads do, sent by a real Segment client. Who does what is fixed, so that every demo tells the same story."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from segment.analytics.client import Client
from sqlmodel import Session, col, select

from mebae.store.tables import Delivery, JourneyRow, Lead
from mebae.words import DeliveryKind, DeliveryStatus

PAPERS = {
    "whitepaper-inspection": "点検記録デジタル化ガイド",
    "whitepaper-maintenance": "設備保全の進め方 入門",
}
AFTER_CASE = ("clicks", "prices", "silent")
AFTER_OTHER = ("prices", "reads", "silent")
"""What one reader after the other does with a mail: clicks in it, looks at prices, reads another page, nothing more."""


@dataclass
class Member:
    """One lead of the cast."""

    lead: int
    email: str
    role: str
    """Something special that it does; nothing for most."""
    user_id: str
    reacted: set[str] = field(default_factory=set)


class Cast:
    """Leads who behave: `act()` sends what is due, `react(…)` plans what follows a mail.

    `world_seconds` is how many real seconds a span of the world takes.
    """

    def __init__(
        self, members: list[Member], *, write_key: str, host: str, real: Callable[[timedelta], timedelta]
    ) -> None:
        self.members = members
        self.errors: list[str] = []
        self.sent = 0
        self._by_lead = {member.lead: member for member in members}
        self._real = real
        self._readers: Counter[str] = Counter()
        self._due: list[tuple[float, int, Callable[[], Any]]] = []
        self._order = itertools.count()
        self._client = Client(
            write_key, host=host, gzip=True, upload_interval=0.2, max_retries=3, on_error=self._failed
        )

    def begin(self, now: float) -> None:
        """Everybody is identified by the web site and downloads a paper, spread over the first days."""
        for nth, member in enumerate(self.members):
            at = now + self._real(timedelta(hours=2 * nth)).total_seconds()
            paper = list(PAPERS)[nth % len(PAPERS)]
            self._plan(at, self._identify(member, {"email": member.email}))
            self._plan(at, self._track(member, "Content Downloaded", {"content": paper, "title": PAPERS[paper]}))
            if member.role == "same paper twice":
                later = at + self._real(timedelta(hours=20)).total_seconds()
                self._plan(later, self._track(member, "Content Downloaded", {"content": paper, "title": PAPERS[paper]}))

    def react(self, lead: int, step: str, mail: str, now: float) -> None:
        """A mail arrived: what this lead does about it, some hours or days later."""
        member = self._by_lead.get(lead)
        if member is None or step in member.reacted:
            return
        member.reacted.add(step)
        if step == "thanks":
            if member.role == "becomes sql":
                self._later(
                    now, 40, self._identify(member, {"qualification": "sql", "stage": "consideration", "score": 90})
                )
            elif member.role == "warms up":
                self._later(now, 10, self._page(member, "/cases"))
                self._later(now, 11, self._identify(member, {"score": 72, "stage": "interest"}))
            return
        after = AFTER_CASE if step == "case-study" else AFTER_OTHER
        match after[self._readers[step] % len(after)]:
            case "clicks":
                self._later(
                    now, 20, self._track(member, "Email Link Clicked", {"mail": mail, "url": "https://example.com/"})
                )
            case "prices":
                self._later(now, 30, self._page(member, "/pricing"))
            case "reads":
                self._later(now, 9, self._page(member, "/features"))
            case _:
                pass
        self._readers[step] += 1

    def act(self, now: float) -> None:
        """Sends what is due."""
        while self._due and self._due[0][0] <= now:
            _, _, send = heapq.heappop(self._due)
            send()
            self.sent += 1

    @property
    def is_done(self) -> bool:
        return not self._due

    def close(self) -> None:
        """Sends what the client still holds, and ends its thread."""
        self._client.shutdown()

    def _plan(self, at: float, send: Callable[[], Any]) -> None:
        heapq.heappush(self._due, (at, next(self._order), send))

    def _later(self, now: float, hours: float, send: Callable[[], Any]) -> None:
        self._plan(now + self._real(timedelta(hours=hours)).total_seconds(), send)

    def _identify(self, member: Member, traits: dict[str, Any]) -> Callable[[], Any]:
        return lambda: self._client.identify(member.user_id, traits)

    def _track(self, member: Member, event: str, properties: dict[str, Any]) -> Callable[[], Any]:
        return lambda: self._client.track(member.user_id, event, properties)

    def _page(self, member: Member, path: str) -> Callable[[], Any]:
        return lambda: self._client.page(
            member.user_id, name="Page", properties={"path": path, "url": f"https://example.com{path}"}
        )

    def _failed(self, error: Exception, _items: list[dict[str, Any]]) -> None:
        self.errors.append(str(error))


def choose_cast(session: Session) -> list[Member]:
    """40 leads: 36 whom the scenario takes, 4 whom it does not."""
    inside = (col(Lead.industry).in_(("manufacturing", "construction")), Lead.qualification == "none")
    leads = session.exec(select(Lead).where(col(Lead.email).is_not(None)).order_by(col(Lead.id))).all()
    wanted = set(session.exec(select(Lead.id).where(*inside)).all())
    taken = _spread([lead for lead in leads if lead.id in wanted], 36)
    others = _spread([lead for lead in leads if lead.id not in wanted], 4)
    special = {2: "becomes sql", 9: "same paper twice", 13: "warms up", 21: "becomes sql", 24: "warms up"}
    cast = []
    for nth, lead in enumerate([*taken, *others]):
        assert lead.id is not None
        assert lead.email is not None
        cast.append(Member(lead.id, lead.email, special.get(nth, ""), f"web-{lead.id}"))
    # Those whom the scenario does not take come in between, as in life.
    for nth, stranger in enumerate(cast[36:]):
        cast.remove(stranger)
        cast.insert(4 + 9 * nth, stranger)
    return cast


def _spread(leads: list[Lead], count: int) -> list[Lead]:
    """So many of them, from the whole length of the list."""
    return [leads[nth * len(leads) // count] for nth in range(count)] if len(leads) > count else leads


def mails_out(session: Session) -> list[tuple[int, str, str]]:
    """Lead, step and mail of everything that leads have got."""
    query = (
        select(Delivery.lead_id, Delivery.step, Delivery.mail)
        .join(JourneyRow, col(Delivery.entry) == col(JourneyRow.entry))
        .where(Delivery.kind == DeliveryKind.MARKETING, Delivery.status == DeliveryStatus.SENT)
    )
    return list(session.exec(query).all())
