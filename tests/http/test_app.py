"""A real server and real clients: what is answered, and what is in the database once it is applied."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from segment.analytics.client import Client
from sqlmodel import col, select

from mebae.clock import WorldClock
from mebae.errors import BadInput
from mebae.http.app import create_app
from mebae.store.database import Database
from mebae.store.tables import Consent, Event, Lead, Quarantined, VisitorEvent
from tests.applying import apply_all

KEY = "key-of-the-site"
SATO = "sato.kenji@aoba-seiki.example"


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """A uvicorn on a free port, in a thread; its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def app_of(database: Database, **more: Any) -> FastAPI:
    return create_app(database, write_keys=["another-key", KEY], clock=WorldClock(), **more)


class Site:
    """A web site or backend that posts to the app, without sockets."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        key: str | None = KEY,
        headers: dict[str, str] | None = None,
        content: bytes = b"",
    ) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
                auth = (
                    {} if key is None else {"authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}
                )
                raw = content or json.dumps(body).encode()
                return await client.post(path, content=raw, headers=auth | (headers or {}))

        return asyncio.run(send())

    def get(self, path: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="http://site") as client:
                return await client.get(path)

        return asyncio.run(ask())


@pytest.fixture
def site(database: Database) -> Site:
    return Site(app_of(database))


def stored(database: Database) -> list[Event]:
    apply_all(database)
    return list(database.write_now(lambda s: s.exec(select(Event).order_by(col(Event.lead_id), col(Event.seq))).all()))


def leads(database: Database) -> list[Lead]:
    apply_all(database)
    return list(database.write_now(lambda s: s.exec(select(Lead).order_by(col(Lead.id))).all()))


def track(message_id: str = "m1", **more: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "Content Downloaded",
        "userId": SATO,
        "messageId": message_id,
        "properties": {"content": "whitepaper-iot"},
    } | more


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_segments_own_python_client_is_understood(database: Database, zipped: bool) -> None:
    failures: list[Any] = []
    happened = datetime.now(UTC) - timedelta(hours=2)
    with serving(app_of(database)) as address:
        client = Client(
            KEY,
            host=address,
            gzip=zipped,
            on_error=lambda error, _: failures.append(error),
            max_retries=1,
            upload_interval=0.05,
        )
        client.identify(SATO, {"name": "佐藤 健司", "company": {"name": "青葉精機"}, "industry": "manufacturing"})
        client.track(SATO, "Whitepaper Downloaded", {"content": "whitepaper-iot"}, timestamp=happened)
        client.page(SATO, None, "料金", {"url": "https://example.com/pricing?x=1"})
        client.track("crm-7", "Trial Started", {"email": "tanaka@example.jp"})
        client.track(None, "Page Viewed", anonymous_id="browser-1")
        client.flush()
        client.join()
    assert failures == []
    sato, tanaka = sorted(leads(database), key=lambda lead: lead.email or "")
    assert (sato.email, sato.name, sato.company, sato.industry) == (SATO, "佐藤 健司", "青葉精機", "manufacturing")
    assert (tanaka.email, tanaka.user_id) == ("tanaka@example.jp", "crm-7")
    [visit] = database.read_now(lambda session: session.exec(select(VisitorEvent)).all())
    assert (visit.anonymous_id, visit.name) == ("browser-1", "Page Viewed")
    of_sato = [event for event in stored(database) if event.lead_id == sato.id]
    assert [event.name for event in of_sato] == ["Lead Created", "Lead Identified", "Content Downloaded", "Page Viewed"]
    assert of_sato[3].properties["path"] == "/pricing"
    assert abs(of_sato[2].occurred_at - happened) < timedelta(seconds=2)


def test_single_events_have_their_own_addresses(database: Database, site: Site) -> None:
    for path, body in [
        ("/v1/identify", {"userId": SATO, "traits": {"title": "部長"}}),
        ("/v1/track", {"userId": SATO, "event": "Trial Started"}),
        ("/v1/page", {"userId": SATO, "properties": {"path": "/pricing"}}),
    ]:
        answer = site.post(path, body, headers={"content-type": "text/plain"})
        assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert [event.name for event in stored(database)] == [
        "Lead Created",
        "Lead Identified",
        "Trial Started",
        "Page Viewed",
    ]


def test_gzip_under_a_form_content_type_is_understood(database: Database, site: Site) -> None:
    content = gzip.compress(json.dumps({"batch": [track()]}).encode())
    assert (
        site.post(
            "/v1/batch", content=content, headers={"content-type": "application/x-www-form-urlencoded"}
        ).status_code
        == 200
    )
    assert len(stored(database)) == 2


def test_one_bad_event_is_reported_and_the_others_are_stored(database: Database, site: Site) -> None:
    answer = site.post(
        "/v1/batch",
        {"batch": [track("a"), track("b"), {"type": "track", "userId": SATO, "messageId": "c"}, track("d")]},
    )
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "rejected": [{"index": 2, "reason": 'is a track without an event name: set "event"'}],
    }
    assert [event.message_id for event in stored(database)[1:]] == ["a", "b", "d"]


def test_the_same_batch_again_is_answered_the_same_and_changes_nothing(database: Database, site: Site) -> None:
    body = {"batch": [track("a"), track("b")], "sentAt": "2026-04-01T00:00:00Z"}
    first = site.post("/v1/batch", body)
    before = [event.model_dump() for event in stored(database)]
    assert site.post("/v1/batch", body).json() == first.json()
    assert [event.model_dump() for event in stored(database)] == before


def test_key_may_stand_in_the_body(database: Database, site: Site) -> None:
    assert site.post("/v1/batch", {"batch": [track()], "writeKey": KEY}, key=None).status_code == 200
    assert site.post("/v1/track", track("m2", writeKey="another-key"), key="old").status_code == 200
    assert len(stored(database)) == 3


@pytest.mark.parametrize(
    ("key", "headers", "body"),
    [
        ("wrong", {}, {"batch": [track()]}),
        ("", {}, {"batch": [track()]}),
        (KEY[:-1], {}, {"batch": [track()], "writeKey": "wrong"}),
        (None, {}, {"batch": [track()]}),
        (None, {"authorization": "Bearer " + KEY}, {"batch": [track()]}),
        (None, {"authorization": "Basic ???"}, {"batch": [track()]}),
        ("wrong", {}, "no object"),
    ],
)
def test_without_a_right_key_nothing_is_stored_and_the_answer_says_what_to_do(
    database: Database, site: Site, key: str | None, headers: dict[str, str], body: Any
) -> None:
    answer = site.post("/v1/batch", body, key=key, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["success"] is False
    assert answer.json()["code"] == "invalid-write-key"
    assert "Basic auth" in answer.json()["message"]
    assert stored(database) == []


def test_a_server_without_keys_lets_nobody_in(sqlite_database: Database) -> None:
    site = Site(create_app(sqlite_database, write_keys=[], clock=WorldClock()))
    assert site.post("/v1/track", track(), key="").status_code == 401
    assert site.post("/v1/track", track(), key=None).status_code == 401
    with pytest.raises(BadInput, match="one string"):
        create_app(sqlite_database, write_keys="key", clock=WorldClock())


def test_malformed_bodies_are_answered_with_the_cure(sqlite_database: Database) -> None:
    site = Site(app_of(sqlite_database))
    for content, status, word in [
        (b'{"batch": [', 400, "line 1, column 12"),
        (b"[]", 400, "no object"),
        (b'{"events": []}', 400, "/v1/track"),
        (b'{"batch": "x"}', 400, "list"),
        (b"\x1f\x8bjunk", 400, "damaged"),
        (b" " * 5_300_000, 413, "split the batch"),
        (gzip.compress(b" " * 6_000_000), 413, "when unpacked"),
        (json.dumps({"batch": [1] * 2501}).encode(), 413, "2500 events"),
        (b'{"batch": [' + b'"\\ud800",' * 2500 + b"1]}", 413, "2500 events"),
        (b"[" * 100_000, 400, "too deeply"),
    ]:
        answer = site.post("/v1/batch", content=content)
        assert (answer.status_code, answer.json()["success"]) == (status, False)
        assert word in answer.json()["message"]


def test_database_away_is_a_503_that_asks_to_come_again(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/without-tables.db", "postgresql://nobody:x@127.0.0.1:1/none"):
        database = Database(url)
        site = Site(app_of(database))
        for answer in (site.post("/v1/track", track()), site.get("/healthz") if "postgresql" in url else None):
            if answer is not None:
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                assert answer.json()["code"] == "database-unavailable"
        database.close()


def test_health_and_the_pages_of_others(database: Database) -> None:
    inbox = APIRouter()
    inbox.add_api_route("/inbox", lambda: {"mails": 0})
    site = Site(app_of(database, extra_routers=[inbox]))
    assert site.get("/healthz").json() == {"status": "ok"}
    assert site.get("/inbox").json() == {"mails": 0}


def test_one_event_on_eight_connections_at_once_is_stored_once(database: Database) -> None:
    with serving(app_of(database)) as address, ThreadPoolExecutor(8) as pool:
        for round_ in range(5):
            posts = [
                pool.submit(httpx.post, f"{address}/v1/batch", json={"batch": [track(f"m{round_}")]}, auth=(KEY, ""))
                for _ in range(8)
            ]
            assert {post.result().status_code for post in posts} == {200}
    assert [event.seq for event in stored(database)] == [1, 2, 3, 4, 5, 6]


@given(
    st.lists(
        st.recursive(
            st.none() | st.integers() | st.floats() | st.text(),
            lambda x: st.lists(x) | st.dictionaries(st.text(), x),
            max_leaves=8,
        ),
        max_size=4,
    )
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_junk_beside_a_good_event_is_stored_or_reported(database: Database, junk: list[Any]) -> None:
    site = Site(app_of(database))
    before = len(stored(database))
    events = [
        track(f"good-{before}"),
        *(
            {"type": "track", "event": "x", "userId": "u", "messageId": f"{before}-{n}", "properties": {"it": it}}
            for n, it in enumerate(junk)
        ),
        *junk,
    ]
    answer = site.post("/v1/batch", {"batch": events})
    assert answer.status_code == 200
    assert len(answer.json().get("rejected", [])) == len(junk)
    assert len([event for event in stored(database) if event.name != "Lead Created"]) >= before // 2 + 1
    assert any(event.message_id == f"good-{before}" for event in stored(database))


# Keys that stand in pages ------------------------------------------------------------------------------------------------


def test_who_reads_a_pages_key_can_make_nobody_an_mql_nor_consent_for_others(database: Database) -> None:
    site = Site(app_of(database, page_keys=["page-key"]))
    context = {"mebae": {"consent": {"how": "form", "wording": "はい"}}}
    claims = {"name": "佐藤 健司", "qualification": "sql", "ステージ": "検討", "score": 999}
    said = {"type": "identify", "messageId": "i1", "userId": SATO, "traits": claims, "context": context}
    assert site.post("/v1/identify", said, key="page-key").status_code == 200
    [lead] = leads(database)
    assert (lead.name, lead.qualification, lead.stage, lead.score) == ("佐藤 健司", "none", "awareness", 0)
    assert database.read_now(lambda session: session.exec(select(Consent)).all()) == []

    assert site.post("/v1/identify", said | {"messageId": "i2"}).status_code == 200
    [lead] = leads(database)
    assert (lead.qualification, lead.stage) == ("sql", "consideration")
    assert len(database.read_now(lambda session: session.exec(select(Consent)).all())) == 1


def test_a_pages_event_that_was_quarantined_says_no_more_when_it_is_released(database: Database) -> None:
    site = Site(app_of(database, page_keys=["page-key"]))
    bad = {"type": "identify", "messageId": "i1", "traits": {"qualification": "sql"}}
    site.post("/v1/batch", {"batch": [bad, track()]}, key="page-key")
    apply_all(database)
    [row] = database.read_now(lambda session: session.exec(select(Quarantined)).all())
    assert row.public


@pytest.mark.parametrize("name", ["Stage Reached", "qualified", "Segment Joined", "Lead Created", "Scenario Requested"])
def test_what_becomes_of_a_lead_is_nobodys_to_send(site: Site, database: Database, name: str) -> None:
    answer = site.post("/v1/track", track(event=name, properties={"qualification": "mql"}))
    assert "Mebae itself tells" in answer.json()["rejected"][0]["reason"]
    assert stored(database) == []


def test_a_page_loads_its_settings_with_its_own_key(database: Database) -> None:
    site = Site(app_of(database, page_keys=["page-key"]))
    assert site.get("/v1/projects/page-key/settings").status_code == 200


@pytest.mark.parametrize(
    "attack",
    [
        {"type": "alias", "previousId": SATO, "userId": "evil@attacker.example"},
        {"type": "identify", "userId": "crm-7", "traits": {"email": "evil@attacker.example"}},
        {"type": "identify", "userId": SATO, "traits": {"email": "evil@attacker.example"}},
    ],
    ids=["alias", "identify by id", "identify by address"],
)
def test_who_reads_a_pages_key_turns_nobodys_mail_to_another_address(
    database: Database, attack: dict[str, Any]
) -> None:
    site = Site(app_of(database, page_keys=["page-key"]))
    known = {"type": "identify", "messageId": "i0", "userId": "crm-7", "traits": {"email": SATO, "name": "佐藤 健司"}}
    site.post("/v1/identify", known)
    assert [lead.email for lead in leads(database)] == [SATO]

    site.post("/v1/batch", {"batch": [attack | {"messageId": "evil"}]}, key="page-key")
    by_name = [lead.email for lead in leads(database) if lead.name == "佐藤 健司"]
    assert by_name == [SATO]
