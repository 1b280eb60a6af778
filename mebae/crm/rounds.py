"""What is done with other systems again and again: reading records that they say have changed, pulling, and pushing by schedule.

The inbox runs in the worker all the time; pulls and pushes are jobs (`mebae.periodic`), which Temporal Schedules start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from sqlmodel import Session, col, or_, select

from mebae.clock import WorldClock
from mebae.crm import inbound, outbox
from mebae.crm.adapter import Adapter, CrmAway, CrmRefused, Theirs
from mebae.crm.model import System
from mebae.errors import DatabaseUnavailable
from mebae.periodic import Mark
from mebae.resting import Setting
from mebae.store.database import Database, lock_lead
from mebae.store.tables import CrmCursor, CrmMessage
from mebae.telling import FIRST, LEASE, MOST

log = structlog.get_logger()

IDLE = 1.0
TRIES = 100
"""About a day; then the message is refused, and a pull finds what it was about."""
OVERLAP = timedelta(minutes=2)
"""A search shows what was just changed only a while later."""
FIRST_PULL = timedelta(hours=1)
PUSHED_AT_ONCE = 100


class CrmInbox:
    """Reads what other systems say has changed. Runs until cancelled."""

    def __init__(
        self, database: Database, adapters: Mapping[str, tuple[System, Adapter]], setting: Setting, *, clock: WorldClock,
        machine: Callable[[], datetime] | None = None,
    ) -> None:  # fmt: skip
        self._database, self._adapters, self._setting, self._clock = database, adapters, setting, clock
        self._machine = machine or (lambda: datetime.now(UTC))

    async def run(self) -> None:
        while True:
            done = 0
            for name in self._adapters:
                try:
                    done += await self.look(name)
                except DatabaseUnavailable:
                    await asyncio.sleep(1)
                except Exception:  # an adapter's own fault: its messages wait, the others' do not
                    log.exception("crm.inbox_failed", system=name)
            if not done:
                await asyncio.sleep(IDLE)

    async def look(self, name: str) -> int:
        """Reads what waits of one system; how many messages were looked at."""
        system, adapter = self._adapters[name]
        machine = self._machine()
        waiting = await self._database.write(_take, name, machine, adapter.most)
        if not waiting:
            return 0
        ids = list(dict.fromkeys(their_id for _, _, their_id in waiting))
        try:
            found = {one.id: one for one in await adapter.read(ids)}
        except (CrmAway, CrmRefused) as error:
            for id, _, _ in waiting:
                await self._database.write(_later, id, error.code, getattr(error, "retry_after", None), machine)
            return len(waiting)
        for _, key, their_id in waiting:
            theirs = found.get(their_id) or Theirs(f"gone:{their_id}", {}, machine)
            now = self._clock.world(machine)
            await self._database.write(inbound.read, system, theirs, key, now, self._setting.zone, self._setting.calendar)
        return len(waiting)


def pulling(system: System, make: Callable[[], Adapter], setting: Setting) -> Callable[..., Iterator[Mark]]:
    """The job that fetches what changed in one system since the last time."""

    def work(database: Database, now: Callable[[], datetime], mark: Mark | None = None, /) -> Iterator[Mark]:
        at = mark or Mark(counts={"read": 0, "decided": 0})
        since = database.read_now(_read_until, system.name) or now() - FIRST_PULL
        newest = since
        adapter, loop = make(), asyncio.new_event_loop()
        try:
            pages = adapter.pull_changes(since - OVERLAP)
            while (page := loop.run_until_complete(anext(pages, None))) is not None:
                newest = max([newest, *(one.at for one in page)])
                at.counts["read"] += len(page)
                at.counts["decided"] += _apply(database, system, page, now(), setting)
                yield at
        finally:
            loop.run_until_complete(adapter.aclose())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
        database.write_now(_note_read, system.name, newest)

    return work


def pushing(system: System) -> Callable[..., Iterator[Mark]]:
    """The job that has all leads brought up to date in one system that changed since the last time."""

    def work(database: Database, now: Callable[[], datetime], mark: Mark | None = None, /) -> Iterator[Mark]:
        at = mark or Mark(counts={"told": 0})
        until = datetime.fromisoformat(at.place["until"]) if "until" in at.place else now()
        after = int(at.place.get("after", 0))
        while ids := database.read_now(outbox.changed_leads, system, after, until, PUSHED_AT_ONCE):
            at.counts["told"] += database.write_now(_tell, system, ids, now())
            after = ids[-1]
            at.place = {"after": after, "until": until.isoformat()}
            yield at
        database.write_now(outbox.swept, system, until)

    return work


def _apply(database: Database, system: System, page: Sequence[Theirs], now: datetime, setting: Setting) -> int:
    ours = database.read_now(inbound.ours, system.name, [one.id for one in page])
    decided = 0
    for one in page:
        if one.id in ours:
            row = database.write_now(inbound.read, system, one, None, now, setting.zone, setting.calendar)
            decided += row is not None and row.status == "done"
    return decided


def _tell(session: Session, system: System, ids: Sequence[int], now: datetime) -> int:
    told = 0
    for id in ids:
        lead = lock_lead(session, id)
        if lead is not None and outbox.tell_lead(session, system, lead, now):
            told += 1
    return told


def _read_until(session: Session, system: str) -> datetime | None:
    row = session.get(CrmCursor, system)
    return None if row is None else row.read_until


def _note_read(session: Session, system: str, until: datetime) -> None:
    row = session.get(CrmCursor, system) or CrmCursor(system=system)
    row.read_until = until
    session.add(row)


def _take(session: Session, system: str, machine: datetime, most: int) -> list[tuple[int, str, str]]:
    mine = or_(col(CrmMessage.next_at).is_(None), col(CrmMessage.next_at) <= machine, col(CrmMessage.next_at) > machine + 2 * MOST)
    query = (
        select(CrmMessage)
        .where(CrmMessage.system == system, CrmMessage.status == "waiting", col(CrmMessage.their_id).is_not(None), mine)
        .order_by(col(CrmMessage.id))
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    found = []
    for row in session.exec(query).all():
        row.attempts, row.next_at = row.attempts + 1, machine + LEASE
        found.append((row.id or 0, row.key, row.their_id or ""))
    return found


def _later(session: Session, message: int, code: str, after: timedelta | None, machine: datetime) -> None:
    row = session.get_one(CrmMessage, message, with_for_update=True)
    if row.status != "waiting":
        return
    row.reason = code
    if row.attempts >= TRIES:
        row.status, row.next_at = "refused", None
        log.error("crm.message_given_up", message=message, system=row.system, code=code)
        return
    wait = min(FIRST * 2 ** min(row.attempts - 1, 10), MOST)
    row.next_at = machine + min(max(wait, after or wait), MOST)
