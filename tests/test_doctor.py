"""`mebae doctor` before the first real mail: what it finds good, what bad, and the cures; DNS from a server of the test's own."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mebae import examining
from mebae.checkup import Finding
from mebae.examining import (
    Resolver,
    examine_database,
    examine_domain,
    examine_mail_server,
    examine_public,
    examine_settings,
)
from mebae.mail.domain_records import look_at_domain, organisation
from mebae.programs.doctor import say
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.wiring import PLACEHOLDERS
from tests.house import Relay
from tests.http.test_app import app_of, serving
from tests.server_process import free_port

RSA = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ED25519 = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

GOOD = {
    ("aoba.example", "TXT"): ["google-site-verification=x", "v=spf1 include:relay.example ip4:192.0.2.1 ~all"],
    ("relay.example", "TXT"): ["v=spf1 ip4:198.51.100.0/24 -all"],
    ("_dmarc.aoba.example", "TXT"): ["v=DMARC1; p=none; rua=mailto:dmarc@aoba.example"],
}


def looked(records: dict[tuple[str, str], list[str]], **options: Any) -> dict[str, Finding]:
    return {
        one.what: one
        for one in look_at_domain(lambda name, kind: records.get((name, kind), []), **{"sender": "aoba.example", **options})
    }


# DNS -------------------------------------------------------------------------------------------------------------------


def test_a_domain_with_everything_published_is_good() -> None:
    found = looked(GOOD)
    assert {what: one.verdict for what, one in found.items()} == {
        "SPF": "good", "DKIM": "unsure", "DMARC": "good", "From aligned": "good",
    }  # fmt: skip
    assert "by SPF" in found["From aligned"].words


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "no SPF record"),
        (["v=spf1 -all", "v=spf1 ~all"], "2 SPF records"),
        (["v=spf1 +all"], "lets everybody send"),
        (["v=spf1 " + " ".join(f"include:x{n}.example" for n in range(11)) + " -all"], "needs 11 look-ups"),
    ],
)
def test_a_broken_spf_record_is_bad_and_says_how_to_mend_it(records: list[str], words: str) -> None:
    found = looked(GOOD | {("aoba.example", "TXT"): records})["SPF"]
    assert found.verdict == "bad"
    assert words in found.words
    assert found.cure


def test_spf_records_that_include_each_other_end() -> None:
    records = {("aoba.example", "TXT"): ["v=spf1 include:b.example -all"], ("b.example", "TXT"): ["v=spf1 include:aoba.example -all"]}
    assert looked(GOOD | records)["SPF"].verdict == "good"


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_the_published_key_must_be_that_of_the_signatures(key: str) -> None:
    options = {"dkim": "aoba.example", "selector": "m1", "key": key}
    missing = looked(GOOD, **options)["DKIM"]
    assert missing.verdict == "bad"
    record = missing.cure.split('"')[1]
    assert record.startswith("v=DKIM1; k=")

    at = ("m1._domainkey.aoba.example", "TXT")
    assert looked(GOOD | {at: [record]}, **options)["DKIM"].verdict == "good"
    other = looked(GOOD | {at: [record[:-8] + "AAAAAAA="]}, **options)["DKIM"]
    assert "another one" in other.words
    assert "withdrawn" in looked(GOOD | {at: ["v=DKIM1; p="]}, **options)["DKIM"].words
    assert looked(GOOD, **options | {"key": "not a key"})["DKIM"].words == "MEBAE_DKIM_KEY cannot be read"


def test_return_addresses_of_another_firm_are_not_aligned() -> None:
    found = looked(GOOD | {("bounces.other.example", "TXT"): ["v=spf1 -all"]}, bounces="bounces.other.example")
    assert found["From aligned"].verdict == "bad"
    assert found["MX"].verdict == "bad"
    assert looked(GOOD | {("m.aoba.example", "TXT"): ["v=spf1 -all"]}, bounces="m.aoba.example")["From aligned"].verdict == "good"


def test_strict_alignment_takes_no_domain_below() -> None:
    strict = {("_dmarc.aoba.example", "TXT"): ["v=DMARC1; p=reject; aspf=s"], ("m.aoba.example", "TXT"): ["v=spf1 -all"]}
    assert looked(GOOD | strict, bounces="m.aoba.example")["From aligned"].verdict == "bad"


def test_the_policy_of_the_whole_firm_counts_for_a_domain_below() -> None:
    records = {("_dmarc.aoba.co.jp", "TXT"): ["v=DMARC1; p=quarantine"], ("news.aoba.co.jp", "TXT"): ["v=spf1 -all"]}
    assert looked(records, sender="news.aoba.co.jp")["DMARC"].verdict == "good"


def test_dns_that_does_not_answer_is_no_verdict() -> None:
    found = look_at_domain(lambda _name, _kind: None, sender="aoba.example")
    assert {one.verdict for one in found} == {"unsure"}


@given(st.text(max_size=60))
def test_no_record_makes_the_doctor_fall_ill(record: str) -> None:
    for begins in ("v=spf1 ", "v=DMARC1; ", "v=DKIM1; p=", ""):
        look_at_domain(lambda _name, _kind, text=begins + record: [text], sender="a.example", dkim="a.example", selector="s", key=ED25519)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("domain", "home"),
    [("aoba.example", "aoba.example"), ("a.b.aoba.co.jp", "aoba.co.jp"), ("news.example.com", "example.com"), ("x.go.jp", "x.go.jp")],
)
def test_the_domain_of_an_organisation(domain: str, home: str) -> None:
    assert organisation(domain) == home


class Zone(asyncio.DatagramProtocol):
    """A DNS server with a few records."""

    def __init__(self, records: dict[tuple[str, str], list[str]]) -> None:
        self.records = records

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        asked = dns.message.from_wire(data)
        [question] = asked.question
        answer = dns.message.make_response(asked)
        answer.flags |= dns.flags.AA
        kind = dns.rdatatype.to_text(question.rdtype)
        texts = self.records.get((question.name.to_text(omit_final_dot=True), kind), [])
        if kind == "TXT":  # in pieces, as long records come
            texts = [" ".join(f'"{text[at : at + 40]}"' for at in range(0, len(text), 40)) for text in texts]
        if texts:
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *texts))
        self.transport.sendto(answer.to_wire(), addr)


async def test_records_are_looked_up_where_the_setting_says() -> None:
    loop = asyncio.get_running_loop()
    records = GOOD | {("b.aoba.example", "MX"): ["10 mx.aoba.example."], ("b.aoba.example", "TXT"): ["v=spf1 mx -all"]}
    transport, _ = await loop.create_datagram_endpoint(lambda: Zone(records), local_addr=("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        settings = Settings(sender_email="hello@aoba.example", bounce_domain="b.aoba.example", dns_server=f"127.0.0.1:{port}")
        found = {one.what: one for one in await asyncio.to_thread(examine_domain, settings)}
        lookup = Resolver(f"127.0.0.1:{port}")
        assert await asyncio.to_thread(lookup, "nobody.example", "TXT") == []
    finally:
        transport.close()
    assert {what: one.verdict for what, one in found.items()} == {
        "SPF": "good", "DKIM": "unsure", "DMARC": "good", "From aligned": "good", "MX": "good",
    }  # fmt: skip
    assert "mx.aoba.example" in found["MX"].words


# The rest --------------------------------------------------------------------------------------------------------------


def test_settings_that_a_lawful_mail_needs() -> None:
    empty = {one.what: one.verdict for one in examine_settings(Settings())}
    assert set(empty.values()) == {"bad"}
    placeholders = Settings(sender_postal=PLACEHOLDERS["MEBAE_SENDER_POSTAL"], sender_contact=PLACEHOLDERS["MEBAE_SENDER_CONTACT"])
    assert {one.what: one.verdict for one in examine_settings(placeholders)}["postal address"] == "bad"
    ready = Settings.model_validate({
        "sender_email": "hello@aoba-seiki.co.jp", "sender_postal": "東京都千代田区丸の内1-1-1", "sender_contact": "03-5555-0100",
        "token_keys": "20260101:a-secret-of-sixteen-or-more", "public_url": "https://mail.aoba-seiki.co.jp",
    })  # fmt: skip
    assert {one.verdict for one in examine_settings(ready)} == {"good"}


async def test_a_mail_server_that_answers_and_one_that_does_not() -> None:
    relay = Relay()
    port = await relay.start()
    there = await examine_mail_server(Settings(smtp_port=port))
    await relay.stop()
    away = await examine_mail_server(Settings(smtp_port=port))

    assert {one.verdict for one in there} == {"good"}
    assert relay.mails == []
    assert [(one.what, one.verdict) for one in away] == [("SMTP", "bad")]
    assert "MEBAE_SMTP_HOST" in away[0].cure


def test_both_databases_are_found_well(request: pytest.FixtureRequest) -> None:
    for url in (request.getfixturevalue("sqlite_url"), request.getfixturevalue("postgres_url")):
        found = examine_database(Settings.model_validate({"DATABASE_URL": url}))
        assert {one.verdict for one in found} == {"good"}, found


def test_a_database_without_tables_and_one_that_is_away(empty_sqlite_url: str) -> None:
    [new] = examine_database(Settings.model_validate({"DATABASE_URL": empty_sqlite_url}))
    assert (new.verdict, "worker.py" in new.cure) == ("unsure", True)
    [away] = examine_database(Settings.model_validate({"DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/x"}))
    assert away.verdict == "bad"


def test_links_that_reach_the_server_and_links_that_do_not(sqlite_database: Database) -> None:
    with serving(app_of(sqlite_database)) as url:
        there = asyncio.run(examine_public(Settings(public_url=url)))
    away = asyncio.run(examine_public(Settings(public_url=url)))
    assert [(one.what, one.verdict) for one in there] == [("links", "good"), ("clock", "good")]
    assert [(one.what, one.verdict) for one in away] == [("links", "bad")]


def test_clocks_that_are_apart_are_told() -> None:
    now = datetime(2026, 11, 27, tzinfo=UTC)
    assert examining._clock("the database's", now + timedelta(seconds=1), now, now).verdict == "good"
    wrong = examining._clock("the database's", now - timedelta(days=3), now, now)
    assert (wrong.verdict, "259200 s apart" in wrong.words) == ("bad", True)


def test_the_list_shows_what_is_bad_with_its_cure() -> None:
    out = io.StringIO()
    say(examine_settings(Settings()), Console(file=out, width=160))
    assert "✗ postal address: missing in every footer" in out.getvalue()
    assert "→ set MEBAE_SENDER_POSTAL" in out.getvalue()
    assert "things are to be put right" in out.getvalue()
