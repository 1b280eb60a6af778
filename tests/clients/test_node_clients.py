"""The Node.js SDKs of Segment and RudderStack, unchanged, each in a Node.js of its own."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from mebae.store.database import Database
from tests.clients.needs import HERE, NODE, needs_node, snippet
from tests.clients.site import HANAKO, KEY, site

pytestmark = needs_node
CLIENTS = pytest.mark.parametrize("client", ["segment", "rudderstack"])


def run(client: str, address: str, what: str, *, key: str = KEY) -> str:
    """Runs the program with one client; what went wrong."""
    return node(str(HERE / "node_clients.cjs"), client, address, key, what)


def node(*arguments: str) -> str:
    ended = subprocess.run([str(NODE), *arguments], cwd=HERE, capture_output=True, text=True, timeout=60, check=False)
    return ended.stdout.strip() + (f"\n{ended.stderr}" if ended.returncode else "")


@CLIENTS
def test_a_visitor_becomes_a_lead_by_every_call_that_the_client_has(database: Database, client: str) -> None:
    with site(database) as here:
        assert run(client, here.address, "story") == ""
        here.until(lambda: len(here.leads()) == 1 and here.leads()[0].user_id == "u-2048")
        [hanako] = here.leads()
        assert (hanako.email, hanako.name, hanako.title) == (HANAKO, "山田 花子", "部長")
        assert (hanako.company, hanako.industry, hanako.company_size) == ("青葉精機", "製造業", 120)
        assert hanako.attributes["company_plan"] == "pro"
        assert sorted(here.names(hanako)) == sorted(
            [
                "Page Viewed",
                "Lead Identified",
                "Content Downloaded",
                "Screen Viewed",
                "Lead Identified",
                "Lead Identified",
            ]
        )
        told = {event.name: event for event in here.events(hanako)}
        assert told["Page Viewed"].properties["path"] == "/pricing"
        assert told["Screen Viewed"].properties == {"tab": "billing", "name": "Settings"}
        happened = datetime.now(UTC) - timedelta(hours=2)
        assert abs(told["Content Downloaded"].occurred_at - happened) < timedelta(seconds=60)
        assert here.quarantined() == []


@CLIENTS
@pytest.mark.parametrize("status", [503, 429])
def test_a_server_that_asks_to_come_again_gets_each_event_once(
    sqlite_database: Database, client: str, status: int
) -> None:
    with site(sqlite_database, statuses=(status,)) as here:
        assert run(client, here.address, "track") == ""
        assert len(here.posts) >= 2
        [hanako] = here.leads()
        assert here.names(hanako) == ["Trial Started"] * 3


def test_a_wrong_key_is_told(sqlite_database: Database) -> None:
    """RudderStack's Node.js SDK has no word for it: it ends the program (a 401 rejects a promise that nobody holds)."""
    with site(sqlite_database) as here:
        assert "401" in run("segment", here.address, "track", key="wrong")
        assert here.leads() == []


@CLIENTS
def test_the_program_of_the_docs_does_what_it_says(sqlite_database: Database, client: str) -> None:
    package = {"segment": "@segment/analytics-node", "rudderstack": "@rudderstack/rudder-sdk-node"}[client]
    with site(sqlite_database) as here:
        assert node("-e", snippet("js", package, address=here.address, key=KEY)) == ""
        [hanako] = here.leads()
        assert (hanako.email, hanako.user_id, hanako.name) == ("hanako@example.com", "u-1024", "山田 花子")
        assert here.names(hanako) == ["Lead Identified", "Content Downloaded"]
