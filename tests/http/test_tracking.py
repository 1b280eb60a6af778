"""Opens and clicks over HTTP: where they lead, what is kept of them, and what becomes of it."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session, select

from mebae.erasing import erase_lead
from mebae.errors import DatabaseUnavailable
from mebae.mail.tracking import link_id
from mebae.resting import Setting
from mebae.store.database import Database
from mebae.store.links import store_links
from mebae.store.mail_actions import forget_clients
from mebae.store.tables import Lead, Link, MailAction
from mebae.timing import Calendar
from mebae.tokens import Kind
from tests.http.mail_site import CHROME, LINKS, SENT, TOKENS, MailSite

DAY = timedelta(days=1)


@pytest.fixture
def site(database: Database) -> MailSite:
    return MailSite(database)


@pytest.fixture
def sqlite_site(sqlite_database: Database) -> MailSite:
    return MailSite(sqlite_database)


def actions(site: MailSite) -> list[MailAction]:
    query = select(MailAction).order_by(MailAction.id)  # type: ignore[arg-type]
    return list(site.database.read_now(lambda session: session.exec(query).all()))


# Where it leads -------------------------------------------------------------------------------------------------------


def test_lead_who_clicks_reaches_the_page_and_the_click_is_an_event(site: MailSite) -> None:
    mail = site.send()
    answer = site.visit(mail.hrefs[1], after=60)
    assert (answer.status_code, answer.headers["location"], answer.content) == (302, LINKS[1], b"")
    assert "no-store" in answer.headers["cache-control"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert site.judge() == 1
    [event] = site.events(mail.lead)
    assert event.name == "Email Link Clicked"
    assert event.properties == {"mail": "thanks", "scenario": "trial", "url": LINKS[1], "verdict": "human"}
    assert event.occurred_at == SENT + timedelta(seconds=60)
    row = site.delivery(mail)
    assert row.clicked_at == row.opened_at == event.occurred_at
    assert site.judge() == 0


def test_an_address_in_japanese_goes_out_as_headers_can_hold_it(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send()
    assert sqlite_site.visit(mail.hrefs[2]).headers["location"] == "https://example.com/%E6%96%99%E9%87%91"


def test_lead_whose_mail_program_shows_images_has_opened_it(site: MailSite) -> None:
    mail = site.send()
    answer = site.visit(mail.links.pixel, after=30)
    assert (answer.status_code, answer.headers["content-type"], len(answer.content)) == (200, "image/gif", 43)
    assert "no-store" in answer.headers["cache-control"]
    site.judge()
    [event] = site.events(mail.lead)
    assert (event.name, event.properties) == (
        "Email Opened", {"mail": "thanks", "scenario": "trial", "verdict": "human"},
    )  # fmt: skip
    assert site.delivery(mail).opened_at == SENT + timedelta(seconds=30)


def test_who_double_clicks_has_clicked_once(site: MailSite) -> None:
    mail = site.send()
    for after in (60.0, 60.3):
        assert site.visit(mail.hrefs[0], after=after).status_code == 302
    site.judge()
    assert len(site.events(mail.lead)) == 1


def test_a_machines_click_is_kept_and_is_no_lead_activity(site: MailSite) -> None:
    mail = site.send()
    site.visit(mail.hrefs[0], agent="Mozilla/5.0 (compatible; Barracuda)")
    site.visit(mail.hrefs[0], method="HEAD", address="198.51.100.1")
    site.judge()
    assert [event.properties["verdict"] for event in site.events(mail.lead)] == ["scanner", "scanner"]
    row, lead = site.delivery(mail), site.lead(mail.lead)
    assert (row.clicked_at, row.opened_at, lead.active_at) == (None, None, None)
    assert [(action.agent, action.why) for action in actions(site)] == [("scanner", "agent"), ("browser", "method")]


def test_the_trap_answers_and_is_no_event(site: MailSite) -> None:
    mail = site.send()
    assert site.visit(mail.links.trap).status_code == 200
    site.judge()
    assert site.events(mail.lead) == []
    assert [action.why for action in actions(site)] == ["trap"]


def test_mail_to_sales_tells_nothing_of_the_lead(site: MailSite) -> None:
    mail = site.send(kind="sales")
    site.visit(mail.hrefs[0])
    assert site.judge() == 1
    assert site.events(mail.lead) == []


def test_an_act_is_judged_when_its_neighbours_are_known(site: MailSite) -> None:
    mail = site.send()
    site.visit(mail.hrefs[0], after=60)
    assert site.judge(after=69.9) == 0
    site.visit(mail.links.trap, after=66)
    assert site.judge(after=70.0) == 1
    assert [event.properties["verdict"] for event in site.events(mail.lead)] == ["scanner"]
    site.visit(mail.hrefs[1], after=600)  # the trap is judged by now, and remembered
    site.judge()
    assert [action.why for action in actions(site)] == ["tripped", "trap", "tripped"]


def test_two_workers_judge_everything_once(postgres_database: Database) -> None:
    site = MailSite(postgres_database)
    mail = site.send()
    for nth in range(3):
        site.visit(mail.hrefs[0], after=60 + 5 * nth)
    with postgres_database.engine.begin() as other:  # another worker is at the first one
        other.exec_driver_sql("SELECT id FROM mail_actions ORDER BY id LIMIT 1 FOR UPDATE")
        assert site.judge() == 2
    assert site.judge() == 1
    assert len(site.events(mail.lead)) == 3


def test_erased_lead_leaves_no_event(site: MailSite) -> None:
    mail = site.send()
    site.visit(mail.hrefs[0])

    def erase(session: Session) -> None:
        session.get_one(Lead, mail.lead).erased_at = SENT + DAY

    site.database.write_now(erase)
    assert site.judge() == 1
    assert site.events(mail.lead) == []


def test_a_day_later_nobody_knows_which_visitor_it_was(site: MailSite) -> None:
    mail = site.send()
    site.visit(mail.hrefs[0])
    assert re.fullmatch("[0-9a-f]{24}", actions(site)[0].client)
    assert site.database.write_now(forget_clients, SENT + 2 * DAY, 100) == 0  # it is not judged yet
    site.judge()
    assert site.database.write_now(forget_clients, SENT + DAY, 100) == 0
    assert site.database.write_now(forget_clients, SENT + 2 * DAY, 100) == 1
    assert actions(site)[0].client == ""


def test_visitors_are_told_apart_and_hosts_of_one_ipv6_network_are_not(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send()
    for address, agent in (
        ("203.0.113.7", CHROME), ("203.0.113.7", CHROME + " Edg/131"), ("203.0.113.8", CHROME),
        ("2001:db8::1", CHROME), ("2001:db8::ffff", CHROME), ("2001:db8:0:1::1", CHROME),
    ):  # fmt: skip
        sqlite_site.visit(mail.links.pixel, address=address, agent=agent)
    one, two, three, four, five, six = (action.client for action in actions(sqlite_site))
    assert len({one, two, three, four, six}) == 5
    assert four == five


# What it does not do --------------------------------------------------------------------------------------------------


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_an_altered_token_is_none(sqlite_site: MailSite, data: st.DataObject) -> None:
    mail = sqlite_site.first or sqlite_site.send()
    links = mail.links
    url = data.draw(st.sampled_from([mail.hrefs[0], links.trap, links.unsubscribe, links.preferences, links.view]))
    path, _, token = urlsplit(url).path.rpartition("/")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at, bit = data.draw(st.integers(0, len(token) - 1)), data.draw(st.integers(0, 5))
    changed = token[:at] + alphabet[alphabet.index(token[at]) ^ (1 << bit)] + token[at + 1 :]
    answer = sqlite_site.visit(f"http://mail.example{path}/{changed}")
    assert answer.status_code == 404
    assert "location" not in answer.headers


@pytest.mark.parametrize("kind", list(Kind))
def test_a_token_of_another_kind_opens_nothing(sqlite_site: MailSite, kind: Kind) -> None:
    mail = sqlite_site.send()
    mine = {"/t/c/": Kind.CLICK, "/t/x/": Kind.TRAP, "/u/": Kind.UNSUBSCRIBE, "/p/": Kind.PREFERENCES, "/v/": Kind.VIEW}
    for path, its in mine.items():
        numbers = (mail.delivery, link_id(LINKS[0])) if kind is Kind.CLICK else (mail.delivery,)
        token = TOKENS.sign(kind, *numbers, now=SENT)
        status = sqlite_site.visit(f"http://mail.example{path}{token}").status_code
        assert (status == 404) == (kind is not its)
    assert {action.kind for action in actions(sqlite_site)} <= {"click", "trap"}


@pytest.mark.parametrize(
    "path",
    [
        "/t/c/https://evil.example/", "/t/c/aHR0cHM6Ly9ldmlsLmV4YW1wbGU", "/t/c/x?url=https://evil.example", "/t/c/" + "A" * 5000,
        "/t/c/%0d%0aSet-Cookie:%20a=b", "/t/c/%00", "/t/c/..%2f..%2fhealthz", "/t/c/%E6%96%99", "/t/x/x", "/u/x", "/p/x", "/v/x",
    ],
)  # fmt: skip
def test_forged_addresses_lead_nowhere(sqlite_site: MailSite, path: str) -> None:
    answer = sqlite_site.visit("http://mail.example" + path)
    assert answer.status_code == 404
    assert "location" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert "evil" not in answer.text


def test_what_is_written_behind_a_good_token_changes_nothing(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send()
    answer = sqlite_site.visit(mail.hrefs[0] + "?url=https://evil.example/&next=//evil.example")
    assert answer.headers["location"] == LINKS[0]


def test_a_signed_link_that_was_never_stored_leads_nowhere(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send()
    assert sqlite_site.visit(mail.links.link("https://example.com/never-stored")).status_code == 404


def test_a_link_of_an_erased_lead_leads_nowhere_at_once(sqlite_site: MailSite) -> None:
    """It held what the lead is called: the server does not know it by heart, whoever clicked it before."""
    site = sqlite_site
    mail = site.send()
    store = {5: "https://example.com/form?email=sato@aoba.example"}
    site.database.write_now(store_links, store, {5: mail.delivery})
    click = f"http://mail.example/t/c/{TOKENS.sign(Kind.CLICK, mail.delivery, 5, now=SENT)}"
    assert site.visit(click).headers["location"] == store[5]
    site.visit(mail.hrefs[0])  # the server learns all that it may know by heart
    site.database.write_now(erase_lead, mail.lead, SENT, Setting("Asia/Tokyo", Calendar()))
    assert site.visit(click).status_code == 404
    assert site.visit(mail.hrefs[0]).status_code == 302


def test_a_stored_target_that_is_no_web_address_is_not_gone_to(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send()
    sqlite_site.database.write_now(lambda session: session.merge(Link(id=5, url="javascript:alert(1)")))
    token = TOKENS.sign(Kind.CLICK, mail.delivery, 5, now=SENT)
    assert sqlite_site.visit(f"http://mail.example/t/c/{token}").status_code == 404


def test_a_bad_image_address_gives_the_dot_and_is_not_kept(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send()
    for url in (
        mail.links.pixel.replace(".gif", "x.gif"),
        "http://mail.example/t/o/x.gif",
        mail.links.pixel[:-9] + ".gif",
    ):
        answer = sqlite_site.visit(url)
        assert (answer.status_code, len(answer.content)) == (200, 43)
    assert actions(sqlite_site) == []


def test_no_method_but_get_and_head_is_sent_on(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send()
    assert sqlite_site.visit(mail.hrefs[0], method="HEAD").status_code == 302
    for method in ("POST", "OPTIONS", "PUT"):
        answer = sqlite_site.visit(mail.hrefs[0], method=method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert [action.method for action in actions(sqlite_site)] == ["HEAD", "POST", "OPTIONS", "PUT"]


def test_links_of_a_year_ago_still_lead_there(sqlite_site: MailSite) -> None:
    mail = sqlite_site.send()
    year = 366 * 86_400.0 - 1
    assert sqlite_site.visit(mail.hrefs[0], after=year).status_code == 302
    assert sqlite_site.visit(mail.links.unsubscribe, after=year).status_code == 200
    assert sqlite_site.visit(mail.links.unsubscribe, after=year, method="POST").status_code == 200
    assert sqlite_site.lead(mail.lead).opted_out_at is not None


# The database away ----------------------------------------------------------------------------------------------------


def test_a_click_reaches_its_target_while_the_database_is_away_and_is_kept_afterwards(
    sqlite_site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = sqlite_site
    mail = site.send()
    site.visit(mail.hrefs[0])  # the server knows this link by now, and learns the others
    site.visit(mail.hrefs[1])

    async def away(*_: object, **__: object) -> object:
        raise DatabaseUnavailable

    async def meanwhile() -> None:
        transport = httpx.ASGITransport(site.app, client=("203.0.113.9", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://mail.example") as client:
            with monkeypatch.context() as broken:
                broken.setattr(site.database, "write", away)
                broken.setattr(site.database, "read", away)
                answer = await client.get(site.path(mail.hrefs[0]))
                assert (answer.status_code, answer.headers["location"]) == (302, LINKS[0])
                assert (await client.get(site.path(mail.links.pixel))).status_code == 200
                unknown = await client.get(site.path(mail.links.link("https://example.com/new")))
                assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "5")
                for page in (mail.links.unsubscribe, mail.links.preferences, mail.links.view):
                    assert (await client.get(site.path(page))).status_code == 503
                answer = await client.post(site.path(mail.links.unsubscribe), data={"List-Unsubscribe": "One-Click"})
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            await site.side.aclose()

    before = len(actions(site))
    asyncio.run(meanwhile())
    assert len(actions(site)) == before + 2
