"""The leads' own pages: unsubscribing as RFC 8058 and people do it, preferences, the mail as a page."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import httpx
import lxml.html
import pytest
from sqlmodel import Session, select

from mebae.mail.publishing import publish_layouts, publish_mails
from mebae.store.database import Database
from mebae.store.leads import find_lead
from mebae.store.suppressions import add, find
from mebae.store.tables import Broadcast, Consent, Lead, PublishedMail, Suppression, TopicChoice
from tests.http.mail_site import SENT, SETTINGS, Mail, MailSite

SATO = "sato.kenji@aoba-seiki.example"


@pytest.fixture
def site(database: Database) -> MailSite:
    return MailSite(database)


@pytest.fixture
def sqlite_site(sqlite_database: Database) -> MailSite:
    return MailSite(sqlite_database)


def names(site: MailSite, mail: Mail) -> list[str]:
    return [event.name for event in site.events(mail.lead)]


def press(site: MailSite, url: str, action: str, **more: Any) -> httpx.Response:
    """A person presses a button."""
    return site.visit(url, method="POST", data={"action": action, **more.pop("data", {})}, **more)


def choices(site: MailSite) -> dict[str, bool]:
    rows = site.database.read_now(lambda session: session.exec(select(TopicChoice)).all())
    return {row.topic: row.wanted for row in rows}


# One click ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"content": b"List-Unsubscribe=One-Click", "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {"content": b"", "headers": {}},
        {"content": b"List-Unsubscribe=One-Click", "headers": {"content-type": "text/plain"}},
    ],
    ids=["urlencoded", "multipart", "empty", "as text"],
)
def test_a_mail_programs_one_click_unsubscribes_at_once(site: MailSite, body: dict[str, Any]) -> None:
    mail = site.send(SATO)
    for _ in range(2):  # a mail program may repeat it
        answer = site.visit(mail.links.list_unsubscribe[0], method="POST", agent="Google-Mail/1.0", **body)
        assert answer.status_code == 200
        assert "location" not in answer.headers
        assert "set-cookie" not in answer.headers
    lead = site.lead(mail.lead)
    assert lead.opted_out_at == SENT + timedelta(seconds=60)
    assert site.database.read_now(find, SATO) is not None
    assert names(site, mail) == ["Unsubscribed"]
    assert site.events(mail.lead)[0].properties == {"how": "one-click", "mail": "thanks", "scenario": "trial"}


def test_who_unsubscribes_by_a_broadcasts_mail_says_of_which_broadcast(site: MailSite) -> None:
    """It is no scenario, which may be called the same."""

    def run(session: Session) -> int:
        row = Broadcast(cause="command:1", broadcast="trial", plan="{}", status="done", due_at=SENT)
        session.add(row)
        session.flush()
        return row.id or 0

    mail = site.send(SATO, broadcast_id=site.database.write_now(run), step="")
    site.visit(mail.links.list_unsubscribe[0], method="POST")
    assert site.events(mail.lead)[0].properties == {"how": "one-click", "mail": "thanks", "broadcast": "trial"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_looking_at_the_page_changes_nothing(site: MailSite, method: str) -> None:
    mail = site.send(SATO)
    for url in (mail.links.unsubscribe, mail.links.preferences, mail.links.unsubscribe + "?List-Unsubscribe=One-Click"):
        assert site.visit(url, method=method).status_code == 200
    assert site.lead(mail.lead).opted_out_at is None
    assert names(site, mail) == []


def test_a_forged_one_click_unsubscribes_nobody(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send(SATO)
    other = mail.links.preferences.replace("/p/", "/u/")
    for url in (mail.links.unsubscribe[:-1], mail.links.unsubscribe + "A", other):
        answer = sqlite_site.visit(url, method="POST", data={"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 404
    assert sqlite_site.lead(mail.lead).opted_out_at is None


def test_erased_lead_may_unsubscribe_and_nothing_comes_of_it(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send(SATO)

    def erase(session: Session) -> None:
        lead = session.get_one(Lead, mail.lead)
        lead.erased_at, lead.email = SENT, None

    sqlite_site.database.write_now(erase)
    assert sqlite_site.visit(mail.links.unsubscribe, method="POST").status_code == 200
    assert sqlite_site.visit(mail.links.unsubscribe).status_code == 200
    assert sqlite_site.visit(mail.links.preferences).status_code == 404
    assert press(sqlite_site, mail.links.preferences, "save").status_code == 404
    assert names(sqlite_site, mail) == []


@pytest.mark.parametrize(("size", "status"), [(200_000, 413), (500, 200)])
def test_a_body_that_is_too_large_is_not_read(sqlite_site: MailSite, size: int, status: int) -> None:
    mail = sqlite_site.send(SATO)
    answer = sqlite_site.visit(mail.links.unsubscribe, method="POST", data={"x": "a" * size})
    assert answer.status_code == status


# A person unsubscribes ------------------------------------------------------------------------------------------------


def test_lead_who_presses_the_button_is_told_and_can_undo_it(site: MailSite) -> None:
    mail = site.send(SATO)
    page = site.visit(mail.links.unsubscribe)
    assert "メール配信の停止" in page.text
    assert "s***@aoba-seiki.example" in page.text
    assert "sato" not in page.text  # a forwarded mail is read by others too
    page = press(site, mail.links.unsubscribe, "stop")
    assert (page.status_code, "配信を停止しました" in page.text) == (200, True)
    assert site.lead(mail.lead).opted_out_at is not None
    page = press(site, mail.links.unsubscribe, "resume", after=120)
    assert "配信を再開しました" in page.text
    assert site.lead(mail.lead).opted_out_at is None
    assert site.database.read_now(find, SATO) is None
    consents = site.database.read_now(lambda session: session.exec(select(Consent)).all())
    assert [(one.how, one.source, one.basis) for one in consents] == [("preferences", "thanks", "consent")]
    assert "配信を再開する" in consents[0].wording
    assert names(site, mail) == ["Unsubscribed", "Resubscribed"]


def test_lead_who_has_unsubscribed_is_told_so_and_not_asked_again(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send(SATO)
    press(sqlite_site, mail.links.unsubscribe, "stop")
    page = sqlite_site.visit(mail.links.unsubscribe)
    assert "すでに停止されています" in page.text
    assert 'value="resume"' in page.text
    assert 'value="stop"' not in page.text


def test_lead_may_stop_only_the_topic_of_the_mail(site: MailSite) -> None:
    mail = site.send(SATO, topic="seminar")
    assert "「セミナー」のメールだけを停止する" in site.visit(mail.links.unsubscribe).text
    page = press(site, mail.links.unsubscribe, "stop-topic")
    assert "「セミナー」のメールを停止しました" in page.text
    assert choices(site) == {"seminar": False}
    assert site.lead(mail.lead).opted_out_at is None
    press(site, mail.links.unsubscribe, "resume-topic")
    assert choices(site) == {"seminar": True}


def test_mail_that_a_lead_asked_for_is_no_topic_to_stop(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send(SATO, topic="requested")
    assert "stop-topic" not in sqlite_site.visit(mail.links.unsubscribe).text
    assert "お申し込みの資料" not in sqlite_site.visit(mail.links.preferences).text


def test_an_address_that_complained_is_not_resumed_by_a_link(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send(SATO)
    press(sqlite_site, mail.links.unsubscribe, "stop")
    sqlite_site.database.write_now(add, SATO, "complaint", SENT)
    page = sqlite_site.visit(mail.links.unsubscribe)
    assert 'value="resume"' not in page.text
    assert "配信を再開できません" in page.text
    for url in (mail.links.unsubscribe, mail.links.preferences):
        press(sqlite_site, url, "resume")
    assert sqlite_site.lead(mail.lead).opted_out_at is not None
    [entry] = sqlite_site.database.read_now(lambda session: session.exec(select(Suppression)).all())
    assert entry.reason == "complaint"


# Preferences ----------------------------------------------------------------------------------------------------------


def checked(page: httpx.Response) -> dict[str, bool]:
    boxes = lxml.html.document_fromstring(page.content).xpath("//input[@name='topic']")
    return {box.get("value"): box.get("checked") is not None for box in boxes}


def test_lead_chooses_topics_and_a_language(site: MailSite) -> None:
    mail = site.send(SATO, language="ja")
    assert checked(site.visit(mail.links.preferences)) == {"product": True, "seminar": True}
    data = {"shown": ["product", "seminar"], "topic": ["product"], "language": "en"}
    page = press(site, mail.links.preferences, "save", data=data)
    assert (page.status_code, "Your preferences are saved." in page.text) == (200, True)  # in the language just chosen
    assert checked(page) == {"product": True, "seminar": False}
    assert choices(site) == {"product": True, "seminar": False}
    assert site.lead(mail.lead).language == "en"
    assert names(site, mail) == ["Topic Unsubscribed", "Lead Identified"]
    press(site, mail.links.preferences, "save", data=data)
    assert len(names(site, mail)) == 2  # the same again is no news


def test_a_topic_that_was_not_shown_is_not_turned_off(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send(SATO)
    press(sqlite_site, mail.links.preferences, "save", data={"shown": ["product", "nonsense"], "topic": ["made-up"]})
    assert choices(sqlite_site) == {"product": False}


def test_lead_turns_everything_off_and_on_again(site: MailSite) -> None:
    mail = site.send(SATO)
    page = press(site, mail.links.preferences, "stop")
    assert "配信を停止しました" in page.text
    assert site.lead(mail.lead).opted_out_at is not None
    assert checked(page) == {}
    page = press(site, mail.links.preferences, "resume", after=120)
    assert site.lead(mail.lead).opted_out_at is None
    assert checked(page) == {"product": True, "seminar": True}


def test_pressing_nothing_known_changes_nothing(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send(SATO)
    assert press(sqlite_site, mail.links.preferences, "drop table").status_code == 200
    assert sqlite_site.visit(mail.links.preferences, method="POST").status_code == 200
    assert names(sqlite_site, mail) == []


# How pages are --------------------------------------------------------------------------------------------------------


def test_pages_speak_the_language_of_the_mail_then_the_leads_then_the_browsers(sqlite_site: MailSite) -> None:
    def title(mail: Mail, asks: str = "") -> str:
        page = sqlite_site.visit(mail.links.unsubscribe, headers={"accept-language": asks})
        return str(lxml.html.document_fromstring(page.content).findtext(".//h1"))

    english, japanese = "Unsubscribe", "メール配信の停止"
    assert title(sqlite_site.send(language="en"), "ja") == english
    assert title(sqlite_site.send(language=""), "en") == japanese  # the lead's own is Japanese
    french = sqlite_site.send("marie@exemple.example", language="")
    sqlite_site.database.write_now(
        lambda session: setattr(find_lead(session, email="marie@exemple.example"), "language", "fr")
    )
    assert (title(french, "fr,ja;q=0.5"), title(french, "fr")) == (japanese, english)
    unknown = "http://mail.example/u/unknown"
    assert "There is no such page" in sqlite_site.visit(unknown, headers={"accept-language": "en-GB,ja;q=0.8"}).text
    assert "ページが見つかりません" in sqlite_site.visit(unknown).text


def test_lead_who_chose_another_language_since_the_mail_reads_all_its_pages_in_that(site: MailSite) -> None:
    mail = site.send(SATO, language="ja")
    press(site, mail.links.preferences, "save", data={"language": "en"}, headers={"accept-language": "ja"})
    for url, title in ((mail.links.unsubscribe, "Unsubscribe"), (mail.links.preferences, "Mail preferences")):
        page = site.visit(url, headers={"accept-language": "ja"})
        assert lxml.html.document_fromstring(page.content).findtext(".//h1") == title
    press(site, mail.links.preferences, "save", data={"language": "ja"}, headers={"accept-language": "en"})
    assert "受け取るメール" in site.visit(mail.links.unsubscribe, headers={"accept-language": "en"}).text


def test_a_mail_that_cannot_be_shown_any_more_says_so_in_its_own_language(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send(language="en")
    page = sqlite_site.visit(mail.links.view, headers={"accept-language": "ja"})
    assert (page.status_code, "This mail cannot be shown" in page.text) == (410, True)


def test_pages_need_no_script_send_nothing_elsewhere_and_are_found_by_nobody(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send(SATO)
    for url in (mail.links.unsubscribe, mail.links.preferences, mail.links.trap, "http://mail.example/u/x"):
        page = sqlite_site.visit(url)
        tree = lxml.html.document_fromstring(page.content)
        assert tree.xpath("//script | //img | //link | //iframe | //@onclick | //@style") == []
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-robots-tag"] == "noindex, nofollow, noarchive"
        assert "no-store" in page.headers["cache-control"]
        assert "set-cookie" not in page.headers
        assert [bool(form.get("action")) for form in tree.xpath("//form")] == [False] * len(tree.xpath("//form"))
        assert tree.get("lang") in ("ja", "en")
        assert all(label.xpath(".//input") for label in tree.xpath("//label"))


def test_what_is_written_on_pages_is_text_whoever_wrote_it(sqlite_site: MailSite) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    settings = SETTINGS.__class__(**{
        **SETTINGS.__dict__,
        "sender": SETTINGS.sender.__class__(evil, "hello@mebae.example", evil, evil),
        "rules": SETTINGS.rules.__class__(topics=(SETTINGS.rules.topics[0].__class__("product", {"ja": evil}, {"ja": evil}),)),
    })  # fmt: skip
    site = MailSite(sqlite_site.database, settings)
    mail = site.send('"<b>sato</b>"@aoba.example')
    for url in (mail.links.unsubscribe, mail.links.preferences):
        for page in (site.visit(url), press(site, url, "stop"), press(site, url, "resume")):
            tree = lxml.html.document_fromstring(page.content)
            assert tree.xpath("//script | //img | //b") == []
            assert not re.search(r"<script|<img", page.text)


# The mail as a page ---------------------------------------------------------------------------------------------------


def published(site: MailSite, source: str) -> str:
    """Publishes a mail and a layout; the mail's hash."""

    def write(session: Session) -> str:
        publish_mails(session, "trial", {("thanks", ""): source}, SENT)
        layout = (
            '<html><body>{% if view_url %}<a href="{{ view_url }}">view</a>{% endif %}{{ body }}'
            '<a href="{{ unsubscribe_url }}">stop</a></body></html>'
        )
        publish_layouts(session, {"default": layout}, SENT)
        session.flush()
        return session.exec(select(PublishedMail.hash).where(PublishedMail.mail == "thanks")).one()

    return site.database.write_now(write)


