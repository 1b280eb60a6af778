"""The Segment spec, read: from the JSON of a client to the events that we store. Pure, but for the id of an event without one.

One bad event never costs the others: it comes back as `Rejected`, with a reason that says what to change and quotes nothing.
This runs for every event, twice, so it takes only what is stored and looks at nothing more than once.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

import msgspec
from pydantic import BaseModel

from mebae.clock import WorldClock
from mebae.events import BY_VERB, IDENTIFIED, REQUESTED, canonical
from mebae.http.body import HttpError, Unparsed
from mebae.http.reading import address_of, came_from, made, path_of, storable, text_of
from mebae.mailing import BASES
from mebae.store.ingest import OUR_MESSAGE_IDS, ConsentGiven, Incoming
from mebae.store.leads import LONGEST_ID, Who
from mebae.store.traits import TooDeep, clean_text, field_of

Kind = Literal["track", "identify", "page", "screen", "group", "alias"]
KINDS: tuple[Kind, ...] = ("track", "identify", "page", "screen", "group", "alias")

PATHS: dict[str, Kind | None] = {
    **{path: kind for kind in KINDS for path in (f"/v1/{kind}", f"/v1/{kind[0]}")},
    **dict.fromkeys(("/v1/batch", "/v1/b", "/beacon/v1/batch")),
}
"""Where clients post, and what comes there; None is a batch. Segment's browser SDK says `/v1/t`, RudderStack's `/v1/track`."""

LARGEST_EVENT = 32 * 1024
"""Bytes of JSON, as Segment has it."""
MOST_EVENTS = 2500

_PAGE_VIEWED = BY_VERB["visited"].name
_SCREEN_VIEWED = BY_VERB["viewed_screen"].name
_NAMES = {"identify": IDENTIFIED, "group": IDENTIFIED, "alias": IDENTIFIED, "page": _PAGE_VIEWED, "screen": _SCREEN_VIEWED}
_SAYS_WHO = frozenset({"track", "page", "screen"})
"""Kinds whose properties may hold the lead's address. In a group it would be the company's."""
_OF_COMPANIES = frozenset({"company", "industry", "company_size"})
_OURS = frozenset({REQUESTED} | {BY_VERB[verb].name for verb in ("created", "imported", "stage_reached", "qualified", "joined")})
"""What becomes of leads is reckoned. Whoever could send it could start any scenario."""
_OF_MAIL = frozenset(BY_VERB[verb].name for verb in ("unsubscribed", "unsubscribed_topic"))
"""What the user's own systems may tell of a lead, and a page may not."""
_NOT_FOR_VISITORS = frozenset({"score", "stage", "qualification"})
_LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)
_NO_TIME = timedelta(0)
_to_json = msgspec.json.Encoder().encode


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
    body: Mapping[str, Any],
    *,
    clock: WorldClock,
    received: datetime,
    size: int,
    kind: Kind | None = None,
    public: bool = False,
) -> Batch:
    """Reads the body of a batch, or (with a kind) of a single event.

    `public`: it came with a key that anybody can read in a page, so score, stage and qualification are left out of the traits,
    no consent is taken from it, and it gives no known lead another address or name. `received` is the machine's time, `size`
    the body's bytes. `HttpError` only where there is nothing to read at all.
    """
    events: Any = [body] if kind is not None else body.get("batch")
    if not isinstance(events, list):
        raise HttpError(
            400,
            "no-batch",
            'The body has no list under "batch". Send {"batch": [event, …]}, or one event to /v1/track.',
        )
    check_count(len(events))
    batch = Batch(incoming=[], places=[], rejected=[])
    reader = _Reader(body, kind, clock, received, weigh=size > LARGEST_EVENT, public=public)
    for index, event in enumerate(events):
        try:
            batch.incoming.append(reader.read(event))
            batch.places.append(index)
        except _Bad as bad:
            batch.rejected.append(Rejected(index=index, reason=str(bad)))
        except (TooDeep, RecursionError):
            batch.rejected.append(Rejected(index=index, reason="is nested too deeply"))
    return batch


def check_count(events: int) -> None:
    """`HttpError` if a batch holds too many."""
    if events > MOST_EVENTS:
        raise HttpError(
            413, "too-many", f"The batch holds more than {MOST_EVENTS} events: split it and send the parts one by one."
        )


