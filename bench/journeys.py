"""Journeys a second, beside the same journey written by hand: `python -m bench.journeys [COUNT]`.

Start → mail → wait → mail → end on a dev server with a file, with real mail to a local sink and the ledger in SQLite. Both
sides run in turns in one process with the same activities, and both go from "the entries are written" to "every workflow
has ended". Mebae's side includes its sender, search attributes, summaries, the graph in the input, and the rest and the
end that are written in the database.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr
from sqlmodel import Session, col, func, select
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import worker as worker_program
from bench.handwritten import Handwritten
from mebae import contracts
from mebae.authoring import Scenario, days, send, wait
from mebae.compiling import compile_scenario
from mebae.entering import request_entry
from mebae.graph import Graph
from mebae.mail.publishing import publish_layouts, publish_mails
from mebae.mail.transport import SmtpTransport
from mebae.sender import Sender
from mebae.settings import Settings
from mebae.store.consents import record
from mebae.store.database import Database
from mebae.store.migrate import migrate
from mebae.store.tables import Delivery, JourneyRow, Lead, PublishedScenario, ScenarioVersion
from mebae.temporal import dev_server_command

ROUNDS = 5
BY_HAND_QUEUE = "by-hand"
SPEED = 86_400.0 * 20
"""The day of the wait takes 50 ms."""
SCENARIO = Scenario("bench", steps=[send("hello"), wait(days(1)), send("again")])
MAIL = "---\nsubject: Hello {{ lead.name }}\n---\nHello {{ lead.name }},\n\nthis is a mail with [a link](https://example.com/).\n"
LAYOUT = "<html><head><style>p { color: #333; }</style></head><body>{{ body }}{{ footer }}</body></html>"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prepare(session: Session, graph: Graph, count: int, now: datetime) -> list[JourneyRow]:
    """Leads and entries of one round."""
    base = session.exec(select(func.count(col(Lead.id)))).one()
    rows = []
    for number in range(count):
        lead = Lead(email=f"lead{base + number}@bench.example", name="Lead", created_at=now, updated_at=now)
        session.add(lead)
        session.flush()
        assert lead.id is not None
        record(session, lead.id, now, "form", "bench", "", f"bench:{lead.id}")
        rows.append(
            request_entry(
                session, graph=graph, lead=lead, command=f"bench-{lead.id}", properties={}, now=now, zone="Asia/Tokyo"
            )
        )
    return rows


def publish(session: Session, graph: Graph, now: datetime) -> None:
    publish_mails(session, graph.scenario, {("hello", ""): MAIL, ("again", ""): MAIL}, now)
    publish_layouts(session, {"default": LAYOUT}, now)
    session.add(ScenarioVersion(version=graph.version, scenario=graph.scenario, graph=graph.dump(), published_at=now))
    session.flush()
    session.add(PublishedScenario(scenario=graph.scenario, version=graph.version))


async def mebae_round(client: Client, database: Database, sender: Sender, rows: list[JourneyRow]) -> float:
    began = time.perf_counter()
    while await sender.deliver():
        pass
    await asyncio.gather(
        *(client.get_workflow_handle(contracts.workflow_id("bench", row.lead_id, "")).result() for row in rows)
    )
    return time.perf_counter() - began


async def by_hand_round(client: Client, graph: Graph, settings: Settings, rows: list[JourneyRow]) -> float:
    calls = asyncio.Semaphore(16)

    async def one(row: JourneyRow) -> None:
        async with calls:
            handle = await client.start_workflow(
                "Handwritten",
                contracts.JourneyInput(
                    entry=row.entry or 0, lead=row.lead_id, graph={}, stage="awareness", clock=settings.clock()
                ),
                id=f"handwritten/{row.entry}",
                task_queue=BY_HAND_QUEUE,
            )
        await handle.result()

    began = time.perf_counter()
    await asyncio.gather(*(one(row) for row in rows))
    return time.perf_counter() - began


async def measure(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        port, sink_port = free_port(), free_port()
        server = subprocess.Popen(
            dev_server_command(port=port, ui_port=free_port(), file=Path(folder) / "temporal.db"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        sink = subprocess.Popen([sys.executable, "-m", "bench.sink", str(sink_port)], stdout=subprocess.DEVNULL)
        try:
            await run(count, f"127.0.0.1:{port}", sink_port, f"sqlite:///{folder}/mebae.db")
        finally:
            for process in (sink, server):
                process.terminate()
                process.wait(10)


async def run(count: int, temporal: str, sink_port: int, url: str) -> None:
    client = await connected(temporal)
    settings = Settings(
        smtp_port=sink_port, clock_origin=datetime.now(UTC), clock_speed=SPEED, sender_postal="東京都千代田区1-1",
        sender_contact="desk@bench.example", public_url="http://127.0.0.1:8300",
        token_keys=SecretStr("20260101:a-secret-of-the-bench"),
    )  # fmt: skip
    migrate(url)
    database = Database(url)
    transport = SmtpTransport("127.0.0.1", sink_port, connections=8)
    graph = compile_scenario(SCENARIO, file="bench", mails=None)

    def now() -> datetime:
        return settings.clock().world(datetime.now(UTC))

    await database.write(publish, graph, now())
    sender = Sender(database, client, clock=settings.clock())
    workers = worker_program.workers(client, database, transport, settings)
    by_hand = Worker(
        client,
        task_queue=BY_HAND_QUEUE,
        workflows=[Handwritten],
        workflow_runner=UnsandboxedWorkflowRunner(),  # as ours
    )
    async with workers[0], workers[1], by_hand:
        ours, theirs = [], []
        for round in range(ROUNDS + 1):
            rows = await database.write(prepare, graph, count, now())
            mine = count / await mebae_round(client, database, sender, rows)
            rows = await database.write(prepare, graph, count, now())
            await database.write(mark_running, rows)
            his = count / await by_hand_round(client, graph, settings, rows)
            if round:  # the first warms up
                ours.append(mine)
                theirs.append(his)
                print(f"round {round}: Mebae {mine:6.1f}/s   by hand {his:6.1f}/s   ratio {mine / his:.2f}", flush=True)
        sent = await database.read(lambda s: s.exec(select(func.count()).where(Delivery.status == "sent")).one())
        assert sent == 4 * count * (ROUNDS + 1), f"{sent} mails were sent"
    ratios = [mine / his for mine, his in zip(ours, theirs, strict=True)]
    print(
        f"\nMebae {statistics.median(ours):.1f} journeys/s, by hand {statistics.median(theirs):.1f}/s: "
        f"ratio {statistics.median(ratios):.2f} (median of {ROUNDS} rounds of {count}; reach: 0.90)"
    )
    await transport.aclose()
    database.close()


def mark_running(session: Session, rows: list[JourneyRow]) -> None:
    """The baseline starts its workflows itself: the sender must leave these entries alone."""
    for row in rows:
        found = session.get(JourneyRow, row.entry)
        assert found is not None
        found.status = "running"


async def connected(address: str) -> Client:
    for _ in range(100):
        try:
            return await Client.connect(address, data_converter=pydantic_data_converter)
        except RuntimeError:
            await asyncio.sleep(0.1)
    raise SystemExit("the Temporal dev server did not start")


async def main() -> None:
    await measure(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
    await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(main())
