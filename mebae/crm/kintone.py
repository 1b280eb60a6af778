"""kintone: records of an app, by a field without duplicates that holds our number of the lead (cybozu.dev, REST API).

Activities and tasks are records of another app, by a field without duplicates that holds the key of the telling: everything here can be
repeated. kintone takes or refuses the records of a request all together.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from mebae.crm.adapter import (
    Activity,
    Answer,
    CrmAway,
    Done,
    Finding,
    Later,
    Plain,
    Record,
    Refused,
    Task,
    Theirs,
    as_text,
)
from mebae.crm.model import System
from mebae.crm.outside import WAIT_FOR_CURE, Outside, Reply, classed, raised

RECORDS = "/k/v1/records.json"
FIELDS = "/k/v1/app/form/fields.json"
READS, SKIPS = 500, 10_000
"""Records that a query gives at most, and the furthest offset."""
_NOT_ALLOWED = ("GAIA_IA02", "GAIA_NO01", "CB_NO02", "CB_WA01", "CB_AU01")
"""The token is none of the app, or may not do this. kintone answers some of them with 520."""
_LOCKED = ("GAIA_DA02", "GAIA_UN03", "GAIA_CO02")
"""Somebody else is writing, or a revision has moved."""


class Kintone:
    """`token`: of the app, with the rights to view, add and edit records; `activities_token`: of the app for activities."""

    most = 100

    def __init__(self, system: System, token: str, activities_token: str | None = None) -> None:
        self._system, self._names = system, system.outcomes.names
        self._app, self._key = int(system.options["app"]), system.options["key"]
        self._updated = system.options["updated"]
        self._activity_app = system.options.get("activity_app")
        self._activity = {
            of.removeprefix("activity."): code for of, code in system.options.items() if of.startswith("activity.")
        }
        self._outside = Outside(system.base, private=system.private)
        self._token = token
        # A field that looks records up in the other app needs the tokens of both.
        self._activities_token = ",".join([activities_token, token]) if activities_token else token

    async def upsert_leads(self, records: Sequence[Record]) -> Sequence[Answer]:
        sent = [
            {
                "updateKey": {"field": self._key, "value": str(one.lead)},
                "record": {code: {"value": _written(value)} for code, value in one.values.items()},
            }
            for one in records
        ]
        reply = await self._ask("PUT", RECORDS, {"app": self._app, "upsert": True, "records": sent})
        if not reply.ok:
            return [_classed(reply)] * len(records)
        said = reply.json().get("records", [])
        if len(said) != len(records):
            return [Later("crm-answer", reply.raw)] * len(records)
        return [Done(str(one["id"]), one.get("operation") == "INSERT", f"{reply.status} {one}") for one in said]

    async def push_activity(self, activity: Activity) -> Answer:
        return await self._note(activity, None)

    async def create_task(self, task: Task) -> Answer:
        return await self._note(task, task.due)

    async def pull_changes(self, since: datetime) -> AsyncIterator[Sequence[Theirs]]:
        start, offset = since, 0
        while True:
            where = f'{self._updated} >= "{_time(start)}" order by {self._updated} asc, $id asc limit {READS} offset {offset}'
            page = await self._query(where)
            if page:
                yield page
            if len(page) < READS:
                return
            offset += READS
            if offset > SKIPS - READS:
                if page[-1].at <= start:
                    return
                start, offset = page[-1].at, 0

    async def read(self, ids: Sequence[str]) -> Sequence[Theirs]:
        wanted = ", ".join(json.dumps(id) for id in ids if id.isascii() and id.isdigit())
        if not wanted:
            return []
        return await self._query(f"$id in ({wanted}) limit {READS}")

    async def check(self) -> Sequence[Finding]:
        there = await self._fields(self._app, self._token)
        found = [Finding(True, f"the token is good, and reads {len(there)} fields of app {self._app}"), _unique(there, self._key)]
        found += [_field(there, code) for code in (*self._system.fields, *self._names)]
        if there.get(self._updated, {}).get("type") != "UPDATED_TIME":
            cure = 'write the code of the field of the last change: updated="更新日時"'
            found.append(Finding(False, f"field {self._updated}", cure))
        if self._activity_app is None:
            found.append(Finding(True, "no app for activities and tasks: none are sent there", "name one with activities=(13, {…})"))
            return found
        there = await self._fields(int(self._activity_app), self._activities_token)
        found.append(_unique(there, self._activity["key"]))
        return [*found, *(_field(there, code) for code in self._activity.values())]

    async def aclose(self) -> None:
        await self._outside.aclose()

    async def _note(self, activity: Activity, due: datetime | None) -> Answer:
        if self._activity_app is None:
            return Done(raw="no app for activities")
        values: dict[str, Plain] = {
            "lead": str(activity.lead), "what": activity.what, "title": activity.title, "body": activity.body,
            "at": _time(activity.at), "due": None if due is None else _time(due), "owner": activity.owner,
        }  # fmt: skip
        record = {self._activity[of]: {"value": _written(one)} for of, one in values.items() if of in self._activity}
        sent = {"updateKey": {"field": self._activity["key"], "value": activity.key}, "record": record}
        body = {"app": int(self._activity_app), "upsert": True, "records": [sent]}
        reply = await self._ask("PUT", RECORDS, body, token=self._activities_token)
        return _classed(reply) if not reply.ok else Done(raw=reply.raw)

    async def _query(self, query: str) -> list[Theirs]:
        wanted = {f"fields[{at}]": code for at, code in enumerate(("$id", self._updated, *self._names))}
        reply = await self._ask("GET", RECORDS, params={"app": str(self._app), "query": query, **wanted})
        raised(_classed(reply))
        found = []
        for one in reply.json().get("records", []):
            at = datetime.fromisoformat(one[self._updated]["value"])
            values = {code: as_text(one.get(code, {}).get("value")) for code in self._names}
            found.append(Theirs(str(one["$id"]["value"]), values, at))
        return found

    async def _fields(self, app: int, token: str) -> dict[str, dict[str, Any]]:
        reply = await self._ask("GET", FIELDS, params={"app": str(app)}, token=token)
        raised(_classed(reply))
        found: dict[str, dict[str, Any]] = reply.json().get("properties", {})
        return found

    async def _ask(
        self, method: str, path: str, body: object = None, *, params: dict[str, str] | None = None, token: str | None = None
    ) -> Reply:
        headers = {"X-Cybozu-API-Token": token or self._token}
        return await self._outside.ask(method, path, body=body, params=params, headers=headers)


def _classed(reply: Reply) -> Answer:
    """By the code in the body; a status alone says little with kintone."""
    if reply.ok:
        return Done(raw=reply.raw)
    try:
        code = str(reply.json().get("code", ""))
    except (CrmAway, AttributeError):
        code = ""
    if code in _NOT_ALLOWED:
        return Later("crm-credentials", reply.raw, WAIT_FOR_CURE)
    if code in _LOCKED:
        return Later("crm-locked", reply.raw)
    if code == "GAIA_AP01":
        return Refused("crm-not-there", reply.raw)
    return classed(reply)


def _field(there: dict[str, dict[str, Any]], code: str) -> Finding:
    if code in there:
        return Finding(True, f"field {code}")
    return Finding(False, f"field {code}", "the app has no field of this code: look at フィールドコード in its settings")


def _unique(there: dict[str, dict[str, Any]], code: str) -> Finding:
    one = there.get(code, {})
    good = one.get("type") in ("SINGLE_LINE_TEXT", "NUMBER") and bool(one.get("unique"))
    cure = "" if good else "it must be a text (one line) or number field with 値の重複を禁止する"
    return Finding(good, f"key field {code}", cure)


def _written(value: Plain) -> str:
    return value if isinstance(value, str) else as_text(value)


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
