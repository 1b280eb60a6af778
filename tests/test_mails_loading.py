"""Mails, layouts and blocks come from folders; what is wrong in any of them is told at once, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mebae.errors import ScenarioError
from mebae.loading import load_all
from tests.test_loading import MAIL, folder, problems

LAYOUT = "<body>{{ body }}{{ footer }}</body>"


def text(root: Path, name: str, source: str) -> None:
    path = root / "scenarios" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")


def test_a_team_s_layouts_blocks_and_pages_load(tmp_path: Path) -> None:
    made = folder(tmp_path, "hello")
    text(tmp_path, "layouts/default.html", LAYOUT + "{{ block('cta') }}")
    text(tmp_path, "layouts/personal.html", LAYOUT)
    text(tmp_path, "blocks/cta.ja.md", "**[見る](https://example.com)**")
    text(tmp_path, "blocks/README.md", "Notes.")
    text(tmp_path, "hello/page.ja.html", "---\nsubject: x\n---\n<!doctype html><html>{{ footer }}</html>")
    text(tmp_path, "hello/page.en.mjml", "---\nsubject: x\n---\n<mjml><mj-body>{{ footer }}</mj-body></mjml>")
    text(tmp_path, "hello/note.md", "---\nsubject: x\nformat: text\n---\n{{ block('cta') }}")
    text(tmp_path, "hello/letter.md", "---\nsubject: x\nlayout: personal\n---\nx")
    [loaded] = load_all(tmp_path)
    assert loaded.mails["page", "ja"] == made / "page.ja.html"
    assert loaded.mails["page", "en"] == made / "page.en.mjml"
    assert len(loaded.mails) == 6


def test_every_problem_of_what_mails_share_comes_at_once(tmp_path: Path) -> None:
    made = folder(tmp_path, "hello")
    text(tmp_path, "layouts/Big One.html", LAYOUT)
    text(tmp_path, "layouts/default.html", "<body>{{ body }}\n{{ block('signatur') }}</body>")
    text(tmp_path, "layouts/narrow.html", "<body>{{ bodi }}</body>")
    text(tmp_path, "blocks/signature.ja.md", "a\n{{ block('contact') }}")
    text(tmp_path, "blocks/contact.md", "{{ block('signature') }}")
    text(tmp_path, "blocks/self.md", "\n\n{{ block('self') }}")
    text(tmp_path, "blocks/sent.md", "---\nsubject: x\n---\nx")
    text(tmp_path, "blocks/page.ja.html", "<p>x</p>")
    text(tmp_path, "hello/a.md", "---\nsubject: x\nlayout: narow\n---\nx\n{{ block('contakt') }}")
    text(tmp_path, "hello/b.md", "---\nsubject: x\n---\n<!doctype html><html>{{ footer }}</html>")
    text(tmp_path, "hello/c.ja.html", "---\nsubject: x\n---\nMarkdown")
    text(tmp_path, "hello/more.html", "---\nsubject: x\n---\n<html>{{ footer }}</html>")
    (made / "d.md").write_bytes("件名".encode("cp932"))
    assert problems(tmp_path) == [
        "scenarios/layouts/Big One.html: a layout is called like default.html, in small letters, digits and hyphens",
        "scenarios/layouts/default.html:2: block 'signatur' is none of blocks/, did you mean 'signature'?",
        "scenarios/layouts/default.html: mails laid out by it do not show sender.name, sender.postal, sender.contact, "
        "unsubscribe_url, which the law wants: write {{ footer }} at its end",
        "scenarios/layouts/narrow.html:1: 'bodi' is unknown, did you mean 'body'?",
        "scenarios/blocks/page.ja.html: a block is Markdown, called name.language.md, such as signature.ja.md, or signature.md",
        "scenarios/blocks/sent.md:1: a block has no front matter: only mails have",
        "scenarios/blocks/contact.md:1: blocks show each other in a ring: contact → signature → contact",
        "scenarios/blocks/self.md:3: blocks show each other in a ring: self → self",
        "scenarios/hello/more.md: more.html is the same mail: keep one of the two",
        "scenarios/hello/a.md:3: layout 'narow' is none of layouts/, did you mean 'narrow'?",
        "scenarios/hello/a.md:6: block 'contakt' is none of blocks/, did you mean 'contact'?",
        "scenarios/hello/b.md: a whole page in HTML is called b.html",
        "scenarios/hello/c.ja.html:4: it begins with <!doctype html>, after the front matter; a mail that a layout lays out "
        "is Markdown, in c.ja.md",
        "scenarios/hello/d.md: the file is no UTF-8 text: save it as UTF-8",
    ]


def test_a_folder_of_layouts_without_the_default_one_is_told(tmp_path: Path) -> None:
    folder(tmp_path, "hello")
    text(tmp_path, "layouts/other.html", LAYOUT)
    assert problems(tmp_path) == [
        "scenarios/layouts: there is no default.html, which lays out every mail that names no other"
    ]


def test_the_chain_of_languages_is_set_beside_the_scenarios(tmp_path: Path) -> None:
    folder(tmp_path, "hello", hello_ja=MAIL, more=MAIL)
    text(tmp_path, "mailing.py", 'from mebae.mailing_language import *\n\nmailing = Mailing(languages=["en", "any", "日本語"])\n')
    with pytest.raises(ScenarioError, match=r"languages=: '日本語' is no language"):
        load_all(tmp_path)
    text(tmp_path, "mailing.py", 'from mebae.mailing_language import *\n\nmailing = Mailing(languages=["en", "any"])\n')
    assert load_all(tmp_path)
