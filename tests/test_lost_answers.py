"""What was done and whose answer was lost, or came too late: nothing is done twice, and nobody is moved back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlmodel import Session, col, select
from temporalio.client import WorkflowFailureError
from temporalio.testing import ActivityEnvironment

from activities.journeys import JourneyActivities
from activities.leads import LeadActivities
from activities.mail import Claimed, Fate, MailActivities, _to_lead
from mebae import router
from mebae.authoring import Scenario, days, end, lead, on, send, tag, visited, wait, wait_for
from mebae.contracts import StepInput
from mebae.erasing import erase_lead
from mebae.errors import Permanent
from mebae.journey import Done, Ended, Ending, Exited, Heard, Marks, Postponed, Resting, Settling, Unknown
from mebae.mail.transport import RelayRefused, RelayUnavailable
from mebae.mail.wiring import mail_settings
from mebae.resting import Setting
from mebae.settings import Settings
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Delivery, Event, JourneyRow
from mebae.timing import Calendar
from mebae.words import DeliveryKind
from tests.house import FAST, LAWFUL, House, house
from tests.test_erasing import whole

NOON = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
ASIA = Setting("Asia/Tokyo", Calendar())
MAIL = mail_settings(Settings(**LAWFUL))
ASKING = Scenario(
    "asking",
    exits_when=lead.qualification == "sql",
    steps=[send("hello"), wait_for(on(visited("/pricing"), [end("told")]), within=days(7), otherwise=[]), tag("hot")],
)


class Post:
    """A mail server's stand-in, for answers that a real one cannot be made to lose."""

    def __init__(self) -> None:
        self.count = 0
        self.before: Any = None

    async def deliver(self, envelope_from: str, to: str, message: bytes, *, before_data: Any) -> Any:
        if self.before is not None:
            await self.before()
        await before_data()
        self.count += 1
        return type("Receipt", (), {"code": 250, "text": "250 taken"})()

    async def aclose(self) -> None:
        pass


async def entered(mebae: House) -> tuple[int, int]:
    graph = await mebae.publish(ASKING)
    person = await mebae.lead("sato@aoba.example")
    await mebae.event(person, "Page Viewed", path="/pricing")  # before the mail: it answers nothing
    row = await mebae.start(graph, person)
    assert row.entry is not None
    return row.entry, person


def asked(entry: int, mebae: House) -> StepInput:
    return StepInput(entry=entry, step="hello", plan=Settling("hello/wait_for", Marks(start=0)), now=mebae.now())


async def test_a_mail_whose_answer_was_lost_is_not_answered_by_what_came_before_it(database: Database) -> None:
    async with house(database, programs=False) as mebae:
        entry, _ = await entered(mebae)
        post = Post()
        mail = MailActivities(database, post, ASIA, MAIL)
        env = ActivityEnvironment()
        first = await env.run(mail.send_mail, asked(entry, mebae))
        again = await env.run(mail.send_mail, asked(entry, mebae))
        assert post.count == 1
        for answer in (first, again):
            assert isinstance(answer, Done)
            assert isinstance(answer.then, Resting), "a visit from before the mail is no answer to it"


async def test_an_attempt_that_comes_back_late_moves_no_journey(database: Database) -> None:
    """Attempt 1 hangs in DATA, attempt 2 says unknown and the journey goes on; then attempt 1 comes back."""
    async with house(database, programs=False) as mebae:
        entry, person = await entered(mebae)
        mail = MailActivities(database, Post(), ASIA, MAIL)
        env = ActivityEnvironment()
        await env.run(mail.send_mail, asked(entry, mebae))
        delivery = await database.write(change_delivery, status="unknown")
        await database.write(rest_elsewhere, entry)
        for fate in (Fate("later", "mail-server-unavailable"), Fate("unknown"), Fate("sent", raw="250 taken")):
            claimed = Claimed(delivery.id or 0, delivery.attempt, None)  # type: ignore[arg-type]
            answer = await mail._conclude(asked(entry, mebae), claimed, mebae.now(), fate)
            assert isinstance(answer, Postponed)
            [row] = await mebae.rows(person)
            assert row.step == "elsewhere", fate
        [delivery] = await mebae.deliveries()
        assert delivery.status == "sent", "the ledger learned what really came of it"


