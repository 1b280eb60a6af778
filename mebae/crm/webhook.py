"""A program of the user's own, told by Standard Webhooks: signed JSON, one message a telling, the same id at every attempt.

The body: `{"type": "lead.upserted", "timestamp": …, "data": {"lead": {"id": 7, "email": …, …}}}`, and likewise `lead.activity` and
`lead.task` with `data.activity` and `data.task`. A receiver answers 2xx when it has kept the message.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mebae.crm import signing
from mebae.crm.adapter import Activity, Answer, Finding, Record, Task, Theirs
from mebae.crm.outside import Outside, classed


class Webhook:
    """Sends to one address."""

    most = 1

    def __init__(self, outside: Outside, secret: str, machine: Callable[[], datetime] | None = None) -> None:
        self._outside, self._secret = outside, secret
        self._machine = machine or (lambda: datetime.now(UTC))

    async def upsert_leads(self, records: Sequence[Record]) -> Sequence[Answer]:
        return [await self._upsert(one) for one in records]

    async def _upsert(self, record: Record) -> Answer:
        return await self._send(record.key, "lead.upserted", record.now, {"lead": _lead(record.lead, record.email) | dict(record.values)})

    async def push_activity(self, activity: Activity) -> Answer:
        data = {"lead": _lead(activity.lead, activity.email), "activity": _said(activity)}
        return await self._send(activity.key, "lead.activity", activity.at, data)

    async def create_task(self, task: Task) -> Answer:
        said = _said(task) | {"due": None if task.due is None else _time(task.due)}
        return await self._send(task.key, "lead.task", task.at, {"lead": _lead(task.lead, task.email), "task": said})

    async def pull_changes(self, since: datetime) -> AsyncIterator[Sequence[Theirs]]:
        """Nothing: what has changed comes by its webhook."""
        return
        yield []

    async def read(self, ids: Sequence[str]) -> Sequence[Theirs]:
        return []

    async def check(self) -> Sequence[Finding]:
        """Nothing is sent: who takes webhooks takes each for a message."""
        return [Finding(True, "the address is allowed and the secret can be read; nothing was sent, for it would be taken for a message")]

    async def _send(self, id: str, kind: str, at: datetime | None, data: Mapping[str, Any]) -> Answer:
        now = self._machine()
        message = {"type": kind, "timestamp": _time(at or now), "data": data}
        body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
        return classed(await self._outside.ask("POST", "", content=body, headers=signing.headers(self._secret, id, now, body)))

    async def aclose(self) -> None:
        await self._outside.aclose()


def _lead(id: int, email: str) -> dict[str, Any]:
    return {"id": id, "email": email}


def _said(activity: Activity) -> dict[str, Any]:
    said = {"what": activity.what, "title": activity.title, "body": activity.body, "at": _time(activity.at), "owner": activity.owner}
    return said | {name: value for name, value in activity.details.items() if value is not None}


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
