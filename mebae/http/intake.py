"""The hot path of ingestion: who sends, what is it, keep it, answer. A plain ASGI handler before the app's own routes.

A request is kept (committed) before its answer; the applier reads it again, stores its events and quarantines the bad
ones. For the clients a 400, 401 or 413 means "drop the batch", a 429 or 503 "send it again": so one bad event never
makes the answer anything but 200.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from mebae.clock import WorldClock
from mebae.errors import BadInput, DatabaseUnavailable, Overloaded
from mebae.http.body import LARGEST_BODY, Glance, HttpError, glance, parse, too_large, unpack
from mebae.http.segment import PATHS, Kind, check_count, key_in, read_batch
from mebae.store.intake import IntakeWriter

log = structlog.get_logger()

RETRY_AFTER = 5
"""Seconds that clients are asked to wait when the database is away or too much comes in."""
SLOWEST_BODY = 30.0
"""Seconds that a client may take to send its body."""
LOOKED_AT = 50
"""Events up to which a batch is read at once, so that the answer can name the bad ones. A larger one is read when it is
applied, and its bad events are only in the quarantine."""

_KEY_CURE = (
    "Send a write key of this server (MEBAE_WRITE_KEYS) as the user name of Basic auth, with an empty password, or as "
    '"writeKey" in the body or in the query.'
)
_AWAY = "The database does not answer, so nothing was stored. Send the same again in a few seconds."
_TOO_MUCH = "More comes in than can be kept, so this was not stored. Send the same again in a few seconds."


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


TAKEN = Answer(200, b'{"success":true}')


class Intake:
    """Takes requests with events: who sends, what it says, into the database."""

    def __init__(
        self, writer: IntakeWriter, write_keys: Collection[str], clock: WorldClock, page_keys: Collection[str] = ()
    ) -> None:
        if isinstance(write_keys, str) or isinstance(page_keys, str):
            raise BadInput('write_keys is one string: give a list, such as ["key"]')
        self._writer, self._clock = writer, clock
        self._keys = [key.encode() for key in write_keys if key]
        self._page_keys = [key.encode() for key in page_keys if key]

    async def take(self, kind: Kind | None, headers: Mapping[bytes, bytes], query: bytes, receive: Receive) -> Answer:
        """One request. `kind` is that of a single event; None for a batch. Every outcome is an answer."""
        held = _Held(self._writer)
        try:
            return await self._take(kind, headers, query, receive, held)
        except HttpError as error:
            log.warning("http.refused", status=error.status, code=error.code)
            return refusal(error)
        except DatabaseUnavailable:
            return AWAY
        except Overloaded:
            return TOO_MUCH
        finally:
            held.let_go()

    async def _take(
        self, kind: Kind | None, headers: Mapping[bytes, bytes], query: bytes, receive: Receive, held: _Held
    ) -> Answer:
        packed = await _read(headers, receive, held)
        raw = unpack(packed, headers.get(b"content-encoding", b"").decode("latin-1"))
        if raw is not packed:
            held.hold(len(raw))
        received = datetime.now(UTC)
        seen, public = await self._allowed(kind, headers.get(b"authorization"), query, raw)
        rejected = []
        if seen.body is not None:
            batch = read_batch(
                seen.body, clock=self._clock, received=received, size=len(raw), kind=kind, public=public
            )
            rejected = sorted(batch.rejected, key=lambda one: one.index)
            del batch
        else:
            check_count(seen.events)
        events = seen.events
        del seen  # what was read is larger than what was sent, and many may wait for a commit
        if events:
            await self._writer.put(kind, raw, events, received, public=public)
        if not rejected:
            return TAKEN
        accepted = kind is None  # of a batch the others are in; a single event that is rejected is a failure
        return _json(200, {"success": accepted, "rejected": [one.model_dump() for one in rejected]})

    async def _allowed(
        self, kind: Kind | None, authorization: bytes | None, query: bytes, raw: bytes
    ) -> tuple[Glance, bool]:
        """What is in the body, if its sender may send; and whether that may be anybody who can read a page's key."""
        given = [_basic_user(authorization), _key_of_query(query) if query else None]
        trusted = any(_is_one_of(self._keys, key) for key in given)
        allowed = trusted or any(_is_one_of(self._page_keys, key) for key in given)
        try:
            seen = glance(raw, single=kind is not None, most=LOOKED_AT) or await _look_slowly(kind, raw)
        except HttpError:
            if authorization is not None and not allowed:
                raise _unauthorised("The write key is wrong.") from None
            raise
        if not allowed:
            written = key_in({"writeKey": seen.key})
            trusted = _is_one_of(self._keys, written)
            if not trusted and not _is_one_of(self._page_keys, written):
                none = authorization is None and written is None
                raise _unauthorised("There is no write key." if none else "The write key is wrong.")
        return seen, not trusted


