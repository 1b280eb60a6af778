"""A lead with a real browser: from the mail in the inbox to the page it links to, to unsubscribing and to its preferences."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page, expect, sync_playwright
from sqlmodel import Session, select

from mebae.mail.composing import compose, marketing_letter, texts_of
from mebae.mail.inbox import Inbox
from mebae.mail.inbox_pages import inbox_routes
from mebae.mail.publishing import publish_layouts, publish_mails
from mebae.store.database import Database
from mebae.store.links import store_links
from mebae.store.tables import Delivery, Lead, MailAction, TopicChoice
from tests.clients.needs import CHROMIUM
from tests.http.mail_site import CHROME, SENT, MailSite, open_site

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
LAYOUT = (Path(__file__).parents[2] / "scenarios" / "layouts" / "default.html").read_text()
MAIL = "---\nsubject: 資料をお送りします\ntopic: product\n---\n{{ lead.name | sama }}\n\n**[資料を読む](TARGET)**\n"
SATO = "sato.kenji@aoba-seiki.example"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Browser) -> Iterator[BrowserContext]:
    """Nothing of our pages needs scripts, so there are none."""
    context = chromium.new_context(user_agent=CHROME, java_script_enabled=False)
    context.set_default_timeout(20_000)
    yield context
    context.close()


def send(site: MailSite, inbox: Inbox, target: str, **columns: str) -> Delivery:
    """A mail as it is really sent, into the inbox."""

    def write(session: Session) -> Delivery:
        publish_mails(session, "trial", {("thanks", ""): MAIL.replace("TARGET", target)}, SENT)
        publish_layouts(session, {"default": LAYOUT}, SENT)
        lead = Lead(email=SATO, name="佐藤 健二", created_at=SENT, updated_at=SENT, **columns)
        session.add(lead)
        session.flush()
        assert lead.id is not None
        texts = texts_of(session, "trial", "thanks")
        row = Delivery(
            lead_id=lead.id, kind="marketing", scope="trial", mail="thanks", topic="product", step="thanks", status="sent",
            message_id="<1@mebae.example>", sent_at=SENT, text_hash=texts.chosen(lead)[1], language=columns.get("language"),
        )  # fmt: skip
        session.add(row)
        session.flush()
        assert row.id is not None
        letter = marketing_letter(
            texts, lead, None, row.id, row.message_id, site.settings, entry={}, scope=("trial", "トライアル"), headers=(), now=SENT
        )  # fmt: skip
        composed = compose(letter, site.settings)
        store_links(session, composed.links)
        inbox.store(composed.envelope_from, [composed.to], composed.message)
        return row

    return site.database.write_now(write)


def followed(page: Page, mail: FrameLocator, name: str) -> Page:
    """What opens beside the inbox when a link of the mail is clicked."""
    with page.expect_popup() as popup:
        mail.get_by_role("link", name=name).click()
    popup.value.wait_for_load_state()
    return popup.value


def test_lead_clicks_unsubscribes_and_comes_back_in_a_browser(
    sqlite_database: Database, tab: BrowserContext, tmp_path: Path
) -> None:
    inbox = Inbox(tmp_path / "inbox")
    with open_site(sqlite_database, routers=[inbox_routes(inbox)]) as (site, address):
        delivery = send(site, inbox, f"{address}/healthz?from=mail", language="ja")
        site.dial.set(SENT + timedelta(minutes=2))
        page = tab.new_page()
        page.goto(f"{address}/inbox")
        page.get_by_role("link", name="資料をお送りします").click()
        mail = page.frame_locator("iframe")
        expect(mail.get_by_text("佐藤 健二 様")).to_be_visible()
        assert followed(page, mail, "資料を読む").url == f"{address}/healthz?from=mail"

        site.dial.set(SENT + timedelta(minutes=5))
        stop = followed(page, mail, "配信を停止")
        expect(stop.get_by_role("heading", name="メール配信の停止")).to_be_visible()
        stop.get_by_role("button", name="配信を停止する").click()
        expect(stop.get_by_role("heading", name="配信を停止しました")).to_be_visible()
        assert site.lead(delivery.lead_id).opted_out_at is not None
        site.dial.set(SENT + timedelta(minutes=6))
        stop.get_by_role("button", name="配信を再開する").click()
        expect(stop.get_by_role("heading", name="配信を再開しました")).to_be_visible()
        assert site.lead(delivery.lead_id).opted_out_at is None

        stop.get_by_role("link", name="受け取るメールの内容を選ぶ").click()
        stop.get_by_label("セミナー").uncheck()
        stop.get_by_label("English").check()
        stop.get_by_role("button", name="設定を保存する").click()
        expect(stop.get_by_role("status")).to_have_text("Your preferences are saved.")
        expect(stop.get_by_label("Seminars")).not_to_be_checked()
        assert site.lead(delivery.lead_id).language == "en"

        site.judge()
        read = sqlite_database.read_now
        acts = read(lambda session: [(act.kind, act.verdict) for act in session.exec(select(MailAction))])
        assert set(acts) == {("open", "human"), ("click", "human")}
        wanted = read(lambda session: {row.topic: row.wanted for row in session.exec(select(TopicChoice))})
        assert wanted == {"product": True, "seminar": False}
        names = [event.name for event in site.events(delivery.lead_id)]
        assert names[:4] == ["Unsubscribed", "Resubscribed", "Topic Unsubscribed", "Lead Identified"]
        assert "Email Link Clicked" in names


@pytest.mark.parametrize("width", [360, 1280])
def test_pages_fit_every_screen_and_say_what_is_what(sqlite_database: Database, chromium: Browser, width: int) -> None:
    with open_site(sqlite_database) as (site, _):
        mail = site.send(f"{'a' * 60}@{'very-long-name.' * 6}example", language="ja")
        page = chromium.new_context(user_agent=CHROME, viewport={"width": width, "height": 700}).new_page()
        for url in (mail.links.unsubscribe, mail.links.preferences):
            page.goto(url)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            buttons = page.get_by_role("button").all()
            assert buttons
            assert all((box := button.bounding_box()) and box["height"] >= 44 for button in buttons)
            assert page.get_by_role("heading", level=1).count() == 1
        assert page.get_by_role("group", name="受け取るテーマ").get_by_role("checkbox").count() == 2
        page.context.close()
