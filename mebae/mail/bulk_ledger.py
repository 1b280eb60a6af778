"""The transactions of mail to many leads: each is one for many, over sets of rows, with every lead locked in the order of ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from sqlmodel import Session, col, select

from mebae import ledger
from mebae.clock import WorldClock
from mebae.errors import RecipientRefused
from mebae.gate import PAUSED_FOR, Gate, Moment
from mebae.journey import PAUSED, Exited, Postponed, Refused
from mebae.ledger import Fate
from mebae.mail.composing import (
    Composed,
    Letter,
    Texts,
    catalogue_values,
    has_moved,
    marketing_letter,
    once_more,
    texts_of,
)
from mebae.mail.doorstep import refused_at_the_door
from mebae.mail.message import broadcast_message_id
from mebae.mail.outgoing import MailSettings
from mebae.mail.standard_headers import automatic
from mebae.store.deliveries import (
    LockedLead,
    Row,
    insert_rows,
    lock_leads,
    lock_rows,
    of_broadcast,
    states_of,
    write_moves,
)
from mebae.store.links import store_links
from mebae.store.suppressions import salt_of
from mebae.store.tables import Company, Lead
from mebae.words import DeliveryKind, DeliveryStatus

L = TypeVar("L", Lead, LockedLead)
MISSING, SUPERSEDED, ENDED = "missing", "superseded", "ended"


@dataclass(frozen=True)
class BulkContent:
    """Which published mail a broadcast sends."""

    scope: str
    """The broadcast's id, under which its mails are published."""
    mail: str
    title: str = ""
    """The broadcast's, for mails that name it (`scenario.title`)."""
    variant: str | None = None
    """Of an A/B test; the delivery's row records it."""
    text: str | None = None
    """The id under which its text is published, where that is another than the mail's: an A/B test of subjects publishes one for
    each subject (`BroadcastPlan.variant`). Ledger, events and conditions know the mail by `mail`."""


class Stand(NamedTuple):
    """Where a lead's delivery is now."""

    lead: int
    status: str
    until: datetime | None = None
    """Of a postponed one: when to try it again."""


@dataclass(frozen=True)
class Taken:
    """A delivery that this attempt may try, with what its mail is made of."""

    row: Row
    lead: Lead
    company: Company | None
    texts: Texts
    content: BulkContent
    claimed_at: datetime
    more: Mapping[str, Any] = field(default_factory=dict)
    """Values of the content catalogue, for mails that name them."""

    def letter(self, settings: MailSettings) -> Letter:
        headers = (
            *automatic(self.content.scope, self.content.mail, settings.sender.email, bulk=True),
            ("X-Mebae-Broadcast", self.content.scope),
            ("X-Mebae-Mail", self.content.mail),
        )
        return marketing_letter(
            self.texts, self.lead, self.company, self.row.id, self.row.message_id, settings, entry={},
            scope=(self.content.scope, self.content.title), headers=headers, now=self.claimed_at, more=self.more,
        )  # fmt: skip


class Slice(NamedTuple):
    """What a claim found: the mails to be tried, and where the others are."""

    taken: list[Taken]
    stands: list[Stand]


@dataclass(frozen=True)
class Entering:
    """Asks to enter `data`."""

    taken: Taken
    composed: Composed
    now: datetime


@dataclass(frozen=True)
class Concluding:
    """Says what came of an attempt."""

    taken: Taken
    fate: Fate
    now: datetime