def _is_one_of(keys: Sequence[bytes], given: str | None) -> bool:
    """Compared with every key in constant time, so that the time of an answer tells nothing about the keys."""
    said = (given or "").encode(errors="replace")
    return sum(hmac.compare_digest(said, key) for key in keys) > 0


class HotPaths:
    """ASGI: takes what is posted to `PATHS`, and leaves everything else to the app."""

    def __init__(self, app: ASGIApp, intake: Intake) -> None:
        self._app, self._intake = app, intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").rstrip("/")
        if scope["type"] != "http" or path not in PATHS:
            await self._app(scope, receive, send)
            return
        if scope["method"] != "POST":
            answer = refusal(HttpError(405, "post-only", f"Events are sent by POST to {path}.", {"Allow": "POST"}))
        else:
            answer = await self._intake.take(PATHS[path], dict(scope["headers"]), scope["query_string"], receive)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer.body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": [*headers, *answer.headers]})
        await send({"type": "http.response.body", "body": answer.body})


def refusal(error: HttpError) -> Answer:
    """The answer that an error stands for."""
    extra = tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())
    return _json(error.status, {"success": False, "code": error.code, "message": error.message}, extra)


def _json(status: int, body: dict[str, Any], headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
    return Answer(status, json.dumps(body, ensure_ascii=False).encode(), headers)


_LATER = {"Retry-After": str(RETRY_AFTER)}
AWAY = refusal(HttpError(503, "database-unavailable", _AWAY, _LATER))
TOO_MUCH = refusal(HttpError(429, "overloaded", _TOO_MUCH, _LATER))


# The body ------------------------------------------------------------------------------------------------------------


class _Held:
    """The memory that one request takes, as the writer was told."""

    def __init__(self, writer: IntakeWriter) -> None:
        self._writer, self._size = writer, 0

    def hold(self, size: int) -> None:
        self._writer.hold(size)
        self._size += size

    def let_go(self) -> None:
        self._writer.let_go(self._size)


async def _read(headers: Mapping[bytes, bytes], receive: Receive, held: _Held) -> bytes:
    """The raw body; refused as soon as it is too large, before the rest is read."""
    said = headers.get(b"content-length", b"")
    if said.isdigit() and int(said) > LARGEST_BODY:
        raise too_large()
    part, more = await _part(receive)
    held.hold(len(part))
    if not more:
        return part
    parts, size = [part], len(part)
    try:
        async with asyncio.timeout(SLOWEST_BODY):
            while more:
                part, more = await _part(receive)
                held.hold(len(part))
                size += len(part)
                if size > LARGEST_BODY:
                    raise too_large()
                parts.append(part)
    except TimeoutError:
        raise _cut_off() from None
    return b"".join(parts)


async def _part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] != "http.request":
        raise _cut_off()
    return message.get("body", b""), message.get("more_body", False)


def _cut_off() -> HttpError:
    return HttpError(400, "cut-off", "The body ended too early: send it again.")


async def _look_slowly(kind: Kind | None, raw: bytes) -> Glance:
    """The same as `glance`, for whatever comes. In a thread if it may take long: the others' answers must not wait for it."""
    body = parse(raw) if len(raw) < LARGEST_BODY // 50 else await asyncio.to_thread(parse, raw)
    events = body.get("batch")
    if kind is not None or not isinstance(events, list):
        return Glance(1, body.get("writeKey"), body)
    return Glance(len(events), body.get("writeKey"), body if len(events) <= LOOKED_AT else None)


# The write key -------------------------------------------------------------------------------------------------------


def _basic_user(header: bytes | None) -> str | None:
    """The user name of Basic auth: clients put the key there, with an empty password."""
    scheme, _, coded = (header or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(coded.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        return None


def _key_of_query(query: bytes) -> str | None:
    """`?writeKey=`: a browser's beacon cannot set headers."""
    return next(iter(parse_qs(query.decode("latin-1")).get("writeKey", [])), None)


def _unauthorised(what: str) -> HttpError:
    # No WWW-Authenticate: on the user's web site it would make browsers ask visitors for a password.
    return HttpError(401, "invalid-write-key", f"{what} {_KEY_CURE}")
