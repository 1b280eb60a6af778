"""HubSpot: contacts by their address, notes and tasks on their timeline (developers.hubspot.com, API of 2026-03).

A contact is upserted by its address, so the same again changes nothing. Notes and tasks have no key of their own: with a property of
unique values (`key_field`) one whose answer was lost is not made twice, for HubSpot refuses the second one, and that counts as done.
"""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mebae.crm.adapter import Activity, Answer, Done, Finding, Later, Plain, Record, Refused, Task, Theirs, as_text
from mebae.crm.model import System
from mebae.crm.outside import Outside, Reply, classed, raised

VERSION = "2026-03"
OBJECTS = f"/crm/objects/{VERSION}"
PROPERTIES = f"/crm/properties/{VERSION}"
NOTE_TO_CONTACT, TASK_TO_CONTACT = 202, 204
"""Association types that HubSpot defines."""
SEARCH_SHOWS = 10_000
"""What a search gives at most, over all of its pages."""
_CHANGED = "lastmodifieddate"
_TAKEN = "CONFLICTING_UNIQUE_VALUE"


class HubSpot:
    """`token`: of a private app."""

    most = 100

    def __init__(self, system: System, token: str) -> None:
        self._system, self._key_field = system, system.options.get("key_field", "")
        self._names = system.outcomes.names
        self._outside = Outside(system.base, private=system.private)
        self._headers = {"Authorization": f"Bearer {token}"}

    async def upsert_leads(self, records: Sequence[Record]) -> Sequence[Answer]:
        inputs = [
            {
                "id": one.email, "idProperty": "email", "objectWriteTraceId": one.key,
                "properties": {"email": one.email} | {name: _written(value) for name, value in one.values.items()},
            }
            for one in records
        ]  # fmt: skip
        reply = await self._ask("POST", f"{OBJECTS}/contacts/batch/upsert", {"inputs": inputs})
        if not reply.ok:
            return [_classed(reply)] * len(records)
        return _each(records, reply)

    async def push_activity(self, activity: Activity) -> Answer:
        body = f"<strong>{html.escape(activity.title)}</strong><br>{_html(activity.body)}"
        said = {"hs_timestamp": _time(activity.at), "hs_note_body": body[:65_000]}
        return await self._make("notes", NOTE_TO_CONTACT, activity, said)

    async def create_task(self, task: Task) -> Answer:
        said = {
            "hs_timestamp": _time(task.due or task.at), "hs_task_subject": task.title[:250], "hs_task_body": _html(task.body)[:65_000],
            "hs_task_status": "NOT_STARTED", "hs_task_priority": "HIGH", "hs_task_type": "CALL" if task.what == "call" else "TODO",
        }  # fmt: skip
        return await self._make("tasks", TASK_TO_CONTACT, task, said)

    async def pull_changes(self, since: datetime) -> AsyncIterator[Sequence[Theirs]]:
        after, start = "", since
        while True:
            body: dict[str, Any] = {
                "filterGroups": [{"filters": [{"propertyName": _CHANGED, "operator": "GTE", "value": str(int(start.timestamp() * 1000))}]}],
                "sorts": [{"propertyName": _CHANGED, "direction": "ASCENDING"}],
                "properties": [*self._names, _CHANGED],
                "limit": self.most,
            } | ({"after": after} if after else {})
            found = self._theirs(await self._read("POST", f"{OBJECTS}/contacts/search", body))
            page, after = found
            if page:
                yield page
            if not after:
                return
            if int(after) + self.most > SEARCH_SHOWS:
                if page[-1].at <= start:  # more at one moment than a search can show; the next pull has the rest if they change again
                    return
                after, start = "", page[-1].at

    async def read(self, ids: Sequence[str]) -> Sequence[Theirs]:
        body = {"inputs": [{"id": id} for id in ids], "properties": [*self._names, _CHANGED]}
        page, _ = self._theirs(await self._read("POST", f"{OBJECTS}/contacts/batch/read", body))
        return page

    async def check(self) -> Sequence[Finding]:
        there = await self._properties("contacts")
        found = [Finding(True, f"the token is good, and reads {len(there)} properties of contacts")]
        found += [_field(there, name, writes=True) for name in self._system.fields]
        found += [_field(there, name, writes=False) for name in self._names]
        if not self._key_field:
            cure = 'make a text property with unique values for notes and tasks, and write key_field="mebae_key"'
            found.append(Finding(True, "no key_field: a note or task whose answer was lost may be there twice", cure))
            return found
        for kind in ("notes", "tasks"):
            one = (await self._properties(kind)).get(self._key_field)
            good = one is not None and bool(one.get("hasUniqueValue"))
            cure = "" if good else f"make it in HubSpot: a text property of {kind} whose values are unique"
            found.append(Finding(good, f"{self._key_field} of {kind}", cure))
        return found

    async def aclose(self) -> None:
        await self._outside.aclose()

    async def _make(self, kind: str, association: int, activity: Activity, properties: dict[str, str]) -> Answer:
        if activity.owner is not None:
            properties["hubspot_owner_id"] = activity.owner
        if self._key_field:
            properties[self._key_field] = activity.key
        types = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": association}]
        body = {"properties": properties, "associations": [{"to": {"id": activity.their_id}, "types": types}]}
        reply = await self._ask("POST", f"{OBJECTS}/{kind}", body)
        if reply.status in (400, 409) and self._key_field and _TAKEN.encode() in reply.body:
            return Done(raw=reply.raw)
        if not reply.ok:
            return _classed(reply)
        return Done(id=str(reply.json().get("id")), created=True, raw=reply.raw)

    async def _properties(self, kind: str) -> dict[str, dict[str, Any]]:
        found = await self._read("GET", f"{PROPERTIES}/{kind}")
        return {one["name"]: one for one in found.get("results", [])}

    async def _read(self, method: str, path: str, body: object = None) -> Any:
        reply = await self._ask(method, path, body)
        raised(_classed(reply))
        return reply.json()

    async def _ask(self, method: str, path: str, body: object = None) -> Reply:
        return await self._outside.ask(method, path, body=body, headers=self._headers)

    def _theirs(self, answer: Any) -> tuple[list[Theirs], str]:
        found = []
        for one in answer.get("results", []):
            said = one.get("properties", {})
            at = datetime.fromisoformat(said.get(_CHANGED) or one.get("updatedAt"))
            found.append(Theirs(str(one["id"]), {name: as_text(said.get(name)) for name in self._names}, at))
        return found, str(answer.get("paging", {}).get("next", {}).get("after", ""))


