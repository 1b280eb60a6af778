"""The HTTP app: the paths that events are sent to (`mebae.http.intake`), `/healthz`, and what other parts bring along."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from mebae.clock import WorldClock
from mebae.errors import DatabaseUnavailable
from mebae.forms_loading import FormBook
from mebae.http.body import HttpError
from mebae.http.browsers import ANY_ORIGIN, Cors, browser_routes, origins
from mebae.http.forms import form_routes
from mebae.http.intake import AWAY, Answer, HotPaths, Intake, refusal
from mebae.store.database import Database
from mebae.store.intake import IntakeWriter, Limits

log = structlog.get_logger()


def create_app(
    database: Database,
    *,
    write_keys: Collection[str],
    page_keys: Collection[str] = (),
    clock: WorldClock,
    extra_routers: Iterable[APIRouter] = (),
    limits: Limits | None = None,
    allowed_origins: Collection[str] = (ANY_ORIGIN,),
    forms: FormBook | None = None,
) -> FastAPI:
    """The app. Without a write key nobody can send events; every request is answered 401.

    `page_keys` stand in web pages, where anybody can read them: what comes with one says nothing of stages and consent.
    `allowed_origins` are the web sites whose pages may send; any, unless said otherwise: their page key is public anyway.
    """
    writer = IntakeWriter(database, limits)
    intake = Intake(writer, write_keys, clock, page_keys)
    app = FastAPI(title="Mebae", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(_routes(database))
    app.include_router(browser_routes([*write_keys, *page_keys]))
    if forms is not None:
        app.include_router(form_routes(forms, writer))
    for router in extra_routers:
        app.include_router(router)
    app.add_exception_handler(HttpError, _refusal)
    app.add_exception_handler(404, _no_path)
    app.add_exception_handler(DatabaseUnavailable, _away)
    app.add_exception_handler(SQLAlchemyError, _away)
    app.add_middleware(HotPaths, intake=intake)
    app.add_middleware(Cors, allowed=origins(allowed_origins))
    return app


def _routes(database: Database) -> APIRouter:
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        await database.read(_ask)
        return {"status": "ok"}

    return routes


def _ask(session: Session) -> None:
    session.execute(text("SELECT 1"))


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)
    log.warning("http.refused", status=error.status, code=error.code)
    return _response(refusal(error))


async def _no_path(_request: Request, _error: Exception) -> Response:
    return _response(
        refusal(
            HttpError(
                404,
                "no-such-path",
                "There is nothing at this path. Send events to /v1/batch, /v1/track, /v1/identify, /v1/page, /v1/screen, "
                "/v1/group or /v1/alias, and forms to /forms/<form>.",
            )
        )
    )


async def _away(_request: Request, error: Exception) -> Response:
    log.warning("http.database_away", kind=type(error).__name__)
    return _response(AWAY)


def _response(answer: Answer) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers, "application/json")
