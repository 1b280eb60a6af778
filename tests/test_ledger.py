"""The ledger: no mail twice that was confirmed, none lost without a word, and every no of the gate is a row (DESIGN §8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any, cast

import pytest
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession
from sqlmodel import Session, col, select
from temporalio.client import Client

from mebae import contracts, ledger, resting
from mebae.authoring import Scenario, clicked, days, end, lead, on, send, wait, wait_for
from mebae.contracts import StepInput
from mebae.gate import Gate
from mebae.ledger import Fate, Move, Policy
from mebae.mailing import MailRules
from mebae.resting import Place
from mebae.settings import Settings
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Delivery, GateRow, JourneyRow, Lead
from mebae.timing import Calendar
from mebae.words import DeliveryKind
from tests.house import House, Relay, house

NOON = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
THANKS = Scenario("thanks", exits_when=lead.qualification == "sql", steps=[send("thanks"), end("thanked")])


class Book:
    """One mail's row, and the attempts that write in it."""

    def __init__(self, database: Database, entry: int, policy: Policy = "hold") -> None:
        self.database, self.entry, self.policy, self.now = database, entry, policy, NOON

    @classmethod
    async def open(cls, database: Database, policy: Policy = "hold") -> Book:
        mebae = House(database, cast(Client, None), Relay(), Settings())
        graph = await mebae.publish(THANKS)
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        assert row.entry is not None
        return cls(database, row.entry, policy)

    def claim(self) -> Delivery:
        """A new attempt asks for the mail; the row as it then stands."""
        return self.database.write_now(self._claim)

    def _claim(self, session: Session) -> Delivery:
        return ledger.claim(
            session, self._place(session), StepInput(entry=self.entry, step="thanks"),
            kind=DeliveryKind.MARKETING, mail="thanks", domain="mebae.example", policy=self.policy, now=self.now,
        )  # fmt: skip

    def _place(self, session: Session) -> Place:
        place = resting.take(session, self.entry, turn=0)
        assert isinstance(place, Place)
        return place

    def enter_data(self, attempt: int) -> bool:
        return bool(self.database.write_now(ledger.enter_data, [(self.row().id or 0, attempt)], self.now))

    def write(self, move: Callable[[Delivery], Move]) -> Delivery:
        def work(session: Session) -> Delivery:
            row = session.exec(select(Delivery)).one()
            ledger.write(row, move(row))
            session.flush()
            return row

        return self.database.write_now(work)

    def conclude(self, attempt: int, fate: Fate) -> Delivery:
        return self.write(lambda row: ledger.conclude(row, attempt, fate, policy=self.policy, now=self.now).move)

    def sent(self, attempt: int) -> Delivery:
        return self.conclude(attempt, Fate("sent", raw="250 queued"))

    def turned_away(self, attempt: int) -> Delivery:
        return self.conclude(attempt, Fate("later", "mail-server-unavailable", "451 later"))

    def row(self) -> Delivery:
        return self.database.write_now(lambda session: session.exec(select(Delivery)).one())


# The moves -----------------------------------------------------------------------------------------------------------


async def test_a_mail_is_claimed_enters_data_and_is_sent(database: Database) -> None:
    book = await Book.open(database)
    claimed = book.claim()
    assert (claimed.status, claimed.attempt, claimed.first_claimed_at) == ("claimed", 1, NOON)
    assert book.enter_data(1)
    assert (book.row().status, book.row().data_at) == ("data", NOON)
    sent = book.sent(1)
    assert (sent.status, sent.raw, sent.sent_at, sent.reason) == ("sent", "250 queued", NOON, None)
    again = book.claim()  # the answer to Temporal was lost: the next attempt finds it done
    assert (again.status, again.attempt) == ("sent", 1)
    assert not book.enter_data(1)


async def test_an_attempt_that_died_before_data_is_taken_over(database: Database) -> None:
    book = await Book.open(database)
    first, second = book.claim(), book.claim()
    assert (second.status, second.attempt) == ("claimed", 2)
    assert second.message_id == first.message_id
    assert not book.enter_data(1), "it was not dead after all, and must not send now"
    assert book.enter_data(2)


