"""The HTTP app: `/v1/batch`, `/v1/track`, `/v1/identify`, `/v1/page`, `/healthz`, and what other parts bring along.

An event is committed before the answer. For the clients a 400, 401 or 413 means "drop the batch", a 503 "send it again": so
one bad event never makes the answer anything but 200, and a database that is away always makes it 503.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError, StatementError
from sqlmodel import Session
from starlette.requests import ClientDisconnect

from mebae.clock import WorldClock
from mebae.errors import BadInput, DatabaseUnavailable
from mebae.http.body import HttpError, parse, read_capped, unpack
from mebae.http.segment import KINDS, Batch, Kind, Rejected, key_in, read_batch, reasons
from mebae.store.database import Database
from mebae.store.ingest import store_events

log = structlog.get_logger()

RETRY_AFTER = 5
"""Seconds that clients are asked to wait when the database is away."""

_KEY_CURE = (
    "Send a write key of this server (MEBAE_WRITE_KEYS) as the user name of Basic auth, with an empty password, or as "
    '"writeKey" in the body.'
)


def create_app(
    database: Database, *, write_keys: Collection[str], clock: WorldClock, extra_routers: Iterable[APIRouter] = ()
) -> FastAPI:
    """The app. Without a write key nobody can send events; every request is answered 401."""
    if isinstance(write_keys, str):
        raise BadInput('write_keys is one string: give a list, such as ["key"]')
    app = FastAPI(title="Mebae", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(_routes(Intake(database, write_keys, clock), database))
    for router in extra_routers:
        app.include_router(router)
    app.add_exception_handler(HttpError, _refusal)
    app.add_exception_handler(DatabaseUnavailable, _away)
    app.add_exception_handler(SQLAlchemyError, _away)
    return app


class Intake:
    """Takes requests with events: who sends, what it says, into the database."""

    def __init__(self, database: Database, write_keys: Collection[str], clock: WorldClock) -> None:
        self._database, self._clock = database, clock
        self._keys = [key.encode() for key in write_keys if key]

    async def take(self, request: Request, kind: Kind | None) -> JSONResponse:
        """One request. `kind` is that of a single event; None for a batch."""
        header = request.headers.get("authorization")
        allowed = self._is_key(_basic_user(header))
        try:
            raw = unpack(await read_capped(request.stream()), request.headers.get("content-encoding", ""))
        except ClientDisconnect:
            raise HttpError(400, "cut-off", "The body ended too early: send it again.") from None
        received = datetime.now(UTC)
        try:
            body = parse(raw)
        except HttpError:
            if header is not None and not allowed:
                raise _unauthorised("The write key is wrong.") from None
            raise
        written = key_in(body)
        if not allowed and not self._is_key(written):
            raise _unauthorised(
                "There is no write key." if header is None and written is None else "The write key is wrong."
            )
        batch = read_batch(body, clock=self._clock, received=received, size=len(raw), kind=kind)
        await self._store(batch, self._clock.world(received))
        if not batch.rejected:
            return JSONResponse({"success": True})
        batch.rejected.sort(key=lambda one: one.index)
        log.warning("segment.rejected", count=len(batch.rejected), reasons=reasons(batch.rejected))
        accepted = kind is None  # of a batch the others are in; a single event that is rejected is a failure
        return JSONResponse({"success": accepted, "rejected": [one.model_dump() for one in batch.rejected]})

    async def _store(self, batch: Batch, now: datetime) -> None:
        if not batch.incoming:
            return
        try:
            await self._database.write(store_events, batch.incoming, now)
        except (DataError, StatementError) as error:
            if not _is_about_data(error):
                raise
            # Something that the database cannot keep got past our cleaning: find out which, and store the others.
            for place, one in zip(batch.places, batch.incoming, strict=True):
                try:
                    await self._database.write(store_events, [one], now)
                except (DataError, StatementError) as its:
                    if not _is_about_data(its):
                        raise
                    batch.rejected.append(Rejected(index=place, reason="holds something that cannot be stored"))

    def _is_key(self, given: str | None) -> bool:
        """Compared with every key in constant time, so that the time of an answer tells nothing about the keys."""
        said = (given or "").encode(errors="replace")
        return sum(hmac.compare_digest(said, key) for key in self._keys) > 0


def _routes(intake: Intake, database: Database) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/batch")
    async def batch(request: Request) -> JSONResponse:
        return await intake.take(request, None)

    def single(kind: Kind) -> None:
        @routes.post(f"/v1/{kind}")
        async def one(request: Request) -> JSONResponse:
            return await intake.take(request, kind)

    for kind in KINDS:
        single(kind)

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        await database.read(_ask)
        return {"status": "ok"}

    return routes


def _ask(session: Session) -> None:
    session.execute(text("SELECT 1"))


def _basic_user(header: str | None) -> str | None:
    """The user name of Basic auth: clients put the key there, with an empty password."""
    scheme, _, coded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(coded.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        return None


def _unauthorised(what: str) -> HttpError:
    # No WWW-Authenticate: on the user's web site it would make browsers ask visitors for a password.
    return HttpError(401, "invalid-write-key", f"{what} {_KEY_CURE}")


def _is_about_data(error: SQLAlchemyError) -> bool:
    """Whether the values are at fault, and not the database."""
    return isinstance(error, DataError) or not isinstance(error, DBAPIError)


async def _refusal(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HttpError)
    log.warning("http.refused", status=error.status, code=error.code)
    return _answer(error.status, error.code, error.message, error.headers)


async def _away(_request: Request, error: Exception) -> JSONResponse:
    log.warning("http.database_away", kind=type(error).__name__)
    message = "The database does not answer, so nothing was stored. Send the same again in a few seconds."
    return _answer(503, "database-unavailable", message, {"Retry-After": str(RETRY_AFTER)})


def _answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    body: dict[str, Any] = {"success": False, "code": code, "message": message}
    return JSONResponse(body, status, headers)