@pytest.mark.parametrize("moment", ["claim", "data"])
@pytest.mark.parametrize("change", [{"opted_out_at": NOON}, {"email": None}, {"qualification": "sql"}])
async def test_with_retry_a_lead_who_may_get_no_second_copy_may_have_got_the_first(
    database: Database, change: dict[str, Any], moment: str
) -> None:
    """The first attempt's fate is unknown, and the gate closes before the second: that it was not sent nobody can say."""
    async with house(database, programs=False) as mebae:
        entry, person = await entered(mebae)
        post = Post()
        mail = MailActivities(database, post, ASIA, replace(MAIL, policy="retry"))
        env = ActivityEnvironment()
        claimed = await database.write(mail._claim, asked(entry, mebae), DeliveryKind.MARKETING, _to_lead, mebae.now())
        assert isinstance(claimed, Claimed)
        await database.write(change_delivery, status="data", data_at=mebae.now())
        if moment == "claim":
            await database.write(change_lead, person, **change)
        else:
            post.before = lambda: database.write(change_lead, person, **change)
        answer = await env.run(mail.send_mail, asked(entry, mebae))
        [row] = await mebae.deliveries()
        assert (str(row.status), post.count) == ("unknown", 0)
        if "qualification" in change:
            assert row.reason == "exits-when"
            assert isinstance(answer, Exited)
        else:
            assert row.reason == ("opted-out" if "opted_out_at" in change else "no-address")
            assert isinstance(answer, Unknown)
            assert isinstance(answer.then, Resting), "it may have arrived, so the wait counts from it"
        if moment == "data":
            return
        again = await env.run(mail.send_mail, asked(entry, mebae))
        assert type(again) is type(answer)
        assert (await mebae.deliveries())[0].attempt == 2


async def test_with_retry_an_erased_lead_may_have_got_the_first_copy_all_the_same(database: Database) -> None:
    async with house(database, programs=False) as mebae:
        entry, person = await entered(mebae)
        post = Post()
        mail = MailActivities(database, post, ASIA, replace(MAIL, policy="retry"))
        claimed = await database.write(mail._claim, asked(entry, mebae), DeliveryKind.MARKETING, _to_lead, mebae.now())
        assert isinstance(claimed, Claimed)
        await database.write(change_delivery, status="data", data_at=mebae.now())
        post.before = lambda: database.write(erase_lead, person, mebae.now(), ASIA)
        assert isinstance(await ActivityEnvironment().run(mail.send_mail, asked(entry, mebae)), Exited)
        [row] = await mebae.deliveries()
        assert (str(row.status), row.reason, post.count) == ("unknown", "erased", 0)


@pytest.mark.parametrize("said", ["taken", "refused", "lost"])
async def test_a_lead_erased_while_its_mail_is_in_data_keeps_no_word_of_the_mail_server(database: Database, said: str) -> None:
    """What the server says names the address, and comes after everything was wiped."""
    words = "for sato@aoba.example, said the server"

    class Naming(Post):
        async def deliver(self, envelope_from: str, to: str, message: bytes, *, before_data: Any) -> Any:
            await super().deliver(envelope_from, to, message, before_data=before_data)
            await database.write(erase_lead, person, mebae.now(), ASIA)
            if said == "refused":
                raise RelayRefused(f"550 {words}")
            if said == "lost":
                raise RelayUnavailable(f"421 {words}", after_data=True)
            return type("Receipt", (), {"code": 250, "text": f"250 taken {words}"})()

    async with house(database, programs=False) as mebae:
        entry, person = await entered(mebae)
        mail = MailActivities(database, Naming(), ASIA, MAIL)
        await ActivityEnvironment().run(mail.send_mail, asked(entry, mebae))
        [row] = await mebae.deliveries()
        assert (str(row.status), row.raw) == ({"taken": "sent", "lost": "unknown"}.get(said, said), None)
        assert "aoba" not in whole(database)


async def test_local_activities_that_run_again_after_a_failed_workflow_task_are_heard(database: Database) -> None:
    """Temporal runs them again from the first, although the row has seen a later turn."""
    async with house(database, programs=False) as mebae:
        entry, _ = await entered(mebae)
        journeys = JourneyActivities(database, ASIA)
        env = ActivityEnvironment()
        ask = StepInput(
            entry=entry, step="hello/wait_for", plan=Settling("hello/wait_for", Marks(start=99)), now=mebae.now()
        )
        assert isinstance(await env.run(journeys.rest, ask.model_copy(update={"turn": 5})), Resting)
        again = ask.model_copy(update={"turn": 4, "plan": Settling("hello/wait_for", Marks(start=0))})
        assert isinstance(await env.run(journeys.rest, again), Heard)