async def test_with_hold_an_attempt_that_died_in_data_leaves_an_unknown_mail_and_no_second_one(
    database: Database,
) -> None:
    book = await Book.open(database, "hold")
    book.claim()
    assert book.enter_data(1)
    found = book.claim()
    assert (found.status, found.reason, found.attempt) == ("unknown", "attempt-died-in-data", 1)
    assert book.claim().status == "unknown"
    assert not book.enter_data(1)


async def test_with_retry_an_attempt_that_died_in_data_is_followed_by_one_more_under_the_same_message_id(
    database: Database,
) -> None:
    book = await Book.open(database, "retry")
    first = book.claim()
    assert book.enter_data(1)
    second = book.claim()
    assert (second.status, second.attempt, second.message_id) == ("claimed", 2, first.message_id)
    assert book.enter_data(2)
    third = book.claim()  # the second died there too: at most once more
    assert (third.status, third.attempt) == ("unknown", 2)


async def test_with_retry_a_mail_that_is_postponed_in_between_still_goes_at_most_once_more(database: Database) -> None:
    book = await Book.open(database, "retry")
    book.claim()
    book.enter_data(1)
    assert book.claim().attempt == 2
    assert book.turned_away(2).reason == ledger.RETRIED
    assert book.claim().attempt == 3
    assert book.enter_data(3)
    assert book.claim().status == "unknown"


@pytest.mark.parametrize(
    "fate", [Fate("refused", "recipient-refused", "550 no such user"), Fate("later", "mail-server-unavailable", "451 later")]
)
async def test_with_retry_a_server_that_says_no_for_good_the_second_time_says_nothing_of_the_first(database: Database, fate: Fate) -> None:
    book = await Book.open(database, "retry")
    book.claim()
    book.enter_data(1)
    book.claim()
    if fate.kind == "later":
        book.write(lambda row: {"failures": 5, "first_claimed_at": NOON - timedelta(hours=73)})
    row = book.conclude(2, fate)
    assert (row.status, row.reason, row.raw) == ("unknown", "gave-up" if fate.kind == "later" else fate.code, fate.raw)
    assert book.claim().status == "unknown", "and no third time"


async def test_with_retry_a_mail_whose_last_attempt_may_have_sent_it_is_unknown_and_not_given_up(database: Database) -> None:
    book = await Book.open(database, "retry")
    book.claim()
    book.turned_away(1)
    book.claim()
    book.enter_data(2)
    book.write(lambda row: {"first_claimed_at": NOON - timedelta(hours=73)})
    row = book.conclude(2, Fate("unknown", "mail-server-unavailable", "timed out after the message"))
    assert (row.status, row.reason) == ("unknown", "mail-server-unavailable")


async def test_with_retry_what_a_lead_does_after_the_first_copy_answers_the_mail(database: Database) -> None:
    """The first copy may be the one that it reads."""
    book = await Book.open(database, "retry")
    mark = book.claim().mark
    book.enter_data(1)
    database.write_now(_one_event_more, book.entry)
    assert book.claim().attempt == 2
    assert book.row().mark == mark


def _one_event_more(session: Session, entry: int) -> None:
    session.get_one(Lead, session.get_one(JourneyRow, entry).lead_id).last_seq += 1


async def test_a_mail_that_was_given_up_for_dead_and_arrived_is_sent(database: Database) -> None:
    book = await Book.open(database, "hold")
    book.claim()
    book.enter_data(1)
    assert book.claim().status == "unknown"
    row = book.sent(1)
    assert (row.status, row.reason) == ("sent", None)


async def test_with_retry_the_first_attempt_that_was_alive_after_all_spares_the_second(database: Database) -> None:
    """The server has confirmed it: nobody sends it again, whichever attempt is on its way."""
    book = await Book.open(database, "retry")
    book.claim()
    book.enter_data(1)
    assert book.claim().attempt == 2
    assert book.sent(1).status == "sent"
    assert not book.enter_data(2)
    assert book.claim().status == "sent"


