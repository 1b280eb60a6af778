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
from mebae.errors import BadInput
from mebae.http.body import LARGEST_UNPACKED, HttpError, parse, unpack
from mebae.http.reading import address_of, storable
from mebae.http.segment import KINDS, Batch, Kind, read_batch
from mebae.store.ingest import Incoming
from mebae.store.leads import normalise_email
from mebae.store.traits import TooDeep, clean, clean_text

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
        (track(userId=True), "userId that is no text"),
        (track(userId="u" * 256), "more than 255"),
        (track(messageId="m" * 256), "more than 255"),
        (track(messageId="lead-created:7"), "like one of ours"),
        (track(event=" "), "without an event name"),
        (track(event="Lead Identified"), "send an identify"),
        (track(properties=[1]), "properties that is no object"),
        (track(type="delete"), "type that is not taken"),
        (track(type="alias"), 'set "previousId"'),
        (track(type="alias", userId=None, anonymousId="a", previousId="b"), 'set "userId"'),
        (track(type="group", traits="青葉精機"), "traits that is no object"),
        (track(type="group", groupId={}), "groupId that is no text"),
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


def test_a_screen_is_viewed_under_its_name() -> None:
    read_ = one({"type": "screen", "userId": "u1", "name": "Settings", "properties": {"tab": "billing"}})
    assert (read_.name, read_.properties) == ("Screen Viewed", {"tab": "billing", "name": "Settings"})


def test_a_group_tells_of_the_company_and_its_address_is_not_the_leads() -> None:
    """RudderStack's clients put the lead's own traits in the context of every event."""
    read_ = one(
        {
            "type": "group",
            "userId": "u1",
            "groupId": 7,
            "traits": {
                "name": "青葉精機",
                "industry": "製造業",
                "employees": 120,
                "email": "info@aoba.example.jp",
                "company_plan": "pro",
                "website": "aoba.example.jp",
            },
            "context": {"traits": {"email": "sato@aoba.example.jp", "title": "部長"}},
        }
    )
    assert (read_.name, read_.who.email, read_.who.user_id, read_.who.moves) == (
        "Lead Identified",
        "sato@aoba.example.jp",
        "u1",
        False,
    )
    assert read_.traits == {
        "company_group_id": "7",
        "company": "青葉精機",
        "industry": "製造業",
        "company_size": 120,
        "company_email": "info@aoba.example.jp",
        "company_plan": "pro",
        "company_website": "aoba.example.jp",
    }


@pytest.mark.parametrize(
    ("previous", "user", "read_as"),
    [
        ("u1", "u2", (None, "u2", "u1")),
        ("browser-1", "u2", (None, "u2", "browser-1")),
        ("u2", "u2", (None, "u2", None)),  # what Segment's browser SDK sends of a lead it knows
        ("Sato@example.jp", "u2", ("sato@example.jp", "u2", None)),  # the lead known by its address has an id now
        ("u1", "sato@example.jp", ("sato@example.jp", None, "u1")),
        ("old@example.jp", "new@example.jp", ("new@example.jp", None, "old@example.jp")),
    ],
)
def test_an_alias_says_what_a_lead_was_called(previous: str, user: str, read_as: tuple[str | None, ...]) -> None:
    read_ = one({"type": "alias", "previousId": previous, "userId": user})
    assert read_.name == "Lead Identified"
    assert (read_.who.email, read_.who.user_id, read_.previous_id) == read_as


