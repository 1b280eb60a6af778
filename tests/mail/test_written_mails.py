"""From an author's files to the bytes of a lead's mail: what was written is published, chosen, laid out, tracked and built."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from mebae.loading import load_all
from mebae.mail.composing import Composed, compose, marketing_letter, texts_of
from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import Sender
from mebae.mailing import MailRules
from mebae.publishing import publish
from mebae.store.database import Database
from mebae.store.tables import Company, Lead
from mebae.tokens import Tokens
from tests.test_loading import HELLO, folder

NOW = datetime(2026, 4, 1, 1, tzinfo=UTC)
SETTINGS = MailSettings(
    Sender("点検ノート", "hello@mebae.example", "〒100-0001 東京都千代田区千代田1-1", "03-1234-5678"), "sales@mebae.example",
    tokens=Tokens.read_keys(["20260101:a-secret-of-the-tests"]), public_url="https://mail.mebae.example",
    rules=MailRules(languages=("en", "any")),
)  # fmt: skip
LAYOUT = '<html lang="{{ language }}"><body><b>{{ company.name }}</b>{{ body }}{{ footer }}</body></html>'
FILES = {
    "layouts/default.html": LAYOUT,
    "layouts/event.html": LAYOUT.replace("<b>", "<i>").replace("</b>", "</i>"),
    "blocks/signature.ja.md": "編集部 [連絡先](https://example.com/contact)",
    "blocks/signature.en.md": "The editors",
    "trial/hello.ja.md": (
        "---\nsubject: '{{ entry.at | relative }}のセミナー'\nlayout: event\n---\n{{ lead.name | family_name | sama }}\n\n"
        "**[申し込む](https://example.com/a?x=1)**\n\n{{ block('signature') }}\n"
    ),
    "trial/hello.en.md": "---\nsubject: Seminar\n---\nHi {{ lead.name | given_name }}\n\n{{ block('signature') }}\n",
    "trial/more.md": "---\nsubject: 日程\nformat: text\n---\n{{ lead.name | sama }}\n\nhttps://example.com/days\n",
}


def sent(database: Database, root: Path, mail: str, lead: Lead) -> tuple[EmailMessage, Composed]:
    """The mail that this lead would get, read by another parser."""
    loaded = load_all(root)
    database.write_now(lambda session: publish(session, loaded, root=root / "scenarios", now=NOW))
    texts = database.read_now(texts_of, "trial", mail, SETTINGS.rules.languages)
    letter = marketing_letter(
        texts, lead, Company(name="青葉精機"), 7, "<1@mebae.example>", SETTINGS, entry={"at": "2026-04-02"},
        scope=("trial", "試用"), headers=(), now=NOW,
    )  # fmt: skip
    composed = compose(letter, SETTINGS)
    message = message_from_bytes(composed.message, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message, composed


def project(root: Path) -> Path:
    folder(root, "trial", HELLO.replace("{id}", "trial"), placeholder=FILES["trial/more.md"])
    (root / "scenarios" / "trial" / "placeholder.md").unlink()
    for name, source in FILES.items():
        path = root / "scenarios" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return root


def test_lead_gets_the_chosen_layout_block_and_tracked_links_in_its_language(database: Database, tmp_path: Path) -> None:
    message, composed = sent(database, project(tmp_path), "hello", Lead(id=1, email="k@example.jp", name="佐藤 健二", language="ja"))
    assert message["Subject"] == "明日のセミナー"
    page = message.get_body(("html",))
    text = message.get_body(("plain",))
    assert page is not None
    assert text is not None
    assert "<i>青葉精機</i>" in page.get_content()
    assert sorted(composed.links.values()) == ["https://example.com/a?x=1", "https://example.com/contact"]
    for part in (page.get_content(), text.get_content()):
        assert "佐藤 様" in part
        assert "編集部" in part
        assert "https://mail.mebae.example/t/c/" in part
        assert "https://example.com" not in part
        assert "〒100-0001" in part


def test_lead_of_another_language_gets_what_the_workspace_falls_back_to(database: Database, tmp_path: Path) -> None:
    message, _ = sent(database, project(tmp_path), "hello", Lead(id=1, email="a@example.fr", name="Anne Lefèvre", language="fr"))
    text = message.get_body(("plain",))
    assert text is not None
    assert "Hi Anne" in text.get_content()
    assert "The editors" in text.get_content()


def test_lead_gets_a_text_mail_as_text_with_tracked_links_and_one_click_unsubscribe(database: Database, tmp_path: Path) -> None:
    message, composed = sent(database, project(tmp_path), "more", Lead(id=1, email="k@example.jp", name="佐藤 健二", language="ja"))
    assert message.get_content_type() == "text/plain"
    text = message.get_content()
    assert text.startswith("佐藤 健二 様")
    assert "https://mail.mebae.example/t/c/" in text
    assert list(composed.links.values()) == ["https://example.com/days"]
    assert "配信を停止する <https://mail.mebae.example/u/" in text
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
