"""The addresses in a mail that lead to us, and what is stored for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event
from sqlmodel import Session, select

from mebae.mail import return_addresses
from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import Sender
from mebae.mail.return_addresses import ReturnAddress
from mebae.mail.tracking import MailLinks, is_trackable, link_id, links_of, location
from mebae.store.database import Database
from mebae.store.links import store_links, target
from mebae.store.tables import Link
from mebae.tokens import Kind, Tokens

NOW = datetime(2026, 4, 1, 9, tzinfo=UTC)
TOKENS = Tokens.read_keys(["20260101:a-secret-of-the-tests"])
SETTINGS = MailSettings(
    Sender("点検ノート", "hello@mebae.example"), "sales@mebae.example",
    tokens=TOKENS, public_url="https://mail.mebae.example", bounce_domain="back.mebae.example",
)  # fmt: skip


def mine(settings: MailSettings = SETTINGS, delivery: int = 7) -> MailLinks:
    found = links_of(settings, delivery, NOW)
    assert found is not None
    return found


def token_of(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2].removesuffix(".gif")


def test_every_address_holds_a_token_of_its_own_kind_for_this_delivery() -> None:
    links = mine()
    tracked = links.link("https://example.com/paper?a=1")
    kinds = {
        tracked: (Kind.CLICK, (7, link_id("https://example.com/paper?a=1"))), links.pixel: (Kind.OPEN, (7,)),
        links.trap: (Kind.TRAP, (7,)), links.unsubscribe: (Kind.UNSUBSCRIBE, (7,)),
        links.preferences: (Kind.PREFERENCES, (7,)), links.view: (Kind.VIEW, (7,)),
    }  # fmt: skip
    for url, (kind, numbers) in kinds.items():
        assert url.startswith("https://mail.mebae.example/")
        assert TOKENS.read(kind, token_of(url), now=NOW) == numbers
        assert all(TOKENS.read(other, token_of(url), now=NOW) is None for other in Kind if other != kind)
    assert "example.com" not in tracked


@pytest.mark.parametrize(
    "url",
    [
        "mailto:a@b.example", "tel:0312345678", "#top", "/pricing", "//example.com/a", "javascript:alert(1)",
        "data:text/html,x", "ftp://example.com/", "https://name:secret@example.com/", "https://name@example.com/",
        "https://example.com/\r\nSet-Cookie: a=b", "https://example.com/a b", "https://example.com\\@evil.example/",
        "https:///nowhere", "https://example.com:port/", "https://example.com/\ud800", "https://a..b例.example/",
        "https://example.com/" + "a" * 8000, "https://mail.mebae.example/u/token", "https://mail.mebae.example/p/token",
    ],
)  # fmt: skip
def test_what_no_redirect_may_lead_to_stays_as_it_is(url: str) -> None:
    links = mine()
    assert links.link(url) == url
    assert links.links == {}


def test_pages_of_a_site_that_shares_our_host_are_tracked() -> None:
    links = mine()
    assert links.link("https://mail.mebae.example/pricing") != "https://mail.mebae.example/pricing"
    assert links.link("https://mail.mebae.example.evil.example/u/x") != "https://mail.mebae.example.evil.example/u/x"


def test_without_a_key_or_a_public_address_there_is_nothing_to_track() -> None:
    assert links_of(replace(SETTINGS, tokens=None), 7, NOW) is None
    assert links_of(replace(SETTINGS, public_url=""), 7, NOW) is None


def test_the_header_offers_a_page_and_a_mail() -> None:
    page, mail = mine().list_unsubscribe
    assert page == mine().unsubscribe
    address, _, query = mail.removeprefix("mailto:").partition("?")
    assert (address.rpartition("@")[2], query) == ("back.mebae.example", "subject=unsubscribe")
    assert return_addresses.read(TOKENS, unquote(address), now=NOW) == ReturnAddress(Kind.UNSUBSCRIBE, 7)


def test_without_a_bounce_domain_the_mail_goes_to_the_sender_with_the_token_in_its_subject() -> None:
    _, mail = mine(replace(SETTINGS, bounce_domain="")).list_unsubscribe
    to, _, subject = mail.partition("?subject=")
    assert to == "mailto:hello@mebae.example"
    assert return_addresses.read(TOKENS, unquote(subject), now=NOW) == ReturnAddress(Kind.UNSUBSCRIBE, 7)


def test_links_of_mails_of_a_year_ago_are_read_under_the_keys_of_today() -> None:
    token = token_of(mine().link("https://example.com/"))
    later = Tokens.read_keys(["20260101:a-secret-of-the-tests", "20260402:a-newer-secret-of-the-tests"])
    assert later.read(Kind.CLICK, token, now=NOW + timedelta(days=365)) == (7, link_id("https://example.com/"))


@given(st.text(max_size=60).map(lambda rest: "https://example.com/" + rest))
def test_what_is_tracked_makes_a_header_that_holds_nothing_else(url: str) -> None:
    if is_trackable(url):
        header = location(url)
        assert header.isascii()
        assert header.isprintable()
        assert " " not in header
        assert header.startswith("https://example.com/")


def test_links_are_stored_once_and_cost_nothing_the_second_time(database: Database) -> None:
    links = {link_id(url): url for url in ("https://example.com/b", "https://example.com/a?q=東京")}
    database.write_now(store_links, links)
    database.write_now(store_links, links)

    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
    database.write_now(store_links, links)
    assert not any("links" in statement for statement in statements)
    with pytest.raises(RuntimeError):
        database.write_now(_failing, {link_id("https://example.com/c"): "https://example.com/c"})
    database.write_now(store_links, {link_id("https://example.com/c"): "https://example.com/c"})
    assert {link.url for link in database.read_now(lambda session: session.exec(select(Link)).all())} == {
        "https://example.com/a?q=東京", "https://example.com/b", "https://example.com/c",
    }  # fmt: skip
    assert database.read_now(target, link_id("https://example.com/b")) == "https://example.com/b"
    assert database.read_now(target, 1) is None


def with_words(delivery: int, written: str = "", **values: object) -> MailLinks:
    found = links_of(SETTINGS, delivery, NOW, values, written)
    assert found is not None
    return found


YUKI = {
    "id": 7, "name": "霧島 有希", "email": "yuki@himawari.example", "user_id": "u-77", "title": "部長", "language": "ja",
    "phone": "03-5555-0142", "score": 10, "tags": ["hot"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://example.com/form?email=yuki%40himawari.example", True),
        ("https://example.com/form?email=Yuki@Himawari.example", True),
        ("https://example.com/%E9%9C%A7%E5%B3%B6+%E6%9C%89%E5%B8%8C", True),
        ("https://example.com/of/u-77", True),
        ("https://example.com/call/03-5555-0142", True),
        ("https://example.com/seats/A-12", True),
        ("https://himawari.example/", True),
        ("https://example.com/ja/部長?score=10&id=7#hot", False),
        ("https://example.com/paper", False),
    ],
)
def test_a_link_that_holds_a_leads_own_values_is_that_mails_own(url: str, own: bool) -> None:
    """It goes with its lead, so nobody else's mail may lead there."""
    values = {"lead": YUKI, "company": {"name": "ひまわり工業", "domain": "himawari.example"}, "entry": {"seat": "A-12"}}
    first, second = with_words(7, **values), with_words(8, **values)
    for one in (first, second):
        one.link(url)
    assert (first.own == set(first.links), first.links.keys() != second.links.keys()) == (own, own)
    assert list(first.links.values()) == [url]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/?e=yuki+news@aoba.example", "https://example.com/?e=yuki%2Bnews%40aoba.example",
        "https://example.com/?then=https%3A%2F%2Fform.example%2F%3Fe%3Dyuki%252Bnews%2540aoba.example",
        "https://example.com/?n=Yuki+Sato", "https://example.com/?n=Yuki%20Sato",
    ],
)  # fmt: skip
def test_a_plus_in_an_address_and_addresses_within_addresses_are_seen(url: str) -> None:
    mine = with_words(7, lead={"email": "yuki+news@aoba.example", "given": "Yuki Sato"})
    mine.link(url)
    assert mine.own == set(mine.links) != set()


def test_a_link_that_its_author_wrote_out_is_nobodys_own() -> None:
    """Also where it happens to hold what a lead is called: it says nothing of the lead."""
    mine = with_words(7, "read [this](https://example.com/papers/whitepaper)", entry={"content": "whitepaper"})
    mine.link("https://example.com/papers/whitepaper")
    assert mine.own == set()


def test_a_mails_own_links_are_stored_with_its_number(database: Database) -> None:
    mine = with_words(7, lead=YUKI)
    mine.link("https://example.com/form?email=yuki@himawari.example")
    mine.link("https://example.com/paper")
    database.write_now(store_links, mine.links, dict.fromkeys(mine.own, 7))
    found = database.read_now(lambda session: {link.url: link.delivery_id for link in session.exec(select(Link)).all()})
    assert found == {"https://example.com/form?email=yuki@himawari.example": 7, "https://example.com/paper": None}


def _failing(session: Session, links: dict[int, str]) -> None:
    store_links(session, links)
    session.flush()
    raise RuntimeError
