"""One mail to many leads: through the gate, in the ledger, once each, whatever happens on the way."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import Session, col, select

from mebae.erasing import erase_lead
from mebae.errors import DatabaseUnavailable
from mebae.gate import Gate
from mebae.ledger import Policy
from mebae.mail.bulk import BulkContent, BulkMailer, BulkOutcome
from mebae.mail.bulk_ledger import Concluding, Entering, Taken
from mebae.mail.composing import Letter, compose
from mebae.mail.outgoing import MailSettings
from mebae.mail.publishing import publish_layouts, publish_mails
from mebae.mail.rendering import BrokenMail, Sender
from mebae.mail.transport import Receipt, SmtpTransport, Transport
from mebae.mailing import MailRules, SendingHours
from mebae.resting import Setting
from mebae.store import broadcast_leads, suppressions
from mebae.store.consents import record
from mebae.store.database import Database, lock_lead
from mebae.store.suppressions import unsubscribe
from mebae.store.tables import Broadcast, Delivery, GateRow, Lead, Link
from mebae.timing import Calendar
from mebae.tokens import Tokens
from tests.mail.relays import DROP, HANG, Relay, relay

NOON = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
MAIL = "---\nsubject: News for {{ lead.name }}\ntopic: news\n---\nHello {{ lead.name }}, read [this](https://example.com/paper).\n"
LAYOUT = (
    "<html><body>{{ body }}<p>{{ sender.name }} {{ sender.postal }} {{ sender.contact }}</p>"
    '<p><a href="{{ unsubscribe_url }}">unsubscribe</a></p></body></html>'
)
NEWS = BulkContent("spring", "news")
RUNS = itertools.count(1)
SENDER = Sender("Mebae", "news@mebae.example", postal="〒100-0001 東京都千代田区千代田1-1", contact="desk@mebae.example")


class Post:
    """What a test holds in its hands: leads that agreed, a broadcast, a mail server, and the mailer."""

    def __init__(self, database: Database, at: Relay, *, rules: MailRules, unknown: Policy, connections: int) -> None:
        self.database, self.relay, self.now = database, at, NOON
        self.rules = rules
        self.settings = MailSettings(
            SENDER, "sales@mebae.example", policy=unknown, rules=rules,
            tokens=Tokens.read_keys(["20260101:a-secret-of-the-tests"]), public_url="https://mebae.example",
        )  # fmt: skip
        self.transport: Transport = SmtpTransport("127.0.0.1", at.port, connections=connections, timeout=1.0)
        self.mailer = self.made(self.transport)
        self.broadcast = database.write_now(self._made_broadcast)

    def made(self, transport: Transport, *, at_once: int = 4) -> BulkMailer:
        gate = Gate(self.rules, "Asia/Tokyo", Calendar())
        return BulkMailer(self.database, transport, gate, self.settings, at_once=at_once)

    def _made_broadcast(self, session: Session) -> int:
        publish_mails(session, "spring", {("news", ""): MAIL, ("picky", ""): MAIL.replace("lead.name", "lead.nickname")}, NOON)
        publish_layouts(session, {"default": LAYOUT}, NOON)
        row = Broadcast(cause=f"command:{next(RUNS)}", broadcast="spring", plan="{}", status="running", due_at=NOON)
        session.add(row)
        session.flush()
        assert row.id is not None
        return row.id

    def leads(self, count: int, *, agreed: bool = True, **columns: Any) -> list[int]:
        def write(session: Session) -> list[int]:
            made = []
            for _ in range(count):
                lead = Lead(created_at=NOON, updated_at=NOON, name="佐藤 健二", **columns)
                session.add(lead)
                session.flush()
                assert lead.id is not None
                lead.email = f"lead{lead.id}@aoba.example"
                if agreed:
                    record(session, lead.id, NOON, "form", "test", "はい", f"test:{lead.id}")
                made.append(lead.id)
            return made

        return self.database.write_now(write)

    async def send(self, leads: Sequence[int], content: BulkContent = NEWS, *, by: Transport | None = None) -> BulkOutcome:
        mailer = self.mailer if by is None else self.made(by)
        return await mailer.send(self.broadcast, leads, content, lambda: self.now)

    def change(self, table: Any, id: int, **values: Any) -> None:
        self.database.write_now(lambda session: session.execute(update(table).where(table.id == id).values(**values)))

    def rows(self) -> dict[int, Delivery]:
        """By lead."""
        query = select(Delivery).order_by(col(Delivery.lead_id))
        return {row.lead_id: row for row in self.database.read_now(lambda session: list(session.exec(query)))}

    def gates(self, lead: int) -> list[tuple[str, str, str | None]]:
        query = select(GateRow).where(GateRow.lead_id == lead).order_by(col(GateRow.id))
        rows = self.database.read_now(lambda session: list(session.exec(query)))
        return [(row.moment, row.answer, row.reason) for row in rows]

    @property
    def mails(self) -> list[EmailMessage]:
        return [message_from_bytes(mail[2], policy=policy.default) for mail in self.relay.mails]  # type: ignore[misc]

    def database_away(self, monkeypatch: pytest.MonkeyPatch, now: Callable[[Sequence[Any]], bool]) -> None:
        """The database is not there for a group of asks of which `now` says so."""
        real = self.mailer.ledger.write

        def away(session: Session, asks: Sequence[Any]) -> Any:
            if now(asks):
                raise DatabaseUnavailable
            return real(session, asks)

        monkeypatch.setattr(self.mailer.group, "_work", away)
        monkeypatch.setattr("mebae.mail.handing_over._PATIENCE", (0.01,) * 8)

    @property
    def times(self) -> Counter[str]:
        """How often each address was written to."""
        return Counter(to for _, to, _ in self.relay.mails)


@asynccontextmanager
async def post(
    database: Database, *, rules: MailRules | None = None, unknown: Policy = "hold", connections: int = 4
) -> AsyncIterator[Post]:
    async with relay() as at:
        made = Post(database, at, rules=rules or MailRules(), unknown=unknown, connections=connections)
        try:
            yield made
        finally:
            await made.transport.aclose()


class Between:
    """A transport on which something happens after RCPT, before the last word of the ledger."""

    def __init__(self, transport: Transport, act: Callable[[], Awaitable[None]]) -> None:
        self.transport, self.act = transport, act

    async def deliver(
        self, envelope_from: str, to: str, message: bytes, *, before_data: Callable[[], Awaitable[None]]
    ) -> Receipt:
        async def last_word() -> None:
            await self.act()
            await before_data()

        return await self.transport.deliver(envelope_from, to, message, before_data=last_word)

    async def aclose(self) -> None:
        await self.transport.aclose()


async def test_sixty_leads_get_the_mail_once_each_and_the_ledger_says_so(database: Database) -> None:
    async with post(database) as at:
        leads = at.leads(60)
        outcome = await at.send(leads)
        assert outcome == BulkOutcome({"sent": 60})
        assert at.times == {f"lead{lead}@aoba.example": 1 for lead in leads}
        row = at.rows()[leads[0]]
        assert (row.status, row.attempt, row.scope, row.mail, row.topic) == ("sent", 1, "spring", "news", "news")
        assert (row.sent_at, row.data_at, row.claimed_at) == (NOON, NOON, NOON)
        assert row.text_hash
        assert at.gates(leads[0]) == [("claim", "go", None), ("data", "go", None)]
        mail = next(mail for mail in at.mails if mail["Message-ID"] == row.message_id)
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert "佐藤 健二" in mail["Subject"]
        stored = database.read_now(lambda session: list(session.exec(select(Link.url))))
        assert "https://example.com/paper" in stored


async def test_the_same_leads_again_get_nothing_and_are_counted_the_same(database: Database) -> None:
    async with post(database) as at:
        leads = at.leads(10)
        first = await at.send(leads)
        assert await at.send([*leads, leads[0], 999_999]) == BulkOutcome(dict(first.counts) | {"missing": 1})
        assert sum(at.times.values()) == 10


async def test_leads_whom_the_gate_refuses_get_nothing_and_a_reason(database: Database) -> None:
    async with post(database) as at:
        [fine], [stranger], [gone] = at.leads(1), at.leads(1, agreed=False), at.leads(1, opted_out_at=NOON)
        outcome = await at.send([stranger, gone, fine])
        assert outcome.counts == {"sent": 1, "refused": 2}
        assert {lead: row.reason for lead, row in at.rows().items()} == {
            fine: None, stranger: "no-consent", gone: "opted-out"
        }  # fmt: skip
        assert at.gates(stranger) == [("claim", "refused", "no-consent")]
        assert list(at.times) == [f"lead{fine}@aoba.example"]


async def test_mails_outside_the_sending_hours_are_told_when_to_come_again_and_come_then(database: Database) -> None:
    async with post(database, rules=MailRules(hours=SendingHours("09:00", "18:00"))) as at:
        at.now = datetime(2026, 4, 1, 13, 0, tzinfo=UTC)  # 22:00 in Tokyo
        leads = at.leads(3)
        outcome = await at.send(leads)
        assert outcome.counts == {"postponed": 3}
        assert [lead for lead, _ in sorted(outcome.later)] == leads
        assert list(outcome.later) == sorted(outcome.later, key=lambda one: one[1])
        assert await at.send(leads) == outcome, "too early: nobody is asked again"
        assert len(at.gates(leads[0])) == 1
        at.now = max(until for _, until in outcome.later)
        assert (await at.send(leads)).counts == {"sent": 3}
        assert at.rows()[leads[0]].attempt == 2


async def test_a_lead_who_unsubscribes_while_the_mail_server_is_asked_gets_nothing(database: Database) -> None:
    async with post(database) as at:
        leads = at.leads(5)

        def opt_out(session: Session) -> None:
            lead = lock_lead(session, leads[2])
            assert lead is not None
            unsubscribe(session, lead, NOON)

        async def act() -> None:
            await database.write(opt_out)

        outcome = await at.send(leads, by=Between(at.transport, act))
        assert outcome.counts == {"sent": 4, "refused": 1}
        assert at.times[f"lead{leads[2]}@aoba.example"] == 0
        row = at.rows()[leads[2]]
        assert (row.status, row.data_at) == ("refused", None)
        assert [answer for _, answer, _ in at.gates(leads[2])] == ["go", "refused"]


async def test_a_mail_that_cannot_be_filled_in_for_a_lead_is_refused_and_the_others_go(database: Database) -> None:
    async with post(database) as at:
        [plain], [named] = at.leads(1), at.leads(1, attributes={"nickname": "Ken"})
        outcome = await at.send([plain, named], BulkContent("spring", "picky"))
        assert outcome.counts == {"sent": 1, "refused": 1}
        assert at.rows()[plain].reason == "mail-invalid"
        assert list(at.times) == [f"lead{named}@aoba.example"]


async def test_a_slip_of_ours_that_one_lead_shows_before_its_mail_is_composed_stops_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = Taken.letter
    async with post(database) as at:
        leads = at.leads(20)

        def slips(taken: Taken, settings: MailSettings) -> Letter:
            if taken.row.lead_id == leads[7]:
                raise KeyError("nobody thought of this lead")
            return letter(taken, settings)

        monkeypatch.setattr(Taken, "letter", slips)
        outcome = await at.mailer.send(at.broadcast, leads, NEWS, lambda: at.now)
        assert outcome.counts == {"sent": 19, "refused": 1}
        assert at.times == {f"lead{lead}@aoba.example": 1 for lead in leads if lead != leads[7]}


async def test_a_mail_that_was_never_published_is_the_broadcasts_fault_and_writes_nothing(database: Database) -> None:
    async with post(database) as at:
        with pytest.raises(BrokenMail, match="mail-missing"):
            await at.send(at.leads(2), BulkContent("spring", "newz"))
        assert at.rows() == {}


# What the mail server does -------------------------------------------------------------------------------------------


async def test_greylisted_mails_come_again_a_minute_later_and_a_stranger_never(database: Database) -> None:
    async with post(database) as at:
        leads = at.leads(3)
        at.relay.script["RCPT"] = ["451 4.7.1 greylisted", "550 5.1.1 no such user"]
        outcome = await at.send(leads)
        assert outcome.counts == {"sent": 1, "postponed": 1, "refused": 1}
        gone = [row.lead_id for row in at.rows().values() if row.bounce == "hard"]
        found = database.read_now(lambda session: suppressions.find(session, f"lead{gone[0]}@aoba.example"))
        assert found is not None
        assert found.reason == "hard-bounce"
        [(lead, until)] = outcome.later
        assert until == NOON + timedelta(minutes=1)
        row = at.rows()[lead]
        assert (row.failures, row.reason, row.raw) == (1, "mail-server-unavailable", "451 4.7.1 greylisted")
        at.now = until
        assert (await at.send([lead])).counts == {"sent": 1}
        again = at.rows()[lead]
        assert (again.attempt, again.failures, again.reason) == (2, 1, None)
        assert set(at.times.values()) == {1}


async def test_after_seventy_two_hours_of_no_answer_a_mail_is_given_up(database: Database) -> None:
    async with post(database) as at:
        [lead] = at.leads(1)
        for _ in range(40):
            at.relay.script["RCPT"] = ["451 later"]
            outcome = await at.send([lead])
            if not outcome.later:
                break
            at.now = outcome.later[0][1]
        assert outcome.counts == {"refused": 1}
        assert at.rows()[lead].reason == "gave-up"
        assert timedelta(hours=72) <= at.now - NOON < timedelta(hours=77)


@pytest.mark.parametrize("unknown", ["hold", "retry"])
async def test_a_line_that_drops_after_the_final_dot(database: Database, unknown: Policy) -> None:
    async with post(database, unknown=unknown) as at:
        [lead] = at.leads(1)
        at.relay.script["BODY"] = [DROP]
        outcome = await at.send([lead])
        if unknown == "hold":
            assert outcome == BulkOutcome({"unknown": 1})
            assert (await at.send([lead])).counts == {"unknown": 1}
            assert at.relay.log.count("BODY") == 1
            return
        [(_, until)] = outcome.later
        at.now = until
        assert (await at.send([lead])).counts == {"sent": 1}
        assert at.relay.log.count("BODY") == 2, "once more, and no more"


@pytest.mark.parametrize(("unknown", "status", "times"), [("hold", "unknown", 0), ("retry", "sent", 1)])
async def test_a_mail_that_a_dead_worker_left_in_data(database: Database, unknown: Policy, status: str, times: int) -> None:
    async with post(database, unknown=unknown) as at:
        [lead] = at.leads(1)
        at.relay.script["RCPT"] = ["451 later"]
        await at.send([lead])
        at.change(Delivery, at.rows()[lead].id or 0, status="data", data_at=NOON)
        assert (await at.send([lead])).counts == {status: 1}
        assert at.times.total() == times


async def test_with_retry_a_lead_who_unsubscribes_before_the_second_copy_may_have_got_the_first(database: Database) -> None:
    """That it was not sent nobody can say: the gate's no ends it, and its fate stays unknown."""
    async with post(database, unknown="retry") as at:
        [at_claim, at_data, erased] = leads = at.leads(3)
        at.relay.script["RCPT"] = ["451 later"] * 3
        await at.send(leads)
        for lead in leads:
            at.change(Delivery, at.rows()[lead].id or 0, status="data", data_at=NOON)
        at.change(Lead, at_claim, opted_out_at=NOON)

        async def act() -> None:
            await asyncio.to_thread(at.change, Lead, at_data, opted_out_at=NOON)
            await asyncio.to_thread(at.change, Lead, erased, erased_at=NOON, email=None)

        assert (await at.send(leads, by=Between(at.transport, act))).counts == {"unknown": 3}
        reasons = {lead: (row.status, row.reason) for lead, row in at.rows().items()}
        assert reasons == {at_claim: ("unknown", "opted-out"), at_data: ("unknown", "opted-out"), erased: ("unknown", "erased")}
        assert at.times.total() == 0
        assert (await at.send(leads)).counts == {"unknown": 3}


