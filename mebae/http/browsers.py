"""What browsers ask for beyond sending events: their SDK's settings, and leave to send from another site (CORS)."""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mebae.errors import BadInput
from mebae.http.body import HttpError
from mebae.http.intake import Answer, refusal
from mebae.http.segment import PATHS

log = structlog.get_logger()

ANY_ORIGIN = "*"
PREFLIGHT_LASTS = 7200
"""Seconds for which a browser may remember what it was allowed. Chromium remembers no longer than that."""

_SETTINGS_PATH = re.compile(r"/v1/projects/[^/]+/settings|/sourceConfig/?")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9_-]+( ?, ?[A-Za-z0-9_-]+)*")
_USUAL_HEADERS = b"authorization,content-type,anonymousid,sentat"
_KEY_CURE = "Load the SDK with a write key of this server (MEBAE_WRITE_KEYS)."
# What the SDKs would otherwise do beyond sending events: report errors and metrics of their own to their makers.
_NO_REPORTS = {"statsCollection": {"errors": {"enabled": False}, "metrics": {"enabled": False}}}


def browser_routes(write_keys: Collection[str]) -> APIRouter:
    """The settings that the browser SDKs load before they send anything."""
    routes = APIRouter()
    known = [key.encode() for key in write_keys if key]

    def is_key(key: str) -> bool:
        said = key.encode(errors="replace")
        return sum(hmac.compare_digest(said, one) for one in known) > 0

    @routes.get("/v1/projects/{key}/settings")
    async def segment(key: str, request: Request) -> JSONResponse:
        if not is_key(key):
            raise HttpError(404, "unknown-write-key", f"There are no settings for this write key. {_KEY_CURE}")
        host = request.headers.get("host", "")
        where = {"apiHost": f"{host}/v1", "protocol": _scheme(request)} if _HOST.fullmatch(host) else {}
        return _settings(
            {
                "integrations": {"Segment.io": {"apiKey": key, "addBundledMetadata": True, **where}},
                "plan": {"track": {"__default": {"enabled": True, "integrations": {}}}},
                "edgeFunction": {},
                "analyticsNextEnabled": True,
                "middlewareSettings": {},
                "enabledMiddleware": {},
                "metrics": {"sampleRate": 0},
                "legacyVideoPluginsEnabled": False,
                "remotePlugins": [],
            }
        )

    @routes.get("/sourceConfig")
    @routes.get("/sourceConfig/")
    async def rudderstack(request: Request, writeKey: str = "") -> JSONResponse:
        if not is_key(writeKey):
            raise HttpError(401, "invalid-write-key", f"The write key is wrong. {_KEY_CURE}")
        source = {
            "id": "mebae",
            "name": "Mebae",
            "writeKey": writeKey,
            "workspaceId": "mebae",
            "enabled": True,
            "config": _NO_REPORTS,
            "dataplanes": {},
            "destinations": [],
        }
        return _settings({"isHosted": False, "updatedAt": "2026-01-01T00:00:00.000Z", "source": source})

    return routes


def _settings(content: dict[str, object]) -> JSONResponse:
    # Kept by the visitor's browser only: what it says depends on the name by which this server was called.
    return JSONResponse(content, headers={"Cache-Control": "private, max-age=300"})


def _scheme(request: Request) -> str:
    """How the page may reach us: a page under https may not send to http, so that a proxy must be before us."""
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:")
    return "https" if secure else "http"


def origins(written: Iterable[str]) -> list[str]:
    """Origins as browsers write them. `BadInput` for what no browser would ever send.

    >>> origins(["https://Aoba.example/", "https://*.aoba.example"])
    ['https://aoba.example', 'https://*.aoba.example']
    """
    if isinstance(written, str):
        raise BadInput('allowed origins are one string: give a list, such as ["https://www.example.jp"]')
    found = []
    for one in written:
        origin = one.strip().lower().rstrip("/")
        if origin not in (ANY_ORIGIN, "null") and not re.fullmatch(r"https?://(\*\.)?[a-z0-9.-]+(:\d+)?", origin):
            raise BadInput(
                f"{one!r} is no origin of web pages: in MEBAE_ALLOWED_ORIGINS write scheme, host and port and nothing more, "
                "such as https://www.example.jp, or https://*.example.jp for all sites below it"
            )
        found.append(origin)
    return found


class Cors:
    """ASGI: lets pages of the allowed sites (`origins`) send events and read the answers, errors too.

    Nothing else of this server may be read from another site: the inbox and the other pages are their readers' own.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app = app
        self._any = ANY_ORIGIN in allowed
        self._exact = {one.encode() for one in allowed if "*" not in one}
        # https://*.example.jp is every host below example.jp, under any number of names.
        self._below = [tuple(part.encode() for part in one.split("*", 1)) for one in allowed if "://*." in one]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = _header(scope, b"origin") if scope["type"] == "http" else None
        if origin is None or not _is_for_browsers(scope["path"]):
            await self._app(scope, receive, send)
            return
        if not self._allows(origin):
            log.warning("http.refused", status=403, code="origin-not-allowed")
            await _say(send, _refused())
            return
        headers = [
            (b"access-control-allow-origin", b"*" if self._any else origin),
            (b"access-control-expose-headers", b"retry-after"),
            *([] if self._any else [(b"vary", b"origin")]),
        ]
        if scope["method"] == "OPTIONS":
            await _say(send, Answer(204, b"", (*headers, *_preflight(scope))))
            return
        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun, message["headers"] = True, [*message.get("headers", ()), *headers]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            if not begun:  # without our headers the SDK would see a broken network, and not that it should come again
                await _say(send, Answer(500, b'{"success":false,"code":"broken"}', tuple(headers)))
            raise

    def _allows(self, origin: bytes) -> bool:
        origin = origin.lower()
        return self._any or origin in self._exact or any(
            origin.startswith(scheme) and origin.endswith(domain) and len(origin) > len(scheme) + len(domain)
            for scheme, domain in self._below
        )  # fmt: skip


def _is_for_browsers(path: str) -> bool:
    return path.rstrip("/") in PATHS or _SETTINGS_PATH.fullmatch(path) is not None


def _header(scope: Scope, name: bytes) -> bytes | None:
    for one, value in scope["headers"]:
        if one == name:
            return bytes(value)
    return None


def _preflight(scope: Scope) -> list[tuple[bytes, bytes]]:
    # Whatever the SDK wants to send it may: newer ones add headers, such as X-Retry-Count on a second try.
    wanted = _header(scope, b"access-control-request-headers") or b""
    return [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", wanted if _HEADER_NAMES.fullmatch(wanted) else _USUAL_HEADERS),
        (b"access-control-max-age", str(PREFLIGHT_LASTS).encode()),
    ]


def _refused() -> Answer:
    message = "Pages of this site may not send events here. Add its origin to MEBAE_ALLOWED_ORIGINS."
    return refusal(HttpError(403, "origin-not-allowed", message))


async def _say(send: Send, answer: Answer) -> None:
    headers = list(answer.headers)
    if answer.status != 204:
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