async def test_with_retry_two_attempts_of_unknown_fate_are_sent_when_the_first_one_turns_up(database: Database) -> None:
    book = await Book.open(database, "retry")
    book.claim()
    book.enter_data(1)
    book.claim()
    book.enter_data(2)
    assert book.sent(1).status == "data", "the second is under way and speaks for itself"
    book.conclude(2, Fate("unknown", "mail-server-unavailable", "timed out after the message"))
    assert book.row().status == "unknown"
    assert book.sent(1).status == "sent"


async def test_a_postponed_mail_is_claimed_again(database: Database) -> None:
    book = await Book.open(database)
    first = book.claim()
    until = NOON + timedelta(minutes=1)
    postponed = book.turned_away(1)
    assert (postponed.status, postponed.next_at, postponed.raw, postponed.failures) == ("postponed", until, "451 later", 1)
    assert not book.enter_data(1)
    book.now = until
    again = book.claim()
    assert (again.status, again.attempt, again.next_at) == ("claimed", 2, None)
    assert again.message_id == first.message_id
    assert (again.first_claimed_at, again.claimed_at) == (NOON, until)


async def test_a_refused_mail_is_never_claimed_again(database: Database) -> None:
    book = await Book.open(database)
    book.claim()
    book.conclude(1, Fate("refused", "recipient-refused", "550 no such user " + "x" * 2000))
    row = book.claim()
    assert (row.status, row.reason, row.attempt) == ("refused", "recipient-refused", 1)
    assert row.raw is not None
    assert len(row.raw) == 500


async def test_a_late_word_of_an_old_attempt_about_an_unknown_fate_changes_nothing(database: Database) -> None:
    book = await Book.open(database)
    book.claim()
    book.enter_data(1)
    book.sent(1)
    row = book.conclude(1, Fate("unknown", "mail-server-unavailable"))
    assert row.status == "sent"


async def test_of_two_attempts_at_once_only_one_enters_data(database: Database) -> None:
    """Two workers that claim and enter side by side, and one claim that is carried out twice."""
    book = await Book.open(database)
    together = Barrier(2)

    def attempt(_: int) -> bool:
        together.wait(10)
        row = book.claim()
        return bool(database.write_now(ledger.enter_data, [(row.id or 0, row.attempt)], NOON))

    def forget(session: Session) -> None:
        session.delete(session.exec(select(Delivery)).one())

    with ThreadPoolExecutor(2) as both:
        for _ in range(50):
            assert sum(both.map(attempt, range(2))) == 1
            database.write_now(forget)
            claimed = book.claim()

            def enter(_: int, delivery: int = claimed.id or 0) -> bool:
                together.wait(10)
                return bool(database.write_now(ledger.enter_data, [(delivery, 1)], NOON))

            assert sum(both.map(enter, range(2))) == 1
            database.write_now(forget)


def test_the_back_off_grows_and_stays_at_four_hours() -> None:
    spans = [ledger.back_off(failures) for failures in range(1, 10)]
    assert spans[:6] == sorted(set(spans[:6]))
    assert spans[0] == timedelta(minutes=1)
    assert spans[5:] == [timedelta(hours=4)] * 4
    tries = sum(1 for n in range(1, 100) if sum(map(ledger.back_off, range(1, n)), timedelta()) < ledger.GIVE_UP_AFTER)
    assert 10 <= tries <= 30


async def test_the_seventy_two_hours_count_from_the_first_try_and_not_from_a_pause_before_it(
    database: Database,
) -> None:
    book = await Book.open(database)
    book.claim()
    book.write(lambda row: ledger.postponed(row.reason, NOON, "paused"))
    book.now = NOON + timedelta(days=10)
    assert book.claim().first_claimed_at == book.now
    since = book.now
    assert book.turned_away(2).status == "postponed"
    book.now += timedelta(days=1)
    assert book.claim().first_claimed_at == since