@pytest.mark.parametrize("how", ["ended", "given-up"])
async def test_with_retry_a_second_copy_that_is_given_up_leaves_the_mail_unknown(database: Database, how: str) -> None:
    async with post(database, unknown="retry") as at:
        [lead, fresh] = at.leads(2)
        at.relay.script["BODY"] = [DROP]
        assert (await at.send([lead])).counts == {"postponed": 1}
        at.relay.script["RCPT"] = ["451 later"]
        await at.send([fresh])
        if how == "ended":
            at.change(Broadcast, at.broadcast, status="ended")
            assert (await at.send([lead, fresh])).counts == {"unknown": 1, "refused": 1}
        assert database.write_now(broadcast_leads.refuse, at.broadcast, "ended") == 2
        rows = at.rows()
        assert [(rows[one].status, rows[one].reason, rows[one].next_at) for one in (lead, fresh)] == [
            ("unknown", "ended", None), ("refused", "ended", None),
        ]  # fmt: skip


# Several at once, and ends in the middle -----------------------------------------------------------------------------


async def test_two_workers_with_the_same_leads_send_each_mail_once_at_most(database: Database) -> None:
    async with post(database, connections=8) as at:
        leads = at.leads(40)
        first, second = await asyncio.gather(at.send(leads), at.send(leads, by=at.transport))
        assert set(at.times.values()) <= {1}
        left = {row.status for row in at.rows().values()}
        assert left <= {"sent", "unknown"}, "what the one found in the other's data is unknown until that one says"
        assert at.times.total() == sum(row.status == "sent" for row in at.rows().values()) == 40
        assert first.counts.get("sent", 0) + second.counts.get("sent", 0) >= 40