class _Reader:
    """Reads the events of one request."""

    def __init__(
        self,
        body: Mapping[str, Any],
        kind: Kind | None,
        clock: WorldClock,
        received: datetime,
        *,
        weigh: bool,
        public: bool,
    ) -> None:
        self._body, self._kind, self._clock, self._weigh, self._public = body, kind, clock, weigh, public
        self._received = received
        self._received_at = clock.world(received)
        self._sent = _time(body.get("sentAt"))

    def read(self, event: Any) -> Incoming:
        if not isinstance(event, dict):
            raise _Bad(event.reason if isinstance(event, Unparsed) else "is no JSON object")
        if self._weigh and _is_large(event):
            raise _Bad(f"is larger than {LARGEST_EVENT // 1024} KB")
        kind = self._kind or event.get("type")
        if not isinstance(kind, str) or kind not in KINDS:
            raise _Bad(f"has a type that is not taken: send {', '.join(KINDS[:-1])} or {KINDS[-1]}")
        context = _object(event, "context") or (_object(self._body, "context") if self._kind is None else {})
        properties = _object(event, "properties")
        traits = _object(context, "traits")
        if kind != "group":
            traits = traits | _object(event, "traits")
        who = _who(event, traits, properties if kind in _SAYS_WHO else {}, moves=kind == "identify" and not self._public)
        previous = None
        if kind == "alias":
            who, previous = _renamed(event, who)
        if self._public and traits:
            traits = {key: value for key, value in traits.items() if field_of(key) not in _NOT_FOR_VISITORS}
        kept: dict[str, Any] = {}
        if kind == "identify":
            kept = storable(traits)
        elif kind == "group":
            kept = storable(_of_company(event))
        if kind == "page":
            properties = _page(properties, context)
        if kind in ("page", "screen"):
            for key in ("name", "category"):
                if isinstance(event.get(key), str) and key not in properties:
                    properties = properties | {key: event[key]}
        source, campaign = came_from(context, properties)
        return made(
            Incoming,
            {
                "message_id": _message_id(event),
                "name": _NAMES.get(kind) or _event_name(event, public=self._public),
                "properties": storable(properties),
                "occurred_at": self._occurred(event),
                "received_at": self._received_at,
                "who": who,
                "traits": kept,
                "previous_id": previous,
                "renames": not self._public,
                "source": source,
                "campaign": campaign,
                "consent": None if self._public else _consent(context, self._received_at),
            },
        )

    def _occurred(self, event: Mapping[str, Any]) -> datetime:
        """When it happened, in the world: the client's time set right by how far its clock was off when it sent.

        A time that cannot be read or believed counts as now: what a lead did matters more than when. `timestamp` is what the
        caller says, `originalTimestamp` when it called the SDK (RudderStack's for Node.js sends both). Of two `sentAt` the later
        counts: a client that sends again what it kept writes a new one on the batch and leaves the event's as it was.
        """
        happened = _time(event.get("timestamp")) or _time(event.get("originalTimestamp"))
        if happened is None:
            return self._received_at
        sent = self._sent
        if (its := event.get("sentAt")) is not None and event is not self._body:
            its = _time(its)
            sent = its if sent is None else sent if its is None else max(its, sent)
        try:
            if sent is not None:
                happened = self._received - max(sent - happened, _NO_TIME)
                if happened <= _LONG_AGO:
                    return self._received_at
            return min(self._clock.world(happened), self._received_at)
        except OverflowError:
            return self._received_at


