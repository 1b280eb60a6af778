"""The Python SDKs of Segment and RudderStack, unchanged, with nothing set but address and key."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import rudderstack.analytics.client as rudderstack
import segment.analytics.client as segment

from mebae.store.database import Database
from tests.clients.needs import snippet
from tests.clients.site import HANAKO, KEY, site

MakeClient = Callable[..., Any]
CLIENTS = pytest.mark.parametrize("make", [segment.Client, rudderstack.Client], ids=["segment", "rudderstack"])


def with_client(make: MakeClient, address: str, use: Callable[[Any], None], **more: Any) -> list[Exception]:
    """Uses a client as a program does that ends afterwards; what went wrong."""
    failures: list[Exception] = []
    options = {"host": address, "max_retries": 2, "upload_interval": 0.1, **more}
    client = make(options.pop("key", KEY), on_error=lambda error, _: failures.append(error), **options)
    use(client)
    client.flush()
    client.join()
    return failures


@CLIENTS
def test_a_visitor_becomes_a_lead_by_every_call_that_the_client_has(database: Database, make: MakeClient) -> None:
    happened = datetime.now(UTC) - timedelta(hours=2)

    def use(client: Any) -> None:
        client.page(
            anonymous_id="browser-1", name="料金", properties={"url": "https://example.jp/pricing?utm_source=news"}
        )
        client.identify("u-1024", {"email": HANAKO, "name": "山田 花子", "title": "部長"}, anonymous_id="browser-1")
        client.track("u-1024", "Whitepaper Downloaded", {"content": "whitepaper-7"}, timestamp=happened)
        client.screen("u-1024", name="Settings", properties={"tab": "billing"})
        client.group("u-1024", "g-7", {"name": "青葉精機", "industry": "製造業", "employees": 120, "plan": "pro"})
        client.alias("u-1024", "u-2048")

    with site(database) as here:
        assert with_client(make, here.address, use) == []
        [hanako] = here.leads()
        assert (hanako.email, hanako.user_id, hanako.name, hanako.title) == (HANAKO, "u-2048", "山田 花子", "部長")
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
        assert abs(told["Content Downloaded"].occurred_at - happened) < timedelta(seconds=2)
        assert here.quarantined() == []


@CLIENTS
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_a_server_that_asks_to_come_again_gets_each_event_once(
    sqlite_database: Database, make: MakeClient, zipped: bool
) -> None:
    def use(client: Any) -> None:
        for number in range(3):
            client.track(HANAKO, "Trial Started", {"number": number})

    with site(sqlite_database, statuses=(503, 429)) as here:
        assert with_client(make, here.address, use, gzip=zipped) == []
        assert len(here.posts) >= 3
        [hanako] = here.leads()
        assert here.names(hanako) == ["Trial Started"] * 3


@CLIENTS
def test_a_wrong_key_is_told_with_its_cure(sqlite_database: Database, make: MakeClient) -> None:
    with site(sqlite_database) as here:
        [failure] = with_client(make, here.address, lambda client: client.track(HANAKO, "x"), key="wrong")
        assert "MEBAE_WRITE_KEYS" in str(failure)
        assert here.leads() == []


def test_rudderstacks_four_megabytes_are_taken(sqlite_database: Database) -> None:
    """100 events of 30 KB: more than Segment allows in a batch."""

    def use(client: Any) -> None:
        for number in range(100):
            client.track(f"u-{number}", "Trial Started", {"text": "x" * 30_000})

    with site(sqlite_database) as here:
        assert with_client(rudderstack.Client, here.address, use, upload_interval=5, gzip=False) == []
        assert (len(here.posts), len(here.leads()), here.quarantined()) == (1, 100, [])


@CLIENTS
def test_an_event_too_large_costs_only_itself(sqlite_database: Database, make: MakeClient) -> None:
    def use(client: Any) -> None:
        client.track(HANAKO, "Trial Started")
        # Segment's client knows the limit itself and stays below it.
        client.track(HANAKO, "Note Written", {"text": "長" * (5_000 if make is segment.Client else 20_000)})

    with site(sqlite_database) as here:
        assert with_client(make, here.address, use) == []
        [hanako] = here.leads()
        assert here.names(hanako)[0] == "Trial Started"
        assert here.quarantined() == ([] if make is segment.Client else ["is larger than 32 KB"])


@pytest.mark.parametrize("package", ["segment.analytics", "rudderstack.analytics"])
def test_the_program_of_the_docs_does_what_it_says(sqlite_database: Database, package: str) -> None:
    with site(sqlite_database) as here:
        code = snippet("python", f"import {package}", address=here.address, key=KEY)
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        [hanako] = here.leads()
        assert (hanako.email, hanako.user_id, hanako.name) == ("hanako@example.com", "u-1024", "山田 花子")
        assert here.names(hanako) == ["Lead Identified", "Content Downloaded"]
