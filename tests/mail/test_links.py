"""What a click is counted by: every link that leads out, and none that leads back to us or that its author left alone."""

from __future__ import annotations

from typing import Any

import lxml.html  # type: ignore[import-untyped]
import pytest

from mebae.mail.rendering import Rendered, Tracking, company_values, parse_mail, render
from mebae.store.tables import Company, Lead
from tests.mail.test_rendering import LAYOUT, ROOT, mail, values

OURS = {
    "unsubscribe_url": "https://m.example.jp/u/abc?x=1&copy=2",
    "preferences_url": "https://m.example.jp/p/abc",
    "view_url": "https://m.example.jp/v/abc",
}
FOOT = '<a href="{{ unsubscribe_url }}">停止</a> <a href="{{ preferences_url }}">設定</a> <a href="{{ view_url }}">ブラウザ</a>'


def tracked(body: str, layout: str = LAYOUT, **more: Any) -> tuple[Rendered, list[str]]:
    asked: list[str] = []

    def link(target: str) -> str:
        asked.append(target)
        return f'https://t.example.jp/c/{len(asked)}?a=1&b="2"'

    got = render(
        parse_mail(mail(body), "m.ja.md"), layout, values() | OURS | more,
        tracking=Tracking(link, pixel="https://t.example.jp/o/1?a=1&b=2", trap="https://t.example.jp/t/1"),
    )  # fmt: skip
    return got, asked


def hrefs(got: Rendered) -> list[str]:
    return list(lxml.html.document_fromstring(got.html).xpath("//a[not(@rel)]/@href"))


def test_each_target_is_asked_for_once_and_replaced_in_both_parts() -> None:
    got, asked = tracked(
        "[一](https://example.com/a?b=1&copy=2) [二](http://example.com/白書) **[一](https://example.com/a?b=1&copy=2)**"
    )
    assert asked == ["https://example.com/a?b=1&copy=2", "http://example.com/%E7%99%BD%E6%9B%B8"]
    assert got.links == tuple(asked)
    first, second = 'https://t.example.jp/c/1?a=1&b="2"', 'https://t.example.jp/c/2?a=1&b="2"'
    assert hrefs(got) == [first, second, first]
    assert got.text == f"一 <{first}> 二 <{second}> 一 <{first}>\n"
    assert "example.com" not in got.html + got.text


def test_links_to_our_own_pages_and_marked_ones_are_left_alone() -> None:
    got, asked = tracked(
        '[規程](https://example.com/rules "untracked") [電話](tel:0312345678) [返信](mailto:a@example.com) [上](#top)'
        " [停止]({{ unsubscribe_url }})",
        LAYOUT.replace(
            "{{ body }}", "{{ body }}" + FOOT + '<a href="https://example.com/terms" data-untracked>規約</a>'
        ),
    )
    assert asked == []
    assert got.links == ()
    assert hrefs(got) == [
        "https://example.com/rules", "tel:0312345678", "mailto:a@example.com", "#top", OURS["unsubscribe_url"],
        *OURS.values(), "https://example.com/terms",
    ]  # fmt: skip
    assert "untracked" not in got.html
    assert f"<{OURS['unsubscribe_url']}>" in got.text


def test_an_address_that_is_its_own_words_is_counted_in_the_text_part_too() -> None:
    got, asked = tracked("<https://example.com/c>")
    assert asked == ["https://example.com/c"]
    assert hrefs(got) == [got.text.strip()]


def test_what_only_looks_like_a_link_is_no_link() -> None:
    layout = LAYOUT.replace(
        "<title>", '<style>@media print { a[href="https://example.com/s"] { color: red } }</style><title>'
    ).replace("<body>", '<body><!-- <a href="https://example.com/x">x</a> -->')
    got, asked = tracked('`<a href="https://example.com/y">`', layout)
    assert asked == []
    assert "https://example.com/x" in got.html


def test_image_and_trap_are_seen_by_machines_only() -> None:
    got, _ = tracked("本文")
    page = lxml.html.document_fromstring(got.html)
    [image] = page.xpath("//img")
    assert (image.get("src"), image.get("alt")) == ("https://t.example.jp/o/1?a=1&b=2", "")
    [trap] = page.xpath("//a[@rel='nofollow']")
    assert (trap.get("href"), trap.get("aria-hidden"), trap.get("tabindex")) == (
        "https://t.example.jp/t/1",
        "true",
        "-1",
    )
    assert "display:none" in trap.getparent().get("style")
    assert got.html.rstrip().endswith("</body></html>")
    assert got.text == "本文\n"
    assert "<img" not in render(parse_mail(mail("本文"), "m"), LAYOUT, values(), tracking=Tracking(str)).html


def test_an_untracked_mail_tells_what_would_be_tracked() -> None:
    got = render(parse_mail(mail("[一](https://example.com/a)"), "m"), LAYOUT, values())
    assert got.links == ("https://example.com/a",)
    assert hrefs(got) == ["https://example.com/a"]
    assert "<img" not in got.html


def test_the_shipped_layout_leads_to_our_pages_untracked() -> None:
    layout = (ROOT / "layouts" / "default.html").read_text(encoding="utf-8")
    got, asked = tracked("[一](https://example.com/a)", layout)
    assert asked == ["https://example.com/a"]
    assert OURS["unsubscribe_url"] in hrefs(got)


@pytest.mark.parametrize(
    ("company", "said"),
    [(Company(id=7, name="青葉精機", domain="aoba.example"), "青葉精機 aoba.example"), (None, "株式会社青葉精機 なし")],
)
def test_a_mail_may_say_what_is_known_of_the_firm(company: Company | None, said: str) -> None:
    lead = Lead(id=1, email="a@example.com", company="株式会社青葉精機")
    got, _ = tracked(
        "{{ company.name }} {{ company.domain | default_to('なし') }}", company=company_values(company, lead)
    )
    assert got.text.strip() == said
