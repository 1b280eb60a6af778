"""The channel of one CRM: how the teller's loop reaches an adapter (`mebae.telling`).

Leads that are due together go together, as many as one request may carry: while one request is under way, those that come wait and go
in the next. A request that is refused as a whole is cut in halves until the one that is wrong stands alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from sqlmodel import Session

from mebae.crm import outbox
from mebae.crm.adapter import Activity, Adapter, Answer, CrmAway, CrmRefused, Done, Record, Refused, Task
from mebae.crm.model import System
from mebae.crm.outside import answered, raised
from mebae.crm.values import Filled, activity_of, record_of
from mebae.mail.outgoing import MailSettings
from mebae.store.crm import link_of, note_link, note_seen
from mebae.store.database import Database
from mebae.store.tables import Telling
from mebae.telling import Dropped, Message


class CrmChannel:
    """Tells one system of leads, activities and tasks."""

    at_once = 50
    """Tellings under way at once: they become few requests."""

    def __init__(self, database: Database, system: System, adapter: Adapter, settings: MailSettings) -> None:
        self._database, self._settings = database, settings
        self.system, self.adapter = system, adapter
        self._leads = _Together(adapter)

    async def tell(self, message: Message, now: datetime) -> str:
        """Raises `CrmAway`, `CrmRefused` or `Dropped`."""
        if message.what == outbox.LEAD:
            return await self._tell_lead(message, now)
        activity = await self._database.read(self._activity, message.id, now)
        if activity is None:
            raise Dropped
        if activity.their_id is None and self.system.kind != "webhook":
            raise CrmRefused("crm-no-lead")
        tell = self.adapter.create_task if isinstance(activity, Task) else self.adapter.push_activity
        answer = await tell(activity)  # type: ignore[arg-type]
        return _heard(answer).raw

    async def _tell_lead(self, message: Message, now: datetime) -> str:
        filled = await self._database.read(self._filled, message.id, now)
        if filled is None:
            raise Dropped
        if self.adapter.most == 1:
            [answer] = await self.adapter.upsert_leads([filled.record])
        else:
            answer = await self._leads.add(filled.record)
        done = _heard(answer)
        await self._database.write(self._note, filled, done, now)
        await self._look_first(filled, done)
        return done.raw

    async def _look_first(self, filled: Filled, done: Done) -> None:
        """What the outcome fields of a record that was there before hold is no news: it is looked at once, before anything comes back."""
        if not self.system.outcomes.fields or done.created or done.id is None:
            return
        if await self._database.read(self._is_known, filled.record.lead):
            return
        for one in await self.adapter.read([done.id]):
            await self._database.write(note_seen, self.system.name, one.id, one.values)

    def _filled(self, session: Session, telling: int, now: datetime) -> Filled | None:
        row = session.get_one(Telling, telling)
        found = record_of(session, self.system, row, self._settings, now) if row.status == "waiting" else None
        if found is None or row.details.get("force"):
            return found
        link = link_of(session, self.system.name, found.record.lead)
        needs_look = link is not None and not link.known and link.their_id is not None and self.system.outcomes.fields
        return None if link is not None and link.digest == found.digest and not needs_look else found

    def _activity(self, session: Session, telling: int, now: datetime) -> Activity | Task | None:
        row = session.get_one(Telling, telling)
        return activity_of(session, self.system, row, self._settings, now) if row.status == "waiting" else None

    def _note(self, session: Session, filled: Filled, done: Done, now: datetime) -> None:
        note_link(
            session, self.system.name, filled.record.lead, now, their_id=done.id, digest=filled.digest, written=filled.written,
            created=done.created,
        )  # fmt: skip

    def _is_known(self, session: Session, lead: int) -> bool:
        link = link_of(session, self.system.name, lead)
        return link is None or link.known

    async def aclose(self) -> None:
        await self.adapter.aclose()


def _heard(answer: Answer) -> Done:
    raised(answer)
    assert isinstance(answer, Done)
    return answer


class _Together:
    """What waits while one request is under way goes together in the next."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._waiting: list[tuple[Record, asyncio.Future[Answer]]] = []
        self._going: asyncio.Task[None] | None = None

    async def add(self, record: Record) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, future))
        if self._going is None or self._going.done():
            self._going = asyncio.create_task(self._go())
        return await future

    async def _go(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._adapter.most], self._waiting[self._adapter.most :]
            try:
                answers = await upsert(self._adapter, [record for record, _ in batch])
            except BaseException as error:  # the adapter's own fault: each telling hears of it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error if isinstance(error, Exception) else CrmAway())
                if not isinstance(error, Exception):
                    raise
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


async def upsert(adapter: Adapter, records: Sequence[Record]) -> Sequence[Answer]:
    """Sends them in one request. If they are refused all together, in two, and so on: one that is wrong takes nobody with it."""
    try:
        answers = await adapter.upsert_leads(records)
    except (CrmAway, CrmRefused) as error:
        answers = [answered(error)] * len(records)
    of_all = len(records) > 1 and all(isinstance(one, Refused) and one.code != "crm-address" for one in answers)
    if not of_all:
        return answers
    half = len(records) // 2
    return [*await upsert(adapter, records[:half]), *await upsert(adapter, records[half:])]