class BulkLedger:
    """What is written for many mails at once."""

    def __init__(self, gate: Gate, settings: MailSettings, clock: WorldClock) -> None:
        self._gate, self._settings, self._clock = gate, settings, clock
        self._domain = settings.sender.email.rpartition("@")[2]

    # Claiming --------------------------------------------------------------------------------------------------------

    def claim(self, session: Session, broadcast: int, ids: Sequence[int], content: BulkContent, now: datetime) -> Slice:
        """Claims an attempt for each of these leads' mails, as far as it may be tried. Raises `BrokenMail` where the mail was
        never published."""
        leads = lock_leads(session, ids)
        known = {row.lead_id: row for row in of_broadcast(session, broadcast, ids)}
        stands = [Stand(id, MISSING) for id in sorted(set(ids) - {lead.id for lead in leads if lead.id is not None})]
        closed = _closed(session, [broadcast], now).get(broadcast)
        if closed is not None:
            until = closed.until if isinstance(closed, Postponed) else None
            return Slice([], stands + [_stand(known.get(lead.id or 0), lead.id or 0, until) for lead in leads])
        texts = texts_of(session, content.scope, content.text or content.mail, self._settings.rules.languages)
        attempts = {row.lead_id: row for row in self._taken_up(session, leads, known, texts, now)}
        self._insert(session, broadcast, [lead for lead in leads if lead.id not in known], content, texts, now)
        fresh = [lead.id for lead in leads if lead.id is not None and lead.id not in known]
        attempts |= {row.lead_id: row for row in of_broadcast(session, broadcast, fresh)} if fresh else {}
        stands += [Stand(row.lead_id, row.status, row.next_at) for row in known.values() if row.lead_id not in attempts]
        asked = [(lead, attempts[lead.id]) for lead in leads if lead.id in attempts]
        may, refused = self._ask(session, asked, "claim", now)
        companies = _companies(session, [lead for lead, _ in may])
        catalogue = self._settings.rules.catalogue
        taken = [
            Taken(
                row, lead, companies.get(lead.company_id or 0), texts, content, now,
                catalogue_values(session, lead, texts, catalogue, now),
            )
            for lead, row in may
        ]  # fmt: skip
        return Slice(taken, [*stands, *refused.values()])

    def _taken_up(
        self, session: Session, leads: Sequence[Lead], known: Mapping[int, Row], texts: Texts, now: datetime
    ) -> Iterator[Row]:
        """The rows that there were before and that are claimed anew; the others are brought up to date where they stand."""
        moves = []
        for lead in leads:
            row = known.get(lead.id or 0)
            if row is None or (
                row.status == DeliveryStatus.POSTPONED and row.reason != PAUSED and (row.next_at or now) > now
            ):
                continue
            move = dict(ledger.take_up(row, mark=lead.last_seq, policy=self._settings.policy, now=now))
            if move.get("status") == DeliveryStatus.CLAIMED:
                language, hash, _ = texts.chosen(lead)
                move |= {"language": language, "text_hash": hash, "topic": texts.topic(lead)}
                row.attempt, row.topic = move["attempt"], move["topic"]
                row.first_claimed_at, row.next_at = move["first_claimed_at"], None
                yield row
            if move:
                row.status, row.reason = move["status"], move["reason"]
                moves.append((row.id, move))
        write_moves(session, moves)

    def _insert(
        self, session: Session, broadcast: int, leads: Sequence[Lead], content: BulkContent, texts: Texts, now: datetime
    ) -> None:
        rows, salt = [], salt_of(session)
        for lead in leads:
            assert lead.id is not None
            language, hash, _ = texts.chosen(lead)
            rows.append(
                {
                    "broadcast_id": broadcast, "variant": content.variant, "lead_id": lead.id,
                    "kind": DeliveryKind.MARKETING, "scope": content.scope, "mail": content.mail,
                    "topic": texts.topic(lead), "language": language, "text_hash": hash,
                    "message_id": broadcast_message_id(broadcast, lead.id, self._domain, salt=salt),
                    "status": DeliveryStatus.CLAIMED, "attempt": 1, "mark": lead.last_seq,
                    "claimed_at": now, "first_claimed_at": now,
                }
            )  # fmt: skip
        insert_rows(session, rows)

    # Entering data, and concluding -----------------------------------------------------------------------------------

    def write(self, session: Session, asks: Sequence[Entering | Concluding]) -> list[Stand | None]:
        """Many attempts' next step. None: this one may send; else where its delivery is now."""
        locked = lock_rows(session, {ask.taken.row.id for ask in asks})
        now = max(ask.now for ask in asks)
        closed = _closed(session, {row.broadcast_id for _, row in locked.values()}, now)
        stands: dict[int, Stand | None] = {}
        entering, moves = [], []
        for ask in asks:
            lead, row = locked[ask.taken.row.id]
            if isinstance(ask, Concluding):
                move, stands[row.id] = self._concluded(row, lead, ask, ended=isinstance(closed.get(row.broadcast_id), Refused))
                moves.append((row.id, move))
            elif row.status == DeliveryStatus.CLAIMED and row.attempt == ask.taken.row.attempt:
                entering.append((ask, lead, row))
            else:  # another attempt has it, and speaks for it
                over = row.status in (DeliveryStatus.SENT, DeliveryStatus.REFUSED)
                stands[row.id] = Stand(row.lead_id, row.status if over else SUPERSEDED)
        write_moves(session, moves)
        turned_away = {
            ask.taken.row.id: ask.taken.lead.email or ""
            for ask in asks
            if isinstance(ask, Concluding) and ask.fate.code == RecipientRefused.code
        }
        if turned_away:
            refused_at_the_door(session, turned_away, now)
        for wave in _waves(entering):
            stands |= self._enter(session, wave, closed, now)
        return [stands[ask.taken.row.id] for ask in asks]

    def _enter(
        self,
        session: Session,
        entering: Sequence[tuple[Entering, LockedLead, Row]],
        closed: Mapping[int, Refused | Postponed],
        now: datetime,
    ) -> dict[int, Stand | None]:
        stands: dict[int, Stand | None] = {}
        open_: list[tuple[Entering, LockedLead, Row]] = []
        moves = []
        for ask, lead, row in entering:
            no = closed.get(row.broadcast_id)
            if no is None and has_moved(ask.composed.to, lead.email):
                no = once_more(now)
            if no is None:
                open_.append((ask, lead, row))
            else:
                move, stand = _turned_away(row, no)
                moves.append((row.id, move))
                stands[row.id] = stand
        write_moves(session, moves)
        may, refused = self._ask(session, [(lead, row) for _, lead, row in open_], "data", now)
        stands |= refused
        going = {row.id for _, row in may}
        links: dict[int, str] = {}
        own: dict[int, int] = {}
        for ask, _, row in open_:
            if row.id in going:
                links |= ask.composed.links
                own |= dict.fromkeys(ask.composed.own, row.id)
        store_links(session, links, own)
        entered = ledger.enter_data(session, [(row.id, row.attempt) for _, row in may], now)
        return stands | {row.id: None if row.id in entered else Stand(row.lead_id, SUPERSEDED) for _, row in may}

    def _concluded(self, row: Row, lead: LockedLead, ask: Concluding, *, ended: bool) -> tuple[ledger.Move, Stand]:
        fate, gone = ask.fate, None
        if lead.erased_at is not None:  # what the server said names the address, which is wiped
            fate, gone = replace(fate, raw=None), "erased"
        elif ended and fate.kind == "later":
            gone = ENDED
        came = ledger.conclude(
            row, ask.taken.row.attempt, fate, policy=self._settings.policy, clock=self._clock, now=ask.now, gone=gone
        )
        return came.move, Stand(row.lead_id, came.status or SUPERSEDED, came.until)

    def _ask(
        self, session: Session, asked: Sequence[tuple[L, Row]], moment: Moment, now: datetime
    ) -> tuple[list[tuple[L, Row]], dict[int, Stand]]:
        """The mails that may go, and by their rows where those are that may not."""
        answers = self._gate.ask_many(session, asked, moment, now) if asked else []
        may, moves = [], []
        stands: dict[int, Stand] = {}
        for (lead, row), answer in zip(asked, answers, strict=True):
            if answer is None:
                may.append((lead, row))
                continue
            move, stand = _turned_away(row, answer)
            moves.append((row.id, move))
            stands[row.id] = stand
        write_moves(session, moves)
        return may, stands


