"""Where other systems say what became of a lead: `POST /v1/crm/{name}`, by the name of the system in `crm.py`.

Each is known by its own proof: Standard Webhooks (`lead.won` …), HubSpot's signature v3, kintone's token. What a webhook of HubSpot or
kintone says is only that a record has changed: the worker reads it, so that a forged or late value decides nothing. A message is kept
before it is answered, once, however often it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlmodel import Session

from mebae.clock import WorldClock
from mebae.crm import inbound, signing
from mebae.crm.inbound import Said
from mebae.crm.model import System
from mebae.crm.wiring import secrets_of
from mebae.errors import BadInput
from mebae.handover import Move
from mebae.http.body import HttpError, parse, read_capped
from mebae.resting import Setting
from mebae.store.crm import crm_of
from mebae.store.database import Database
from mebae.store.leads import find_lead
from mebae.store.tables import Lead

log = structlog.get_logger()

TYPES = {
    "lead.accepted": Move.ACCEPT, "lead.rejected": Move.REJECT, "lead.returned": Move.RETURN, "lead.sql": Move.SQL,
    "lead.opportunity": Move.OPPORTUNITY, "lead.won": Move.WON, "lead.lost": Move.LOST,
}  # fmt: skip
"""What our own webhook can say. Other types are taken and mean nothing."""
_MOST = 100


class CrmIntake:
    """`environ`: where the secrets are, by the names that `crm.py` gives. `public_url`: the address that HubSpot was told."""

    def __init__(
        self, database: Database, environ: Mapping[str, str], clock: WorldClock, setting: Setting, public_url: str = "",
        machine: Callable[[], datetime] | None = None,
    ) -> None:  # fmt: skip
        self._database, self._environ, self._clock, self._setting, self._public_url = database, environ, clock, setting, public_url
        self._machine = machine or (lambda: datetime.now(UTC))

    def routes(self) -> APIRouter:
        routes = APIRouter()

        @routes.post("/v1/crm/{name}")
        async def take(request: Request, name: str) -> JSONResponse:
            raw = await read_capped(request.stream())
            system = await self._database.read(_system, name)
            if system is None or "inbound" not in system.secrets:
                raise HttpError(404, "no-such-system", "No system of this name takes messages: see inbound= in scenarios/crm.py.")
            machine = self._machine()
            self._prove(system, request, raw, machine)
            taken = await self._take(system, request, raw, self._clock.world(machine))
            return JSONResponse({"taken": taken})

        return routes

    def _prove(self, system: System, request: Request, raw: bytes, machine: datetime) -> None:
        """Raises `HttpError` for a request that is not the system's."""
        secrets = secrets_of(system, "inbound", self._environ)
        if not secrets:
            log.error("crm.no_secret", system=system.name, cure=f"set {system.secrets['inbound']} for the server")
            raise HttpError(503, "not-ready", "The secret is not set here yet: send it again later.", {"Retry-After": "300"})
        given = {name.lower(): value for name, value in request.headers.items()}
        match system.kind:
            case "hubspot":
                url = f"{self._public_url}{request.url.path}" if self._public_url else str(request.url.replace(query=""))
                url += f"?{request.url.query}" if request.url.query else ""
                good = signing.is_signed_by_hubspot(secrets, given, request.method, url, raw, machine)
            case "kintone":
                token = given.get("x-cybozu-webhook-token") or request.query_params.get("token", "")
                good = signing.is_token(secrets, token)
            case _:
                good = signing.is_signed(secrets, given, raw, machine)
        if not good:
            log.warning("crm.not_signed", system=system.name)
            raise HttpError(401, "not-signed", "The signature, its time or the token is not right.")

    async def _take(self, system: System, request: Request, raw: bytes, now: datetime) -> int:
        match system.kind:
            case "hubspot":
                nudges = _of_hubspot(system, raw)
            case "kintone":
                nudges = _of_kintone(system, parse(raw))
            case _:
                key, setting = request.headers["webhook-id"], self._setting
                return await self._database.write(_decide, system, key, parse(raw), now, setting)
        return await self._database.write(_keep, system, nudges, now)


