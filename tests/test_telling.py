"""What sales is told, by mail and webhook: told once, with one key, to configured hosts only; on both databases where it matters."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy

import pytest
from sqlmodel import Session, col, select

from mebae import handing, scoring_language
from mebae.authoring import days, visited
from mebae.clock import WorldClock
from mebae.handing import Decision, Why
from mebae.handover import Move
from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import Sender
from mebae.mail.sales import reason_lines, standing_words
from mebae.mail.sales_telling import brief, slack_message
from mebae.mail.transport import Receipt
from mebae.reports.lead import report
from mebae.reports.lead_told import LeadReport
from mebae.sales import Person, SalesRules
from mebae.sales_channels import SalesMail, SlackWebhook, WebhookRefused, WebhookUnavailable, allowed
from mebae.store.database import Database, lock_lead
from mebae.store.standing import standing
from mebae.store.tables import Lead, Telling
from mebae.telling import Teller
from mebae.timing import Calendar
from mebae.tokens import Kind, Tokens
from tests.leads import NOW, SCORING, Diary, publish_model

TOKENS = Tokens.read_keys(["20260101:a-secret-of-the-tests"])
SETTINGS = MailSettings(Sender("Mebae", "mebae@example.com"), "sales@example.com", tokens=TOKENS, public_url="https://m.example")


@dataclass
class Hook:
    """A real HTTP server on this machine that takes what Slack takes, and can be away."""

    port: int = 0
    got: list[tuple[dict[str, str], dict[str, object]]] = field(default_factory=list)
    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(1)
        if first in (b"", b"\x16"):  # it speaks TLS
            writer.close()
            return
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.got.append((headers, json.loads(body)))
        writer.write(self.answer)
        with contextlib.suppress(ConnectionError):  # who has heard enough hangs up
            await writer.drain()
        writer.close()


@asynccontextmanager
async def hook() -> AsyncIterator[Hook]:
    one = Hook()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        await server.wait_closed()


class Post:
    """Takes mail, as the transport hands it over."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, bytes]] = []

    async def deliver(self, envelope_from: str, to: str, message: bytes, *, before_data: Callable[[], object]) -> Receipt:
        await before_data()  # type: ignore[misc]
        self.mails.append((to, message))
        return Receipt(250, "250 OK")

    async def aclose(self) -> None: ...


def given(database: Database, rules: SalesRules) -> int:
    """A lead with a history and a colleague, handed over."""
    publish_model(database, now=NOW - timedelta(days=200))
    database.write_now(handing.publish_sales, rules, NOW)
    diary = Diary(database, NOW)
    one = diary.is_someone(name="佐藤 健二", title="部長", industry="製造", company="青葉精機")
    diary.is_someone("ito@aoba-seiki.example", name="伊藤", title="課長")
    diary.does("Page Viewed", path="/pricing")

    def write(session: Session) -> int:
        locked = lock_lead(session, one)
        assert locked is not None
        why = Why("command:1", "command", message="料金 <b>ページ")
        return handing.open_or_join(session, locked, why, NOW, "Asia/Tokyo", Calendar()).id or 0

    return database.write_now(write)


def rules(port: int, name: str = "SLACK_SATO") -> SalesRules:
    return SalesRules(
        people=(Person(id="inoue", name="井上", email="inoue@example.com", slack=name),), webhook_hosts=(f"127.0.0.1:{port}",)
    )


def statuses(database: Database) -> list[tuple[str, str, int, str | None]]:
    query = select(Telling).order_by(col(Telling.id))
    return database.read_now(lambda session: [(one.channel, one.status, one.attempts, one.reason) for one in session.exec(query)])