def _object(holder: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Bad(f"has a {key} that is no object")
    return value


def _is_large(event: dict[str, Any]) -> bool:
    """Whether an event is larger than Segment allows."""
    try:
        size = len(_to_json(event))
    except (ValueError, OverflowError):  # half characters, endless numbers: to be cleaned, not to be refused
        size = len(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
    return size > LARGEST_EVENT


def _event_name(event: Mapping[str, Any], *, public: bool) -> str:
    written = event.get("event")
    if not isinstance(written, str) or not (name := _canonical(written[: LONGEST_ID + 1])):
        raise _Bad('is a track without an event name: set "event"')
    if len(written) > LONGEST_ID:
        raise _Bad(f"has an event name of more than {LONGEST_ID} characters")
    if name == IDENTIFIED:
        raise _Bad("has the event name of an identify: send an identify")
    if public and name in _OF_MAIL:
        raise _Bad("has the name of an event of mail, which needs the write key: with a page's key anybody could unsubscribe others")
    if name in _OURS:
        raise _Bad("has the name of an event that Mebae itself tells: send an identify with what changed")
    return name


@lru_cache(maxsize=4096)
def _canonical(written: str) -> str:
    return canonical(clean_text(written))


def _message_id(event: Mapping[str, Any]) -> str:
    message_id = _identifier(event.get("messageId"), "messageId")
    if message_id is None:
        # Without an id the same thing sent twice can be known only if the client says when it happened.
        if event.get("timestamp") is None and event.get("originalTimestamp") is None:
            return f"made:{uuid.uuid4()}"
        said = {key: value for key, value in event.items() if key not in ("sentAt", "receivedAt", "writeKey")}
        return f"made:{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:40]}"
    if message_id.startswith(OUR_MESSAGE_IDS):
        raise _Bad("has a messageId that begins like one of ours")
    return message_id


def _identifier(value: Any, what: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _Bad(f"has a {what} that is no text")
    text = clean_text(str(value))
    if len(text) > LONGEST_ID:
        raise _Bad(f"has a {what} of more than {LONGEST_ID} characters")
    return text.strip() or None


def _who(event: Mapping[str, Any], traits: Mapping[str, Any], properties: Mapping[str, Any], *, moves: bool) -> Who:
    """Whom an event is about. A user id that looks like an address is one."""
    user_id = _identifier(event.get("userId"), "userId")
    anonymous_id = _identifier(event.get("anonymousId"), "anonymousId")
    email = address_of(user_id) if user_id is not None and "@" in user_id else None
    if email is not None:
        user_id = None
    else:
        written = [text for one in (traits.get("email"), properties.get("email")) if (text := text_of(one))]
        email = next((address for one in written if (address := address_of(one)) is not None), None)
        if email is None and user_id is None and anonymous_id is None:
            if written:
                raise _Bad("has an email that is no address, and neither userId nor anonymousId")
            raise _Bad("says of nobody: set userId, anonymousId or an email in traits or properties")
    return made(Who, {"email": email, "user_id": user_id, "anonymous_id": anonymous_id, "moves": moves})


def _renamed(event: Mapping[str, Any], who: Who) -> tuple[Who, str | None]:
    """Of an alias: who it is, and what the lead was called before; None if that is what it is called now, as browsers can say."""
    previous = _identifier(event.get("previousId"), "previousId")
    if previous is None:
        raise _Bad('is an alias that does not say of whom: set "previousId"')
    if who.user_id is None and who.email is None:
        raise _Bad('is an alias without a new id: set "userId"')
    address = address_of(previous) if "@" in previous else None
    if address is not None and who.email is None:  # it was known by its address, and now has an id too
        return who.model_copy(update={"email": address}), None
    previous = address or previous
    return who, None if previous in (who.user_id, who.email) else previous


def _of_company(event: Mapping[str, Any]) -> dict[str, Any]:
    """What a group says of the company, as traits of the lead. `company_group_id` is the id that the sender gives it."""
    said: dict[str, Any] = {}
    group_id = _identifier(event.get("groupId"), "groupId")
    if group_id is not None:
        said["company_group_id"] = group_id
    for key, value in _object(event, "traits").items():
        field = "company" if key == "name" else field_of(key)
        if field in _OF_COMPANIES:
            said[str(field)] = value
        else:
            said[key if key.startswith("company_") else f"company_{key}"] = value
    return said


def _consent(context: Mapping[str, Any], received_at: datetime) -> ConsentGiven | None:
    """That the lead agreed to get mail: `context.mebae.consent {how, source, wording, basis, given_at}`, as our forms and
    backends say it; or, with `withdrawn`, that it does so no more."""
    ours = context.get("mebae")
    said = ours.get("consent") if isinstance(ours, dict) else None
    if said is None:
        return None
    how = text_of(said.get("how"), LONGEST_ID) if isinstance(said, dict) else ""
    if not how:
        raise _Bad('has a context.mebae.consent that does not say how it was given: set "how"')
    assert isinstance(said, dict)
    basis = text_of(said.get("basis"), LONGEST_ID)
    if basis and basis not in BASES:
        raise _Bad(f"has a context.mebae.consent with a basis that is none: write one of {', '.join(BASES)}, or leave it out")
    given_at = None
    if said.get("given_at") is not None:
        given_at = _time(said["given_at"])
        if given_at is None or given_at > received_at:
            raise _Bad("has a context.mebae.consent whose given_at is no time up to now: write it like 2026-04-01T10:00:00+09:00")
    return ConsentGiven(
        how=how, source=text_of(said.get("source"), LONGEST_ID), wording=text_of(said.get("wording"), 10_000),
        basis=basis, given_at=given_at, withdrawn=said.get("withdrawn") is True,
    )  # fmt: skip


def _page(properties: dict[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """A page's properties with its `path`, which scenarios match."""
    page = context.get("page")
    for holder in (properties, page) if isinstance(page, dict) else (properties,):
        for key in ("path", "url"):
            path = path_of(holder.get(key))
            if path is not None:
                return properties if properties.get("path") == path else properties | {"path": path}
    return properties


def _time(value: Any) -> datetime | None:
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value.strip())
            if found.tzinfo is not UTC:
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