@pytest.mark.parametrize(
    ("event", "came_from"),
    [
        ({"context": {"campaign": {"source": "google", "name": "spring", "medium": "cpc"}}}, ("google", "spring")),
        ({"context": {"campaign": {"name": "spring"}}}, (None, "spring")),
        ({"context": {"page": {"search": "?utm_source=mail&utm_campaign=%E6%98%A5"}}}, ("mail", "春")),
        ({"context": {"page": {"url": "https://aoba.example/?x=1&utm_source=mail#top"}}}, ("mail", None)),
        ({"properties": {"url": "https://aoba.example/?utm_campaign=fair"}}, (None, "fair")),
        ({"context": {"page": {"referrer": "https://www.search.example/?q=1", "url": "https://aoba.example/"}}}, ("search.example", None)),
        ({"context": {"page": {"referrer": "https://www.aoba.example/a", "url": "https://aoba.example/"}}}, (None, None)),
        ({"context": {"page": {"referrer": "https://blog.aoba.example/a", "url": "https://www.aoba.example/"}}}, (None, None)),
        ({"context": {"page": {"referrer": "$direct", "search": ""}}}, (None, None)),
        ({"context": {"page": {"referrer": "https://[broken", "search": 7}, "campaign": []}}, (None, None)),
        ({"context": {"page": {"referrer": "https://fair.example/"}, "campaign": {"source": " ", "name": None}}}, ("fair.example", None)),
        ({}, (None, None)),
    ],
)  # fmt: skip
def test_where_a_lead_came_from(event: dict[str, Any], came_from: tuple[str | None, str | None]) -> None:
    read_ = one({"type": "page", "anonymousId": "browser-1", **event})
    assert (read_.source, read_.campaign) == came_from


# When it happened -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-24, 0, 24])
def test_a_client_with_a_wrong_clock_is_set_right(hours: int) -> None:
    off = timedelta(hours=hours)
    happened, sent = RECEIVED - timedelta(minutes=10) + off, RECEIVED + off
    read_ = one(track(timestamp=happened.isoformat()), sentAt=sent.isoformat())
    assert abs(read_.occurred_at - (RECEIVED - timedelta(minutes=10))) < timedelta(seconds=2)
    assert read_.received_at == RECEIVED


@pytest.mark.parametrize("hours", [-24, 24])
@pytest.mark.parametrize(
    ("of_event", "of_batch"),
    [
        (("originalTimestamp", "sentAt"), ()),  # RudderStack's browser SDK, one event
        (("originalTimestamp", "sentAt"), ("sentAt",)),  # RudderStack's for Node.js
        (("timestamp",), ("sentAt",)),  # Segment's
        (("timestamp", "originalTimestamp", "sentAt"), ("sentAt",)),
    ],
)
def test_every_clients_way_of_telling_the_time_is_understood(
    hours: int, of_event: tuple[str, ...], of_batch: tuple[str, ...]
) -> None:
    off = timedelta(hours=hours)
    said = {
        "timestamp": RECEIVED - timedelta(hours=2) + off,
        "originalTimestamp": RECEIVED - timedelta(hours=2) + off,
        "sentAt": RECEIVED - timedelta(seconds=1) + off,
    }
    event = track(**{name: said[name].isoformat() for name in of_event})
    read_ = one(event, **{name: said[name].isoformat() for name in of_batch})
    assert abs(read_.occurred_at - (RECEIVED - timedelta(hours=2))) < timedelta(seconds=2)


def test_what_was_kept_and_sent_again_is_as_old_as_it_is() -> None:
    """The batch says when it was sent this time, the event when it was first tried."""
    event = track(timestamp="2026-03-25T12:00:00Z", sentAt="2026-03-25T12:00:01Z")
    assert one(event, sentAt=RECEIVED.isoformat()).occurred_at == datetime(2026, 3, 25, 12, 0, tzinfo=UTC)


def test_the_time_that_the_caller_gave_counts_and_not_that_of_the_call() -> None:
    event = track(timestamp="2026-03-01T00:00:00Z", originalTimestamp=RECEIVED.isoformat())
    assert one(event, sentAt=RECEIVED.isoformat()).occurred_at == datetime(2026, 3, 1, tzinfo=UTC)


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


def test_a_body_of_a_million_tiny_values_is_refused_before_it_is_read() -> None:
    tiny = b'{"a":[' + b"[]," * 1_700_000 + b"1]}"
    assert len(gzip.compress(tiny)) < 10_000, "that is all that somebody without a key has to send"
    with pytest.raises(HttpError, match="too-many-values"):
        unpack(gzip.compress(tiny))
    with pytest.raises(HttpError, match="too-many-values"):
        unpack(tiny)
    largest = json.dumps({"batch": [track(properties={f"p{n}": "はい, いいえ" for n in range(20)})] * 2500}).encode()
    assert len(largest) > 2 << 20
    assert unpack(largest) is largest


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