def _of_hubspot(system: System, raw: bytes) -> list[tuple[str, str]]:
    """Key and contact of each change of an outcome field. HubSpot's ids of events are not unique by themselves."""
    events = parse(b'{"events":' + raw + b"}").get("events")
    if not isinstance(events, list) or len(events) > _MOST:
        raise HttpError(400, "malformed", f"The body is an array of up to {_MOST} events.")
    wanted = [name for name, _ in system.outcomes.fields]
    found = []
    for one in events:
        if not isinstance(one, dict) or one.get("propertyName") not in wanted:
            continue
        kind = str(one.get("subscriptionType", ""))
        if kind == "contact.propertyChange" or (kind == "object.propertyChange" and str(one.get("objectTypeId", "0-1")) == "0-1"):
            key = f"{one.get('eventId')}-{one.get('objectId')}-{one.get('occurredAt')}-{one['propertyName']}"
            found.append((key[:200], str(one.get("objectId", ""))[:40]))
    return found


def _of_kintone(system: System, said: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Key and record of a notification, if it is of our app."""
    app, record, id = said.get("app"), said.get("record"), said.get("id")
    changed = said.get("type") in ("ADD_RECORD", "UPDATE_RECORD", "UPDATE_STATUS")
    if not changed or not isinstance(app, dict) or str(app.get("id")) != system.options["app"]:
        return []
    number = record.get("$id") if isinstance(record, dict) else None
    value = number.get("value") if isinstance(number, dict) else None
    if not isinstance(id, str) or not str(value).isdigit():
        raise HttpError(400, "malformed", "The body is a notification of kintone: id, type, app, record.")
    return [(id[:200], str(value))]


def _system(session: Session, name: str) -> System | None:
    return next((one for one in crm_of(session).systems if one.name == name), None)


def _keep(session: Session, system: System, nudges: list[tuple[str, str]], now: datetime) -> int:
    return sum(inbound.nudge(session, system, key, their_id, now) for key, their_id in nudges)


def _decide(session: Session, system: System, key: str, said: Mapping[str, Any], now: datetime, setting: Setting) -> int:
    """One message of Standard Webhooks; how many changed something. A lead that is not known here is a 404, so that the sender sees it."""
    move, data = TYPES.get(str(said.get("type"))), said.get("data")
    if move is None:
        return 0
    if inbound.known(session, system.name, key[:200]):
        return 0
    data = data if isinstance(data, dict) else {}
    lead = _lead(session, data.get("lead"))
    if lead is None or lead.id is None:
        raise HttpError(404, "no-such-lead", 'data.lead names no lead: send {"id": 7} or {"email": "…"}.')
    amount = data.get("amount")
    decision = Said(
        key[:200], lead.id, move, _moment(data.get("at")), reason=_text(data.get("reason")), note=_text(data.get("note")),
        amount=inbound.amount_of(str(amount)) if isinstance(amount, (int, float, str)) and not isinstance(amount, bool) else None,
    )  # fmt: skip
    return int(inbound.decided(session, system, decision, now, setting.zone, setting.calendar).status == "done")


def _lead(session: Session, named: object) -> Lead | None:
    if not isinstance(named, dict):
        return None
    id, email = named.get("id"), named.get("email")
    if isinstance(id, int) and not isinstance(id, bool) and 0 < id < 2**53:
        return session.get(Lead, id)
    try:
        return find_lead(session, email=email) if isinstance(email, str) and email else None
    except BadInput:
        return None


def _moment(given: object) -> datetime | None:
    """When it happened, if it says so in a way that can be read."""
    try:
        found = datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo is not None else found.replace(tzinfo=UTC)


def _text(given: object) -> str:
    return given if isinstance(given, str) else ""
