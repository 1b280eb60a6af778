"""R18: leads' lives at random. They enter journeys, get broadcasts, click, say no, come back as bounces, are erased; processes die.

A hypothesis state machine over a real database, with the real activities, router, gate, ledger and bulk path. Temporal is played
by a driver that does what `workflows/journey.py` does: it keeps a journey's state, asks again what was never answered, and wakes
it by time or by a nudge. Time and the mail server are the machine's own: the server says whether it may get what it gets.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import update
from sqlmodel import Session, col, select
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.journeys import JourneyActivities
from activities.leads import LeadActivities
from activities.mail import MailActivities
from mebae.authoring import Scenario, clicked, days, end, hours, on, send, tag, visited, wait, wait_for
from mebae.contracts import StepInput
from mebae.erasing import erase_lead
from mebae.errors import Temporary
from mebae.gate import Gate
from mebae.graph import Graph
from mebae.journey import Act, Choose, Command, Ending, Finish, Journey, Park, Postponed, Rest, Settle, Stop, Woken
from mebae.ledger import RETRIED, Policy
from mebae.mail.bulk import BulkContent, BulkMailer
from mebae.mail.transport import Receipt, RelayUnavailable
from mebae.mail.wiring import mail_settings
from mebae.mailing import Cap, MailRules, SendingHours, Topic
from mebae.resting import Setting
from mebae.router import route
from mebae.settings import Settings
from mebae.store import lead_wishes
from mebae.store.broadcast_leads import unfinished
from mebae.store.consents import withdraw
from mebae.store.database import Database, lock_lead
from mebae.store.mail_actions import NewAction, judge_all, store_actions
from mebae.store.migrate import migrate
from mebae.store.sending import resume_sending
from mebae.store.tables import Broadcast, Delivery, Event, GateRow, JourneyRow, Nudge
from mebae.timing import Calendar, Duration
from mebae.verdicts import Tuning
from mebae.words import JourneyStatus
from tests.faults.campaign import Finding, Home, Tick, load_now, silent
from tests.faults.fuse import Fault, Fuse, FusedDatabase, FusedTransport, Killed, lived
from tests.house import LAWFUL, House, Relay, store_event
from tests.mail.mailbox import Mailbox
from tests.mail.report_cases import NOW

SETTING = Setting("Asia/Tokyo", Calendar())
CAP = Cap(3, Duration(days=7))
RULES = MailRules(topics=(Topic("news"), Topic("tips")), caps=(CAP,), hours=SendingHours("08:00", "20:00"))
COURSE = Scenario(
    "course",
    enters_on=visited("/course"),
    re_enter="always",
    steps=[
        send("first"), wait(days(1)), send("second"),
        wait_for(on(clicked("second"), [tag("keen"), send("third")]), within=days(2), otherwise=[send("reminder")]),
        wait(hours(5)), send("last"), end("over"),
    ],
)  # fmt: skip
TOPIC = {"first": "news", "second": "tips", "third": "news", "reminder": "tips", "last": "news"}
NEWS = BulkContent("course", "first")
LEADS = 3


class Server:
    """The mail server: takes each mail, and knows whom it must not hear of any more."""

    def __init__(self) -> None:
        self.now = NOW
        self.taken: list[tuple[str, str, datetime]] = []
        """Message-ID, address, when."""
        self.deaf: dict[str, set[str]] = {}
        """By address the topics of which nothing may come; `*`: nothing at all."""
        self.topics: dict[str, str] = {}
        self.moods: list[str] = []
        """What it does next: `later`, `no`, `lost` (takes it, and its answer is lost). Empty: takes it."""
        self.wrong: list[str] = []

    async def deliver(
        self, envelope_from: str, to: str, message: bytes, *, before_data: Callable[[], Awaitable[None]]
    ) -> Receipt:
        mood = self.moods.pop() if self.moods else ""
        if mood == "later":
            raise RelayUnavailable("451 later")
        await before_data()
        lines = message.decode("utf-8", "replace").replace("\r\n ", " ").splitlines()
        message_id = next(line.partition(": ")[2] for line in lines if line.lower().startswith("message-id"))
        subject = next(line.partition(": ")[2] for line in lines if line.lower().startswith("subject"))
        closed = self.deaf.get(to, set())
        if "*" in closed or TOPIC[subject] in closed:
            self.wrong.append(f"{to} said no, and got {subject}")
        self.taken.append((message_id, to, self.now))
        if mood == "lost":
            raise RelayUnavailable("timed out", after_data=True)
        return Receipt(250, "250 taken")

    async def aclose(self) -> None:
        pass


class Told:
    """A journey as Temporal keeps it: its state, and the command that is not answered yet."""

    def __init__(self, entry: int, journey: Journey) -> None:
        self.entry, self.journey = entry, journey
        self.command: Command | None = None
        self.tries = 0


class Lives(RuleBasedStateMachine):
    """The world. A subclass gives `opened`, which makes a database with all tables, and maybe another `policy`."""

    opened: Callable[[], Database]
    policy: Policy = "hold"

    def __init__(self) -> None:
        super().__init__()
        self.database = type(self).opened()
        self.loop = asyncio.new_event_loop()
        self.server, self.numbers = Server(), itertools.count(1)
        self.house = House(self.database, cast(Client, None), Relay(), Settings())
        self.house.now = lambda: self.now  # type: ignore[method-assign]
        self.now = NOW
        self.box = Mailbox(self.database)
        self.settings = mail_settings(Settings(**LAWFUL, unknown_mail=self.policy), RULES)
        self.gate = Gate(RULES, SETTING.zone, SETTING.calendar)
        self.fuse = Fuse()
        self.journeys: dict[int, Told] = {}
        self.runs: list[tuple[int, bool]] = []
        """Broadcasts, and whether all is said of each."""
        self.leads: list[int] = []
        self.addresses: dict[int, str] = {}

    def teardown(self) -> None:
        try:
            self.all_ends()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self.database.close()

    # What happens ----------------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.loop.run_until_complete(self.house.publish(COURSE))
        self.database.write_now(_with_topics, self.now)
        self.leads = [self.loop.run_until_complete(self.house.lead(f"lead{n}@aoba.example")) for n in range(LEADS)]
        self.addresses = {lead: f"lead{n}@aoba.example" for n, lead in enumerate(self.leads)}

    @rule(who=st.integers(0, LEADS - 1), path=st.sampled_from(["/course", "/course", "/pricing"]))
    def visits(self, who: int, path: str) -> None:
        self._store(self.leads[who], "Page Viewed", path=path)
        self._go_on()

    @rule(which=st.integers(0, 30), kind=st.sampled_from(["click", "open"]))
    def clicks(self, which: int, kind: str) -> None:
        row = self._mail(which)
        if row is not None and row.id is not None:
            action = NewAction(row.id, kind, client="a-person", agent="browser", at=self.now)
            self.database.write_now(store_actions, [action])

    @rule(which=st.integers(0, 30), topic=st.sampled_from([None, "news", "tips"]))
    def unsubscribes(self, which: int, topic: str | None) -> None:
        row = self._mail(which)
        if row is not None and row.id is not None:
            self.database.write_now(lead_wishes.stop, row.id, self.now, how="one-click", topic=topic)
            self._deaf(row.lead_id, topic or "*")

    @rule(which=st.integers(0, 30), report=st.sampled_from(["postfix-mailbox-unknown", "arf-abuse", "postfix-mailbox-full"]))
    def comes_back(self, which: int, report: str) -> None:
        row = self._mail(which)
        # Only what came can come back: a report is taken as proof that its mail went out.
        came = row is not None and any(row.message_id == one for one, _, _ in self.server.taken)
        if came and row is not None and row.id is not None and row.status in ("sent", "unknown"):
            to = self.addresses[row.lead_id]
            self.box.now = self.now
            taken = self.box.comes(report, row.id, email=to, unique=f"u{next(self.numbers)}")
            if str(taken.outcome) == "suppressed":
                self._deaf(row.lead_id, "*")
            self.database.write_now(resume_sending, self.now)  # of three leads one complaint is a third

    @rule(who=st.integers(0, LEADS - 1))
    def withdraws(self, who: int) -> None:
        self.database.write_now(withdraw, self.leads[who], self.now)
        self._deaf(self.leads[who], "*")

    @rule(who=st.integers(0, LEADS - 1))
    def is_erased(self, who: int) -> None:
        self.database.write_now(erase_lead, self.leads[who], self.now, SETTING)
        self._deaf(self.leads[who], "*")

    @rule(span=st.sampled_from([1, 5, 11, 26, 50, 100]))
    def time_passes(self, span: int) -> None:
        self.now += timedelta(hours=span)
        self._go_on()

    @rule(moods=st.lists(st.sampled_from(["later", "lost"]), min_size=1, max_size=2))
    def server_has_moods(self, moods: list[str]) -> None:
        self.server.moods = moods

    @rule(at=st.integers(0, 14), fault=st.sampled_from(list(Fault)))
    def something_will_fail(self, at: int, fault: Fault) -> None:
        self.fuse = Fuse(fault, at)

    @rule()
    def broadcast(self) -> None:
        def made(session: Session) -> int:
            row = Broadcast(cause=f"test:{next(self.numbers)}", broadcast="course", plan="{}", status="running", due_at=self.now)
            session.add(row)
            session.flush()
            return row.id or 0

        self.runs.append((self.database.write_now(made), False))
        self._go_on()

    # What must hold --------------------------------------------------------------------------------------------------

    @invariant()
    def nobody_hears_from_us_who_said_no(self) -> None:
        assert self.server.wrong == []

    @invariant()
    def no_step_is_taken_twice(self) -> None:
        most = 1 if self.policy == "hold" else 2
        twice = [one for one, times in Counter(message_id for message_id, _, _ in self.server.taken).items() if times > most]
        assert twice == []

    @invariant()
    def cap_holds(self) -> None:
        for lead, address in self.addresses.items():
            last_copies = {message_id: at for message_id, to, at in self.server.taken if to == address}
            times = sorted(last_copies.values())
            for first, last in zip(times, times[CAP.count :], strict=False):
                assert last - first >= CAP.span, (lead, times)

    @invariant()
    def every_no_has_its_row(self) -> None:
        rows, gates = self.database.read_now(_rows_and_gates)
        said = {(gate.delivery_id, gate.attempt, gate.answer, gate.reason) for gate in gates}
        for row in rows:
            known = {(row.id, row.attempt, answer, row.reason) for answer in ("refused", "postponed", "exited")}
            ours = row.reason in ("mail-server-unavailable", "gave-up", "ended", "erased", "exits-when", RETRIED)
            if row.status in ("refused", "postponed") and not ours:
                assert said & known, (row.id, row.status, row.reason, row.attempt)

    @invariant()
    def what_is_said_to_be_sent_came(self) -> None:
        came = {message_id for message_id, _, _ in self.server.taken}
        rows, _ = self.database.read_now(_rows_and_gates)
        for row in rows:
            if row.status == "sent":
                assert row.message_id in came, (row.id, row.step)
            if row.message_id in came:
                again = row.status in ("claimed", "postponed") and row.reason == RETRIED
                assert again or row.status in ("sent", "unknown", "data"), (row.id, row.status, row.reason)

    def all_ends(self) -> None:
        """Left alone, every journey comes to its end, and every mail to its answer."""
        self.fuse = Fuse()
        # The cap lets a lead have three mails in a week, so that many runs take many weeks: each mail that may be due has its days.
        for _ in range(120 + 5 * (len(self.runs) + 4 * len(self._entries()))):
            self._go_on()
            if not self._waiting():
                break
            self.now += timedelta(hours=13)  # by day and by night
        assert not (waiting := self._waiting()), waiting
        for check in (
            self.nobody_hears_from_us_who_said_no, self.no_step_is_taken_twice, self.cap_holds, self.every_no_has_its_row,
            self.what_is_said_to_be_sent_came,
        ):  # fmt: skip
            check()
        rows, _ = self.database.read_now(_rows_and_gates)
        gone = {row.entry for row in self._entries() if row.outcome == "exited"}
        assert [(row.id, row.status) for row in rows if row.status in ("claimed", "data") and row.entry not in gone] == []

    def _waiting(self) -> list[Any]:
        entries = [row.entry for row in self._entries() if row.status not in (JourneyStatus.ENDED, JourneyStatus.REFUSED)]
        return entries + [run for run, over in self.runs if not over]

    # How it goes on --------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """All that happens by itself: events are judged and routed, journeys and broadcasts do what is due."""
        self.server.now = self.now
        self.database.write_now(judge_all, self.now, Tuning())
        for _ in range(20):
            while self.database.write_now(route, now=self.now, zone=SETTING.zone):
                pass
            self._start()
            self._nudge()
            moved = [self._drive(one) for one in list(self.journeys.values())]
            if not any(moved):
                break
        for at, (run, over) in enumerate(self.runs):
            if not over:
                self.runs[at] = (run, self._bulk(run))

    def _process(self) -> tuple[Any, Any]:
        """A new process, if the last one died."""
        if self.fuse.dead:
            self.fuse = Fuse()
        return FusedDatabase(self.database, self.fuse), FusedTransport(self.server, self.fuse)

    def _run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """What a process answers; None if it died, or could not."""
        try:
            return self.loop.run_until_complete(lived(self.fuse, work))
        except (Temporary, Killed):
            return None
        except Exception as error:
            if getattr(error, "non_retryable", True):
                raise
            return None

    def _start(self) -> None:
        for row in self._entries():
            if row.status == JourneyStatus.STARTING and row.entry not in self.journeys:
                graph, mark = self.database.read_now(_start_of, row)
                self.journeys[row.entry or 0] = Told(row.entry or 0, Journey.begin(graph, row.lead_id, mark=mark))
                self.database.write_now(_started, row.entry)

    def _nudge(self) -> None:
        for nudge in self.database.write_now(_take_nudges, self.now):
            told = self.journeys.get(nudge.entry)
            if told is not None:
                told.journey.hear(nudge.trigger)

    def _drive(self, told: Told) -> bool:
        """One journey as far as it gets at this moment; whether it moved."""
        moved = False
        journey = told.journey
        outcome: Any = None
        while True:
            command = told.command or journey.next(outcome)
            outcome = None
            match command:
                case Stop() | Park():
                    del self.journeys[told.entry]
                    return moved
                case Rest():
                    if journey.disturbed:
                        continue
                    if command.until > self.now:
                        return moved
                    outcome = Woken()
                    moved = True
                    continue
            told.command = command
            answer = self._ask(told, command)
            moved = True
            if answer is None:
                told.tries += 1
                assert told.tries < 50, "it is never answered"
                continue
            told.command, told.tries, outcome = None, 0, answer

    def _ask(self, told: Told, command: Command) -> Any:
        database, transport = self._process()
        env, journeys = ActivityEnvironment(), JourneyActivities(database, SETTING)
        turn = told.journey.state.turn

        def request(step: str, plan: Any, **more: Any) -> StepInput:
            return StepInput(entry=told.entry, step=step, turn=turn, plan=plan, now=self.now, **more)

        match command:
            case Act():
                step = told.journey.graph.step(command.step)
                work: Any = LeadActivities(database, SETTING).tag_lead
                if step.do == "send":
                    work = MailActivities(database, transport, SETTING, self.settings).send_mail
                ask = request(command.step, command.plan, visit=command.visit, woke=command.woke)
            case Settle():
                work, ask = journeys.rest, request(command.rest.step, command.rest, woke=command.woke)
            case Choose():
                work, ask = journeys.choose, request(command.step, None, woke=command.woke)
            case Finish():
                work, ask = journeys.finish, request("end", Ending(command.outcome))
            case _:
                raise AssertionError(command)
        answer = self._run(lambda: env.run(work, ask))
        if isinstance(answer, Postponed) and answer.until <= self.now:
            return Postponed(self.now + timedelta(minutes=1), answer.why)
        return answer

    def _bulk(self, run: int) -> bool:
        """Whether all is said of the run."""
        for _ in range(20):
            database, transport = self._process()
            mailer = BulkMailer(database, transport, self.gate, self.settings, at_once=1)
            outcome = self._run(lambda: mailer.send(run, self.leads, NEWS, lambda: self.now))  # noqa: B023
            if outcome is not None:  # what a fault left unfinished, a run comes back to
                return not outcome.later and not self.database.read_now(unfinished, run)
        raise AssertionError("it is never answered")

    # What is known ---------------------------------------------------------------------------------------------------

    def _store(self, lead: int, name: str, **properties: Any) -> None:
        erased = self.database.read_now(lambda session: lock_lead(session, lead).erased_at is not None)  # type: ignore[union-attr]
        if not erased:
            self.database.write_now(store_event, lead, f"life-{next(self.numbers)}", name, properties, self.now)

    def _mail(self, which: int) -> Delivery | None:
        rows, _ = self.database.read_now(_rows_and_gates)
        return rows[which % len(rows)] if rows else None

    def _deaf(self, lead: int, topic: str) -> None:
        self.server.deaf.setdefault(self.addresses[lead], set()).add(topic)

    def _entries(self) -> list[JourneyRow]:
        return self.database.read_now(lambda session: list(session.exec(select(JourneyRow).order_by(col(JourneyRow.entry)))))


def _with_topics(session: Session, now: datetime) -> None:
    from mebae.mail.publishing import publish_mails

    text = "---\nsubject: {name}\ntopic: {topic}\n---\nHello, read [this](https://example.com/{name}).\n"
    texts = {(name, ""): text.format(name=name, topic=topic) for name, topic in TOPIC.items()}
    publish_mails(session, "course", texts, now)


def _rows_and_gates(session: Session) -> tuple[list[Delivery], list[GateRow]]:
    return list(session.exec(select(Delivery).order_by(col(Delivery.id)))), list(session.exec(select(GateRow)))


def _start_of(session: Session, row: JourneyRow) -> tuple[Graph, int]:
    from mebae.store.graphs import graph_of

    event = session.get(Event, row.entry_event_id) if row.entry_event_id is not None else None
    return graph_of(session, row.version), event.seq if event is not None else 0


def _started(session: Session, entry: int) -> None:
    starting = col(JourneyRow.entry) == entry, col(JourneyRow.status) == JourneyStatus.STARTING
    session.execute(update(JourneyRow).where(*starting).values(status=JourneyStatus.RUNNING))


def _take_nudges(session: Session, now: datetime) -> list[Nudge]:
    nudges = list(session.exec(select(Nudge).where(col(Nudge.sent_at).is_(None)).order_by(col(Nudge.id))))
    for nudge in nudges:
        nudge.sent_at = now
    session.flush()
    return nudges


async def lives_at_random(at: Home, *, lives: int, steps: int, tick: Tick = silent) -> Finding:
    """Many lives, each in a new SQLite database: the long version of tests/test_lives.py."""
    made = itertools.count(1)
    migrate(f"sqlite:///{at.folder / 'empty.db'}")

    class There(Lives):
        @staticmethod
        def opened() -> Database:
            number = next(made)
            tick(min(number / lives, 1.0))
            path = at.folder / f"life{number}.db"
            shutil.copy(at.folder / "empty.db", path)
            return Database(f"sqlite:///{path}")

    chance = settings(
        max_examples=lives, stateful_step_count=steps, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    wrong = ""
    try:
        await asyncio.to_thread(run_state_machine_as_test, There, settings=chance)
    except AssertionError as error:
        wrong = "\n".join([str(error), *getattr(error, "__notes__", [])])
    said = wrong or f"held in all of {next(made) - 1}"
    bar = "0 mails after unsubscribe or erasure; no step twice; caps hold; every no has its row; all ends"
    return Finding("R18", f"{lives} lives of {steps} steps at random, {at.kind}", bar, f"{said} ({load_now()})", not wrong)
