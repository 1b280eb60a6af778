"""What reaches a real mail server of a composed mail, read by parsers that did not write it (DELIVERY C1, C6)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from mebae.errors import BadInput
from mebae.mail.bulk import BulkContent
from mebae.mail.publishing import publish_layouts, publish_mails
from mebae.mail.return_addresses import read
from mebae.mail.wiring import mail_settings
from mebae.mailing import MailRules, Topic
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.tokens import Kind
from tests.mail.test_bulk import MAIL, NOON, Post, post
from tests.mail.test_dkim import PEM, SIGNER, verified
from tests.mail.test_message import raw_headers


def change(at: Post, **settings: Any) -> None:
    at.settings = replace(at.settings, **settings)
    at.mailer = at.made(at.transport)


@pytest.mark.parametrize("length", [40, 400])
async def test_a_signed_mail_carries_all_that_bulk_receivers_ask_for(sqlite_database: Database, length: int) -> None:
    home = "https://" + "a" * 30 + ".example/" + "m" * (length - 150) if length > 200 else "https://m.example"
    async with post(sqlite_database) as at:
        sender = replace(at.settings.sender, email="news@example.com", name="編集部")
        change(at, public_url=home, bounce_domain="return.example.com", signer=SIGNER, sender=sender)
        [lead] = at.leads(1)
        await at.send([lead])
        [(envelope_from, to, message)] = at.relay.mails
    row = at.rows()[lead]
    headers = raw_headers(message)
    https, mailto = headers["List-Unsubscribe"].split(", ")
    assert re.fullmatch(rf"<{re.escape(home)}/[!-;=?-~]+>", https)
    assert len(https) >= length - 110
    assert b"<" + https.strip("<>").encode() + b">" in message, "in one line, as it is"
    assert mailto.startswith("<mailto:")
    assert mailto.endswith("@return.example.com?subject=unsubscribe>")
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert headers["Message-ID"] == row.message_id
    assert headers["Date"] == "Wed, 01 Apr 2026 03:00:00 +0000"
    assert headers["From"].endswith("<news@example.com>")
    assert headers["To"].endswith(f"<{to}>")
    assert headers["Auto-Submitted"] == "auto-generated"
    assert headers["Precedence"] == "bulk"
    assert headers["Feedback-ID"].startswith("news:spring:broadcast:")
    assert not {name.lower() for name in headers} & {"bcc", "resent-bcc", "return-path"}
    assert verified(message)
    signed = re.sub(r"\s", "", re.search(r"h=([^;]+)", headers["DKIM-Signature"])[1]).split(":")  # type: ignore[index]
    assert {"list-unsubscribe", "list-unsubscribe-post", "from", "feedback-id"} <= set(signed)
    assert at.settings.tokens is not None
    back = read(at.settings.tokens, envelope_from, now=NOON)
    assert back is not None
    assert (back.kind, back.delivery) == (Kind.BOUNCE, row.id), "a bounce says which mail it is about"


async def test_without_a_bounce_domain_mail_comes_back_to_the_sender(sqlite_database: Database) -> None:
    async with post(sqlite_database) as at:
        await at.send(at.leads(1))
        assert at.relay.mails[0][0] == "news@mebae.example"


@pytest.mark.parametrize("name", ["佐藤\r\nBcc: all@aoba.example", "佐藤\n", "佐藤\x00", "佐藤\u2028"])
async def test_a_line_break_in_a_name_makes_no_header_and_no_mail(sqlite_database: Database, name: str) -> None:
    async with post(sqlite_database) as at:
        [bad], [good] = at.leads(1), at.leads(1)
        change_name(at, bad, name)
        assert (await at.send([bad, good])).counts == {"sent": 1, "refused": 1}
        assert at.rows()[bad].reason == "mail-invalid"
        assert [to for _, to, _ in at.relay.mails] == [f"lead{good}@aoba.example"]


def change_name(at: Post, lead: int, name: str) -> None:
    from mebae.store.tables import Lead

    at.change(Lead, lead, name=name)


@pytest.mark.parametrize(
    ("written", "status"),
    [
        ("佐藤 <sato@mebae.example>", "sent"),
        ("佐藤 <sato@mail.mebae.example>", "sent"),
        ("sato@gmail.example", "refused"),
        ("佐藤 <sato@mebae.example.evil.example>", "refused"),
    ],
)
async def test_a_mail_is_from_the_senders_own_organisation_or_not_sent(
    sqlite_database: Database, written: str, status: str
) -> None:
    """Another's domain is not signed by us, and its owner's DMARC policy would have the mail dropped."""
    async with post(sqlite_database) as at:
        text = MAIL.replace("topic: news", f"topic: news\nfrom: {written}")
        sqlite_database.write_now(publish_mails, "spring", {("from", ""): text}, NOON)
        [lead] = at.leads(1)
        assert (await at.send([lead], BulkContent("spring", "from"))).counts == {status: 1}
        assert at.rows()[lead].reason == (None if status == "sent" else "from-not-aligned")


def test_keys_and_domains_of_signatures_are_looked_at_when_the_worker_starts() -> None:
    good: dict[str, Any] = {"dkim_domain": "example.com", "dkim_selector": "spring", "dkim_key": PEM}
    assert mail_settings(Settings(**good)).signer is not None
    assert mail_settings(Settings()).signer is None
    for wrong in ({"dkim_selector": ""}, {"dkim_key": None}):
        with pytest.raises(BadInput, match="all three"):
            mail_settings(Settings(**(good | wrong)))
    with pytest.raises(BadInput, match="MEBAE_DKIM_KEY"):
        mail_settings(Settings(**(good | {"dkim_key": "no key"})))


HIDDEN = (
    "<html><body>{{ body }}"
    '{% if lead.title %}<div style="display:none">{{ footer }}</div>{% else %}<div>{{ footer }}</div>{% endif %}</body></html>'
)


async def test_a_mail_that_does_not_show_what_the_law_wants_is_not_sent(sqlite_database: Database) -> None:
    """Also where another lead's mail of the same text showed it."""
    async with post(sqlite_database) as at:
        sqlite_database.write_now(publish_layouts, {"default": HIDDEN}, NOON)
        seen, hidden, seen_too = at.leads(1)[0], at.leads(1, title="部長")[0], at.leads(1)[0]
        for _ in range(2):
            outcome = await at.send([seen, hidden, seen_too])
            assert outcome.counts == {"sent": 2, "refused": 1}
        row = at.rows()[hidden]
        assert (row.status, row.reason) == ("refused", "footer-missing")
        assert "postal address (html)" in (row.raw or "")
        assert {mail["To"].addresses[0].addr_spec for mail in at.mails} == {f"lead{n}@aoba.example" for n in (seen, seen_too)}
        change(at, public_url="")
        [nowhere] = at.leads(1)
        assert (await at.send([nowhere])).counts == {"refused": 1}, "no link to unsubscribe by"


async def test_a_paper_that_a_lead_asked_for_needs_no_footer(sqlite_database: Database) -> None:
    rules = MailRules(topics=(Topic("news", transactional=True),))
    async with post(sqlite_database, rules=rules) as at:
        sqlite_database.write_now(publish_layouts, {"default": "<html><body>{{ body }}</body></html>"}, NOON)
        assert (await at.send(at.leads(1))).counts == {"sent": 1}
