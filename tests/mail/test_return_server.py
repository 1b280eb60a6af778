"""What comes back over a real SMTP exchange: taken once, durable before the answer, nothing relayed, nothing lost."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from mebae.errors import BadInput, DatabaseUnavailable
from mebae.mail import return_server
from mebae.mail.incoming import Incoming, IncomingRules, Taken
from mebae.mail.return_addresses import bounce_address, unsubscribe_address
from mebae.mail.return_server import LINES, ReturnServer
from mebae.mail.wiring import return_server_of
from mebae.settings import Settings
from mebae.store.database import Database
from tests.mail.mailbox import Mailbox
from tests.mail.report_cases import DOMAIN, NOW, TO, TOKENS, load
from tests.server_process import ServerProcess, free_port


class Post:
    """A mail server that reports to us."""

    def __init__(self, server: ReturnServer, box: Mailbox) -> None:
        self.server, self.box = server, box

    @contextmanager
    def line(self) -> Iterator[smtplib.SMTP]:
        with smtplib.SMTP("127.0.0.1", self.server.port, local_hostname="mx.aoba.example", timeout=30) as client:
            yield client

    def give(self, raw: bytes, to: str, *, sender: str = "") -> tuple[int, str]:
        """Hands one mail over as mail servers do; the answer that decides."""
        with self.line() as client:
            client.ehlo()
            client.mail(sender, [f"size={len(raw)}"])
            code, answer = client.rcpt(to)
            if code == 250:
                code, answer = client.data(raw if b"\r\n" in raw else raw.replace(b"\n", b"\r\n"))
            return code, answer.decode()

    def report(self, name: str, delivery: int, **more: str) -> tuple[int, str]:
        """A mail of the corpus to the address that it is for."""
        raw = load(name, delivery=delivery, message_id=self.box.delivery(delivery).message_id, crlf=True, **more)
        return self.give(raw, str(message_from_bytes(raw)["To"]).strip("<>"))


@pytest.fixture
def post(database: Database) -> Iterator[Post]:
    yield from _post(database)


@pytest.fixture
def post_on_sqlite(sqlite_database: Database) -> Iterator[Post]:
    yield from _post(sqlite_database)


def _post(database: Database) -> Iterator[Post]:
    box = Mailbox(database)
    server = ReturnServer(box.incoming, TOKENS, DOMAIN, lambda: NOW)
    with server:
        yield Post(server, box)


def test_bounce_over_smtp_suppresses_the_lead_before_it_is_answered(post: Post) -> None:
    lead = post.box.lead()
    delivery = post.box.sent(lead)

    assert post.report("postfix-mailbox-unknown", delivery) == (250, "2.0.0 Taken")

    assert post.box.suppressed() == "hard-bounce"
    assert [name for name, _ in post.box.events(lead)] == ["Email Bounced"]


def test_server_that_heard_no_answer_comes_again_and_it_counts_once(post: Post) -> None:
    lead = post.box.lead()
    delivery = post.box.sent(lead)

    assert [post.report("postfix-expired", delivery)[0] for _ in range(3)] == [250] * 3

    assert post.box.the_lead(lead).soft_bounces == 1
    assert len(post.box.events(lead)) == 1


def test_complaint_and_unsubscribe_over_smtp(post: Post) -> None:
    sato, mori = post.box.lead(), post.box.lead("mori@tsubaki.example")

    assert post.report("arf-abuse", post.box.sent(sato))[0] == 250
    assert post.report("unsubscribe-by-mail", post.box.sent(mori))[0] == 250

    assert (post.box.suppressed(), post.box.suppressed("mori@tsubaki.example")) == ("complaint", "unsubscribed")


def test_return_address_is_taken_in_any_case_of_its_letters(post_on_sqlite: Post) -> None:
    box = post_on_sqlite.box
    delivery = box.sent(box.lead())
    address = bounce_address(TOKENS, delivery, DOMAIN, now=NOW)

    assert post_on_sqlite.give(load("qmail-no-mailbox", delivery=delivery), address.upper())[0] == 250
    assert box.suppressed() == "hard-bounce"


@pytest.mark.parametrize(
    ("to", "answer"),
    [
        ("sato@aoba.example", "5.7.1 We do not relay"),
        ("sato%aoba.example@elsewhere.example", "5.7.1 We do not relay"),
        (f"sato%aoba.example@{DOMAIN}", "5.1.1 There is no such address"),
        (f"hello@{DOMAIN}", "5.1.1 There is no such address"),
        (f"bounce+{'a' * 28}@{DOMAIN}", "5.1.1 There is no such address"),
        (f"bounce@{DOMAIN}", "5.1.1 There is no such address"),
    ],
)
def test_nothing_is_relayed_and_only_our_addresses_are_taken(post_on_sqlite: Post, to: str, answer: str) -> None:
    assert post_on_sqlite.give(load("postfix-mailbox-unknown"), to) == (550, answer)
    assert post_on_sqlite.box.reports() == []


def test_forged_bounce_does_nothing(post: Post) -> None:
    lead = post.box.lead()
    delivery = post.box.sent(lead)
    token = bounce_address(TOKENS, delivery, DOMAIN, now=NOW)
    altered = token[:10] + ("b" if token[10] != "b" else "c") + token[11:]

    assert post.give(load("forged-names-only-the-address"), altered)[0] == 550
    assert post.give(load("forged-names-only-the-address"), f"bounces@{DOMAIN}")[0] == 250
    assert post.give(load("arf-forged"), f"complaints@{DOMAIN}")[0] == 250

    assert (post.box.suppressions(), post.box.events(lead), post.box.delivery(delivery).bounced_at) == (0, [], None)
    assert [report.delivery_id for report in post.box.reports()] == [None, None]


@pytest.mark.parametrize("local", ["complaints", "Complaints+hotmail", "abuse", "postmaster", "bounces"])
def test_fixed_addresses_take_reports_and_turn_other_mail_away(post_on_sqlite: Post, local: str) -> None:
    box, address = post_on_sqlite.box, f"{local}@{DOMAIN}"
    delivery = box.sent(box.lead())

    assert post_on_sqlite.give(load("jmrp-complaint", delivery=delivery), address)[0] == 250
    assert box.suppressed() == "complaint"

    answer = (550, "5.7.1 Only reports about our mails are taken here")
    assert post_on_sqlite.give(b"From: a@b.example\nSubject: Hello\n\nDear postmaster", address) == answer
    assert len(box.reports()) == 1


def test_report_for_several_of_our_addresses_counts_for_each(post_on_sqlite: Post) -> None:
    """A person unsubscribes from two mails with one."""
    box = post_on_sqlite.box
    deliveries = [box.sent(box.lead()), box.sent(box.lead("k.sato@aoba.example"))]
    addresses = [unsubscribe_address(TOKENS, delivery, DOMAIN, now=NOW) for delivery in deliveries]

    with post_on_sqlite.line() as client:
        refused = client.sendmail(
            "sato@aoba.example", addresses, b"Message-ID: <one@aoba.example>\r\nSubject: unsubscribe\r\n\r\n"
        )

    assert refused == {}
    assert (box.suppressed(), box.suppressed("k.sato@aoba.example")) == ("unsubscribed", "unsubscribed")


def test_line_longer_than_the_rfc_allows_is_taken(post_on_sqlite: Post) -> None:
    box = post_on_sqlite.box
    delivery = box.sent(box.lead())
    raw = load("qmail-no-mailbox", delivery=delivery, crlf=True).replace(b"(#5.1.1)", b"(#5.1.1)" + b" sorry" * 2_000)

    assert post_on_sqlite.give(raw, bounce_address(TOKENS, delivery, DOMAIN, now=NOW))[0] == 250
    assert box.suppressed() == "hard-bounce"


def test_mail_that_is_too_large_is_refused(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(return_server, "LARGEST", 100_000)
    for post in _post(sqlite_database):
        address = bounce_address(TOKENS, post.box.sent(post.box.lead()), DOMAIN, now=NOW)
        with post.line() as client:
            client.ehlo()
            assert client.esmtp_features["size"] == "100000"
            assert client.mail("", ["size=100001"])[0] == 552, "who says so is told at once"
            client.rset()
            client.mail("")
            client.rcpt(address)
            assert client.data(b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 2_000)[0] == 552, (
                "who does not, later"
            )
        assert post.box.reports() == []


def test_connections_beyond_the_limit_are_told_to_come_again(post_on_sqlite: Post) -> None:
    port = post_on_sqlite.server.port
    lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(LINES)]
    try:
        for line in lines:
            line.settimeout(30)
            assert line.recv(100).startswith(b"220 ")
        with socket.create_connection(("127.0.0.1", port)) as one_more:
            one_more.settimeout(30)
            assert one_more.recv(100).startswith(b"421 4.3.2")
    finally:
        for line in lines:
            line.close()


def test_flood_of_bounces_is_taken_whole(post: Post) -> None:
    """A bad list comes back: many reports on many connections, each of them twice."""
    deliveries = post.box.people(50)
    raws = [
        load("postfix-mailbox-unknown", delivery=delivery).replace(b"20261127010203", b"%d" % delivery)
        for delivery in deliveries
    ]

    def give(share: list[bytes]) -> list[int]:
        with post.line() as client:
            client.ehlo()
            answers = []
            for raw in share:
                client.mail("")
                client.rcpt(str(message_from_bytes(raw)["To"]))
                answers.append(client.data(raw.replace(b"\n", b"\r\n"))[0])
            return answers

    with ThreadPoolExecutor(8) as threads:
        answers = [code for codes in threads.map(give, [raws[at::8] for at in range(8)] * 2) for code in codes]

    assert answers == [250] * 100
    assert post.box.suppressions() == len(post.box.reports()) == 50


def test_while_the_database_is_away_the_server_asks_to_come_again_and_nothing_is_lost(postgres_url: str) -> None:
    """PostgreSQL lets nobody in for a while: 451; the sender comes again, and then it is taken."""
    database = Database(postgres_url)
    box = Mailbox(database)
    delivery = box.sent(box.lead())
    name = postgres_url.rpartition("/")[2].partition("?")[0]
    admin = create_engine(
        postgres_url.rpartition("/")[0].replace("postgresql://", "postgresql+psycopg://", 1) + "/postgres",
        isolation_level="AUTOCOMMIT",
    )

    def connections(allowed: bool) -> None:
        with admin.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {allowed}'))
            if not allowed:
                connection.execute(
                    text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
                )

    try:
        with ReturnServer(box.incoming, TOKENS, DOMAIN, lambda: NOW) as server:
            post = Post(server, box)
            raw, address = (
                load("postfix-mailbox-unknown", delivery=delivery),
                bounce_address(TOKENS, delivery, DOMAIN, now=NOW),
            )
            connections(False)
            try:
                assert post.give(raw, address) == (451, "4.3.0 The database does not answer; come again later")
            finally:
                connections(True)
            assert post.give(raw, address)[0] == 250
            assert box.suppressed() == "hard-bounce"
    finally:
        admin.dispose()
        database.close()


class Broken(Incoming):
    """Fails at its first mail as only our own mistakes do."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.failures: list[Exception] = [KeyError("sato@aoba.example"), DatabaseUnavailable()]

    def take(self, raw: bytes, **more: Any) -> Taken:
        if self.failures:
            raise self.failures.pop(0)
        return super().take(raw, **more)


