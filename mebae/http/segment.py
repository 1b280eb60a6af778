"""The Segment spec, read: from the JSON of a client to the events that we store. Pure, but for the id of an event without one.

One bad event never costs the others: it comes back as `Rejected`, with a reason that says what to change and quotes nothing.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel

from mebae.clock import WorldClock
from mebae.errors import BadInput
from mebae.events import BY_VERB, IDENTIFIED, canonical
from mebae.http.body import HttpError, Unparsed
from mebae.store.ingest import KEPT_ASIDE, OUR_MESSAGE_IDS, Incoming
from mebae.store.leads import LONGEST_ID, Who, normalise_email
from mebae.store.traits import clean, clean_text

Kind = Literal["track", "identify", "page"]
KINDS: tuple[Kind, ...] = ("track", "identify", "page")

LARGEST_EVENT = 32 * 1024
"""Bytes of JSON, as Segment has it."""
MOST_EVENTS = 2500

_PAGE_VIEWED = BY_VERB["visited"].name
_LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)


class Rejected(BaseModel):
    """One event that was not taken, by its place in the batch."""

    index: int
    reason: str


class Batch(BaseModel):
    """A request, read."""

    incoming: list[Incoming]
    places: list[int]
    """For each of `incoming`, its place in what the client sent."""
    rejected: list[Rejected]


class _Bad(Exception):
    """Why one event cannot be taken. Quotes nothing of it: the reason is logged."""


def read_batch(
    body: Mapping[str, Any], *, clock: WorldClock, received: datetime, size: int, kind: Kind | None = None
) -> Batch:
    """Reads the body of `/v1/batch`, or (with a kind) of `/v1/track`, `/v1/identify` or `/v1/page`.

    `received` is the machine's time, `size` the body's bytes. `HttpError` only where there is nothing to read at all.
    """
    events: Any = [body] if kind is not None else body.get("batch")
    if not isinstance(events, list):
        raise HttpError(
            400,
            "no-batch",
            'The body has no list under "batch". Send {"batch": [event, …]}, or one event to /v1/track.',
        )
    if len(events) > MOST_EVENTS:
        raise HttpError(
            413, "too-many", f"The batch holds more than {MOST_EVENTS} events: split it and send the parts one by one."
        )
    batch = Batch(incoming=[], places=[], rejected=[])
    for index, event in enumerate(events):
        try:
            batch.incoming.append(_read(event, body, kind, clock, received, weigh=size > LARGEST_EVENT))
            batch.places.append(index)
        except _Bad as bad:
            batch.rejected.append(Rejected(index=index, reason=str(bad)))
    return batch


def _read(
    event: Any, body: Mapping[str, Any], kind: Kind | None, clock: WorldClock, received: datetime, *, weigh: bool
) -> Incoming:
    if isinstance(event, Unparsed):
        raise _Bad(event.reason)
    if not isinstance(event, dict):
        raise _Bad("is no JSON object")
    try:
        event = clean(event)
    except (ValueError, RecursionError):
        raise _Bad("is nested too deeply") from None
    if weigh and len(json.dumps(event, ensure_ascii=False).encode()) > LARGEST_EVENT:
        raise _Bad(f"is larger than {LARGEST_EVENT // 1024} KB")
    kind = kind or event.get("type")
    if kind not in KINDS:
        raise _Bad("has a type that is not taken: send track, identify or page")
    context = _object(event, "context") or (_object(body, "context") if event is not body else {})
    traits = {**_object(context, "traits"), **_object(event, "traits")}
    properties = dict(_object(event, "properties"))
    received_at = clock.world(received)
    return Incoming(
        message_id=_message_id(event),
        name=_name(event, kind),
        properties=_page(event, properties, context) if kind == "page" else properties,
        occurred_at=min(_occurred(event, body, clock, received), received_at),
        received_at=received_at,
        who=_who(event, traits, properties, moves=kind == "identify"),
        traits=traits if kind == "identify" else {},
    )


def _object(holder: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Bad(f"has a {key} that is no object")
    return value


def _name(event: Mapping[str, Any], kind: Kind) -> str:
    if kind != "track":
        return IDENTIFIED if kind == "identify" else _PAGE_VIEWED
    name = event.get("event")
    if not isinstance(name, str) or not name.strip():
        raise _Bad('is a track without an event name: set "event"')
    if len(name) > LONGEST_ID:
        raise _Bad(f"has an event name of more than {LONGEST_ID} characters")
    if canonical(name) == IDENTIFIED:
        raise _Bad("has the event name of an identify: send an identify")
    return canonical(name)


def _message_id(event: Mapping[str, Any]) -> str:
    written = event.get("messageId")
    if written is None or written == "":
        # Without an id the same thing sent twice can be known only if the client says when it happened.
        if event.get("timestamp") is None and event.get("originalTimestamp") is None:
            return f"made:{uuid.uuid4()}"
        said = {key: value for key, value in event.items() if key not in ("sentAt", "receivedAt", "writeKey")}
        return f"made:{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:40]}"
    message_id = _identifier(written, "messageId")
    if message_id.startswith(OUR_MESSAGE_IDS):
        raise _Bad("has a messageId that begins like one of ours")
    return message_id


def _identifier(value: Any, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _Bad(f"has a {what} that is no text")
    if len(str(value)) > LONGEST_ID:
        raise _Bad(f"has a {what} of more than {LONGEST_ID} characters")
    return str(value).strip()


def _who(event: Mapping[str, Any], traits: Mapping[str, Any], properties: Mapping[str, Any], *, moves: bool) -> Who:
    """Whom an event is about. A user id that looks like an address is one."""
    user_id = _identifier(event["userId"], "userId") or None if event.get("userId") is not None else None
    anonymous_id = (
        _identifier(event["anonymousId"], "anonymousId") or None if event.get("anonymousId") is not None else None
    )
    if user_id == KEPT_ASIDE:
        raise _Bad("has a userId that is ours")
    if user_id is not None and "@" in user_id and (email := _address(user_id)) is not None:
        return Who(email=email, anonymous_id=anonymous_id, moves=moves)
    written = [
        value for value in (traits.get("email"), properties.get("email")) if isinstance(value, str) and value.strip()
    ]
    email = next((address for one in written if (address := _address(one)) is not None), None)
    if email is None and user_id is None and anonymous_id is None:
        if written:
            raise _Bad("has an email that is no address, and neither userId nor anonymousId")
        raise _Bad("says of nobody: set userId, anonymousId or an email in traits or properties")
    return Who(email=email, user_id=user_id, anonymous_id=anonymous_id, moves=moves)


def _address(written: str) -> str | None:
    try:
        return normalise_email(written)
    except BadInput:
        return None


def _page(event: Mapping[str, Any], properties: dict[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """A page's properties with its `path`, which scenarios match, and its name."""
    page = context.get("page") if isinstance(context.get("page"), dict) else {}
    assert isinstance(page, dict)
    places = (properties.get("path"), properties.get("url"), page.get("path"), page.get("url"))
    path = next((found for place in places if (found := _path(place)) is not None), None)
    if path is not None:
        properties["path"] = path
    for key in ("name", "category"):
        if isinstance(event.get(key), str):
            properties.setdefault(key, event[key])
    return properties


