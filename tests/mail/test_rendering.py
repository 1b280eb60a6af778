"""What a lead reads: her own name as she typed it, in her language, and never somebody else's markup."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import lxml.html  # type: ignore[import-untyped]
import pytest

from mebae.mail.page import _text_config
from mebae.mail.rendering import (
    BrokenMail,
    Rendered,
    Sender,
    choose_language,
    lead_values,
    parse_layout,
    parse_mail,
    render,
)
from mebae.store.tables import Lead

LAYOUT = '<html><head><title>{{ subject }}</title></head><body><div class="b">{{ body }}</div></body></html>'
SENDER = Sender("点検ノート", "news@example.com", "〒100-0001 東京都千代田区千代田1-1", "support@example.com")
ROOT = Path(__file__).resolve().parents[2] / "scenarios"


def values(language: str = "ja", entry: dict[str, Any] | None = None, **lead: Any) -> dict[str, Any]:
    row = Lead(id=1, email="taro@example.jp", language=language, **lead)
    return {
        "lead": lead_values(row),
        "entry": entry or {},
        "scenario": {"title": "S"},
        "sender": SENDER,
        "unsubscribe_url": None,
    }


def mail(body: str, front: str = "subject: 件名") -> str:
    return f"---\n{front}\n---\n{body}\n"


def rendered(body: str, front: str = "subject: 件名", layout: str = LAYOUT, **lead: Any) -> Rendered:
    return render(parse_mail(mail(body, front), "s/m.ja.md"), layout, values(**lead))


def detail(body: str, front: str = "subject: 件名", **lead: Any) -> str:
    with pytest.raises(BrokenMail) as broken:
        rendered(body, front, **lead)
    assert str(broken.value) == broken.value.code == "mail-invalid"
    return broken.value.detail


@pytest.mark.parametrize(
    "name",
    [
        "*x* <script>alert(1)</script> [a](javascript:alert)",
        "# 見出し",
        "- 一覧",
        "1. 番号",
        "    code",
        "> 引用",
        "`code` ~~gone~~ __bold__",
        "&amp; &lt; &#42;",
        "https://evil.example/ <https://evil.example>",
        "{{ lead.email }} {% raw %}",
        "a | b",
        "---",
        "back\\slash \\* \\",
        "![x](http://evil.example/x.png)",
        "髙橋 〜 山﨑",
    ],
)
@pytest.mark.parametrize(
    "template", ["{{ lead.name }}", "こんにちは、{{ lead.name }}さん", "**{{ lead.name }}**", "- {{ lead.name }}"]
)
def test_lead_with_markup_for_a_name_reads_it_as_typed(name: str, template: str) -> None:
    got = rendered(template, name=name)
    page = lxml.html.document_fromstring(got.html)
    shown = " ".join(name.split())
    assert shown in page.text_content()
    assert shown in got.text.replace("\n", " ")
    assert not page.xpath("//a | //script | //img | //h1 | //code | //del | //ol | //blockquote | //hr")


def test_line_breaks_in_a_value_stay_in_their_line() -> None:
    got = rendered("社名: {{ lead.company }}", company="芽生え\n\n# 見出し\r\n- x")
    assert "社名: 芽生え # 見出し - x" in got.text
    assert "<h1" not in got.html


def test_a_script_as_a_link_target_is_no_link() -> None:
    got = render(parse_mail(mail("[見る]({{ entry.url }})"), "m"), LAYOUT, values(entry={"url": "javascript:alert(1)"}))
    assert "<a" not in got.html


def test_a_value_in_a_link_reaches_the_address_whole() -> None:
    got = render(
        parse_mail(mail("[見る](https://example.com/a?c={{ entry.c | urlencode }}&d=1)"), "m"),
        LAYOUT,
        values(entry={"c": "白書_*1*&x=(2)"}),
    )
    link = lxml.html.document_fromstring(got.html).xpath("//a/@href")
    assert link == ["https://example.com/a?c=%E7%99%BD%E6%9B%B8_%2A1%2A%26x%3D%282%29&d=1"]
    assert "見る <https://example.com/a?c=" in got.text


def test_macro_and_block_set_are_escaped_once() -> None:
    body = "{% macro who(n) %}**{{ n }}** さん{% endmacro %}{% set s %}_{{ lead.name }}_{% endset %}{{ who(lead.name) }} {{ s }}"
    got = rendered(body, name="a*b")
    assert "<strong>a*b</strong> さん <em>a*b</em>" in got.html


def test_raw_html_in_a_mail_is_shown_not_run() -> None:
    got = rendered("<b>太字</b> <script>x</script>")
    assert "&lt;b&gt;太字" in got.html
    assert "<script" not in got.html


@pytest.mark.parametrize(
    ("language", "name", "said"),
    [("ja", "山田 太郎", "山田 太郎 様"), ("ja", "山田様", "山田様"), ("ja", None, "お客様"), ("ja", " ", "お客様"),
     ("en", "Ann Lee", "Ann Lee"), ("en", None, "there"), ("en-GB", "", "there")],
)  # fmt: skip
def test_sama_greets_in_the_language_of_the_mail(language: str, name: str | None, said: str) -> None:
    assert rendered("{{ lead.name | sama }}", language=language, name=name).text == f"{said}\n"


def test_date_is_written_in_the_language_and_zone_of_the_lead() -> None:
    at = datetime(2026, 3, 31, 23, 0, tzinfo=UTC)

    def said(template: str, language: str, zone: str | None = None) -> str:
        entry = {"at": at.isoformat(), "day": "2026-04-01", "z": "2026-03-31T23:00:00Z", "date": date(2026, 4, 1)}
        got = render(parse_mail(mail(template), "m"), LAYOUT, values(language=language, time_zone=zone, entry=entry))
        return got.text.strip()

    assert said("{{ entry.day | date }}", "ja") == "2026年4月1日（水）"
    assert said("{{ entry.day | date }}", "en") == "Wednesday, 1 April 2026"
    assert said("{{ entry.at | date }}", "ja", "Asia/Tokyo") == "2026年4月1日（水）"
    assert said("{{ entry.z | date }}", "en", "America/New_York") == "Tuesday, 31 March 2026"
    assert said("{{ entry.date | date('%Y/%m/%d') }}", "ja") == "2026/04/01"


def test_missing_company_is_false_in_an_if_and_gets_its_words_by_default_to() -> None:
    got = rendered(
        '{% if lead.company %}x{% else %}個人{% endif %} {{ lead.company | default_to("貴社") }} {{ lead.plan | default_to("無料") }}'
    )
    assert got.text == "個人 貴社 無料\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("一行目\n\n{{ lead.company }}", ["s/m.ja.md, line 6", "lead.company is empty", "default_to"]),
        ("{{ lead.compny }}", ["line 4", "'lead.compny' is no standard attribute", "did you mean 'lead.company'"]),
        ("{% if lead.naem %}x{% endif %}", ["lead.naem", "'name'"]),
        ("{{ entry.title }}", ["entry.title is empty"]),
        ("{{ entry.a.b }}", ["entry.a is empty"]),
        ("{{ unsubscribe_url }}", ["unsubscribe_url is empty"]),
        ("{{ lead }}", ["cannot be shown as text"]),
        ("{{ lead.tags }}", ["list cannot be shown"]),
        ("{% set x = none %}{{ x }}", ["empty value"]),
        ("{{ entry.d | date }}", ["entry.d is empty"]),
        ("{{ 'soon' | date }}", ["cannot be read as a date"]),
        ("{{ 1 // 0 }}", ["line 4"]),
        ("{{ lead.name.__class__ }}", ["__class__"]),
        ("{{ 'x' * 100000000 }}", ["numbers only"]),
        ("{{ 9 ** 9 ** 9 ** 9 }}", ["numbers only"]),
        ("{{ '%0999999999d' % 1 }}", ["numbers only"]),
        ("{{ '{:>999999999}'.format(1) }}", ["format"]),
        ("{% for i in range(99999) %}x{% endfor %}", ["range of more than 1000"]),
        ("{% for i in range(1000) %}{% for j in range(1000) %}xxxx{% endfor %}{% endfor %}", ["renders to more than"]),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ["recursion"]),
    ],
)  # fmt: skip
def test_what_cannot_be_filled_in_says_what_and_where(body: str, words: list[str]) -> None:
    said = detail(body)
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("こんにちは", ["m.md, line 1", "front matter is missing"]),
        ("---\npreheader: x\n---\nx", ["'subject' is missing"]),
        ("---\nsubject: {{ lead.name }}\n---\nx", ["quotes"]),
        ("---\nsubject: a: b\n---\nx", ["line 2", "quotes"]),
        ("---\nsubjekt: a\n---\nx", ["'subjekt' is unknown", "'subject'"]),
        ("---\nsubject: x\n---\n\n", ["no text"]),
        ("---\nsubject: x\n---\n{% if %}", ["m.md, line 4"]),
        ("---\nsubject: x\n---\na\n{{ leed.name }}", ["line 5", "'leed' is unknown", "'lead'"]),
        ("---\nsubject: x\ntopic: t\n---\n{{ lead.name | samma }}", ["line 5", "samma"]),
        ("---\nsubject: '{{ lead.name'\n---\nx", ["line 2"]),
        ("---\nsubject: |\n  a\n  b\n---\nx", ["one line"]),
        ("---\nsubject: x\nforms: {a: b}\n---\nx", ["forms"]),
        ("---\nsubject: x\n---\n{{ lead.name | safe }}", ["safe"]),
        ("---\n- x\n---\nx", ["name: value"]),
        ("---\nsubject: x\n---\n" + "x" * 200_001, ["longer"]),
    ],
)
def test_a_mail_that_can_be_right_for_no_lead_is_refused_when_read(source: str, words: list[str]) -> None:
    with pytest.raises(BrokenMail) as broken:
        parse_mail(source, "m.md")
    for word in words:
        assert word in broken.value.detail


def test_front_matter_may_name_topic_sender_and_forms() -> None:
    front = (
        'subject: "{{ lead.name | sama }}へ"\npreheader: "{{ lead.company }}"\ntopic: product\n'
        "forms: [survey, quiz]\nfrom: 佐藤 <sato@example.com>"
    )
    got = rendered("x", front, name="山田 *太郎*", company="A&B")
    assert (got.subject, got.preheader, got.topic, got.forms) == (
        "山田 *太郎* 様へ",
        "A&B",
        "product",
        ("survey", "quiz"),
    )
    assert (got.sender.name, got.sender.email, got.sender.postal) == ("佐藤", "sato@example.com", SENDER.postal)
    assert rendered("x", "subject: x\nfrom: 佐藤（点検ノート）").sender == Sender(
        "佐藤（点検ノート）", SENDER.email, SENDER.postal, SENDER.contact
    )
    assert rendered("x", "subject: x\nform: survey").forms == ("survey",)


@pytest.mark.parametrize("name", ["a\r\nBcc: x@example.com", "a\nb", "a\x00b", "a\u2028b"])
@pytest.mark.parametrize("field", ["subject", "preheader", "from"])
def test_a_line_break_in_a_name_never_reaches_a_header(name: str, field: str) -> None:
    front = "subject: x\n" if field != "subject" else ""
    said = detail("x", f'{front}{field}: "{{{{ lead.name }}}}"', name=name)
    assert field in said
    assert "line break" in said


def test_bold_beside_japanese_punctuation_and_line_ends_inside_japanese_text() -> None:
    got = rendered("これは**「点検ノート」**です。**重要**！\n次の行\nand English\nwords *a*b")
    assert "これは<strong>「点検ノート」</strong>です。<strong>重要</strong>！次の行" in got.html
    assert "and English\nwords <em>a</em>b" in got.html


def test_bold_link_alone_is_a_button_and_in_text_an_address() -> None:
    got = rendered(
        "**[資料を見る](https://example.com/a)**\n\n文中の**[リンク](https://example.com/b)**です\n\n<https://example.com/c>"
    )
    page = lxml.html.document_fromstring(got.html)
    assert page.xpath("//td[@class='button']/a/text()") == ["資料を見る"]
    assert len(page.xpath("//table")) == 1
    assert (
        got.text
        == "資料を見る <https://example.com/a>\n\n文中のリンク <https://example.com/b>です\n\nhttps://example.com/c\n"
    )


def test_css_is_inlined_and_nothing_is_fetched() -> None:
    layout = (
        '<html><head><link rel="stylesheet" href="http://127.0.0.1:9/x.css"><style>.b p{color:#123456}'
        "@media (max-width:480px){.b{padding:0}}</style></head><body><div class='b'>{{ body }}</div></body></html>"
    )
    got = rendered("本文", layout=layout)
    assert '<p style="color: #123456;">' in got.html
    assert "@media" in got.html


def test_a_layout_is_checked_when_read() -> None:
    parse_layout(LAYOUT, "default.html")
    for source, word in [("<p>{{ bodi }}</p>", "'bodi' is unknown"), ("<p></p>", "must show"), ("{% if %}", "line 1")]:
        with pytest.raises(BrokenMail) as broken:
            parse_layout(source, "default.html")
        assert word in broken.value.detail


def test_own_attributes_reach_the_mail_and_never_hide_a_field() -> None:
    got = rendered(
        "{{ lead.items }} {{ lead.plan.name }} {{ lead.name }}",
        name="山田",
        attributes={"items": 3, "plan": {"name": "Pro"}, "name": "x"},
    )
    assert got.text == "3 Pro 山田\n"


def test_two_hundred_leads_in_eight_threads_each_get_their_own_mail() -> None:
    source = parse_mail(mail("{{ lead.name }}\n\n- {{ lead.company }}"), "m")

    def one(n: int) -> str:
        return render(source, LAYOUT, values(name=f"name{n}", company=f"company{n}")).text

    assert _text_config().css["body"] is not _text_config().css["body"], "Inscriptis writes on it"
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads in each other's way as often as can be
    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(one, range(200))) == [f"name{n}\n\n  * company{n}\n" for n in range(200)]
    finally:
        sys.setswitchinterval(before)


def test_language_falls_back_from_region_to_any_to_the_house_languages() -> None:
    assert choose_language(["ja", "en"], "ja-JP") == "ja"
    assert choose_language({"zh-Hant", "en"}, "zh_hant_TW") == "zh-Hant"
    assert choose_language(["en", ""], "ko") == ""
    assert choose_language(["de", "en"], "ko") == "en"
    assert choose_language(["de", "fr"], "") == "de"
    with pytest.raises(BrokenMail):
        choose_language([], "ja")


SHIPPED = sorted((ROOT / "whitepaper_followup").glob("*.md"))


def test_every_shipped_mail_has_both_languages() -> None:
    names = {path.name.split(".")[0] for path in SHIPPED}
    assert names == {
        "thanks", "comparison", "case-mfg", "case", "basics", "demo-invitation", "seminar-invitation", "newsletter-offer",
    }  # fmt: skip
    assert {path.name for path in SHIPPED} == {f"{name}.{language}.md" for name in names for language in ("ja", "en")}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
@pytest.mark.parametrize("known", [True, False], ids=["known", "nameless"])
def test_shipped_mail_reads_well_for_a_known_and_a_nameless_lead(path: Path, known: bool) -> None:
    layout = (ROOT / "layouts" / "default.html").read_text(encoding="utf-8")
    parse_layout(layout, "default.html")
    language = path.name.split(".")[1]
    lead: dict[str, Any] = {"name": "山田 太郎", "company": "株式会社芽生え"} if known else {}
    filled = values(language=language, entry={"title": "点検DX入門"} if known else {}, **lead)
    got = render(parse_mail(path.read_text(encoding="utf-8"), path.name), layout, filled)
    assert ("山田 太郎" if known else {"ja": "お客様", "en": "Hi there,"}[language]) in got.text
    assert len(lxml.html.document_fromstring(got.html).xpath("//td[@class='button']")) == 1, "one call to action"
    assert got.preheader
    assert got.preheader not in got.text
    assert got.topic
    for part in (got.text, got.html):
        assert "**" not in part
        assert "None" not in part
        for duty in (SENDER.name, SENDER.postal, SENDER.contact):
            assert duty in part
    assert ("配信を停止" if language == "ja" else "stop writing") in got.text
    with_link = render(
        parse_mail(path.read_text(encoding="utf-8"), path.name),
        layout,
        filled | {"unsubscribe_url": "https://example.com/u/1?a=b&copy=d"},
    )
    assert "<https://example.com/u/1?a=b&copy=d>" in with_link.text
