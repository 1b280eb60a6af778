"""One mail to many leads: the same gate, ledger and answers as a journey's mail, with few transactions and many connections.

claim ─ one transaction a slice of leads: lock them, gate, claim an attempt each, read what the mails need
render ─ a few at a time, a little ahead of the connections
MAIL, RCPT ─ many connections at once
enter data ─ many mails in one transaction: the gate once more, then the compare-and-set on each attempt
DATA
conclude ─ many mails in one transaction: what came of them
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from mebae.clock import WorldClock
from mebae.errors import DatabaseUnavailable
from mebae.gate import Gate
from mebae.ledger import Fate
from mebae.mail.bulk_ledger import BulkContent, BulkLedger, Concluding, Entering, Stand, Taken
from mebae.mail.composing import Composed, Letter
from mebae.mail.composing_beside import UNEXPECTED, Beside, Mails, compose_one
from mebae.mail.handing_over import hand_over, insist
from mebae.mail.outgoing import MailSettings
from mebae.mail.pace import Pace
from mebae.mail.transport import Transport
from mebae.store.database import Database
from mebae.store.group_commit import GroupCommit

__all__ = ["Bulk", "BulkContent", "BulkMailer", "BulkOutcome"]

log = structlog.get_logger()

SLICE = 250
"""Leads that are locked and claimed together."""
PART = 16
"""Mails that are composed together."""
AHEAD = 2
"""Parts that are being composed while one is handed on."""
MANY = 100
"""Leads from which on another process helps."""
LINGER = 0.003
"""Seconds that a mail waits for others to share its commit. A mail server far away takes ten times as long for a word."""


@dataclass(frozen=True)
class BulkOutcome:
    """Where each lead's delivery of a chunk is now."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """How many are `sent`, `refused`, `unknown`, `postponed`; `missing`: no such lead; `superseded`: another attempt has it."""
    later: tuple[tuple[int, datetime], ...] = ()
    """The leads whose mail is postponed, each with when to try it again: give them to `send` then. In order of the moments."""


class Bulk(Protocol):
    """What broadcasts send by: `BulkMailer`."""

    async def send(
        self, broadcast: int, leads: Sequence[int], content: BulkContent, now: Callable[[], datetime]
    ) -> BulkOutcome:
        """Sends one mail to each of these leads, as far as the gate lets it, and tells where each one is then.

        Called again with the same leads, after a crash too, it goes on where each delivery stands: what was sent is not sent
        again, what another attempt left in `data` is unknown or tried once more by the policy (`mebae.ledger`), and what is
        postponed waits until its time.

        Cancelled, it starts no further mail and ends those that are in `data`, which takes as long as the mail server
        does; all others stay `claimed`, and the next call takes them up.

        Args:
            broadcast: the number of its row in `broadcasts`. While that row says `paused`, mails are postponed; once it is
                `done` or `ended`, they are refused (`ended`).
            leads: a few hundred at a time, or thousands: memory does not grow with them.
            now: the world's time, asked at each step.

        Raises:
            DatabaseUnavailable: try the same call again later. Nothing is lost by it.
            MailInvalid: the mail was never published, or the layout. Nothing was sent.
        """
        ...


class BulkMailer:
    """Made once a worker; chunks that are under way at once share its connections.

    Args:
        at_once: how many mails are with the mail server at once. Fewer than its connections leave some for journeys, whose
            mail never waits behind a broadcast.
        pace: how fast they go out, where that is limited.
        beside: a process that composes the mails of many leads, where there is a core for it.
    """

    def __init__(
        self,
        database: Database,
        transport: Transport,
        gate: Gate,
        settings: MailSettings,
        *,
        at_once: int,
        clock: WorldClock | None = None,
        pace: Pace | None = None,
        beside: Beside | None = None,
    ) -> None:
        self.beside = beside
        self.database, self.transport, self.settings = database, transport, settings
        self.pace = pace or Pace(database, 0)
        self.at_once, self.slots = at_once, asyncio.Semaphore(at_once)
        self.ledger = BulkLedger(gate, settings, clock or WorldClock())
        self.group: GroupCommit[Entering | Concluding, Stand | None] = GroupCommit(database, self.ledger.write, linger=LINGER)

    async def send(
        self, broadcast: int, leads: Sequence[int], content: BulkContent, now: Callable[[], datetime]
    ) -> BulkOutcome:
        """See `Bulk.send`."""
        return await _Chunk(self, broadcast, content, now).send(list(dict.fromkeys(leads)))


class _Closed(Exception):
    """The gate, another attempt or an end of the whole closed the way between RCPT and DATA."""

    def __init__(self, stand: Stand | None) -> None:
        self.stand = stand