# The gate ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "paused", "answer", "reason"),
    [
        ({}, False, "go", None),
        ({"opted_out_at": NOON}, False, "refused", "opted-out"),
        ({"email": None}, False, "refused", "no-address"),
        ({}, True, "postponed", "paused"),
        ({"qualification": "sql"}, False, "exited", "exits-when"),
        ({"qualification": "sql", "opted_out_at": NOON}, True, "exited", "exits-when"),
    ],
)
async def test_each_answer_of_the_gate_is_a_row(
    database: Database, columns: dict[str, Any], paused: bool, answer: str, reason: str | None
) -> None:
    book = await Book.open(database)

    def work(session: Session) -> None:
        row = session.get_one(JourneyRow, book.entry)
        row.paused = paused
        person = session.get_one(Lead, row.lead_id)
        for name, value in columns.items():
            setattr(person, name, value)
        session.flush()
        delivery = book._claim(session)
        place = book._place(session)
        Gate(MailRules(), "Asia/Tokyo", Calendar()).ask(session, place.lead, delivery, "claim", NOON, place=place)

    database.write_now(work)
    [row] = database.write_now(lambda session: list(session.exec(select(GateRow))))
    assert (row.moment, row.answer, row.reason, row.attempt) == ("claim", answer, reason, 1)
    assert (row.until is not None) == (answer == "postponed")


# The whole way, with a real mail server ------------------------------------------------------------------------------

FOLLOW_UP = Scenario(
    "follow-up",
    exits_when=lead.qualification == "sql",
    steps=[send("thanks"), wait(days(1)), send("again"), end("done")],
)
DAY_IN_A_SECOND = 86_400.0


def gates(database: Database) -> list[tuple[str, str, str, str | None]]:
    rows = database.write_now(lambda session: list(session.exec(select(GateRow).order_by(col(GateRow.id)))))
    return [(row.step, row.moment, str(row.answer), row.reason) for row in rows]


async def change(mebae: House, who: int, **columns: Any) -> None:
    """Something about the lead changes, as another program would do it."""

    def write(session: Session) -> None:
        person = lock_lead(session, who)
        assert person is not None
        for name, value in columns.items():
            setattr(person, name, value)

    await mebae.database.write(write)


class Listening(Relay):
    """A relay that tells the test of a recipient, and waits with its answer until the test has acted."""

    def __init__(self) -> None:
        super().__init__()
        self.between: Callable[[], Any] | None = None

    async def handle_RCPT(
        self, server: SMTP, session: SmtpSession, envelope: Envelope, to: str, options: list[str]
    ) -> str:
        act, self.between = self.between, None
        if act is not None:
            await act()
        return await super().handle_RCPT(server, session, envelope, to, options)


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.house.Relay", Listening)


@pytest.fixture
def quick_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mail server's rest is machine time: a test has no minutes."""
    monkeypatch.setattr("mebae.ledger.BACK_OFF", [timedelta(milliseconds=ms) for ms in (50, 100)])


async def test_a_lead_who_opted_out_gets_nothing_and_the_gate_says_why(database: Database) -> None:
    async with house(database) as mebae:
        graph = await mebae.publish(THANKS)
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example", opted_out_at=NOON))
        [row] = await mebae.ended(row.lead_id)
        assert row.outcome == "thanked"
        assert mebae.relay.mails == []
        [delivery] = await mebae.deliveries()
        assert (delivery.status, delivery.reason) == ("refused", "opted-out")
        assert gates(database) == [("thanks", "claim", "refused", "opted-out")]


@pytest.mark.usefixtures("listening")
async def test_a_lead_who_opts_out_while_the_mail_server_is_asked_gets_nothing(database: Database) -> None:
    async with house(database) as mebae:
        relay = cast(Listening, mebae.relay)
        graph = await mebae.publish(THANKS)
        who = await mebae.lead("sato@aoba.example")
        relay.between = lambda: change(mebae, who, opted_out_at=mebae.now())
        await mebae.start(graph, who)
        await mebae.ended(who)
        assert relay.mails == []
        [delivery] = await mebae.deliveries()
        assert (delivery.status, delivery.reason, delivery.data_at) == ("refused", "opted-out", None)
        assert gates(database) == [("thanks", "claim", "go", None), ("thanks", "data", "refused", "opted-out")]


