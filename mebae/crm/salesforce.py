"""Salesforce: leads by an external id that holds our number, and tasks (developer.salesforce.com, REST API).

OAuth 2.0 client credentials; the token is asked for when it is needed, and anew when it has run out. Whatever address the token's answer
names, requests go to the configured host only. With an external id of Task (`task_key`) everything here can be repeated.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from mebae.crm.adapter import Activity, Answer, CrmAway, Done, Finding, Later, Record, Refused, Task, Theirs, as_text
from mebae.crm.model import System
from mebae.crm.outside import WAIT_FOR_CURE, Outside, Reply, classed, raised

VERSION = "v64.0"
DATA = f"/services/data/{VERSION}"
TOKEN = "/services/oauth2/token"  # noqa: S105 - a path
_CHANGED = "SystemModstamp"
_DEAL = "ConvertedOpportunity"
_LATER = {
    "UNABLE_TO_LOCK_ROW": "crm-locked", "REQUEST_LIMIT_EXCEEDED": "crm-busy", "SERVER_UNAVAILABLE": "crm-away",
    "REQUEST_RUNNING_TOO_LONG": "crm-away", "UNKNOWN_EXCEPTION": "crm-away", "INVALID_SESSION_ID": "crm-credentials",
    "INSUFFICIENT_ACCESS_OR_READONLY": "crm-credentials", "INSUFFICIENT_ACCESS": "crm-credentials",
    "API_DISABLED_FOR_ORG": "crm-credentials",
}  # fmt: skip
"""What passes, or what a person puts right."""
_NEVER = {"CANNOT_UPDATE_CONVERTED_LEAD": "crm-converted", "NOT_FOUND": "crm-not-there", "INVALID_TYPE": "crm-not-there"}


class Salesforce:
    """`client_id`, `client_secret`: of an External Client App with the client credentials flow."""

    most = 200

    def __init__(self, system: System, client_id: str, client_secret: str) -> None:
        self._system, self._names = system, system.outcomes.names
        self._lead_key, self._task_key = system.options["lead_key"], system.options.get("task_key", "")
        self._outside = Outside(system.base, private=system.private)
        self._client = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        self._token: str | None = None
        self._asking = asyncio.Lock()

    async def upsert_leads(self, records: Sequence[Record]) -> Sequence[Answer]:
        sent = [
            {"attributes": {"type": "Lead"}, self._lead_key: str(one.lead), "Email": one.email} | dict(one.values) for one in records
        ]
        reply = await self._ask("PATCH", f"{DATA}/composite/sobjects/Lead/{self._lead_key}", {"allOrNone": False, "records": sent})
        if not reply.ok:
            return [_classed(reply)] * len(records)
        said = reply.json()
        if not isinstance(said, list) or len(said) != len(records):
            return [Later("crm-answer", reply.raw)] * len(records)
        return [_of_one(one) for one in said]

    async def push_activity(self, activity: Activity) -> Answer:
        said = {"Status": "Completed", "Priority": "Normal", "ActivityDate": f"{activity.at.astimezone(UTC):%Y-%m-%d}"}
        return await self._make(activity, said)

    async def create_task(self, task: Task) -> Answer:
        said = {"Status": "Not Started", "Priority": "High", "ActivityDate": f"{(task.due or task.at).astimezone(UTC):%Y-%m-%d}"}
        return await self._make(task, said)

    async def pull_changes(self, since: datetime) -> AsyncIterator[Sequence[Theirs]]:
        at = f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        where = f"{_CHANGED} >= {at}"
        if self._reads_deals:
            where = f"({where} OR {_DEAL}.{_CHANGED} >= {at})"
        path: str | None = None
        query: str | None = f"{self._select} WHERE {where} ORDER BY {_CHANGED} ASC"
        while True:
            said = await self._read(path or f"{DATA}/query", None if query is None else {"q": query})
            if said.get("records"):
                yield [self._theirs(one) for one in said["records"]]
            path, query = said.get("nextRecordsUrl"), None
            if said.get("done", True) or not isinstance(path, str) or not path.startswith(f"{DATA}/query/"):
                return

    async def read(self, ids: Sequence[str]) -> Sequence[Theirs]:
        good = [id for id in ids if re.fullmatch(r"[A-Za-z0-9]{15,18}", id)]
        if not good:
            return []
        named = ",".join(f"'{id}'" for id in good)
        said = await self._read(f"{DATA}/query", {"q": f"{self._select} WHERE Id IN ({named})"})
        return [self._theirs(one) for one in said.get("records", [])]

    async def check(self) -> Sequence[Finding]:
        there = await self._fields("Lead")
        found = [Finding(True, f"the credentials are good, and read {len(there)} fields of Lead"), _key(there, "Lead", self._lead_key)]
        for name in self._system.fields:
            one = there.get(name)
            if one is None:
                found.append(Finding(False, f"field {name}", "Lead has no such field, or the user may not see it"))
            else:
                good = bool(one.get("createable") and one.get("updateable"))
                found.append(Finding(good, f"field {name}", "" if good else "the user may not write it: see its field-level security"))
        plain = [name for name in self._names if "." not in name]
        found += [Finding(name in there, f"field {name}", "" if name in there else "Lead has no such field") for name in plain]
        if len(plain) < len(self._names):
            await self._read(f"{DATA}/query", {"q": f"{self._select} LIMIT 1"})
            found.append(Finding(True, "the fields of converted leads' deals can be read"))
        if self._task_key:
            return [*found, _key(await self._fields("Task"), "Task", self._task_key)]
        cure = 'make a text field of Activity that is an external id, and write task_key="Mebae_Key__c"'
        return [*found, Finding(True, "no task_key: a task whose answer was lost may be there twice", cure)]

    async def aclose(self) -> None:
        await self._outside.aclose()

    async def _make(self, activity: Activity, said: dict[str, str]) -> Answer:
        body: dict[str, Any] = {
            "Subject": activity.title[:255], "Description": activity.body[:32_000], "WhoId": activity.their_id, **said,
        } | ({"OwnerId": activity.owner} if activity.owner is not None else {})  # fmt: skip
        if self._task_key:
            path = f"{DATA}/sobjects/Task/{self._task_key}/{quote(activity.key, safe='')}"
            reply = await self._ask("PATCH", path, body)
        else:
            reply = await self._ask("POST", f"{DATA}/sobjects/Task", body)
        if not reply.ok:
            return _classed(reply)
        return Done(raw=reply.raw)

    async def _fields(self, kind: str) -> dict[str, dict[str, Any]]:
        said = await self._read(f"{DATA}/sobjects/{kind}/describe")
        return {one["name"]: one for one in said.get("fields", [])}

    async def _read(self, path: str, params: dict[str, str] | None = None) -> Any:
        reply = await self._ask("GET", path, params=params)
        raised(_classed(reply))
        return reply.json()

    async def _ask(self, method: str, path: str, body: object = None, params: dict[str, str] | None = None) -> Reply:
        token = await self._valid_token(None)
        reply = await self._outside.ask(method, path, body=body, params=params, headers={"Authorization": f"Bearer {token}"})
        if reply.status == 401:  # it has run out
            token = await self._valid_token(token)
            reply = await self._outside.ask(method, path, body=body, params=params, headers={"Authorization": f"Bearer {token}"})
        return reply

    async def _valid_token(self, worn: str | None) -> str:
        """The token; another than the one that is worn out. Raises `CrmAway`."""
        async with self._asking:
            if self._token is None or self._token == worn:
                reply = await self._outside.ask("POST", TOKEN, form=self._client)
                if 400 <= reply.status < 500 and reply.status != 429:
                    raise CrmAway("crm-credentials", raw=reply.raw, retry_after=WAIT_FOR_CURE)
                raised(classed(reply))
                said = reply.json()
                found = said.get("access_token") if isinstance(said, dict) else None
                if not isinstance(found, str):
                    raise CrmAway("crm-answer", raw=str(reply.status))
                self._token = found
            return self._token

    @property
    def _reads_deals(self) -> bool:
        return any(name.startswith(f"{_DEAL}.") for name in self._names)

    @property
    def _select(self) -> str:
        named = ["Id", _CHANGED, *([f"{_DEAL}.{_CHANGED}"] if self._reads_deals else []), *self._names]
        return f"SELECT {', '.join(dict.fromkeys(named))} FROM Lead"  # noqa: S608 - names of fields, checked when crm.py was read

    def _theirs(self, one: dict[str, Any]) -> Theirs:
        changed = [_dig(one, _CHANGED), _dig(one, f"{_DEAL}.{_CHANGED}")]
        at = max(datetime.fromisoformat(moment.replace("+0000", "+00:00")) for moment in changed if isinstance(moment, str))
        return Theirs(str(one["Id"]), {name: as_text(_dig(one, name)) for name in self._names}, at)


def _dig(one: Any, name: str) -> object:
    for part in name.split("."):
        one = one.get(part) if isinstance(one, dict) else None
    return one


def _of_one(said: dict[str, Any]) -> Answer:
    if said.get("success"):
        return Done(str(said.get("id")), bool(said.get("created")), str(said)[:200])
    errors = said.get("errors") or [{}]
    return _meant(str(errors[0].get("statusCode", "")), str(errors)[:400])


def _meant(code: str, raw: str) -> Answer:
    if code in _LATER:
        return Later(_LATER[code], raw, WAIT_FOR_CURE if _LATER[code] in ("crm-credentials", "crm-busy") else None)
    return Refused(_NEVER.get(code, "crm-invalid"), raw)


def _classed(reply: Reply) -> Answer:
    """By the code in the body, an array of errors, where there is one."""
    if reply.ok or reply.status in (429, 503):
        return classed(reply)
    try:
        said = reply.json()
    except CrmAway:
        return classed(reply)
    code = str(said[0].get("errorCode", "")) if isinstance(said, list) and said and isinstance(said[0], dict) else ""
    return _meant(code, reply.raw) if code in _LATER or code in _NEVER else classed(reply)


def _key(there: dict[str, dict[str, Any]], kind: str, name: str) -> Finding:
    one = there.get(name)
    good = one is not None and bool(one.get("externalId"))
    cure = "" if good else f"make it in Salesforce: a text field of {kind} that is an external id with unique values"
    return Finding(good, f"key field {name} of {kind}", cure)
