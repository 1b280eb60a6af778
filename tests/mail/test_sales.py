"""What sales reads when a lead is ripe."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import lxml.html  # type: ignore[import-untyped]
from sqlmodel import Session

from mebae.authoring import Scenario, notify_sales
from mebae.mail.composing import Letter, compose, letter_for_sales
from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import Sender, lead_values
from mebae.mail.sales import SalesNote, SalesScore, event_line, sales_notification
from mebae.resting import Place
from mebae.store.database import Database
from mebae.store.leads import find_lead
from mebae.store.tables import Delivery, JourneyRow, Lead
from tests.leads import DAY, NOW, SATO, Diary, publish_model, publish_scenario

LEAD = Lead(
    id=1, email="taro@example.jp", name="山田 太郎", company="株式会社芽生え", title="設備保全課長", industry="manufacturing",
    company_size=280, score=72, stage="consideration", qualification="mql", attributes={"phone": "03-0000-0000"},
)  # fmt: skip
AT = datetime(2026, 4, 1, 1, 5, tzinfo=UTC)
NOTE = SalesNote(
    lead=lead_values(LEAD), message="料金ページを閲覧", scenario="ホワイトペーパーDL後フォロー",
    sender=Sender("Mebae", "mebae@example.com"),
    events=((AT, "Page Viewed: /pricing"), (AT, "Content Downloaded: whitepaper-a")), mails=((AT, "thanks"),),
)  # fmt: skip


def test_sales_sees_who_why_and_what_happened() -> None:
    got = sales_notification(NOTE)
    assert got.subject == "[Mebae] 料金ページを閲覧: 山田 太郎 様（株式会社芽生え）"
    for words in ("設備保全課長", "72 点", "検討", "MQL", "280 名", "taro@example.jp", "03-0000-0000", "2026-04-01 10:05",
                  "Page Viewed: /pricing", "Content Downloaded: whitepaper-a", "thanks", "ホワイトペーパーDL後フォロー"):  # fmt: skip
        assert words in got.text
        assert words in got.html
    assert got.sender == NOTE.sender
    english = sales_notification(replace(NOTE, language="en", time_zone="America/New_York"))
    assert english.subject == "[Mebae] 料金ページを閲覧: 山田 太郎 (株式会社芽生え)"
    assert "72 points" in english.text
    assert "2026-03-31 21:05" in english.text


def test_sales_is_told_of_a_lead_of_whom_little_is_known() -> None:
    got = sales_notification(SalesNote(lead_values(Lead(id=2, email="x@example.com")), "", "試用", NOTE.sender))
    assert got.subject == "[Mebae] 試用: お名前未登録"
    assert "None" not in got.text + got.html
    assert "まだありません" in got.text


def test_a_code_of_an_industry_is_told_by_its_name_to_japanese_readers() -> None:
    coded = replace(NOTE, lead={**NOTE.lead, "industry": "construction"})
    assert "建設業" in sales_notification(coded).text
    assert "construction" in sales_notification(replace(coded, language="en")).text
    said = replace(NOTE, lead={**NOTE.lead, "industry": "設備工事"})
    assert "設備工事" in sales_notification(said).text, "as the lead said it"


def test_what_a_lead_typed_breaks_neither_page_nor_subject() -> None:
    lead = lead_values(LEAD) | {"name": "a\r\nBcc: x@example.com <script>", "company": "*社* {{ 7*7 }}" + "長" * 300}
    got = sales_notification(replace(NOTE, lead=lead, events=((AT, "<b>x</b>"),)))
    assert "\n" not in got.subject
    assert len(got.subject) <= 200
    page = lxml.html.document_fromstring(got.html)
    assert not page.xpath("//script | //td/b")
    assert "*社* {{ 7*7 }}" in page.text_content()


def test_the_score_is_told_with_its_two_parts_and_what_gave_them() -> None:
    score = SalesScore(72, 35, 37.25, ((30, "料金ページ (ページ閲覧: /pricing)"), (7.25, "<b>資料</b>")))
    got = sales_notification(replace(NOTE, score=score))
    assert "MQL · 72 点（属性 35 + 行動 37.2） · 検討" in got.text
    assert "スコアの内訳" in got.text
    assert "料金ページ (ページ閲覧: /pricing)" in got.text
    assert "<b>資料" not in got.html
    english = sales_notification(replace(NOTE, score=score, language="en"))
    assert "MQL · 72 points (fit 35 + engagement 37.2) · Consideration" in english.text
    nothing = sales_notification(replace(NOTE, score=SalesScore(0, 0, 0)))
    assert "点数になる行動や属性はまだありません" in nothing.text


def test_of_a_form_the_answers_are_told() -> None:
    answers = {"form": "展示会", "budget": "確保済み", "timing": "半年以内", "decision_maker": True, "list": ["x"]}
    assert event_line("Form Answered", answers, "ja") == "アンケート回答: 展示会 (budget 確保済み, timing 半年以内, decision_maker True)"
    assert event_line("Trial Started", {"plan": "pro"}, "ja") == "Trial Started (plan pro)"
    assert event_line("Content Downloaded", {"content": "a\nb", "pages": 3}, "en") == "Content Downloaded: a b"


def test_sales_reads_how_the_lead_really_stands_at_that_moment(database: Database) -> None:
    publish_model(database)
    diary = Diary(database)
    diary.is_someone(name="佐藤 健二", title="生産技術部長", industry="製造業", company="青葉精機")
    diary.does("Content Downloaded", 90 * DAY, content="whitepaper-automation")
    diary.does("Email Opened", 2 * DAY, mail="thanks", verdict="scanner")
    diary.does("Seminar Attended", DAY, seminar="春セミナー")
    diary.does("Page Viewed", path="/pricing")
    graph = publish_scenario(database, Scenario("tell", title="営業へ", steps=[notify_sales("料金ページを閲覧")]))

    def settings(language: str) -> MailSettings:
        return MailSettings(NOTE.sender, "sales@aoba.example", language=language, zone="Asia/Tokyo")

    def write_letter(session: Session, language: str) -> Letter:
        lead = find_lead(session, email=SATO)
        assert lead is not None
        row = JourneyRow(cause="x", scenario="tell", version=graph.version, lead_id=lead.id or 0, status="running", entered_at=NOW)
        delivery = Delivery(
            id=1, entry=1, step=graph.start, lead_id=lead.id or 0, kind="sales", mail="tell", message_id="<1@x>", status="claimed"
        )
        return letter_for_sales(session, Place(row, lead, graph, {}), delivery, settings(language), now=NOW)

    def read(language: str) -> str:
        letter = database.read_now(write_letter, language)
        assert isinstance(letter.content, SalesNote)
        assert compose(letter, settings(language)).message
        return sales_notification(letter.content).text

    text = read("ja")
    # 20 + 15 for what it is; 39.8 for the seminar of yesterday, 30 for the page of now, 10 for the paper of long ago.
    assert "MQL · 114 点（属性 35 + 行動 79.8） · 検討" in text
    for words in ("部長", "39.8 点", "セミナー参加 (セミナー参加: 春セミナー)", "料金ページ (ページ閲覧: /pricing)",
                  "2026-04-10 10:00", "資料ダウンロード: whitepaper-automation", "automation"):  # fmt: skip
        assert words in text, words
    assert "scanner" not in text, "what machines did is no behaviour"
    assert "メール開封" not in text
    assert "Stage Reached" not in text
    assert "MQL · 114 points (fit 35 + engagement 79.8)" in read("en")