@pytest.mark.usefixtures("listening")
async def test_a_lead_whom_sales_takes_while_the_mail_server_is_asked_gets_nothing(database: Database) -> None:
    async with house(database) as mebae:
        relay = cast(Listening, mebae.relay)
        graph = await mebae.publish(THANKS)
        who = await mebae.lead("sato@aoba.example")
        relay.between = lambda: change(mebae, who, qualification="sql")
        await mebae.start(graph, who)
        [row] = await mebae.ended(who)
        assert (row.outcome, row.reason) == ("exited", "exits-when")
        assert relay.mails == []
        assert gates(database)[-1] == ("thanks", "data", "exited", "exits-when")


@pytest.mark.usefixtures("listening")
async def test_a_journey_ended_by_hand_while_the_mail_server_is_asked_sends_nothing(database: Database) -> None:
    async with house(database) as mebae:
        relay = cast(Listening, mebae.relay)
        graph = await mebae.publish(THANKS)
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))

        async def by_hand() -> None:
            await mebae.handle(row).execute_update(contracts.END, contracts.EndRequest())

        relay.between = by_hand
        [row] = await mebae.ended(row.lead_id)
        assert row.outcome == "ended-by-hand"
        assert await mebae.handle(row).result() == "ended-by-hand"
        assert relay.mails == []
        [delivery] = await mebae.deliveries()
        assert (delivery.sent_at, delivery.data_at) == (None, None)


@pytest.mark.usefixtures("quick_back_off")
async def test_a_mail_that_the_server_turns_away_for_now_is_sent_later_once(database: Database) -> None:
    async with house(database, speed=DAY_IN_A_SECOND) as mebae:
        answers = ["451 4.7.1 greylisted", "451 4.7.1 greylisted", "421 4.3.2 going down"]
        mebae.relay.at_rcpt = lambda _to: answers.pop() if answers else None
        graph = await mebae.publish(FOLLOW_UP)
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        [row] = await mebae.ended(row.lead_id)
        assert row.outcome == "done"
        assert mebae.relay.subjects() == ["thanks", "again"]
        first, second = await mebae.deliveries()
        assert (first.status, first.attempt, first.failures, first.reason) == ("sent", 4, 3, None)
        assert (second.status, second.attempt, second.failures) == ("sent", 1, 0)


async def test_a_mail_that_waits_for_its_server_is_dropped_when_the_lead_leaves(database: Database) -> None:
    """The gate is asked again at each attempt, and a postponed journey listens for its exit."""
    async with house(database) as mebae:
        mebae.relay.at_rcpt = lambda _to: "451 4.7.1 greylisted"
        graph = await mebae.publish(THANKS)
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        [row] = await mebae.until(lambda rows: rows[0].waiting_for == "postponed", row.lead_id)
        [delivery] = await mebae.deliveries()
        assert (delivery.status, delivery.failures) == ("postponed", 1)
        assert delivery.next_at is not None
        assert delivery.claimed_at is not None
        assert timedelta(minutes=1) <= delivery.next_at - delivery.claimed_at < timedelta(minutes=2)
        mebae.relay.at_rcpt = lambda _to: None
        await change(mebae, row.lead_id, qualification="sql")
        await mebae.event(row.lead_id, "Lead Identified")
        [row] = await mebae.ended(row.lead_id)
        assert (row.outcome, row.reason) == ("exited", "exits-when")
        assert mebae.relay.mails == []