async def test_an_end_whose_answer_was_lost_is_the_same_end(database: Database) -> None:
    async with house(database, programs=False) as mebae:
        entry, _ = await entered(mebae)
        journeys = JourneyActivities(database, ASIA)
        env = ActivityEnvironment()
        ask = StepInput(entry=entry, step="end", plan=Ending("told"), now=mebae.now())
        assert await env.run(journeys.finish, ask) == Ended("told")
        assert await env.run(journeys.finish, ask) == Ended("told")


async def test_a_tag_that_was_taken_away_meanwhile_is_not_put_back_by_a_retry(database: Database) -> None:
    async with house(database, programs=False) as mebae:
        entry, person = await entered(mebae)
        leads = LeadActivities(database, ASIA)
        env = ActivityEnvironment()
        ask = StepInput(entry=entry, step="hello/tag", now=mebae.now())
        assert isinstance(await env.run(leads.tag_lead, ask), Done)
        await database.write(lambda session: setattr(lock_lead(session, person), "tags", []))
        assert isinstance(await env.run(leads.tag_lead, ask), Done)
        assert (await database.read(lambda session: lock_lead(session, person))).tags == []  # type: ignore[union-attr]


async def test_one_lead_that_cannot_be_routed_holds_up_nobody(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(database) as mebae:
        poison: list[int] = []
        enter_all = router._enter_all

        def enter(session: Session, graphs: Any, lead: Any, *rest: Any) -> None:
            if lead.id in poison:
                raise ValueError("a row that nobody foresaw")
            enter_all(session, graphs, lead, *rest)

        monkeypatch.setattr(router, "_enter_all", enter)
        await mebae.publish(Scenario("visits", enters_on=visited("/pricing"), steps=[send("hello")]))
        bad, good = await mebae.lead("bad@aoba.example"), await mebae.lead("good@aoba.example")
        poison.append(bad)
        await mebae.event(bad, "Page Viewed", path="/pricing")
        await mebae.event(good, "Page Viewed", path="/pricing")
        await mebae.ended(good)
        unrouted = await database.read(lambda s: list(s.exec(select(Event.lead_id).where(col(Event.routed_at).is_(None)))))
        assert unrouted == [bad], "its event is kept"


async def test_a_journey_cancelled_in_the_temporal_ui_is_closed(sqlite_database: Database) -> None:
    async with house(sqlite_database, speed=FAST) as mebae:
        graph = await mebae.publish(Scenario("patient", steps=[send("hello"), wait(days(300)), send("again")]))
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        await mebae.resting_at("hello/wait")
        await mebae.quiet(row)
        await mebae.handle(row).cancel()
        [ended] = await mebae.ended()
        assert ended.outcome == "cancelled"
        with pytest.raises(WorkflowFailureError):
            await mebae.handle(row).result()


async def test_words_that_are_no_code_stay_out_of_temporal(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from activities import mail

    def broken(letter: Any, _settings: Any) -> Any:
        raise Permanent(f"no record for {letter.to}")

    monkeypatch.setattr(mail, "compose", broken)
    async with house(sqlite_database) as mebae:
        graph = await mebae.publish(Scenario("coded", steps=[send("hello")]))
        row = await mebae.start(graph, await mebae.lead("sato@aoba.example"))
        await mebae.ended()
        history = await mebae.handle(row).fetch_history()
        assert "sato" not in history.to_json()
        assert "invalid-code" in history.to_json()


def change_delivery(session: Session, **values: Any) -> Delivery:
    row = session.exec(select(Delivery)).one()
    for name, value in values.items():
        setattr(row, name, value)
    return row


def change_lead(session: Session, who: int, **values: Any) -> None:
    person = lock_lead(session, who)
    assert person is not None
    for name, value in values.items():
        setattr(person, name, value)


def rest_elsewhere(session: Session, entry: int) -> None:
    row = session.get_one(JourneyRow, entry)
    row.step, row.status = "elsewhere", "resting"
