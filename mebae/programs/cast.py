"""What the demo's leads do: on the web site, as a real Segment client tells it, and in their mails.

Who does what is fixed, so that every demo tells the same story.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from segment.analytics.client import Client
from sqlmodel import Session, col, select

from mebae.programs.reader import MailReader
from mebae.store.tables import Delivery, JourneyRow, Lead
from mebae.words import DeliveryKind, DeliveryStatus

PAPERS = {
    "whitepaper-inspection": "点検記録デジタル化ガイド",
    "whitepaper-maintenance": "設備保全の進め方 入門",
}
REGISTERS = ("becomes an opportunity", "comes back", "is forgotten", "asks for a meeting", "only reads")
"""Of whom the second act tells: each registers for the library."""
RIPENS = REGISTERS[:3]
AFTER = {
    "case-study": ("clicks", "prices", "silent"),
    "demo-invitation": ("prices", "silent"),
    "seminar-invitation": ("attends", "silent", "reads"),
}
AFTER_OTHER = ("prices", "reads", "silent")
"""What one reader after the other does with a mail: clicks in it, looks at prices, reads product pages, comes to the seminar,
nothing more."""


@dataclass
class Member:
    """One lead of the cast."""

    lead: int
    email: str
    role: str
    """Something special that it does; nothing for most."""
    user_id: str
    reacted: set[str] = field(default_factory=set)

    @property
    def browser(self) -> str:
        """Its browser's anonymous id."""
        return f"browser-{self.lead}"

    @property
    def agent(self) -> str:
        """The words of its browser: all of the demo's leads come from one address, and are told apart by them."""
        return (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            f"Chrome/131.0.{self.lead}.0 Safari/537.36"
        )