async def test_a_worker_that_is_told_to_end_finishes_what_is_in_data_and_the_next_one_goes_on(database: Database) -> None:
    async with post(database) as at:
        leads = at.leads(60)
        at.relay.script["BODY"] = [None] * 20 + [HANG]
        sending = asyncio.create_task(at.send(leads))
        while at.times.total() < 20:
            await asyncio.sleep(0.005)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        statuses = Counter(row.status for row in at.rows().values())
        assert statuses["data"] == 0, "nothing is left in the air"
        assert statuses["sent"] == at.times.total() < 60
        assert statuses["claimed"] > 0
        outcome = await at.send(leads)
        assert outcome.counts["sent"] + outcome.counts.get("unknown", 0) == 60
        assert set(at.times.values()) == {1}


async def test_a_broadcast_that_is_paused_or_ended_sends_no_more_and_goes_on_when_it_is_resumed(database: Database) -> None:
    async with post(database) as at:
        leads = at.leads(4)
        at.change(Broadcast, at.broadcast, paused=True)
        outcome = await at.send(leads)
        assert (outcome.counts, len(outcome.later), at.rows()) == ({"postponed": 4}, 4, {})
        at.change(Broadcast, at.broadcast, paused=False)

        async def pause() -> None:
            await asyncio.to_thread(at.change, Broadcast, at.broadcast, paused=True)

        assert (await at.send(leads[:2], by=Between(at.transport, pause))).counts == {"postponed": 2}
        assert {row.reason for row in at.rows().values()} == {"paused"}
        at.change(Broadcast, at.broadcast, paused=False)
        assert (await at.send(leads)).counts == {"sent": 4}, "at once: a pause has no clock"

        async def end() -> None:
            await asyncio.to_thread(at.change, Broadcast, at.broadcast, status="ended")

        late = at.leads(2)
        assert (await at.send(late[:1], by=Between(at.transport, end))).counts == {"refused": 1}
        assert (await at.send(late)).counts == {"refused": 2}
        assert [row.reason for row in at.rows().values()] == [None] * 4 + ["ended"]
        assert at.times.total() == 4


