"""The browser SDKs of Segment and RudderStack, unchanged, in a real Chromium, on a page of another origin than the server's.

The pages are those of docs/how-to/send-events.md, with this test's address and key in place of the example's.
"""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from mebae.store.database import Database
from tests.clients.needs import CHROMIUM, MODULES, needs_chromium, snippet
from tests.clients.site import HANAKO, KEY, Site, site

pytestmark = needs_chromium
BUNDLES = {
    "segment.js": MODULES / "@segment" / "analytics-next" / "dist" / "umd" / "index.js",
    "rudderstack.js": MODULES
    / "@rudderstack"
    / "analytics-js"
    / "dist"
    / "npm"
    / "modern"
    / "bundled"
    / "umd"
    / "index.js",
}
CLIENTS = pytest.mark.parametrize("client", ["segment", "rudderstack"])
STORY = """(email) => {
    analytics.track("Whitepaper Downloaded", {content: "whitepaper-7"})
    analytics.identify("u-1024", {email, name: "山田 花子"})
    analytics.group("g-7", {name: "青葉精機", employees: 120})
    analytics.track("Trial Started")
}"""


class Shop(http.server.BaseHTTPRequestHandler):
    """The user's web site: every path is a page with the SDK on it."""

    def __init__(self, html: str, *args: Any) -> None:
        self._html = html
        super().__init__(*args)

    def do_GET(self) -> None:
        bundle = BUNDLES.get(self.path.removeprefix("/js/"))
        content = bundle.read_bytes() if bundle else self._html.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if bundle else "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser that has been nowhere yet."""
    context = chromium.new_context()
    context.set_default_timeout(20_000)
    yield context
    context.close()


class Visit:
    """A visitor's page, and what the browser had to say about it."""

    def __init__(self, page: Page, shop: str) -> None:
        self.page, self.shop = page, shop
        self.said: list[str] = []
        self.asked: set[str] = set()
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.add(re.sub(r"^(\w+://[^/]+).*", r"\1", request.url)))

    def go(self, path: str) -> None:
        self.page.goto(self.shop + path)

    def hears(self, what: Callable[[], bool]) -> None:
        """Waits for what the browser says; it says nothing while Python sleeps."""
        for _ in range(200):
            if what():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"the browser said only: {self.said}")

    def do(self, script: str, argument: Any = None) -> None:
        self.page.evaluate(script, argument)


