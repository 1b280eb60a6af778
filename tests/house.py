"""A whole Mebae in one test: a real Temporal server, the real database, a real SMTP server, worker, router and sender.

    async with house(database) as mebae:
        await mebae.publish(scenario)
        lead = await mebae.lead("sato@aoba.example")
        await mebae.event(lead, "Content Downloaded", content="whitepaper-1")
        await mebae.ended(lead)

Only time may be unreal: the world clock can be given a speed.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession
from sqlmodel import Session, col, select
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

import worker as worker_program
from mebae import contracts
from mebae.authoring import Scenario
from mebae.clock import WorldClock
from mebae.compiling import compile_scenario
from mebae.entering import request_entry
from mebae.graph import Graph
from mebae.handover_sender import HandoverSender
from mebae.mail.publishing import publish_layouts, publish_mails
from mebae.mail.transport import SmtpTransport
from mebae.mailing import MailRules
from mebae.router import Router
from mebae.sender import Sender
from mebae.settings import Settings
from mebae.store.consents import record
from mebae.store.database import Database, lock_lead
from mebae.store.ingest import EventLog
from mebae.store.tables import Delivery, Event, JourneyRow, Lead, Nudge, PublishedScenario, ScenarioVersion
from tests.dev_server import free_ports

TEMPORAL = Path(sysconfig.get_path("scripts")) / "temporal"
TEST_SERVER = TEMPORAL.with_name("temporal-test-server")
FLAGS = [
    word
    for value in (
        "system.forceSearchAttributesCacheRefreshOnRead=false",
        'history.timerProcessorMaxTimeShift="10ms"',
        "history.timerProcessorMaxPollRPS=1000",
        "frontend.WorkflowTimeSkippingEnabled=true",
        "matching.enableFairness=true",
    )
    for word in ("--dynamic-config-value", value)
]
ATTRIBUTES = [
    word for name, kind in contracts.SEARCH_ATTRIBUTES.items() for word in ("--search-attribute", f"{name}={kind}")
]
MAIL = "---\nsubject: {name}\n---\nHello {{{{ lead.name }}}}, this is {name}.\n"
LAYOUT = "<html><body>{{ body }}{{ footer }}</body></html>"


LAWFUL: dict[str, Any] = {
    "sender_postal": "〒100-0001 東京都千代田区千代田1-1",
    "sender_contact": "desk@mebae.example",
    "public_url": "http://127.0.0.1:8300",
    "token_keys": "20260101:a-secret-of-the-tests",
}
"""The settings without which no mail shows what the law wants."""


class DevServers:
    """The Temporal dev server of the houses of this process, with a namespace for each: nobody meets the journeys of another.

    A namespace made while it runs would take seconds to be known, so it starts with some, and when they are used up the next
    server takes over. (Not hundreds: for each the server runs a worker of its own, which the schedules need.)
    """

    NAMESPACES = 20

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._address = ""
        self._unused: list[str] = []

    async def client(self) -> Client:
        """A client in a namespace that nobody has used."""
        if not self._unused:
            await self._start()
        return await self._connect(self._unused.pop())

    async def _start(self) -> None:
        # With the process in their names: whoever took our port meanwhile is not taken for ours.
        names = [f"house-{os.getpid()}-{number}" for number in range(self.NAMESPACES)]
        for _ in range(5):
            process = self._launch(names)
            async with asyncio.timeout(30):
                while process.poll() is None:
                    if await self._answers(names[-1]):
                        self._unused = names
                        return
                    await asyncio.sleep(0.05)
        raise RuntimeError("Temporal's dev server did not start")

    def _launch(self, names: list[str]) -> subprocess.Popen[bytes]:
        [port] = free_ports(1)
        self._address = f"127.0.0.1:{port}"
        command = [str(TEMPORAL), "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port)]
        command += ["--log-level", "never", *ATTRIBUTES, *FLAGS]
        command += [word for name in names for word in ("--namespace", name)]
        self._processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return self._processes[-1]

    async def _answers(self, namespace: str) -> bool:
        try:
            await (await self._connect(namespace)).count_workflows()
        except (RPCError, RuntimeError):  # the SDK's word for "nobody there" is RuntimeError
            return False
        return True

    async def _connect(self, namespace: str) -> Client:
        return await Client.connect(self._address, namespace=namespace, data_converter=pydantic_data_converter)

    def stop(self) -> None:
        """Nothing of them is kept, so they need not end in order."""
        for process in self._processes:
            process.kill()
            process.wait(20)
        self._processes.clear()


DEV_SERVERS = DevServers()
atexit.register(DEV_SERVERS.stop)


class Relay:
    """A real SMTP server that keeps what it takes, and can be told what to answer."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.senders: dict[str, str] = {}
        """Of the envelopes, by whom the mails are to: where a server that cannot deliver reports it."""
        self.at_rcpt: Callable[[str], str | None] = lambda _to: None
        self.at_data: Callable[[EmailMessage], str | None] = lambda _mail: None

    async def handle_RCPT(
        self, server: SMTP, session: SmtpSession, envelope: Envelope, to: str, options: list[str]
    ) -> str:
        answer = self.at_rcpt(to)
        if answer is None:
            envelope.rcpt_tos.append(to)
        return answer or "250 OK"

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        answer = self.at_data(mail)
        if answer is None:
            self.mails.append(mail)
            self.senders |= dict.fromkeys(map(str, envelope.rcpt_tos), str(envelope.mail_from))
        return answer or "250 OK"

    async def start(self, port: int = 0) -> int:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: SMTP(self, hostname="relay.example"), "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        await asyncio.sleep(0)

    def subjects(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.mails]