async def test_a_database_that_goes_away_before_the_last_word_stops_all_and_nothing_is_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before DATA there is nothing to insist on. How mails are grouped is chance: it goes away for those that ask to enter."""
    async with post(database) as at:
        leads = at.leads(30)
        entered = iter(range(1000))
        at.database_away(monkeypatch, lambda asks: any(isinstance(ask, Entering) for ask in asks) and next(entered) == 2)
        with pytest.raises(DatabaseUnavailable):
            await at.send(leads)
        assert {row.status for row in at.rows().values()} <= {"sent", "claimed"}
        assert (await at.send(leads)).counts == {"sent": 30}
        assert set(at.times.values()) == {1}


async def test_a_database_that_is_away_when_mails_are_out_is_waited_for_and_stops_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came of them must be written."""
    async with post(database) as at:
        leads = at.leads(30)
        concluded = iter(range(1000))
        at.database_away(monkeypatch, lambda asks: all(isinstance(ask, Concluding) for ask in asks) and next(concluded) == 0)
        assert (await at.send(leads)).counts == {"sent": 30}
        assert next(concluded) > 0, "there was such a commit: the last mails have nobody to go with"
        assert set(at.times.values()) == {1}


async def test_an_erased_lead_keeps_no_word_of_the_mail_server(database: Database) -> None:
    async with post(database) as at:
        [lead] = at.leads(1)
        at.relay.script["BODY"] = ["550 5.7.1 <lead1@aoba.example> looks like spam"]

        class Erasing(Between):
            async def deliver(self, *args: Any, before_data: Callable[[], Awaitable[None]], **more: Any) -> Receipt:
                async def then_erased() -> None:
                    await before_data()
                    await asyncio.to_thread(at.change, Lead, lead, erased_at=NOON, email=None)

                return await self.transport.deliver(*args, before_data=then_erased, **more)

        assert (await at.send([lead], by=Erasing(at.transport, asyncio.sleep))).counts == {"refused": 1}
        assert at.rows()[lead].raw is None