def _path(place: Any) -> str | None:
    """The path of a URL or path, without query and fragment."""
    if not isinstance(place, str) or not place.strip():
        return None
    try:
        parts = urlsplit(place.strip())
    except ValueError:
        return None
    if parts.path.startswith("/") or not parts.netloc:
        return parts.path or "/"
    return "/" + parts.path


def _occurred(event: Mapping[str, Any], body: Mapping[str, Any], clock: WorldClock, received: datetime) -> datetime:
    """When it happened, in the world: the client's time set right by how far its clock was off when it sent.

    A time that cannot be read or believed counts as now: what a lead did matters more than when.
    """
    happened = _time(event.get("originalTimestamp")) or _time(event.get("timestamp"))
    if happened is None:
        return clock.world(received)
    sent = _time(event.get("sentAt")) or _time(body.get("sentAt"))
    try:
        corrected = happened if sent is None else received - max(sent - happened, timedelta(0))
        return clock.world(corrected) if corrected > _LONG_AGO else clock.world(received)
    except OverflowError:
        return clock.world(received)


def _time(value: Any) -> datetime | None:
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value.strip())
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found = datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return found if found > _LONG_AGO else None


def reasons(rejected: Sequence[Rejected]) -> dict[str, int]:
    """How often which reason, for the log: nothing of the events themselves."""
    counted: dict[str, int] = {}
    for one in rejected:
        counted[one.reason] = counted.get(one.reason, 0) + 1
    return counted


def key_in(body: Mapping[str, Any]) -> str | None:
    """The write key that a body carries, if it does."""
    key = body.get("writeKey")
    return clean_text(key) if isinstance(key, str) else None