class House:
    """What tests hold in their hands."""

    def __init__(self, database: Database, client: Client, relay: Relay, settings: Settings) -> None:
        self.database, self.client, self.relay, self.settings = database, client, relay, settings
        self.clock = settings.clock()
        self.machine: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.sender = Sender(database, client, clock=self.clock)
        self.router = Router(database, now=self.now, zone=settings.time_zone, on_routed=self.sender.wake)
        self._ids = itertools.count(1)

    def now(self) -> datetime:
        return self.clock.world(self.machine())

    async def publish(self, scenario: Scenario | Graph, mails: Sequence[str] = (), **bodies: str) -> Graph:
        """Publishes a scenario; mails that it names are made up where they are not given. `bodies`: those of mails by name."""

        def write(session: Session) -> Graph:
            graph = scenario if isinstance(scenario, Graph) else compile_scenario(scenario, file="test.py", mails=None)
            names = {step.mail for step in graph.steps if step.do == "send" and isinstance(step.mail, str)} | set(mails)
            texts = {(name, ""): MAIL.format(name=name) for name in names}
            texts |= {(name, ""): f"---\nsubject: {name}\n---\n{body}\n" for name, body in bodies.items()}
            publish_mails(session, graph.scenario, texts, self.now())
            publish_layouts(session, {"default": LAYOUT}, self.now())
            session.merge(
                ScenarioVersion(
                    version=graph.version, scenario=graph.scenario, graph=graph.dump(), published_at=self.now()
                )
            )
            session.flush()
            session.merge(PublishedScenario(scenario=graph.scenario, version=graph.version))
            return graph

        return await self.database.write(write)

    async def lead(self, email: str, *, agreed: bool = True, **columns: Any) -> int:
        """A lead; unless said otherwise one that agreed to get mail."""
        now = self.now()

        def write(session: Session) -> int:
            lead = Lead(email=email, created_at=now, updated_at=now, **({"name": "佐藤 健二"} | columns))
            session.add(lead)
            session.flush()
            assert lead.id is not None
            if agreed:
                record(session, lead.id, now, "form", "test", "メールを受け取ります", f"test:{lead.id}")
            return lead.id

        return await self.database.write(write)

    async def event(self, lead: int, name: str, **properties: Any) -> int:
        """Stores an event, as ingestion does."""
        return await self.database.write(
            store_event, lead, f"test-{id(self)}-{next(self._ids)}", name, properties, self.now()
        )

    async def start(self, graph: Graph, lead: int, **properties: Any) -> JourneyRow:
        """Enters by command, without the router."""

        def write(session: Session) -> JourneyRow:
            row = lock_lead(session, lead)
            assert row is not None
            return request_entry(
                session, graph=graph, lead=row, command=f"test-{next(self._ids)}", properties=properties,
                now=self.now(), zone="Asia/Tokyo",
            )  # fmt: skip

        return await self.database.write(write)

    async def rows(self, lead: int | None = None) -> list[JourneyRow]:
        def read(session: Session) -> list[JourneyRow]:
            query = select(JourneyRow).order_by(col(JourneyRow.entry))
            return list(session.exec(query if lead is None else query.where(JourneyRow.lead_id == lead)))

        return await self.database.read(read)

    async def deliveries(self) -> list[Delivery]:
        return await self.database.read(lambda session: list(session.exec(select(Delivery).order_by(col(Delivery.id)))))

    async def until(
        self, what: Callable[[list[JourneyRow]], bool], lead: int | None = None, seconds: float = 30
    ) -> list[JourneyRow]:
        """Waits until the journeys' rows are as wanted."""
        try:
            async with asyncio.timeout(seconds):
                while not what(rows := await self.rows(lead)):
                    await asyncio.sleep(0.03)
        except TimeoutError:
            seen = [(row.entry, row.status, row.step, row.outcome, row.reason) for row in await self.rows(lead)]
            raise AssertionError(f"still: {seen}") from None
        return rows

    async def resting_at(self, step: str, lead: int | None = None) -> list[JourneyRow]:
        return await self.until(
            lambda rows: bool(rows) and all(r.status == "resting" and r.step == step for r in rows), lead
        )

    async def quiet(self, row: JourneyRow) -> None:
        """Waits until the workflow, too, rests: it learns of its rest a moment after the row says so."""
        async with asyncio.timeout(20):
            while (await self.handle(row).query(contracts.WHERE))["phase"] not in ("resting", "postponed"):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)

    async def routed(self) -> None:
        """Waits until every event has been routed and every nudge given."""

        def waiting(session: Session) -> object:
            unrouted = session.exec(select(Event).where(col(Event.routed_at).is_(None))).first()
            return unrouted or session.exec(select(Nudge).where(col(Nudge.sent_at).is_(None))).first()

        async with asyncio.timeout(20):
            while await self.database.read(waiting):
                await asyncio.sleep(0.05)

    async def ended(self, lead: int | None = None, seconds: float = 30) -> list[JourneyRow]:
        return await self.until(lambda rows: bool(rows) and all(row.status == "ended" for row in rows), lead, seconds)

    def handle(self, row: JourneyRow) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(contracts.workflow_id(row.scenario, row.lead_id, row.key))


