"""The development inbox: what a developer sees of the mails that would have gone out."""

from __future__ import annotations

import asyncio
import logging
import re
import smtplib
import socket
from datetime import UTC, datetime
from pathlib import Path

import httpx
import lxml.html  # type: ignore[import-untyped]
import pytest
from fastapi import FastAPI

from mebae.errors import BadInput, NotFound
from mebae.mail.inbox import Inbox, InboxServer
from mebae.mail.inbox_pages import inbox_routes
from mebae.mail.message import build, message_id
from mebae.mail.rendering import Rendered, Sender
from mebae.mail.transport import SmtpTransport

NASTY = '<script>alert("x")</script>'


OF_A_JOURNEY = [("X-Mebae-Scenario", "whitepaper-followup"), ("X-Mebae-Step", "thanks")]


def mail(
    subject: str, to: str = "taro@example.jp", name: str = "山田 太郎", html: str = "<p>こんにちは</p>",
    headers: list[tuple[str, str]] = OF_A_JOURNEY, hour: int = 10,
) -> bytes:  # fmt: skip
    sender = Sender("点検ノート", "news@example.com")
    return build(
        Rendered(subject, "", html, f"{subject}の本文 {NASTY}\n", "", sender), to=to, to_name=name, sender=sender,
        message_id=message_id(1, subject, 1, "example.com"), date=datetime(2026, 4, 1, hour, tzinfo=UTC),
        headers=headers,
    )  # fmt: skip


def keep(inbox: Inbox, subject: str, to: str = "taro@example.jp", **more: str) -> str:
    return inbox.store("news@example.com", [to], mail(subject, to, **more))


