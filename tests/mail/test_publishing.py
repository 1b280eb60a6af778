"""Journeys under way get the newest published text of a mail, and the last one when its file is gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import Session, select

from mebae.loading import load_all
from mebae.mail.publishing import (
    block_files,
    layout_files,
    layout_source,
    mail_sources,
    publish_blocks,
    publish_layouts,
    publish_mails,
    shared_texts,
)
from mebae.mail.rendering import BrokenMail
from mebae.publishing import publish
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


def test_blocks_are_published_by_name_and_language_and_stay_when_their_file_is_gone(database: Database) -> None:
    first = {("signature", "ja"): "編集部", ("signature", "en"): "The editors", ("cta", ""): "x"}
    assert len(database.write_now(publish_blocks, first, NOW)) == 3
    assert database.write_now(publish_blocks, first, NOW) == []
    assert database.write_now(publish_blocks, {("signature", "ja"): "編集部より"}, NOW) == [("signature", "ja")]
    blocks = database.write_now(shared_texts).blocks_for("ja")
    assert (blocks["signature"].source, blocks["signature"].where) == ("編集部より", "blocks/signature.ja.md")
    assert blocks["cta"].source == "x"
    assert "sender.postal" in blocks["footer"].source, "this house brings one"
    assert database.write_now(shared_texts).blocks_for("fr", ("en",))["signature"].source == "The editors"


def test_everything_of_the_files_is_published(database: Database) -> None:
    loaded = load_all(ROOT.parent)
    database.write_now(lambda session: publish(session, loaded, root=ROOT, now=NOW))
    shared = database.write_now(shared_texts)
    assert set(shared.layouts) == {path.stem for path in (ROOT / "layouts").glob("*.html")}
    assert {(name, language) for name, by in shared.blocks.items() for language in by} == set(block_files(ROOT / "blocks"))
    assert len(database.write_now(mail_sources, "whitepaper-followup", "thanks")) == 2