@contextmanager
def visiting(tab: BrowserContext, client: str, address: str, *, key: str = KEY, options: str = "") -> Iterator[Visit]:
    """The user's site with the snippet of the docs."""
    html = snippet("html", f"{client}.js", address=address, key=key)
    html = html.replace("  })\n  analytics.page", f"  {options or '}'})\n  analytics.page")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Shop, "<!doctype html><title>料金</title>" + html)
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Visit(tab.new_page(), f"http://localhost:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def is_whole(here: Site) -> bool:
    leads = here.leads()
    return len(leads) == 1 and leads[0].company is not None and "Trial Started" in here.names(leads[0])


@CLIENTS
def test_what_a_visitor_read_before_it_said_who_it_is_ends_up_on_the_lead(
    database: Database, tab: BrowserContext, client: str
) -> None:
    with site(database) as here:
        with visiting(tab, client, here.address) as visit:
            visit.go("/blog/iot?utm_source=newsletter&utm_campaign=spring")
            here.until(lambda: len(here.posts) >= 1)
            visit.go("/pricing")
            here.until(lambda: len(here.posts) >= 2)
            assert here.leads() == []
            visit.do(STORY, HANAKO)
            here.until(lambda: is_whole(here))
            visit.page.wait_for_timeout(300)
        [hanako] = here.leads()
        assert (hanako.email, hanako.user_id, hanako.name) == (HANAKO, "u-1024", "山田 花子")
        assert (hanako.company, hanako.company_size) == ("青葉精機", 120)
        assert (hanako.first_source, hanako.first_campaign) == ("newsletter", "spring")
        pages = [event.properties["path"] for event in here.events(hanako) if event.name == "Page Viewed"]
        assert pages == ["/blog/iot", "/pricing"]
        assert {"Content Downloaded", "Trial Started", "Lead Identified"} < set(here.names(hanako))
        assert here.quarantined() == []
        # Nothing was blocked, nothing failed, and nobody else was told of the visitor.
        assert visit.said == []
        assert visit.asked == {visit.shop, here.address}


@CLIENTS
def test_an_alias_gives_a_visitor_and_then_a_lead_its_id(
    sqlite_database: Database, tab: BrowserContext, client: str
) -> None:
    with site(sqlite_database) as here:
        with visiting(tab, client, here.address) as visit:
            visit.go("/pricing")
            here.until(lambda: len(here.posts) >= 1)
            visit.do("() => analytics.alias('u-1024')")
            here.until(lambda: [lead.user_id for lead in here.leads()] == ["u-1024"])
            visit.do("email => analytics.identify('u-1024', {email})", HANAKO)
            here.until(lambda: here.leads()[0].email == HANAKO)
            visit.do("() => analytics.alias('u-2048', 'u-1024')")
            here.until(lambda: here.posts[-1] in ("/v1/a", "/v1/alias"))
            # Segment's own browser SDK puts the id that it knows in place of the new one; RudderStack's sends the new one.
            wanted = {"segment": "u-1024", "rudderstack": "u-2048"}[client]
            here.until(lambda: [lead.user_id for lead in here.leads()] == [wanted])
        assert "Page Viewed" in here.names(here.leads()[0])
        assert here.quarantined() == []


@CLIENTS
def test_events_sent_when_the_page_is_left_arrive(sqlite_database: Database, tab: BrowserContext, client: str) -> None:
    """Batches: Segment's by a request that outlives the page, RudderStack's by a beacon, which has no header for the key."""
    batching = {
        "segment": '}, {integrations: {"Segment.io": {deliveryStrategy: {strategy: "batching", config: {size: 50, timeout: 60000}}}}}',
        "rudderstack": "useBeacon: true}",
    }
    with site(sqlite_database) as here:
        with visiting(tab, client, here.address, options=batching[client]) as visit:
            visit.go("/pricing")
            visit.do(STORY, HANAKO)
            visit.page.wait_for_timeout(500)
            visit.go("/thanks")
            here.until(lambda: is_whole(here))
        assert here.posts[0] == {"segment": "/v1/b", "rudderstack": "/beacon/v1/batch"}[client]
        assert "/pricing" in [event.properties.get("path") for event in here.events(here.leads()[0])]


@CLIENTS
def test_a_browser_that_is_asked_to_come_again_does(
    sqlite_database: Database, tab: BrowserContext, client: str
) -> None:
    with site(sqlite_database, statuses=(503, 429)) as here, visiting(tab, client, here.address) as visit:
        visit.go("/pricing")
        visit.do("email => analytics.identify('u-1024', {email})", HANAKO)
        here.until(lambda: len(here.leads()) == 1 and "Page Viewed" in here.names(here.leads()[0]), within=40)
        assert here.names(here.leads()[0]).count("Page Viewed") == 1


@CLIENTS
def test_a_page_of_another_site_may_not_send_where_origins_are_named(
    sqlite_database: Database, tab: BrowserContext, client: str
) -> None:
    with site(sqlite_database, allowed_origins=["https://www.aoba.example.jp"]) as here:
        with visiting(tab, client, here.address) as visit:
            visit.go("/pricing")
            visit.hears(lambda: any("CORS" in one for one in visit.said))
        assert (here.posts, here.leads()) == ([], [])


@CLIENTS
def test_a_wrong_key_stands_in_the_console(sqlite_database: Database, tab: BrowserContext, client: str) -> None:
    with site(sqlite_database) as here:
        with visiting(tab, client, here.address, key="wrong") as visit:
            visit.go("/pricing")
            visit.hears(lambda: any("40" in one for one in visit.said))
        assert any("MEBAE_WRITE_KEYS" in one for one in visit.said) or client == "rudderstack", visit.said
        assert here.leads() == []
