"""Journeys under way get the newest published text of a mail, and the last one when its file is gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import Session, select

from mebae.errors import BadInput
from mebae.mail.publishing import layout_files, layout_source, mail_files, mail_sources, publish_layouts, publish_mails
from mebae.mail.rendering import BrokenMail
from mebae.store.database import Database
from mebae.store.tables import MailText

NOW = datetime(2026, 4, 1, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2] / "scenarios"


def texts(session: Session) -> dict[str, datetime]:
    return {row.hash: row.published_at for row in session.exec(select(MailText))}


def test_an_edited_mail_is_the_newest_and_a_deleted_one_stays(database: Database) -> None:
    first = {("thanks", "ja"): "一", ("thanks", "en"): "one", ("case", ""): "案"}
    assert database.write_now(publish_mails, "trial", first, NOW) == [("case", ""), ("thanks", "en"), ("thanks", "ja")]
    assert database.write_now(publish_mails, "trial", first, NOW + timedelta(days=1)) == [], "twice changes nothing"
    before = database.write_now(texts)
    second = {("thanks", "ja"): "二"}
    assert database.write_now(publish_mails, "trial", second, NOW + timedelta(days=2)) == [("thanks", "ja")]
    now = database.write_now(mail_sources, "trial", "thanks")
    assert {language: source for language, (_, source) in now.items()} == {"ja": "二", "en": "one"}
    assert database.write_now(mail_sources, "trial", "case")[""][1] == "案"
    after = database.write_now(texts)
    assert before.items() <= after.items(), "old texts are kept as they were"
    assert len(after) == 4
    assert database.write_now(mail_sources, "other", "thanks") == {}


def test_going_back_to_an_old_text_points_at_it_again(database: Database) -> None:
    for source in ("一", "二", "一"):
        database.write_now(publish_mails, "trial", {("thanks", "ja"): source}, NOW)
    (digest, source) = database.write_now(mail_sources, "trial", "thanks")["ja"]
    assert source == "一"
    assert len(digest) == 64
    assert len(database.write_now(texts)) == 2


def test_one_text_in_two_scenarios_is_stored_once(database: Database) -> None:
    for scope in ("a", "b"):
        database.write_now(publish_mails, scope, {("thanks", "ja"): "同じ\r\n文"}, NOW)
    database.write_now(publish_mails, "c", {("thanks", "ja"): "同じ\n文"}, NOW)
    assert len(database.write_now(texts)) == 1, "whatever the line ends of the checkout"


def test_layouts_are_published_under_their_names(database: Database) -> None:
    with pytest.raises(BrokenMail) as missing:
        database.write_now(layout_source)
    assert str(missing.value) == "layout-missing"
    files = layout_files(ROOT / "layouts")
    assert database.write_now(publish_layouts, files, NOW) == ["default"]
    assert database.write_now(publish_layouts, files, NOW) == []
    assert database.write_now(layout_source) == files["default"]


def test_a_folder_s_files_become_mails_by_language(tmp_path: Path) -> None:
    assert len(mail_files(ROOT / "whitepaper_followup")) == 14
    for name in ("thanks.ja.md", "thanks.zh-Hant.md", "case-mfg.md", "README.md", "scenario.py"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    assert sorted(mail_files(tmp_path)) == [("case-mfg", ""), ("thanks", "ja"), ("thanks", "zh-Hant")]
    (tmp_path / "Thanks Mail.md").write_text("x")
    with pytest.raises(BadInput, match=r"Thanks Mail\.md: .*thanks\.ja\.md"):
        mail_files(tmp_path)
    (tmp_path / "Thanks Mail.md").unlink()
    (tmp_path / "sjis.ja.md").write_bytes("件名".encode("cp932"))
    with pytest.raises(BadInput, match="UTF-8"):
        mail_files(tmp_path)