class Browser:
    """Asks the pages for an address."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def get(self, path: str, params: dict[str, str] | None = None, *, language: str = "ja") -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://inbox") as client:
                return await client.get(path, params=params, headers={"Accept-Language": language})

        return asyncio.run(ask())


def pages(inbox: Inbox) -> Browser:
    app = FastAPI()
    app.include_router(inbox_routes(inbox))
    return Browser(app)


async def test_a_mail_sent_over_smtp_lies_in_the_inbox_and_survives_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with InboxServer(Inbox(tmp_path / "inbox")) as server:
        transport = SmtpTransport("127.0.0.1", server.port)

        async def nothing() -> None:
            pass

        for subject in ("一通目", "二通目", "三通目"):
            await transport.deliver("news@example.com", "taro@example.jp", mail(subject), before_data=nothing)
        await transport.aclose()
    again = Inbox(tmp_path / "inbox")
    assert again.count() == 3
    assert [entry.subject for entry in again.page()] == ["三通目", "二通目", "一通目"]
    newest = again.get(again.page()[0].id)
    assert (newest.entry.kind, newest.entry.of, newest.entry.step) == ("scenario", "whitepaper-followup", "thanks")
    assert newest.html.strip() == "<p>こんにちは</p>"
    assert newest.source.endswith(mail("三通目")), "byte for byte, behind the envelope"
    keep(again, "四通目")
    assert again.page()[0].subject == "四通目"
    assert "taro" not in caplog.text, "no personal data in logs"


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, cap=30)
    for n in range(200):
        keep(inbox, f"m{n}")
    assert inbox.count() == 30
    assert [entry.subject for entry in inbox.page(limit=2)] == ["m199", "m198"]
    assert len(list(tmp_path.iterdir())) <= 130, "pruned in bulk"
    assert not list(tmp_path.glob(".*")), "no half-written mails"


def test_a_recipient_is_found_by_part_of_address_or_name(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    keep(inbox, "a", "taro@example.jp")
    keep(inbox, "b", "hanako@example.com", name="鈴木 花子")
    assert [entry.subject for entry in inbox.page(to="HANAKO@")] == ["b"]
    assert [entry.subject for entry in inbox.page(to="花子")] == ["b"]
    assert [entry.subject for entry in inbox.page(to="example", limit=1)] == ["b"]
    assert inbox.page(to="nobody") == []


@pytest.mark.parametrize("id", ["../secret", "1", "x" * 20, "0" * 20, "..%2f", ""])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, id: str) -> None:
    (tmp_path / "secret.eml").write_text("secret")
    inbox = Inbox(tmp_path / "inbox")
    with pytest.raises(NotFound):
        inbox.get(id)
    for path in (f"/inbox/{id}x", f"/inbox/{id}x/html", f"/inbox/{id}x/source"):
        got = pages(inbox).get(path)
        assert got.status_code == 404
        assert "secret" not in got.text


def test_a_taken_port_is_named_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=str(port)):
            InboxServer(Inbox(tmp_path), port=port).start()


def test_stopping_drops_open_lines_and_frees_the_port(tmp_path: Path) -> None:
    server = InboxServer(Inbox(tmp_path))
    server.start()
    with smtplib.SMTP("127.0.0.1", server.port) as line:
        line.ehlo()
        server.stop()
        server.stop()
        with pytest.raises(smtplib.SMTPServerDisconnected):
            line.noop()
    with socket.create_server(("127.0.0.1", server.port)):
        pass


def test_the_list_shows_who_got_what_at_which_step_with_everything_escaped(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    keep(inbox, NASTY, name=f'太郎 {NASTY}"')
    page = pages(inbox).get("/inbox")
    assert page.status_code == 200
    assert "<script" not in page.text
    tree = lxml.html.document_fromstring(page.text)
    row = tree.xpath("//tbody/tr")[0]
    assert NASTY in row.xpath(".//a")[0].text
    assert "taro@example.jp" in row.text_content()
    assert "whitepaper-followup › thanks" in row.text_content()
    assert "2026" in row.text_content()
    searched = pages(inbox).get("/inbox", params={"to": '"><script>'})
    assert "<script" not in searched.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("headers", "ja", "en"),
    [
        ([("X-Mebae-Broadcast", "monthly-news"), ("X-Mebae-Mail", "news")], "一斉配信monthly-news › news", "Broadcastmonthly-news › news"),
        ([("X-Mebae-Telling", "handover-12-opened-1-1-mail-inoue")], "営業への引き渡し12", "To sales: hand-over12"),
        ([("X-Mebae-Telling", "call-3-mail-inoue")], "営業への電話依頼3", "To sales: call3"),
        ([("X-Mebae-Telling", "digest-2026-04-10-inoue")], "営業への週次まとめ", "To sales: weekly digest"),
        ([("X-Mebae-Test", "follow/thanks")], "テスト送信follow/thanks", "Testfollow/thanks"),
        ([("X-Mebae-Scenario", "follow"), ("X-Mebae-Step", "thanks")], "シナリオfollow › thanks", "Scenariofollow › thanks"),
        ([], "", ""),
    ],
)  # fmt: skip
def test_the_list_says_what_each_mail_came_of_in_the_browsers_language_and_the_local_time(
    tmp_path: Path, headers: list[tuple[str, str]], ja: str, en: str
) -> None:
    inbox = Inbox(tmp_path)
    inbox.store("news@example.com", ["taro@example.jp"], mail("件名", headers=headers))
    for language, words, heading in (("ja", ja, "受信箱"), ("en", en, "Inbox")):
        tree = lxml.html.document_fromstring(pages(inbox).get("/inbox", language=language).text)
        cells = [cell.text_content() for cell in tree.xpath("//tbody/tr/td")]
        assert cells[0] == "2026-04-01 19:00"
        assert cells[3] == words
        assert tree.findtext(".//h1/a") == heading
        shown = " ".join(text for text in tree.xpath("//body//text()[not(ancestor::tbody)] | //@placeholder | //@aria-label"))
        assert bool(re.search("[ぁ-ん一-龠]", shown)) == (language == "ja")


def test_the_list_goes_by_the_time_that_it_shows_and_counts_what_was_found(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    for hour in (11, 9, 10):
        inbox.store("news@example.com", ["a@example.jp"], mail(f"{hour}時", "a@example.jp", hour=hour))
    keep(inbox, "別の人", "b@example.jp")
    assert [entry.subject for entry in inbox.page()] == ["11時", "別の人", "10時", "9時"]
    client = pages(inbox)
    assert "4 通" in client.get("/inbox").text
    assert "1 通" in client.get("/inbox?to=b@").text
    assert "0 通" in client.get("/inbox?to=nobody").text


def test_the_list_has_pages(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    for n in range(60):
        keep(inbox, f"m{n}", "a&b@example.com")
    client = pages(inbox)
    first = lxml.html.document_fromstring(client.get("/inbox?to=a%26b").text)
    assert len(first.xpath("//tbody/tr")) == 50
    assert not first.xpath("//a[@rel='prev']")
    second = lxml.html.document_fromstring(client.get(first.xpath("//a[@rel='next']/@href")[0]).text)
    assert [link.text for link in second.xpath("//tbody//a")] == [f"m{n}" for n in range(9, -1, -1)]
    assert not second.xpath("//a[@rel='next']")
    assert client.get("/inbox?page=0").status_code == 422
    assert "まだメールはありません" in pages(Inbox(tmp_path / "none")).get("/inbox").text


def test_a_mail_opens_in_a_box_that_runs_nothing(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    id = keep(inbox, f"件名 {NASTY}", html=f"<p>本文</p>{NASTY}")
    client = pages(inbox)
    page = client.get(f"/inbox/{id}")
    assert "<script" not in page.text
    frame = lxml.html.document_fromstring(page.text).xpath("//iframe")[0]
    assert "allow-scripts" not in frame.get("sandbox")
    assert "allow-same-origin" not in frame.get("sandbox")
    body = client.get(frame.get("src"))
    assert "<p>本文</p>" in body.text
    policy = body.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script-src" not in policy
    text = client.get(f"/inbox/{id}?view=text").text
    assert "の本文 &lt;script&gt;" in text
    assert "X-Mebae-Step" in client.get(f"/inbox/{id}?view=headers").text
    source = client.get(f"/inbox/{id}/source")
    assert source.headers["content-type"].startswith("text/plain")
    assert source.content == inbox.get(id).source
    assert client.get(f"/inbox/{id}?view=other").status_code == 422


@pytest.mark.parametrize(
    "broken",
    [b"", b"\xff\xfe\x00", b"Subject: =?utf-8?b?!!!?=\r\nTo: <<<>>,,;\r\nDate: never\r\n\r\nx", b"no headers at all",
     b"Content-Type: text/html; charset=klingon\r\n\r\n\xe3\x81\x82", b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n",
     b"Subject: \xe4\xbb\xb6\xe5\x90\x8d\r\n\r\nx", b"Message-ID: <\r\nFrom: [\r\nTo: \"\r\n\r\n"],
)  # fmt: skip
def test_malformed_mails_are_shown_as_far_as_they_can_be(tmp_path: Path, broken: bytes) -> None:
    inbox = Inbox(tmp_path)
    id = inbox.store("", ["taro@example.jp"], broken)
    client = pages(inbox)
    for path in ("/inbox", f"/inbox/{id}", f"/inbox/{id}?view=text", f"/inbox/{id}?view=headers", f"/inbox/{id}/html"):
        assert client.get(path).status_code == 200
