"""What authors can write beside plain Markdown mails: blocks, layouts of their own, text mails, whole pages."""

from __future__ import annotations

from typing import Any

import lxml.html  # type: ignore[import-untyped]
import pytest

from mebae.errors import did_you_mean
from mebae.mail import mjml
from mebae.mail.legal import missing
from mebae.mail.rendering import BrokenMail, Rendered, Shared, Tracking, choose_language, parse_mail, render
from tests.mail.test_links import OURS
from tests.mail.test_rendering import LAYOUT, SENDER, values

BLOCKS = {
    "signature": {
        "ja": "---\n**佐藤**（{{ sender.name }}）\\\n[お問い合わせ](https://example.com/contact)\n",
        "en": "Sato, {{ sender.name }}",
    },
    "button": {"": "**[{{ given.label }}]({{ given.url }})**"},
    "outer": {"": "外{{ block('inner', of=lead.company) }}"},
    "inner": {"": "*{{ given.of }}*"},
    "ring": {"": "{{ block('ring') }}"},
}


def written(
    body: str, front: str = "", language: str = "ja", shared: Shared | None = None, track: bool = True, **more: Any
) -> Rendered:
    shared = shared or Shared({"default": LAYOUT}, BLOCKS)
    source = parse_mail(f"---\nsubject: 件名\n{front}---\n{body}\n", "s/m.ja.md")
    return render(
        source, shared.layout_of(source), values(language, **more) | OURS, blocks=shared.blocks_for(language),
        tracking=Tracking(lambda target: f"https://t.example.jp/{target.rpartition('/')[2]}") if track else None,
    )  # fmt: skip


# Blocks


def test_a_block_is_markdown_of_the_mail_in_its_language() -> None:
    got = written("本文\n\n{{ block('signature') }}")
    assert "<strong>佐藤</strong>（点検ノート）<br" in got.html
    assert got.text.endswith("佐藤（点検ノート）\nお問い合わせ <https://t.example.jp/contact>\n")
    assert written("x\n\n{{ block('signature') }}", language="en").text == "x\n\nSato, 点検ノート\n"


def test_a_block_is_given_values_and_a_lead_s_are_shown_as_typed() -> None:
    got = written('{{ block("button", label=lead.name, url="https://example.com/a") }}', name="*山田* <b>")
    page = lxml.html.document_fromstring(got.html)
    assert page.xpath("//td[@class='button']/a/text()") == ["*山田* <b>"]
    with pytest.raises(BrokenMail) as broken:
        written('{{ block("button", url="https://example.com/a") }}')
    assert broken.value.detail.startswith("blocks/button.md, line 1: given.label is empty")


def test_a_block_shows_another_and_never_itself() -> None:
    assert "外<em>芽生え</em>" in written("{{ block('outer') }}", company="芽生え").html
    with pytest.raises(BrokenMail, match="mail-invalid") as broken:
        written("{{ block('ring') }}")
    assert "ring" in broken.value.detail


def test_a_block_in_a_layout_is_html() -> None:
    shared = Shared({"default": "<body>{{ body }}<i>{{ block('signature') }}</i></body>"}, BLOCKS)
    assert "<i><hr>\n<p><strong>佐藤</strong>" in written("本文", shared=shared).html


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{{ block(lead.industry) }}", "name the block in quotes"),
        ("{{ block }}", "name the block in quotes"),
        ("a\n{% include 'x.md' %}", 'line 5: write {{ block("name") }}'),
        ("{% extends 'x' %}", "layout: name"),
        ("{% autoescape false %}{{ lead.name }}{% endautoescape %}", "escaping can not be turned off"),
        ("{{ footer }}", "'footer' is unknown"),
        ("{{ company.nmae }}", "'company.nmae' is unknown, did you mean 'name'?"),
        ("{{ sender.adress }}", "'sender.adress' is unknown"),
        ("{{ lead.name | smaa }}", "there is no filter 'smaa', did you mean 'sama'"),
        ("{{ given.x }}", "'given' is unknown"),
    ],
)
def test_what_can_be_right_in_no_mail_is_refused_when_read(body: str, words: str) -> None:
    with pytest.raises(BrokenMail) as broken:
        parse_mail(f"---\nsubject: x\n---\n{body}\n", "m.md")
    assert words in broken.value.detail


def test_a_block_that_was_never_published_is_named() -> None:
    with pytest.raises(BrokenMail) as broken:
        written("{{ block('signatur') }}")
    assert str(broken.value) == "block-missing"
    assert did_you_mean("signatur", ["signature"]) in broken.value.detail


# Layouts


def test_a_mail_chooses_its_layout() -> None:
    shared = Shared({"default": LAYOUT, "personal": "<body><u>{{ body }}</u>{{ footer }}</body>"})
    assert "<u>" in written("本文", "layout: personal\n", shared=shared).html
    assert "<u>" not in written("本文", shared=shared).html
    with pytest.raises(BrokenMail, match="layout-missing") as broken:
        written("本文", "layout: persona\n", shared=shared)
    assert "did you mean 'personal'" in broken.value.detail


# Text mails