async def test_a_link_that_names_its_lead_is_that_mails_own_and_goes_with_the_lead(database: Database) -> None:
    async with post(database) as at:
        [sato, mori] = leads = at.leads(2)
        named = MAIL + "Or fill in [that](https://example.com/form?email={{ lead.email }}).\n"
        database.write_now(publish_mails, "spring", {("named", ""): named}, NOON)
        assert (await at.send(leads, BulkContent("spring", "named"))).counts == {"sent": 2}
        rows = at.rows()

        def links(session: Session) -> dict[str, int | None]:
            return {link.url: link.delivery_id for link in session.exec(select(Link))}

        forms = {f"https://example.com/form?email=lead{lead}@aoba.example": rows[lead].id for lead in leads}
        assert database.read_now(links) == {"https://example.com/paper": None, **forms}
        database.write_now(erase_lead, sato, NOON, Setting("Asia/Tokyo", Calendar()))
        assert set(database.read_now(links)) == {"https://example.com/paper", "", f"https://example.com/form?email=lead{mori}@aoba.example"}


NO_UTF8 = "550 5.1.1 宛先が見つかりません".encode("shift_jis").decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("words", [NO_UTF8, "250 taken \x00 fine"], ids=["shift-jis", "nul"])
async def test_a_mail_servers_words_that_no_database_can_keep_are_kept_as_far_as_they_can(database: Database, words: str) -> None:
    async with post(database, unknown="retry") as at:
        leads = at.leads(3)
        at.relay.script["BODY"] = [words] * 3
        status = "sent" if words.startswith("250") else "refused"
        assert (await at.send(leads)).counts == {status: 3}
        rows = at.rows().values()
        assert {row.status for row in rows} == {status}
        assert all(row.raw and "\x00" not in row.raw for row in rows)