def _waves(entering: Sequence[tuple[Entering, LockedLead, Row]]) -> Iterator[list[tuple[Entering, LockedLead, Row]]]:
    """The mails in groups of which each has a lead at most once: two broadcasts may write to one in the same moment."""
    rest = list(entering)
    while rest:
        wave: list[tuple[Entering, LockedLead, Row]] = []
        later: list[tuple[Entering, LockedLead, Row]] = []
        seen: set[int] = set()
        for one in rest:
            (later if one[2].lead_id in seen else wave).append(one)
            seen.add(one[2].lead_id)
        yield wave
        rest = later


def _closed(session: Session, broadcasts: Iterable[int], now: datetime) -> dict[int, Refused | Postponed]:
    """The broadcasts, of these, that stop their mails themselves: by an end for ever, by a pause for now."""
    closed: dict[int, Refused | Postponed] = {}
    for id, status, paused in states_of(session, broadcasts):
        if status in ("done", "ended"):
            closed[id] = Refused(ENDED)
        elif paused:
            closed[id] = Postponed(now + PAUSED_FOR, PAUSED)
    return closed


def _turned_away(row: Row, answer: Refused | Postponed | Exited) -> tuple[ledger.Move, Stand]:
    if isinstance(answer, Postponed):
        move = ledger.postponed(row.reason, answer.until, answer.why)
        return move, Stand(row.lead_id, DeliveryStatus.POSTPONED, answer.until)
    move = ledger.no_more(row, answer.why)
    return move, Stand(row.lead_id, move["status"])


def _stand(row: Row | None, lead: int, until: datetime | None) -> Stand:
    """Of a lead whose broadcast is closed: what is over stays so; all else waits with a pause, and is given up with an end."""
    if row is not None and row.status not in (DeliveryStatus.CLAIMED, DeliveryStatus.POSTPONED):
        return Stand(lead, row.status)
    if until is not None:
        return Stand(lead, DeliveryStatus.POSTPONED, until)
    return Stand(lead, DeliveryStatus.REFUSED if row is None else ledger.no_more(row, ENDED)["status"])


def _companies(session: Session, leads: Sequence[Lead]) -> dict[int, Company]:
    ids = {lead.company_id for lead in leads if lead.company_id is not None}
    if not ids:
        return {}
    found = session.exec(select(Company).where(col(Company.id).in_(sorted(ids))))
    return {company.id: company for company in found if company.id is not None}
