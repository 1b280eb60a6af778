"""What sales reads when a lead is ripe."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import lxml.html  # type: ignore[import-untyped]

from mebae.mail.rendering import Sender, lead_values
from mebae.mail.sales import SalesNote, sales_notification
from mebae.store.tables import Lead

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


def test_what_a_lead_typed_breaks_neither_page_nor_subject() -> None:
    lead = lead_values(LEAD) | {"name": "a\r\nBcc: x@example.com <script>", "company": "*社* {{ 7*7 }}" + "長" * 300}
    got = sales_notification(replace(NOTE, lead=lead, events=((AT, "<b>x</b>"),)))
    assert "\n" not in got.subject
    assert len(got.subject) <= 200
    page = lxml.html.document_fromstring(got.html)
    assert not page.xpath("//script | //td/b")
    assert "*社* {{ 7*7 }}" in page.text_content()