class Cast:
    """Leads who behave: `act()` sends what is due, `react(…)` plans what follows a mail.

    `world_seconds` is how many real seconds a span of the world takes.
    """

    def __init__(
        self,
        members: list[Member],
        *,
        write_key: str,
        host: str,
        reader: MailReader,
        real: Callable[[timedelta], timedelta],
    ) -> None:
        self.members, self._reader = members, reader
        self.errors: list[str] = []
        self.sent = 0
        self._by_lead = {member.lead: member for member in members}
        self._real = real
        self._readers: Counter[str] = Counter()
        self._returned: set[int] = set()
        self._due: list[tuple[float, int, Callable[[], Any]]] = []
        self._order = itertools.count()
        self._client = Client(
            write_key, host=host, gzip=True, upload_interval=0.2, max_retries=3, on_error=self._failed
        )

    def begin(self, now: float) -> None:
        """Everybody is identified by the web site and downloads a paper, spread over the first days.

        Every third has read the blog before, when nobody knew yet who it was.
        """
        downloading = [member for member in self.members if member.role not in REGISTERS]
        for nth, member in enumerate(member for member in self.members if member.role in REGISTERS):
            self._register(member, now + self._real(timedelta(hours=4 + 9 * nth)).total_seconds())
        for nth, member in enumerate(downloading):
            at = now + self._real(timedelta(hours=2 * nth)).total_seconds()
            paper = list(PAPERS)[nth % len(PAPERS)]
            if nth % 3 == 0:
                for page in ("/blog/automation-first-steps", "/blog/automation-costs"):
                    self._plan(at, self._page(member, page, known=False))
            self._plan(at, self._identify(member, {"email": member.email}))
            self._plan(at, self._track(member, "Content Downloaded", {"content": paper, "title": PAPERS[paper]}))
            if member.role == "same paper twice":
                later = at + self._real(timedelta(hours=20)).total_seconds()
                self._plan(later, self._track(member, "Content Downloaded", {"content": paper, "title": PAPERS[paper]}))

    def _register(self, member: Member, at: float) -> None:
        self._plan(at, self._identify(member, {"email": member.email}))
        self._plan(at, self._track(member, "Form Submitted", {"form": "library-registration"}))
        if member.role in RIPENS:
            self._ripen(member, at, ("inspection-basics-live", "first-three-months"), hours=(20, 44))

    def _ripen(self, member: Member, at: float, seminars: tuple[str, str], *, hours: tuple[int, int]) -> None:
        """Comes to two seminars, which makes it an MQL."""
        for seminar, later in zip(seminars, hours, strict=True):
            self._later(at, later, self._track(member, "Seminar Attended", {"seminar": seminar}))

    @property
    def roles(self) -> dict[int, str]:
        """What is special about whom, for sales."""
        return {member.lead: member.role for member in self.members if member.role in REGISTERS}

    def come_back(self, lead: int, rests_until: datetime, now: datetime, at: float) -> None:
        """Sales did not take this lead: it comes back by what it does when its rest is over, once."""
        member = self._by_lead.get(lead)
        if member is None or member.role != "comes back" or lead in self._returned:
            return
        self._returned.add(lead)
        rest = int((rests_until - now) / timedelta(hours=1))
        self._ripen(member, at, ("automation-live", "costs-and-returns"), hours=(rest + 20, rest + 44))

    def are_back(self, handed_over: Collection[int]) -> bool:
        """Whether all who come back were handed over again. `handed_over`: the lead of each hand-over so far."""
        return all(Counter(handed_over)[lead] > 1 for lead in self._returned)

    def react(self, lead: int, step: str, now: float) -> None:
        """A mail arrived: what this lead does about it, some hours or days later."""
        member = self._by_lead.get(lead)
        mail = self._reader.find(member.email, step) if member is not None and step not in member.reacted else None
        if member is None or mail is None:
            return
        member.reacted.add(step)
        nth = self._readers[step]
        self._readers[step] += 1
        if nth % 5 == 4:  # a security gateway looks at every link at once; it is kept, and never scored
            self._later(now, 0.05, lambda: self._reader.scan(mail))
        if nth % 2 == 0:
            self._later(now, 3, lambda: self._reader.look(mail, member.agent))
        if member.role in REGISTERS:
            if member.role == "asks for a meeting" and step != "welcome":
                self._later(now, 20, self._track(member, "Form Answered", {"form": "consultation", "meeting": True}))
            return
        if step == "thanks":
            if member.role == "becomes sql":
                self._later(now, 40, self._identify(member, {"qualification": "sql"}))
            elif member.role == "warms up":
                for hours, page in ((10, "/products/automation"), (11, "/products/quality"), (12, "/products/automation")):
                    self._later(now, hours, self._page(member, page))
                for hours in (13, 20):
                    self._later(now, hours, self._page(member, "/pricing"))
            return
        does = AFTER.get(step, AFTER_OTHER)
        match does[nth % len(does)]:
            case "clicks":
                self._later(now, 20, lambda: self._reader.click(mail, member.agent))
            case "prices":
                self._later(now, 30, self._page(member, "/pricing"))
            case "reads":
                for hours in (9, 10, 33):
                    self._later(now, hours, self._page(member, "/products/automation"))
            case "attends":
                self._later(now, 20, self._track(member, "Seminar Registered", {"seminar": "automation-live"}))
                self._later(now, 70, self._track(member, "Seminar Attended", {"seminar": "automation-live"}))
            case _:
                pass

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
        """Sends what the client still holds, and ends the threads."""
        self._client.shutdown()
        self._reader.close()

    def _plan(self, at: float, send: Callable[[], Any]) -> None:
        heapq.heappush(self._due, (at, next(self._order), send))

    def _later(self, now: float, hours: float, send: Callable[[], Any]) -> None:
        self._plan(now + self._real(timedelta(hours=hours)).total_seconds(), send)

    def _identify(self, member: Member, traits: dict[str, Any]) -> Callable[[], Any]:
        return lambda: self._client.identify(member.user_id, traits, anonymous_id=member.browser)

    def _track(self, member: Member, event: str, properties: dict[str, Any]) -> Callable[[], Any]:
        return lambda: self._client.track(member.user_id, event, properties)

    def _page(self, member: Member, path: str, *, known: bool = True) -> Callable[[], Any]:
        properties = {"path": path, "url": f"https://example.com{path}"}
        who = {"user_id": member.user_id} if known else {"anonymous_id": member.browser}
        return lambda: self._client.page(**who, name="Page", properties=properties)

    def _failed(self, error: Exception, _items: list[dict[str, Any]]) -> None:
        self.errors.append(str(error))


def choose_cast(session: Session) -> list[Member]:
    """40 leads who download a paper, 36 whom the scenario takes and 4 whom it does not; and those who register for the library."""
    inside = (col(Lead.industry_group).in_(("manufacturing", "construction")), Lead.qualification == "none")
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
    return [*cast, *_registering(leads, {member.lead for member in cast})]


def _registering(leads: Sequence[Lead], others: Collection[int]) -> list[Member]:
    """Those who register for the library: one of each role, none of the others' firms, so that nobody's owner decides for them."""
    firms = {lead.company_id for lead in leads if lead.id in others}
    free = [lead for lead in leads if lead.id not in others and lead.company_id not in firms and lead.name]
    chosen = _spread([lead for lead in free if lead.qualification == "none"], len(REGISTERS))
    return [
        Member(lead.id, lead.email, role, f"web-{lead.id}")
        for lead, role in zip(chosen, REGISTERS, strict=False)
        if lead.id is not None and lead.email is not None
    ]


def _spread(leads: list[Lead], count: int) -> list[Lead]:
    """So many of them, from the whole length of the list."""
    return [leads[nth * len(leads) // count] for nth in range(count)] if len(leads) > count else leads


def mails_out(session: Session) -> list[tuple[int, str]]:
    """Lead and step of everything that leads have got."""
    query = (
        select(Delivery.lead_id, Delivery.step)
        .join(JourneyRow, col(Delivery.entry) == col(JourneyRow.entry))
        .where(Delivery.kind == DeliveryKind.MARKETING, Delivery.status == DeliveryStatus.SENT)
    )
    return list(session.exec(query).all())
