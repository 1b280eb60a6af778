"""J1: a marketing mail shows the sender's name, the way out, the postal address and where complaints go, or it is not sent."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from mebae.mail.legal import lacking, missing
from mebae.mail.rendering import Rendered, Sender, parse_mail, render
from mebae.mail.wiring import mail_settings
from mebae.settings import Settings

ROOT = Path(__file__).parents[2]
SENDER = Sender("点検ノート編集部", "hello@mebae.example", "〒100-0001 東京都千代田区千代田1-1 大手町ビル8階", "desk@mebae.example")
OUT = "https://mail.mebae.example/u/AQAAABc4hJ-x_9"
LAYOUT = (ROOT / "scenarios" / "layouts" / "default.html").read_text()
FOOT = (
    "<p>{{ sender.name }}</p><p>{{ sender.postal }}</p><p>{{ sender.contact }}</p>"
    '<p><a href="{{ unsubscribe_url }}">配信を停止</a></p>'
)


def laid_out(layout: str = LAYOUT, language: str = "ja", sender: Sender = SENDER, front: str = "", out: str | None = OUT) -> Rendered:
    lead = {"name": "佐藤 健二", "language": language}
    source = f"---\nsubject: 件名\n{front}---\n本文です。\n"
    values = {"lead": lead, "sender": sender, "unsubscribe_url": out, "language": language}
    return render(parse_mail(source, "s/m.md"), layout, values)


def body(foot: str) -> str:
    return f"<html><head><title>x</title></head><body>{{{{ body }}}}{foot}</body></html>"


@pytest.mark.parametrize("language", ["ja", "en"])
def test_the_projects_layout_shows_all_of_it_in_both_parts(language: str) -> None:
    assert missing(laid_out(language=language), SENDER, OUT) == ()


@pytest.mark.parametrize(
    ("cut", "told"),
    [
        ("<p>{{ sender.name }}</p>", "sender's name"),
        ("<p>{{ sender.postal }}</p>", "postal address"),
        ("<p>{{ sender.contact }}</p>", "contact for complaints"),
        ('<p><a href="{{ unsubscribe_url }}">配信を停止</a></p>', "opt-out link"),
    ],
)
def test_each_part_that_a_layout_leaves_out_is_told(cut: str, told: str) -> None:
    assert missing(laid_out(body(FOOT)), SENDER, OUT) == ()
    found = missing(laid_out(body(FOOT.replace(cut, ""))), SENDER, OUT)
    assert sorted(found) == [f"{told} (html)", f"{told} (text)"]


@pytest.mark.parametrize("style", ["display: none", "visibility:hidden", "font-size: 0", "font-size:0px;color:red", "opacity:0"])
def test_what_is_hidden_is_not_shown(style: str) -> None:
    hidden = body(FOOT.replace("<p>{{ sender.postal }}</p>", f'<div style="{style}"><p>{{{{ sender.postal }}}}</p></div>'))
    assert "postal address (html)" in missing(laid_out(hidden), SENDER, OUT)


def test_what_stands_in_a_comment_or_the_head_is_not_shown() -> None:
    foot = FOOT.replace("<p>{{ sender.postal }}</p>", "<!-- {{ sender.postal }} -->")
    assert "postal address (html)" in missing(laid_out(body(foot)), SENDER, OUT)
    head = body(FOOT.replace("<p>{{ sender.name }}</p>", "")).replace("<title>x", "<title>{{ sender.name }}")
    assert "sender's name (html)" in missing(laid_out(head), SENDER, OUT)


def test_part_that_shows_it_does_not_help_the_other_one() -> None:
    """The text part is made of the page; what a layout keeps out of it is missing there."""
    foot = FOOT.replace("<p>{{ sender.contact }}</p>", '<p data-text="none">{{ sender.contact }}</p>')
    assert missing(laid_out(body(foot)), SENDER, OUT) == ("contact for complaints (text)",)


def test_the_way_out_is_this_mails_own_link_and_has_words() -> None:
    shown = laid_out()
    assert "opt-out link (html)" in missing(replace(shown, html=shown.html.replace(OUT, "https://elsewhere.example/u")), SENDER, OUT)
    assert "opt-out link (text)" in missing(replace(shown, text=shown.text.replace(OUT, OUT + "x")), SENDER, OUT)
    bare = body(FOOT.replace("配信を停止", ""))
    assert "opt-out link (html)" in missing(laid_out(bare), SENDER, OUT)
    assert len(missing(shown, SENDER, "")) == 2, "no link at all"
    for after in ("", ".", "\n", "。", ")", "、次"):
        assert missing(replace(shown, text=re.sub(f"{OUT}.*", OUT + after, shown.text)), SENDER, OUT) == ()


def test_lines_may_be_broken_and_widths_differ() -> None:
    foot = FOOT.replace("{{ sender.postal }}", "〒１００-０００１<br>東京都千代田区千代田1-1<br>大手町ビル 8階")
    assert missing(laid_out(body(foot)), SENDER, OUT) == ()


def test_persons_name_in_the_from_line_does_not_stand_for_the_senders() -> None:
    """`from: 佐藤` writes another name on the envelope; the law wants to know whose mail it is."""
    mail = laid_out(front="from: 佐藤\n")
    assert (mail.sender.name, missing(mail, SENDER, OUT)) == ("佐藤", ())
    assert missing(laid_out(front='from: "佐藤（点検ノート編集部）"\n'), SENDER, OUT) == ()


def test_mail_without_a_page_is_read_as_text() -> None:
    shown = laid_out()
    assert missing(replace(shown, html=""), SENDER, OUT) == ()
    assert missing(replace(shown, html="", text="nothing"), SENDER, OUT) == (
        "sender's name (text)", "postal address (text)", "contact for complaints (text)", "opt-out link (text)",
    )  # fmt: skip


def test_what_the_settings_lack_is_named_by_its_variables() -> None:
    assert lacking(mail_settings(Settings())) == (
        "MEBAE_SENDER_POSTAL", "MEBAE_SENDER_CONTACT", "MEBAE_PUBLIC_URL", "MEBAE_TOKEN_KEYS",
    )  # fmt: skip
    whole = Settings(
        sender_postal=SENDER.postal, sender_contact=SENDER.contact, public_url="https://mail.mebae.example",
        token_keys=SecretStr("20260101:a-secret-of-the-tests"),
    )  # fmt: skip
    assert lacking(mail_settings(whole)) == ()
    assert lacking(mail_settings(whole.model_copy(update={"sender_postal": "  "}))) == ("MEBAE_SENDER_POSTAL",)