class _Chunk:
    """One call of `send`: a feeder that claims and renders, and as many carriers as keep the connections busy."""

    def __init__(self, mailer: BulkMailer, broadcast: int, content: BulkContent, now: Callable[[], datetime]) -> None:
        self._mailer, self._broadcast, self._content, self._now = mailer, broadcast, content, now
        self._stands: list[Stand] = []
        self._ready: asyncio.Queue[tuple[Taken, Composed | Fate] | None] = asyncio.Queue(2 * mailer.at_once)
        self._stopping = False
        self._fault: Exception | None = None

    async def send(self, leads: list[int]) -> BulkOutcome:
        # Twice as many as connections: while one half waits for its words to be written, the other half talks.
        carriers = [asyncio.create_task(self._carry()) for _ in range(2 * self._mailer.at_once)]
        try:
            await self._feed(leads)
        except BaseException:
            self._stopping = True
            raise
        finally:
            closing = asyncio.create_task(self._close(carriers))
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                self._stopping = True
                await asyncio.shield(closing)
                raise
        if self._fault is not None:
            raise self._fault
        counts = Counter(stand.status for stand in self._stands)
        later = [(stand.lead, stand.until) for stand in self._stands if stand.until is not None]
        return BulkOutcome(dict(counts), tuple(sorted(later, key=lambda one: (one[1], one[0]))))

    async def _feed(self, leads: list[int]) -> None:
        many = len(leads) >= MANY
        coming: deque[tuple[Sequence[Taken], asyncio.Task[Mails]]] = deque()
        try:
            async for part in self._claimed(leads):
                coming.append((part, asyncio.create_task(self._compose(part, many))))
                if len(coming) > AHEAD:
                    await self._hand_on(*coming.popleft())
            while coming:
                await self._hand_on(*coming.popleft())
        finally:
            for _, composing in coming:
                composing.cancel()

    async def _claimed(self, leads: list[int]) -> AsyncIterator[Sequence[Taken]]:
        """The mails that may be tried, a few at a time."""
        mailer = self._mailer
        for at in range(0, len(leads), SLICE):
            if self._stopping:
                return
            ids = leads[at : at + SLICE]
            found = await mailer.database.write(mailer.ledger.claim, self._broadcast, ids, self._content, self._now())
            self._stands += found.stands
            for first in range(0, len(found.taken), PART):
                if self._stopping:
                    return
                yield found.taken[first : first + PART]

    async def _compose(self, part: Sequence[Taken], many: bool) -> Mails:
        settings, beside = self._mailer.settings, self._mailer.beside
        found = [self._letter(taken) for taken in part]
        letters = [one for one in found if isinstance(one, Letter)]
        mails: Mails = []
        if many and beside is not None:
            mails = await beside.compose(letters)
        else:
            for letter in letters:
                mails.append(compose_one(letter, settings))
                await asyncio.sleep(0)  # the connections have their turn
        composed = iter(mails)
        return [next(composed) if isinstance(one, Letter) else one for one in found]

    def _letter(self, taken: Taken) -> Letter | Fate:
        try:
            return taken.letter(self._mailer.settings)
        except Exception as error:  # a slip of ours that one lead shows: the others get their mail
            log.exception("mail.unexpected", broadcast=self._broadcast, delivery=taken.row.id)
            return Fate("refused", UNEXPECTED, type(error).__name__)

    async def _hand_on(self, part: Sequence[Taken], composing: asyncio.Task[Mails]) -> None:
        for taken, mail in zip(part, await composing, strict=True):
            if self._stopping:
                return
            await self._ready.put((taken, mail))

    async def _close(self, carriers: list[asyncio.Task[None]]) -> None:
        for _ in carriers:
            await self._ready.put(None)
        await asyncio.gather(*carriers)

    async def _carry(self) -> None:
        while (one := await self._ready.get()) is not None:
            if self._stopping:
                continue
            try:
                stand = await self._one(*one)
            except DatabaseUnavailable as error:
                self._fault, self._stopping = error, True
                continue
            except Exception:  # what came of it cannot be written: it stays as it stands (in `data` it is unknown later)
                log.exception("mail.not_concluded", broadcast=self._broadcast, delivery=one[0].row.id)
                continue
            if stand is not None:
                self._stands.append(stand)

    async def _one(self, taken: Taken, mail: Composed | Fate) -> Stand | None:
        """Where the delivery is afterwards; None if it was left as it stood, because all ends."""
        fate = mail if isinstance(mail, Fate) else None
        if isinstance(mail, Composed):
            entered = False

            async def before_data() -> None:
                nonlocal entered
                if self._stopping:
                    raise _Closed(None)
                closed = await self._mailer.group.ask(Entering(taken, mail, self._now()))
                if closed is not None:
                    raise _Closed(closed)
                entered = True

            try:
                await self._mailer.pace.turn(lambda: self._stopping)
                async with self._mailer.slots:
                    if self._stopping:
                        return None
                    fate = await hand_over(self._mailer.transport, mail, before_data)
            except _Closed as closed:
                return closed.stand
            except DatabaseUnavailable:
                raise
            except Exception as error:
                log.exception("mail.unexpected", broadcast=self._broadcast, delivery=taken.row.id)
                fate = Fate("unknown" if entered else "later", UNEXPECTED, type(error).__name__)
        assert fate is not None
        concluding = Concluding(taken, fate, self._now())
        return await insist(lambda: self._mailer.group.ask(concluding))