def store_event(
    session: Session, lead_id: int, message_id: str, name: str, properties: dict[str, Any], now: datetime
) -> int:
    """What ingestion does: lock, give the next place, score, insert."""
    lead = lock_lead(session, lead_id)
    assert lead is not None
    log = EventLog(now)
    log.add(lead, message_id, name, properties)
    log.write(session)
    stored = session.exec(select(Event.id).where(Event.message_id == message_id)).one()
    assert stored is not None
    return stored


@asynccontextmanager
async def house(
    database: Database,
    *,
    speed: float = 1.0,
    programs: bool = True,
    env: WorkflowEnvironment | None = None,
    rules: MailRules | None = None,
    **settings: Any,
) -> AsyncIterator[House]:
    """Everything running. `programs=False` leaves router and sender to the test. `env`: a server of the test's own."""
    client = env.client if env else await DEV_SERVERS.client()
    relay = Relay()
    port = await relay.start()
    clock: dict[str, Any] = {"clock_origin": datetime.now(UTC), "clock_speed": speed} if speed != 1 else {}
    configured = Settings(**{**LAWFUL, "smtp_port": port, "smtp_timeout": 2.0, **clock, **settings})
    transport = SmtpTransport("127.0.0.1", port, connections=4, timeout=2.0)
    tasks: list[asyncio.Task[Any]] = []
    try:
        mebae = House(database, client, relay, configured)
        workers = worker_program.workers(client, database, transport, configured, rules)
        tasks = [asyncio.create_task(one.run()) for one in workers]
        if programs:
            running = (mebae.router, mebae.sender, HandoverSender(database, client, clock=mebae.clock))
            tasks += [asyncio.create_task(program.run()) for program in running]
        yield mebae
    finally:
        for task in tasks:
            task.cancel()
        try:
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
        finally:  # what one house left behind would be the next test's warning
            await transport.aclose()
            await relay.stop()


async def start_test_server() -> WorkflowEnvironment:
    """Temporal's time-skipping test server, with our search attributes."""
    env = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(TEST_SERVER), data_converter=pydantic_data_converter
    )
    kinds = {
        name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind.upper()}")
        for name, kind in contracts.SEARCH_ATTRIBUTES.items()
    }
    await env.client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=env.client.namespace, search_attributes=kinds)
    )
    return env


FAST = 86_400.0
"""A day in a second."""
WORLD = WorldClock
DAY = timedelta(days=1)
