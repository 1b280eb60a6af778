"""The pages of the development inbox. All that a mail says is escaped; its HTML is shown without scripts or network."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from jinja2 import Environment, StrictUndefined

from mebae.errors import NotFound
from mebae.mail.inbox import Inbox

PAGE = 50
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; form-action 'self'; base-uri 'none'"
_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"
)


def inbox_routes(inbox: Inbox) -> APIRouter:
    """`/inbox`, `/inbox/{id}`, its HTML alone and its source. For development: it knows no log-in."""
    router = APIRouter(include_in_schema=False)

    @router.get("/inbox")
    def listing(
        to: Annotated[str, Query(max_length=200)] = "", page: Annotated[int, Query(ge=1, le=100_000)] = 1
    ) -> HTMLResponse:
        found = inbox.page(to=to, offset=(page - 1) * PAGE, limit=PAGE + 1)
        return _page("inbox.html", entries=found[:PAGE], to=to, page=page, more=len(found) > PAGE, total=inbox.count())

    @router.get("/inbox/{id}")
    def mail(id: str, view: Annotated[str, Query(pattern="^(html|text|headers)$")] = "html") -> HTMLResponse:
        try:
            return _page("inbox_mail.html", mail=inbox.get(id), view=view)
        except NotFound:
            return _page("inbox_mail.html", status=404, mail=None, view=view)

    @router.get("/inbox/{id}/html")
    def body(id: str) -> Response:
        try:
            html = inbox.get(id).html
        except NotFound:
            return PlainTextResponse("no such mail", 404, headers=_SAFE)
        # Links open beside the inbox, not inside its frame.
        return HTMLResponse('<base target="_blank">' + html, headers=_SAFE | {"Content-Security-Policy": _MAIL_POLICY})

    @router.get("/inbox/{id}/source")
    def source(id: str) -> Response:
        try:
            content = inbox.get(id).source
        except NotFound:
            return PlainTextResponse("no such mail", 404, headers=_SAFE)
        return Response(
            content, media_type="text/plain; charset=utf-8", headers=_SAFE | {"Content-Security-Policy": "sandbox"}
        )

    return router


@cache
def _pages() -> Environment:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@cache
def _template(name: str) -> Any:
    return _pages().from_string(files("mebae.mail").joinpath(f"templates/{name}").read_text(encoding="utf-8"))


def _page(name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(
        _template(name).render(values), status, headers=_SAFE | {"Content-Security-Policy": _PAGE_POLICY}
    )
