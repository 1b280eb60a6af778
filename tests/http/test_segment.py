"""Reading what clients send, without a server."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mebae.clock import WorldClock
from mebae.http.body import LARGEST_UNPACKED, HttpError, parse, unpack
from mebae.http.segment import Batch, Kind, read_batch
from mebae.store.ingest import Incoming

RECEIVED = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)
REAL = WorldClock()


def read(*events: Any, kind: Kind | None = None, clock: WorldClock = REAL, **body: Any) -> Batch:
    whole = events[0] if kind is not None else {"batch": list(events), **body}
    return read_batch(whole, clock=clock, received=RECEIVED, size=len(json.dumps(whole)), kind=kind)


def one(event: dict[str, Any], **rest: Any) -> Incoming:
    batch = read(event, **rest)
    assert batch.rejected == []
    [incoming] = batch.incoming
    return incoming


def track(**more: Any) -> dict[str, Any]:
    return {"type": "track", "event": "Content Downloaded", "userId": "sato@example.jp", "messageId": "m1"} | more


# What happened --------------------------------------------------------------------------------------------------------


def test_track_comes_under_its_canonical_name() -> None:
    read_ = one(track(event="whitepaper downloaded", properties={"content": "whitepaper-iot"}))
    assert (read_.name, read_.properties, read_.message_id) == (
        "Content Downloaded",
        {"content": "whitepaper-iot"},
        "m1",
    )


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ({"properties": {"path": "/pricing"}}, "/pricing"),
        ({"properties": {"path": "/pricing?plan=pro#top", "url": "https://example.com/other"}}, "/pricing"),
        ({"properties": {"url": "https://example.com/pricing?x=1"}}, "/pricing"),
        ({"properties": {"url": "https://example.com"}}, "/"),
        ({"context": {"page": {"url": "https://example.com/pricing"}}}, "/pricing"),
        ({"properties": {"path": 7, "url": "http://[broken"}}, None),
    ],
)
def test_page_is_a_page_view_with_its_path(event: dict[str, Any], path: str | None) -> None:
    read_ = one({"type": "page", "userId": "u1", "name": "料金", **event})
    assert read_.name == "Page Viewed"
    if path is None:
        assert read_.properties["path"] == 7
    else:
        assert read_.properties["path"] == path
    assert read_.properties["name"] == "料金"


def test_identify_takes_its_traits_from_context_too() -> None:
    read_ = one(
        {
            "type": "identify",
            "userId": "u1",
            "context": {"traits": {"email": "A@example.jp", "title": "課長"}},
            "traits": {"title": "部長"},
        }
    )
    assert (read_.who.email, read_.who.user_id, read_.who.moves) == ("a@example.jp", "u1", True)
    assert read_.traits == {"email": "A@example.jp", "title": "部長"}


@pytest.mark.parametrize(
    ("event", "who"),
    [
        ({"userId": "Sato@Example.JP"}, ("sato@example.jp", None)),
        ({"userId": 7}, (None, "7")),
        ({"userId": "@sato"}, (None, "@sato")),
        ({"userId": "u1", "properties": {"email": "sato@example.jp"}}, ("sato@example.jp", "u1")),
        ({"userId": "u1", "properties": {"email": "no address"}}, (None, "u1")),
        ({"userId": None, "context": {"traits": {"email": "a..b@docomo.ne.jp"}}}, ("a..b@docomo.ne.jp", None)),
        ({"userId": None, "anonymousId": "browser-1"}, (None, None)),
    ],
)
def test_it_is_said_of_the_right_person(event: dict[str, Any], who: tuple[str | None, str | None]) -> None:
    read_ = one(track(**event))
    assert (read_.who.email, read_.who.user_id) == who


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("text", "is no JSON object"),
        (track(userId=None), "says of nobody"),
        (track(userId=None, properties={"email": "none"}), "an email that is no address"),
        (track(userId="mebae:anonymous"), "userId that is ours"),
        (track(userId=True), "userId that is no text"),
        (track(userId="u" * 256), "more than 255"),
        (track(messageId="m" * 256), "more than 255"),
        (track(messageId="lead-created:7"), "like one of ours"),
        (track(event=" "), "without an event name"),
        (track(event="Lead Identified"), "send an identify"),
        (track(properties=[1]), "properties that is no object"),
        (track(type="group"), "type that is not taken"),
        (track(type=["track"]), "type that is not taken"),
        (track(properties={"x": "あ" * 11000}), "larger than 32 KB"),
    ],
)
def test_one_bad_event_costs_only_itself(event: Any, reason: str) -> None:
    batch = read(track(messageId="a"), event, track(messageId="b"))
    assert [incoming.message_id for incoming in batch.incoming] == ["a", "b"]
    assert batch.places == [0, 2]
    [rejected] = batch.rejected
    assert rejected.index == 1
    assert reason in rejected.reason


def test_an_event_without_id_is_known_again_by_its_time() -> None:
    event = {key: value for key, value in track(timestamp="2026-04-01T11:00:00Z").items() if key != "messageId"}
    assert one(event).message_id == one(dict(event)).message_id != one(event | {"event": "x"}).message_id
    del event["timestamp"]
    assert one(event).message_id != one(event).message_id


# When it happened -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-24, 0, 24])
def test_a_client_with_a_wrong_clock_is_set_right(hours: int) -> None:
    off = timedelta(hours=hours)
    happened, sent = RECEIVED - timedelta(minutes=10) + off, RECEIVED + off
    read_ = one(track(timestamp=happened.isoformat()), sentAt=sent.isoformat())
    assert abs(read_.occurred_at - (RECEIVED - timedelta(minutes=10))) < timedelta(seconds=2)
    assert read_.received_at == RECEIVED


def test_in_the_demo_minutes_are_days() -> None:
    clock = WorldClock(origin=RECEIVED - timedelta(minutes=1), speed=1440)
    event = track(timestamp=(RECEIVED - timedelta(seconds=30)).isoformat())
    read_ = one(event, clock=clock, sentAt=RECEIVED.isoformat())
    assert read_.received_at == clock.world(RECEIVED)
    assert read_.received_at - read_.occurred_at == timedelta(hours=12)


@pytest.mark.parametrize(
    "written",
    ["yesterday", "", 1e300, float("nan"), "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", True, {}, None],
)
def test_a_time_that_nobody_can_believe_counts_as_now(written: Any) -> None:
    for clock in (REAL, WorldClock(origin=RECEIVED, speed=86400)):
        read_ = one(track(timestamp=written), clock=clock)
        assert read_.occurred_at == read_.received_at == RECEIVED


def test_the_future_is_now_and_a_batch_from_last_year_stays_last_year() -> None:
    assert one(track(timestamp="2026-05-01T00:00:00Z")).occurred_at == RECEIVED
    assert one(track(timestamp="2025-05-01T00:00:00+09:00"), sentAt=RECEIVED.isoformat()).occurred_at == datetime(
        2025, 4, 30, 15, tzinfo=UTC
    )


# The body -------------------------------------------------------------------------------------------------------------


def test_gzip_is_known_by_its_first_bytes_and_a_bomb_stops_at_the_cap() -> None:
    assert unpack(gzip.compress(b"{}")) == b"{}"
    assert unpack(b"{}", "gzip") == b"{}"  # a proxy unpacked it and left the header
    for raw, encoding, status in [
        (gzip.compress(b" " * (LARGEST_UNPACKED + 1)), "gzip", 413),
        (gzip.compress(b"{}")[:-6], "gzip", 400),
        (b"\x1f\x8bjunk", "", 400),
        (b"junk", "gzip", 400),
    ]:
        with pytest.raises(HttpError) as refused:
            unpack(raw, encoding)
        assert refused.value.status == status


def test_malformed_json_is_answered_with_the_place() -> None:
    with pytest.raises(HttpError, match="malformed-json") as refused:
        parse(b'{"batch": [\n{"type": }]}')
    assert "line 2, column 10" in refused.value.message


def test_an_event_without_end_to_its_nesting_costs_only_itself() -> None:
    deep = '{"type": "track", "properties": {"x": ' + "[" * 100_000 + "]" * 100_000 + "}}"
    good = json.dumps(track(event='a "]},{[" b'))
    body = parse(f'{{"sentAt": "2026-04-01T00:00:00Z", "batch": [{good}, {deep} , {good}], "writeKey": "k"}}'.encode())
    batch = read_batch(body, clock=REAL, received=RECEIVED, size=10**6)
    assert body["writeKey"] == "k"
    assert len(batch.incoming) == 2
    assert [(bad.index, bad.reason) for bad in batch.rejected] == [(1, "is nested too deeply")]
    with pytest.raises(HttpError, match="too-deep"):
        parse(b"[" * 100_000)


def test_poison_in_one_event_is_cleaned() -> None:
    raw = b'{"batch": [{"type": "track", "event": "a\\u0000b", "userId": "u1", "properties": {"n": ' + b"9" * 5000
    raw += b', "s": "\\ud800", "f": NaN, "raw": "\xff"}}]}'
    batch = read_batch(parse(raw), clock=REAL, received=RECEIVED, size=len(raw))
    [incoming] = batch.incoming
    assert incoming.name == "ab"
    assert incoming.properties == {"n": None, "s": "\ufffd", "f": None, "raw": "\ufffd"}


WORDS = ["track", "page", "identify", "sato@example.jp", "2026-04-01T00:00:00Z"]
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
KEYS = [
    "type",
    "event",
    "userId",
    "anonymousId",
    "messageId",
    "properties",
    "traits",
    "context",
    "timestamp",
    "originalTimestamp",
    "sentAt",
    "name",
]


@given(
    st.lists(junk | st.dictionaries(st.sampled_from(KEYS), junk), max_size=5),
    st.sampled_from([None, "track", "identify", "page"]),
    st.floats(0.01, 1e6),
)
def test_whatever_is_sent_each_event_is_taken_or_rejected(events: list[Any], kind: Kind | None, speed: float) -> None:
    clock = WorldClock(origin=RECEIVED - timedelta(hours=1), speed=speed)
    if kind is not None:
        events = [event for event in events if isinstance(event, dict)][:1]
    if kind is None or events:
        batch = read(*events, kind=kind, clock=clock)
        assert len(batch.incoming) + len(batch.rejected) == len(events)
        for incoming in batch.incoming:
            assert incoming.occurred_at <= incoming.received_at
            json.dumps(incoming.properties, allow_nan=False, ensure_ascii=False).encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_refusal(raw: bytes) -> None:
    try:
        assert isinstance(parse(unpack(raw)), dict)
    except HttpError as refused:
        assert refused.status in (400, 413)  # noqa: PT017
