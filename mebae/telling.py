"""The teller: tells the outside what was written for it, until it has been heard (FAULTS R14).

A `Telling` is written in the transaction of what it tells of. Each channel has a loop of its own, so that a webhook that hangs holds
up no mail, and each lane is told in its order. A channel that is away is tried again, later and later, but every quarter of an hour
at least, with the same idempotency key: told once on its return. Kill it anywhere, and what was not marked is told again with that key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog
from sqlalchemy import func
from sqlmodel import Session, col, or_, select

from mebae.clock import WorldClock
from mebae.errors import DatabaseUnavailable, Permanent, Refusal
from mebae.store.database import Database
from mebae.store.tables import Telling
from mebae.store.traits import clean_text

log = structlog.get_logger()

AT_ONCE = 8
"""Tellings of one channel under way at once, unless it says another number itself (`at_once`)."""
ATTEMPT = 60.0
"""Seconds that one attempt may take."""
LEASE = timedelta(seconds=90)
"""For how long a telling is in the hands of the teller that took it: longer than any attempt takes."""
FIRST, MOST = timedelta(seconds=5), timedelta(minutes=15)
TRIES = 700
"""About a week of attempts; then it is refused, and logged."""
IDLE = 0.5


@dataclass(frozen=True)
class Message:
    """A telling, for a channel."""

    id: int
    key: str
    target: str
    what: str
    lead: int | None
    handover: int | None
    call: int | None
    version: int
    details: Mapping[str, Any]


class Channel(Protocol):
    """A way to the outside."""

    async def tell(self, message: Message, now: datetime) -> str:
        """Tells it, and gives the raw answer back; the key makes a repetition harmless.

        Raises a `Temporary` refusal if later may be better, a `Permanent` one if never. `Dropped` if nobody needs to know any more.
        A refusal may carry what the other side said as `raw`, and as `retry_after` when it wants to be asked again.
        """
        ...


class Dropped(Permanent):
    """Nobody needs to be told any more."""

    code = "dropped"


class Teller:
    """Runs until cancelled."""

    def __init__(
        self, database: Database, channels: Mapping[str, Channel], *, clock: WorldClock, machine: Callable[[], datetime] | None = None
    ) -> None:
        self._database, self._channels, self._clock = database, channels, clock
        self._machine = machine or (lambda: datetime.now(UTC))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for name in self._channels:
                tasks.create_task(self._run(name))

    async def _run(self, channel: str) -> None:
        while True:
            try:
                told = await self.deliver(channel)
            except DatabaseUnavailable:
                told = 0
                await asyncio.sleep(1)
            except Exception:  # one round's fault ends no channel, and not the worker: what was taken is told after its lease
                log.exception("telling.round_failed", channel=channel)
                told = 0
                await asyncio.sleep(1)
            if not told:
                await asyncio.sleep(IDLE)

    async def deliver(self, channel: str) -> int:
        """Tells what is due on a channel; how many were tried."""
        most = getattr(self._channels[channel], "at_once", AT_ONCE)
        messages = await self._database.write(_take, channel, self._machine(), most)
        await asyncio.gather(*(self._tell(channel, one) for one in messages))
        return len(messages)

    async def _tell(self, channel: str, message: Message) -> None:
        machine = self._machine()
        now = self._clock.world(machine)
        try:
            async with asyncio.timeout(ATTEMPT):
                raw = await self._channels[channel].tell(message, now)
        except TimeoutError:
            await self._database.write(_later, message.id, "timeout", None, None, machine)
        except Dropped:
            await self._database.write(_close, message.id, "dropped", "nobody", None, now)
        except Permanent as no:
            log.error("telling.refused", telling=message.id, channel=channel, code=no.code)
            await self._database.write(_close, message.id, "refused", no.code, getattr(no, "raw", None), now)
        except Refusal as later:
            await self._database.write(_later, message.id, later.code, _raw_of(later), _after_of(later), machine)
        except Exception as error:  # an adapter's own fault holds up nothing but its own lane
            log.exception("telling.failed", telling=message.id, channel=channel)
            await self._database.write(_later, message.id, f"unexpected:{type(error).__name__}", None, None, machine)
        else:
            await self._database.write(_close, message.id, "told", None, raw, now)


def _raw_of(refusal: Refusal) -> str | None:
    raw = getattr(refusal, "raw", None)
    return str(raw) if raw is not None else None


def _after_of(refusal: Refusal) -> timedelta | None:
    after = getattr(refusal, "retry_after", None)
    return after if isinstance(after, timedelta) else None


def _take(session: Session, channel: str, machine: datetime, most: int) -> list[Message]:
    """What is due, the first of each lane; it is this teller's for a while."""
    first = (
        select(func.min(Telling.id))
        .where(Telling.channel == channel, Telling.status == "waiting")
        .group_by(col(Telling.lane))
    )
    mine = or_(col(Telling.next_at).is_(None), col(Telling.next_at) <= machine, col(Telling.next_at) > machine + 2 * MOST)
    query = (
        select(Telling)
        .where(Telling.status == "waiting", col(Telling.id).in_(first), mine)
        .order_by(col(Telling.id))
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    found = []
    for row in session.exec(query).all():
        row.attempts, row.next_at = row.attempts + 1, machine + LEASE
        found.append(
            Message(
                row.id or 0, row.key, row.target, row.what, row.lead_id, row.handover_id, row.call_id, row.version, dict(row.details)
            )
        )  # fmt: skip
    return found


def _kept(raw: str | None) -> str | None:
    """What is kept of an answer, without what no database can keep."""
    return clean_text(raw[:500]) if raw else None


def _close(session: Session, telling: int, status: str, reason: str | None, raw: str | None, now: datetime) -> None:
    row = session.get_one(Telling, telling, with_for_update=True)
    if row.status in ("waiting", "dropped"):
        # Dropped meanwhile: an erasure has wiped what names the lead, and the answer may name it too.
        kept = None if row.status == "dropped" else _kept(raw)
        row.status, row.reason, row.raw, row.next_at = status, reason, kept, None
        row.told_at = now if status == "told" else None


def _later(session: Session, telling: int, reason: str, raw: str | None, after: timedelta | None, machine: datetime) -> None:
    row = session.get_one(Telling, telling, with_for_update=True)
    if row.status != "waiting":
        return
    row.reason, row.raw = reason, _kept(raw)
    if row.attempts >= TRIES:
        row.status, row.next_at = "refused", None
        log.error("telling.gave_up", telling=telling, channel=row.channel)
        return
    wait = min(FIRST * 2 ** min(row.attempts - 1, 10), MOST)
    row.next_at = machine + min(max(wait, after or wait), MOST)
