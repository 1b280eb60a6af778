"""What browsers are told: the settings of their SDK, and which pages may send. Real browsers are in tests/clients."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import select

from mebae.clock import WorldClock
from mebae.errors import BadInput
from mebae.http.app import create_app
from mebae.http.segment import PATHS
from mebae.store.database import Database
from mebae.store.tables import IntakeRow

KEY = "key-of-the-site"
PAGE = "https://www.aoba.example"
AUTH = httpx.BasicAuth(KEY, "")


class Server:
    """The app, asked without sockets."""

    def __init__(self, database: Database, **more: Any) -> None:
        self.database = database
        self._app = create_app(database, write_keys=["another", KEY], clock=WorldClock(), **more)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://mebae.example.jp:8300") as client:
                return await client.request(method, path, **more)

        return asyncio.run(send())

    def kept(self) -> int:
        return self.database.write_now(lambda session: len(session.exec(select(IntakeRow.id)).all()))


@pytest.fixture
def server(sqlite_database: Database) -> Server:
    return Server(sqlite_database)


def preflight(server: Server, path: str, *, origin: str = PAGE, headers: str = "authorization") -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}
    return server.ask("OPTIONS", path, headers=asked)


# Settings ------------------------------------------------------------------------------------------------------------


def test_segments_sdk_is_told_where_to_send(server: Server) -> None:
    answer = server.ask("GET", f"/v1/projects/{KEY}/settings")
    assert answer.status_code == 200
    told = answer.json()["integrations"]["Segment.io"]
    assert (told["apiKey"], told["apiHost"], told["protocol"]) == (KEY, "mebae.example.jp:8300/v1", "http")
    assert answer.json()["metrics"]["sampleRate"] == 0
    behind_a_proxy = server.ask("GET", f"/v1/projects/{KEY}/settings", headers={"Origin": PAGE})
    assert behind_a_proxy.json()["integrations"]["Segment.io"]["protocol"] == "https"
    odd = server.ask("GET", f"/v1/projects/{KEY}/settings", headers={"Host": "a/b@c"})
    assert "apiHost" not in odd.json()["integrations"]["Segment.io"]


@pytest.mark.parametrize("path", ["/sourceConfig", "/sourceConfig/"])
def test_rudderstacks_sdk_is_told_to_report_nothing_elsewhere(server: Server, path: str) -> None:
    answer = server.ask("GET", path, params={"writeKey": KEY, "p": "npm"})
    assert answer.status_code == 200
    source = answer.json()["source"]
    assert (source["writeKey"], source["enabled"], source["destinations"]) == (KEY, True, [])
    assert source["config"]["statsCollection"] == {"errors": {"enabled": False}, "metrics": {"enabled": False}}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/projects/wrong/settings", 404, "unknown-write-key"),
        ("/sourceConfig/?writeKey=wrong", 401, "invalid-write-key"),
        ("/sourceConfig/", 401, "invalid-write-key"),
        ("/sourceConfig/?writeKey=%ff", 401, "invalid-write-key"),
    ],
)
def test_a_wrong_key_has_no_settings_and_a_cure(server: Server, path: str, status: int, code: str) -> None:
    answer = server.ask("GET", path, headers={"Origin": PAGE})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "MEBAE_WRITE_KEYS" in answer.json()["message"]
    assert answer.headers["access-control-allow-origin"] == "*"


def test_a_path_that_is_none_is_answered_with_those_that_are(server: Server) -> None:
    answer = server.ask("POST", "/v1/trck")
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-path")
    assert "/v1/track" in answer.json()["message"]


# Who may send --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PATHS, "/v1/projects/k/settings", "/sourceConfig/"])
@pytest.mark.parametrize(
    "headers", ["authorization", "anonymousid,authorization,content-type,sentat", "authorization, x-retry-count"]
)
def test_a_browser_may_send_with_the_headers_that_its_sdk_sets(server: Server, path: str, headers: str) -> None:
    answer = preflight(server, path, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == headers
    assert "POST" in answer.headers["access-control-allow-methods"]


def test_what_is_no_header_is_not_given_back(server: Server) -> None:
    assert (
        preflight(server, "/v1/t", headers="<script>")
        .headers["access-control-allow-headers"]
        .startswith("authorization,")
    )


def test_a_page_can_read_every_answer_and_when_to_come_again(server: Server) -> None:
    for content, auth, status in [
        (b'{"event": "x", "userId": "u1"}', AUTH, 200),
        (b"{", AUTH, 400),
        (b"{}", httpx.BasicAuth("wrong", ""), 401),
    ]:
        answer = server.ask(
            "POST", "/v1/t", content=content, auth=auth, headers={"Origin": PAGE, "Content-Type": "text/plain"}
        )
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-expose-headers"] == "retry-after"


def test_a_page_can_read_that_the_database_is_away(tmp_path: Any) -> None:
    database = Database(f"sqlite:///{tmp_path}/without-tables.db")
    answer = Server(database).ask(
        "POST", "/v1/t", json={"event": "x", "userId": "u1"}, auth=AUTH, headers={"Origin": PAGE}
    )
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (503, "*")
    assert answer.headers["retry-after"]
    database.close()


def test_a_page_can_read_even_that_we_are_broken(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("mebae.http.intake.unpack", broken)
    answer = server.ask("POST", "/v1/t", content=b"{}", auth=AUTH, headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, "*")


def test_other_pages_of_this_server_are_nobody_elses(sqlite_database: Database) -> None:
    inbox = APIRouter()
    inbox.add_api_route("/inbox", lambda: {"mails": ["secret"]})
    server = Server(sqlite_database, extra_routers=[inbox])
    for path in ("/inbox", "/healthz"):
        answer = server.ask("GET", path, headers={"Origin": PAGE})
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert preflight(server, path).status_code == 405


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://www.aoba.example", True),
        ("HTTPS://WWW.AOBA.EXAMPLE", True),
        ("https://shop.kaki.example", True),
        ("https://a.b.kaki.example", True),
        ("http://localhost:8080", True),
        ("https://kaki.example", False),
        ("https://kaki.example.evil.example", False),
        ("https://evilkaki.example", False),
        ("http://www.aoba.example", False),
        ("http://localhost:8081", False),
        ("null", False),
    ],
)
def test_only_the_named_sites_may_send(sqlite_database: Database, origin: str, allowed: bool) -> None:
    named = ["https://www.aoba.example/", "https://*.kaki.example", "http://localhost:8080"]
    server = Server(sqlite_database, allowed_origins=named)
    assert preflight(server, "/v1/t", origin=origin).status_code == (204 if allowed else 403)
    event = {"event": "x", "userId": "u1"}
    answer = server.ask("POST", "/v1/t", json=event, auth=AUTH, headers={"Origin": origin})
    if allowed:
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "origin"
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "origin-not-allowed")
        assert "MEBAE_ALLOWED_ORIGINS" in answer.json()["message"]
    assert server.kept() == int(allowed)
    # Servers name no origin; the write key is their ticket.
    assert server.ask("POST", "/v1/t", json=event, auth=AUTH).status_code == 200


@pytest.mark.parametrize(
    "wrong", ["www.aoba.example", "https://aoba.example/shop", "ftp://a.example", "https://a.*.example", ""]
)
def test_what_is_no_origin_is_refused_at_start(sqlite_database: Database, wrong: str) -> None:
    with pytest.raises(BadInput, match="no origin of web pages"):
        create_app(sqlite_database, write_keys=[KEY], clock=WorldClock(), allowed_origins=[wrong])


def test_a_beacon_has_its_key_in_the_address(server: Server) -> None:
    body = json.dumps({"batch": [{"type": "page", "anonymousId": "a"}]})
    for query, status in [(f"?writeKey={KEY}", 200), ("?writeKey=wrong", 401), ("", 401)]:
        answer = server.ask(
            "POST", f"/beacon/v1/batch{query}", content=body, headers={"Origin": PAGE, "Content-Type": "text/plain"}
        )
        assert answer.status_code == status
    assert server.kept() == 1


# Whatever is sent ----------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["track", "alias", "u1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "userId", "batch", "sentAt", "context", "page", "traits", "writeKey"]) | st.text(),
            inner,
        )
    ),
    max_leaves=10,
)


@pytest.fixture
def many(sqlite_database: Database) -> Server:
    return Server(sqlite_database)


@given(path=st.sampled_from(sorted(PATHS)), body=JSON)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_json_is_sent_the_server_is_well(many: Server, path: str, body: Any) -> None:
    answer = many.ask("POST", path, content=json.dumps(body).encode(), auth=AUTH)
    fits = isinstance(body, dict) and (PATHS[path] is not None or isinstance(body.get("batch"), list))
    assert answer.status_code == (200 if fits else 400), answer.text


@given(junk=st.lists(JSON, min_size=1, max_size=4))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_batch_with_bad_events_is_taken(many: Server, junk: list[Any]) -> None:
    good = {"type": "track", "event": "x", "userId": "u1"}
    answer = many.ask("POST", "/v1/batch", content=json.dumps({"batch": [good, *junk]}).encode(), auth=AUTH)
    assert (answer.status_code, answer.json()["success"]) == (200, True)