async def test_a_mail_whose_end_cannot_be_written_stays_in_data_and_the_others_go(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with post(sqlite_database) as at:
        leads = at.leads(12)
        real = at.mailer.ledger._concluded

        def fails(row: Any, lead: Any, *args: Any, **more: Any) -> Any:
            if row.lead_id == leads[0]:
                raise ValueError("cannot be written")
            return real(row, lead, *args, **more)

        monkeypatch.setattr(at.mailer.ledger, "_concluded", fails)
        assert (await at.send(leads)).counts == {"sent": 11}
        assert at.rows()[leads[0]].status == "data"
        monkeypatch.undo()
        assert (await at.send(leads)).counts == {"sent": 11, "unknown": 1}
        assert set(at.times.values()) == {1}


async def test_two_broadcasts_that_write_to_one_lead_in_the_same_moment_are_both_answered(database: Database) -> None:
    async with post(database) as at:
        [lead] = at.leads(1)
        other = database.write_now(at._made_broadcast)
        takens = []
        for run in (at.broadcast, other):
            takens += database.write_now(at.mailer.ledger.claim, run, [lead], NEWS, NOON).taken
        at.change(Lead, lead, opted_out_at=NOON)
        asks = [Entering(taken, compose(taken.letter(at.settings), at.settings), NOON) for taken in takens]
        stands = database.write_now(at.mailer.ledger.write, asks)
        assert [(stand.lead, stand.status) for stand in stands if stand] == [(lead, "refused")] * 2


async def test_a_mail_on_its_way_to_an_address_that_the_lead_has_no_more_goes_to_the_new_one_a_second_later(database: Database) -> None:
    async with post(database) as at:
        [lead] = at.leads(1)

        async def moves() -> None:
            await asyncio.to_thread(at.change, Lead, lead, email="new@aoba.example")

        outcome = await at.send([lead], by=Between(at.transport, moves))
        assert outcome == BulkOutcome({"postponed": 1}, ((lead, NOON + timedelta(seconds=1)),))
        assert at.rows()[lead].reason == "address-changed"
        at.now += timedelta(seconds=1)
        assert (await at.send([lead])).counts == {"sent": 1}
        assert at.times == {"new@aoba.example": 1}