def test_lead_reads_its_mail_as_a_page_with_links_that_are_tracked(site: MailSite) -> None:
    hash = published(site, "---\nsubject: 資料\n---\n{{ lead.name | sama }}、[資料](https://example.com/paper)です。\n")
    mail = site.send(SATO, text_hash=hash)
    site.database.write_now(lambda session: setattr(find_lead(session, email=SATO), "name", "<b>佐藤</b>"))
    page = site.visit(mail.links.view)
    assert page.status_code == 200
    assert "&lt;b&gt;佐藤&lt;/b&gt; 様" in page.text
    assert "sandbox" in page.headers["content-security-policy"]
    assert "noindex" in page.headers["x-robots-tag"]
    tree = lxml.html.document_fromstring(page.content)
    assert tree.xpath("//img") == []
    hrefs = [link.get("href") for link in tree.xpath("//a")]
    assert hrefs == [mail.links.trap, mail.links.link("https://example.com/paper"), mail.links.unsubscribe]
    assert site.visit(hrefs[1]).headers["location"] == "https://example.com/paper"
    published(site, "---\nsubject: 別の資料\n---\n別の文面です。\n")
    assert "佐藤" in site.visit(mail.links.view).text  # it is the text that went out


def test_a_mail_whose_text_is_no_more_or_that_is_no_leads_is_gone(sqlite_site: MailSite) -> None:
    assert sqlite_site.visit(sqlite_site.send(SATO).links.view).status_code == 410
    hash = published(sqlite_site, "---\nsubject: 資料\n---\n{{ entry.title }}\n")
    page = sqlite_site.visit(sqlite_site.send(text_hash=hash).links.view)
    assert page.status_code == 410  # it cannot be rendered without its entry
    assert sqlite_site.visit(sqlite_site.send(text_hash=hash, kind="sales").links.view).status_code == 410