@pytest.mark.usefixtures("quick_back_off")
async def test_after_seventy_two_hours_the_mail_is_given_up_and_the_journey_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mebae.ledger.GIVE_UP_AFTER", timedelta(milliseconds=300))
    async with house(database, speed=DAY_IN_A_SECOND) as mebae:
        asked = []

        def never_thanks(_to: str) -> str | None:
            asked.append(_to)
            return "451 4.7.1 greylisted" if not mebae.relay.mails else None

        mebae.relay.at_rcpt = never_thanks
        graph = await mebae.publish(THANKS)
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        [row] = await mebae.ended(row.lead_id)
        assert row.outcome == "thanked"
        [delivery] = await mebae.deliveries()
        assert (delivery.status, delivery.reason, delivery.raw) == ("refused", "gave-up", "451 4.7.1 greylisted")
        assert 2 <= delivery.failures == len(asked) <= 6


async def test_a_recipient_who_does_not_exist_is_refused_once_and_the_journey_goes_on(database: Database) -> None:
    async with house(database, speed=DAY_IN_A_SECOND) as mebae:
        mebae.relay.at_rcpt = lambda to: f"550 5.1.1 <{to}> no such user"
        graph = await mebae.publish(FOLLOW_UP)
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        [row] = await mebae.ended(row.lead_id)
        assert row.outcome == "done"
        assert mebae.relay.mails == []
        assert [(d.status, d.reason, d.attempt, d.bounce) for d in await mebae.deliveries()] == [
            ("refused", "recipient-refused", 1, "hard"), ("refused", "bounced", 1, None),
        ]  # fmt: skip
        assert (await mebae.deliveries())[0].raw == "550 5.1.1 <sato@aoba.example> no such user"


class Dropping(Relay):
    """Takes the first mail's bytes, its final dot too, and is gone without a word."""

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:
        answer = await super().handle_DATA(server, session, envelope)
        if len(self.mails) == 1:
            cast(asyncio.Transport, server.transport).abort()
        return answer


async def test_a_line_that_drops_after_the_final_dot_leaves_an_unknown_mail_that_is_listed_and_not_sent_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.house.Relay", Dropping)
    async with house(database, speed=DAY_IN_A_SECOND) as mebae:
        graph = await mebae.publish(FOLLOW_UP)
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        [row] = await mebae.ended(row.lead_id)
        assert row.outcome == "done"
        assert mebae.relay.subjects() == ["thanks", "again"]
        first, second = await mebae.deliveries()
        assert (first.status, first.attempt) == ("unknown", 1)
        assert (first.raw or "").startswith("lost the connection after the message")
        assert second.status == "sent"


@pytest.mark.usefixtures("quick_back_off")
async def test_with_retry_it_is_sent_once_more_under_the_same_message_id(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.house.Relay", Dropping)
    async with house(database, speed=DAY_IN_A_SECOND, unknown_mail="retry") as mebae:
        graph = await mebae.publish(FOLLOW_UP)
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        await mebae.ended(row.lead_id)
        assert mebae.relay.subjects() == ["thanks", "thanks", "again"]
        assert mebae.relay.mails[0]["Message-ID"] == mebae.relay.mails[1]["Message-ID"]
        assert [str(delivery.status) for delivery in await mebae.deliveries()] == ["sent", "sent"]


async def test_an_answer_that_beats_the_mail_servers_word_still_counts_for_the_wait_after_it(
    database: Database,
) -> None:
    """A scanner or a quick reader clicks before our server has said 250; the wait looks back to the claim."""
    answer = Scenario(
        "answer",
        steps=[
            send("thanks"),
            wait_for(on(clicked("thanks"), [end("clicked")]), within=days(7), otherwise=[end("late")]),
        ],
    )
    async with house(database) as mebae:
        graph = await mebae.publish(answer)
        who = await mebae.lead("sato@aoba.example")

        class Quick(Relay):
            async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:
                said = await super().handle_DATA(server, session, envelope)
                await mebae.event(who, "Email Link Clicked", mail="thanks")
                await asyncio.sleep(0.3)  # routed, and nobody rests yet
                return said

        mebae.relay.__class__ = Quick
        await mebae.start(graph, who)
        [row] = await mebae.ended(who)
        assert row.outcome == "clicked"