def test_mistake_of_ours_loses_no_report_and_shows_no_address(
    sqlite_database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    box = Mailbox(sqlite_database)
    delivery = box.sent(box.lead())
    broken = Broken(sqlite_database, IncomingRules(TOKENS), lambda: NOW)
    with ReturnServer(broken, TOKENS, DOMAIN, lambda: NOW) as server:
        answers = [Post(server, box).report("postfix-mailbox-unknown", delivery)[0] for _ in range(3)]

    assert answers == [451, 451, 250]
    printed = "".join(capsys.readouterr())
    assert "reports.failed" in printed
    assert TO not in printed


def test_port_without_a_domain_or_a_key_is_refused_with_the_cure(sqlite_database: Database) -> None:
    keys = "20260101:a-secret-of-the-tests"
    with pytest.raises(BadInput, match="MEBAE_TOKEN_KEYS"):
        return_server_of(Settings(bounce_port=2525, bounce_domain=DOMAIN), sqlite_database)
    with pytest.raises(BadInput, match="MEBAE_BOUNCE_DOMAIN"):
        return_server_of(Settings(bounce_port=2525, token_keys=keys), sqlite_database)
    assert return_server_of(Settings(bounce_domain=DOMAIN), sqlite_database) is None


def test_taken_port_is_told_with_the_cure(post_on_sqlite: Post) -> None:
    settings = Settings(
        bounce_port=post_on_sqlite.server.port, bounce_domain=DOMAIN, token_keys="20260101:a-secret-of-the-tests"
    )
    server = return_server_of(settings, post_on_sqlite.box.database)
    assert server is not None
    with pytest.raises(BadInput, match="set MEBAE_BOUNCE_PORT"):
        server.start()
    server.stop()


def test_the_server_program_takes_what_comes_back_beside_http(sqlite_database: Database, tmp_path: Path) -> None:
    box = Mailbox(sqlite_database)
    delivery = box.sent(box.lead())
    port = free_port()
    settings = {
        "MEBAE_BOUNCE_PORT": str(port),
        "MEBAE_BOUNCE_DOMAIN": DOMAIN,
        "MEBAE_TOKEN_KEYS": "20260101:a-secret-of-the-tests",
    }
    with ServerProcess(sqlite_database.url, tmp_path, **settings) as program:
        raw = load("postfix-mailbox-unknown", delivery=delivery, crlf=True)
        with smtplib.SMTP("127.0.0.1", port, local_hostname="mx.aoba.example", timeout=30) as client:
            assert client.sendmail("", [str(message_from_bytes(raw)["To"])], raw) == {}
        assert box.suppressed() == "hard-bounce"
        assert TO not in program.log()