def test_a_text_mail_is_text_alone_with_tracked_links_and_the_footer() -> None:
    got = written(
        "{{ lead.name | sama }}\n\nご都合はいかがでしょうか。日程: https://example.com/daysです。\n"
        '（https://example.com/a(b)）\n<https://example.com/rules "untracked">\n\n{{ block("signature") }}',
        "format: text\n", name="山田\n太郎",
    )  # fmt: skip
    assert got.html == ""
    lines = got.text.split("\n")
    assert lines[0] == "山田 太郎 様", "a value is one line"
    assert lines[2] == "ご都合はいかがでしょうか。日程: https://t.example.jp/daysです。"
    assert lines[3] == "（https://t.example.jp/a(b)）"
    assert lines[4] == "https://example.com/rules"
    assert "お問い合わせ <https://t.example.jp/contact>" in got.text
    assert missing(got, SENDER, OURS["unsubscribe_url"]) == ()
    assert got.links == ("https://example.com/days", "https://example.com/a(b)", "https://example.com/contact")


def test_a_text_mail_keeps_its_author_s_lines_and_stars() -> None:
    got = written("一行目\n二行目 *星*\n\n\n- 項目", "format: text\n", track=False)
    assert got.text.startswith("一行目\n二行目 *星*\n\n\n- 項目\n\n――")


# Whole pages

PAGE = (
    '<!doctype html><html lang="{{ language }}"><head><style>p { color: #123456 }</style></head><body>'
    '<p>{{ lead.name | sama }}</p><a href="{{ entry.url | default_to("https://example.com/a") }}">x</a>{{ footer }}</body></html>'
)


def test_an_html_mail_is_laid_out_by_itself_with_inlined_styles_and_footer() -> None:
    got = written(PAGE, name="<b>山田</b>")
    assert '<p style="color: #123456;">&lt;b&gt;山田&lt;/b&gt; 様</p>' in got.html
    assert 'href="https://t.example.jp/a"' in got.html
    assert got.text.startswith("<b>山田</b> 様\n\nx <https://t.example.jp/a>")
    assert missing(got, SENDER, OURS["unsubscribe_url"]) == ()


def test_an_address_that_runs_a_program_leads_nowhere() -> None:
    source = parse_mail(f"---\nsubject: x\n---\n{PAGE}", "m")
    for address in ("javascript:alert(1)", " java\tscript:alert(1)", "data:text/html,x"):
        got = render(source, "", values(entry={"url": address}) | OURS)
        assert '<a href="#">' in got.html


def test_an_mjml_mail_becomes_a_page_and_fetches_nothing() -> None:
    got = written(
        "<mjml><mj-body><mj-section><mj-column><mj-text>{{ lead.name | sama }}</mj-text>"
        '<mj-button href="https://example.com/a?b=1&amp;c=2">見る</mj-button><mj-text>{{ footer }}</mj-text>'
        "</mj-column></mj-section></mj-body></mjml>",
        name="山田 & <太郎>",
    )
    assert "山田 &amp; &lt;太郎&gt; 様" in got.html
    assert got.links == ("https://example.com/a?b=1&c=2",)
    assert "googleapis" not in got.html
    assert missing(got, SENDER, OURS["unsubscribe_url"]) == ()


def test_without_the_package_for_mjml_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mjml, "mrml", None)
    with pytest.raises(BrokenMail) as broken:
        parse_mail("---\nsubject: x\n---\n<mjml><mj-body>{{ footer }} </mj-body></mjml>", "m.mjml")
    assert broken.value.detail == "m.mjml: MJML needs one more package: pip install 'mebae[mjml]' (or mrml)"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("format: html\n---\nMarkdown", "line 3: a whole HTML page begins with <!doctype html>"),
        ("format: mail\n---\nx", "format 'mail' is unknown"),
        ("layout: default\n---\n<html>{{ footer }}</html>", "line 3: a layout is for Markdown"),
        ("format: text\npreheader: x\n---\nx", "line 4: a text mail has no preheader"),
        ("---\n<html><p>x</p></html>", "does not show sender.name, sender.postal, sender.contact, unsubscribe_url"),
        ("---\n<html>\n<a href={{ entry.url }}>x</a>{{ footer }}</html>", "line 5: put quotes around {{ … }} in a tag"),
        ("---\n<mjml><mj-body>\n<mj-txt>x</mj-txt>{{ footer }}</mj-body></mjml>", "line 5: <mj-txt> is no MJML, did you mean 'mj-text'"),
        ("---\nx\x08", "line 4: a control character (U+0008)"),
    ],
)
def test_a_page_that_cannot_be_right_is_refused_when_read(source: str, words: str) -> None:
    with pytest.raises(BrokenMail) as broken:
        parse_mail(f"---\nsubject: x\n{source}", "m")
    assert words in broken.value.detail


def test_mjml_that_cannot_be_read_says_so() -> None:
    with pytest.raises(BrokenMail, match="mail-invalid") as broken:
        written("<mjml><mj-body><mj-section>{{ footer }}</mj-body></mjml>")
    assert "the MJML cannot be read" in broken.value.detail


# Languages


def test_a_workspace_sets_the_chain_of_languages() -> None:
    assert choose_language(["ja", "en", ""], "fr") == ""
    assert choose_language(["ja", "en", ""], "fr", ["en", "any"]) == "en"
    assert choose_language(["ja", ""], "fr", ["en", "any"]) == ""
    assert choose_language(["ja", "de"], "fr-CA", ["en"]) == "de", "the first there is, when nothing fits"
    shared = Shared({}, {"signature": {"ja": "日", "en": "E"}})
    assert shared.blocks_for("fr")["signature"].source == "日"
    assert shared.blocks_for("fr", ["en"])["signature"].source == "E"