async def test_a_webhook_away_for_an_hour_is_told_once_on_its_return_with_the_same_key_and_mail_goes_on(database: Database) -> None:
    """R14: given a hand-over whose webhook does not answer; its mail goes at once; back again, the webhook hears of it once."""
    machine = datetime(2026, 4, 10, 1, 0, tzinfo=UTC)
    async with hook() as slack:
        given(database, rules(slack.port))
        slack.answer = b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        post = Post()
        channel = SlackWebhook(database, SETTINGS, {"SLACK_SATO": f"http://127.0.0.1:{slack.port}/hook"})
        channels = {"mail": SalesMail(database, post, SETTINGS), "slack": channel}
        teller = Teller(database, channels, clock=WorldClock(), machine=lambda: machine)  # type: ignore[arg-type]
        for minute in range(61):
            machine = datetime(2026, 4, 10, 1, 0, tzinfo=UTC) + timedelta(minutes=minute)
            await teller.deliver("slack")
            await teller.deliver("mail")
        assert len(post.mails) == 1
        away = len(slack.got)
        assert 5 <= away <= 15  # asked again, later and later
        slack.answer = Hook.answer
        machine += timedelta(minutes=15)
        assert await teller.deliver("slack") == 1
        assert await teller.deliver("slack") == 0
        machine += timedelta(days=2)
        assert await teller.deliver("slack") == 0
        assert len(slack.got) == away + 1
        assert {headers["idempotency-key"] for headers, _ in slack.got} == {"handover-1-opened-1-1-slack-inoue"}
        assert [status for _, status, _, _ in statuses(database)] == ["told", "told"]
        await channel.aclose()


async def test_what_is_told_says_who_why_and_what_can_be_pressed(sqlite_database: Database) -> None:
    async with hook() as slack:
        handover = given(sqlite_database, rules(slack.port))
        post = Post()
        await Teller(sqlite_database, {"mail": SalesMail(sqlite_database, post, SETTINGS)}, clock=WorldClock()).deliver("mail")
    [(to, raw)] = post.mails
    mail = message_from_bytes(raw, policy=policy.default)
    assert (to, mail["Subject"]) == ("inoue@example.com", "[Mebae] リードをお引き渡しします（料金 <b>ページ）: 佐藤 健二 様（青葉精機）")
    page = mail.get_body(("html",)).get_content()  # type: ignore[union-attr]
    for words in ("受領する", "見送る", "差し戻す", "担当: 井上", "伊藤", "同じ会社のリード", "料金ページ", "ページ閲覧: /pricing"):
        assert words in page
    assert "<b>ページ" not in page
    note = sqlite_database.read_now(lambda session: brief(session, session.get_one(Telling, 1), SETTINGS, NOW))
    assert note is not None
    url = note.note.buttons[0][1]
    token = url.removeprefix("https://m.example/h/").partition("?")[0]
    assert TOKENS.read(Kind.HANDOVER, token, now=NOW) == (handover, 1)
    told = slack_message(note.note)
    assert "&lt;b&gt;" in json.dumps(told, ensure_ascii=False) or "<b>" not in json.dumps(told["blocks"][1])
    assert [element["url"].partition("?")[2] for element in told["blocks"][-1]["elements"]] == ["do=accept", "do=reject", "do=return"]


async def test_a_webhook_goes_to_configured_hosts_only(sqlite_database: Database) -> None:
    async with hook() as slack, hook() as elsewhere:
        given(sqlite_database, rules(slack.port))
        to = f"Location: http://127.0.0.1:{elsewhere.port}/"
        slack.answer = f"HTTP/1.1 302 Go\r\n{to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        channel = SlackWebhook(sqlite_database, SETTINGS, {"SLACK_SATO": f"http://127.0.0.1:{slack.port}/hook"})
        await Teller(sqlite_database, {"slack": channel}, clock=WorldClock()).deliver("slack")
        assert (len(slack.got), len(elsewhere.got)) == (1, 0)
        assert statuses(sqlite_database)[1][1:] == ("refused", 1, "webhook-refused")
        await channel.aclose()
    hosts = SalesRules(webhook_hosts=("hooks.slack.com",))
    assert allowed("https://hooks.slack.com/services/T/B/x", hosts)
    for wrong in ("https://169.254.169.254/", "https://hooks.slack.com.evil.example/", "https://hooks.slack.com@evil.example/",
                  "http://hooks.slack.com/x", "https://hooks.slack.com:8443/", "ftp://hooks.slack.com/", "https://[::1"):  # fmt: skip
        with pytest.raises(WebhookRefused):
            allowed(wrong, hosts)
    with pytest.raises(WebhookUnavailable, match="webhook-unset"):
        allowed(None, hosts)


