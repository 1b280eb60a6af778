"""HubSpot, kintone and Salesforce as far as they are used, by their published API shapes: what is asked must fit, what is said does."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.crm.site import Asked, Said, Site, must
from tests.leads import NOW


class Double(Site):
    """What the three have in common: records that can be changed there, a page size, and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, dict[str, Any]] = {}
        """Their id → fields, with `at` for when it was last changed."""
        self.activities: list[dict[str, Any]] = []
        self.batches: list[int] = []
        self.fields: set[str] = set()
        self.clock = NOW

    def find(self, field: str, value: str) -> str | None:
        return next((id for id, one in self.records.items() if one.get(field) == value), None)

    def change(self, id: str, **values: Any) -> None:
        """Somebody there changes a record, a minute later."""
        self.clock += timedelta(minutes=1)
        self.records[id] |= {**values, "at": self.clock}

    def put(self, id: str | None, values: dict[str, Any]) -> tuple[str, bool]:
        new = id is None
        id = id or str(900 + len(self.records))
        self.records[id] = self.records.get(id, {}) | values | {"at": self.clock}
        return id, new


class HubSpotDouble(Double):
    """developers.hubspot.com, 2026-03: contacts/batch/upsert, contacts/search, contacts/batch/read, notes, tasks, properties."""

    token = "pat-jp1-secret"

    def __init__(self) -> None:
        super().__init__()
        self.fields = {"email", "firstname", "lastname", "company", "mebae_score", "lifecyclestage", "lost_reason", "deal_amount"}
        self.unique = {"notes": {"mebae_key"}, "tasks": {"mebae_key"}}

    def answer(self, asked: Asked) -> Said:
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return _hubspot(401, "INVALID_AUTHENTICATION", "Authentication credentials not found.")
        match asked.method, asked.path.removeprefix("/crm/objects/2026-03").removeprefix("/crm/properties/2026-03"):
            case "POST", "/contacts/batch/upsert":
                return self._upsert(asked.json()["inputs"])
            case "POST", "/contacts/batch/read":
                body = asked.json()
                found = [self._contact(one["id"]) for one in body["inputs"] if one["id"] in self.records]
                return Said(200, {"status": "COMPLETE", "results": found})
            case "POST", "/contacts/search":
                return self._search(asked.json())
            case "POST", ("/notes" | "/tasks") as kind:
                return self._engagement(kind.removeprefix("/"), asked.json())
            case "GET", ("/contacts" | "/notes" | "/tasks") as kind:
                must(asked.path.startswith("/crm/properties"), asked.path)
                unique = self.unique.get(kind.removeprefix("/"), set())
                names = self.fields if kind == "/contacts" else unique | {"hs_timestamp"}
                results = [
                    {"name": name, "type": "string", "hasUniqueValue": name in unique,
                     "modificationMetadata": {"readOnlyValue": name == "deal_amount"}}
                    for name in sorted(names)
                ]  # fmt: skip
                return Said(200, {"results": results})
        must(False, f"{asked.method} {asked.path}")
        raise AssertionError

    def _upsert(self, inputs: list[dict[str, Any]]) -> Said:
        must(0 < len(inputs) <= 100, f"{len(inputs)} inputs")
        self.batches.append(len(inputs))
        results = []
        for one in inputs:
            must(set(one) == {"id", "idProperty", "properties", "objectWriteTraceId"}, str(set(one)))
            must(one["idProperty"] == "email" and one["id"] == one["properties"]["email"], "idProperty")
            must(all(isinstance(value, str) for value in one["properties"].values()), "a property is text")
            unknown = sorted(set(one["properties"]) - self.fields)
            wrong = unknown or one["properties"].get("company") == "refused"
            if wrong:  # one that is wrong refuses all of them
                name = unknown[0] if unknown else "company"
                return _hubspot(400, "VALIDATION_ERROR", f'Property values were not valid: [{{"name":"{name}","error":"INVALID"}}]')
        for one in reversed(inputs):  # in no order
            id, new = self.put(self.find("email", one["id"]), one["properties"])
            results.append(self._contact(id) | {"new": new, "objectWriteTraceId": one["objectWriteTraceId"]})
        return Said(200, {"status": "COMPLETE", "results": results, "startedAt": _iso(self.clock), "completedAt": _iso(self.clock)})

    def _contact(self, id: str) -> dict[str, Any]:
        one = self.records[id]
        said = {name: value for name, value in one.items() if name != "at"} | {"lastmodifieddate": _iso(one["at"]), "hs_object_id": id}
        return {"id": id, "properties": said, "createdAt": _iso(NOW), "updatedAt": _iso(one["at"]), "archived": False}

    def _search(self, body: dict[str, Any]) -> Said:
        [group] = body["filterGroups"]
        [one] = group["filters"]
        must(one["propertyName"] == "lastmodifieddate" and one["operator"] == "GTE" and one["value"].isdigit(), str(one))
        must(body["limit"] <= 200 and body["sorts"] == [{"propertyName": "lastmodifieddate", "direction": "ASCENDING"}], str(body))
        since = datetime.fromtimestamp(int(one["value"]) / 1000, UTC)
        found = sorted((id for id, record in self.records.items() if record["at"] >= since), key=lambda id: self.records[id]["at"])
        start = int(body.get("after", 0))
        page = found[start : start + body["limit"]]
        more = {"paging": {"next": {"after": str(start + body["limit"])}}} if start + body["limit"] < len(found) else {}
        return Said(200, {"total": len(found), "results": [self._contact(id) for id in page], **more})

    def _engagement(self, kind: str, body: dict[str, Any]) -> Said:
        [association] = body["associations"]
        number = {"notes": 202, "tasks": 204}[kind]
        must(association["types"] == [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": number}], str(association))
        must(association["to"]["id"] in self.records, "no such contact")
        said = body["properties"]
        task = {"hs_task_subject", "hs_task_body", "hs_task_status", "hs_task_priority", "hs_task_type"}
        wanted = {"notes": {"hs_note_body"}, "tasks": task}
        must({"hs_timestamp"} | wanted[kind] <= set(said), str(set(said)))
        must(said.get("hs_task_status", "NOT_STARTED") in ("NOT_STARTED", "COMPLETED"), "status")
        for name in self.unique[kind] & set(said):
            if any(one.get(name) == said[name] for one in self.activities if one["kind"] == kind):
                return _hubspot(
                    400, "VALIDATION_ERROR",
                    f'Property values were not valid: [{{"isValid":false,"message":"{said[name]} already has that value.",'
                    f'"error":"CONFLICTING_UNIQUE_VALUE","name":"{name}"}}]',
                )  # fmt: skip
        self.activities.append({"kind": kind, "to": association["to"]["id"], **said})
        return Said(201, {"id": str(5000 + len(self.activities)), "properties": said})


class KintoneDouble(Double):
    """cybozu.dev: records.json (PUT upsert, GET query), app/form/fields.json."""

    token, activities_token = "KTOKEN", "ATOKEN"

    def __init__(self) -> None:
        super().__init__()
        self.fields = {"会社名", "氏名", "スコア", "状態", "失注理由", "受注金額"}

    def answer(self, asked: Asked) -> Said:
        tokens = asked.headers.get("x-cybozu-api-token", "").split(",")
        app = str(asked.query.get("app") or asked.json()["app"])
        if {"12": self.token, "13": self.activities_token}[app] not in tokens:
            return Said(520, {"code": "GAIA_IA02", "id": "x", "message": "指定したAPIトークンが、対象アプリのAPIトークンと一致しません。"})
        match asked.method, asked.path:
            case "PUT", "/k/v1/records.json":
                must(asked.headers["content-type"] == "application/json", "content type")
                return self._upsert(app, asked.json())
            case "GET", "/k/v1/records.json":
                return self._query(asked.query)
            case "GET", "/k/v1/app/form/fields.json":
                return Said(200, {"properties": self._form(app), "revision": "7"})
        must(False, f"{asked.method} {asked.path}")
        raise AssertionError

    def _upsert(self, app: str, body: dict[str, Any]) -> Said:
        must(body["upsert"] is True and 0 < len(body["records"]) <= 100, f"{len(body['records'])} records")
        key = {"12": "リード番号", "13": "キー"}[app]
        known = self.fields if app == "12" else {"リード", "件名", "内容", "日時", "期限"}
        for at, one in enumerate(body["records"]):
            must(one["updateKey"]["field"] == key and isinstance(one["updateKey"]["value"], str), str(one["updateKey"]))
            must(all(set(value) == {"value"} for value in one["record"].values()), "values stand in objects")
            must(key not in one["record"], "the key is not in the record")
            unknown = sorted(set(one["record"]) - known)
            if unknown or one["record"].get("会社名") == {"value": "refused"}:  # all together or none
                name = unknown[0] if unknown else "会社名"
                return Said(
                    400, {"code": "CB_VA01", "id": "y", "message": "入力内容が正しくありません。",
                          "errors": {f"records[{at}].{name}": {"messages": ["…"]}}}
                )  # fmt: skip
        said = []
        if app == "12":
            self.batches.append(len(body["records"]))
        for one in body["records"]:
            value = one["updateKey"]["value"]
            values = {code: field["value"] for code, field in one["record"].items()}
            if app == "13":
                there = any(old["キー"] == value for old in self.activities)
                if not there:
                    self.activities.append({"キー": value, **values})
                said.append({"id": "1", "revision": "1", "operation": "UPDATE" if there else "INSERT"})
                continue
            id, new = self.put(self.find(key, value), {key: value, **values})
            said.append({"id": id, "revision": "1", "operation": "INSERT" if new else "UPDATE"})
        return Said(200, {"records": said})

    def _query(self, query: dict[str, str]) -> Said:
        wanted = [value for name, value in query.items() if name.startswith("fields[")]
        must("$id" in wanted and "更新日時" in wanted, str(wanted))
        if named := re.fullmatch(r"\$id in \((.*)\) limit 500", query["query"]):
            found = [id for id in json.loads(f"[{named[1]}]") if id in self.records]
        else:
            match = re.fullmatch(r'更新日時 >= "([^"]+)" order by 更新日時 asc, \$id asc limit (\d+) offset (\d+)', query["query"])
            must(match is not None and int(match[2]) <= 500 and int(match[3]) <= 10_000, query["query"])
            assert match is not None
            since = datetime.fromisoformat(match[1])
            found = sorted((id for id, one in self.records.items() if one["at"] >= since), key=lambda id: (self.records[id]["at"], int(id)))
            found = found[int(match[3]) : int(match[3]) + int(match[2])]
        records = []
        for id in found:
            one = self.records[id]
            changed = {"type": "UPDATED_TIME", "value": f"{one['at']:%Y-%m-%dT%H:%M:00Z}"}
            values = {code: {"type": "SINGLE_LINE_TEXT", "value": one.get(code, "")} for code in wanted}
            records.append(values | {"$id": {"type": "__ID__", "value": id}, "更新日時": changed})
        return Said(200, {"records": records, "totalCount": None})

    def _form(self, app: str) -> dict[str, Any]:
        plain = {"type": "SINGLE_LINE_TEXT", "unique": False}
        key = {"type": "SINGLE_LINE_TEXT", "unique": True}
        if app == "13":
            return {"キー": key} | dict.fromkeys(("リード", "件名", "内容", "日時", "期限"), plain)
        return {"リード番号": key, "更新日時": {"type": "UPDATED_TIME"}} | dict.fromkeys(self.fields, plain)


class SalesforceDouble(Double):
    """developer.salesforce.com, v64.0: oauth2/token, composite/sobjects, sobjects/Task, query, describe."""

    client = {"grant_type": "client_credentials", "client_id": "3MVG9", "client_secret": "8A4BE"}

    def __init__(self) -> None:
        super().__init__()
        self.fields = {"Id", "LastName", "FirstName", "Company", "Email", "Mebae_Id__c", "Mebae_Score__c", "Status", "SystemModstamp"}
        self.tokens = 0
        self.worn = False
        self.page = 2000
        self.locked = 0

    def answer(self, asked: Asked) -> Said:
        if asked.path == "/services/oauth2/token":
            from urllib.parse import parse_qsl

            must(asked.headers["content-type"] == "application/x-www-form-urlencoded", "form")
            if dict(parse_qsl(asked.body.decode())) != self.client:
                return Said(400, {"error": "invalid_client_id", "error_description": "client identifier invalid"})
            self.tokens, self.worn = self.tokens + 1, False
            # Another host's address: whoever follows it has left the configured one.
            return Said(200, {"access_token": f"00D!{self.tokens}", "instance_url": "https://evil.example", "token_type": "Bearer"})
        if self.worn or asked.headers.get("authorization") != f"Bearer 00D!{self.tokens}":
            return Said(401, [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}])
        path = asked.path.removeprefix("/services/data/v64.0")
        match asked.method, path:
            case "PATCH", "/composite/sobjects/Lead/Mebae_Id__c":
                return self._upsert(asked.json())
            case "PATCH", _ if path.startswith("/sobjects/Task/Mebae_Key__c/"):
                return self._task(path.rpartition("/")[2], asked.json())
            case "GET", "/query":
                return self._query(asked.query["q"], 0)
            case "GET", _ if path.startswith("/query/01g-"):
                return self._query(self._asked_for, int(path.rpartition("-")[2]))
            case "GET", "/sobjects/Lead/describe":
                return Said(200, {"fields": [self._described(name) for name in sorted(self.fields)]})
            case "GET", "/sobjects/Task/describe":
                return Said(200, {"fields": [self._described("Mebae_Key__c")]})
        must(False, f"{asked.method} {asked.path}")
        raise AssertionError

    def _upsert(self, body: dict[str, Any]) -> Said:
        must(body["allOrNone"] is False and 0 < len(body["records"]) <= 200, f"{len(body['records'])} records")
        self.batches.append(len(body["records"]))
        said = []
        for one in body["records"]:
            must(one["attributes"] == {"type": "Lead"} and "Id" not in one, str(one))
            unknown = sorted(set(one) - self.fields - {"attributes"})
            if self.locked:
                self.locked -= 1
                said.append(_failed("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record", []))
            elif unknown:
                said.append(_failed("INVALID_FIELD", f"No such column '{unknown[0]}' on sobject of type Lead", unknown))
            elif not one.get("LastName") or not one.get("Company") or one["Company"] == "refused":
                said.append(_failed("REQUIRED_FIELD_MISSING", "Required fields are missing", ["Company"]))
            else:
                key = self.find("Mebae_Id__c", one["Mebae_Id__c"])
                if key is not None and self.records[key].get("IsConverted"):
                    said.append(_failed("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead", []))
                    continue
                new = key or f"00Q{len(self.records):012d}"
                self.put(new, {name: value for name, value in one.items() if name != "attributes"})
                said.append({"id": new, "success": True, "errors": [], "created": key is None})
        return Said(200, said)

    def _task(self, key: str, body: dict[str, Any]) -> Said:
        must({"Subject", "Description", "WhoId", "Status", "Priority", "ActivityDate"} <= set(body), str(set(body)))
        must(len(body["Subject"]) <= 255 and re.fullmatch(r"\d{4}-\d\d-\d\d", body["ActivityDate"]), str(body))
        must("Mebae_Key__c" not in body and body["WhoId"] in self.records, "WhoId")
        there = any(one["key"] == key for one in self.activities)
        if not there:
            self.activities.append({"key": key, **body})
        return Said(200 if there else 201, {"id": "00T000000000001", "success": True, "errors": [], "created": not there})

    def _query(self, q: str, start: int) -> Said:
        self._asked_for = q
        match = re.fullmatch(r"SELECT ([\w., ]+) FROM Lead(?: WHERE (.*?))?(?: ORDER BY SystemModstamp ASC)?(?: LIMIT 1)?", q)
        must(match is not None, q)
        assert match is not None
        names, where = match[1].split(", "), match[2] or ""
        found = sorted(self.records, key=lambda id: self.records[id]["at"])
        if where.startswith("Id IN"):
            found = [id for id in found if f"'{id}'" in where]
        elif where:
            times = re.findall(r"SystemModstamp >= (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", where)
            must(times, q)
            found = [id for id in found if self.records[id]["at"] >= datetime.fromisoformat(times[0])]
        page = found[start : start + self.page]
        done, rows = start + self.page >= len(found), [self._row(id, names) for id in page]
        said: dict[str, Any] = {"totalSize": len(found), "done": done, "records": rows}
        if not said["done"]:
            said["nextRecordsUrl"] = f"/services/data/v64.0/query/01g-{start + self.page}"
        return Said(200, said)

    def _row(self, id: str, names: list[str]) -> dict[str, Any]:
        one, row = self.records[id], {"attributes": {"type": "Lead", "url": "…"}, "Id": id}
        for name in names:
            if name == "SystemModstamp":
                row[name] = f"{one['at']:%Y-%m-%dT%H:%M:%S}.000+0000"
            elif name.startswith("ConvertedOpportunity."):
                deal = one.get("ConvertedOpportunity")
                row["ConvertedOpportunity"] = None if deal is None else {"attributes": {}, **deal}
            elif name != "Id":
                row[name] = one.get(name)
        return row

    def _described(self, name: str) -> dict[str, Any]:
        writable = name not in ("Id", "SystemModstamp")
        return {"name": name, "externalId": name in ("Mebae_Id__c", "Mebae_Key__c"), "createable": writable, "updateable": writable}


def _hubspot(status: int, category: str, message: str) -> Said:
    return Said(status, {"status": "error", "message": message, "correlationId": "3b8d", "category": category})


def _failed(code: str, message: str, fields: list[str]) -> dict[str, Any]:
    return {"success": False, "errors": [{"statusCode": code, "message": message, "fields": fields}]}


def _iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.000Z"