WORDS = ["track", "page", "identify", "screen", "group", "alias", "sato@example.jp", "2026-04-01T00:00:00Z"]
ADDRESSES = st.from_regex(r"[a-zA-Z0-9._+-]{1,20}@[a-zA-Z0-9.-]{1,20}\.(com|jp|co\.jp|test|local)", fullmatch=True)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
KEYS = [
    "previousId",
    "groupId",
    "campaign",
    "page",
    "search",
    "url",
    "referrer",
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
    st.sampled_from([None, *KINDS]),
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
            assert (
                Incoming.model_validate(incoming.model_dump()) == incoming
            )  # made without checks, and right all the same
            json.dumps([incoming.properties, incoming.traits], allow_nan=False, ensure_ascii=False).encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_refusal(raw: bytes) -> None:
    try:
        assert isinstance(parse(unpack(raw)), dict)
    except HttpError as refused:
        assert refused.status in (400, 413)  # noqa: PT017


@given(ADDRESSES | st.emails() | st.text(max_size=30).map(lambda text: f"{text}@example.jp"))
def test_the_short_way_to_an_address_ends_where_the_long_one_does(written: str) -> None:
    try:
        expected: str | None = normalise_email(clean_text(written))
    except BadInput:
        expected = None
    assert address_of(written) == expected


@given(st.dictionaries(st.text(), junk))
def test_what_need_not_be_cleaned_is_clean(value: dict[str, Any]) -> None:
    try:
        expected = clean(value)
    except TooDeep:
        return
    assert repr(storable(value)) == repr(expected)


# Consent --------------------------------------------------------------------------------------------------------------


def agreed(**said: Any) -> dict[str, Any]:
    return track(context={"mebae": {"consent": said}})


def test_a_backend_says_on_what_ground_a_lead_may_be_written_to() -> None:
    given = one(agreed(how="contract", source="K-77", basis="dealings", given_at="2026-03-01T10:00:00+09:00")).consent
    assert given is not None
    assert (given.how, given.source, given.basis, given.withdrawn) == ("contract", "K-77", "dealings", False)
    assert given.given_at == datetime(2026, 3, 1, 1, 0, tzinfo=UTC)
    plain = one(agreed(how="telephone", wording="ご案内")).consent
    assert plain is not None
    assert (plain.basis, plain.given_at, plain.wording) == ("", None, "ご案内")
    taken_back = one(agreed(how="crm", withdrawn=True)).consent
    assert taken_back is not None
    assert taken_back.withdrawn


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"how": "x", "basis": "cards"}, "a basis that is none: write one of consent, dealings, business-card, published-address"),
        ({"how": "x", "given_at": "soon"}, "whose given_at is no time up to now"),
        ({"how": "x", "given_at": "2999-01-01"}, "whose given_at is no time up to now"),
        ({"basis": "consent"}, "does not say how it was given"),
    ],
)
def test_a_consent_that_cannot_be_read_is_told(said: dict[str, Any], reason: str) -> None:
    [rejected] = read(agreed(**said)).rejected
    assert reason in rejected.reason


@pytest.mark.parametrize("name", ["Unsubscribed", "Topic Unsubscribed", "unsubscribed"])
def test_with_a_pages_key_nobody_unsubscribes_others_nor_agrees_for_them(name: str) -> None:
    """Anybody can read that key in the page."""
    body = {"batch": [track(event=name, properties={"topic": "product"}), agreed(how="form")]}
    public = read_batch(body, clock=REAL, received=RECEIVED, size=500, public=True)
    assert ["needs the write key" in one.reason for one in public.rejected] == [True]
    assert [one.consent for one in public.incoming] == [None]
    whole = read_batch(body, clock=REAL, received=RECEIVED, size=500)
    assert whole.incoming[0].name.endswith("Unsubscribed")