@pytest.mark.parametrize(("private", "status"), [(False, ("refused", 1, "webhook-address")), (True, ("waiting", 1, "webhook-unavailable"))])
async def test_a_webhooks_name_that_leads_into_a_private_network_reaches_nobody_unless_it_is_said(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, private: bool, status: tuple[str, int, str]
) -> None:
    """A name server that somebody else runs may say anything (DNS rebinding); a chat server in the house is said to be there."""
    async with hook() as inside:

        async def looked_up(*_: object, **__: object) -> list[object]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", inside.port))]

        named = f"chat.example.jp:{inside.port}"
        given(sqlite_database, rules(1).model_copy(update={"webhook_hosts": (named,), "webhooks_private": private}))
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", looked_up)
        channel = SlackWebhook(sqlite_database, SETTINGS, {"SLACK_SATO": f"https://{named}/hook"})
        await Teller(sqlite_database, {"slack": channel}, clock=WorldClock()).deliver("slack")
        assert (statuses(sqlite_database)[1][1:], inside.got) == (status, []), "this one speaks no TLS, so it was asked and did not answer"
        await channel.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 3_000_000,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\nConnection: close\r\n\r\n\x1f\x8b",
    ],
    ids=["long", "packed"],
)
async def test_what_a_webhook_has_heard_is_told_whatever_it_says_to_it(sqlite_database: Database, answer: bytes) -> None:
    """Only the status counts: an answer without end is not read, and nobody is told twice for it."""
    async with hook() as slack:
        given(sqlite_database, rules(slack.port))
        slack.answer = answer
        channel = SlackWebhook(sqlite_database, SETTINGS, {"SLACK_SATO": f"http://127.0.0.1:{slack.port}/hook"})
        await Teller(sqlite_database, {"slack": channel}, clock=WorldClock()).deliver("slack")
        row = sqlite_database.read_now(lambda session: session.exec(select(Telling).where(Telling.channel == "slack")).one())
        assert (row.status, len(row.raw or "") <= 500) == ("told", True)
        await channel.aclose()


async def test_nobody_is_asked_to_take_what_is_closed(sqlite_database: Database) -> None:
    handover = given(sqlite_database, rules(1))
    said = Decision(Move.REJECT, "inoue", "command", reason="other")
    sqlite_database.write_now(handing.decide, handover, said, NOW, "Asia/Tokyo", Calendar())
    post = Post()
    teller = Teller(sqlite_database, {"mail": SalesMail(sqlite_database, post, SETTINGS)}, clock=WorldClock())
    assert await teller.deliver("mail") == 0
    assert post.mails == []


async def test_a_lane_is_told_in_its_order(sqlite_database: Database) -> None:
    """An activity never comes before the lead that it is of; another lane goes on."""
    heard: list[int] = []

    class Adapter:
        async def tell(self, message: object, now: datetime) -> str:
            if message.id == 1 and len(heard) < 2:  # type: ignore[attr-defined]
                heard.append(0)
                raise WebhookUnavailable
            heard.append(message.id)  # type: ignore[attr-defined]
            return "ok"

    def write(session: Session) -> None:
        for n, lane in enumerate(("a", "a", "b"), 1):
            session.add(Telling(key=f"k{n}", channel="crm", target="x", lane=lane, what="upsert", created_at=NOW))
            session.flush()

    sqlite_database.write_now(write)
    machine = NOW
    teller = Teller(sqlite_database, {"crm": Adapter()}, clock=WorldClock(), machine=lambda: machine)  # type: ignore[dict-item]
    for _ in range(6):
        await teller.deliver("crm")
        machine += timedelta(minutes=1)
    assert heard.index(1) < heard.index(2)
    assert heard.index(3) < heard.index(1)


