"""Sales with a real browser, scripts off: the page behind a button of the mail, and what pressing it there does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import uvicorn
from playwright.sync_api import expect, sync_playwright
from sqlmodel import Session

from mebae import handing
from mebae.clock import WorldClock
from mebae.handing import Why
from mebae.http.app import create_app
from mebae.http.handover import HandoverPages
from mebae.mail.sales_telling import button_url
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Handover, Lead
from tests.clients.needs import CHROMIUM
from tests.http.test_handover import AT, RULES, SETTINGS

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture
def button(sqlite_database: Database) -> Iterator[str]:
    """The address of a button of the owner's mail, with the server behind it."""
    now = datetime.now(UTC)

    def write(session: Session) -> int:
        handing.publish_sales(session, RULES, now)
        session.add(Lead(email="sato@aoba.example", name="佐藤 健二", company="青葉精機", created_at=now, updated_at=now))
        session.flush()
        locked = lock_lead(session, 1)
        assert locked is not None
        return handing.open_or_join(session, locked, Why("command:1", "command", message="料金ページ"), now, *AT).id or 0

    handover = sqlite_database.write_now(write)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings = replace(SETTINGS, public_url=f"http://127.0.0.1:{listening.getsockname()[1]}")
        pages = HandoverPages(sqlite_database, settings, WorldClock(), AT)
        app = create_app(sqlite_database, write_keys=[], clock=WorldClock(), extra_routers=[pages.routes()])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            url = button_url(settings, handover, 1, now)
            assert url is not None
            yield url
        finally:
            server.should_exit = True
            thread.join()


def test_a_sales_person_rejects_with_a_reason_then_sees_what_is_so(sqlite_database: Database, button: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(java_script_enabled=False, locale="en-US").new_page()
        page.goto(f"{button}?do=reject")
        expect(page.get_by_role("heading", name="リードの引き渡し")).to_be_visible()
        expect(page.get_by_text("佐藤 健二・青葉精機")).to_be_visible()
        expect(page.get_by_role("button", name="このリードを受領する")).not_to_be_visible()  # folded: another answer was asked for
        page.get_by_label("理由").first.select_option("too-early")
        page.get_by_label("メモ（任意）").first.fill("来年度に再検討")
        page.get_by_role("button", name="このリードを見送る").click()
        expect(page.get_by_role("status")).to_contain_text("「見送り」として記録しました")
        page.goto(f"{button}?do=accept")  # the button of the mail once more, a day later
        expect(page.get_by_role("status")).to_contain_text("この引き渡しは終了しています")
        expect(page.get_by_role("button")).to_have_count(0)
        browser.close()
    row = sqlite_database.read_now(lambda session: session.get_one(Handover, 1))
    assert (row.status, row.reason, row.note) == ("rejected", "too-early", "来年度に再検討")
