"""The layout of this house as a reader sees it: on a telephone, at night, in Japanese and English, without sharp eyes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import lxml.html  # type: ignore[import-untyped]
import pytest
from playwright.sync_api import Browser, sync_playwright

from mebae.mail.legal import missing
from mebae.mail.rendering import Rendered, Shared, Tracking, parse_mail, render
from tests.clients.needs import CHROMIUM
from tests.mail.test_links import OURS
from tests.mail.test_rendering import ROOT, SENDER, values

BODY = """---
subject: 件名
preheader: 前書き
---
{{ lead.name | sama }}

本文と[リンク](https://example.com/a)と**強調**。

# 見出し

- 項目

> 引用

| 表 | 値 |
| --- | --- |
| a | 1 |

---

**[資料を見る](https://example.com/b)**
"""
CONTRASTS = """() => {
  const rgba = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n.length > 3 ? n[3] : 1] }
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0)
  const behind = (e) => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c }
    return [255, 255, 255] }
  const found = []
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let node; node = texts.nextNode();) {
    const e = node.parentElement
    if (!node.textContent.trim() || !e.checkVisibility()) continue
    const [a, b] = [light(rgba(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x)
    found.push([node.textContent.trim().slice(0, 20), Math.round((a + 0.05) / (b + 0.05) * 100) / 100])
  }
  return found
}"""


def shown(language: str) -> Rendered:
    shared = Shared({"default": (ROOT / "layouts" / "default.html").read_text(encoding="utf-8")})
    mail = parse_mail(BODY, "m.md")
    tracking = Tracking(lambda target: f"https://t.example.jp/{target[-1]}", trap="https://t.example.jp/x")
    filled = values(language, name="山田 太郎") | OURS
    return render(mail, shared.layout_of(mail), filled, blocks=shared.blocks_for(language), tracking=tracking)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("language", ["ja", "en"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read_on_a_telephone_by_day_and_night(
    chromium: Browser, language: str, scheme: Literal["light", "dark"]
) -> None:
    page = chromium.new_page(viewport={"width": 375, "height": 700}, color_scheme=scheme)
    page.set_content(shown(language).html)
    contrasts: list[tuple[str, float]] = page.evaluate(CONTRASTS)
    assert len(contrasts) > 15
    assert [one for one in contrasts if one[1] < 4.5] == [], "WCAG 2.1, 1.4.3"
    assert page.evaluate("document.documentElement.scrollWidth") <= 375, "nothing to scroll sideways"
    page.close()


@pytest.mark.parametrize(
    ("language", "words"),
    [("ja", ["お問い合わせ・苦情の受付", "配信を停止する", "受け取る内容を選ぶ", "ブラウザーで表示"]),
     ("en", ["Questions and complaints", "Unsubscribe", "Choose what you get", "View in your browser"])],
)  # fmt: skip
def test_the_footer_shows_what_the_law_wants_in_both_languages(language: str, words: list[str]) -> None:
    got = shown(language)
    assert missing(got, SENDER, OURS["unsubscribe_url"]) == ()
    for word in words:
        assert word in got.html
    for word in words[:3]:
        assert word in got.text
    assert words[3] not in got.text
    assert "前書き" not in got.text


def test_a_screen_reader_is_told_language_and_title_and_no_layout_tables() -> None:
    page: Any = lxml.html.document_fromstring(shown("ja").html)
    assert page.get("lang") == "ja"
    assert page.findtext(".//title") == "件名"
    assert [table.get("class") for table in page.xpath("//table[not(@role='presentation')]")] == [None], "the mail's own"
    assert page.xpath("//img[not(@alt)]") == []
    assert page.xpath("//a[not(normalize-space()) and not(@aria-hidden)]") == []


def test_the_text_part_has_lines_where_the_page_has() -> None:
    assert shown("ja").text.count("―" * 12) == 2