def _each(records: Sequence[Record], reply: Reply) -> list[Answer]:
    """The answer for each record; a batch that was taken in part (207) says which ones were not."""
    said = reply.json()
    taken: dict[str, Any] = {}
    for one in said.get("results", []):
        for name in (one.get("objectWriteTraceId"), str(one.get("properties", {}).get("email") or "").lower()):
            if name:
                taken[name] = one
    answers: list[Answer] = []
    for record in records:
        its = taken.get(record.key) or taken.get(record.email.lower())
        if its is not None:
            answers.append(Done(str(its["id"]), bool(its.get("new")), f"{reply.status} {its['id']}"))
        elif said.get("errors"):
            answers.append(Refused("crm-invalid", _error_of(record, said["errors"])))
        else:
            answers.append(Later("crm-answer", reply.raw))
    return answers


def _error_of(record: Record, errors: Sequence[Any]) -> str:
    mine = [one for one in errors if record.key in str(one) or record.email in str(one)] or errors
    return str(mine[0].get("message", mine[0]))[:400]


def _classed(reply: Reply) -> Answer:
    """HubSpot says in the body which limit was met; not always with `Retry-After`."""
    answer = classed(reply)
    if reply.status == 429 and isinstance(answer, Later) and answer.after is None:
        span = timedelta(minutes=15) if b"DAILY" in reply.body else timedelta(seconds=10)
        return Later(answer.code, answer.raw, span)
    return answer


def _field(there: dict[str, dict[str, Any]], name: str, *, writes: bool) -> Finding:
    one = there.get(name)
    if one is None:
        return Finding(False, f"property {name}", "there is no such property of contacts: make it, or write its internal name")
    if writes and one.get("modificationMetadata", {}).get("readOnlyValue"):
        return Finding(False, f"property {name}", "HubSpot lets nobody write it: choose another one")
    return Finding(True, f"property {name}")


def _written(value: Plain) -> str:
    """Every property is text; an empty one clears it."""
    return as_text(value) if not isinstance(value, str) else value


def _html(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