async def test_an_answer_of_strange_bytes_is_kept_and_one_after_an_erasure_is_not(database: Database) -> None:
    """The answer names the lead, and comes when the erasure has dropped the telling and wiped it."""

    class Adapter:
        async def tell(self, message: object, now: datetime) -> str:
            if message.id == 2:  # type: ignore[attr-defined]
                database.write_now(lambda session: setattr(session.get_one(Telling, 2), "status", "dropped"))
            return "ok \x00 \udc8b"

    def write(session: Session) -> None:
        for n in (1, 2):
            session.add(Telling(key=f"k{n}", channel="crm", target="x", lane=f"l{n}", what="upsert", created_at=NOW))
            session.flush()

    database.write_now(write)
    teller = Teller(database, {"crm": Adapter()}, clock=WorldClock(), machine=lambda: NOW)  # type: ignore[dict-item]
    assert await teller.deliver("crm") == 2
    raws = database.read_now(lambda session: [session.get_one(Telling, n).raw for n in (1, 2)])
    assert raws == ["ok  \ufffd", None]


async def test_a_round_that_fails_ends_no_channel(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    teller = Teller(sqlite_database, {"crm": None}, clock=WorldClock())  # type: ignore[dict-item]
    rounds = asyncio.Event()
    calls: list[str] = []

    async def deliver(channel: str) -> int:
        calls.append(channel)
        if len(calls) == 1:
            raise ValueError("unexpected")
        rounds.set()
        return 0

    monkeypatch.setattr(teller, "deliver", deliver)
    task = asyncio.create_task(teller.run())
    async with asyncio.timeout(20):
        await rounds.wait()
    assert not task.done()
    task.cancel()


def test_rules_are_called_as_their_readers_call_them(sqlite_database: Database) -> None:
    """A rule with an English title goes by it in English mails, reports and in Temporal; by its name in Japanese and without one."""
    titled = scoring_language.engagement("料金ページ", visited("/pricing"), 30, at_most=1, half_life=days(90), en="Pricing page")
    scoring = replace(SCORING, engagement=[titled if one.id == "料金ページ" else one for one in SCORING.engagement])
    publish_model(sqlite_database, scoring, NOW - timedelta(days=300))  # the first one is active; a later one waits for its rescore
    given(sqlite_database, SalesRules(people=(Person(id="inoue", name="井上"),)))

    def told(session: Session, language: str) -> str:
        found = brief(session, session.get_one(Telling, 1), replace(SETTINGS, language=language), NOW)
        assert found is not None
        return "\n".join(reason_lines(found.note))

    japanese, english = sqlite_database.read_now(told, "ja"), sqlite_database.read_now(told, "en")
    assert ("料金ページ" in japanese, "Pricing page" in japanese) == (True, False)
    assert ("料金ページ" in english, "Pricing page (Page Viewed: /pricing)" in english, "部長以上" in english) == (False, True, True)

    def stage_of(session: Session, language: str) -> str:
        session.get_one(Lead, 1).stage = "interest"
        found = brief(session, session.get_one(Telling, 1), replace(SETTINGS, language=language), NOW)
        assert found is not None
        return standing_words(found.note).rpartition(" · ")[2]

    assert [sqlite_database.write_now(stage_of, language) for language in ("ja", "en")] == ["興味", "Interest"]

    def shown(session: Session) -> LeadReport:
        return report(session, session.get_one(Lead, 1), NOW)

    found = sqlite_database.read_now(shown)
    assert found.score is not None
    assert ("料金ページ", "Pricing page") in [(rule.rule, rule.title) for rule in found.score.rules]
    assert "Pricing page" in sqlite_database.read_now(lambda session: standing(session, session.get_one(Lead, 1), NOW).in_brief)  # type: ignore[union-attr]
